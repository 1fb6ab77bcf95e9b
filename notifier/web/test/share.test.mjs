import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Share } from "../assets/share.js";
import { FakeBrowser } from "./browser.mjs";
import { turn } from "./server.mjs";

let browser, log, lines, t, epoch;

/** The marks of a position: own and all. */
const marksOf = (at) => at.split("-").slice(1).map((mark) => parseInt(mark, 36));
const positionOf = (marks) => [epoch, ...marks.map((mark) => mark.toString(36))].join("-");
const numberOf = (id) => Number(id.split("-")[1]);
/** Every third notification is a broadcast: it moves the mark all. */
const logOf = (id) => (numberOf(id) % 3 === 0 ? 1 : 0);

/** A stream of the log: it says hello, brings what stands after a position, and then what is published. */
class Line {
  state = { status: "connecting", since: 0 };
  ticks = 0;
  wakes = 0;
  constructor(options) { Object.assign(this, options); }
  start() {
    this.open = true;
    lines.push(this);
    this.greet();
  }
  greet() {
    const at = this.after || positionOf([log.length, log.length]);
    this.after = at;
    this.send({ type: "hello", id: at, prev: at, data: { user: this.user ?? "ana", id: at } });
    this.say("live");
    const marks = marksOf(at);
    for (const id of log) if (numberOf(id) > marks[logOf(id)]) this.notify(id);
  }
  notify(id) {
    const prev = this.after, marks = marksOf(prev);
    marks[logOf(id)] = numberOf(id);
    this.after = positionOf(marks);
    this.send({ type: "notification", id: this.after, prev, data: { id } });
  }
  send(event) { this.tab.run(() => this.open && this.onEvent(event)); }
  say(status) { this.state = { status, since: 0 }; this.tab.run(() => this.open && this.onState(this.state)); }
  resume(after) { this.resumed = after; this.after = after; this.greet(); }
  stop() { this.open = false; }
  listening = [];
  listen(topics) { this.listening = topics; }
  tick() { this.ticks++; }
  wake() { this.wakes++; }
}
function publish() {
  const id = `${epoch}-${log.length + 1}`;
  log.push(id);
  for (const line of lines) if (line.open && line.tab.alive) line.notify(id);
  return id;
}

beforeEach((context) => {
  t = context;
  browser = new FakeBrowser();
  browser.install(t);
  [log, lines, epoch] = [[], [], "a"];
});
afterEach(() => {
  for (const tab of browser.tabs) tab.run(() => tab.share.stop());
  browser.uninstall();
});

async function open(options = {}, visible = false) {
  const tab = browser.open(visible);
  Object.assign(tab, { got: [], resets: 0, hellos: 0, users: [], shown: [], missed: [] });
  tab.run(() => {
    tab.share = new Share({
      name: "hark ana", user: "ana", ...options,
      connect: (o) => new Line({ ...o, tab, ...options.line }),
      onEvent: (type, data) => {
        if (type === "notification") tab.got.push(data.id);
        if (type === "reset") tab.resets++;
        if (type === "hello") tab.hellos++;
        if (type === "missed") tab.missed.push(...data.topics);
      },
      onState: (state) => { tab.status = state.status; },
      onShown: (id) => tab.shown.push(id),
      onUser: (user) => tab.users.push(user),
    });
    tab.share.start();
  });
  await turn();
  return tab;
}
async function pass(ms) {
  for (let at = 0; at < ms; at += 100) { t.mock.timers.tick(100); await turn(3); }
}
const leaders = () => browser.tabs.filter((tab) => tab.alive && tab.share.leading);
const openLines = () => lines.filter((line) => line.open && line.tab.alive);

test("of twenty tabs one has a stream, and each gets each event once", async () => {
  const tabs = [];
  for (let i = 0; i < 20; i++) tabs.push(await open());
  publish(); publish();
  await turn();
  assert.equal(lines.length, 1);
  for (const tab of tabs) assert.deepEqual([tab.got, tab.status, tab.hellos], [["a-1", "a-2"], "live", 1]);
});

test("a later tab begins at the end of the log, and gets the events after it", async () => {
  const one = await open();
  publish();
  const two = await open();
  publish();
  await turn();
  assert.deepEqual([one.got, two.got, two.hellos], [["a-1", "a-2"], ["a-2"], 1]);
});

