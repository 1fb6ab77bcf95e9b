/**
 * One connection for all tabs and frames of one user on one origin. One tab, the leader, has the connection. The others, the
 * followers, receive its events over a BroadcastChannel.
 *
 * Election. The leader is the tab that has the Web Lock of the group. All others wait for the lock, so when a tab is closed,
 * crashes or is discarded, the browser grants the lock to the next tab without delay. A tab that is about to be frozen or to
 * enter the back-forward cache releases the lock. A tab that hangs does not: followers send "ping" when the leader has been
 * silent for a moment, and a follower without a response steals the lock. Then the lock request of the former leader is
 * rejected, and it becomes a follower. The time limit grows with each theft of the last minute, so that the lead does not
 * move around on a busy machine. Pings also drive the deadlines: the browser slows down the timers of a hidden leader, but
 * never its messages.
 *
 * Completeness. Each tab has a Flow (flow.js), which has the position up to which the tab has everything. Each event has the
 * position before it in the leader's stream.
 * - A new leader resumes after its own position, which its hello has. A follower that has less has a gap.
 * - After a gap (a lost message, a frozen tab, a leader that began later) a follower sends "join" with its position. The leader
 *   responds with "sync" and the notifications after that position. If it does not have all of them, it resumes its stream after
 *   that position: the log is the buffer. All tabs receive them again, and only tabs that have missed them take them.
 * - A new tab joins without a position. The leader's "sync" has the end of the log, and the tab fetches its lists as of there.
 * - A former leader that wakes up may still send events. A tab takes events only from the current leader. After an event from
 *   another tab it sends "join". A duplicate moves a mark to where the Flow has been.
 * - If the hello is for another user (the cookie has changed), the leader leaves the group and does not pass it on.
 *
 * Toasts. Each tab receives each notification, and one tab shows it: the tab that the user looked at last, while it is visible.
 * It sends "shown". If no tab has done so after a moment, the leader shows it. If a tab has sent "look" and no "away", the
 * leader waits longer. If that tab still shows nothing, it counts as gone until its next "look". A tab that the user looks at
 * sends "look" again after "shown" of another tab, and after "lead" of a new leader, which may not know of it.
 *
 * Topics. Each tab sends the topics that it wants to listen to: when it joins, when they change, when there is a new leader,
 * and every 30 s. The stream of the leader listens to all of them, and each tab picks its own events. If the stream listens
 * already to a topic that is new in a tab, or to one of a tab that joins, the leader sends "missed": the tab does not have the
 * events from before.
 *
 * Without Web Locks or BroadcastChannel (on pages that are neither HTTPS nor localhost) each tab is its own leader.
 *
 * Messages: {t, from, …} with t one of
 *   join {at, topics} · topics {topics} · missed {to, topics} · sync {to, at, events, state} · lead {stole} · event {event} · state {state} · ping · pong · wake ·
 *   look · away · shown {id}
 */
import { Flow, covers, join, meet } from "./flow.js";
import { epochOf } from "./state.js";
import { Wanted, roomFor, topicTimes } from "./topics.js";

/** In ms. */
export const shareTimes = { tick: 250, ask: 450, silent: 1500, late: 1250, again: 1000, resume: 200 };

/** Whether tabs can share here. */
export const canShare = () => Boolean(globalThis.BroadcastChannel && globalThis.navigator?.locks?.request);

export class Share {
  flow = new Flow();
  leading = false;
  /** Whether this is the tab that the user looks at. */ looking = false;
  #looker; // the other tab that the user looks at, if known
  /** @type {import("./connection.js").State|undefined} */ state;
  #o; #id = Math.random().toString(36).slice(2); #channel; #connection; #release; #waiting; #ticker;
  #leader; #heard = 0; #asked = 0; #ticked = 0; #joined = 0; #stolen = []; #missing; #resuming; #asking;
  #up = false;
  #wanted = new Wanted(); #told = 0; #beyond = new Set(); // topics that no stream has room for
  #patience = Math.random() * 200;

