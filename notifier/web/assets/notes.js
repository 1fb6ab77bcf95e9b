import { byId, el } from "./dom.js";
import { safeLink } from "./link.js";
import { expired } from "./jobs.js";
import { icon } from "./icons.js";

/** The common parts of the panel and the toasts: the look and the links of a notification. */

// The tone and the icon by type.
const looks = { "job.succeeded": ["good", "check"], "job.failed": ["bad", "alert"], "job.cancelled": ["quiet", "stop"] };
const look = (note) => looks[note.type] ?? ["plain", "bell"];

/** The tone of a notification: good, bad, quiet, or plain for notifications that are not about a job. */
export const tone = (note) => look(note)[0];
export const mark = (note) => el("div", { class: "note-mark", "aria-hidden": "true" }, icon(look(note)[1], 18));

/** The text of a notification below its title. */
export const body = (note) => (note.body ? [el("p", { class: "note-body" }, note.body)] : []);

/**
 * Fills place with the links of a notification: the file of its job, the job, and the notification's own link. onFollow is
 * called when one is followed; onJob(id) shows a job. The links are replaced only if they change, so that a link keeps its
 * focus.
 */
export function showLinks(place, note, hark, { onFollow, onJob }, ...before) {
  const job = note.job_id && hark.known(note.job_id);
  const listed = job && byId(`job-${job.id}`) !== null;
  const { file: left } = job || note; // the job may have run again since
  const file = left && !expired(left) ? hark.fileURL(job || note) : undefined;
  const key = JSON.stringify([listed, file]);
  if (place.dataset.key === key) return;
  place.dataset.key = key;

  const all = [...before];
  if (file) {
    all.push(el("a", { class: "link", href: file, download: "", "data-testid": "note-download", "aria-label": `Download ${left.name}`, onclick: onFollow }, "Download"));
  }
  if (listed) all.push(el("button", { type: "button", class: "link", "data-testid": "note-job", onclick: () => { onFollow(); onJob(job.id); } }, "Show job"));
  const href = safeLink(note.link);
  if (href) {
    const away = new URL(href).origin !== location.origin;
    all.push(el("a", { class: "link", href, "data-testid": "note-link", rel: "noopener noreferrer", target: away ? "_blank" : undefined, onclick: onFollow },
      "Open", el("span", { class: "hidden" }, away ? ` ${new URL(href).host} in a new tab` : ` ${note.title}`)));
  }
  place.replaceChildren(...all);
}
