import { uniqueKey } from "../hark.js";
import { byId, el, setNotice, whileBusy } from "./dom.js";

/**
 * The form that enqueues a job. It is built from the kinds of the server, their params, and the additional params of the
 * chosen option of a param.
 */
export function askForm({ onAsked }) {
  const form = byId("ask"), kindsPlace = byId("kinds"), place = byId("params"), button = byId("export"), problem = byId("ask-error");
  const given = new Map(); // what was entered, by param name, kept while datasets and kinds are switched
  let hark, kinds = [], kind, params = [];
  let unclear; // the key and the content of a request without a response

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(button, ask);
  });

  /** Shows the kinds of a connection. */
  async function show(connection) {
    hark = connection;
    setNotice(problem, "");
    try {
      kinds = await hark.kinds();
    } catch (err) {
      if (hark !== connection) return;
      setNotice(problem, `The kinds of jobs could not be loaded. ${err.message}`);
      setTimeout(() => hark === connection && connection.status !== "closed" && show(connection), 5000);
      return;
    }
    if (hark !== connection) return;
    given.clear();
    showKinds();
    choose(kinds[0]);
  }

  function showKinds() {
    kindsPlace.replaceChildren();
    button.hidden = kinds.length === 0;
    if (kinds.length === 0) setNotice(problem, "No worker has published a kind yet. Start a worker, and its kinds appear here.");
    if (kinds.length < 2) return;
    if (kinds.length > 3) {
      const select = el("select", { id: "kind", "data-testid": "kind", onchange: () => choose(kinds.find((k) => k.name === select.value)) },
        ...kinds.map((k) => el("option", { value: k.name }, k.title || k.name)));
      return kindsPlace.append(el("div", { class: "field" }, el("label", { for: "kind" }, "What to run"), select));
    }
    kindsPlace.append(el("fieldset", { class: "segments" }, el("legend", { class: "hidden" }, "What to run"),
      ...kinds.map((k, i) => el("label", {},
        el("input", { type: "radio", name: "kind", value: k.name, checked: i === 0, "data-testid": `kind-${k.name}`, onchange: () => choose(k) }),
        el("span", {}, k.title || k.name)))));
  }

  function choose(chosen) {
    kind = chosen;
    setNotice(problem, kinds.length ? "" : problem.textContent);
    button.textContent = kind?.action ? kind.action : `Start ${(kind?.title || kind?.name || "").toLowerCase()}`;
    showParams();
  }

  /** Shows the params that apply now. A field that applied before keeps its node, and so its focus. */
  function showParams() {
    params = [];
    const collect = (list) => {
      for (const param of list ?? []) {
        params.push(param);
        const option = param.options?.find((o) => same(o.value, current(param)));
        collect(option?.params);
      }
    };
    collect(kind?.params);
    const old = new Map(Array.from(place.children, (node) => [node.dataset.signature, node]));
    const fields = params.map((param) => {
      const signature = JSON.stringify([kind.name, param]);
      const node = old.get(signature) ?? field(param);
      node.dataset.signature = signature;
      node.dataset.half = !param.options && ["date", "integer", "number"].includes(param.type) ? "yes" : "";
      return node;
    });
    pairUp(fields);
    const focused = document.activeElement;
    place.replaceChildren(...fields);
    if (place.contains(focused)) focused.focus();
  }

  function current(param) {
    if (given.has(param.name)) {
      const value = given.get(param.name);
      if (!param.options || param.options.some((o) => same(o.value, value))) return value;
    }
    if (param.default !== undefined) return param.default;
    return param.options && param.required ? param.options[0].value : undefined;
  }

  function field(param) {
    const id = `param-${param.name}`;
    const title = param.title || param.name;
    const value = current(param);
    const common = { id, "data-testid": id, name: param.name, "aria-required": param.required ? "true" : undefined };
    const error = el("p", { class: "field-error", id: `${id}-error`, "data-testid": `${id}-error`, hidden: true });
    let input;
    if (param.options) {
      input = el("select", common,
        ...(param.required || param.default !== undefined ? [] : [el("option", { value: "" }, "Any")]),
        ...param.options.map((o, i) => el("option", { value: typeof o.value === "string" ? o.value : i, selected: same(o.value, value) }, o.title || String(o.value))));
    } else if (param.type === "boolean") {
      input = el("input", { ...common, type: "checkbox", checked: value === true });
    } else if (param.type === "any") {
      input = el("textarea", { ...common, spellcheck: "false", placeholder: "JSON" });
      if (value !== undefined) input.value = JSON.stringify(value);
    } else {
      const types = { date: "date", time: "datetime-local", integer: "number", number: "number" };
      const list = param.type === "timezone" ? zoneList() : undefined;
      input = el("input", { ...common, type: types[param.type] ?? "text", step: { number: "any", integer: "1", time: "1" }[param.type], min: param.minimum, max: param.maximum, autocomplete: "off", list });
      if (value !== undefined) input.value = param.type === "time" ? localTime(value) : value;
    }
    input.addEventListener(input.tagName === "SELECT" || input.type === "checkbox" ? "change" : "input", () => {
      given.set(param.name, read(param, input));
      complain(input, "");
      if (param.options) showParams();
    });
    if (input.type === "checkbox") return el("div", { class: "field" }, el("label", { class: "check", for: id }, input, el("span", {}, title)), error);
    const certain = param.required || (param.options && param.default !== undefined);
    return el("div", { class: "field" },
      el("label", { for: id }, title, ...(certain ? [] : [el("span", { class: "field-optional" }, "optional")])), input, error);
  }

  async function ask() {
    setNotice(problem, "");
    const values = {}, wrong = [];
    for (const param of params) {
      const input = inputOf(param.name);
      const value = read(param, input);
      const reason = value === unreadable || input.validity?.badInput ? `${titled(param)} cannot be read.` :
        value === undefined && param.required ? `${titled(param)} is required.` : "";
      complain(input, reason);
      if (reason) wrong.push(input);
      else if (value !== undefined) values[param.name] = value;
    }
    if (wrong.length) return wrong[0].focus();

    const what = JSON.stringify([kind.name, values]);
    const key = unclear?.what === what ? unclear.key : uniqueKey();
    unclear = undefined;
    try {
      onAsked(await hark.enqueue(kind.name, values, { title: titleOf(values), key }));
    } catch (err) {
      // The request may have been accepted: pressing the button again must not enqueue a second job.
      if (err.status === 0 || err.status >= 500) unclear = { what, key };
      const param = params.find((p) => err.field === `params.${p.name}`);
      if (!param) return setNotice(problem, err.message);
      complain(inputOf(param.name), sentence(err.message.replaceAll(/params\.(\w+)/g, (all, name) => titled(params.find((p) => p.name === name)) || all)));
      inputOf(param.name).focus();
    }
  }

  /**
   * A title that distinguishes this job from others with the same choice, such as exports of one dataset. Where no choice has
   * params of its own, the server makes the title.
   */
  function titleOf(values) {
    const choice = params.find((p) => p.options?.some((o) => o.params?.length));
    const option = choice?.options.find((o) => same(o.value, values[choice.name]));
    if (!option) return undefined;
    const own = (option.params ?? []).filter((p) => values[p.name] !== undefined && p.name !== "format");
    const dates = own.filter((p) => p.type === "date").map((p) => values[p.name]).join(" to ");
    const rest = own.filter((p) => p.options).map((p) => p.options.find((o) => same(o.value, values[p.name]))?.title);
    return [option.title || option.value, dates, ...rest].filter(Boolean).join(", ").slice(0, 200);
  }

  const inputOf = (name) => place.querySelector(`[name="${CSS.escape(name)}"]`);
  return { show };
}

