import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { showTimes } from "../assets/showing.js";
import { HarkError, connect, countLimit } from "../hark.js";
import { FakeServer, job, note, problem, turn } from "./server.mjs";

let server, clients;
const realFetch = globalThis.fetch;
const clock = ["setTimeout", "setInterval", "Date"];

beforeEach(() => {
  server = new FakeServer();
  clients = [];
  globalThis.fetch = server.fetch;
});
afterEach(() => {
  clients.forEach((hark) => hark.close());
  globalThis.fetch = realFetch;
});

async function open(options) {
  const hark = connect({ base: "https://hark.example", ...options });
  clients.push(hark);
  hark.heard = [];
  hark.on("notification", (note) => hark.heard.push(note.id));
  await turn();
  return hark;
}
const hello = (id) => server.hello(id);

test("a notification is reported once, also when the stream repeats it", async () => {
  const hark = await open();
  await hello();
  await server.streams[0].send("notification", note("a-11"));
  await server.streams[0].send("notification", note("a-11"));
  await server.streams[0].send("notification", note("a-12"));
  await server.streams[0].send("notification", note("a-9"));
  assert.deepEqual(hark.heard, ["a-11", "a-12"]);
});

test("the lists are fetched at once when the stream says nothing", async (t) => {
  t.mock.timers.enable({ apis: clock });
  server.routes["GET /v1/jobs"] = () => ({ jobs: [job("j", 3)] });
  const hark = await open();
  t.mock.timers.tick(250);
  await turn();
  assert.deepEqual([hark.jobs.length, hark.loaded, hark.status], [1, { jobs: true, notifications: true }, "connecting"]);
});

test("with a token every call has a fresh one in its header, and the stream, too", async () => {
  let n = 0;
  await open({ token: async () => `jwt${++n}` });
  await hello();
  assert.equal(server.stream.headers.Authorization, "Bearer jwt1");
  assert.equal(server.stream.credentials, "omit");
  assert.equal(server.stream.query.size, 0);
  assert.deepEqual(server.requests.map(({ headers }) => headers.Authorization), ["Bearer jwt1", "Bearer jwt2", "Bearer jwt3"]);
});

test("a call without a response fails, and enqueue after three attempts", async (t) => {
  t.mock.timers.enable({ apis: clock });
  const hark = await open();
  server.routes["GET /v1/kinds"] = server.routes["POST /v1/jobs"] = () => new Promise(() => {});
  const kinds = hark.kinds(), asked = hark.enqueue("export");
  const refused = assert.rejects(kinds, { name: "HarkError", status: 0, code: "timeout", message: "The server did not respond within 30 s. Try again." });
  const unclear = assert.rejects(asked, { code: "timeout" });
  for (let i = 0; i < 50; i++) { t.mock.timers.tick(1000); await turn(2); }
  await Promise.all([refused, unclear]);
});

test("a call with an incomplete response fails, and so does one whose token callback fails", async () => {
  const hark = await open({ token: () => { throw new Error("no session"); } });
  await assert.rejects(hark.kinds(), { code: "token_unavailable", message: "The page could not get a token: no session" });
  const other = await open();
  server.routes["GET /v1/kinds"] = () => new Response(new ReadableStream({ start: (controller) => controller.error(new TypeError("reset")) }));
  await assert.rejects(other.kinds(), { status: 0, code: "network", message: "The response of the server was incomplete. Try again." });
});

test("a kind is known once the kinds were fetched, and not for the next user", async () => {
  server.routes["GET /v1/kinds"] = () => ({ kinds: [{ name: "report", unit: "pages" }] });
  const hark = await open();
  assert.equal(hark.kind("report"), undefined);
  await hark.kinds();
  assert.deepEqual([hark.kind("report").unit, hark.kind("other")], ["pages", undefined]);
  await hello("a-1");
  await server.stream.send("hello", { user: "bob", id: "a-1" });
  assert.equal(hark.kind("report"), undefined);
});

test("an error has the delay before a retry", async () => {
  const hark = await open();
  server.routes["GET /v1/kinds"] = () => problem(429, "rate_limited", { "Retry-After": "7" });
  await assert.rejects(hark.kinds(), { status: 429, code: "rate_limited", retryAfter: 7000 });
});

