/**
 * A connection to hark: an event stream or, where streams are blocked, long polling with the same events and ids. It
 * reconnects until it is stopped.
 *
 * - The first event of a stream is hello. A stream without hello within 10 s is mute. So is one without any byte for 40 s:
 *   the server sends a heartbeat every 15 s. After two consecutive mute streams the connection polls. While it polls it
 *   tries a stream from time to time, and switches to it after its hello.
 * - onEvent gets each event as {type, id, prev, data}: prev is the id before it on this connection. So a receiver that has
 *   everything up to prev has everything up to id, and a receiver that has less knows that it has missed something.
 * - A stream listens to the topics that it was opened with. For other topics a second stream is opened, which replaces the
 *   first one after its hello: nothing is missed meanwhile, but a live event may come twice.
 * - The event missed names topics whose live events may be missing. It also comes once for each topic that is new, so that
 *   the page fetches its state then. A topic that the server refuses is left out, with an event refused.
 * - tick() checks all deadlines, once a second and at each call. The browser slows the timers of hidden pages down to one a
 *   minute, but not the messages of other tabs, which call tick(), too.
 */
import { HarkError, caller, requester, withQuery } from "./http.js";
import { EventParser } from "./sse.js";
import { backoff } from "./state.js";
import { sameTopics } from "./topics.js";

/** In ms. */
export const times = {
  hello: 10_000, // until the first event
  quiet: 20_000, // a heartbeat is late: the connection may be dead
  silent: 40_000, // the connection is dead
  steady: 14_000, // a stream that still has events after this time is not mute
  jump: 5_000, // timers were late by this time: the machine slept
  poll: 25_000, // how long a poll waits for events
  pause: 5_000, // between polls that do not wait
  topics: 5_000, // before another try to open a stream with other topics
};
const triesOfStream = [30_000, 60_000, 120_000, 300_000, 600_000]; // while polling, in ms

/**
 * @typedef {{status: import("../hark.js").Status, since: number, transport?: "stream"|"polling",
 *   problem?: {status: number, code: string, detail: string}}} State
 *   since: when it became live or, while it is not live, when the last byte arrived; in ms since 1970
 */
export class Connection {
  #o; #call; #request; #ticker; #timer;
  #line; // the active stream or poll, if there is one
  #spare; // a stream that will replace it after its hello
  #after; // the id from which to resume
  #attempt = 0; #mutes = 0; #tries = 0;
  #retryAt = 0; #spareAt = Infinity; #ticked = 0;
  #stopped = false;
  #topics; // sorted
  #refused = new Set(); // topics
  /** @type {State} */ state;

  /**
   * @param {{base?: string|URL, token?: Function, after?: string, topics?: string[], state?: State, lease?: {take(): boolean, release(): void},
   *   onEvent: (event: {type: string, id: string, prev: string, data: any}) => void, onState: (state: State) => void}} options
   *   after: the position to resume after; topics: to listen to, sorted; lease: taken before a stream is opened, and renewed while it is open. If take() returns
   *   false, the connection polls without waiting, because a waiting call takes one of the browser's six connections
   */
  constructor(options) {
    this.#o = options;
    this.#call = caller(options);
    this.#request = requester(options);
    this.#after = options.after ?? "";
    this.#topics = options.topics ?? [];
    this.state = options.state ?? { status: "connecting", since: Date.now() };
  }

