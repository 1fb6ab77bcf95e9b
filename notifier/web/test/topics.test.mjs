import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect } from "../hark.js";
import { FakeBrowser } from "./browser.mjs";
import { FakeServer, note, problem, turn } from "./server.mjs";

let server, browser, t;
const realFetch = globalThis.fetch;

beforeEach((context) => {
  t = context;
  browser = new FakeBrowser();
  browser.install(t);
  server = new FakeServer();
  globalThis.fetch = server.fetch;
});
afterEach(() => {
  for (const tab of browser.tabs) tab.run(() => tab.hark.close());
  browser.uninstall();
  globalThis.fetch = realFetch;
});

async function open(...topics) {
  const tab = browser.open();
  Object.assign(tab, { got: [], missed: [], errors: [], notes: [], ends: {}, statuses: [] });
  tab.run(() => {
    tab.hark = connect({ base: "https://hark.example" });
    tab.hark.on("error", (err) => tab.errors.push(err.code));
    tab.hark.on("status", (status) => tab.statuses.push(status));
    tab.hark.on("notification", (it) => tab.notes.push(it.id));
  });
  subscribe(tab, ...topics);
  await turn();
  return tab;
}
function subscribe(tab, ...topics) {
  tab.run(() => {
    for (const topic of topics) tab.ends[topic] = tab.hark.subscribe(topic, (e) => tab.got.push(`${topic} ${e.data}`), () => tab.missed.push(topic));
  });
}
async function pass(ms) {
  for (let at = 0; at < ms; at += 100) { t.mock.timers.tick(100); await turn(4); }
}
const topicsOf = (stream) => stream.query.getAll("topic");
const openStreams = () => server.streams.filter((stream) => stream.open);
const live = (topic, data) => server.stream.send("live", { topic, type: "x", data }, "");

test("a page gets the events of its topics, and fetches its state once when they begin", async () => {
  const tab = await open("a", "_user");
  assert.deepEqual([topicsOf(server.stream), tab.missed], [["_user", "a"], []]);
  await server.hello();
  assert.deepEqual(tab.missed.sort(), ["_user", "a"]);
  await live("a", 1); await live("_user", 2); await live("b", 3);
  assert.deepEqual([tab.got, tab.missed.length, openStreams().length], [["a 1", "_user 2"], 2, 1]);
});

test("a new topic is added without a gap, and no other topic counts as missed", async () => {
  const tab = await open("a");
  await server.hello();
  const first = server.stream;
  subscribe(tab, "b", "c");
  await turn();
  const second = server.stream;
  assert.deepEqual([first.open, topicsOf(second), second.query.get("last_event_id")], [true, ["a", "b", "c"], "a-10"]);
  await first.send("live", { topic: "a", type: "x", data: 1 }, "");
  await server.hello();
  await second.send("missed", { topics: ["a", "b", "c"] }, "");
  await live("a", 2); await live("c", 3);
  assert.deepEqual([tab.got, tab.missed, first.open, tab.statuses], [["a 1", "a 2", "c 3"], ["a", "b", "c"], false, ["live"]]);
  await second.send("missed", { topics: ["a"] }, "");
  assert.deepEqual(tab.missed, ["a", "b", "c", "a"]); // this one is missing indeed
  tab.run(() => { tab.ends.b(); tab.ends.c(); });
  await turn();
  assert.deepEqual(topicsOf(server.stream), ["a"]);
});

test("a stream that cannot be opened for new topics is tried again, and the one before goes on", async () => {
  const tab = await open("a");
  await server.hello();
  const first = server.stream;
  server.refusal = () => problem(503, "queue_unavailable");
  subscribe(tab, "b");
  await pass(1000);
  await first.send("live", { topic: "a", type: "x", data: 1 }, "");
  server.refusal = undefined;
  await pass(6000);
  assert.deepEqual([first.open, topicsOf(server.stream), tab.statuses], [true, ["a", "b"], ["live"]]);
  await server.hello();
  assert.deepEqual([first.open, tab.got], [false, ["a 1"]]);
});

test("tabs share one stream for all their topics, and each gets its own", async () => {
  const [one, two] = [await open("a"), await open("b")];
  await server.hello();
  await pass(500);
  assert.deepEqual([openStreams().length, topicsOf(server.stream)], [1, ["a", "b"]]);
  await live("a", 1); await live("b", 2);
  assert.deepEqual([one.got, two.got], [["a 1"], ["b 2"]]);
  const streams = server.streams.length;
  const three = await open("a");
  await pass(500);
  assert.deepEqual([server.streams.length, three.missed, one.missed], [streams, ["a"], ["a"]]);
  await live("a", 3);
  assert.deepEqual([one.got, three.got], [["a 1", "a 3"], ["a 3"]]);
  subscribe(one, "b"); // the leader, to a topic that its stream has for another tab
  await turn();
  assert.deepEqual([one.missed, two.missed], [["a", "b"], ["b"]]);
  three.run(() => three.hark.subscribe("a", () => {}, () => three.missed.push("again")));
  await turn();
  assert.deepEqual([three.missed, server.streams.length], [["a", "again"], streams]);
});

