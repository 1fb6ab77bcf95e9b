import { caller, rootOf, sessionChannel } from "./http.js";
import { byId, setNotice, setText, whileBusy } from "./dom.js";
import { safeLink } from "./link.js";

/**
 * The session, and the page for signing in. onIn(session) and onOut() are called at each change, also if it was made in
 * another tab: tabs share the cookie. When a session ends by itself, the page stays and the sign-in form appears above it.
 * onBack() is called when the same user has signed in again.
 */
export function session({ onIn, onOut, onBack }) {
  const call = caller();
  const tabs = sessionChannel(rootOf()); // caller() posts on it who signs in and out
  const view = byId("sign-in"), nameForm = byId("sign-in-form"), name = byId("name");
  const tokenForm = byId("token-form"), token = byId("token");
  let current, retry, ended = false, signedOut = false;

  if (tabs) {
    tabs.onmessage = ({ data: { user } }) => {
      if (user && user === current?.user && !ended) return; // renewed
      signedOut = !user && current !== undefined;
      check();
    };
  }
  byId("sign-in-again").addEventListener("click", (event) => whileBusy(event.currentTarget, () => check()));
  byId("sign-out").addEventListener("click", (event) => whileBusy(event.currentTarget, signOut));
  for (const [form, input, submit] of [[nameForm, name, signIn], [tokenForm, token, signInWithToken]]) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      whileBusy(form.querySelector("button"), submit);
    });
    input.addEventListener("input", () => complain(input, ""));
  }

  /** Fetches the session. */
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
    } catch (err) {
      if (err.field === "user") complain(name, sentence(err.message.replace(/^user /, "a name ")));
      else setNotice(byId("sign-in-error"), err.message);
    }
  }

  /** Exchanges a token for the session's cookie, which the page cannot read. The page does not store the token. */
  async function signInWithToken() {
    const text = token.value.trim();
    token.value = "";
    setNotice(byId("sign-in-error"), "");
    if (!text) return complain(token, "Enter a token.");
    // A header can have ASCII only.
    if (!/^[!-~]+$/.test(text)) return complain(token, "This is not a token. Copy all of it, and nothing else.");
    try {
      enter(await call("POST", "/v1/session", { headers: { Authorization: `Bearer ${text}` } }));
    } catch (err) {
      if (err.status === 401) complain(token, err.message);
      else setNotice(byId("sign-in-error"), err.message);
    }
  }

  async function signOut() {
    await call("DELETE", "/v1/session").catch(() => {}); // the session may have ended already
    signedOut = true;
    await check();
  }

  /** Keeps a session by name from expiring under an open page. */
  async function renew() {
    if (current?.sign_in !== "name") return;
    await call("POST", "/v1/session", { body: { user: current.user } }).catch(() => {});
  }

  function enter(session) {
    const same = current?.user === session.user, back = ended;
    current = session;
    ended = signedOut = false;
    view.hidden = true;
    view.removeAttribute("role");
    delete view.dataset.over;
    setNotice(byId("sign-in-error"), "");
    token.value = ""; // another tab may have signed in
    complain(token, "");
    byId("who").hidden = false;
    byId("who-name").textContent = session.user;
    byId("sign-out").hidden = session.sign_in === "application";
    if (!same) onIn(session);
    else if (back) onBack();
  }

  function leave(err, reason) {
    // An unreachable server does not sign anybody out.
    if (err.status !== 401 && current) return;
    // The page and its focus stay as they are.
    ended = current !== undefined && !signedOut;
    signedOut = false;
    if (ended) {
      view.dataset.over = "yes";
      view.setAttribute("role", "region"); // the page has another main element
      reason ??= "Your session has ended. Sign in to continue.";
      name.value = current.user;
    } else {
      current = undefined;
      view.removeAttribute("role");
      delete view.dataset.over;
      onOut();
    }
    byId("who").hidden = !ended;
    const refused = err.status === 401, how = refused ? err.problem.sign_in : undefined;
    const appears = how === "token" && (view.hidden || tokenForm.hidden);
    view.hidden = false;
    nameForm.hidden = how !== "name";
    tokenForm.hidden = how !== "token";
    byId("sign-in-again").hidden = how === "name";
    showElsewhere(refused && how !== "name", how === "token", safeLink(err.problem?.sign_in_url));
    setNotice(byId("sign-in-error"), refused ? reason : err.message);
    if (ended) return;
    if (!refused) retry = setTimeout(check, 3000); // there may be a session when the server is back
    if (!nameForm.hidden) {
      name.value ||= recall("hark.name");
      name.focus();
    }
    if (appears) token.focus(); // and not again: “Try again” keeps the focus
  }

  /** Says that the application signs in, with a link if it has named its page. A token may do, too. */
  function showElsewhere(shown, token, url) {
    const link = byId("sign-in-link");
    byId("sign-in-closed").hidden = !shown;
    setText(byId("sign-in-where"), token ?
      "This server accepts sessions of its application. Sign in there and come back, or sign in here with a token." :
      "Sign in to the application that this page is part of, and come back.");
    link.hidden = !url;
    link.href = url ?? "";
    link.target = ended ? "_blank" : ""; // what was typed stays
  }

  /** The stream has connected again: checks the session. */
  function resumed() { if (ended) check(); }

  return { check, renew, resumed };
}

/** Shows a sentence below a field, also for screen readers, and focuses the field; "" hides the sentence. */
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
function store(key, value) { try { localStorage.setItem(key, value); } catch { /* storage is blocked */ } }
function recall(key) { try { return localStorage.getItem(key) ?? ""; } catch { return ""; } }
