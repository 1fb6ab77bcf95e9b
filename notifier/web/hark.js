/**
 * hark's browser client: enqueue slow work, follow it live, and hear when it is done.
 *
 *   import { connect } from "/hark.js";
 *   const hark = connect();
 *   hark.on("notification", (n) => alert(n.title));
 *   const job = await hark.enqueue("export", { dataset: "orders", format: "xlsx" });
 *
 * It keeps the merged state (jobs, notifications, the unread number), resumes after every
 * disconnect, and reports each notification once. It has no dependencies and touches no DOM.
 *
 * @typedef {{done: number, total: number, message?: string}} Progress
 * @typedef {{name: string, size: number, content_type: string, url: string, expires_at?: string}} File
 * @typedef {{id: string, kind: string, title: string, state: "queued"|"running"|"retrying"|"succeeded"|"failed"|"cancelled",
 *   progress: Progress, attempt: number, max_attempts: number, created_at: string, started_at?: string,
 *   finished_at?: string, retry_at?: string, cancel_requested?: boolean, result?: any, result_omitted?: boolean, file?: File,
 *   error?: {code: string, message: string}, revision: number}} Job
 * @typedef {{id: string, key: string, type: string, title: string, body?: string, link?: string, data?: any,
 *   job_id?: string, status: "unread"|"read", created_at: string, read_at?: string}} Notification
 * @typedef {"connecting"|"live"|"reconnecting"|"offline"|"unauthorized"|"closed"} Status
 */

import { Inbox, Jobs, backoff, compareIds, countLimit, epochOf, hasEnded, snapshot } from "./assets/state.js";
export { compareIds, countLimit, hasEnded };

/** A request that was not answered with success. `status` is 0 when no answer came at all. */
export class HarkError extends Error {
  constructor(status, problem = {}) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.name = "HarkError";
    this.status = status;
    /** @type {string} stable, for programs */
    this.code = problem.code || (status ? `http_${status}` : "network");
    /** @type {string|undefined} the field the message speaks of, such as "params.from" */
    this.field = problem.field;
    this.problem = problem;
  }
}

