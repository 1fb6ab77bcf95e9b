import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { InboxFeed, refetched } from "../assets/inboxfeed.js";
import { turn } from "./server.mjs";

let inbox, feed, calls, hold;

/** An inbox like the server's: it lists the notifications a-1 to a-n, newest first. */
class FakeInbox {
  constructor(n) { this.all = Array.from({ length: n }, (_, i) => ({ id: `a-${n - i}`, status: "unread" })); }
  tell() { this.all.unshift({ id: `a-${++this.last}`, status: "unread" }); }
  get last() { return this.top ??= this.all.length; }
  set last(n) { this.top = n; }
  read(seq) { this.all = this.all.map((it) => (it.id === `a-${seq}` ? { ...it, status: "read" } : it)); }
  remove(seq) { this.all = this.all.filter((it) => it.id !== `a-${seq}`); }
  list({ limit, before, status }) {
    const rows = this.all.filter((it) => (!before || number(it) < number({ id: before })) && (!status || it.status === status));
    const notifications = rows.slice(0, limit ?? 50);
    return {
      notifications, unread: this.all.filter((it) => it.status === "unread").length, up_to: `a-${this.last}`,
      ...(rows.length > notifications.length && { next: notifications.at(-1).id }),
    };
  }
}
const number = ({ id }) => Number(id.slice(2));

async function call(method, path) {
  const query = Object.fromEntries(new URL(path, "https://hark.example").searchParams);
  calls++;
  const answer = inbox.list({ ...query, limit: query.limit && Number(query.limit) });
  await hold;
  return answer;
}
async function back(missed) { feed.apply(await feed.load({ missed })); }
const is = (from, to) => {
  const want = inbox.all.filter((it) => number(it) <= from && number(it) >= to);
  assert.deepEqual(feed.list, want);
  assert.equal(feed.known.unread, inbox.all.filter((it) => it.status === "unread").length);
};

beforeEach(() => {
  feed = new InboxFeed(call);
  [calls, hold] = [0, undefined];
});

test("after a disconnect the list is that of the inbox, down to where it was listed", async () => {
  inbox = new FakeInbox(400);
  await back();
  is(400, 351);
  for (let i = 0; i < 4; i++) await feed.more();
  is(400, 151);
  inbox.read(399); inbox.remove(398); inbox.remove(400); inbox.read(200); inbox.remove(151); inbox.read(100);
  for (let i = 0; i < 18; i++) inbox.tell();
  calls = 0;
  await back("a-401");
  is(418, feed.known.list().map(number).at(-1));
  assert.ok(number(feed.list.at(-1)) <= 152 && calls <= 3, `${feed.list.at(-1).id} in ${calls} calls`);
  while (feed.hasMore) await feed.more();
  is(418, 1);
  inbox.remove(1); inbox.remove(77);
  await back();
  is(418, 2);
});

test("of a long list the newest are fetched again, and older ones when they are needed", async () => {
  inbox = new FakeInbox(1000);
  await back();
  while (feed.hasMore) await feed.more();
  is(1000, 1);
  inbox.remove(30); inbox.remove(990);
  calls = 0;
  await back();
  is(1000, 500);
  assert.deepEqual([calls, feed.list.length, feed.hasMore], [refetched / 100, refetched, true]);
  while (feed.hasMore) await feed.more();
  is(1000, 1);
});

test("all missed notifications are fetched, also below the list", async () => {
  inbox = new FakeInbox(0);
  await back();
  for (let i = 0; i < 170; i++) inbox.tell();
  inbox.remove(3); inbox.read(4);
  await back("a-1");
  is(170, 1);
  assert.deepEqual([feed.known.arrive({ id: "a-3" }), feed.known.arrive({ id: "a-4" }).status], [undefined, "read"]);
});

test("unread notifications further down are fetched, too", async () => {
  inbox = new FakeInbox(300);
  for (let seq = 11; seq <= 300; seq++) inbox.read(seq);
  await back();
  await feed.moreUnread();
  assert.deepEqual([feed.unreadList.length, feed.hasMoreUnread, feed.list.length], [10, false, 50]);
  inbox.read(5); inbox.remove(7);
  await back();
  assert.deepEqual([feed.unreadList.map(number), feed.hasMoreUnread, feed.list.length], [[10, 9, 8, 6, 4, 3, 2, 1], false, 100]);
});

test("a page that was requested before a disconnect and arrives after it leaves no gap", async () => {
  inbox = new FakeInbox(1000);
  await back();
  for (let i = 0; i < 11; i++) await feed.more();
  let answer;
  hold = new Promise((resolve) => { answer = resolve; });
  const more = feed.more();
  await turn();
  hold = undefined;
  await back();
  is(1000, 501);
  answer();
  await more;
  is(1000, 451);
});
