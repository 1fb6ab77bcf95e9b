import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Connection } from "../assets/connection.js";
import { FakeServer, note, problem, turn } from "./server.mjs";

let server, connection, t, events, states;
const realFetch = globalThis.fetch;

beforeEach((context) => {
  t = context;
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
  t.mock.method(Math, "random", () => 1);
  server = new FakeServer();
  globalThis.fetch = server.fetch;
  [events, states] = [[], []];
});
afterEach(() => {
  connection.stop();
  globalThis.fetch = realFetch;
});

async function open(options = {}) {
  connection = new Connection({
    base: "https://hark.example", ...options,
    onEvent: (event) => events.push(event), onState: (state) => states.push(state),
  });
  connection.start();
  await turn();
}
/** Lets time pass, second by second. */
async function pass(seconds) {
  for (let i = 0; i < seconds; i++) { t.mock.timers.tick(1000); await turn(4); }
}
/** Lets the machine sleep: no timer runs meanwhile. */
async function sleep(seconds) {
  const until = Date.now() + seconds * 1000;
  t.mock.timers.setTime(until);
  await turn();
}
const heartbeat = () => server.stream.write("event: heartbeat\ndata: {}\n\n");
const ids = () => events.filter((event) => event.type === "notification").map((event) => event.id);
const polls = () => server.requests.filter((request) => request.path === "/v1/events");
const status = () => connection.state.status;

test("each event has the id before it, from where the stream was resumed on", async () => {
  await open({ after: "a-8" });
  assert.equal(server.stream.query.get("last_event_id"), "a-8");
  await server.hello("a-8");
  for (const id of ["a-9", "a-12"]) await server.stream.send("notification", note(id));
  assert.deepEqual(events.map(({ type, id, prev }) => [type, id, prev]), [["hello", "a-8", "a-8"], ["notification", "a-9", "a-8"], ["notification", "a-12", "a-9"]]);
});

test("a hello moves the position, and one before a reset does not", async () => {
  await open({ after: "a-8-8" });
  await server.hello("a-8-9");
  await server.stream.fail();
  for (let i = 0; i < 31 && server.streams.length < 2; i++) await pass(1);
  assert.equal(server.stream.query.get("last_event_id"), "a-8-9");
  await server.stream.send("hello", { user: "ana", id: "b-1-1" }, "");
  await server.stream.fail();
  for (let i = 0; i < 31 && server.streams.length < 3; i++) await pass(1);
  assert.equal(server.stream.query.get("last_event_id"), "a-8-9");
  await server.stream.send("hello", { user: "ana", id: "b-1-1" }, "");
  await server.stream.send("reset", { reason: "other_epoch", id: "b-1-1" });
  assert.deepEqual(events.map(({ type, id, prev }) => [type, id, prev]), [["hello", "a-8-9", "a-8-8"], ["hello", "", "a-8-9"], ["hello", "", "a-8-9"], ["reset", "b-1-1", "a-8-9"]]);
});

test("a lost stream is opened again after the last id, later each time it fails", async () => {
  await open();
  await server.hello("a-10");
  await server.stream.send("notification", note("a-11"));
  server.refusal = () => Promise.reject(new TypeError("network"));
  const before = server.requests.length;
  await server.stream.fail();
  assert.equal(status(), "reconnecting");
  await pass(1);
  assert.equal(server.requests.length, before + 1);
  await pass(1);
  assert.equal(server.requests.length, before + 1);
  await pass(1);
  assert.equal(server.requests.length, before + 2);
  await pass(40);
  assert.equal(status(), "offline");
  server.refusal = undefined;
  for (let i = 0; i < 31 && server.streams.length < 2; i++) await pass(1);
  assert.equal(server.stream.query.get("last_event_id"), "a-11");
  await server.hello("a-11");
  assert.equal(status(), "live");
});

