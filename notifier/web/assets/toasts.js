import { byId, el } from "./dom.js";
import { number } from "./format.js";
import { icon } from "./icons.js";
import { body, mark, showLinks, tone } from "./notes.js";

/** How long a toast stays, in ms. A failure takes longer to read. */
export const toastTimes = { shown: 8000, failed: 20_000 };
const most = 4;
const atOnce = 3; // more notifications share one toast

/**
 * Toasts for new notifications. Many at a time, as after an absence, share one toast. A toast disappears after a while, but not
 * while the user points at it, has the focus in it, or looks at another tab.
 */
export function toasts({ onJob, onAll }) {
  const place = byId("toasts");

  function show(notes, hark) {
    if (notes.length > atOnce) showAll(notes);
    else notes.forEach((note) => showOne(note, hark));
  }
  function showOne(note, hark) {
    const close = el("button", { type: "button", class: "tool tool-small", "data-testid": "toast-close", "aria-label": "Dismiss" }, icon("cross", 16));
    const foot = el("div", { class: "note-foot" });
    const toast = el("div", { class: "toast", "data-testid": "toast", "data-id": note.id, "data-tone": tone(note) }, mark(note),
      el("div", {},
        el("p", { class: "note-title" }, note.title),
        ...body(note),
        foot),
      close);

    const leave = stay(toast, note.type === "job.failed" ? toastTimes.failed : toastTimes.shown);
    // The job and its file may become known after the notification.
    toast.refresh = () => showLinks(foot, note, hark, { onFollow: () => { hark.markRead(note.id).catch(() => {}); leave(); }, onJob });
    toast.isOver = (unread) => !unread.has(note.id);
    toast.refresh();
    if (note.job_id && !hark.known(note.job_id)?.finished_at) hark.job(note.job_id).catch(() => {});
    close.addEventListener("click", leave);
    place.append(toast);
    while (place.children.length > most) place.firstElementChild.remove();
  }
  function showAll(notes) {
    const close = el("button", { type: "button", class: "tool tool-small", "data-testid": "toast-close", "aria-label": "Dismiss" }, icon("cross", 16));
    const all = el("button", { type: "button", class: "link", "data-testid": "toast-all" }, "Show all");
    const toast = el("div", { class: "toast", "data-testid": "toast", "data-count": String(notes.length), "data-tone": "plain" }, mark(notes[0]),
      el("div", {}, el("p", { class: "note-title" }, `${number(notes.length)} new notifications`), el("div", { class: "note-foot" }, all)), close);
    const leave = stay(toast, toastTimes.shown);
    toast.refresh = () => {};
    toast.isOver = (unread) => !notes.some((note) => unread.has(note.id));
    close.addEventListener("click", leave);
    all.addEventListener("click", () => { leave(); onAll(); });
    place.replaceChildren(toast);
  }

  /** Removes a toast after some ms. Returns a function that removes it now. */
  function stay(toast, ms) {
    let timer, gone = false;
    const wait = () => {
      clearTimeout(timer);
      if (!gone) timer = setTimeout(() => (busy() ? wait() : leave()), ms);
    };
    const busy = () => document.hidden || toast.matches(":hover, :focus-within");
    const leave = () => {
      if (gone) return;
      gone = true;
      clearTimeout(timer);
      toast.classList.add("toast-leaving");
      setTimeout(() => toast.remove(), 180);
    };
    toast.leave = leave;
    toast.addEventListener("pointerleave", wait);
    wait();
    return leave;
  }

  /** Removes toasts whose notifications were read or deleted, in any tab. */
  function render(hark) {
    const unread = new Set(hark.unreadNotifications.map((note) => note.id));
    for (const toast of place.children) toast.isOver(unread) ? toast.leave() : toast.refresh();
  }

  return { show, render, clear: () => place.replaceChildren() };
}
