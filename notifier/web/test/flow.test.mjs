import assert from "node:assert/strict";
import { test } from "node:test";
import { Flow, covers, join, kept, meet } from "../assets/flow.js";

test("a position covers another of its epoch that is after it with neither mark", () => {
  for (const [a, b, want] of [
    ["", "", true], ["a-1-1", "", true], ["", "a-0-0", false],
    ["a-2-2", "a-2-2", true], ["a-2-2", "a-1-2", true], ["a-2-2", "a-2-1", true], ["a-2-2", "a-3-1", false], ["a-2-2", "a-1-3", false],
    ["b-9-9", "a-1-1", false], ["a-1-1", "b-0-0", false],
    ["a-10-0", "a-z-0", true], ["a-z-0", "a-10-0", false], ["a-3w5e11264sgsf-1", "a-3w5e11264sgse-1", true], ["a-3w5e11264sgse-1", "a-3w5e11264sgsf-1", false],
  ]) assert.equal(covers(a, b), want, `${a} and ${b}`);
  assert.deepEqual([join("a-1-z", "a-10-2"), meet("a-1-z", "a-10-2"), join("", "a-1-1"), meet("", "a-1-1")], ["a-10-z", "a-1-2", "a-1-1", ""]);
});

// Streams that resume after any position, whose logs are late against each other, end anywhere, and come again.
for (let seed = 1; seed <= 40; seed++) {
  test(`a tab takes each notification once, in the order of its log (seed ${seed})`, () => {
    let state = seed * 2654435761;
    const random = (n) => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return Math.floor((state / 2 ** 32) * n); };
    const log = Array.from({ length: 30 }, (_, i) => ({ seq: i + 1, of: random(2) }));
    const text = (marks) => `a-${marks.map((mark) => mark.toString(36)).join("-")}`;
    const flow = new Flow(), begun = [random(10), random(10)];
    flow.begin(text(begun));
    const has = [...begun], got = [[], []];
    for (let stream = 0; stream < 60; stream++) {
      const marks = stream === 59 ? [...has] : [random(has[0] + 3), random(has[1] + 3)];
      const after = [0, 1].map((of) => log.filter((it) => it.of === of && it.seq > marks[of]));
      for (let left = stream === 59 ? 100 : random(12); left > 0 && after[0].length + after[1].length > 0; left--) {
        const of = after[0].length && (!after[1].length || random(2)) ? 0 : 1;
        const { seq } = after[of].shift(), prev = text(marks);
        const gap = marks.some((mark, i) => mark > has[i]);
        marks[of] = seq;
        const found = flow.take({ type: "notification", id: text(marks), prev, data: { id: `a-${seq}` } });
        assert.equal(found, gap ? "gap" : seq > has[of] ? "new" : "old", `${seq} of ${of} on a stream at ${prev}, with ${has}`);
        if (gap) break;
        has[of] = Math.max(has[of], seq);
        assert.equal(flow.at, text(has));
        if (found === "new") got[of].push(seq);
        // What the tab has for another one is what that one lacks.
        const other = [begun[0] + random(20), begun[1] + random(20)];
        const lacks = [0, 1].map((i) => got[i].filter((it) => it > other[i]));
        const since = flow.since(text(other)).map(({ data }) => Number(data.id.slice(2)));
        assert.deepEqual([...since].sort((x, y) => x - y), lacks.flat().sort((x, y) => x - y));
      }
    }
    for (const of of [0, 1]) assert.deepEqual(got[of], log.filter((it) => it.of === of && it.seq > begun[of]).map((it) => it.seq));
  });
}

test("what a tab has dropped it does not offer", () => {
  const flow = new Flow();
  flow.begin("a-0-0");
  let prev = "a-0-0";
  for (let i = 1; i <= kept + 2; i++) {
    const id = i === 1 ? "a-0-1" : `a-${i.toString(36)}-1`;
    flow.take({ type: "notification", id, prev, data: { id: `a-${i}` } });
    prev = id;
  }
  assert.deepEqual([flow.since("a-0-1"), flow.since("a-2-0"), flow.since("a-2-1").length], [undefined, undefined, kept]);
});