test("a new leader listens to the topics of all tabs, and all fetch what may be missing", async () => {
  const [one, two, three] = [await open("a"), await open("b"), await open("b", "c"), await open("d")];
  await server.hello();
  await pass(500);
  if (server.stream.open) await server.hello();
  for (const tab of [one, two, three]) tab.missed.length = 0;
  one.crash();
  await pass(500);
  assert.deepEqual(topicsOf(server.stream), ["b", "c", "d"]);
  await server.hello();
  await server.stream.send("missed", { topics: ["b", "c", "d"] }, "");
  assert.deepEqual([two.missed, three.missed], [["b"], ["b", "c"]]);
  three.crash();
  for (let i = 0; i < 12; i++) { await server.stream.send("heartbeat", {}, ""); await pass(15_000); }
  assert.deepEqual(topicsOf(server.stream), ["b", "d"]); // those of a follower that has crashed stay for some minutes
});

test("a tab that is closed takes its topics along", async () => {
  const [, two] = [await open("a"), await open("b")];
  await server.hello();
  await pass(500);
  two.run(() => two.hark.close());
  await pass(500);
  assert.deepEqual(topicsOf(server.stream), ["a"]);
});

test("after a reconnect every tab fetches what may be missing", async () => {
  const [one, two] = [await open("a"), await open("a")];
  await server.hello();
  await pass(500);
  for (const tab of [one, two]) tab.missed.length = 0;
  await server.stream.fail();
  await pass(2000);
  await server.hello();
  await server.stream.send("missed", { topics: ["a"] }, "");
  assert.deepEqual([one.missed, two.missed], [["a"], ["a"]]);
});

test("a tab that was frozen fetches what may be missing", async () => {
  const [, two] = [await open("a"), await open("a")];
  await server.hello();
  await pass(500);
  two.missed.length = 0;
  two.freeze();
  await live("a", 1);
  two.thaw();
  await pass(500);
  assert.deepEqual([two.got, two.missed], [[], ["a"]]);
});

test("a hidden tab, whose timers the browser runs about once a second, does not fetch its state each time", async () => {
  const [, two] = [await open("a"), await open("a")];
  await server.hello();
  await pass(2000);
  two.missed.length = 0;
  for (let i = 0; i < 5; i++) {
    two.hang();
    await pass(1100);
    two.goOn();
    await turn();
  }
  assert.deepEqual([two.missed, openStreams().length], [[], 1]);
});

test("a topic that the server refuses is an error of its tab, and stops nothing else", async () => {
  const refuse = ({ query }) => (query.getAll("topic").includes("secret")
    ? new Response(JSON.stringify({ status: 403, code: "topic_forbidden", topic: "secret", detail: "No." }), { status: 403 }) : undefined);
  server.refusal = refuse;
  const [one, two] = [await open("a"), await open("secret", "b")];
  await pass(500);
  for (const stream of openStreams()) await stream.send("hello", { user: "ana", id: "a-10" }, "a-10");
  await pass(500);
  for (const stream of openStreams()) await stream.send("hello", { user: "ana", id: "a-10" }, "a-10");
  assert.deepEqual([openStreams().length, topicsOf(server.stream), one.errors, two.errors], [1, ["a", "b"], [], ["topic_forbidden"]]);
  assert.deepEqual([one.statuses, two.statuses], [["live"], ["live"]]);
  await server.stream.send("notification", note("a-11"));
  await live("b", 1);
  assert.deepEqual([one.notes, two.notes, two.got], [["a-11"], ["a-11"], ["b 1"]]);
  assert.equal(server.requests.filter(({ path, query }) => path.endsWith("/stream") && query.getAll("topic").includes("secret")).length, 1);
});

test("a tab that subscribes to a topic after the server has refused it asks again, and gets an error of its own", async () => {
  let permitted = false;
  server.refusal = ({ query }) => (!permitted && query.getAll("topic").includes("secret")
    ? new Response(JSON.stringify({ status: 403, code: "topic_forbidden", topic: "secret", detail: "No." }), { status: 403 }) : undefined);
  const one = await open("a", "secret");
  await pass(500);
  await server.hello();
  assert.deepEqual(one.errors, ["topic_forbidden"]);
  const two = await open("secret");
  await pass(500);
  assert.deepEqual([two.errors, openStreams().length, topicsOf(openStreams()[0])], [["topic_forbidden"], 1, ["a"]]);
  await pass(10_000);
  assert.equal(server.requests.filter(({ path, query }) => path.endsWith("/stream") && query.getAll("topic").includes("secret")).length, 2);
  permitted = true;
  const three = await open("secret");
  await pass(500);
  await server.stream.send("hello", { user: "ana", id: "a-10" }, "a-10");
  await server.stream.send("missed", { topics: ["a", "secret"] }, "");
  assert.deepEqual([topicsOf(server.stream), one.missed, two.missed, three.missed], [["a", "secret"], ["a", "secret"], ["secret"], ["secret"]]);
});

