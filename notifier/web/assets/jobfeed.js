import { withQuery } from "./http.js";
import { Jobs, hasEnded } from "./state.js";

/** The fetched part of a user's jobs, and other jobs that are known. */
export class JobFeed {
  #call; #onJob; #jobs = new Jobs();
  #next; // the cursor: undefined before the first page, null after the last
  #floor; // the creation time of the last job of the pages

  /** @param {Function} call of http.js @param {(job: object) => void} onJob is called with each newer version of a job */
  constructor(call, onJob) {
    this.#call = call;
    this.#onJob = onJob;
  }

  /** Newest first, without gaps, with all that have not ended. */
  get list() {
    return this.#jobs.list().filter((job) => !this.#next || !this.#floor || !hasEnded(job) || Date.parse(job.created_at) >= Date.parse(this.#floor));
  }
  get hasMore() { return Boolean(this.#next); }
  get(id) { return this.#jobs.get(id); }
  /** Merges a version of a job, and returns the newest known version. */
  merge(job) {
    if (this.#jobs.merge(job)) this.#onJob(job);
    return this.#jobs.get(job.id);
  }
  clear() {
    this.#jobs.clear();
    this.#next = this.#floor = undefined;
  }

  /** Fetches the newest page, and known older jobs that may have ended meanwhile. */
  async load() {
    const page = await this.#call("GET", "/v1/jobs?limit=50");
    const listed = new Set(page.jobs.map((job) => job.id));
    const open = this.#jobs.list().filter((job) => !hasEnded(job) && !listed.has(job.id));
    const gone = (id) => (err) => { if (err.status === 404) return { id, gone: true }; throw err; };
    page.others = await Promise.all(open.map(({ id }) => this.#call("GET", `/v1/jobs/${encodeURIComponent(id)}`).catch(gone(id))));
    return page;
  }
  apply({ jobs, others, next }) {
    // The page does not reach the known jobs, so that jobs between would be missing.
    const gap = this.#next !== undefined && next && !jobs.some((job) => this.#jobs.get(job.id));
    if (gap) this.#jobs.clear();
    if (gap || this.#next === undefined) this.#listed({ jobs, next });
    for (const job of [...jobs, ...others]) job.gone ? this.#jobs.drop(job.id) : this.merge(job);
  }
  /** One page of the jobs with a state, after a cursor. */
  async page({ state, limit, after }) {
    const page = await this.#call("GET", withQuery("/v1/jobs", { state, limit, after }));
    page.jobs.forEach((job) => this.merge(job));
    return page;
  }
  async more() { this.#listed(await this.page({ after: this.#next || undefined })); }
  #listed({ jobs, next }) {
    this.#next = next ?? null;
    this.#floor = jobs.at(-1)?.created_at ?? this.#floor;
  }
}
