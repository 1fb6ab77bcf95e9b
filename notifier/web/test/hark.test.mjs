import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { HarkError, connect, countLimit } from "../hark.js";

// A server that answers from a table, and streams that do as they are told.
let routes, requests, streams, clients;
const realFetch = globalThis.fetch, realEventSource = globalThis.EventSource;
const turn = async () => { for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve)); };

class FakeEventSource extends EventTarget {
  static CONNECTING = 0;
  static CLOSED = 2;
  readyState = 1;
  constructor(url, init) {
    super();
    Object.assign(this, { url: new URL(url), init });
    streams.push(this);
  }
  close() { this.readyState = 2; }
  send(type, data) { this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data) })); }
  fail(readyState) { this.readyState = readyState; this.onerror(new Event("error")); }
}

beforeEach(() => {
  [requests, streams, clients] = [[], [], []];
  routes = {
    "GET /v1/jobs": () => ({ jobs: [] }),
    "GET /v1/notifications": () => ({ notifications: [], unread: 0 }),
    "GET /v1/session": () => ({ user: "ana" }),
  };
  globalThis.EventSource = FakeEventSource;
  globalThis.fetch = async (url, init) => {
    const request = { path: url.pathname, query: url.searchParams, ...init };
    requests.push(request);
    const answer = routes[`${init.method} ${url.pathname}`]?.(request) ?? { status: 404, code: "not_found" };
    if (answer instanceof Error) throw answer;
    return new Response(JSON.stringify(answer), { status: answer.code ? answer.status : 200 });
  };
});
afterEach(() => {
  clients.forEach((hark) => hark.close());
  Object.assign(globalThis, { fetch: realFetch, EventSource: realEventSource });
});

async function open(options) {
  const hark = connect({ base: "https://hark.example", ...options });
  clients.push(hark);
  hark.heard = [];
  hark.on("notification", (note) => hark.heard.push(note.id));
  await turn();
  return hark;
}
const hello = (id = "a-10") => streams.at(-1).send("hello", { user: "ana", id });
const note = (id) => ({ id, title: `note ${id}`, created_at: "2026-01-01T00:00:00Z" });
const job = (id, revision, state = "running") => ({ id, revision, state, kind: "export", created_at: "2026-01-01T00:00:00Z" });

test("a notification is reported once, also when the stream repeats it", async () => {
  const hark = await open();
  hello();
  streams[0].send("notification", note("a-11"));
  streams[0].send("notification", note("a-11"));
  streams[0].send("notification", note("a-12"));
  streams[0].send("notification", note("a-9"));
  assert.deepEqual(hark.heard, ["a-11", "a-12"]);
});

test("the inbox is asked for as of what the stream has come to", async () => {
  await open();
  hello("a-10");
  await turn();
  const asked = requests.find(({ path }) => path === "/v1/notifications");
  assert.equal(asked.query.get("as_of"), "a-10");
});

test("what the snapshot holds is not reported, but what the stream brings of it is", async () => {
  routes["GET /v1/notifications"] = () => ({ notifications: [note("a-11"), note("a-10")].map((n) => ({ ...n, status: "unread" })), unread: 2 });
  const hark = await open();
  const unread = [];
  hark.on("unread", (n) => unread.push(n));
  hello("a-10");
  await turn();
  assert.deepEqual([hark.heard, hark.unread], [[], 2]);
  streams[0].send("notification", note("a-11")); // in the table first, on the stream second
  assert.deepEqual([hark.heard, hark.unread], [["a-11"], 2]);
  streams[0].send("notification", note("a-12"));
  assert.deepEqual([hark.unread, unread], [3, [2, 3]]);
});

test("after a lost stream it resumes behind the last notification", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const hark = await open();
  assert.equal(streams[0].url.search, "");
  hello("a-10");
  streams[0].send("notification", note("a-11"));
  streams[0].fail(FakeEventSource.CLOSED);
  await turn();
  assert.equal(hark.status, "reconnecting");
  t.mock.timers.tick(1000);
  await turn();
  assert.equal(streams[1].url.searchParams.get("last_event_id"), "a-11");
  hello("a-13"); // where the log stands; what was missed follows
  streams[1].send("notification", note("a-12"));
  streams[1].send("notification", note("a-13"));
  assert.deepEqual(hark.heard, ["a-11", "a-12", "a-13"]);
  assert.equal(hark.status, "live");
});

