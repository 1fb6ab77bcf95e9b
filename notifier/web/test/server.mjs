/** A server for the tests: it answers calls from a table, and its streams send what the test sends. */
export const turn = async (n = 12) => { for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve)); };

export class FakeServer {
  requests = [];
  streams = [];
  routes = {
    "GET /v1/jobs": () => ({ jobs: [] }),
    "GET /v1/notifications": () => ({ notifications: [], unread: 0 }),
    "GET /v1/session": () => ({ user: "ana" }),
  };
  /** What a stream is answered with in place of itself, if anything. */
  refusal;

  fetch = async (url, init) => {
    const request = { path: url.pathname, query: url.searchParams, ...init };
    this.requests.push(request);
    const aborted = new Promise((_, reject) => init.signal?.addEventListener("abort", () => reject(init.signal.reason)));
    aborted.catch(() => {});
    if (url.pathname.endsWith("/v1/stream")) {
      const refusal = this.refusal?.(request);
      if (refusal instanceof Promise) return Promise.race([refusal, aborted]);
      if (refusal) return refusal;
      const stream = new FakeStream(request);
      this.streams.push(stream);
      return stream.response;
    }
    const answer = await Promise.race([this.routes[`${init.method} ${url.pathname}`]?.(request) ?? { status: 404, code: "not_found" }, aborted]);
    if (answer instanceof Error) throw answer;
    if (answer instanceof Response) return answer;
    if (answer.notifications) answer.up_to ??= answer.notifications[0]?.id; // nothing newer is on its way
    return new Response(JSON.stringify(answer), { status: answer.code ? answer.status : 200 });
  };
  /** The stream that was opened last. */
  get stream() { return this.streams.at(-1); }
  hello(id = "a-10", user = "ana") { return this.stream.send("hello", { user, id }, id); }
}

class FakeStream {
  open = true;
  constructor(request) {
    Object.assign(this, request);
    const body = new ReadableStream({ start: (controller) => { this.controller = controller; }, cancel: () => { this.open = false; } });
    request.signal?.addEventListener("abort", () => this.fail(request.signal.reason));
    this.response = new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }
  /** Sends an event, and waits until it was read. */
  async send(type, data, id = data?.id) {
    await this.write(`event: ${type}\n${id && type !== "job" ? `id: ${id}\n` : ""}data: ${JSON.stringify(data)}\n\n`);
  }
  async write(text) {
    if (this.open) this.controller.enqueue(new TextEncoder().encode(text));
    await turn();
  }
  async end() {
    if (this.open) this.controller.close();
    this.open = false;
    await turn();
  }
  async fail(err = new TypeError("network")) {
    if (this.open) this.controller.error(err);
    this.open = false;
    await turn();
  }
}

export const problem = (status, code, headers = {}) =>
  new Response(JSON.stringify({ status, code, detail: `It is ${code}.` }), { status, headers: { "Content-Type": "application/problem+json", ...headers } });
export const note = (id) => ({ id, title: `note ${id}`, created_at: "2026-01-01T00:00:00Z" });
export const job = (id, revision, state = "running") => ({ id, revision, state, kind: "export", created_at: "2026-01-01T00:00:00Z" });
