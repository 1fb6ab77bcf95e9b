/**
 * Making and updating elements. Text only ever becomes text: nothing in here, or on this page, parses HTML
 * that came from elsewhere.
 */

export const byId = (id) => document.getElementById(id);

/** el("a", {class: "link", href: "/x"}, "text", child): an element. Functions are listeners, by their on… name. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Sets text only where it differs, so that a selection, and a screen reader, are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shows a sentence, or hides its place when there is none. */
export function setNotice(node, text) {
  setText(node, text || "");
  node.hidden = !text;
}

/**
 * Makes the children of parent those of items, in order. Nodes stay with their key, so focus and
 * half-played animations survive. make(item) answers a node; update(node, item) fills it.
 */
export function reconcile(parent, items, key, make, update) {
  const old = new Map(Array.from(parent.children, (node) => [node.dataset.key, node]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const k = key(item);
    let node = old.get(k);
    old.delete(k);
    if (!node) {
      node = make(item);
      node.dataset.key = k;
    }
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
    update(node, item);
  }
  for (const node of old.values()) node.remove();
}

/** Marks a button as busy while work() runs, and lets no second press through. */
export async function whileBusy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-disabled");
  }
}