test("comments and heartbeats keep a stream; after 40 s without a byte it is opened again, and the state says since when", async () => {
  await open();
  await server.hello();
  const began = Date.now();
  for (let i = 0; i < 4; i++) { await pass(30); await (i % 2 ? heartbeat() : server.stream.write(":\n\n")); }
  assert.equal(server.streams.length, 1);
  const last = Date.now();
  assert.equal(status(), "live");
  assert.equal(last - began, 120_000);
  await pass(21);
  assert.deepEqual([status(), connection.state.since], ["reconnecting", last]);
  await heartbeat();
  await pass(1);
  assert.equal(status(), "live");
  const again = Date.now() - 1000;
  await pass(40);
  assert.deepEqual([server.streams.length, status(), connection.state.problem.code, connection.state.since], [1, "reconnecting", "silent", again]);
  assert.equal(server.streams[0].open, false);
  await pass(1);
  assert.equal(server.streams.length, 2);
});

test("a stream that says no hello within 10 s is mute, and after two of them it polls with the same ids", async () => {
  let n = 0;
  const answers = [
    { stream: "s1", id: "a-12", events: [{ event: "hello", id: "a-10", data: { user: "ana", id: "a-10" } }, { event: "notification", id: "a-11", data: note("a-11") }] },
    { stream: "s2", id: "a-14", events: [{ event: "notification", id: "a-13", data: note("a-13") }] },
  ];
  server.routes["GET /v1/events"] = () => answers[n++] ?? new Promise(() => {});
  await open({ after: "a-10" });
  await pass(22);
  assert.equal(server.streams.length, 2);
  for (let i = 0; i < 10 && polls().length < 3; i++) await pass(1);
  assert.deepEqual(polls().map(({ query }) => Object.fromEntries(query)), [
    { after: "a-10", wait: "25" }, { after: "a-12", wait: "25", stream: "s1" }, { after: "a-14", wait: "25", stream: "s2" },
  ]);
  assert.deepEqual(events.map(({ type, id, prev }) => [type, id, prev]), [["hello", "a-10", "a-10"], ["notification", "a-11", "a-10"],
    ["position", "a-12", "a-11"], ["notification", "a-13", "a-12"], ["position", "a-14", "a-13"]]);
  assert.deepEqual([status(), connection.state.transport], ["live", "polling"]);
});

test("while it polls a stream is tried beside it, and takes over once it says hello", async () => {
  server.routes["GET /v1/events"] = ({ query }) => (query.has("stream") ? new Promise((resolve) => { setTimeout(() => resolve({ stream: "s", id: "a-10", events: [] }), 25_000); }) : { stream: "s", id: "a-10", events: [{ event: "hello", id: "a-10", data: { user: "ana", id: "a-10" } }] });
  await open();
  await pass(25);
  assert.equal(connection.state.transport, "polling");
  await pass(30);
  assert.equal(server.streams.length, 3);
  await pass(12); // mute again
  assert.deepEqual([server.stream.open, status(), connection.state.transport], [false, "live", "polling"]);
  await pass(60);
  assert.equal(server.streams.length, 4);
  await server.hello("a-11");
  assert.equal(connection.state.transport, "stream");
  assert.equal(polls().at(-1).signal.aborted, true);
  await server.stream.send("notification", note("a-11"));
  assert.deepEqual(ids(), ["a-11"]);
});

test("when polling fails, too, streams are tried again: the server is silent, not only the stream", async () => {
  server.routes["GET /v1/events"] = () => new Promise(() => {});
  await open();
  await pass(45);
  assert.ok(polls().length >= 1);
  const before = server.streams.length;
  assert.ok(before >= 3);
  await server.hello();
  assert.deepEqual([status(), connection.state.transport], ["live", "stream"]);
});

test("a machine that wakes opens its stream at once", async () => {
  await open();
  await server.hello();
  await sleep(600);
  t.mock.timers.tick(1000); // the first timer after that
  await turn();
  assert.equal(server.streams.length, 2);
  await server.hello();
  assert.equal(status(), "live");
});

test("a late timer, as in a hidden tab, does not end a live stream", async () => {
  await open();
  await server.hello();
  for (let i = 0; i < 5; i++) {
    await sleep(60);
    await heartbeat();
    connection.tick();
  }
  assert.equal(server.streams.length, 1);
});

test("it reconnects without delay when the network is back, also if the stream seemed to be live", async () => {
  server.refusal = () => Promise.reject(new TypeError("network"));
  await open();
  await pass(60);
  server.refusal = undefined;
  const before = server.streams.length;
  connection.wake(true);
  await turn();
  assert.equal(server.streams.length, before + 1);
  await server.hello();
  connection.wake();
  await turn();
  assert.equal(server.streams.length, before + 1);
  connection.wake(true);
  await turn();
  assert.equal(server.streams.length, before + 2);
});

