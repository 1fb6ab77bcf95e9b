import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { caller, connect } from "../hark.js";
import { FakeBrowser } from "./browser.mjs";
import { FakeServer, note, problem, turn } from "./server.mjs";

let server, browser, t;
const realFetch = globalThis.fetch;
const base = "https://hark.example";

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

async function open(options = {}, visible = false) {
  const tab = browser.open(visible);
  Object.assign(tab, { got: [], toasts: [], users: 0 });
  tab.run(() => {
    tab.hark = connect({ base, ...options });
    tab.hark.on("notification", (it) => tab.got.push(it.id));
    tab.hark.on("toast", (all) => tab.toasts.push(all.map((it) => it.id)));
    tab.hark.on("user", () => tab.users++);
  });
  await turn();
  return tab;
}
async function pass(ms) {
  for (let at = 0; at < ms; at += 100) { t.mock.timers.tick(100); await turn(4); }
}
const streams = () => server.streams.filter((stream) => stream.open).length;
const statuses = (...tabs) => tabs.map((tab) => tab.hark.status);

test("tabs share a stream, and with it their changes", async () => {
  const [one, two] = [await open(), await open()];
  await server.hello();
  const three = await open();
  await server.stream.send("notification", note("a-11"));
  await server.stream.send("inbox", { unread: 0, read: ["a-11"], up_to: "a-11" }, "");
  for (const tab of [one, two, three]) assert.deepEqual([tab.got, tab.hark.status, tab.hark.unread], [["a-11"], "live", 0]);
  assert.deepEqual([one, two, three].map((tab) => tab.hark.leads), [true, false, false]);
  assert.equal(streams(), 1);
});

test("what arrives is shown in the tab that the user looks at, and in no other", async () => {
  const tabs = [await open(), await open({}, true), await open()];
  await server.hello();
  await server.stream.send("notification", note("a-11"));
  await pass(5000);
  assert.deepEqual(tabs.map((tab) => tab.toasts), [[], [["a-11"]], []]);
  tabs[1].show(false);
  await server.stream.send("notification", note("a-12"));
  await server.stream.send("notification", note("a-13"));
  await pass(5000);
  assert.deepEqual(tabs.map((tab) => tab.toasts), [[["a-12", "a-13"]], [["a-11"]], []]);
  tabs[2].show();
  tabs[0].crash();
  await turn();
  await server.hello("a-13");
  await server.stream.send("notification", note("a-14"));
  await pass(5000);
  assert.deepEqual(tabs[2].toasts, [["a-14"]]);
});

test("the leader waits for a tab that the user looks at and that waits for its list", async () => {
  const [one, two, three] = [await open(), await open({}, true), await open()];
  await server.hello("a-10");
  await pass(1000);
  const answers = [], list = { notifications: [{ ...note("a-11"), status: "unread" }], unread: 1 };
  server.routes["GET /v1/notifications"] = () => new Promise((resolve) => answers.push(() => resolve(list)));
  await server.stream.fail();
  for (let i = 0; i < 20 && server.streams.length < 2; i++) await pass(100);
  server.stream.send("hello", { user: "ana", id: "a-10" });
  await server.stream.send("notification", note("a-11"));
  const [first, second, third] = answers.splice(0);
  first(); third();
  await pass(2500);
  assert.deepEqual([one.toasts, two.toasts, three.toasts], [[], [], []]);
  second();
  await pass(5000);
  assert.deepEqual([one.toasts, two.toasts, three.toasts], [[], [["a-11"]], []]);
});

test("the leader waits for a tab that the user looks at as long as that holds what was missed", async () => {
  const [one, two] = [await open(), await open({}, true)];
  await server.hello("a-10");
  await pass(1000);
  let answered = 0;
  const list = { notifications: [{ ...note("a-11"), status: "unread" }], unread: 1 };
  server.routes["GET /v1/notifications"] = () => (answered++ ? new Promise(() => {}) : list);
  await server.stream.fail();
  for (let i = 0; i < 20 && server.streams.length < 2; i++) await pass(100);
  server.stream.send("hello", { user: "ana", id: "a-10" });
  await server.stream.send("notification", note("a-11"));
  await pass(6000);
  assert.deepEqual([one.toasts, two.toasts], [[], [["a-11"]]]);
});

for (const [name, go, wait] of [
  ["is hidden", (tab) => tab.show(false), 1000],
  ["is closed", (tab) => tab.run(() => tab.window.dispatchEvent(new Event("pagehide"))), 1000],
  ["crashes", (tab) => tab.crash(), 4000],
]) {
  test(`the leader does not wait for long for a tab that ${name}, and only once`, async () => {
    const [one, two] = [await open(), await open({}, true)];
    await server.hello("a-10");
    await pass(1000);
    go(two);
    await turn();
    await server.stream.send("notification", note("a-11"));
    await pass(wait);
    assert.deepEqual(one.toasts, [["a-11"]]);
    await server.stream.send("notification", note("a-12"));
    await pass(1000);
    assert.deepEqual(one.toasts, [["a-11"], ["a-12"]]);
  });
}

