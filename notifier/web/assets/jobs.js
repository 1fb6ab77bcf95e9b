import { hasEnded } from "../hark.js";
import { byId, el, reconcile, setNotice, setText, whileBusy } from "./dom.js";
import { ago, ahead, bytes, duration, fullTime, number, percent, plural } from "./format.js";
import { icon } from "./icons.js";

const marks = { queued: "clock", running: "turning", retrying: "again", succeeded: "check", failed: "alert", cancelled: "stop" };
const words = { queued: "Queued", running: "Running", retrying: "Retrying", succeeded: "Finished", failed: "Failed", cancelled: "Cancelled" };

/** The list of jobs. render(hark) shows the current state. */
export function jobList() {
  const list = byId("job-list"), empty = byId("jobs-empty"), more = byId("jobs-more"), error = byId("jobs-error");
  let hark, failure = ""; // of the last action

  empty.append(icon("table", 40), el("strong", {}, "Nothing here yet"),
    el("p", {}, "Choose a dataset and press Export. The file is here when it is ready, and you get a notification."));
  more.addEventListener("click", () => whileBusy(more, async () => {
    const last = list.lastElementChild;
    if (!(await attempt(() => hark.more("jobs")))) return;
    render(hark);
    // Move the focus to the first new job.
    if (document.activeElement === more || more.hidden) last?.nextElementSibling?.focus({ preventScroll: true });
  }));

  async function attempt(action) {
    failure = "";
    try {
      await action();
    } catch (err) {
      failure = err.message;
    }
    setNotice(error, failure);
    return !failure;
  }

  function render(connection) {
    hark = connection;
    const jobs = hark.jobs;
    setNotice(error, failure || hark.failed.jobs?.message);
    reconcile(list, jobs, (job) => job.id, make, update);
    empty.hidden = !hark.loaded.jobs || jobs.length > 0;
    byId("jobs-loading").hidden = hark.loaded.jobs || jobs.length > 0;
    more.hidden = !hark.hasMore("jobs");
    const open = jobs.filter((job) => !hasEnded(job)).length;
    setText(byId("jobs-count"), open ? `${number(open)} in progress` : "");
  }

  function make({ id }) {
    const part = (tag, name, attributes = {}) => el(tag, { class: `job-${name}`, ...attributes });
    const act = (name, method) => async (event) => {
      const row = event.currentTarget.closest(".job");
      await whileBusy(event.currentTarget, () => attempt(() => hark[method](id)));
      render(hark);
      keepFocus(row);
    };
    const remove = act("delete", "deleteFile");
    const deleteFile = (event) => {
      const { name } = hark.known(id)?.file ?? {};
      if (name !== undefined && confirm(`Delete ${name}? It cannot be downloaded any more.`)) remove(event);
    };
    const fill = el("div", { class: "bar-fill" });
    const bar = el("div", { class: "bar", role: "progressbar", "data-testid": "progress", "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
    const parts = {
      mark: part("div", "mark", { "aria-hidden": "true" }), title: part("h2", "title"), meta: part("p", "meta"),
      progress: part("div", "progress"), bar, fill, done: el("span", { "data-testid": "rows" }), left: el("span"),
      error: part("p", "error", { "data-testid": "job-error" }),
      cancel: el("button", { type: "button", class: "button button-quiet job-cancel", "data-testid": "cancel", onclick: act("cancel", "cancel") }),
      retry: el("button", { type: "button", class: "button", "data-testid": "retry", onclick: act("retry", "retry") }, icon("again", 16), "Retry"),
      download: el("a", { class: "button button-tint", "data-testid": "download", download: "" }, icon("download", 16), "Download"),
      remove: el("button", { type: "button", class: "button button-quiet", title: "Delete the file", "data-testid": "delete-file", onclick: deleteFile }, icon("bin", 16)),
    };
    parts.progress.append(bar, el("div", { class: "job-figures" }, parts.done, parts.left));
    const node = el("li", { class: "job", id: `job-${id}`, "data-job-id": id, tabindex: "-1" }, parts.mark,
      el("div", { class: "job-main" }, parts.title, parts.meta, parts.progress, parts.error),
      el("div", { class: "job-actions" }, parts.cancel, parts.retry, parts.download, parts.remove));
    node.parts = parts;
    return node;
  }

  function update(node, job) {
    const { parts } = node;
    const cancelling = job.cancel_requested && !hasEnded(job);
    if (node.dataset.state !== job.state) {
      node.dataset.state = job.state;
      parts.mark.replaceChildren(icon(marks[job.state] ?? "clock", 20));
    }
    setText(parts.title, job.title || job.kind);
    showMeta(parts.meta, job, cancelling);
    showProgress(parts, job, hark.kind(job.kind));

    const failed = job.state === "failed" || job.state === "retrying";
    setNotice(parts.error, failed && job.error?.message);

    const url = job.file && !expired(job.file) ? hark.fileURL(job) : undefined;
    parts.download.hidden = parts.remove.hidden = !url;
    if (url) {
      parts.download.href = url;
      parts.download.setAttribute("aria-label", `Download ${job.file.name}, ${bytes(job.file.size)}`);
      parts.remove.setAttribute("aria-label", `Delete ${job.file.name}`);
    }
    parts.retry.hidden = job.state !== "failed" && job.state !== "cancelled";
    parts.retry.setAttribute("aria-label", `Retry ${job.title}`);
    parts.cancel.hidden = hasEnded(job);
    setText(parts.cancel, cancelling ? "Cancelling…" : "Cancel");
    if (cancelling) parts.cancel.setAttribute("aria-disabled", "true");
    parts.cancel.setAttribute("aria-label", cancelling ? `Cancelling ${job.title}` : `Cancel ${job.title}`);
    if (hasEnded(job)) parts.cancel.removeAttribute("aria-disabled");
  }

  /** Scrolls to a job and highlights it. */
  function point(id) {
    const node = byId(`job-${id}`);
    if (!node) return false;
    node.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    node.focus({ preventScroll: true });
    node.classList.remove("job-pointed");
    void node.offsetWidth; // restarts the animation
    node.classList.add("job-pointed");
    return true;
  }

  return { render, point, clear() { failure = ""; list.replaceChildren(); } };
}

export const expired = (file) => Boolean(file.expires_at) && Date.parse(file.expires_at) <= Date.now();

function showMeta(meta, job, cancelling) {
  const state = el("span", { class: "job-state", "data-testid": "state" }, cancelling ? "Cancelling" : words[job.state] ?? job.state);
  const texts = [];
  const time = { succeeded: job.finished_at, failed: job.finished_at, cancelled: job.finished_at, running: job.started_at }[job.state] ?? job.created_at;
  if (job.state === "retrying" && job.retry_at) texts.push(ahead(job.retry_at));
  else if (job.state !== "running") texts.push(ago(time));
  if (job.state === "running" || job.state === "retrying" || job.state === "failed") {
    if (job.attempt > 1 || job.state === "retrying") texts.push(`attempt ${job.attempt} of ${job.max_attempts}`);
  }
  if (job.state === "running" && !cancelling && job.progress?.message) texts.push(job.progress.message);
  if (job.state === "succeeded") {
    if (Number.isFinite(job.result?.rows)) texts.push(plural(job.result.rows, "row"));
    if (job.file) texts.push(bytes(job.file.size));
    if (job.file?.expires_at) texts.push(expired(job.file) ? "file gone" : `kept until ${ahead(job.file.expires_at)}`.replace("until in", "for"));
  }
  const key = [state.textContent, ...texts].join("|");
  if (meta.dataset.key === key) return;
  meta.dataset.key = key;
  const took = job.started_at && job.finished_at ? `, took ${duration((Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000)}` : "";
  meta.title = fullTime(time) + took;
  meta.replaceChildren(state, ...texts.map((text) => el("span", {}, text)));
}

function showProgress({ progress, bar, fill, done, left }, job, known) {
  progress.hidden = job.state !== "running";
  if (progress.hidden) return;
  const { done: n = 0, total = 0, message } = job.progress ?? {};
  const unit = known?.unit ? ` ${known.unit}` : "";
  const share = total > 0 ? Math.min(1, n / total) : undefined;
  const figures = total > 0 ? `${number(n)} of ${number(total)}${unit}` : n > 0 ? `${number(n)}${unit}` : message || "Starting";
  bar.setAttribute("aria-label", job.title || job.kind);
  bar.setAttribute("aria-valuetext", figures);
  if (share === undefined) {
    bar.removeAttribute("aria-valuenow");
    fill.style.transform = "";
  } else {
    bar.setAttribute("aria-valuenow", String(Math.floor(share * 100)));
    fill.style.transform = `translateX(${(share - 1) * 100}%)`;
  }
  setText(done, figures);
  const elapsed = (Date.now() - Date.parse(job.started_at)) / 1000;
  const remaining = share > 0.02 && elapsed > 2 ? (elapsed / share) * (1 - share) : undefined;
  setText(left, [share === undefined ? "" : percent(share), remaining > 1 ? `about ${duration(remaining)} left` : ""].filter(Boolean).join(" · "));
}

/** If the pressed button is hidden now, moves the focus to the first visible button. */
function keepFocus(row) {
  if (document.activeElement && document.activeElement !== document.body && !document.activeElement.closest("[hidden]")) return;
  (row.querySelector(".job-actions > :not([hidden])") ?? row).focus({ preventScroll: true });
}
