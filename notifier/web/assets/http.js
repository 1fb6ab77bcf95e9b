/** Calls of hark's HTTP API: each has a time limit, and each failure is a {@link HarkError}. */

import { backoff } from "./state.js";

/** A request that has failed. `status` is 0 without a response. */
export class HarkError extends Error {
  constructor(status, problem = {}) {
    super(problem.detail || problem.title || `The server responded with ${status}.`);
    this.name = "HarkError";
    this.status = status;
    /** @type {string} stable, for programs */
    this.code = problem.code || (status ? `http_${status}` : "network");
    /** @type {string|undefined} the field that is wrong, such as "params.from" */
    this.field = problem.field;
    /** @type {number|undefined} the delay before a retry that the server asks for, in ms */
    this.retryAfter = undefined;
    this.problem = problem;
  }
}

/** A unique key for a request. randomUUID is missing on pages that are neither HTTPS nor localhost. */
export function uniqueKey() {
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/** The root of hark: of a base, or else of this module. @returns {URL} */
export const rootOf = (base) => (base ? new URL("./", String(base).replace(/\/*$/, "/")) : new URL("../", import.meta.url));
const isHere = (root) => root.origin === globalThis.location?.origin;

/** The default timeout of a call, in ms. */
export const callLimit = 30_000;

/**
 * A function that makes one request: `await request("GET", "/v1/stream", {body, headers, signal})`. It returns the
 * Response, or throws a {@link HarkError}. It has no timeout; abort it with signal.
 */
export function requester({ base, token } = {}) {
  const root = rootOf(base);
  return async function request(method, path, { body, headers = {}, signal } = {}) {
    const all = { Accept: "application/json", ...headers };
    if (token && !all.Authorization) all.Authorization = `Bearer ${await unlessAborted(fresh(token), signal)}`;
    if (body !== undefined) all["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(new URL(path.replace(/^\//, ""), root), {
        method, headers: all, signal, cache: "no-store", credentials: token ? "omit" : isHere(root) ? "same-origin" : "include",
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch {
      if (signal?.aborted) throw signal.reason;
      throw new HarkError(0, { detail: "The server could not be reached. Check your connection and try again." });
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  };
}

/**
 * A function that makes calls: `await call("POST", "/v1/jobs", {body, headers, limit, signal})`. It returns the decoded
 * JSON, or throws a {@link HarkError}: with the code "timeout" if the whole response has not arrived within limit (in ms).
 */
export function caller(options) {
  const request = requester(options);
  return async function call(method, path, { limit = callLimit, signal, ...rest } = {}) {
    const abort = new AbortController();
    const end = () => abort.abort(signal.reason);
    if (signal?.aborted) end();
    signal?.addEventListener("abort", end);
    const timer = setTimeout(() => abort.abort(new HarkError(0, {
      code: "timeout", detail: `The server did not respond within ${Math.round(limit / 1000)} s. Try again.`,
    })), limit);
    try {
      const response = await request(method, path, { ...rest, signal: abort.signal });
      const text = response.status === 204 ? "" : await unlessAborted(response.text(), abort.signal);
      let answer;
      try { answer = text ? JSON.parse(text) : undefined; } catch { /* a proxy's page, not ours */ }
      if (path === "/v1/session" && method !== "GET") tellTabs(rootOf(options?.base), answer?.user ?? "");
      return answer;
    } catch (err) {
      if (abort.signal.aborted) throw abort.signal.reason;
      if (err instanceof HarkError) throw err;
      throw new HarkError(0, { detail: "The response of the server was incomplete. Try again." });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
    }
  };
}

/**
 * The user who is signed in. It retries until the server has responded or over() is true.
 * @param {{failed: (err: HarkError, offline: boolean) => void, pause: (ms: number) => Promise<void>, over: () => boolean}} how
 */
export async function whoIsIt(call, { failed, pause, over }) {
  for (let attempt = 0; ; attempt++) {
    const answer = await call("GET", "/v1/session").catch((err) => err);
    if (over() || answer?.user) return answer?.user;
    const err = answer instanceof HarkError ? answer : new HarkError(0, { code: "not_hark", detail: "Something between this page and hark answered in its place." });
    failed(err, globalThis.navigator?.onLine === false || attempt > 3);
    await pause(Math.max(backoff(attempt), err.retryAfter ?? 0));
    if (over()) return undefined;
  }
}

/** The channel that tells the tabs of an origin who has signed in ({user}) or out ({user: ""}). Undefined if there is none. */
export function sessionChannel(root) {
  try { return new BroadcastChannel(`hark.session ${root}`); } catch { return undefined; }
}
function tellTabs(root, user) {
  const channel = sessionChannel(root);
  channel?.postMessage({ user });
  channel?.close();
}

/** The error of a response: the server's problem, or the status alone if the response is from a proxy. */
async function problemOf(response) {
  let problem;
  try { problem = JSON.parse(await response.text()); } catch { /* a proxy's page, not ours */ }
  const err = new HarkError(response.status, problem && typeof problem === "object" ? problem : {});
  // RFC 9110, section 10.2.3: seconds, or a date.
  const after = response.headers.get("Retry-After");
  const ms = after && (/^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - Date.now());
  if (ms > 0) err.retryAfter = ms;
  return err;
}

/** A token from the page's callback. */
async function fresh(token) {
  let text;
  try {
    text = await token();
  } catch (err) {
    if (err instanceof HarkError) throw err;
    throw new HarkError(0, { code: "token_unavailable", detail: `The page could not get a token: ${err?.message ?? err}` });
  }
  if (!text) throw new HarkError(401, { code: "token_missing", detail: "The token callback of connect() returned no token." });
  // RFC 6750, section 2.1. With anything else, such as an error page, fetch would fail like it does without a network.
  text = String(text).trim();
  if (!/^[\w.~+/-]+=*$/.test(text)) {
    throw new HarkError(401, { code: "token_malformed", detail: "The token callback of connect() returned something that is not a token; check the response of its URL." });
  }
  return text;
}

/** The result of a promise; rejects with the reason of signal as soon as it is aborted. */
function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const end = () => reject(signal.reason);
    if (signal.aborted) end();
    signal.addEventListener("abort", end);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", end));
  });
}

/** A path with a query. A list is a parameter that is given several times; what is empty is left out. */
export function withQuery(path, params) {
  const query = new URLSearchParams(Object.entries(params).flatMap(([name, value]) => [value].flat().map((one) => [name, one]))
    .filter(([, value]) => value !== undefined && value !== null && value !== ""));
  return `${path}?${query}`.replace(/\?$/, "");
}
