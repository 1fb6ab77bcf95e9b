/**
 * The state of hark's browser client, and the rules for merging it. Nothing here makes requests, so that each rule can be
 * tested by itself.
 */

/** The delay before retry number `attempt` (from 0), in ms: doubled up to 30 s, with jitter in the upper half. */
export function backoff(attempt, random = Math.random) {
  const most = Math.min(30_000, 1000 * 2 ** Math.min(attempt, 5));
  return most / 2 + random() * (most / 2);
}

/** Orders two notification ids, "<epoch in base 36>-<seq>", as numbers: negative, 0 or positive. "" comes first. */
export function compareIds(a, b) {
  const [epochA, seqA] = digits(a), [epochB, seqB] = digits(b);
  return compareDigits(epochA, epochB) || compareDigits(seqA, seqB);
}
// Compared as digits, since a sequence may be larger than the exact integers of a double.
export const digits = (id) => String(id || "0-0").toLowerCase().split("-").map((part) => part.replace(/^0+/, ""));
export const compareDigits = (a = "", b = "") => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
/** The epoch of an id, or of a position. */
export const epochOf = (id) => digits(id)[0];

export const hasEnded = (job) => job.state === "succeeded" || job.state === "failed" || job.state === "cancelled";

/** The known jobs. Of two versions of a job the one with the greater revision stays, in any order of arrival. */
export class Jobs {
  #byId = new Map();

