/**
 * hark's browser client: enqueue slow work, follow it live, and get a notification at its end.
 *
 *   import { connect } from "/hark.js";
 *   const hark = connect();
 *   hark.on("notification", (n) => alert(n.title));
 *   const job = await hark.enqueue("export", { dataset: "orders", format: "xlsx" });
 *
 * The client keeps the merged state (jobs, notifications, the unread number), resumes after every
 * disconnect, and reports each notification once. All tabs of a user share one connection. The module has
 * no dependencies and does not touch the DOM.
 *
 * @typedef {{done: number, total: number, message?: string}} Progress
 * @typedef {{name: string, size: number, content_type: string, expires_at?: string}} File
 * @typedef {{id: string, kind: string, title: string, state: "queued"|"running"|"retrying"|"succeeded"|"failed"|"cancelled",
 *   progress: Progress, attempt: number, max_attempts: number, created_at: string, started_at?: string,
 *   finished_at?: string, retry_at?: string, cancel_requested?: boolean, metadata?: Record<string, string>, result?: any, result_omitted?: boolean, file?: File,
 *   error?: {code: string, message: string}, revision: number}} Job
 * @typedef {{id: string, key: string, type: string, title: string, body?: string, link?: string, data?: any,
 *   job_id?: string, file?: File, status: "unread"|"read", created_at: string, read_at?: string}} Notification
 * @typedef {{topic: string, type: string, data?: any}} LiveEvent
 * @typedef {"connecting"|"live"|"reconnecting"|"offline"|"unauthorized"|"closed"} Status
 */

import { Connection } from "./assets/connection.js";
import { HarkError, caller, rootOf, sessionChannel, uniqueKey, whoIsIt } from "./assets/http.js";
import { hints } from "./assets/hints.js";
import { InboxFeed } from "./assets/inboxfeed.js";
import { JobFeed } from "./assets/jobfeed.js";
import { Lease } from "./assets/lease.js";
import { Share, canShare } from "./assets/share.js";
import { Held, Showing } from "./assets/showing.js";
import { checkTopic, retried } from "./assets/topics.js";
import { backoff, compareIds, countLimit, hasEnded, snapshot } from "./assets/state.js";
export { HarkError, caller, compareIds, countLimit, hasEnded, sessionChannel, uniqueKey };

const listWait = 250; // ms; the lists wait this long for the hello event, so that they are fetched once
const enqueueLimit = 12_000; // ms, for one of three tries

/** The connection of one user. {@link connect} creates it. */
export class Hark {
  #root; #options; #call; #hint; #share; #session; #nudge; #listTimer; #checked = 0;
  #handlers = new Map();
  #kinds = [];
  #jobs; #inbox;
  #topics = new Map(); // topic: a set of {onEvent, fetch}
  #listening = false; // changed topics will be passed to the share
  #passed = new Set(); // the topics when they were passed on last
  #showing = new Showing(() => this.#share, (notes) => this.#toast(notes));
  #held = new Held((data) => this.#arrive(data));
  #asOf = ""; // the end of the log at the last hello
  #greeted = false;
  #refused = 0;
  #unread = 0;
  #jobsNow; #inboxNow;
  /** @type {Status} */ status = "connecting";
/** When the connection became live or, while it is not live, when the last byte arrived; in ms since 1970. */ since = Date.now();
  /** How events arrive while the connection is live. @type {"stream"|"polling"|undefined} */ transport;
  /** Why the connection is not live. @type {{status: number, code: string, detail: string}|undefined} */ problem;
  /** @type {string|undefined} */ user;
  /** Whether the first page of each list has arrived. */
  loaded = { jobs: false, notifications: false };
  /** Why a list could not be updated; the client retries. @type {{jobs?: HarkError, notifications?: HarkError}} */
  failed = {};

