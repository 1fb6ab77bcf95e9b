import { caller } from "../hark.js";
import { byId, setNotice, whileBusy } from "./dom.js";

/**
 * Who is signed in, and the page shown to who is not. onIn(session) and onOut() are called at each
 * change, also when the change was made in another tab: the cookie is theirs in common.
 */
export function session({ onIn, onOut }) {
  const call = caller();
  const tabs = new BroadcastChannel("hark.session");
  const view = byId("sign-in"), form = byId("sign-in-form"), name = byId("name"), nameError = byId("name-error");
  let current, retry;

  tabs.onmessage = () => check();
  byId("sign-in-again").addEventListener("click", (event) => whileBusy(event.currentTarget, () => check()));
  byId("sign-out").addEventListener("click", (event) => whileBusy(event.currentTarget, signOut));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(form.querySelector("button"), signIn);
  });
  name.addEventListener("input", () => problemWithName(""));

  /** Asks the server who this is. */
  async function check(reason) {
    clearTimeout(retry);
    try {
      enter(await call("GET", "/v1/session"));
    } catch (err) {
      leave(err, reason);
    }
  }

  async function signIn() {
    const user = name.value.trim();
    if (!user) return problemWithName("Enter a name, such as ana.");
    try {
      const session = await call("POST", "/v1/session", { body: { user } });
      store("hark.name", user);
      enter(session);
      tabs.postMessage("changed");
    } catch (err) {
      if (err.field === "user") problemWithName(sentence(err.message.replace(/^user /, "a name ")));
      else setNotice(byId("sign-in-error"), err.message);
    }
  }

  async function signOut() {
    await call("DELETE", "/v1/session").catch(() => {}); // the session may have ended already
    tabs.postMessage("changed");
    await check();
  }

  /** Keeps a session by name from expiring under an open page. */
  async function renew() {
    if (!current?.naming) return;
    await call("POST", "/v1/session", { body: { user: current.user } }).catch(() => {});
  }

  function enter(session) {
    const same = current?.user === session.user;
    current = session;
    view.hidden = true;
    setNotice(byId("sign-in-error"), "");
    byId("who").hidden = false;
    byId("who-name").textContent = session.user;
    if (!same) onIn(session);
  }

  function leave(err, reason) {
    // A server that cannot be reached has not signed anybody out.
    if (err.status !== 401 && current) return;
    current = undefined;
    onOut();
    byId("who").hidden = true;
    view.hidden = false;
    const refused = err.status === 401;
    form.hidden = !(refused && err.problem.naming);
    byId("sign-in-closed").hidden = !(refused && !err.problem.naming);
    byId("sign-in-again").hidden = !form.hidden;
    setNotice(byId("sign-in-error"), refused ? reason : err.message);
    if (!refused) retry = setTimeout(check, 3000); // there may well be a session, once the server is back
    if (!form.hidden) {
      name.value ||= recall("hark.name");
      name.focus();
    }
  }

  function problemWithName(text) {
    setNotice(nameError, text);
    name.toggleAttribute("aria-invalid", false);
    if (!text) return name.removeAttribute("aria-describedby");
    name.setAttribute("aria-invalid", "true");
    name.setAttribute("aria-describedby", "name-error");
    name.focus();
  }

  return { check, renew };
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
function store(key, value) { try { localStorage.setItem(key, value); } catch { /* blocked: then not */ } }
function recall(key) { try { return localStorage.getItem(key) ?? ""; } catch { return ""; } }
