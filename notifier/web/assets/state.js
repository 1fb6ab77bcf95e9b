/**
 * What hark's browser client knows, and how versions of it are merged. Nothing here touches the network,
 * the clock apart, so that every rule can be tested by itself.
 */

/** How long to wait before try number `attempt` (from 0), in ms: doubling to 30 s, the upper half at random. */
export function backoff(attempt, random = Math.random) {
  const most = Math.min(30_000, 1000 * 2 ** Math.min(attempt, 5));
  return most / 2 + random() * (most / 2);
}

/** Orders two notification ids, "<epoch in base 36>-<seq>", as numbers: negative, 0 or positive. "" comes first. */
export function compareIds(a, b) {
  const [epochA, seqA] = digits(a), [epochB, seqB] = digits(b);
  return compareDigits(epochA, epochB) || compareDigits(seqA, seqB);
}
// Compared as digits, not as numbers: a sequence may be larger than what a double holds exactly.
const digits = (id) => String(id || "0-0").toLowerCase().split("-").map((part) => part.replace(/^0+/, ""));
const compareDigits = (a = "", b = "") => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
/** The incarnation of the stream an id belongs to. */
export const epochOf = (id) => digits(id)[0];

export const hasEnded = (job) => job.state === "succeeded" || job.state === "failed" || job.state === "cancelled";

/** The jobs known here; of two versions of one job the greater revision stays, in whatever order they came. */
export class Jobs {
  #byId = new Map();

  /** @returns {boolean} whether the job was news */
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

/** Where the server stops counting what is unread: that many means that many or more. */
export const countLimit = 1000;

/**
 * The notifications known here, and the unread number: what the server counted up to some id, and
 * what arrived after that id. Reading and deleting are for ever, so a late page never undoes them.
 */
export class Inbox {
  #byId = new Map();
  #deleted = new Set();
  #read = new Set();
  #readUpTo = "";
  #counted = 0;
  #countedUpTo = "";

  get unread() {
    let n = this.#counted;
    for (const it of this.#byId.values()) if (it.status === "unread" && compareIds(it.id, this.#countedUpTo) > 0) n++;
    return Math.max(0, n);
  }
  get newest() { return this.list()[0]?.id ?? ""; }
  get(id) { return this.#byId.get(id); }
  /** @returns {Notification[]} newest first */
  list() { return [...this.#byId.values()].sort((a, b) => compareIds(b.id, a.id)); }

  /** One that arrived on the stream, or on a page of the list. */
  add(notification) {
    const { id } = notification;
    if (this.#deleted.has(id)) return;
    const known = this.#byId.get(id);
    const read = notification.status === "read" || known?.status === "read" || this.#read.has(id) ||
      (this.#readUpTo && compareIds(id, this.#readUpTo) <= 0);
    this.#byId.set(id, { ...known, ...notification, status: read ? "read" : "unread" });
  }
  /** The newest page of the whole list, with the count that goes with it. */
  snapshot({ notifications, unread }) {
    notifications.forEach((it) => this.add(it));
    this.#counted = unread;
    this.#countedUpTo = notifications.length ? notifications[0].id : "";
  }
  /** The stream's word that something was read or deleted, in whatever tab. */
  change({ unread, read = [], read_up_to: readUpTo, deleted = [], up_to: upTo }) {
    this.markRead(read, readUpTo);
    deleted.forEach((id) => this.remove(id));
    if (unread === undefined) return;
    this.#counted = unread;
    if (upTo) this.#countedUpTo = upTo;
  }
  /** Marks these, and all up to an id, before the server has said so. Answers what takes it back. */
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
  /** Deletes one before the server has said so. Answers what takes it back. */
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
  /** Those after the id the server counted up to are counted one by one anyway. */
  #count(id, by) { if (compareIds(id, this.#countedUpTo) <= 0) this.#counted += by; }
  clear() {
    this.#byId.clear(); this.#deleted.clear(); this.#read.clear();
    this.#readUpTo = this.#countedUpTo = "";
    this.#counted = 0;
  }
}

/** Fetches what stands, and again when something came in between, and again later when that failed. */
export function snapshot(load, apply, report) {
  let running = false, again = false, failures = 0, timer;
  async function run() {
    again = true;
    clearTimeout(timer);
    if (running) return;
    running = true;
    try {
      // Ten rounds at most: under a steady rain of changes a slightly old page is better than none.
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
  return { run, /** What is being fetched may be older than what is known. */ stale() { again = running; }, stop() { clearTimeout(timer); } };
}
