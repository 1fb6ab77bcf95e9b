/**
 * A browser for the tests: tabs with windows and documents of their own, BroadcastChannels and Web Locks between them. A tab
 * can hang, be frozen, go into the back-forward cache and crash.
 */
import { AsyncLocalStorage } from "node:async_hooks";

const current = new AsyncLocalStorage(); // the tab whose code runs

export class FakeBrowser {
  tabs = [];
  locks = new FakeLocks();
  #undo = [];

  /** Puts the browser in place of what Node has; timers are those of t.mock. */
  install(t) {
    t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
    for (const name of ["setTimeout", "setInterval"]) {
      const mocked = globalThis[name];
      globalThis[name] = (run, ms) => {
        const tab = current.getStore();
        return mocked(() => (tab ? tab.run(run) : run()), ms);
      };
      this.#undo.push(() => { globalThis[name] = mocked; });
    }
    const browser = this;
    const globals = {
      document: { get: () => current.getStore()?.document },
      navigator: { get: () => ({ locks: browser.locks }) },
      addEventListener: { get: () => current.getStore()?.window.addEventListener.bind(current.getStore().window) },
      removeEventListener: { get: () => current.getStore()?.window.removeEventListener.bind(current.getStore().window) },
      BroadcastChannel: { value: class extends FakeChannel { constructor(name) { super(name, browser); } }, writable: true },
    };
    for (const [name, descriptor] of Object.entries(globals)) {
      const before = Object.getOwnPropertyDescriptor(globalThis, name);
      Object.defineProperty(globalThis, name, { ...descriptor, configurable: true });
      this.#undo.push(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
    }
  }
  uninstall() { this.#undo.reverse().forEach((undo) => undo()); }

  open(visible = false) {
    const tab = new FakeTab(this, visible);
    this.tabs.push(tab);
    return tab;
  }
}

class FakeTab {
  window = new EventTarget();
  document = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  channels = new Set();
  alive = true;
  #hangs = false;
  #later = [];

  constructor(browser, visible) {
    this.browser = browser;
    this.document.visibilityState = visible ? "visible" : "hidden";
  }
  /** Runs code of this tab: now, once it does not hang any more, or never. */
  run(code) {
    if (!this.alive) return undefined;
    if (this.#hangs) return void this.#later.push(code);
    return current.run(this, code);
  }
  hang() { this.#hangs = true; }
  goOn() {
    this.#hangs = false;
    for (const code of this.#later.splice(0)) this.run(code);
  }
  crash() {
    this.alive = false;
    this.channels.clear();
    this.browser.locks.forget(this);
  }
  /** The user comes, or goes. */
  show(visible = true) {
    this.document.visibilityState = visible ? "visible" : "hidden";
    this.run(() => this.document.dispatchEvent(new Event("visibilitychange")));
  }
  freeze() { this.run(() => this.document.dispatchEvent(new Event("freeze"))); }
  thaw() { this.run(() => this.document.dispatchEvent(new Event("resume"))); }
  goAway() { this.run(() => this.window.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: true }))); }
  comeBack() { this.run(() => this.window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }))); }
}

class FakeChannel {
  onmessage = () => {};
  constructor(name, browser) {
    Object.assign(this, { name, browser, tab: current.getStore() });
    this.tab?.channels.add(this);
  }
  postMessage(data) {
    if (this.tab && !this.tab.channels.has(this)) return;
    for (const tab of this.browser.tabs) {
      for (const channel of tab.channels) {
        if (channel === this || channel.name !== this.name) continue;
        const copy = structuredClone(data);
        setImmediate(() => { if (tab.channels.has(channel)) tab.run(() => tab.channels.has(channel) && channel.onmessage({ data: copy })); });
      }
    }
  }
  close() { this.tab?.channels.delete(this); }
}

/** Web Locks: exclusive ones, with signal and steal. */
class FakeLocks {
  #held = new Map(); // name: {tab, reject}
  #queues = new Map();

  holder(name) { return this.#held.get(name)?.tab; }

  request(name, options, callback) {
    const tab = current.getStore();
    return new Promise((resolve, reject) => {
      const settle = (how) => (value) => { if (tab) tab.run(() => how(value)); else how(value); };
      const request = { name, tab, callback, resolve: settle(resolve), reject: settle(reject) };
      options.signal?.addEventListener("abort", () => {
        const queue = this.#queue(name), at = queue.indexOf(request);
        if (at >= 0) { queue.splice(at, 1); request.reject(new DOMException("aborted", "AbortError")); }
      });
      if (options.steal) {
        const robbed = this.#held.get(name);
        this.#held.delete(name);
        robbed?.reject(new DOMException("stolen", "AbortError"));
        this.#queue(name).unshift(request);
      } else {
        this.#queue(name).push(request);
      }
      this.#grant(name);
    });
  }
  /** The browser gives back what a tab held, and asks for nothing more in its name. */
  forget(tab) {
    for (const [name, queue] of this.#queues) this.#queues.set(name, queue.filter((request) => request.tab !== tab));
    for (const [name, { tab: owner }] of this.#held) if (owner === tab) { this.#held.delete(name); this.#grant(name); }
  }
  #queue(name) {
    if (!this.#queues.has(name)) this.#queues.set(name, []);
    return this.#queues.get(name);
  }
  #grant(name) {
    if (this.#held.has(name)) return;
    const request = this.#queue(name).shift();
    if (!request) return;
    this.#held.set(name, request);
    const run = () => {
      if (this.#held.get(name) !== request) return;
      Promise.resolve(request.callback({ name })).then((value) => {
        if (this.#held.get(name) !== request) return;
        this.#held.delete(name);
        request.resolve(value);
        this.#grant(name);
      });
    };
    setImmediate(() => (request.tab ? request.tab.run(run) : run()));
  }
}