test("missed notifications that were read elsewhere arrive as read, and the unread ones share one toast", async (t) => {
  t.mock.timers.enable({ apis: clock });
  const hark = await open();
  const toasts = [], arrived = [];
  hark.on("toast", (notes) => toasts.push(notes.map((it) => it.id)));
  await hello("a-10");
  hark.on("notification", (it) => arrived.push(`${it.id} ${it.status}`));
  server.routes["GET /v1/notifications"] = () => ({ notifications: ["a-13", "a-12", "a-11"].map((id) => ({ ...note(id), status: id === "a-12" ? "read" : "unread" })), unread: 2 });
  await server.stream.fail();
  t.mock.timers.tick(1001);
  await turn();
  server.stream.send("hello", { user: "ana", id: "a-10" });
  for (const id of ["a-11", "a-12", "a-13"]) server.stream.send("notification", note(id));
  await turn();
  assert.deepEqual([arrived, hark.unread], [["a-11 unread", "a-12 read", "a-13 unread"], 2]);
  for (let i = 0; i < 10; i++) t.mock.timers.tick(100);
  assert.deepEqual(toasts, [["a-11", "a-13"]]);
});

test("notifications that were deleted elsewhere during a disconnect are gone, and do not arrive", async (t) => {
  t.mock.timers.enable({ apis: clock });
  const list = (...ids) => () => ({ notifications: ids.map((id) => ({ ...note(id), status: "unread" })), unread: ids.length, up_to: "a-12" });
  server.routes["GET /v1/notifications"] = list("a-10", "a-9");
  const hark = await open();
  await hello("a-10");
  server.routes["GET /v1/notifications"] = list("a-12", "a-10");
  await server.stream.fail();
  t.mock.timers.tick(1001);
  await turn();
  server.stream.send("hello", { user: "ana", id: "a-10" });
  for (const id of ["a-11", "a-12"]) server.stream.send("notification", note(id));
  await turn();
  assert.deepEqual([hark.heard, hark.notifications.map((it) => it.id), hark.unread], [["a-12"], ["a-12", "a-10"], 2]);
});

test("missed notifications arrive also when the inbox cannot be fetched", async (t) => {
  t.mock.timers.enable({ apis: clock });
  const hark = await open();
  await hello("a-10");
  server.routes["GET /v1/notifications"] = () => problem(503, "inbox_unavailable");
  await server.stream.fail();
  t.mock.timers.tick(1001);
  await turn();
  server.stream.send("hello", { user: "ana", id: "a-10" });
  await server.stream.send("notification", note("a-11"));
  assert.deepEqual(hark.heard, []);
  t.mock.timers.tick(showTimes.over);
  await turn();
  assert.deepEqual(hark.heard, ["a-11"]);
});

// A tab can get the hello from another tab before its own network is back.
test("missed notifications wait for the inbox when the first request for it fails", async (t) => {
  t.mock.timers.enable({ apis: clock });
  const hark = await open();
  const arrived = [];
  await hello("a-10");
  hark.on("notification", (it) => arrived.push(`${it.id} ${it.status}`));
  server.routes["GET /v1/notifications"] = () => { throw new TypeError("Failed to fetch"); };
  await server.stream.fail();
  t.mock.timers.tick(1001);
  await turn();
  server.stream.send("hello", { user: "ana", id: "a-10" });
  await server.stream.send("notification", note("a-11"));
  server.routes["GET /v1/notifications"] = () => ({ notifications: [{ ...note("a-11"), status: "read" }], unread: 0 });
  t.mock.timers.tick(1001);
  await turn();
  assert.deepEqual(arrived, ["a-11 read"]);
});

test("the inbox is fetched as of the stream's position", async () => {
  await open();
  await hello("a-10");
  await turn();
  const asked = server.requests.find(({ path }) => path === "/v1/notifications");
  assert.equal(asked.query.get("as_of"), "a-10");
});

test("notifications of the snapshot are not reported, those of the stream are", async () => {
  server.routes["GET /v1/notifications"] = () => ({ notifications: [note("a-11"), note("a-10")].map((n) => ({ ...n, status: "unread" })), unread: 2 });
  const hark = await open();
  const unread = [];
  hark.on("unread", (n) => unread.push(n));
  await hello("a-10");
  await turn();
  assert.deepEqual([hark.heard, hark.unread], [[], 2]);
  await server.streams[0].send("notification", note("a-11")); // in the table first, on the stream second
  assert.deepEqual([hark.heard, hark.unread], [["a-11"], 2]);
  await server.streams[0].send("notification", note("a-12"));
  assert.deepEqual([hark.unread, unread], [3, [2, 3]]);
});

