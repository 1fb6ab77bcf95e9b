import { compareIds } from "./state.js";

/**
 * In ms. gather: notifications that arrive within this time are shown together. notYet: the leader shows what no tab has shown
 * by then; if the user looks at a tab, it waits for over, too. over: the longest time that a tab holds missed notifications
 * while it waits for the inbox.
 */
export const showTimes = { gather: 200, notYet: 800, over: 3000 };

/**
 * Holds missed notifications until the inbox was fetched, which shows what was read elsewhere; for up to showTimes.over.
 */
export class Held {
  #arrive; #all; #timer;
  /** @param {(notification: object) => void} arrive is called for each notification, without delay unless some are held */
  constructor(arrive) { this.#arrive = arrive; }

  begin() {
    this.#all ??= [];
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.letGo(), showTimes.over);
  }
  take(notification) { this.#all ? this.#all.push(notification) : this.#arrive(notification); }
  /** The id of the first held notification, if there is one. */
  get first() { return this.#all?.[0]?.id; }
  letGo() {
    const all = this.#all;
    this.clear();
    all?.forEach((notification) => this.#arrive(notification));
  }
  clear() {
    clearTimeout(this.#timer);
    this.#all = undefined;
  }
}

/**
 * Gathers the notifications that arrive, and shows them in one tab of the browser: the tab that the user looks at, or else the
 * leader (share.js). That tab may be slow, or wait for its list, so the leader waits if it knows of one. Notifications that no
 * tab has shown after that are not shown.
 */
export class Showing {
  #share; #show; #waiting = []; #timer;

  /** @param {() => import("./share.js").Share} share @param {(notifications: object[]) => void} show */
  constructor(share, show) {
    this.#share = share;
    this.#show = show;
  }

  add(notification) {
    this.#waiting.push(notification);
    this.#timer ??= setTimeout(() => this.#look(Date.now()), showTimes.gather);
  }
  /** Another tab has shown the notifications up to an id. */
  shown(id) { this.#waiting = this.#waiting.filter((it) => compareIds(it.id, id) > 0); }
  clear() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting = [];
  }

  #look(since) {
    const share = this.#share(), waited = showTimes.gather + Date.now() - since;
    const { notYet, over } = showTimes, late = waited >= (share.looked ? over + notYet : notYet);
    if (this.#waiting.length && (share.looking || (share.leading && late))) {
      const all = this.#waiting;
      share.shown(all.map((it) => it.id).sort(compareIds).at(-1));
      this.clear();
      return this.#show(all);
    }
    if (!this.#waiting.length || waited >= over + 2 * notYet) return this.clear();
    this.#timer = setTimeout(() => this.#look(since), showTimes.gather);
  }
}
