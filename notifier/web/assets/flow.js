import { compareIds } from "./state.js";

/** The number of notifications that a tab keeps for tabs that have missed them. */
export const kept = 100;

/**
 * The position of a tab in the flow of events, from any leader. A tab takes each notification once, and notices gaps. Ids of
 * events are positions in the log, and never decrease on a stream.
 */
export class Flow {
  /** The tab has everything up to here; "" before it has begun. */ at = "";
  #floor = ""; // notifications up to here are listed, not new
  #seen = new Set(); // ids of notifications; events may share an id, since an id never decreases
  #ring = []; // the last notifications
  #from = ""; // the ring has everything after this

  /** Begins at an id: everything up to it is listed. */
  begin(id) {
    this.at = this.#floor = this.#from = id;
    this.#seen.clear();
    this.#ring = [];
  }

  /**
   * Takes an event. Returns "new", "old" if the tab has it, or "gap" if events before it are missing; then it is not taken.
   * @param {{type: string, id: string, prev: string, data: any}} event
   */
  take({ type, id, prev, data }) {
    if (!id) return "new";
    if (!this.at || compareIds(prev, this.at) > 0) return "gap";
    if (compareIds(id, this.at) < 0) return "old";
    this.at = id;
    if (type !== "notification") return "new";
    if (compareIds(data.id, this.#floor) <= 0 || this.#seen.has(data.id)) return "old";
    this.#seen.add(data.id);
    this.#ring.push({ type, id, data });
    if (this.#ring.length > kept) {
      this.#from = this.#ring.shift().id;
      if (this.#seen.size > 10 * kept) this.#seen.delete(this.#seen.values().next().value);
    }
    return "new";
  }

  /** The notifications after an id, or undefined if this tab does not have all of them. */
  since(id) {
    if (!this.at || compareIds(this.#from, id) > 0) return undefined;
    return this.#ring.filter((event) => compareIds(event.id, id) >= 0); // several events may have this id
  }
}