test("after a clean end the browser comes back by itself, and is helped when it cannot", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const hark = await open();
  hello();
  streams[0].fail(FakeEventSource.CONNECTING);
  t.mock.timers.tick(60_000);
  await turn();
  assert.equal(streams.length, 1);
  streams[0].fail(FakeEventSource.CONNECTING);
  await turn();
  t.mock.timers.tick(1000);
  await turn();
  assert.equal(streams.length, 2);
  assert.equal(streams[0].readyState, FakeEventSource.CLOSED);
});

test("a refused stream says so when nobody is signed in, and is tried on", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  routes["GET /v1/session"] = () => ({ status: 401, code: "unauthorized" });
  const hark = await open();
  streams[0].fail(FakeEventSource.CLOSED);
  await turn();
  assert.equal(hark.status, "unauthorized");
  t.mock.timers.tick(1000);
  await turn();
  assert.equal(streams.length, 2);
});

test("with a token each connection gets a ticket of its own", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let n = 0;
  routes["POST /v1/stream/ticket"] = (request) => ({ ticket: `${request.headers.Authorization}/${++n}` });
  const hark = await open({ token: async () => "jwt" });
  assert.equal(streams[0].url.searchParams.get("ticket"), "Bearer jwt/1");
  assert.equal(streams[0].init.withCredentials, false);
  hello("a-10");
  streams[0].fail(FakeEventSource.CONNECTING); // the browser would come back with the ticket it has used
  await turn();
  t.mock.timers.tick(1000);
  await turn();
  assert.equal(streams[1].url.searchParams.get("ticket"), "Bearer jwt/2");
  assert.equal(streams[1].url.searchParams.get("last_event_id"), "a-10");
  assert.equal(hark.status, "reconnecting");
});

test("a late snapshot never overwrites a newer event", async () => {
  routes["GET /v1/jobs"] = () => ({ jobs: [job("j", 3, "running")] });
  const hark = await open();
  const states = [];
  hark.on("job", (it) => states.push(it.state));
  hello();
  streams[0].send("job", job("j", 4, "succeeded"));
  await turn();
  assert.equal(hark.jobs[0].state, "succeeded");
  assert.deepEqual(states, ["succeeded"]);
});

test("a job further down the list that ended unheard is asked for by itself", async () => {
  const hark = await open();
  hello();
  await turn();
  streams[0].send("job", job("j", 3, "running"));
  streams[0].send("job", job("gone", 4, "queued"));
  routes["GET /v1/jobs/j"] = () => job("j", 5, "failed");
  hello();
  await turn();
  assert.deepEqual(hark.jobs.map((it) => [it.id, it.state]), [["j", "failed"]]);
});

for (const [name, act] of [
  ["a reset", () => streams[0].send("reset", { reason: "epoch", id: "b-2" })],
  ["a hello of another epoch", () => hello("b-2")],
]) {
  test(`${name} forgets everything and starts over`, async () => {
    routes["GET /v1/jobs"] = () => ({ jobs: [job("j", 900, "running")] });
    routes["GET /v1/notifications"] = () => ({ notifications: [{ ...note("a-10"), status: "unread" }], unread: 1 });
    const hark = await open();
    hello();
    await turn();
    routes["GET /v1/jobs"] = () => ({ jobs: [job("j", 2, "queued")] });
    routes["GET /v1/notifications"] = () => ({ notifications: [], unread: 0 });
    act();
    await turn();
    assert.deepEqual([hark.jobs.map((it) => it.revision), hark.notifications, hark.unread], [[2], [], 0]);
    streams[0].send("notification", note("b-3"));
    assert.deepEqual([hark.heard, hark.unread], [["b-3"], 1]);
  });
}

test("the inbox event of another tab sets the unread number", async () => {
  const hark = await open();
  hello();
  await turn();
  for (const id of ["a-11", "a-12", "a-13"]) streams[0].send("notification", note(id));
  streams[0].send("inbox", { unread: 1, read: ["a-11"], up_to: "a-12" });
  assert.equal(hark.unread, 2);
  streams[0].send("inbox", { unread: 0, read_up_to: "a-13", up_to: "a-13" });
  assert.equal(hark.unread, 0);
});

test("marking shows at once, and comes back when the server says no", async () => {
  const page = { notifications: [{ ...note("a-10"), status: "unread" }], unread: 1 };
  routes["GET /v1/notifications"] = () => page;
  routes["POST /v1/notifications/a-10/read"] = () => ({ status: 503, code: "unavailable" });
  routes["POST /v1/notifications/read"] = routes["POST /v1/notifications/a-10/read"];
  const hark = await open();
  hello();
  await turn();
  const marked = hark.markRead("a-10");
  assert.equal(hark.unread, 0);
  await assert.rejects(marked, HarkError);
  await turn();
  assert.equal(hark.unread, 1);
  assert.equal(hark.notifications[0].status, "unread");
  await assert.rejects(hark.markAllRead(), HarkError);
  assert.deepEqual([hark.unread, hark.notifications[0].status], [1, "unread"]);
});