/** A key no other request has. randomUUID is missing where the page is neither HTTPS nor localhost. */
export function uniqueKey() {
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/**
 * A function that makes HTTP calls: `await call("POST", "/v1/jobs", {body, headers, signal})`. It answers
 * the decoded JSON, or throws a {@link HarkError}.
 */
export function caller({ base, token } = {}) {
  const root = rootOf(base);
  return async function call(method, path, { body, headers = {} } = {}) {
    const all = { Accept: "application/json", ...headers };
    if (token) all.Authorization = `Bearer ${await token()}`;
    if (body !== undefined) all["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(new URL(path.replace(/^\//, ""), root), {
        method, headers: all, cache: "no-store", credentials: token ? "omit" : isHere(root) ? "same-origin" : "include",
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch {
      throw new HarkError(0, { detail: "The server could not be reached. Check your connection and try again." });
    }
    const text = response.status === 204 ? "" : await response.text().catch(() => "");
    let answer;
    try { answer = text ? JSON.parse(text) : undefined; } catch { /* a proxy's page, not ours */ }
    if (!response.ok) throw new HarkError(response.status, answer);
    return answer;
  };
}
const isHere = (root) => root.origin === globalThis.location?.origin;
const rootOf = (base) => new URL("./", base ? String(base).replace(/\/*$/, "/") : import.meta.url);

/** One user's connection. Made by {@link connect}. */
export class Hark {
  #root; #token; #call; #source; #timer;
  #handlers = new Map();
  #jobs = new Jobs();
  #inbox = new Inbox();
  // Of each feed: the cursor (undefined before the first page, null after the last), and how far its pages reach.
  #next = {};
  #heard = ""; // the newest notification reported: where the stream resumes
  #attempt = 0;
  #unread = 0;
  #jobsNow; #inboxNow;
  /** @type {Status} */ status = "connecting";
  /** @type {string|undefined} */ user;
  /** Whether the first page has come. */
  loaded = { jobs: false, notifications: false };
  /** Why a list could not be brought up to date; it is tried again. @type {{jobs?: HarkError, notifications?: HarkError}} */
  failed = {};

  constructor({ base, token } = {}) {
    this.#root = rootOf(base);
    this.#token = token;
    this.#call = caller({ base, token });
    const report = (list) => (err) => { this.failed[list] = err; this.#emit("error", err); this.#emit("change"); };
    this.#jobsNow = snapshot(() => this.#loadJobs(), (page) => this.#applyJobs(page), report("jobs"));
    this.#inboxNow = snapshot(() => this.#call("GET", withQuery("/v1/notifications", { limit: 50, as_of: this.#heard })), (page) => this.#applyInbox(page), report("notifications"));
    globalThis.addEventListener?.("online", this.#retryNow);
    queueMicrotask(() => this.#open()); // after the caller's first on()
  }

  /**
   * Listens; answers a function that stops it.
   * - "notification" (Notification): one arrived, live or after a disconnect; never twice, never an old one
   * - "job" (Job): a newer version of a job is known
   * - "unread" (number) · "status" (Status) · "change" (): anything above changed, or something was read or deleted
   * - "reset" · "auth" · "bye": the stream's events of that name · "error" (HarkError): a list could not be fetched yet
   */
  on(type, handler) {
    if (!this.#handlers.has(type)) this.#handlers.set(type, new Set());
    this.#handlers.get(type).add(handler);
    return () => this.#handlers.get(type).delete(handler);
  }

  /** @returns {Job[]} newest first, without gaps, and those that have not ended however old they are */
  get jobs() {
    const { jobs: next, jobsFloor: floor } = this.#next;
    return this.#jobs.list().filter((job) => !next || !floor || !hasEnded(job) || Date.parse(job.created_at) >= Date.parse(floor));
  }
  /** The job as it is known here, without asking. @returns {Job|undefined} */
  known(id) { return this.#jobs.get(id); }
  /** @returns {Notification[]} newest first, without gaps */
  get notifications() {
    return this.#inbox.list().filter((it) => !this.#next.notifications || compareIds(it.id, this.#next.notificationsFloor) >= 0);
  }
  /** @returns {Notification[]} newest first */
  get unreadNotifications() { return this.#inbox.list().filter((it) => it.status === "unread"); }
  /** How many are unread; the server's count stops at countLimit, which means that many or more. */
  get unread() { return this.#inbox.unread; }

  /** What can be asked for, and the params each takes. */
  async kinds() { return (await this.#call("GET", "/v1/kinds")).kinds; }

  /**
   * Asks for a job. It is tried again with the same Idempotency-Key when no clear answer came, so it
   * is asked for once however bad the network is.
   * @returns {Promise<Job>}
   */
  async enqueue(kind, params = {}, { title, maxAttempts, key = uniqueKey() } = {}) {
    const body = { kind, title, params, max_attempts: maxAttempts };
    for (let attempt = 0; ; attempt++) {
      try {
        return this.#merge(await this.#call("POST", "/v1/jobs", { body, headers: { "Idempotency-Key": key } }));
      } catch (err) {
        if (attempt === 2 || ![0, 502, 503, 504].includes(err.status)) throw err;
        await new Promise((resolve) => setTimeout(resolve, backoff(attempt)));
      }
    }
  }
  /** @returns {Promise<Job>} */
  async job(id) { return this.#merge(await this.#call("GET", `/v1/jobs/${encodeURIComponent(id)}`)); }
  /** @returns {Promise<Job>} */
  async cancel(id) { return this.#merge(await this.#call("POST", `/v1/jobs/${encodeURIComponent(id)}/cancel`)); }
  /** @returns {Promise<Job>} */
  async retry(id) { return this.#merge(await this.#call("POST", `/v1/jobs/${encodeURIComponent(id)}/retry`)); }
  /** One page of my jobs. @returns {Promise<{jobs: Job[], next?: string}>} */
  async list({ state, limit, after } = {}) {
    const page = await this.#call("GET", withQuery("/v1/jobs", { state, limit, after }));
    page.jobs.forEach((job) => this.#merge(job));
    return page;
  }
  /**
   * A link to a job's file that a browser can follow without a token, for a minute: for pages that have one and no cookie.
   * Ask for it when the user clicks, and set location to it.
   * @returns {Promise<string>} an absolute URL
   */
  async fileLink(job) {
    const { url } = await this.#call("POST", `/v1/jobs/${encodeURIComponent(job.id)}/file/link`);
    return new URL(url, this.#root).href;
  }
  /** The absolute URL of a job's file, or undefined. It needs the cookie; see fileLink. */
  fileURL(job) { return job?.file?.url && new URL(job.file.url, this.#root).href; }

  /** Whether there is more to list; feed is "jobs", "notifications" or "unread". */
  hasMore(feed) {
    if (feed === "unread" && this.#next.unread === undefined) {
      // At the end of the server's counting there may be any number more.
      return this.unread >= countLimit || this.unread > this.unreadNotifications.length;
    }
    return Boolean(this.#next[feed]);
  }
  /** Lists one page more of a feed. */
  async more(feed) {
    const cursor = this.#next[feed] || undefined;
    if (feed === "jobs") {
      this.#listedJobs(await this.list({ after: cursor }));
    } else {
      const status = feed === "unread" ? "unread" : undefined;
      const page = await this.#call("GET", withQuery("/v1/notifications", { status, before: cursor }));
      page.notifications.forEach((it) => this.#inbox.add(it));
      if (status) this.#next.unread = page.next ?? null;
      else this.#listedNotifications(page);
    }
    this.#changed();
  }

  markRead(id) { return this.#change(() => this.#inbox.markRead([id]), "POST", `/v1/notifications/${encodeURIComponent(id)}/read`); }
  /** Marks all that is known here; what arrives at this very moment stays unread. */
  markAllRead(upTo = this.#inbox.newest) {
    return this.#change(() => this.#inbox.markRead([], upTo), "POST", "/v1/notifications/read", { body: upTo ? { up_to: upTo } : {} });
  }
  /** Deletes a notification. */
  remove(id) { return this.#change(() => this.#inbox.remove(id), "DELETE", `/v1/notifications/${encodeURIComponent(id)}`); }

  /** Ends the connection for good. */
  close() {
    this.#setStatus("closed");
    this.#source?.close();
    clearTimeout(this.#timer);
    this.#jobsNow.stop(); this.#inboxNow.stop();
    globalThis.removeEventListener?.("online", this.#retryNow);
  }

  // The stream.

  async #open() {
    if (this.status === "closed") return;
    const url = new URL("v1/stream", this.#root);
    if (this.#heard) url.searchParams.set("last_event_id", this.#heard);
    try {
      if (this.#token) url.searchParams.set("ticket", (await this.#call("POST", "/v1/stream/ticket")).ticket);
    } catch (err) {
      return this.#lost(err);
    }
    if (this.status === "closed") return;
    const source = new EventSource(url, { withCredentials: !this.#token && !isHere(this.#root) });
    this.#source = source;
    for (const type of ["hello", "notification", "job", "inbox", "reset", "auth", "bye"]) {
      source.addEventListener(type, (event) => { if (source === this.#source) this.#receive(type, JSON.parse(event.data)); });
    }
    source.onerror = () => {
      if (source !== this.#source) return;
      // After a clean end the browser comes back by itself when the server's retry: field says. A ticket
      // is good for once, though, and after an HTTP error or a second failure it is up to us.
      const comesBack = source.readyState === EventSource.CONNECTING && this.status === "live" && !this.#token;
      if (comesBack) return this.#setStatus("reconnecting");
      this.#lost();
    };
  }

  async #lost(err) {
    this.#source?.close();
    this.#source = undefined;
    const wait = backoff(this.#attempt++);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), wait);
    // An EventSource does not tell what the server answered; the session does.
    if (!err) err = await this.#call("GET", "/v1/session").then(() => undefined, (e) => e);
    if (this.#source || this.status === "closed") return;
    const offline = globalThis.navigator?.onLine === false || this.#attempt > 4;
    this.#setStatus(err?.status === 401 ? "unauthorized" : offline ? "offline" : "reconnecting");
  }
  #retryNow = () => {
    if (this.#source || this.status === "closed") return;
    clearTimeout(this.#timer);
    this.#open();
  };

  #receive(type, data) {
    switch (type) {
      case "hello":
        this.#attempt = 0;
        this.user = data.user;
        if (this.#heard && epochOf(data.id) !== epochOf(this.#heard)) this.#forget(data.id);
        this.#heard ||= data.id;
        this.#setStatus("live");
        this.#fetchAll();
        break;
      case "notification":
        if (compareIds(data.id, this.#heard) <= 0) return; // reported before
        this.#heard = data.id;
        this.#inbox.add({ status: "unread", ...data });
        this.#emit("notification", this.#inbox.get(data.id) ?? data);
        this.#changed();
        break;
      case "job":
        this.#merge(data);
        break;
      case "inbox":
        this.#inboxNow.stale();
        this.#inbox.change(data);
        this.#changed();
        break;
      case "reset":
        this.#forget(data.id);
        this.#emit("reset", data);
        this.#fetchAll();
        break;
      case "bye":
        // Coming back at once would only push out another tab.
        if (data.code === "too_many_streams") { this.#attempt = 5; this.#lost({}); }
        this.#emit("bye", data);
        break;
      default:
        this.#emit(type, data);
    }
  }

  // What is known.

  #fetchAll() { this.#jobsNow.run(); this.#inboxNow.run(); }
  /** Another epoch counts revisions and ids from the start: nothing known compares with it. */
  #forget(id) {
    this.#jobs.clear(); this.#inbox.clear();
    this.#next = {};
    this.#heard = id;
  }
  async #loadJobs() {
    const page = await this.#call("GET", "/v1/jobs?limit=50");
    // A job further down the list may have ended unheard while this was disconnected.
    const listed = new Set(page.jobs.map((job) => job.id));
    const open = this.#jobs.list().filter((job) => !hasEnded(job) && !listed.has(job.id));
    const gone = (id) => (err) => { if (err.status === 404) return { id, gone: true }; throw err; };
    page.others = await Promise.all(open.map(({ id }) => this.#call("GET", `/v1/jobs/${encodeURIComponent(id)}`).catch(gone(id))));
    return page;
  }
  #applyJobs({ jobs, others, next }) {
    // So much is new that the page does not reach what is known: what lies between would be missing.
    const gap = this.#next.jobs !== undefined && next && !jobs.some((job) => this.#jobs.get(job.id));
    if (gap) this.#jobs.clear();
    if (gap || this.#next.jobs === undefined) this.#listedJobs({ jobs, next });
    for (const job of [...jobs, ...others]) job.gone ? this.#jobs.drop(job.id) : this.#merge(job);
    this.loaded.jobs = true;
    delete this.failed.jobs;
    this.#changed();
  }
  #listedJobs({ jobs, next }) {
    this.#next.jobs = next ?? null;
    this.#next.jobsFloor = jobs.at(-1)?.created_at ?? this.#next.jobsFloor;
  }
  #listedNotifications({ notifications, next }) {
    this.#next.notifications = next ?? null;
    this.#next.notificationsFloor = notifications.at(-1)?.id ?? this.#next.notificationsFloor;
  }
  #applyInbox(page) {
    this.#inbox.snapshot(page);
    if (this.#next.notifications === undefined) this.#listedNotifications(page);
    this.loaded.notifications = true;
    delete this.failed.notifications;
    this.#changed();
  }
  #merge(job) {
    if (this.#jobs.merge(job)) {
      this.#emit("job", job);
      this.#changed();
    }
    return this.#jobs.get(job.id);
  }
  /** Shows a change of the inbox at once; the stream's inbox event, or else a fresh page, brings the truth. */
  async #change(apply, method, path, options) {
    this.#inboxNow.stale();
    const takeBack = apply();
    this.#changed();
    try {
      const answer = await this.#call(method, path, options);
      if (answer?.up_to) { this.#inbox.change(answer); this.#changed(); } else if (this.status !== "live") this.#inboxNow.run();
    } catch (err) {
      if (err.status === 404) return; // deleted in another tab: as good as done
      takeBack();
      this.#changed();
      this.#inboxNow.run(); // it may have been done all the same
      throw err;
    }
  }
  #setStatus(status) {
    if (this.status === status || this.status === "closed") return;
    this.status = status;
    this.#emit("status", status);
    this.#emit("change");
  }
  #changed() {
    const { unread } = this;
    if (unread !== this.#unread) this.#emit("unread", (this.#unread = unread));
    this.#emit("change");
  }
  #emit(type, value) {
    for (const handler of this.#handlers.get(type) ?? []) {
      try { handler(value); } catch (err) { console.error(err); } // one bad handler must not silence the others
    }
  }
}

function withQuery(path, params) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== undefined && value !== null));
  return `${path}?${query}`.replace(/\?$/, "");
}

/**
 * Opens a connection as the user signed in here (the cookie), or as the user of a token.
 * @param {{base?: string|URL, token?: () => string|Promise<string>}} [options] base: where hark is served, if not
 *   where this module came from; token: answers a fresh JWT each time it is asked
 * @returns {Hark}
 */
export function connect(options) { return new Hark(options); }
