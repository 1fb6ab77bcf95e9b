/**
 * Creating and updating elements. Text is always inserted as text: neither this module nor the page parses HTML from
 * elsewhere.
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

/** Sets a text only if it differs, so that selections stay and screen readers do not read it again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shows a sentence, or hides its element if the sentence is empty. */
export function setNotice(node, text) {
  setText(node, text || "");
  node.hidden = !text;
}

/**
 * Makes the children of parent match items, in order. A node stays with its key, so that focus and running animations
 * survive. make(item) returns a node; update(node, item) fills it.
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

/** Marks a button as busy while work() runs, and ignores further presses. */
export async function whileBusy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-disabled");
  }
}
