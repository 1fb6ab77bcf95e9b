import { byId, el, reconcile, setNotice, setText, whileBusy } from "./dom.js";
import { ago, fullTime, number } from "./format.js";
import { icon } from "./icons.js";
import { body, mark, showLinks, tone } from "./notes.js";
import { countLimit } from "./state.js";

/** The bell and its panel of notifications. render(hark) shows the current state. */
export function panel({ onJob }) {
  const bell = byId("bell"), badge = byId("badge"), view = byId("panel"), list = byId("notes");
  const more = byId("notes-more"), error = byId("panel-error"), empty = byId("notes-empty"), readAll = byId("read-all");
  const asked = new Set(); // jobs that were fetched because of a notification
  let hark, failure = ""; // of the last action

  bell.prepend(icon("bell", 22));
  byId("panel-close").append(icon("cross", 18));
  bell.addEventListener("click", () => (view.hidden ? open() : close()));
  byId("panel-close").addEventListener("click", close);
  byId("panel-filter").addEventListener("change", () => {
    render(hark);
    list.scrollTop = 0;
    // All unread notifications may be further down than the listed ones.
    if (filter() === "unread" && hark.hasMore("unread") && !hark.unreadNotifications.length) attempt(() => hark.more("unread"));
  });
  readAll.addEventListener("click", () => hark.unread && whileBusy(readAll, () => attempt(() => hark.markAllRead())));
  more.addEventListener("click", () => whileBusy(more, () => attempt(() => hark.more(filter() === "unread" ? "unread" : "notifications"))));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !view.hidden) close();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!view.hidden && !event.composedPath().includes(byId("bell-place"))) close(false);
  });
  view.addEventListener("focusout", (event) => {
    // Tabbing past the end closes the panel. A click outside is handled above.
    if (event.relatedTarget && !byId("bell-place").contains(event.relatedTarget)) close(false);
  });

  const filter = () => view.querySelector("[name=panel-filter]:checked").value;

  function open() {
    view.hidden = false;
    bell.setAttribute("aria-expanded", "true");
    render(hark);
    view.focus();
  }
  function close(refocus = true) {
    if (view.hidden) return;
    view.hidden = true;
    bell.setAttribute("aria-expanded", "false");
    failure = "";
    if (refocus !== false) bell.focus();
  }
  async function attempt(action) {
    failure = "";
    try {
      await action();
    } catch (err) {
      failure = err.message;
    }
    setNotice(error, failure);
  }

  function render(connection) {
    if (hark !== connection) asked.clear();
    hark = connection;
    showUnread(hark.unread);
    if (view.hidden) return;
    setNotice(error, failure || hark.failed.notifications?.message);
    const unreadOnly = filter() === "unread";
    const notes = unreadOnly ? hark.unreadNotifications : hark.notifications;
    reconcile(list, notes, (note) => note.id, make, update);
    more.hidden = !hark.hasMore(unreadOnly ? "unread" : "notifications");
    readAll.hidden = !hark.unread;
    empty.hidden = notes.length > 0 || !more.hidden || !hark.loaded.notifications;
    const text = unreadOnly ? ["All read", "You have no unread notifications."] : ["No notifications yet", "When a job ends, you get a notification here, on every device."];
    if (!empty.hidden && empty.dataset.for !== text[0]) {
      empty.dataset.for = text[0];
      empty.replaceChildren(icon(unreadOnly ? "check" : "bell", 40), el("strong", {}, text[0]), el("p", {}, text[1]));
    }
  }

  function showUnread(unread) {
    badge.hidden = unread === 0;
    setText(badge, unread > 99 ? "99+" : String(unread));
    bell.setAttribute("aria-label", unread ? `Notifications, ${number(unread)}${unread < countLimit ? "" : " or more"} unread` : "Notifications");
  }

  function make(note) {
    const parts = {
      unread: el("span", { class: "hidden" }), links: el("div", { class: "note-foot" }),
      time: el("time", { datetime: note.created_at, title: fullTime(note.created_at) }),
      read: el("button", {
        type: "button", class: "tool tool-small", "data-testid": "mark-read", "aria-label": `Mark “${note.title}” read`, title: "Mark read",
        onclick: () => { moveFocus(node); attempt(() => hark.markRead(note.id)); },
      }, icon("check", 18)),
      remove: el("button", {
        type: "button", class: "tool tool-small", "data-testid": "delete", "aria-label": `Delete “${note.title}”`, title: "Delete",
        onclick: () => { moveFocus(node, true); attempt(() => hark.remove(note.id)); },
      }, icon("bin", 18)),
    };
    const node = el("li", { class: "note", "data-testid": "notification", "data-id": note.id, "data-tone": tone(note), tabindex: "-1" }, mark(note),
      el("div", {},
        el("p", { class: "note-title" }, parts.unread, note.title),
        ...body(note)),
      el("div", { class: "note-tools" }, parts.read, parts.remove), parts.links);
    node.parts = parts;
    return node;
  }

  function update(node, note) {
    const { parts } = node;
    const unread = note.status === "unread";
    node.dataset.status = note.status;
    setText(parts.unread, unread ? "Unread: " : "");
    parts.read.hidden = !unread;
    setText(parts.time, ago(note.created_at));
    if (note.job_id && !hark.known(note.job_id) && !asked.has(note.job_id)) {
      asked.add(note.job_id);
      hark.job(note.job_id).catch(() => {}); // the job may have expired
    }
    showLinks(parts.links, note, hark, {
      onFollow: () => attempt(() => hark.markRead(note.id)),
      onJob: (id) => { close(false); onJob(id); },
    }, parts.time);
  }

  /** The pressed button will disappear: moves the focus to the next notification, or else the previous one or the panel. */
  function moveFocus(node, leaves = filter() === "unread") {
    const next = leaves ? node.nextElementSibling ?? node.previousElementSibling ?? view : node;
    (next.querySelector?.(".note-tools > :last-child") ?? next).focus();
  }

  return { render, close, open };
}
