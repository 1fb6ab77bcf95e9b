/**
 * Hints for developers of pages that cannot use hark yet: one sentence on the console for each problem. They are about pages
 * of another origin than hark's, and about tokens. Users see {@link Hark#problem} instead.
 */

/**
 * @param {{base: URL, token?: Function}} options of the connection
 * @returns {(problem: {status: number, code: string, detail: string}, wasLive: boolean) => void} call it with the
 *   problem of a connection that is not live, and whether it was live before
 */
export function hints({ base, token }) {
  // Not location.origin, which a sandboxed frame has, too. Undefined outside of browsers.
  const here = globalThis.origin;
  const there = base.href.replace(/\/$/, "");
  const foreign = here !== undefined && here !== base.origin;
  const said = new Set();
  let looking = false;
  const say = (sentence) => {
    if (said.has(sentence)) return;
    said.add(sentence);
    console.error(`hark: ${sentence}`);
  };

  async function unreachable() {
    if (looking || globalThis.navigator?.onLine === false) return;
    looking = true;
    // A script cannot distinguish a response that it may not read from no response. But a request in the mode "no-cors"
    // succeeds with any response (Fetch standard).
    const look = (path, init) => fetch(new URL(path, base), { cache: "no-store", ...init }).then(() => true, () => false);
    if (!await look("livez", { mode: "no-cors", credentials: "omit" })) {
      say(`${there} does not respond to this page: start hark there, or set base in connect(), and allow it in the page's Content-Security-Policy (connect-src) if the page has one.`);
    } else if (!await look("v1/session", { credentials: token ? "omit" : "include" })) {
      say(here === "null"
        ? "this page has no origin (it is a file, or a sandboxed frame), so hark does not let it read responses: open it from a web server."
        : `start hark with --allow-origin ${here} so that pages of that origin may read the responses of ${there}.`);
    } else if (token && !await look("v1/session", { credentials: "omit", headers: { Authorization: "Bearer none" } })) {
      // A call with this header is preceded by a preflight (Fetch standard, CORS-preflight fetch).
      say(`calls with a token do not reach ${there}: make the proxy before it pass on OPTIONS requests unchanged.`);
    } // else hark has started just now
    looking = false;
  }

  return ({ status, code, detail }, wasLive) => {
    if (token) {
      if (["token_missing", "token_malformed", "token_unavailable"].includes(code)) say(detail);
      else if (status === 401) say(`${there} refuses the token that the callback of connect() returned: ${detail}`);
    } else if (foreign && status === 401) {
      say(`${there} does not know the user of this page: give connect() a token callback, because browsers send the cookie only from pages of hark's own site, after a sign-in there.`);
    }
    if (foreign && code === "network" && !wasLive) unreachable();
  };
}
