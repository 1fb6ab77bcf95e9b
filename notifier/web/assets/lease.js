/**
 * Limits the tabs with a stream, where tabs cannot share one. Browsers allow six HTTP/1.1 connections to a host, so four tabs
 * may have a stream, and two connections are left for calls. A tab with a stream has an entry in localStorage, which it renews.
 */
const most = 4;
const lasts = 100_000; // ms: the timers of a hidden tab run once a minute
const renewed = 20_000; // ms

export class Lease {
  #prefix; #key; #until = 0;

  /** @param {string} name of all the tabs that share the connections */
  constructor(name) {
    this.#prefix = `hark.stream ${name} `;
    this.#key = this.#prefix + Math.random().toString(36).slice(2);
  }

  /** Acquires or renews the lease. Returns whether this tab has it. */
  take() {
    const now = Date.now();
    if (this.#until - now > lasts - renewed) return true;
    try {
      localStorage.setItem(this.#key, String(now + lasts));
      const others = Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix) && key !== this.#key)
        .map((key) => [key, Number(localStorage.getItem(key))]);
      for (const [key, until] of others) if (!(until > now)) localStorage.removeItem(key);
      // Tabs with a lease keep it. Of tabs that come at the same moment, some find too many and give up.
      const there = others.filter(([, until]) => until > now).length;
      if (there >= most && !(this.#until > now)) {
        localStorage.removeItem(this.#key);
        this.#until = 0;
        return false;
      }
    } catch {
      return true; // without localStorage tabs cannot be counted
    }
    this.#until = now + lasts;
    return true;
  }
  release() {
    this.#until = 0;
    try { localStorage.removeItem(this.#key); } catch { /* the entry expires */ }
  }
}
