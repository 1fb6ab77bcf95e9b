import { caller } from "../hark.js";
import { byId, setNotice, whileBusy } from "./dom.js";

/**
 * Who is signed in, and the page shown to who is not. onIn(session) and onOut() are called at each
 * change, also when the change was made in another tab: the cookie is theirs in common.
 */
export function session({ onIn, onOut }) {
  const call = caller();
  const tabs = new BroadcastChannel("hark.session");
  const view = byId("sign-in"), nameForm = byId("sign-in-form"), name = byId("name");
  const tokenForm = byId("token-form"), token = byId("token");
  let current, retry;

  tabs.onmessage = () => check();
  byId("sign-in-again").addEventListener("click", (event) => whileBusy(event.currentTarget, () => check()));
  byId("sign-out").addEventListener("click", (event) => whileBusy(event.currentTarget, signOut));
  for (const [form, input, submit] of [[nameForm, name, signIn], [tokenForm, token, signInWithToken]]) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      whileBusy(form.querySelector("button"), submit);
    });
    input.addEventListener("input", () => complain(input, ""));
  }

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
    if (!user) return complain(name, "Enter a name, such as ana.");
    try {
      const session = await call("POST", "/v1/session", { body: { user } });
      store("hark.name", user);
      enter(session);
      tabs.postMessage("changed");
    } catch (err) {
      if (err.field === "user") complain(name, sentence(err.message.replace(/^user /, "a name ")));
      else setNotice(byId("sign-in-error"), err.message);
    }
  }

  /** Exchanges a token for the session's cookie, which the page cannot read. The page keeps the token nowhere. */
  async function signInWithToken() {
    const text = token.value.trim();
    token.value = "";
    setNotice(byId("sign-in-error"), "");
    if (!text) return complain(token, "Enter a token.");
    // What is not ASCII cannot be sent in a header at all.
    if (!/^[!-~]+$/.test(text)) return complain(token, "This is not a token. Copy all of it, and nothing else.");
    try {
      enter(await call("POST", "/v1/session", { headers: { Authorization: `Bearer ${text}` } }));
      tabs.postMessage("changed");
    } catch (err) {
      if (err.status === 401) complain(token, err.message);
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
    token.value = ""; // another tab may have signed in
    complain(token, "");
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
    const refused = err.status === 401, closed = refused && !err.problem.naming;
    const appears = closed && (view.hidden || tokenForm.hidden);
    view.hidden = false;
    nameForm.hidden = !refused || closed;
    byId("sign-in-closed").hidden = tokenForm.hidden = !closed;
    byId("sign-in-again").hidden = refused && !closed;
    setNotice(byId("sign-in-error"), refused ? reason : err.message);
    if (!refused) retry = setTimeout(check, 3000); // there may well be a session, once the server is back
    if (!nameForm.hidden) {
      name.value ||= recall("hark.name");
      name.focus();
    }
    if (appears) token.focus(); // and not again: “Try again” keeps the focus
  }

  return { check, renew };
}

/** Puts a sentence below a field, for eyes and for screen readers, and the focus into the field; "" takes it away. */
function complain(input, text) {
  const error = `${input.id}-error`, hint = byId(`${input.id}-hint`)?.id;
  setNotice(byId(error), text);
  const described = [text && error, hint].filter(Boolean).join(" ");
  if (described) input.setAttribute("aria-describedby", described);
  else input.removeAttribute("aria-describedby");
  if (!text) return input.removeAttribute("aria-invalid");
  input.setAttribute("aria-invalid", "true");
  input.focus();
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
function store(key, value) { try { localStorage.setItem(key, value); } catch { /* blocked: then not */ } }
function recall(key) { try { return localStorage.getItem(key) ?? ""; } catch { return ""; } }