  /** @returns {boolean} whether the version is newer */
  merge(job) {
    const known = this.#byId.get(job.id);
    if (known && known.revision >= job.revision) return false;
    this.#byId.set(job.id, job);
    return true;
  }
  get(id) { return this.#byId.get(id); }
  drop(id) { return this.#byId.delete(id); }
  clear() { this.#byId.clear(); }
  /** @returns {Job[]} newest first */
  list() {
    return [...this.#byId.values()].sort((a, b) => Date.parse(b.created_at) - Date.parse(a.created_at) || (a.id < b.id ? 1 : -1));
  }
}

/** The number at which the server stops counting unread notifications: it means this number or more. */
export const countLimit = 1000;

/**
 * The known notifications, and the unread number: the server's count up to some id, plus what has arrived after that id.
 * Reading and deleting are permanent, so a late page never undoes them. Changes during a disconnect are known from the next
 * page.
 */
export class Inbox {
  #byId = new Map();
  #deleted = new Set();
  #read = new Set();
  #readUpTo = "";
  #counted = 0;
  #countedUpTo = "";
  #listedUpTo = "";
  #floor = "";

  get unread() {
    let n = this.#counted;
    for (const it of this.#byId.values()) if (it.status === "unread" && compareIds(it.id, this.#countedUpTo) > 0) n++;
    return Math.max(0, n);
  }
  /** All notifications from this id on are known. "" if none is older, or nothing was listed. */ get floor() { return this.#floor; }
  get size() { return this.#byId.size; }
  get newest() { return this.list()[0]?.id ?? ""; }
  get(id) { return this.#byId.get(id); }
  /** @returns {Notification[]} newest first */
  list() { return [...this.#byId.values()].sort((a, b) => compareIds(b.id, a.id)); }

  /** Adds a notification of a page. */
  add(notification) {
    const { id } = notification;
    if (this.#deleted.has(id)) return;
    const known = this.#byId.get(id);
    const read = notification.status === "read" || known?.status === "read" || this.#read.has(id) ||
      (this.#readUpTo && compareIds(id, this.#readUpTo) <= 0);
    this.#byId.set(id, { ...known, ...notification, status: read ? "read" : "unread" });
  }
  /**
   * Adds a notification that arrived on the stream: live, or after an absence, when the inbox may have been listed after it
   * was stored. Returns its known version; undefined if it is deleted. A notification below the floor was not listed, so its
   * state is unknown: it is returned, and not kept.
   * @returns {Notification|undefined}
   */
  arrive(notification) {
    const { id } = notification;
    if (compareIds(id, this.#listedUpTo) > 0 || this.#byId.has(id)) {
      this.add({ status: "unread", ...notification });
      return this.#byId.get(id);
    }
    return compareIds(id, this.#floor) < 0 ? { status: "unread", ...notification } : undefined;
  }
  /**
   * Applies a state of the inbox: its newest pages down to a floor ("" if they reach its end), maybe others below it, and the
   * position of the inbox. All other known notifications up to there are dropped: they are deleted or, below the floor, not
   * listed.
   */
  snapshot({ notifications, unread, up_to: upTo = "" }, floor = "") {
    const listed = new Set(notifications.map((it) => it.id));
    for (const id of this.#byId.keys()) if (compareIds(id, upTo) <= 0 && !listed.has(id)) this.#byId.delete(id);
    notifications.forEach((it) => this.add(it));
    this.#counted = unread;
    this.#countedUpTo = this.#listedUpTo = upTo;
    this.#floor = floor;
  }
  /** The next page below the floor was added, and reaches down to another one. */
  lower(floor) { this.#floor = floor; }
  /** Applies an inbox event: something was read or deleted, in any tab. */
  change({ unread, read = [], read_up_to: readUpTo, deleted = [], up_to: upTo }) {
    this.markRead(read, readUpTo);
    deleted.forEach((id) => this.remove(id));
    if (unread === undefined) return;
    this.#counted = unread;
    if (upTo) this.#countedUpTo = upTo;
  }
  /** Marks these, and all up to an id, as read before the server confirms it. Returns a function that undoes it. */
  markRead(ids, upTo = "") {
    const fresh = ids.filter((id) => !this.#read.has(id)), before = this.#readUpTo, changed = [];
    fresh.forEach((id) => this.#read.add(id));
    if (compareIds(upTo, before) > 0) this.#readUpTo = upTo;
    for (const it of this.#byId.values()) {
      if (it.status === "read" || !(this.#read.has(it.id) || (upTo && compareIds(it.id, upTo) <= 0))) continue;
      this.#byId.set(it.id, { ...it, status: "read", read_at: new Date().toISOString() });
      this.#count(it.id, -1);
      changed.push(it);
    }
    return () => {
      fresh.forEach((id) => this.#read.delete(id));
      if (this.#readUpTo === upTo) this.#readUpTo = before;
      for (const it of changed) {
        if (!this.#byId.has(it.id)) continue;
        this.#byId.set(it.id, it);
        this.#count(it.id, 1);
      }
    };
  }
  /** Deletes a notification before the server confirms it. Returns a function that undoes it. */
  remove(id) {
    const it = this.#byId.get(id);
    this.#deleted.add(id);
    this.#byId.delete(id);
    if (it?.status === "unread") this.#count(id, -1);
    return () => {
      this.#deleted.delete(id);
      if (it) this.#byId.set(id, it);
      if (it?.status === "unread") this.#count(id, 1);
    };
  }
  /** Notifications after the server's count are counted one by one. */
  #count(id, by) { if (compareIds(id, this.#countedUpTo) <= 0) this.#counted += by; }
  clear() {
    this.#byId.clear(); this.#deleted.clear(); this.#read.clear();
    this.#readUpTo = this.#countedUpTo = this.#listedUpTo = this.#floor = "";
    this.#counted = 0;
  }
}

/** Fetches the current state; again if something has changed meanwhile, and later if that has failed. */
export function snapshot(load, apply, report) {
  let running = false, again = false, failures = 0, timer;
  async function run() {
    again = true;
    clearTimeout(timer);
    if (running) return;
    running = true;
    try {
      // Ten rounds at most: with constant changes a slightly old page is better than none.
      for (let round = 0; again && round < 10; round++) {
        again = false;
        const page = await load();
        if (!again || round === 9) apply(page);
      }
      failures = 0;
    } catch (err) {
      timer = setTimeout(run, backoff(failures++));
      report(err);
    } finally {
      running = false;
    }
  }
  return { run, /** The running fetch may be older than the known state. */ stale() { again = running; }, stop() { clearTimeout(timer); } };
}
