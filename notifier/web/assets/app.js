/**
 * The page: wires the browser client to its parts.
 *
 * Hooks for tests, which stay stable (data-testid unless said otherwise):
 *   session    sign-in-name · sign-in · sign-in-error · sign-in-closed · sign-in-link · sign-in-again · user · sign-out;
 *              with a token: sign-in-token (the field) · sign-in-token-error · sign-in-with-token (the button)
 *   form       ask · kind-<name>, or kind (a select) with more than three · param-<name> (param-dataset is the select
 *              of datasets) · param-<name>-error · ask-error · export (the button, for any kind)
 *   jobs       [data-job-id][data-state] are the rows; in a row: state · progress (role=progressbar) · rows · job-error ·
 *              cancel · retry · download; below: jobs-empty · jobs-more
 *   bell       bell · unread (the badge, hidden at 0) · panel · panel-close · filter-all · filter-unread ·
 *              mark-all-read · notes-empty · notes-more
 *   items      notification, with data-id and data-status ("unread" or "read"); in one: mark-read · delete ·
 *              note-download · note-job · note-link
 *   toasts     toasts (the region, in one tab of the browser) · toast, with data-id, or with data-count if it is for several;
 * in one: toast-close · toast-all · note-download · note-job · note-link
 *   frame      connection, with data-state (connecting, live, reconnecting, offline, unauthorized) and data-transport
 *              (stream, polling) · theme
 */
import { connect } from "../hark.js";
import { askForm } from "./ask.js";
import { byId, setText } from "./dom.js";
import { timeOfDay } from "./format.js";
import { icon } from "./icons.js";
import { jobList } from "./jobs.js";
import { panel } from "./panel.js";
import { session } from "./session.js";
import { toasts } from "./toasts.js";

const onJob = (id) => jobs.point(id);
const jobs = jobList();
const inbox = panel({ onJob });
const news = toasts({ onJob, onAll: () => inbox.open() });
const form = askForm({ onAsked: (job) => { renderNow(); byId(`job-${job.id}`)?.scrollIntoView({ block: "nearest", behavior: "smooth" }); } });
const who = session({ onIn, onOut, onBack: () => hark?.reconnect() });
let hark, due, late;

function onIn({ user }) {
  hark?.close();
  clear();
  hark = connect({ user });
  const mine = hark;
  const mineOnly = (handler) => (value) => { if (hark === mine) handler(value); };
  hark.on("change", mineOnly(renderSoon));
  hark.on("toast", mineOnly((notes) => news.show(notes, mine)));
  hark.on("unread", mineOnly(showUnread));
  hark.on("status", mineOnly(showStatusSoon));
  hark.on("user", mineOnly(() => who.check())); // the cookie is another user's
  hark.on("auth", mineOnly(() => who.renew()));
  for (const part of ["desk", "bell-place", "connection"]) byId(part).hidden = false;
  showStatus();
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

/** Removes all data of a user from the page. */
function clear() {
  jobs.clear();
  news.clear();
  byId("notes").replaceChildren();
  showUnread(0);
}

/** Batches renders, since many events may come at a time. It is a timer, since a hidden tab gets no animation frames. */
function renderSoon() {
  due ??= setTimeout(renderNow, 25);
}
function renderNow() {
  clearTimeout(due);
  due = undefined;
  if (!hark) return;
  jobs.render(hark);
  inbox.render(hark);
  showWhy();
  news.render(hark);
}
// Updates relative times, and the remaining seconds.
setInterval(() => document.hidden || renderSoon(), 1000);

function showUnread(unread) {
  document.title = unread ? `(${unread}) hark` : "hark";
  byId("favicon").href = unread ? "assets/icon-unread.svg" : "assets/icon.svg";
}

const statusWords = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", offline: "Offline", unauthorized: "Signed out" };
/** Does not show a short interruption of the stream. */
function showStatusSoon(status) {
  clearTimeout(late);
  if (status === "unauthorized") who.check();
  if (status === "live") who.resumed();
  if (status === "reconnecting" && byId("connection").dataset.state === "live") late = setTimeout(showStatus, 700);
  else showStatus();
}
function showStatus() {
  if (!hark) return;
  const { status, since } = hark;
  byId("connection").dataset.state = status;
  // Since when the page may be out of date.
  const old = ["reconnecting", "offline"].includes(status) ? ` since ${timeOfDay(since)}` : "";
  setText(byId("connection-text"), (statusWords[status] ?? "") + old);
  showWhy();
}
function showWhy() {
  const { status, transport, problem } = hark;
  byId("connection").dataset.transport = transport ?? "";
  byId("connection").title = status !== "live" ? problem?.detail ?? "" :
    transport === "polling" ? "Updates are polled, since an event stream is blocked or too many tabs have one." : "";
}

// The theme: that of the system until the user chooses one.
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
  try { localStorage.setItem("hark.theme", theme); } catch { /* storage is blocked: the theme lasts until the page is closed */ }
  showTheme();
});
dark.addEventListener("change", showTheme);
showTheme();

who.check();