test("a new leader waits for the tab that the user looks at, also for one that was slow once", async () => {
  const [one, two] = [await open(), await open({}, true)];
  await server.hello("a-10");
  const three = await open(); // it does not know which tab the user looks at
  two.run(() => two.hark.close());
  two.hark = two.run(() => connect({ base, user: "ana" })); // after it in the queue for the lead
  two.toasts = [];
  two.run(() => two.hark.on("toast", (all) => two.toasts.push(all.map((it) => it.id))));
  await pass(500);
  one.crash();
  await turn();
  await server.hello("a-10");
  await pass(500);
  assert.equal(three.hark.leads, true);
  for (const [id, slow] of [["a-11", 2500], ["a-12", 6000], ["a-13", 2500]]) {
    two.hang();
    await server.stream.send("notification", note(id));
    await pass(slow);
    two.goOn();
    await pass(3000);
  }
  assert.deepEqual([two.toasts, three.toasts], [[["a-11"], ["a-13"]], [["a-12"]]]);
});

test("without a session there is no stream; one that signs in does so for all tabs", async () => {
  server.routes["GET /v1/session"] = () => problem(401, "token_missing");
  const [one, two] = [await open(), await open()];
  assert.deepEqual([statuses(one, two), streams()], [["unauthorized", "unauthorized"], 0]);
  server.routes["GET /v1/session"] = server.routes["POST /v1/session"] = () => ({ user: "ana" });
  await one.run(() => caller({ base })("POST", "/v1/session", { body: { user: "ana" } }));
  await turn();
  await server.hello();
  assert.deepEqual([statuses(one, two), streams()], [["live", "live"], 1]);
});

test("another user who signs in, and signing out, reach every tab; no data of a user stays", async () => {
  const [one, two] = [await open(), await open()];
  await server.hello();
  await server.stream.send("notification", note("a-11"));
  const first = server.stream;
  server.routes["GET /v1/session"] = server.routes["POST /v1/session"] = () => ({ user: "bob" });
  await two.run(() => caller({ base })("POST", "/v1/session", { body: { user: "bob" } }));
  await turn();
  assert.equal(first.open, false);
  await server.hello("a-20", "bob");
  for (const tab of [one, two]) assert.deepEqual([tab.hark.user, tab.hark.status, tab.hark.notifications, tab.hark.unread, tab.users], ["bob", "live", [], 0, 1]);
  server.routes["GET /v1/session"] = () => problem(401, "token_missing");
  server.routes["DELETE /v1/session"] = () => new Response(null, { status: 204 });
  await one.run(() => caller({ base })("DELETE", "/v1/session"));
  await turn();
  assert.deepEqual([statuses(one, two), streams()], [["unauthorized", "unauthorized"], 0]);
});

test("a cookie that became another user's by itself is noticed with the next stream, and no tab hears of it", async () => {
  const [one, two] = [await open(), await open()];
  await server.hello();
  await server.stream.fail();
  server.routes["GET /v1/session"] = () => ({ user: "bob" });
  await pass(1000);
  for (let i = 0; i < 20 && streams() === 0; i++) await pass(100);
  server.stream.send("hello", { user: "bob", id: "a-20" });
  await server.stream.send("notification", note("a-20"));
  for (let i = 0; i < 50 && (one.hark.user !== "bob" || streams() === 0); i++) await pass(100);
  await server.hello("a-20", "bob");
  await turn();
  assert.deepEqual([one.got, two.got], [[], []]);
  assert.equal(one.hark.user, "bob");
});

test("a tab whose token is refused leaves the stream to one that has a better one", async () => {
  server.refusal = ({ headers }) => (headers.Authorization === "Bearer old" ? problem(401, "token_expired") : undefined);
  const one = await open({ user: "ana", token: () => "old" });
  assert.deepEqual([statuses(one), streams()], [["unauthorized"], 0]);
  const two = await open({ user: "ana", token: () => "new" });
  await turn();
  await server.hello();
  assert.deepEqual([statuses(one, two), one.hark.leads, two.hark.leads], [["live", "live"], false, true]);
});

test("a token that expired in a hidden tab is asked for again, and the tab is live with the next one", async () => {
  let current = "old";
  server.refusal = ({ headers }) => (headers.Authorization === "Bearer old" ? problem(401, "token_expired") : undefined);
  const one = await open({ user: "ana", token: () => current });
  await pass(3000);
  assert.equal(one.hark.status, "unauthorized");
  current = "new";
  for (let i = 0; i < 100 && streams() === 0; i++) await pass(500);
  await server.hello();
  assert.equal(one.hark.status, "live");
});

test("tabs with a token and tabs with the cookie do not share, nor do users", async () => {
  await open({ user: "ana", token: () => "jwt" });
  await open({ user: "ana" });
  await open({ user: "bob", token: () => "other" });
  await open({ user: "ana", base: "https://hark.example/other" });
  await turn();
  assert.equal(streams(), 4);
});