test("a late snapshot never overwrites a newer event", async () => {
  let answer;
  server.routes["GET /v1/jobs"] = () => new Promise((resolve) => { answer = () => resolve({ jobs: [job("j", 3, "running")] }); });
  const hark = await open();
  const states = [];
  hark.on("job", (it) => states.push(it.state));
  await hello();
  await server.streams[0].send("job", job("j", 4, "succeeded"));
  answer();
  await turn();
  assert.equal(hark.jobs[0].state, "succeeded");
  assert.deepEqual(states, ["succeeded"]);
});

test("a job further down the list that ended during a disconnect is fetched by itself", async () => {
  const hark = await open();
  await hello();
  await turn();
  await server.streams[0].send("job", job("j", 3, "running"));
  await server.streams[0].send("job", job("gone", 4, "queued"));
  server.routes["GET /v1/jobs/j"] = () => job("j", 5, "failed");
  await hello();
  await turn();
  assert.deepEqual(hark.jobs.map((it) => [it.id, it.state]), [["j", "failed"]]);
});

for (const [name, act] of [
  ["a reset", () => server.streams[0].send("reset", { reason: "epoch", id: "b-2" })],
  ["a hello of another epoch", () => hello("b-2")],
]) {
  test(`${name} forgets everything and starts over`, async () => {
    server.routes["GET /v1/jobs"] = () => ({ jobs: [job("j", 900, "running")] });
    server.routes["GET /v1/notifications"] = () => ({ notifications: [{ ...note("a-10"), status: "unread" }], unread: 1 });
    const hark = await open();
    await hello();
    await turn();
    server.routes["GET /v1/jobs"] = () => ({ jobs: [job("j", 2, "queued")] });
    server.routes["GET /v1/notifications"] = () => ({ notifications: [], unread: 0 });
    await act();
    await turn();
    assert.deepEqual([hark.jobs.map((it) => it.revision), hark.notifications, hark.unread], [[2], [], 0]);
    await server.streams[0].send("notification", note("b-3"));
    assert.deepEqual([hark.heard, hark.unread], [["b-3"], 1]);
  });
}

test("the inbox event of another tab sets the unread number", async () => {
  const hark = await open();
  await hello();
  await turn();
  for (const id of ["a-11", "a-12", "a-13"]) await server.streams[0].send("notification", note(id));
  await server.streams[0].send("inbox", { unread: 1, read: ["a-11"], up_to: "a-12" });
  assert.equal(hark.unread, 2);
  await server.streams[0].send("inbox", { unread: 0, read_up_to: "a-13", up_to: "a-13" });
  assert.equal(hark.unread, 0);
});