test("deleting shows at once, and comes back when the server says no", async () => {
  routes["GET /v1/notifications"] = () => ({ notifications: [{ ...note("a-10"), status: "unread" }], unread: 1 });
  routes["DELETE /v1/notifications/a-10"] = () => ({ status: 503, code: "unavailable" });
  const hark = await open();
  hello();
  await turn();
  const removed = hark.remove("a-10");
  assert.deepEqual([hark.unread, hark.notifications], [0, []]);
  await assert.rejects(removed, HarkError);
  assert.deepEqual([hark.unread, hark.notifications.length], [1, 1]);
});

test("enqueue tries again with the same key when no clear answer came", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const hark = await open();
  let tries = 0;
  routes["POST /v1/jobs"] = () => (++tries < 3 ? new TypeError("network") : job("j", 1, "queued"));
  const asked = hark.enqueue("export", { dataset: "orders" });
  for (let i = 0; i < 3; i++) { await turn(); t.mock.timers.tick(5000); }
  assert.equal((await asked).id, "j");
  const keys = requests.filter((request) => request.method === "POST").map((request) => request.headers["Idempotency-Key"]);
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.equal(hark.jobs[0].id, "j");
});

test("a link to a file is asked for anew each time, with the token", async () => {
  let n = 0;
  routes["POST /v1/jobs/J%201/file/link"] = () => ({ url: `/v1/jobs/J%201/file?link=${++n}`, expires_at: "2026-01-01T00:01:00Z" });
  const hark = await open({ token: () => "t" });
  assert.equal(await hark.fileLink({ id: "J 1" }), "https://hark.example/v1/jobs/J%201/file?link=1");
  assert.equal(await hark.fileLink({ id: "J 1" }), "https://hark.example/v1/jobs/J%201/file?link=2");
  assert.equal(requests.at(-1).headers.Authorization, "Bearer t");
});

test("enqueue hands on the server's problem", async () => {
  const hark = await open();
  routes["POST /v1/jobs"] = () => ({ status: 400, code: "param_missing", detail: "params.from is missing", field: "params.from" });
  await assert.rejects(hark.enqueue("export"), { name: "HarkError", status: 400, code: "param_missing", field: "params.from", message: "params.from is missing" });
});

test("a handler that throws does not silence the others", async (t) => {
  t.mock.method(console, "error", () => {});
  const hark = await open();
  hark.on("notification", () => { throw new Error("mine"); });
  let reached = false;
  hark.on("notification", () => { reached = true; });
  hello();
  streams[0].send("notification", note("a-11"));
  assert.equal(reached, true);
});

test("lists that overlap what is known keep their place; a gap starts over", async () => {
  routes["GET /v1/jobs"] = () => ({ jobs: [job("c", 3, "succeeded"), job("b", 2, "succeeded")], next: "b" });
  const hark = await open();
  hello();
  await turn();
  routes["GET /v1/jobs"] = (request) => (request.query.get("after") === "b" ? { jobs: [job("a", 1, "succeeded")] } : { jobs: [job("c", 3)], next: "c" });
  await hark.more("jobs");
  assert.equal(hark.hasMore("jobs"), false);
  assert.deepEqual(hark.jobs.map((it) => it.id), ["c", "b", "a"]);
  hello();
  await turn();
  assert.equal(hark.hasMore("jobs"), false);
  routes["GET /v1/jobs"] = () => ({ jobs: [job("z", 99, "succeeded")], next: "z" });
  hello();
  await turn();
  assert.deepEqual([hark.jobs.map((it) => it.id), hark.hasMore("jobs")], [["z"], true]);
});

test("where the server stops counting there may be more unread than are known", async () => {
  const known = Array.from({ length: countLimit }, (_, i) => ({ ...note(`a-${2000 - i}`), status: "unread" }));
  routes["GET /v1/notifications"] = () => ({ notifications: known.slice(1), unread: countLimit - 1 });
  const hark = await open();
  hello();
  await turn();
  assert.deepEqual([hark.unreadNotifications.length, hark.hasMore("unread")], [countLimit - 1, false]);
  routes["GET /v1/notifications"] = () => ({ notifications: known, unread: countLimit });
  hello();
  await turn();
  assert.deepEqual([hark.unreadNotifications.length, hark.hasMore("unread")], [countLimit, true]);
});
