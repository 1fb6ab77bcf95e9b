/** The page's icons: strokes on a grid of 24. */

const paths = {
  bell: ["M6 9a6 6 0 1 1 12 0c0 6 2.5 7.5 2.5 7.5h-17S6 15 6 9", "M10 20a2.2 2.2 0 0 0 4 0"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  cross: ["M6.5 6.5l11 11", "M17.5 6.5l-11 11"],
  alert: ["M12 7v6", "M12 16.8v.2"],
  stop: ["M7 12h10"],
  clock: ["M12 7v5l3.5 2", "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18"],
  turning: ["M20 12a8 8 0 1 1-5.5-7.6"],
  again: ["M19.5 12a7.5 7.5 0 1 1-2.2-5.3L20 9.4", "M20 4.6v4.8h-4.8"],
  download: ["M12 4.5v10", "M7.5 10.5L12 15l4.5-4.5", "M5 19.5h14"],
  bin: ["M5 7h14", "M10 7V4.5h4V7", "M7 7l.8 12.5h8.4L17 7"],
  table: ["M4 5.5h16v13H4z", "M4 10h16", "M10 10v8.5"],
  sun: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8", "M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4"],
  moon: ["M20 14.2A8.2 8.2 0 0 1 9.8 4 8.2 8.2 0 1 0 20 14.2"],
};

/** An icon that screen readers ignore; the text beside it says what it means. */
export function icon(name, size = 20) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const attributes = {
    viewBox: "0 0 24 24", width: size, height: size, fill: "none", stroke: "currentColor", "stroke-width": size > 28 ? 1.25 : 1.8,
    "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true", focusable: "false",
  };
  for (const [attribute, value] of Object.entries(attributes)) svg.setAttribute(attribute, value);
  for (const d of paths[name]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}
