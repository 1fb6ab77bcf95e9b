import assert from "node:assert/strict";
import { test } from "node:test";
import { Inbox, Jobs, backoff, compareIds, snapshot } from "../assets/state.js";

const note = (id, status = "unread") => ({ id, title: `note ${id}`, status });

test("ids are ordered by epoch and sequence, as numbers", () => {
  const ordered = ["", "9-5", "a-1", "z-9", "10-0", "10-9", "10-10", "10-9007199254740993", "10-9007199254740994", "lx0k3a-2"];
  for (let i = 0; i < ordered.length; i++) {
    for (let j = 0; j < ordered.length; j++) {
      assert.equal(Math.sign(compareIds(ordered[i], ordered[j])), Math.sign(i - j), `${ordered[i]} and ${ordered[j]}`);
    }
  }
  assert.equal(compareIds("00a-007", "A-7"), 0);
});

test("backoff doubles to 30 s and spreads over the upper half", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 60].map((n) => backoff(n, () => 1)), [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  assert.deepEqual([0, 5].map((n) => backoff(n, () => 0)), [500, 15_000]);
});

test("of two versions of a job the greater revision stays", () => {
  const jobs = new Jobs();
  const job = (revision, state) => ({ id: "a", created_at: "2026-01-01T00:00:00Z", revision, state });
  assert.equal(jobs.merge(job(5, "running")), true);
  assert.equal(jobs.merge(job(4, "queued")), false);
  assert.equal(jobs.merge(job(5, "running")), false);
  assert.equal(jobs.get("a").state, "running");
  assert.equal(jobs.merge(job(6, "succeeded")), true);
  assert.equal(jobs.get("a").state, "succeeded");
});

test("jobs of a new epoch count from the start once the old ones are forgotten", () => {
  const jobs = new Jobs();
  jobs.merge({ id: "a", created_at: "2026-01-01T00:00:00Z", revision: 900 });
  jobs.clear();
  assert.equal(jobs.merge({ id: "a", created_at: "2026-01-01T00:00:00Z", revision: 2 }), true);
});

test("jobs are listed newest first, with any fraction of the second", () => {
  const jobs = new Jobs();
  for (const [id, created_at] of [["a", "2026-01-01T00:00:01Z"], ["b", "2026-01-01T00:00:01.5Z"], ["c", "2026-01-01T00:00:01.25Z"]]) {
    jobs.merge({ id, created_at, revision: 1 });
  }
  assert.deepEqual(jobs.list().map((job) => job.id), ["b", "c", "a"]);
});

test("unread is the snapshot's count and what arrived after it", () => {
  const inbox = new Inbox();
  inbox.add(note("a-7")); // live, before the snapshot was answered, and not yet counted there
  inbox.add(note("a-5")); // live, and counted there
  inbox.snapshot({ notifications: [note("a-5"), note("a-4", "read")], unread: 12, up_to: "a-5" });
  assert.equal(inbox.unread, 13);
  inbox.add(note("a-9"));
  assert.equal(inbox.unread, 14);
  inbox.add(note("a-9"));
  assert.equal(inbox.unread, 14, "the same one twice counts once");
});

test("an empty snapshot counts all that came live", () => {
  const inbox = new Inbox();
  inbox.snapshot({ notifications: [], unread: 0 });
  inbox.add(note("a-1"));
  assert.equal(inbox.unread, 1);
});

test("an inbox event sets the count up to its id, and newer ones stay on top", () => {
  const inbox = new Inbox();
  inbox.snapshot({ notifications: [note("a-5"), note("a-4")], unread: 2, up_to: "a-5" });
  inbox.add(note("a-6"));
  inbox.add(note("a-7"));
  inbox.change({ unread: 1, read: ["a-4", "a-5"], up_to: "a-6" });
  assert.equal(inbox.unread, 2); // a-6 counted by the server, a-7 known here
  inbox.change({ unread: 0, read_up_to: "a-7", up_to: "a-7" });
  assert.equal(inbox.unread, 0);
  assert.deepEqual(inbox.list().map((it) => it.status), ["read", "read", "read", "read"]);
});

