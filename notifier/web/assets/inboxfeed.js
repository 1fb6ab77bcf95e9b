import { withQuery } from "./http.js";
import { Inbox, compareIds, countLimit } from "./state.js";

/** The largest number of notifications that are fetched again after an absence. Older ones are forgotten. */
export const refetched = 500;
const page = 50, largePage = 100;

/** The fetched part of a user's notifications: all down to some id and, further down, unread ones. */
export class InboxFeed {
  known = new Inbox();
  #call;
  // The cursors: undefined before the first page, null after the last.
  #next; #nextUnread;
  #lists = 0; // counts the pages that were applied

  /** @param {Function} call of http.js */
  constructor(call) { this.#call = call; }

  /** Newest first, without gaps. */
  get list() { return this.known.list().filter((it) => compareIds(it.id, this.known.floor) >= 0); }
  get unreadList() { return this.known.list().filter((it) => it.status === "unread"); }
  get hasMore() { return Boolean(this.#next); }
  get hasMoreUnread() {
    // At the count limit there may be any number of further ones.
    if (this.#nextUnread === undefined) return this.known.unread >= countLimit || this.known.unread > this.unreadList.length;
    return Boolean(this.#nextUnread);
  }
  clear() {
    this.known.clear();
    this.#next = this.#nextUnread = undefined;
    this.#lists++;
  }

  /**
   * Fetches the inbox from its newest notification down to the oldest that is listed here or was missed.
   * @param {{asOf?: string, missed?: string}} from asOf: the id that the inbox must have ingested; missed: the oldest missed one
   */
  async load({ asOf, missed }) {
    const { floor } = this.known, all = this.#next !== undefined, unread = this.unreadList.at(-1)?.id;
    const lowest = !all ? missed : missed && compareIds(missed, floor) < 0 ? missed : floor;
    const found = await this.#down({ limit: this.known.size > page ? largePage : page, as_of: asOf }, lowest);
    if (!found.next || this.#nextUnread === undefined) return found;
    // Unread notifications are listed further down.
    const more = await this.#down({ limit: largePage, status: "unread", before: found.next }, unread);
    return { ...found, unreadBelow: more.notifications, nextUnread: more.next ?? null };
  }
  /** One page, and the following ones down to an id; without an id the first page alone. */
  async #down(query, lowest) {
    const list = (more) => this.#call("GET", withQuery("/v1/notifications", { ...query, ...more }));
    const found = await list();
    while (lowest !== undefined && found.next && found.notifications.length < refetched && compareIds(found.notifications.at(-1).id, lowest) > 0) {
      const { notifications, next } = await list({ before: found.next, as_of: undefined });
      found.notifications.push(...notifications);
      found.next = next;
    }
    return found;
  }
  apply({ notifications, unread, up_to, next, unreadBelow = [], nextUnread }) {
    this.known.snapshot({ notifications: [...notifications, ...unreadBelow], unread, up_to }, next ? notifications.at(-1).id : "");
    this.#next = next ?? null;
    this.#nextUnread = next ? nextUnread : null;
    this.#lists++;
  }

  /** Fetches another page. */
  more() {
    return this.#more(() => ({ before: this.#next || undefined }), ({ notifications, next }) => {
      this.#next = next ?? null;
      this.known.lower(next ? notifications.at(-1).id : "");
    });
  }
  moreUnread() {
    return this.#more(() => ({ status: "unread", before: this.#nextUnread || undefined }), ({ next }) => { this.#nextUnread = next ?? null; });
  }
  async #more(query, listed) {
    for (;;) {
      const lists = this.#lists;
      const found = await this.#call("GET", withQuery("/v1/notifications", query()));
      if (lists !== this.#lists) continue; // the page does not follow the list any more
      found.notifications.forEach((it) => this.known.add(it));
      return listed(found);
    }
  }
}