for (const [code, answer, wait, want] of [
  ["token_expired", [401, "token_expired"], 1, "unauthorized"],
  ["proxied", [403, "proxied"], 1, "reconnecting"],
  ["rate_limited", [429, "rate_limited", { "Retry-After": "20" }], 20, "reconnecting"],
  ["queue_unavailable", [503, "queue_unavailable", { "Retry-After": "5" }], 5, "reconnecting"],
]) {
  test(`a refusal is read: ${answer[0]} ${code}`, async () => {
    server.refusal = () => problem(...answer);
    await open();
    assert.deepEqual([status(), connection.state.problem], [want, { status: answer[0], code, detail: `It is ${code}.` }]);
    server.refusal = undefined;
    await pass(wait - 1);
    assert.equal(server.streams.length, 0);
    await pass(2);
    assert.equal(server.streams.length, 1);
    await server.hello();
    assert.equal(status(), "live");
  });
}

test("an HTML page in place of a stream is not a stream", async () => {
  server.refusal = () => new Response("<title>Sign in to the hotel</title>", { headers: { "Content-Type": "text/html" } });
  await open();
  assert.deepEqual([status(), connection.state.problem.code], ["reconnecting", "not_a_stream"]);
});

test("after bye it reconnects after the time of retry; after too_many_streams late; with an expired token without delay", async () => {
  await open();
  await server.stream.write("retry: 7000\n\n");
  await server.hello();
  await server.stream.send("bye", { code: "shutting_down" });
  await server.stream.end();
  await pass(6);
  assert.equal(server.streams.length, 1);
  await pass(2);
  assert.equal(server.streams.length, 2);
  await server.hello();
  await server.stream.send("bye", { code: "too_many_streams" });
  await server.stream.end();
  await pass(15);
  assert.equal(server.streams.length, 2);
  await pass(20);
  assert.equal(server.streams.length, 3);
  await server.hello();
  await server.stream.send("bye", { code: "token_expired" });
  await server.stream.end();
  await pass(1);
  assert.equal(server.streams.length, 4);
});

test("before its token expires a stream is replaced by one with a fresh token, without a gap", async () => {
  let n = 0;
  await open({ token: () => `jwt${++n}` });
  await server.hello("a-10");
  await server.stream.send("auth", { expires_at: "2026-01-01T00:00:00Z" });
  for (let i = 0; i < 3; i++) { await pass(7); await server.streams[0].write(":\n\n"); }
  assert.equal(server.streams.length, 2);
  await server.streams[0].send("notification", note("a-11"));
  await server.hello("a-12");
  await server.stream.send("notification", note("a-11"));
  await server.stream.send("notification", note("a-12"));
  assert.deepEqual(ids(), ["a-11", "a-11", "a-12"]); // the flow of each tab takes each once
  assert.deepEqual(states.map((state) => state.status), ["live"]);
  assert.equal(server.stream.headers.Authorization, "Bearer jwt2");
});

test("a token callback that never returns does not block it for ever", async () => {
  await open({ token: () => new Promise(() => {}) });
  await pass(12);
  assert.deepEqual([status(), connection.state.problem.code], ["reconnecting", "silent"]);
});

test("without a place for a stream it polls in short calls, and takes a place that becomes free", async () => {
  let free = false, n = 0;
  server.routes["GET /v1/events"] = () => ({ stream: `s${++n}`, id: "a-10", events: n === 1 ? [{ event: "hello", id: "a-10", data: { user: "ana", id: "a-10" } }] : [] });
  await open({ lease: { take: () => free, release() {} } });
  assert.deepEqual([polls()[0].query.get("wait"), connection.state.transport], ["0", "polling"]);
  await pass(20);
  assert.ok(polls().length > 2 && polls().length < 6, `${polls().length} polls`);
  free = true;
  await pass(15);
  assert.equal(server.streams.length, 1);
  await server.hello();
  assert.equal(connection.state.transport, "stream");
});

test("a stopped stream reports nothing more", async () => {
  await open();
  connection.stop();
  await server.hello();
  await pass(60);
  assert.deepEqual([events, states, server.streams.length], [[], [], 1]);
});