  start() {
    this.#ticked = Date.now();
    this.#ticker = setInterval(() => this.tick(), 1000);
    this.#open();
  }
  stop() {
    this.#stopped = true;
    clearInterval(this.#ticker);
    clearTimeout(this.#timer);
    this.#abort(this.#line);
    this.#abort(this.#spare);
    this.#line = this.#spare = undefined;
    this.#o.lease?.release();
  }
  /**
   * Reconnects without delay unless the connection is live: the network is back, or the user looks at the page.
   * @param {boolean} [changed] the network has changed, so that a live connection may be dead
   */
  wake(changed = false) {
    const line = this.#line, now = Date.now();
    if (this.#stopped || (line?.live && !changed && now - line.heard < this.#quiet(line)) || (line && !line.live && now - line.began < 2000)) return;
    this.#attempt = 0;
    this.#open();
  }
  /** Reconnects and resumes after another position, since a tab has missed events after it. */
  resume(after) {
    this.#after = after;
    this.#open();
  }

  /**
   * Listens to other topics from now on.
   * @param {string[]} topics sorted
   * @param {string[]} [again] those to try again if the server has refused them
   */
  listen(topics, again = []) {
    this.#topics = topics;
    for (const topic of again) this.#refused.delete(topic);
    const line = this.#line;
    if (this.#stopped || !line || sameTopics(this.#permitted(), (this.#spare ?? line).topics)) return;
    if (line.kind !== "stream" || !line.live) return this.#open();
    this.#abort(this.#spare);
    this.#spareAt = Infinity;
    this.#spare = this.#run("stream");
  }
  /** The topics that a line listens to and that nothing was missed of, if it is live. */
  get listening() { return this.#line?.live ? this.#line.topics : []; }
  #permitted = () => this.#topics.filter((topic) => !this.#refused.has(topic));

  /** Checks all deadlines. */
  tick() {
    if (this.#stopped) return;
    const now = Date.now(), gone = now - this.#ticked, line = this.#line;
    this.#ticked = now;
    const jumped = gone > times.jump || gone < 0;
    if (!line) {
      if (!jumped && now < this.#retryAt) return;
      if (jumped) this.#attempt = 0;
      return this.#open();
    }
    if (gone < 0) line.heard = Math.min(line.heard, now);
    const silent = now - line.heard;
    if (!line.live) {
      if (now - line.began > times.hello) this.#mute(line, `The server has not responded for ${times.hello / 1000} s.`);
    } else if (jumped && silent > this.#quiet(line)) {
      this.#attempt = 0;
      this.#say("reconnecting");
      this.#open();
    } else if (line.kind === "stream" && silent > times.silent) {
      this.#mute(line, `The server has sent nothing for ${times.silent / 1000} s.`);
    } else {
      this.#say(silent > this.#quiet(line) ? "reconnecting" : "live");
      this.#tickSpare(now);
    }
  }
  #tickSpare(now) {
    const line = this.#line, spare = this.#spare;
    if (spare && now - spare.began > times.hello) return this.#lost(spare);
    if (line.kind === "stream" && this.#o.lease?.take() === false) return this.#open(); // other tabs have all leases
    if (!spare && now >= this.#spareAt && this.#o.lease?.take() !== false) {
      this.#spareAt = Infinity;
      this.#spare = this.#run("stream");
    }
  }
  #quiet = (line) => (line.kind === "stream" ? times.quiet : times.poll + times.hello);

  #open() {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    this.#abort(this.#line);
    this.#abort(this.#spare);
    this.#spare = undefined;
    const leased = this.#o.lease?.take() !== false;
    this.#line = this.#run(leased && this.#mutes < 2 ? "stream" : "polling", !leased);
    this.#spareAt = this.#line.kind === "stream" ? Infinity : Date.now() + triesOfStream[Math.min(this.#tries++, triesOfStream.length - 1)];
  }
  #run(kind, short = false) {
    const now = Date.now();
    const line = { kind, short, abort: new AbortController(), began: now, heard: now, live: false, after: this.#after, fresh: !this.#after, topics: this.#permitted() };
    const run = kind === "stream" ? this.#stream(line) : this.#poll(line);
    run.then(() => this.#lost(line), (err) => this.#lost(line, err));
    return line;
  }
  #abort(line) { line?.abort.abort(new HarkError(0, { code: "ended" })); }

  async #stream(line) {
    const { signal } = line.abort;
    // In the URL, because the header would need a preflight from another origin.
    const response = await this.#request("GET", withQuery("/v1/stream", { last_event_id: line.after, topic: line.topics }), { headers: { Accept: "text/event-stream" }, signal });
    if (!/^text\/event-stream\b/i.test(response.headers.get("Content-Type") ?? "")) {
      throw new HarkError(0, { code: "not_a_stream", detail: "The response is not from hark, but from a proxy or a firewall." });
    }
    const parser = new EventParser(({ type, id, data }) => this.#receive(line, type, id, data));
    const reader = response.body.getReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        line.heard = Date.now();
        if (line.live && line === this.#line) this.#say("live");
        if (line.live && line.heard - line.hello > times.steady) this.#mutes = this.#attempt = this.#tries = 0;
        parser.push(value);
        line.retry = parser.retry;
      }
    } catch (err) {
      if (err instanceof HarkError) throw err;
      throw new HarkError(0, { detail: "The connection to the server was lost." });
    }
  }

  async #poll(line) {
    const { signal } = line.abort;
    for (let stream; ;) {
      const wait = line.short ? 0 : times.poll / 1000;
      const answer = await this.#call("GET", withQuery("/v1/events", { after: line.after, wait, stream, topic: line.topics }), { signal, limit: wait * 1000 + times.hello });
      if (!Array.isArray(answer?.events)) throw new HarkError(0, { code: "not_events", detail: "The response is not from hark, but from a proxy or a firewall." });
      stream = answer.stream;
      line.heard = Date.now();
      for (const { event, id, data } of answer.events) this.#receive(line, event, id ?? "", data);
      // The position can be after the last event's id. The next poll must send it unchanged.
      if (answer.id && answer.id !== line.after) this.#receive(line, "position", answer.id, {});
      if (line.live && line.heard - line.hello > times.steady) this.#attempt = 0;
      if (line.bye) return;
      if (line.short) await pause(times.pause * (0.75 + Math.random() / 2), signal);
    }
  }

  #receive(line, type, id, text) {
    if (this.#stopped || (line !== this.#line && line !== this.#spare)) return;
    let data = text;
    if (typeof text === "string") {
      try { data = JSON.parse(text); } catch { return; }
    }
    if (type === "hello") this.#greeted(line, data.id ?? id);
    else if (line !== this.#line) return;
    if (type === "missed" && line.covered) {
      data = { topics: data.topics.filter((topic) => !line.covered.includes(topic)) };
      line.covered = undefined; // what comes later is missing indeed
      if (!data.topics.length) return;
    }
    if (type === "bye") line.bye = data.code || "bye";
    const prev = line.after || id;
    if (id) line.after = id; // a hello before a reset has none
    this.#after = line.after;
    if (type === "auth" && this.#o.token && line.kind === "stream") this.#spareAt = Date.now() + Math.random() * 20_000; // with a new token
    this.#o.onEvent({ type, id, prev, data });
    if (type === "hello" && line.fresh && line.topics.length && !this.#stopped) this.#own("missed", { topics: line.topics });
  }
  /** Emits an event that is not from the server. */
  #own(type, data) { this.#o.onEvent({ type, id: "", prev: "", data }); }
  #greeted(line) {
    if (line === this.#spare) {
      if (this.#line.kind === "stream" && this.#line.live) line.covered = this.#line.topics;
      this.#abort(this.#line);
      this.#line = line;
      this.#spare = undefined;
      this.#spareAt = Infinity;
      this.#mutes = 0;
    }
    line.live = true;
    line.hello = line.heard = Date.now();
    this.#say("live");
  }

  #mute(line, detail) {
    this.#mutes++;
    this.#lost(line, new HarkError(0, { code: "silent", detail }));
  }
  #lost(line, err) {
    const spare = line === this.#spare;
    if (this.#stopped || (line !== this.#line && !spare)) return;
    this.#abort(line);
    const now = Date.now(), refused = err?.problem?.topic;
    if (refused && !this.#refused.has(refused)) {
      this.#refused.add(refused);
      this.#own("refused", { topic: refused, status: err.status, code: err.code, detail: err.message });
      if (this.#stopped) return;
      if (!spare) return this.#open();
    }
    if (spare) {
      this.#spare = undefined;
      if (this.#line.kind === "stream" && !sameTopics(this.#permitted(), this.#line.topics)) this.#spareAt = refused ? 0 : now + times.topics;
      else this.#spareAt = this.#line.kind === "stream" ? Infinity : now + triesOfStream[Math.min(this.#tries++, triesOfStream.length - 1)];
      return;
    }
    this.#line = undefined;
    if (line.live && now - line.hello > times.jump) this.#attempt = 0;
    // Polling fails, too, so streams may not be blocked: try a stream next.
    if (line.kind === "polling" && !line.live) this.#mutes = Math.min(this.#mutes, 1);
    // Reconnecting without delay would only push out another tab.
    if (line.bye === "too_many_streams") this.#attempt = 5;
    let wait = line.bye === "token_expired" ? Math.random() * 300 : line.bye && line.retry !== undefined ? line.retry : backoff(this.#attempt++);
    if (err?.retryAfter) wait = Math.max(wait, Math.min(err.retryAfter, 300_000));
    this.#retryAt = now + wait;
    this.#timer = setTimeout(() => this.tick(), wait + 1);
    const offline = globalThis.navigator?.onLine === false || this.#attempt > 4;
    this.#say(err?.status === 401 ? "unauthorized" : offline ? "offline" : "reconnecting", err, line.heard);
  }

  #say(status, err, heard = this.#line?.heard) {
    const before = this.state;
    const problem = err && { status: err.status, code: err.code, detail: err.message };
    const transport = status === "live" ? this.#line.kind : undefined;
    if (before.status === status && before.transport === transport && (before.problem?.code === problem?.code || !problem)) return;
    const wasLive = before.status === "live";
    const since = status === "live" ? (wasLive ? before.since : Date.now()) : wasLive ? heard : before.since;
    this.state = { status, since, transport, problem: problem ?? (status === "live" ? undefined : before.problem) };
    this.#o.onState(this.state);
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}
