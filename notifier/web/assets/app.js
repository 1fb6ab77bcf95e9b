/**
 * The page: wires the browser client to its parts.
 *
 * Hooks for tests, which stay stable (data-testid unless said otherwise):
 *   session    sign-in-name · sign-in · sign-in-error · sign-in-closed · sign-in-again · user · sign-out;
 *              with a token: sign-in-token (the field) · sign-in-token-error · sign-in-with-token (the button)
 *   form       ask · kind-<name>, or kind (a select) with more than three · param-<name> (param-dataset is the select
 *              of datasets) · param-<name>-error · ask-error · export (the button, whatever the kind)
 *   jobs       [data-job-id][data-state] are the rows; in a row: state · progress (role=progressbar) · rows · job-error ·
 *              cancel · retry · download; below: jobs-empty · jobs-more
 *   bell       bell · unread (the badge, hidden at 0) · panel · panel-close · filter-all · filter-unread ·
 *              mark-all-read · notes-empty · notes-more
 *   items      notification, with data-id and data-status ("unread" or "read"); in one: mark-read · delete ·
 *              note-download · note-job · note-link
 *   toasts     toasts (the region) · toast, with data-id; in one: toast-close · note-download · note-job · note-link
 *   frame      connection, with data-state (connecting, live, reconnecting, offline) · theme
 */
import { connect } from "../hark.js";
import { askForm } from "./ask.js";
import { byId, setText } from "./dom.js";
import { icon } from "./icons.js";
import { jobList } from "./jobs.js";
import { panel } from "./panel.js";
import { session } from "./session.js";
import { toasts } from "./toasts.js";

const onJob = (id) => jobs.point(id);
const jobs = jobList();
const inbox = panel({ onJob });
const news = toasts({ onJob });
const form = askForm({ onAsked: (job) => { renderNow(); byId(`job-${job.id}`)?.scrollIntoView({ block: "nearest", behavior: "smooth" }); } });
const who = session({ onIn, onOut });
let hark, due;

function onIn() {
  hark?.close();
  clear();
  hark = connect();
  const mine = hark;
  const mineOnly = (handler) => (value) => { if (hark === mine) handler(value); };
  hark.on("change", mineOnly(renderSoon));
  hark.on("notification", mineOnly((note) => news.show(note, mine)));
  hark.on("unread", mineOnly(showUnread));
  hark.on("status", mineOnly(showStatus));
  hark.on("auth", mineOnly(() => who.renew()));
  for (const part of ["desk", "bell-place", "connection"]) byId(part).hidden = false;
  showStatus("connecting");
  form.show(hark);
  renderNow();
}

function onOut() {
  hark?.close();
  hark = undefined;
  clear();
  inbox.close(false);
  for (const part of ["desk", "bell-place", "connection"]) byId(part).hidden = true;
}

/** Nothing of one user stays for the next. */
function clear() {
  jobs.clear();
  news.clear();
  byId("notes").replaceChildren();
  showUnread(0);
}

/** Many events may come in one breath; a timer, because a hidden tab gets no animation frames. */
function renderSoon() {
  due ??= setTimeout(renderNow, 25);
}
function renderNow() {
  clearTimeout(due);
  due = undefined;
  if (!hark) return;
  jobs.render(hark);
  inbox.render(hark);
  news.render(hark);
}
// Relative times, and the seconds left, go on by themselves.
setInterval(() => document.hidden || renderSoon(), 1000);

function showUnread(unread) {
  document.title = unread ? `(${unread}) hark` : "hark";
  byId("favicon").href = unread ? "assets/icon-unread.svg" : "assets/icon.svg";
}

const statusWords = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", offline: "Offline" };
function showStatus(status) {
  if (status === "unauthorized") return who.check("Your session has ended. Sign in to go on.");
  byId("connection").dataset.state = status;
  setText(byId("connection-text"), statusWords[status] ?? "");
}

// The theme: the system's until somebody chooses.
const dark = matchMedia("(prefers-color-scheme: dark)");
const themeNow = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
function showTheme() {
  const other = themeNow() === "dark" ? "light" : "dark";
  byId("theme").replaceChildren(icon(other === "dark" ? "moon" : "sun", 20));
  byId("theme").setAttribute("aria-label", `Use the ${other} theme`);
  byId("theme").title = `Use the ${other} theme`;
}
byId("theme").addEventListener("click", () => {
  const theme = themeNow() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("hark.theme", theme); } catch { /* then for this visit */ }
  showTheme();
});
dark.addEventListener("change", showTheme);
showTheme();

who.check();