test("reading is counted without delay, and not again by the server's event", () => {
  const inbox = new Inbox();
  inbox.snapshot({ notifications: [note("a-5"), note("a-4")], unread: 2, up_to: "a-5" });
  inbox.add(note("a-6"));
  inbox.markRead(["a-4"]);
  inbox.markRead(["a-4"]);
  assert.equal(inbox.unread, 2);
  inbox.markRead(["a-6"]); // not counted by the snapshot
  assert.equal(inbox.unread, 1);
  inbox.change({ unread: 1, read: ["a-4"], up_to: "a-6" });
  assert.equal(inbox.unread, 1);
  inbox.markRead([], "a-6");
  assert.equal(inbox.unread, 0);
});

test("deleting is counted without delay, and is permanent", () => {
  const inbox = new Inbox();
  inbox.snapshot({ notifications: [note("a-5"), note("a-4", "read")], unread: 1, up_to: "a-5" });
  inbox.remove("a-4");
  assert.equal(inbox.unread, 1);
  inbox.remove("a-5");
  assert.equal(inbox.unread, 0);
  inbox.add(note("a-5")); // on a page that was on its way
  assert.deepEqual(inbox.list(), []);
  inbox.change({ unread: 0, deleted: ["a-5"] });
  assert.equal(inbox.unread, 0);
});

test("a late page never makes a read one unread", () => {
  const inbox = new Inbox();
  inbox.change({ unread: 0, read: ["a-3"], read_up_to: "a-2", up_to: "a-3" });
  inbox.add(note("a-1"));
  inbox.add(note("a-2"));
  inbox.add(note("a-3"));
  inbox.add(note("a-4"));
  assert.deepEqual(inbox.list().map((it) => it.status), ["unread", "read", "read", "read"]);
  assert.equal(inbox.unread, 1);
});

const ids = (inbox) => inbox.list().map((it) => it.id);

test("a notification that the inbox does not list any more was deleted, and one that it does not have yet stays", () => {
  const inbox = new Inbox();
  inbox.snapshot({ notifications: [note("a-5"), note("a-4"), note("a-3", "read")], unread: 2, up_to: "a-5" });
  inbox.arrive(note("a-7"));
  inbox.arrive(note("a-9"));
  inbox.snapshot({ notifications: [note("a-5", "read"), note("a-3", "read")], unread: 0, up_to: "a-8" });
  assert.deepEqual([ids(inbox), inbox.unread, inbox.get("a-5").status], [["a-9", "a-5", "a-3"], 1, "read"]);
  inbox.snapshot({ notifications: [], unread: 0, up_to: "a-8" });
  assert.deepEqual([ids(inbox), inbox.unread], [["a-9"], 1]);
});

test("a missed notification that was deleted elsewhere does not arrive; one that was not listed is not kept", () => {
  const inbox = new Inbox();
  inbox.snapshot({ notifications: [note("a-20"), note("a-18", "read")], unread: 1, up_to: "a-20" }, "a-18");
  assert.equal(inbox.arrive(note("a-19")), undefined);
  assert.equal(inbox.arrive({ id: "a-18" }).status, "read");
  assert.deepEqual(inbox.arrive({ id: "a-17" }), { id: "a-17", status: "unread" });
  assert.deepEqual(ids(inbox), ["a-20", "a-18"]);
  inbox.change({ unread: 1, up_to: "a-30" }); // it may come before what it counts
  assert.equal(inbox.arrive({ id: "a-30" }).status, "unread");
});

test("a snapshot is fetched again after a change meanwhile", async () => {
  const answers = [];
  const applied = [];
  const page = snapshot(() => new Promise((resolve) => answers.push(resolve)), (p) => applied.push(p), assert.fail);
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const run = page.run();
  page.stale();
  answers.shift()("old");
  await turn();
  assert.deepEqual(applied, []);
  answers.shift()("new");
  await run;
  assert.deepEqual(applied, ["new"]);
});

test("a snapshot that failed is fetched again later", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let fails = true;
  const applied = [], reported = [];
  const page = snapshot(async () => { if (fails) throw new Error("no database"); return "page"; }, (p) => applied.push(p), (err) => reported.push(err.message));
  await page.run();
  assert.deepEqual(reported, ["no database"]);
  fails = false;
  t.mock.timers.tick(1000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(applied, ["page"]);
});
