import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { caller } from "../hark.js";
import { hints } from "../assets/hints.js";
import { turn } from "./server.mjs";

const base = new URL("https://hark.example/tools/");
const network = { status: 0, code: "network", detail: "…" };
const token = () => "jwt";
const realFetch = globalThis.fetch, realError = console.error;
let said, asked, answers;

beforeEach(() => {
  said = [];
  asked = [];
  answers = () => false;
  globalThis.origin = "https://app.example";
  console.error = (text) => said.push(text);
  globalThis.fetch = async (url, { mode = "cors", headers }) => {
    asked.push(`${mode} ${url.pathname}`);
    if (!answers(mode, headers)) throw new TypeError("Failed to fetch");
    return new Response();
  };
});
afterEach(() => {
  delete globalThis.origin;
  console.error = realError;
  globalThis.fetch = realFetch;
});

async function hinted(options, ...problems) {
  const hint = hints({ base, ...options });
  for (const [problem, wasLive = false] of problems) {
    hint(problem, wasLive);
    await turn();
  }
  return said;
}

test("a page whose origin is not allowed says once with which flag it is", async () => {
  answers = (mode) => mode === "no-cors";
  assert.deepEqual(await hinted({ token }, [network], [network]), [
    "hark: start hark with --allow-origin https://app.example so that pages of that origin may read the responses of https://hark.example/tools.",
  ]);
  assert.deepEqual(asked.slice(0, 2), ["no-cors /tools/livez", "cors /tools/v1/session"]);
});

test("a server that is down gets another hint than one that does not allow the page", async () => {
  const [sentence] = await hinted({ token }, [network]);
  assert.match(sentence, /^hark: https:\/\/hark\.example\/tools does not respond to this page: start hark there/);
  assert.equal(said.length, 1);
});

test("a proxy that answers preflights itself is named", async () => {
  answers = (mode, headers) => !headers?.Authorization;
  assert.match((await hinted({ token }, [network]))[0], /make the proxy before it pass on OPTIONS requests unchanged\.$/);
});

test("a server that has just started causes no hint", async () => {
  answers = () => true;
  assert.deepEqual(await hinted({ token }, [network]), []);
});

test("a connection that was live before and is lost causes no hint", async () => {
  assert.deepEqual([await hinted({ token }, [network, true]), asked], [[], []]);
});

test("a page without an origin says that it needs one", async () => {
  globalThis.origin = "null";
  answers = (mode) => mode === "no-cors";
  assert.match((await hinted({ token }, [network]))[0], /this page has no origin .*: open it from a web server\.$/);
});

test("a page of another origin without a token says that it needs a callback", async () => {
  assert.match((await hinted({}, [{ status: 401, code: "token_missing", detail: "…" }]))[0], /give connect\(\) a token callback/);
});

test("a page of hark's own origin that is not signed in, or offline, says nothing", async () => {
  globalThis.origin = base.origin;
  assert.deepEqual([await hinted({}, [{ status: 401, code: "token_missing", detail: "…" }], [network]), asked], [[], []]);
});

test("a token that hark refuses is named with the reason", async () => {
  const [sentence] = await hinted({ token }, [{ status: 401, code: "token_expired", detail: "The token has expired." }]);
  assert.equal(sentence, "hark: https://hark.example/tools refuses the token that the callback of connect() returned: The token has expired.");
});

test("a malformed token is not sent, and causes a hint", async () => {
  answers = () => true;
  for (const [answered, code] of [["", "token_missing"], ["<!doctype html>\n<title>Sign in</title>", "token_malformed"], ["Sign in first.", "token_malformed"]]) {
    await assert.rejects(caller({ base, token: () => answered })("GET", "/v1/kinds"), { status: 401, code });
    const [sentence] = (await hinted({ token }, [{ status: 401, code, detail: "The token callback of connect() answered …" }])).splice(0);
    assert.equal(sentence, "hark: The token callback of connect() answered …");
  }
  assert.deepEqual(asked, []);
  await caller({ base, token: () => "a.b-c_d.e\n" })("GET", "/v1/kinds"); // a trailing line end is removed
  assert.equal(asked.length, 1);
});
