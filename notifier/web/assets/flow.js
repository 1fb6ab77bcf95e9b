import { compareDigits, digits } from "./state.js";

/** The number of notifications that a tab keeps for tabs that have missed them. */
export const kept = 100;

/**
 * Whether a reader at position a has everything up to position b. A position is "<epoch>-<own>-<all>" in base 36: how far the
 * user's own messages and the broadcasts were read, apart from each other. Positions of two epochs cannot be compared. "" is
 * before everything.
 */
export function covers(a, b) {
  if (!b) return true;
  const [epochA, ownA, allA] = digits(a), [epochB, ownB, allB] = digits(b);
  return epochA === epochB && compareDigits(ownA, ownB) >= 0 && compareDigits(allA, allB) >= 0;
}

/** The position of a reader that has everything up to a and everything up to b, of one epoch. */
export function join(a, b) {
  if (!a || !b) return a || b;
  const [partsA, partsB] = [a.split("-"), b.split("-")], [digitsA, digitsB] = [digits(a), digits(b)];
  return partsA.map((part, i) => (compareDigits(digitsA[i], digitsB[i]) >= 0 ? part : partsB[i])).join("-");
}

/** What both readers have, of one epoch. */
export function meet(a, b) {
  if (!a || !b) return "";
  const [partsA, partsB] = [a.split("-"), b.split("-")], [digitsA, digitsB] = [digits(a), digits(b)];
  return partsA.map((part, i) => (compareDigits(digitsA[i], digitsB[i]) <= 0 ? part : partsB[i])).join("-");
}

/**
 * The position of a tab in the flow of events, from any leader. A tab takes each notification once, and notices gaps. An event
 * is a step from one position to another: a notification moves the mark of its own log, and no other.
 */
export class Flow {
  /** The tab has everything up to here; "" before it has begun. */ at = "";
  #ring = []; // the last notifications
  #from = ""; // the ring has everything after this

  /** Begins at a position: everything up to it is listed. */
  begin(id) {
    this.at = this.#from = id;
    this.#ring = [];
  }

  /**
   * Takes an event. Returns "new", "old" if the tab has it, or "gap" if events before it are missing; then it is not taken.
   * @param {{type: string, id: string, prev: string, data: any}} event
   * @param {boolean} [next] whether it is known that none is missing
   */
  take(event, next = false) {
    const { type, id, prev } = event;
    if (!id) return "new";
    if (!this.at || (!next && !covers(this.at, prev))) return "gap";
    const old = this.#has(event);
    this.at = join(this.at, id);
    if (type !== "notification") return "new";
    if (old) return "old";
    this.#ring.push(event);
    if (this.#ring.length > kept) this.#from = join(this.#from, this.#ring.shift().id);
    return "new";
  }

  /** Whether a tab at a position has a notification: the mark that it has moved is not after that of the tab. */
  #has({ id, prev }, at = this.at) {
    const [, ...to] = digits(id), [, ...from] = digits(prev), [, ...has] = digits(at);
    return to.every((mark, i) => mark === from[i] || compareDigits(has[i], mark) >= 0);
  }

  /** The notifications after a position, or undefined if this tab does not have all of them. */
  since(id) {
    if (!this.at || !covers(id, this.#from)) return undefined;
    return this.#ring.filter((event) => !this.#has(event, id));
  }
}
