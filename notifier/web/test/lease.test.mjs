import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Lease } from "../assets/lease.js";

beforeEach((t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 1_700_000_000_000 });
  // As in a browser: the keys are properties, and the methods are not among them.
  globalThis.localStorage = Object.create({
    getItem(key) { return Object.hasOwn(this, key) ? this[key] : null; },
    setItem(key, value) { this[key] = String(value); },
    removeItem(key) { delete this[key]; },
  });
});
afterEach(() => { delete globalThis.localStorage; });

const tabs = (n, name = "https://hark.example") => Array.from({ length: n }, () => new Lease(name));

test("four tabs have a place, and keep it; the fifth gets one that becomes free", (t) => {
  const all = tabs(5);
  assert.deepEqual(all.map((lease) => lease.take()), [true, true, true, true, false]);
  for (let i = 0; i < 20; i++) {
    t.mock.timers.setTime(Date.now() + 60_000);
    assert.deepEqual(all.map((lease) => lease.take()), [true, true, true, true, false]);
  }
  all[1].release();
  assert.deepEqual([all[4].take(), all[1].take()], [true, false]);
});

test("the place of a tab that has crashed becomes free", (t) => {
  const [first, ...others] = tabs(5);
  first.take();
  others.slice(0, 3).forEach((lease) => lease.take());
  assert.equal(others[3].take(), false);
  for (let i = 0; i < 2; i++) {
    t.mock.timers.setTime(Date.now() + 60_000);
    others.slice(0, 3).forEach((lease) => lease.take());
  }
  assert.equal(others[3].take(), true);
  assert.equal(Object.keys(localStorage).length, 4);
});

test("servers are counted each for itself, and a page without storage takes a place", () => {
  for (const lease of tabs(4)) lease.take();
  assert.equal(tabs(1, "https://other.example")[0].take(), true);
  delete globalThis.localStorage;
  assert.equal(tabs(1)[0].take(), true);
});