for (const [name, end, back] of [
  ["is closed", (tab) => { tab.run(() => tab.share.stop()); tab.crash(); }],
  ["crashes", (tab) => tab.crash()],
  ["is frozen", (tab) => tab.freeze(), (tab) => tab.thaw()],
  ["enters the back-forward cache", (tab) => tab.goAway(), (tab) => tab.comeBack()],
  ["hangs", (tab) => tab.hang(), (tab) => tab.goOn()],
]) {
  test(`a leader that ${name} is replaced within 2 s, and no tab misses or repeats an event`, async () => {
    const [one, two, three] = [await open(), await open(), await open()];
    publish();
    await turn();
    end(one);
    publish();
    await pass(2000);
    publish();
    await turn();
    assert.deepEqual([two.got, three.got], [["a-1", "a-2", "a-3"], ["a-1", "a-2", "a-3"]]);
    assert.deepEqual([two.status, three.status, leaders().filter((tab) => tab !== one).length], ["live", "live", 1]);
    if (!back) return;
    await pass(5000);
    back(one);
    await turn();
    publish();
    await pass(3000);
    for (const tab of [one, two, three]) assert.deepEqual([tab.got, tab.status, tab.resets], [["a-1", "a-2", "a-3", "a-4"], "live", 0]);
    assert.equal(leaders().length, 1);
    assert.equal(openLines().length, 1);
  });
}

test("a tab that was frozen for longer than the leader's buffer gets the missed events from the log", async () => {
  const [one, two] = [await open(), await open()];
  publish();
  await turn();
  two.freeze();
  for (let i = 0; i < 250; i++) publish();
  await turn();
  two.thaw();
  await pass(2000);
  assert.deepEqual(two.got, log);
  assert.deepEqual(one.got, log);
  assert.equal(lines[0].resumed, "a-1-0");
});

test("a tab that lags behind notices its gap by a new leader's hello", async () => {
  const [one, three, two] = [await open(), await open(), await open()];
  await pass(1500);
  publish();
  await turn();
  const [channel] = two.channels;
  two.channels.delete(channel);
  publish();
  await turn();
  two.channels.add(channel);
  one.crash();
  await pass(2000);
  assert.deepEqual([leaders(), two.got, three.got], [[three], ["a-1", "a-2"], ["a-1", "a-2"]]);
});

test("a lost message is noticed with the next one, and requested", async () => {
  const [one, two] = [await open(), await open()];
  await pass(1500);
  const [channel] = two.channels;
  two.channels.delete(channel);
  publish();
  await turn();
  two.channels.add(channel);
  publish();
  await pass(2000);
  assert.deepEqual([one.got, two.got], [["a-1", "a-2"], ["a-1", "a-2"]]);
});

test("another epoch resets every tab once", async () => {
  const [one, two] = [await open(), await open()];
  publish();
  await turn();
  [epoch, log] = ["b", []];
  lines[0].send({ type: "reset", id: "b-0-0", prev: "a-1-0", data: { reason: "epoch", id: "b-0-0" } });
  lines[0].after = "b-0-0";
  await turn();
  publish();
  await turn();
  for (const tab of [one, two]) assert.deepEqual([tab.got, tab.resets], [["a-1", "b-1"], 1]);
  const three = await open();
  two.freeze();
  [epoch, log] = ["c", []];
  lines[0].send({ type: "reset", id: "c-0-0", prev: "b-1-0", data: { reason: "epoch", id: "c-0-0" } });
  lines[0].after = "c-0-0";
  two.thaw();
  await pass(1000);
  publish();
  await turn();
  for (const tab of [one, two, three]) assert.equal(tab.got.at(-1), "c-1");
  assert.deepEqual([one.resets, two.resets, three.resets], [2, 2, 1]);
});

test("users, and servers, do not mix", async () => {
  const ana = await open(), bob = await open({ name: "hark bob", user: "bob", line: { user: "bob" } });
  assert.equal(lines.length, 2);
  lines[1].notify("a-9");
  await turn();
  assert.deepEqual([ana.got, bob.got], [[], ["a-9"]]);
});

test("no tab gets the events of a stream that belongs to another user", async () => {
  const [one, two] = [await open(), await open()];
  lines[0].user = "bob";
  lines[0].greet();
  await turn();
  assert.deepEqual([one.users, two.users, one.hellos, two.hellos], [["bob"], [], 1, 1]);
});

test("a tab whose token is refused gives the lead to one that may have a better one", async () => {
  const [one, two] = [await open(), await open()];
  one.run(() => one.share.yield(1000));
  await turn();
  assert.deepEqual(leaders(), [two]);
  publish();
  await turn();
  assert.deepEqual([one.got, two.got], [["a-1"], ["a-1"]]);
  await pass(1500);
  two.crash();
  await turn();
  assert.deepEqual(leaders(), [one]);
});

test("a tab whose token is refused and that is alone tries again itself", async () => {
  const one = await open();
  one.run(() => one.share.yield(1000));
  await pass(1500);
  assert.deepEqual([leaders(), lines.length], [[one], 2]);
});

test("the tab that the user looked at last is one, until it is hidden", async () => {
  const [one, two] = [await open({}, true), await open({}, true)];
  const looking = () => [one, two].map((tab) => tab.share.looking);
  assert.deepEqual(looking(), [false, true]);
  one.run(() => one.window.dispatchEvent(new Event("focus")));
  await turn();
  assert.deepEqual(looking(), [true, false]);
  one.show(false);
  await turn();
  assert.deepEqual(looking(), [false, false]);
  two.show(true);
  await turn();
  assert.deepEqual(looking(), [false, true]);
});

