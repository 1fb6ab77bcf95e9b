import { byId, el } from "./dom.js";
import { icon } from "./icons.js";
import { body, mark, showLinks, tone } from "./notes.js";

const shownMs = 8000;
const failedMs = 20_000; // bad news is read more slowly
const most = 4;

/**
 * Toasts for notifications as they arrive. They leave by themselves, but not while somebody points at
 * them, has the keyboard in them, or is looking at another tab.
 */
export function toasts({ onJob }) {
  const place = byId("toasts");

  function show(note, hark) {
    const close = el("button", { type: "button", class: "tool tool-small", "data-testid": "toast-close", "aria-label": "Dismiss" }, icon("cross", 16));
    const foot = el("div", { class: "note-foot" });
    const toast = el("div", { class: "toast", "data-testid": "toast", "data-id": note.id, "data-tone": tone(note) }, mark(note),
      el("div", {},
        el("p", { class: "note-title" }, note.title),
        ...body(note),
        foot),
      close);

    let timer, gone = false;
    const wait = () => {
      clearTimeout(timer);
      if (!gone) timer = setTimeout(() => (busy() ? wait() : leave()), note.type === "job.failed" ? failedMs : shownMs);
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
    // The job may become known, and its file with it, only after the word that it is done.
    toast.refresh = () => showLinks(foot, note, hark, { onFollow: () => { hark.markRead(note.id).catch(() => {}); leave(); }, onJob });
    toast.refresh();
    if (note.job_id && !hark.known(note.job_id)?.finished_at) hark.job(note.job_id).catch(() => {});
    toast.addEventListener("pointerleave", wait);
    close.addEventListener("click", leave);
    place.append(toast);
    while (place.children.length > most) place.firstElementChild.remove();
    wait();
  }

  /** Takes away what was read or deleted meanwhile, here or in another tab. */
  function render(hark) {
    const unread = new Set(hark.unreadNotifications.map((note) => note.id));
    for (const toast of place.children) unread.has(toast.dataset.id) ? toast.refresh() : toast.leave();
  }

  return { show, render, clear: () => place.replaceChildren() };
}
