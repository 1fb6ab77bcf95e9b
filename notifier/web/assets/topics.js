import { backoff } from "./state.js";

/** The largest number of topics of one stream, and of bytes that they may have in its URL: many proxies refuse more than 8 KiB. */
export const maxTopics = 100, maxTopicBytes = 6000;

/** How many of the topics a stream has room for. */
export function roomFor(topics) {
  let bytes = 0;
  const end = topics.findIndex((topic, i) => i === maxTopics || (bytes += encodeURIComponent(topic).length + "&topic=".length) > maxTopicBytes);
  return end < 0 ? topics.length : end;
}

/** Calls a function that fetches the state. If its promise is rejected, calls it again later, until it is called meanwhile or stopped. */
export function retried(fetchState) {
  let calls = 0, failures = 0, timer;
  async function run() {
    const call = ++calls;
    clearTimeout(timer);
    try {
      await fetchState();
      failures = 0;
    } catch (err) {
      console.error(err);
      if (call === calls) timer = setTimeout(run, backoff(failures++));
    }
  }
  return { run, stop() { calls++; clearTimeout(timer); } };
}

/** Throws unless a topic is well-formed: a stream with one that is not would be refused as a whole. */
export function checkTopic(topic) {
  if (!/^(_user|_all|[A-Za-z0-9=-][\w=-]*(\.[\w=-]+)*)$/.test(topic) || topic.length > 200) {
    throw new TypeError(`${JSON.stringify(topic)} is not a topic: use tokens like comments.42, of letters, digits, _, - and =.`);
  }
}

/** In ms: how often a tab repeats its topics, and when the topics of a tab that does not are dropped: it has crashed. */
export const topicTimes = { repeat: 30_000, drop: 150_000 }; // the timers of a hidden tab may run once a minute

/** The topics that each tab of a group wants to listen to. Every tab has the whole list, so that each can become the leader. */
export class Wanted {
  #tabs = new Map(); // id of a tab: {topics, at}

  /** Sets the topics of a tab. Returns those that it did not want before. @returns {string[]} */
  set(tab, topics) {
    const before = this.#tabs.get(tab)?.topics ?? [];
    if (topics.length) this.#tabs.set(tab, { topics, at: Date.now() });
    else this.#tabs.delete(tab);
    return topics.filter((topic) => !before.includes(topic));
  }
  /** Drops the topics of tabs that have not repeated them. */
  expire() {
    for (const [tab, { at }] of this.#tabs) if (Date.now() - at > topicTimes.drop) this.#tabs.delete(tab);
  }
  /** All topics, sorted. @returns {string[]} */
  get all() { return [...new Set([...this.#tabs.values()].flatMap(({ topics }) => topics))].sort(); }
}

/** Whether two sorted lists are the same. */
export const sameTopics = (a, b) => a.length === b.length && a.every((topic, i) => topic === b[i]);