  /**
   * @param {{name?: string, user?: string, connect: (options: object) => import("./connection.js").Connection,
   *   onEvent: (type: string, data: any) => void, onState: (state: object) => void, onShown: (id: string) => void,
   *   onUser: (user: string) => void, topics?: () => string[]}} options
   *   name: of the group; without one the tab is alone. onEvent: a new event; "hello" also when the tab has joined and must
   *   fetch its lists. onUser: the stream belongs to another user. topics: those that this tab listens to; listen() says that
   *   they have changed.
   */
  constructor(options) { this.#o = options; }

  start() {
    globalThis.addEventListener?.("pagehide", this.#suspend);
    globalThis.addEventListener?.("pageshow", this.#resume);
    globalThis.addEventListener?.("online", this.#online);
    globalThis.addEventListener?.("focus", this.#look);
    const { document } = globalThis;
    document?.addEventListener("freeze", this.#suspend);
    document?.addEventListener("resume", this.#resume);
    document?.addEventListener("visibilitychange", this.#look);
    this.#enter();
  }
  stop() {
    this.#leave();
    globalThis.removeEventListener?.("pagehide", this.#suspend);
    globalThis.removeEventListener?.("pageshow", this.#resume);
    globalThis.removeEventListener?.("online", this.#online);
    globalThis.removeEventListener?.("focus", this.#look);
    const { document } = globalThis;
    document?.removeEventListener("freeze", this.#suspend);
    document?.removeEventListener("resume", this.#resume);
    document?.removeEventListener("visibilitychange", this.#look);
  }

  // Joining and leaving the group.

  #enter() {
    if (this.#up) return;
    this.#up = true;
    this.#ticked = this.#heard = this.#told = Date.now();
    this.#wanted.set(this.#id, this.#mine);
    if (!this.#o.name) {
      this.#lead();
    } else {
      this.#channel = new BroadcastChannel(this.#o.name);
      this.#channel.onmessage = ({ data }) => this.#receive(data);
      this.#ticker = setInterval(() => this.#tick(), shareTimes.tick);
      this.#join();
      this.#queue();
    }
    this.#look();
  }
  #leave() {
    if (this.#up && this.#mine.length) this.#post({ t: "topics", topics: [] });
    this.#up = false;
    clearInterval(this.#ticker);
    this.#follow();
    clearTimeout(this.#asking);
    this.#asking = undefined;
    this.#waiting?.abort();
    this.#lookAway();
    this.#channel?.close();
    this.#channel = this.#waiting = this.#leader = this.#looker = undefined;
  }
  #suspend = () => { if (this.#up) this.#leave(); };
  #resume = (event) => {
    if (this.#up || (event.type === "pageshow" && !event.persisted)) return;
    this.#enter();
  };
  /** Gives up the lead for some ms: another tab may have a valid token. */
  yield(ms) {
    if (!this.#channel || !this.leading) return;
    this.#follow();
    setTimeout(() => { if (this.#up && !this.leading && !this.#waiting) this.#queue(); }, ms);
  }

  // The lock.

  async #queue(steal = false) {
    this.#waiting?.abort();
    const waiting = (this.#waiting = new AbortController());
    let release;
    try {
      await navigator.locks.request(this.#o.name, steal ? { steal } : { signal: waiting.signal }, () => {
        if (waiting.signal.aborted || this.#waiting !== waiting) return undefined;
        return new Promise((resolve) => {
          release = this.#release = resolve;
          this.#waiting = undefined;
          this.#lead(steal);
        });
      });
    } catch (err) {
      if (this.#waiting === waiting) this.#waiting = undefined;
      if (err?.name !== "AbortError") return this.#alone(); // such as SecurityError, in a frame without an origin
      // If this tab had the lock, another tab has stolen it.
      if (!release || this.#release !== release) return;
      this.#release = undefined;
      this.#follow();
      if (this.#up) {
        this.#heard = Date.now();
        this.#queue();
        this.#join();
      }
    }
  }
  #alone() {
    if (!this.#up) return;
    this.#leave();
    this.#o.name = undefined;
    this.#enter();
  }

  #lead(stole = false) {
    if (stole) this.#stolen.push(Date.now());
    this.leading = true;
    this.#leader = this.#id;
    this.#connection = this.#o.connect({
      after: this.flow.at, state: this.state, topics: this.#room(),
      onEvent: (event) => this.#hand(event),
      onState: (state) => this.#show(state),
    });
    this.state ??= this.#connection.state;
    this.#post({ t: "lead", stole });
    this.#connection.start();
  }
  #follow() {
    this.leading = false;
    clearTimeout(this.#resuming);
    this.#resuming = this.#missing = undefined;
    this.#connection?.stop();
    this.#connection = undefined;
    if (this.#leader === this.#id) this.#leader = undefined;
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }

  // The leader.

  #hand(event) {
    if (event.type === "hello" && this.#o.user !== undefined && event.data.user !== this.#o.user) return this.#o.onUser(event.data.user);
    if (event.type === "auth") return this.#o.onEvent("auth", event.data); // one tab is enough
    if (event.type === "heartbeat") return;
    this.#post({ t: "event", event });
    this.#take(event);
  }
  #show(state) {
    this.state = state;
    this.#post({ t: "state", state });
    this.#o.onState(state);
  }
  #sync(to, at) {
    const events = at && epochOf(at) === epochOf(this.flow.at) ? this.flow.since(at) : [];
    this.#post({ t: "sync", to, at: this.flow.at, events, state: this.state });
    if (events) return;
    // Several tabs may ask at the same time. Resume after what all of them have.
    this.#missing = this.#missing === undefined ? at : meet(this.#missing, at);
    this.#resuming ??= setTimeout(() => {
      this.#connection?.resume(this.#missing);
      this.#resuming = this.#missing = undefined;
    }, shareTimes.resume);
  }

  // The follower.

  #join() {
    this.#joined = Date.now();
    this.#post({ t: "join", at: this.flow.at, topics: this.#mine });
  }
  #synced({ at, events, state, from }) {
    this.#leader = from;
    this.state = state;
    this.#o.onState(state);
    if (!at) return; // the leader has no position yet; its hello follows
    if (!this.flow.at) this.flow.begin(at);
    else if (epochOf(at) !== epochOf(this.flow.at)) return this.#take({ type: "reset", id: at, prev: at, data: { reason: "epoch", id: at } });
    this.#o.onEvent("hello", { user: this.#o.user, id: at });
    for (const event of events ?? []) if (this.flow.take(event, true) === "new") this.#o.onEvent(event.type, event.data);
  }
  #take(event) {
    const { type, id, prev, data } = event;
    if (type === "hello" && !id) return this.#o.onEvent(type, data); // a reset follows
    if (type === "reset" || (type === "hello" && (!this.flow.at || epochOf(id) !== epochOf(this.flow.at)))) {
      const begun = this.flow.at;
      this.flow.begin(id);
      return this.#o.onEvent(begun ? "reset" : type, data);
    }
    if (type === "hello") {
      if (!covers(this.flow.at, prev)) return this.#gap();
      this.flow.at = join(this.flow.at, id);
      return this.#o.onEvent(type, data);
    }
    const found = this.flow.take(event);
    if (found === "gap") this.#gap();
    if (found === "new" && type !== "position") this.#o.onEvent(type, data);
  }
  #gap() {
    if (this.leading) return;
    this.#asking ??= setTimeout(() => { this.#asking = undefined; this.#join(); }, Math.max(0, this.#joined + shareTimes.again - Date.now()));
  }

  #tick() {
    const now = Date.now(), gone = now - this.#ticked;
    this.#ticked = now;
    this.#tickTopics(now);
    if (this.leading || !this.#waiting) return;
    // A tab whose timer was late may have missed messages.
    if (gone > shareTimes.late || gone < 0) {
      this.#heard = now;
      this.#join();
      return;
    }
    const silent = now - this.#heard;
    this.#stolen = this.#stolen.filter((at) => now - at < 60_000);
    if (silent > shareTimes.silent * 2 ** Math.min(this.#stolen.length, 4) + this.#patience) {
      this.#heard = now;
      this.#queue(true);
    } else if (silent > shareTimes.ask && now - this.#asked > shareTimes.ask) {
      this.#asked = now;
      this.#post({ t: "ping" });
    }
  }

  // Topics.

  get #mine() { return this.#o.topics?.() ?? []; }
  /** The topics of this tab have changed. */
  listen() {
    if (!this.#up) return;
    this.#told = Date.now();
    this.#post({ t: "topics", topics: this.#mine });
    this.#want(this.#id, this.#mine);
  }
  /** Notes the topics of a tab. The leader listens to them. */
  #want(tab, topics, joined = false) {
    const added = this.#wanted.set(tab, topics);
    for (const topic of added) this.#beyond.delete(topic);
    if (!this.leading) return;
    const has = (joined ? topics : added).filter((topic) => this.#connection.listening.includes(topic));
    if (tab === this.#id) this.#miss(has);
    else if (has.length) this.#post({ t: "missed", to: tab, topics: has });
    this.#connection.listen(this.#room(), added); // a tab with a topic that was refused gets an answer of its own
  }
  #miss(topics) { if (topics.length) this.#o.onEvent("missed", { topics }); }
  /** The topics that a stream has room for. */
  #room() {
    const all = this.#wanted.all, room = roomFor(all), detail = `The tabs of this browser listen to more topics than the ${room} that one stream has room for.`;
    for (const topic of all.slice(room)) {
      if (this.#beyond.has(topic)) continue;
      this.#beyond.add(topic);
      this.#hand({ type: "refused", id: "", prev: "", data: { topic, status: 0, code: "too_many_topics", detail } });
    }
    return all.slice(0, room);
  }
  #tickTopics(now) {
    if (now - this.#told < topicTimes.repeat) return;
    this.#told = now;
    if (this.#mine.length) this.#post({ t: "topics", topics: this.#mine });
    this.#wanted.set(this.#id, this.#mine);
    this.#wanted.expire();
    if (this.leading) this.#connection.listen(this.#room());
  }

  // Messages.

  #post(message) { this.#channel?.postMessage({ ...message, from: this.#id }); }

  #receive(message) {
    const { t, from } = message;
    if (!this.#up) return;
    if (t === "join" || t === "topics") this.#want(from, message.topics, t === "join");
    if (this.leading) {
      if (t === "join") this.#sync(from, message.at);
      else if (t === "ping") { this.#connection.tick(); this.#post({ t: "pong" }); }
      else if (t === "wake") this.#connection.wake();
    } else {
      if (t === "ping") this.#asked = Date.now(); // one pinging tab is enough
      if (t === "lead") {
        if (message.stole) this.#stolen.push(Date.now());
        this.#leader = from;
        if (!this.flow.at) this.#join();
        else if (this.#mine.length) this.#post({ t: "topics", topics: this.#mine }); // the new leader may not know them
      }
      if (t === "missed" && message.to === this.#id) this.#miss(message.topics);
      if (t === "sync" && message.to === this.#id) this.#synced(message);
      if (["lead", "pong", "sync", "event", "state"].includes(t) && (!this.#leader || from === this.#leader)) this.#heard = Date.now();
      if (t === "event" && from !== this.#leader) this.#gap();
      else if (t === "event") this.#take(message.event);
      else if (t === "state" && from === this.#leader) { this.state = message.state; this.#o.onState(message.state); }
    }
    if (t === "look") [this.looking, this.#looker] = [false, from];
    if (t === "away" && this.#looker === from) this.#looker = undefined;
    if (t === "shown") {
      this.#o.onShown(message.id);
      if (this.#looker !== from) this.#looker = undefined;
    }
    if (this.looking && (t === "shown" || t === "lead")) this.#post({ t: "look" });
  }

  // The user.

  /** Reconnects without delay unless the connection is live. */
  wake() {
    if (this.leading) this.#connection.wake();
    else this.#post({ t: "wake" });
  }
  #online = () => {
    if (this.leading) this.#connection.wake(true); // the connection may be dead
  };
  #look = () => {
    const { document } = globalThis;
    if (!document) { this.looking = true; return; }
    if (document.visibilityState !== "visible") return this.#lookAway();
    if (!this.#up) return;
    if (!this.looking) this.#post({ t: "look" });
    [this.looking, this.#looker] = [true, undefined];
    if (this.state?.status !== "live") this.wake();
  };
  #lookAway() {
    if (this.looking) this.#post({ t: "away" });
    this.looking = false;
  }
  /** Whether the user looks at another known tab. */
  get looked() { return Boolean(this.#looker); }
  /** Tells the other tabs that this tab has shown the notifications up to an id. */
  shown(id) {
    this.#post({ t: "shown", id });
    this.#looker = undefined; // that tab has not shown them
  }
}