/** Zones that some browsers have and the server refuses (jobs.LoadZone). */
const foreignZone = /^(Factory|localtime|posixrules)$|^(posix|right|SystemV)\//i;

/** The id of a list of all time zones of the browser. The list is created once. */
function zoneList() {
  const id = "time-zones";
  if (!document.getElementById(id)) {
    const zones = (Intl.supportedValuesOf?.("timeZone") ?? []).filter((zone) => !foreignZone.test(zone));
    document.body.append(el("datalist", { id }, ...[...new Set(["UTC", ...zones])].map((value) => el("option", { value }))));
  }
  return id;
}

const unreadable = Symbol("unreadable");

/** The value of an input in the param's type, or undefined if it is empty. */
function read(param, input) {
  if (param.options) {
    const option = param.options.find((o, i) => input.value === (typeof o.value === "string" ? o.value : String(i)));
    return option?.value;
  }
  if (param.type === "boolean") return input.checked;
  const text = param.type === "string" ? input.value : input.value.trim();
  if (text === "") return undefined;
  try {
    switch (param.type) {
      case "integer": case "number": return Number.isNaN(Number(text)) ? unreadable : Number(text);
      case "time": return new Date(text).toISOString();
      case "any": return JSON.parse(text);
      default: return text;
    }
  } catch {
    return unreadable;
  }
}

/** Shows a sentence next to its field, also for screen readers. */
function complain(input, text) {
  const error = document.getElementById(`${input.id}-error`);
  setNotice(error, text);
  if (text) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", error.id);
  } else {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
}

/** Two consecutive short fields share a line. A single one takes the whole line. */
function pairUp(fields) {
  for (let i = 0; i < fields.length; i++) {
    const pair = fields[i].dataset.half && fields[i + 1]?.dataset.half;
    fields[i].classList.toggle("field-half", Boolean(pair));
    if (pair) fields[++i].classList.add("field-half");
  }
}

function localTime(value) {
  const time = new Date(value);
  return new Date(time - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
const titled = (param) => param && (param.title || param.name);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const sentence = (text) => text + (/[.!?]$/.test(text) ? "" : ".");
