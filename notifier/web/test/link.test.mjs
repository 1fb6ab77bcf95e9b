import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { safeLink } from "../assets/link.js";

const cases = JSON.parse(readFileSync(new URL("links.json", import.meta.url), "utf8"));
const here = "https://hark.example/inbox";

test("only paths on this server and http(s) URLs become links", () => {
  for (const link of cases.safe) {
    const href = safeLink(link, here);
    assert.ok(href, link);
    if (link.startsWith("/")) assert.equal(new URL(href).host, "hark.example", link);
  }
  for (const link of [...cases.unsafe, undefined, null, 7, {}, ["/x"], { toString: () => "/x" }]) assert.equal(safeLink(link, here), undefined, String(link));
});