test("marking shows without delay, and is undone when the server refuses", async () => {
  const page = { notifications: [{ ...note("a-10"), status: "unread" }], unread: 1 };
  server.routes["GET /v1/notifications"] = () => page;
  server.routes["POST /v1/notifications/a-10/read"] = () => ({ status: 503, code: "unavailable" });
  server.routes["POST /v1/notifications/read"] = server.routes["POST /v1/notifications/a-10/read"];
  const hark = await open();
  await hello();
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

test("deleting shows without delay, and is undone when the server refuses", async () => {
  server.routes["GET /v1/notifications"] = () => ({ notifications: [{ ...note("a-10"), status: "unread" }], unread: 1 });
  server.routes["DELETE /v1/notifications/a-10"] = () => ({ status: 503, code: "unavailable" });
  const hark = await open();
  await hello();
  await turn();
  const removed = hark.remove("a-10");
  assert.deepEqual([hark.unread, hark.notifications], [0, []]);
  await assert.rejects(removed, HarkError);
  assert.deepEqual([hark.unread, hark.notifications.length], [1, 1]);
});

test("enqueue retries with the same key without a clear response", async (t) => {
  t.mock.timers.enable({ apis: clock });
  const hark = await open();
  let tries = 0;
  server.routes["POST /v1/jobs"] = () => (++tries < 3 ? new TypeError("network") : job("j", 1, "queued"));
  const asked = hark.enqueue("export", { dataset: "orders" });
  for (let i = 0; i < 3; i++) { await turn(); t.mock.timers.tick(5000); }
  assert.equal((await asked).id, "j");
  const keys = server.requests.filter((request) => request.method === "POST").map((request) => request.headers["Idempotency-Key"]);
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.equal(hark.jobs[0].id, "j");
});

test("a link to a file is fetched each time, with the token", async () => {
  let n = 0;
  server.routes["POST /v1/jobs/J%201/file/link"] = () => ({ url: `v1/jobs/J%201/file?link=${++n}`, expires_at: "2026-01-01T00:01:00Z" });
  const hark = await open({ token: () => "t" });
  assert.equal(await hark.fileLink({ id: "J 1" }), "https://hark.example/v1/jobs/J%201/file?link=1");
  assert.equal(await hark.fileLink({ id: "J 1" }), "https://hark.example/v1/jobs/J%201/file?link=2");
  assert.equal(server.requests.at(-1).headers.Authorization, "Bearer t");
});

test("deleting a file merges the job of the response", async () => {
  const hark = await open();
  const gone = { ...job("J 1", 9, "succeeded"), file: { name: "a.csv", size: 1, expires_at: "2026-01-01T00:00:00Z" } };
  server.routes["DELETE /v1/jobs/J%201/file"] = () => gone;
  assert.deepEqual(await hark.deleteFile("J 1"), gone);
  assert.equal(hark.known("J 1").file.expires_at, "2026-01-01T00:00:00Z");
});

test("all URLs of hark are below its path", async () => {
  server.routes["POST /tools/hark/v1/jobs/J/file/link"] = () => ({ url: "v1/jobs/J/file?link=x", expires_at: "2026-01-01T00:01:00Z" });
  const hark = await open({ base: "https://hark.example/tools/hark" });
  const file = { name: "orders.xlsx", size: 1, content_type: "x" };
  const at = "https://hark.example/tools/hark/v1/jobs/J/file";
  assert.equal(hark.fileURL({ id: "J", file }), at);
  assert.equal(hark.fileURL({ id: "m-7", job_id: "J", file }), at);
  assert.equal(hark.fileURL({ id: "J" }), undefined);
  assert.equal(hark.fileURL(undefined), undefined);
  assert.equal(await hark.fileLink({ id: "J" }), `${at}?link=x`);
  assert.equal(await hark.fileLink({ id: "m-7", job_id: "J" }), `${at}?link=x`);
  assert.ok(server.requests.every((request) => request.path.startsWith("/tools/hark/v1/")));
});

test("enqueue throws the server's problem", async () => {
  const hark = await open();
  server.routes["POST /v1/jobs"] = () => ({ status: 400, code: "param_missing", detail: "params.from is missing", field: "params.from" });
  await assert.rejects(hark.enqueue("export"), { name: "HarkError", status: 400, code: "param_missing", field: "params.from", message: "params.from is missing" });
});

test("a handler that throws does not stop the others", async (t) => {
  t.mock.method(console, "error", () => {});
  const hark = await open();
  hark.on("notification", () => { throw new Error("mine"); });
  let reached = false;
  hark.on("notification", () => { reached = true; });
  await hello();
  await server.streams[0].send("notification", note("a-11"));
  assert.equal(reached, true);
});

test("lists that overlap what is known keep their place; a gap starts over", async () => {
  server.routes["GET /v1/jobs"] = () => ({ jobs: [job("c", 3, "succeeded"), job("b", 2, "succeeded")], next: "b" });
  const hark = await open();
  await hello();
  await turn();
  server.routes["GET /v1/jobs"] = (request) => (request.query.get("after") === "b" ? { jobs: [job("a", 1, "succeeded")] } : { jobs: [job("c", 3)], next: "c" });
  await hark.more("jobs");
  assert.equal(hark.hasMore("jobs"), false);
  assert.deepEqual(hark.jobs.map((it) => it.id), ["c", "b", "a"]);
  await hello();
  await turn();
  assert.equal(hark.hasMore("jobs"), false);
  server.routes["GET /v1/jobs"] = () => ({ jobs: [job("z", 99, "succeeded")], next: "z" });
  await hello();
  await turn();
  assert.deepEqual([hark.jobs.map((it) => it.id), hark.hasMore("jobs")], [["z"], true]);
});

test("at the count limit there may be more unread notifications than known", async () => {
  const known = Array.from({ length: countLimit }, (_, i) => ({ ...note(`a-${2000 - i}`), status: "unread" }));
  server.routes["GET /v1/notifications"] = () => ({ notifications: known.slice(1), unread: countLimit - 1 });
  const hark = await open();
  await hello();
  await turn();
  assert.deepEqual([hark.unreadNotifications.length, hark.hasMore("unread")], [countLimit - 1, false]);
  server.routes["GET /v1/notifications"] = () => ({ notifications: known, unread: countLimit, next: "a-1001" });
  await hello();
  await turn();
  assert.deepEqual([hark.unreadNotifications.length, hark.hasMore("unread")], [countLimit, true]);
});
