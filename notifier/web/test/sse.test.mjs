import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser } from "../assets/sse.js";

/** The events of a stream whose bytes come in pieces of some size. */
function parse(text, size = Infinity) {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text, events = [];
  const parser = new EventParser((event) => events.push(event));
  for (let at = 0; at < bytes.length; at += size) parser.push(bytes.subarray(at, at + size));
  return { events, parser };
}
const message = (data, id = "", type = "message") => ({ type, data, id });

// The examples of WHATWG HTML, section 9.2.6, and its rules.
const cases = {
  "data lines are joined": ["data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]],
  "comments, ids that stay and ids that are reset": [": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
    [message("first event", "1"), message("second event"), message(" third event")]],
  "a field without a colon has an empty value": ["data\n\ndata\ndata\n\ndata:", [message(""), message("\n")]],
  "one space after the colon is dropped": ["data:test\n\ndata: test\n\n", [message("test"), message("test")]],
  "CR, LF and CRLF end lines": ["data: a\r\n\r\ndata: b\r\rdata: c\n\ndata: d\r\n\n", [message("a"), message("b"), message("c"), message("d")]],
  "the type is for one event": ["event: job\ndata: 1\n\ndata: 2\n\n", [message("1", "", "job"), message("2")]],
  "an event without data is none, and its type is gone": ["event: job\n\ndata: 1\n\n", [message("1")]],
  "an id with NUL is ignored": ["id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [message("a", "1"), message("b", "1")]],
  "a BOM at the beginning is dropped, and only there": ["\uFEFFdata: a\n\n\uFEFFdata: b\n\ndata: \uFEFF\n\n", [message("a"), message("\uFEFF")]],
  "unknown fields are ignored, and names are exact": ["Data: x\ndata : x\nfoo: x\ndata: a\n\n", [message("a")]],
  "what is not ended is dropped": ["data: a\n\ndata: b\n", [message("a")]],
  "characters of several bytes": ["data: ü🦉\n\n", [message("ü🦉")]],
};
for (const [name, [text, events]] of Object.entries(cases)) {
  test(`event streams: ${name}, in pieces of any size`, () => {
    for (const size of [Infinity, 1, 2, 3, 5, 7]) assert.deepEqual(parse(text, size).events, events, `in pieces of ${size}`);
  });
}

test("event streams: an event is dispatched when its last line ends with CR", () => {
  assert.deepEqual(parse("data: a\r\r").events, [message("a")]);
});

test("event streams: an id counts when its event is complete, with data or without", () => {
  const { parser } = parse("id: 1\n\nid: 2\n");
  assert.equal(parser.lastEventId, "1");
});

test("event streams: retry takes digits alone", () => {
  assert.equal(parse("retry: 1500\n\n").parser.retry, 1500);
  assert.equal(parse("retry: 1500\nretry: 2s\nretry: -1\nretry:\n\n").parser.retry, 1500);
});

test("event streams: invalid UTF-8 becomes U+FFFD", () => {
  assert.deepEqual(parse(new Uint8Array([...new TextEncoder().encode("data: "), 0xff, 10, 10])).events, [message("\uFFFD")]);
});
