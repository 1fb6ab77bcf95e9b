import { byId, el } from "./dom.js";
import { safeLink } from "./link.js";
import { expired } from "./jobs.js";
import { icon } from "./icons.js";

/** What the panel and the toasts have in common: how a notification looks, and where it leads. */

// By type: the tone and the icon.
const looks = { "job.succeeded": ["good", "check"], "job.failed": ["bad", "alert"], "job.cancelled": ["quiet", "stop"] };
const look = (note) => looks[note.type] ?? ["plain", "bell"];

/** The tone of a notification: good, bad, quiet, or plain for those that are not of a job. */
export const tone = (note) => look(note)[0];
export const mark = (note) => el("div", { class: "note-mark", "aria-hidden": "true" }, icon(look(note)[1], 18));

/** What a notification says, below its title, which says how a job ended. */
export const body = (note) => (note.body ? [el("p", { class: "note-body" }, note.body)] : []);

/**
 * Fills place with the links of a notification: its job's file, the job itself, and the link it brought.
 * onFollow is called for each that is followed, onJob(id) shows a job. They are made anew only when they
 * change: a link that has the focus keeps it.
 */
export function showLinks(place, note, hark, { onFollow, onJob }, ...before) {
  const job = note.job_id && hark.known(note.job_id);
  const listed = job && byId(`job-${job.id}`) !== null;
  const file = job?.file && !expired(job.file) && safeLink(job.file.url) ? hark.fileURL(job) : undefined;
  const key = JSON.stringify([listed, file]);
  if (place.dataset.key === key) return;
  place.dataset.key = key;

  const all = [...before];
  if (file) {
    all.push(el("a", { class: "link", href: file, download: "", "data-testid": "note-download", "aria-label": `Download ${job.file.name}`, onclick: onFollow }, "Download"));
  }
  if (listed) all.push(el("button", { type: "button", class: "link", "data-testid": "note-job", onclick: () => { onFollow(); onJob(job.id); } }, "Show job"));
  const href = safeLink(note.link);
  if (href && !(file && new URL(href).pathname === new URL(file).pathname)) {
    const away = new URL(href).origin !== location.origin;
    all.push(el("a", { class: "link", href, "data-testid": "note-link", rel: "noopener noreferrer", target: away ? "_blank" : undefined, onclick: onFollow },
      "Open", el("span", { class: "hidden" }, away ? ` ${new URL(href).host} in a new tab` : ` ${note.title}`)));
  }
  place.replaceChildren(...all);
}