test("a tab that came later and leads learns where the user looks", async () => {
  const one = await open({}, true), two = await open();
  assert.equal(two.share.looked, false);
  one.run(() => one.share.yield(10_000));
  await turn();
  assert.deepEqual([leaders(), two.share.looked, one.share.looking], [[two], true, true]);
  one.show(false);
  await turn();
  assert.deepEqual([two.share.looked, one.share.looking], [false, false]);
});

test("a notification that one tab has shown is not shown by others", async () => {
  const [one, two] = [await open(), await open()];
  two.run(() => two.share.shown("a-7"));
  await turn();
  assert.deepEqual([one.shown, two.shown], [["a-7"], []]);
});

test("a hidden leader's clock is driven by the followers' pings, and a tab that becomes visible wakes it", async () => {
  const one = await open(), two = await open();
  await pass(3000);
  assert.ok(lines[0].ticks >= 3, `${lines[0].ticks} ticks`);
  lines[0].say("offline");
  await turn();
  assert.equal(two.status, "offline");
  two.show();
  await turn();
  assert.equal(lines[0].wakes, 1);
});

test("thefts get rarer on a busy machine", async () => {
  const tabs = [await open(), await open(), await open()];
  let last;
  const at = [];
  for (let i = 0; i < 300; i++) {
    const leader = leaders().find((tab) => tab !== last);
    if (leader) { at.push(Date.now()); leader.hang(); if (last) last.goOn(); last = leader; }
    await pass(100);
  }
  const gaps = at.slice(1).map((time, i) => time - at[i]);
  assert.ok(gaps.length >= 2 && gaps.length < 9, `${gaps}`);
  assert.ok(gaps.at(-1) > 2 * gaps[0], `${gaps}`);
  for (const tab of tabs) tab.goOn();
});

test("where locks are refused, as in a frame without an origin, a tab has a stream of its own", async () => {
  browser.locks.request = () => Promise.reject(new DOMException("no origin", "SecurityError"));
  const [one, two] = [await open(), await open()];
  await turn();
  publish();
  await turn();
  assert.deepEqual([one.got, two.got, lines.length], [["a-1"], ["a-1"], 2]);
});

// After any events in any order, each tab has every notification since its start, once, in order.
for (let seed = 1; seed <= 25; seed++) {
  test(`after any events in any order no tab misses or repeats a notification (seed ${seed})`, async () => {
    let state = seed * 2654435761;
    const random = (n) => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return Math.floor((state / 2 ** 32) * n); };
    const away = new Map(); // tab: how it comes back
    const since = new Map();
    for (let step = 0; step < 120; step++) {
      const alive = browser.tabs.filter((tab) => tab.alive);
      const tab = alive[random(alive.length)];
      switch (random(8)) {
        case 0:
          if (alive.length < 8) { const it = await open(); since.set(it, log.length); }
          break;
        case 1:
          if (alive.length > 2 && tab && random(2)) { tab.crash(); away.delete(tab); }
          break;
        case 2: case 3: {
          if (!tab) break;
          const back = away.get(tab);
          if (back) { back(); away.delete(tab); break; }
          const [go, come] = [[() => tab.freeze(), () => tab.thaw()], [() => tab.goAway(), () => tab.comeBack()], [() => tab.hang(), () => tab.goOn()]][random(3)];
          go();
          away.set(tab, come);
          break;
        }
        default:
          for (let i = random(random(4) ? 3 : 150); i >= 0; i--) publish();
      }
      if (random(3)) await turn(random(4));
      else await pass(random(3000));
    }
    for (const [tab, back] of away) if (tab.alive) back();
    await pass(20_000);
    publish();
    await pass(5000);
    for (const tab of browser.tabs.filter((it) => it.alive)) {
      // Where it began is where the log stood when it came, or a little later.
      const from = log.indexOf(tab.got[0]);
      assert.deepEqual(tab.got, log.slice(from));
      assert.deepEqual([tab.status, tab.resets], ["live", 0]);
    }
    assert.equal(leaders().length, 1);
    assert.equal(openLines().length, 1);
  });
}

test("a new leader gets the topics of tabs that joined before it", async () => {
  const [one, two] = [await open(), await open({ topics: () => ["a"] })];
  const three = await open({ topics: () => ["b"] });
  one.crash();
  await turn();
  two.run(() => two.share.yield(5000));
  await pass(200);
  const line = openLines()[0];
  assert.deepEqual([three.share.leading, line.listening], [true, ["a", "b"]]);
});

test("a tab that hung has missed what its topics had meanwhile", async () => {
  const [, two] = [await open(), await open({ topics: () => ["a"] })];
  await pass(500);
  assert.deepEqual([lines[0].listening, two.missed], [["a"], []]);
  two.hang();
  await pass(3000);
  two.goOn();
  await pass(500);
  assert.ok(two.missed.length > 0 && two.missed.every((topic) => topic === "a"), String(two.missed));
});