  constructor({ base, token, user } = {}) {
    this.#root = rootOf(base);
    this.#options = { base: this.#root, token };
    this.user = user;
    this.#call = caller(this.#options);
    this.#hint = hints(this.#options);
    this.#jobs = new JobFeed(this.#call, (job) => { this.#emit("job", job); this.#changed(); });
    this.#inbox = new InboxFeed(this.#call);
    const report = (list) => (err) => { this.failed[list] = err; this.#emit("error", err); this.#emit("change"); };
    const listed = (list) => { this.loaded[list] = true; delete this.failed[list]; };
    this.#jobsNow = snapshot(() => this.#jobs.load(), (page) => { this.#jobs.apply(page); listed("jobs"); this.#changed(); }, report("jobs"));
    this.#inboxNow = snapshot(() => this.#inbox.load({ asOf: this.#asOf, missed: this.#held.first }), (page) => {
      this.#inbox.apply(page);
      listed("notifications");
      this.#held.letGo();
      this.#changed();
    }, report("notifications"));
    if (!token) {
      this.#session = sessionChannel(this.#root);
      if (this.#session) this.#session.onmessage = ({ data }) => this.#signedIn(data.user);
    }
    globalThis.addEventListener?.("online", this.#hurry);
    globalThis.document?.addEventListener("visibilitychange", this.#hurry);
    queueMicrotask(() => this.#begin()); // after the caller's first on()
  }

  /**
   * Adds a handler for an event. Returns a function that removes it.
   * - "notification" (Notification): a new notification, live or after a disconnect; each is reported once
   * - "toast" (Notification[]): the notifications to show, in the visible tab alone: a new one or, after an absence, all new
   *   unread ones, newest last
   * - "job" (Job): a newer version of a job
   * - "unread" (number) · "status" (Status) · "change" (): anything above changed, or something was read or deleted
   * - "user" (string|undefined): another user has signed in, in any tab; the data of the previous user is gone
   * - "reset" · "bye": the events of the stream · "auth": likewise, in the tab that has the stream
   * - "live" (LiveEvent): an event of any topic that this tab has subscribed to · "missed" ({topics: string[]})
   * - "error" (HarkError): a list could not be fetched, and the client retries; or a topic was refused
   */
  on(type, handler) {
    if (!this.#handlers.has(type)) this.#handlers.set(type, new Set());
    this.#handlers.get(type).add(handler);
    return () => this.#handlers.get(type).delete(handler);
  }

  /**
   * Listens to a topic of live events: one that the server permits, such as "comments.42", "_user" (events for this user) or
   * "_all" (events for everyone). All tabs of a user share one stream.
   * @param {string} topic
   * @param {(event: LiveEvent) => void} onEvent an event may come twice when the topics change, so it should carry a whole
   *   value (likes: 7) and no difference
   * @param {() => (void|Promise<void>)} [onMissed] fetches what the events are about: called once when the topic is listened to, and again
   *   whenever events may be missing, such as after a reconnect; if its promise is rejected, also again later
   * @returns {() => void} ends it
   * @throws {TypeError} if the topic is not well-formed; a topic that the server refuses is an event "error"
   */
  subscribe(topic, onEvent, onMissed) {
    checkTopic(topic);
    const handlers = { onEvent, fetch: onMissed && retried(onMissed) };
    const others = this.#topics.get(topic);
    if (others) others.add(handlers);
    else this.#topics.set(topic, new Set([handlers]));
    // For a topic that the share has already, also if it was given up a moment ago, there is no event missed.
    if ((others || this.#passed.has(topic)) && onMissed) queueMicrotask(() => this.#topics.get(topic)?.has(handlers) && handlers.fetch.run());
    this.#listen();
    return () => {
      handlers.fetch?.stop();
      const all = this.#topics.get(topic);
      if (!all?.delete(handlers) || all.size) return;
      this.#topics.delete(topic);
      this.#listen();
    };
  }

  /**
   * Who listens to a topic at this moment, at all notifiers.
   * @param {string} topic one that this user may listen to
   * @returns {Promise<{topic: string, streams: number, users: number, listeners?: string[], complete: boolean}>} listeners are there if
   *   the server lets this user see them
   */
  async presence(topic) {
    checkTopic(topic);
    return this.#call("GET", `/v1/topics/${encodeURIComponent(topic)}`);
  }

  /**
   * Shows who listens to a topic, for as long as the page does: one that the server announces (its rule has the word announce).
   * @param {string} topic
   * @param {(users: string[]) => void} onChange gets all users, sorted, when the list was fetched and whenever it changes
   * @returns {() => void} ends it
   */
  watchListeners(topic, onChange) {
    const users = new Set();
    let late; // events that came while the list was fetched, which may be from before them
    const apply = ({ type, data }) => { for (const user of data.users) type === "join" ? users.add(user) : users.delete(user); };
    const show = () => onChange([...users].sort());
    return this.subscribe(topic, (event) => {
      if (event.type !== "join" && event.type !== "leave") return;
      late?.push(event);
      apply(event);
      show();
    }, async () => {
      const events = (late = []);
      const { listeners = [], complete } = await this.presence(topic);
      if (events !== late) return; // another call is later
      late = undefined;
      users.clear();
      for (const user of listeners) users.add(user);
      events.forEach(apply);
      show();
      if (!complete) throw new Error("A notifier did not answer."); // so the list is fetched again
    });
  }

  /** Passes the topics on, once for all changes of this moment. */
  #listen() {
    if (this.#listening) return;
    this.#listening = true;
    queueMicrotask(() => {
      this.#listening = false;
      this.#passed = new Set(this.#topics.keys());
      this.#share?.listen();
    });
  }

  /** @returns {Job[]} newest first, without gaps, with all that have not ended */
  get jobs() { return this.#jobs.list; }
/** The version of the job that this client has; makes no request. @returns {Job|undefined} */
  known(id) { return this.#jobs.get(id); }
  /** @returns {Notification[]} newest first, without gaps */
  get notifications() { return this.#inbox.list; }
  /** @returns {Notification[]} newest first */
  get unreadNotifications() { return this.#inbox.unreadList; }
/** The number of unread notifications. The server stops counting at countLimit, which means countLimit or more. */
  get unread() { return this.#inbox.known.unread; }

  /** The kinds of jobs, and the params of each. */
  async kinds() { return (this.#kinds = (await this.#call("GET", "/v1/kinds")).kinds); }
  /** A kind as it was last fetched; makes no request. */
  kind(name) { return this.#kinds.find((it) => it.name === name); }

  /**
   * Enqueues a job. Without a clear response the request is retried with the same Idempotency-Key, so the job is enqueued
   * once.
   * @returns {Promise<Job>}
   */
  async enqueue(kind, params = {}, { title, maxAttempts, metadata, key = uniqueKey() } = {}) {
    const body = { kind, title, params, metadata, max_attempts: maxAttempts };
    for (let attempt = 0; ; attempt++) {
      try {
        return this.#jobs.merge(await this.#call("POST", "/v1/jobs", { body, limit: enqueueLimit, headers: { "Idempotency-Key": key } }));
      } catch (err) {
        if (attempt === 2 || ![0, 502, 503, 504].includes(err.status)) throw err;
        await new Promise((resolve) => setTimeout(resolve, backoff(attempt)));
      }
    }
  }
  /** @returns {Promise<Job>} */
  async job(id) { return this.#jobs.merge(await this.#call("GET", `/v1/jobs/${encodeURIComponent(id)}`)); }
  /** @returns {Promise<Job>} */
  async cancel(id) { return this.#jobs.merge(await this.#call("POST", `/v1/jobs/${encodeURIComponent(id)}/cancel`)); }
  /** @returns {Promise<Job>} */
  async retry(id) { return this.#jobs.merge(await this.#call("POST", `/v1/jobs/${encodeURIComponent(id)}/retry`)); }
  /** One page of the user's jobs. @returns {Promise<{jobs: Job[], next?: string}>} */
  list({ state, limit, after } = {}) { return this.#jobs.page({ state, limit, after }); }
  /**
   * A link to the file of a job, or of the notification of a job's end. A browser can follow it for a minute without a token.
   * It is for pages without the cookie. Fetch it when the user clicks, and set location to it.
   * @param {Job|Notification} of
   * @returns {Promise<string>} an absolute URL
   */
  async fileLink(of) {
    const { url } = await this.#call("POST", `/${filePath(of)}/link`);
    return new URL(url, this.#root).href;
  }
  /** Deletes a job's file, so that its bytes no longer count for the user's limit; the job stays. @returns {Promise<Job>} */
  async deleteFile(id) { return this.#jobs.merge(await this.#call("DELETE", `/v1/jobs/${encodeURIComponent(id)}/file`)); }
  /**
   * The absolute URL of the file of a job, or of the notification of a job's end; undefined without a file. It needs the
   * cookie: see fileLink.
   * @param {Job|Notification} [of]
   */
  fileURL(of) { return of?.file && new URL(filePath(of), this.#root).href; }

  /** Whether this tab holds the connection of all tabs of this user. */
  get leads() { return Boolean(this.#share?.leading); }

  /** Whether a list has a next page; feed is "jobs", "notifications" or "unread". */
  hasMore(feed) { return feed === "jobs" ? this.#jobs.hasMore : feed === "unread" ? this.#inbox.hasMoreUnread : this.#inbox.hasMore; }
  /** Fetches the next page of a list. */
  async more(feed) {
    if (feed === "jobs") {
      await this.#jobs.more();
    } else {
      await (feed === "unread" ? this.#inbox.moreUnread() : this.#inbox.more());
      this.#inboxNow.stale();
    }
    this.#changed();
  }

  markRead(id) { return this.#change(() => this.#inbox.known.markRead([id]), "POST", `/v1/notifications/${encodeURIComponent(id)}/read`); }
/** Marks all notifications that this client has as read. One that arrives at the same time stays unread. */
  markAllRead(upTo = this.#inbox.known.newest) {
    return this.#change(() => this.#inbox.known.markRead([], upTo), "POST", "/v1/notifications/read", { body: upTo ? { up_to: upTo } : {} });
  }
  /** Deletes a notification. */
  remove(id) { return this.#change(() => this.#inbox.known.remove(id), "DELETE", `/v1/notifications/${encodeURIComponent(id)}`); }

  /** Connects at once, unless the connection is live. */
  reconnect() {
    this.#nudge?.();
    this.#share?.wake();
  }
  /** Closes the connection for good. */
  close() {
    this.#setState({ status: "closed", since: Date.now() });
    this.#share?.stop();
    this.#session?.close();
    this.#nudge?.();
    clearTimeout(this.#listTimer);
    for (const handlers of this.#topics.values()) for (const { fetch } of handlers) fetch?.stop();
    this.#jobsNow.stop(); this.#inboxNow.stop(); this.#showing.clear(); this.#held.clear();
    globalThis.removeEventListener?.("online", this.#hurry);
    globalThis.document?.removeEventListener("visibilitychange", this.#hurry);
  }

  // The connection.

  async #begin() {
    if (this.status === "closed") return;
    this.#listTimer = setTimeout(() => { if (this.status !== "unauthorized") this.#fetchAll(); }, listWait);
    const sharing = canShare();
    if (sharing) this.user ??= await whoIsIt(this.#call, {
      failed: (err, offline) => this.#setState({
        status: err.status === 401 ? "unauthorized" : offline ? "offline" : "reconnecting", since: this.since,
        problem: { status: err.status, code: err.code, detail: err.message },
      }),
      pause: (ms) => new Promise((resolve) => { this.#nudge = resolve; setTimeout(resolve, ms); }),
      over: () => this.status === "closed",
    });
    if (this.status === "closed") return;
    const { base, token } = this.#options;
    this.#share = new Share({
      name: sharing ? `hark ${base} ${token ? "token" : "cookie"} ${this.user}` : undefined,
      user: this.user,
      connect: (options) => new Connection({ ...options, base, token, lease: sharing ? undefined : new Lease(base.origin) }),
      onEvent: (type, data) => this.#receive(type, data),
      onState: (state) => this.#setState(state),
      onShown: (id) => this.#showing.shown(id),
      onUser: () => this.#switch(),
      topics: () => [...this.#topics.keys()],
    });
    this.#share.start();
  }
/** Another user is signed in, or nobody: discards all data of the previous user. */
  #switch() {
    this.#share?.stop();
    this.#share = undefined;
    this.#forget();
    this.#greeted = false;
    this.#asOf = "";
    this.#kinds = [];
    this.user = undefined;
    this.loaded = { jobs: false, notifications: false };
    this.failed = {};
    this.#setState({ status: "connecting", since: Date.now() });
    this.#emit("user", undefined);
    this.#changed();
    this.#begin();
  }
  #signedIn(user) {
    if (this.status === "closed") return;
    if (this.#share && user !== this.user && this.user) this.#switch();
    else this.reconnect();
  }
  #hurry = () => {
    this.#nudge?.();
    if (this.#options.token || !this.#share || globalThis.document?.visibilityState === "hidden" || Date.now() - this.#checked < 60_000) return;
    // The application may have replaced the cookie by another user's.
    this.#checked = Date.now();
    this.#call("GET", "/v1/session").then(({ user }) => this.#signedIn(user), () => {});
  };

  #setState({ status, since, transport, problem }) {
    if (this.status === "closed") return;
    if (problem) this.#hint(problem, this.#greeted);
    const changed = this.status !== status;
    Object.assign(this, { since, transport, problem });
    if (status === "live") this.#refused = 0;
    if (status === "unauthorized" && this.#options.token) this.#share?.yield(backoff(this.#refused++));
    this.status = status;
    if (changed) this.#emit("status", status);
    this.#emit("change");
  }

  #receive(type, data) {
    switch (type) {
      case "hello":
        if (this.user && data.user && data.user !== this.user) return this.#switch();
        if (data.user && this.user !== data.user) this.user = data.user;
        if (this.#greeted) this.#held.begin(); // missed events follow
        this.#greeted = true;
        this.#asOf = data.id;
        this.#fetchAll();
        break;
      case "notification":
        this.#held.take(data);
        break;
      case "job":
        this.#jobs.merge(data);
        break;
      case "inbox":
        this.#inboxNow.stale();
        this.#inbox.known.change(data);
        this.#changed();
        break;
      case "reset":
        this.#forget();
        this.#asOf = data.id;
        this.#emit("reset", data);
        this.#fetchAll();
        break;
      case "live":
        if (!this.#topics.has(data.topic)) return; // of another tab
        for (const { onEvent } of this.#topics.get(data.topic)) this.#run(onEvent, data);
        this.#emit(type, data);
        break;
      case "missed": {
        const topics = data.topics.filter((topic) => this.#topics.has(topic));
        if (!topics.length) return;
        for (const topic of topics) for (const { fetch } of this.#topics.get(topic)) fetch?.run();
        this.#emit(type, { topics });
        break;
      }
      case "refused":
        if (this.#topics.has(data.topic)) this.#emit("error", new HarkError(data.status, data));
        break;
      default:
        this.#emit(type, data);
    }
  }
  #arrive(data) {
    const notification = this.#inbox.known.arrive(data);
    if (!notification) return; // deleted elsewhere meanwhile
    this.#emit("notification", notification);
    this.#showing.add(notification);
    this.#changed();
  }
  #toast(notes) {
    const unread = notes.map((it) => this.#inbox.known.get(it.id)).filter((it) => it?.status === "unread");
    if (unread.length) this.#emit("toast", unread);
  }

  // The merged state.

  #fetchAll() {
    clearTimeout(this.#listTimer);
    this.#jobsNow.run(); this.#inboxNow.run();
  }
  /** A new epoch counts revisions and ids from the start, so no known one can be compared with them. */
  #forget() {
    this.#jobs.clear(); this.#inbox.clear(); this.#showing.clear();
    this.#held.clear();
  }
/** Shows a change of the inbox without delay. The inbox event of the stream, or a new page, confirms or corrects it. */
  async #change(apply, method, path, options) {
    this.#inboxNow.stale();
    const takeBack = apply();
    this.#changed();
    try {
      const answer = await this.#call(method, path, options);
      if (answer?.up_to) { this.#inbox.known.change(answer); this.#changed(); } else if (this.status !== "live") this.#inboxNow.run();
    } catch (err) {
      if (err.status === 404) return; // already deleted in another tab
      takeBack();
      this.#changed();
      this.#inboxNow.run(); // the server may have made the change
      throw err;
    }
  }
  #changed() {
    const { unread } = this;
    if (unread !== this.#unread) this.#emit("unread", (this.#unread = unread));
    this.#emit("change");
  }
  #emit(type, value) {
    for (const handler of this.#handlers.get(type) ?? []) this.#run(handler, value);
  }
  /** One failing handler must not stop the others. */
  #run(handler, value) {
    try { handler(value); } catch (err) { console.error(err); }
  }
}

/** The path of the file of a job, or of a notification of a job's end, relative to hark. */
const filePath = ({ id, job_id }) => `v1/jobs/${encodeURIComponent(job_id ?? id)}/file`;

/**
 * Opens a connection as the user who is signed in here (the cookie), or as the user of a token.
 * @param {{base?: string|URL, token?: () => string|Promise<string>, user?: string}} [options] base: the URL of hark; defaults to
 *   that of this module; token: returns a valid JWT at each call; user: the user of the token, if known, which
 *   saves a request
 * @returns {Hark}
 */
export function connect(options) { return new Hark(options); }
