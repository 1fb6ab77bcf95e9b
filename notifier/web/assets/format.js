/** Numbers, sizes and times as people read them. The page speaks English; numbers and dates follow the browser. */

const numbers = new Intl.NumberFormat();
const percents = new Intl.NumberFormat(undefined, { style: "percent" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dayAndYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export const number = (n) => numbers.format(n);
export const percent = (share) => percents.format(Math.floor(share * 100) / 100);
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;
export const timeOfDay = (time) => clock.format(new Date(time));
export const fullTime = (time) => full.format(new Date(time));

/** 12345678 becomes "12.3 MB". */
export function bytes(n) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const power = Math.min(units.length - 1, n > 0 ? Math.floor(Math.log10(n) / 3) : 0);
  const value = n / 1000 ** power;
  return new Intl.NumberFormat(undefined, {
    style: "unit", unit: units[power], unitDisplay: "short", maximumFractionDigits: power > 0 && value < 100 ? 1 : 0,
  }).format(value);
}

/** A past time: "now", "3 minutes ago", "yesterday", then a date. */
export function ago(time, now = Date.now()) {
  const then = new Date(time);
  const seconds = Math.round((now - then) / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return relative.format(-seconds, "second");
  if (seconds < 3600) return relative.format(-Math.floor(seconds / 60), "minute");
  if (seconds < 6 * 3600) return relative.format(-Math.floor(seconds / 3600), "hour");
  const days = Math.round((startOfDay(now) - startOfDay(then)) / 86_400_000);
  if (days === 0) return `today, ${clock.format(then)}`;
  if (days === 1) return `yesterday, ${clock.format(then)}`;
  return date(then, now);
}

/** A future time: "in 8 s", "today, 14:05", "3 Jun". */
export function ahead(time, now = Date.now()) {
  const then = new Date(time);
  const seconds = Math.ceil((then - now) / 1000);
  if (seconds <= 0) return "now";
  if (seconds < 3600) return `in ${duration(seconds)}`;
  if (startOfDay(then) === startOfDay(now)) return `today, ${clock.format(then)}`;
  return date(then, now);
}

/** Seconds as "8 s", "2 min 5 s", "1 h 10 min". */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 600 && s % 60) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  const minutes = Math.round(s / 60);
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

function date(then, now) {
  return (then.getFullYear() === new Date(now).getFullYear() ? day : dayAndYear).format(then);
}
const startOfDay = (time) => new Date(time).setHours(0, 0, 0, 0);