test("a part of a page that subscribes at the moment at which another one ends its subscription fetches its state", async () => {
  const tab = await open("a");
  await server.hello();
  const streams = server.streams.length;
  tab.missed.length = 0;
  tab.run(() => tab.ends.a());
  subscribe(tab, "a");
  await turn();
  assert.deepEqual([tab.missed, server.streams.length], [["a"], streams]);
  await live("a", 1);
  assert.deepEqual(tab.got, ["a 1"]);
});

test("a fetch of the state that fails is tried again, later each time, until it succeeds or the subscription ends", async () => {
  t.mock.method(console, "error", () => {});
  const tab = await open();
  let calls = 0, fails = true, end;
  tab.run(() => {
    end = tab.hark.subscribe("a", () => {}, async () => { calls++; if (fails) throw new Error("no network"); });
  });
  await turn();
  await server.hello();
  assert.equal(calls, 1);
  await pass(10_000);
  assert.ok(calls >= 3 && calls < 10, `${calls} calls in 10 s`);
  fails = false;
  for (let i = 0; i < 4; i++) { await server.stream.send("heartbeat", {}, ""); await pass(15_000); }
  const done = calls;
  await server.stream.send("heartbeat", {}, "");
  await pass(10_000);
  assert.equal(calls, done);
  fails = true;
  await server.stream.send("missed", { topics: ["a"] }, "");
  tab.run(end);
  await server.stream.send("heartbeat", {}, "");
  await pass(10_000);
  assert.equal(calls, done + 1);
});

test("topics that would make a URL too long for a proxy are an error, and the others are listened to", async () => {
  const tab = await open(...Array.from({ length: 60 }, (_, i) => `t${1000 + i}.${"a=40b=2Ec.".repeat(10)}x`));
  await server.hello();
  assert.ok(server.stream.query.toString().length < 7000, server.stream.query.toString().length);
  assert.deepEqual([topicsOf(server.stream).length > 35, tab.errors.length + topicsOf(server.stream).length, new Set(tab.errors)], [true, 60, new Set(["too_many_topics"])]);
});

test("more topics than a stream has room for are an error, and the others are listened to", async () => {
  const tab = await open(...Array.from({ length: 101 }, (_, i) => `t${1000 + i}`));
  await server.hello();
  for (let i = 0; i < 5; i++) { await server.stream.send("heartbeat", {}, ""); await pass(15_000); }
  assert.deepEqual([topicsOf(server.stream).length, tab.errors, server.streams.length], [100, ["too_many_topics"], 1]);
});

test("a topic that is not well-formed is refused at once", async () => {
  const tab = await open();
  tab.run(() => {
    for (const topic of ["", "a..b", "_x", "_user.bob", "a b", "a.*", ">", "ä", "a".repeat(201), undefined, null, 7.5]) {
      if (topic === 7.5) assert.doesNotThrow(() => tab.hark.subscribe("7.5", () => {}));
      else assert.throws(() => tab.hark.subscribe(topic, () => {}), TypeError);
    }
  });
});

test("a page without subscriptions asks for no topics", async () => {
  const tab = await open();
  await server.hello();
  await server.stream.send("live", { topic: "a", type: "x" }, "");
  await server.stream.send("missed", { topics: ["a"] }, "");
  assert.deepEqual([topicsOf(server.stream), tab.got, tab.missed], [[], [], []]);
});

test("a page fetches who listens to a topic", async () => {
  const tab = await open();
  const answer = { topic: "room.a=40b", streams: 2, users: 1, listeners: ["ana"], complete: true };
  server.routes["GET /v1/topics/room.a%3D40b"] = () => answer;
  assert.deepEqual(await tab.hark.presence("room.a=40b"), answer);
  server.routes["GET /v1/topics/staff"] = () => problem(403, "topic_forbidden");
  await assert.rejects(tab.hark.presence("staff"), { status: 403, code: "topic_forbidden" });
  await assert.rejects(tab.hark.presence("a..b"), TypeError);
});

test("a page shows who listens: the list, and what changes while and after it is fetched", async () => {
  const tab = browser.open(), shown = [];
  let answer;
  server.routes["GET /v1/topics/room"] = () => new Promise((resolve) => { answer = (listeners, complete = true) => resolve({ topic: "room", listeners, complete }); });
  const users = (type, ...names) => server.stream.send("live", { topic: "room", type, data: { users: names } }, "");
  let end;
  tab.run(() => {
    tab.hark = connect({ base: "https://hark.example" });
    end = tab.hark.watchListeners("room", (all) => shown.push(all.join(" ")));
  });
  await turn();
  await server.hello();
  await users("leave", "bo");
  await users("join", "cyd");
  await live("room", 1);
  answer(["ana", "bo"]); // from before the events
  await turn();
  assert.equal(shown.at(-1), "ana cyd");
  await users("join", "bo", "dan");
  await users("leave", "ana");
  assert.equal(shown.at(-1), "bo cyd dan");
  await server.stream.send("missed", { topics: ["room"] }, "");
  answer(["ana"], false); // a notifier has not answered
  await pass(3000);
  answer(["ana", "eve"]);
  await turn();
  assert.equal(shown.at(-1), "ana eve");
  const n = shown.length;
  end();
  await users("join", "fay");
  assert.equal(shown.length, n);
});
