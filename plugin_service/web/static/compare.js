// Engine order beside the new order, with a line from each hit's old place to its new one.

import { element } from "./dom.js";
import { way } from "./hits.js";
import { labelWords, moveWords } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const ROW = 64; // the style sheet's --row, in pixels
const WIDTH = 96;

/**
 * Fill `container`. `engine` and `fresh` are lists of keys (`fresh` null while the new order is awaited);
 * `describe(key)` answers {title, href, label}.
 */
export function showComparison(container, { engine, fresh, describe, waiting }) {
  const places = new Map((fresh ?? []).map((key, place) => [key, place]));
  const left = engine.map((key, place) => row(key, place, describe(key), null));
  const right = (fresh ?? []).map((key, place) => row(key, place, describe(key), engine.indexOf(key) - place));
  container.replaceChildren(
    column("Engine order", "engine-order", left),
    lines(engine, places),
    fresh === null ? pendingColumn(waiting) : column("New order", "new-order", right),
  );
  link(container);
}

function column(name, id, rows) {
  const heading = element("h3", { id }, name);
  return element("div", { class: "column" }, heading, element("ol", { "aria-labelledby": id }, ...rows));
}

function pendingColumn(words) {
  const heading = element("h3", { id: "new-order" }, "New order");
  return element("div", { class: "column" }, heading, element("p", { class: "awaited", role: "status" }, words));
}

function row(key, place, { title, href, label }, move) {
  const name = href === null ? element("span", { dir: "auto" }, title) : element("a", { href, dir: "auto" }, title);
  const facts = element("span", { class: "facts" });
  if (label !== null) facts.append(element("span", { class: "label", dataset: { label } }, labelWords(label)));
  if (move !== null) facts.append(element("span", { class: "move", dataset: { way: way(move) } }, moveWords(move)));
  const number = element("span", { class: "rank", "aria-hidden": "true" }, String(place + 1));
  return element("li", { dataset: { key } }, number, element("div", { class: "row" }, name, facts));
}

function lines(engine, places) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "lines");
  drawing.setAttribute("aria-hidden", "true");
  drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${engine.length * ROW}`);
  drawing.setAttribute("width", WIDTH);
  drawing.setAttribute("height", engine.length * ROW);
  engine.forEach((key, from) => {
    const to = places.get(key);
    if (to === undefined) return;
    const [y1, y2] = [(from + 0.5) * ROW, (to + 0.5) * ROW];
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", `M6 ${y1} C${WIDTH / 2} ${y1} ${WIDTH / 2} ${y2} ${WIDTH - 6} ${y2}`);
    path.dataset.key = key;
    path.dataset.way = way(from - to);
    drawing.append(path);
  });
  return drawing;
}

/** Pointing at a hit in one order, or tabbing to it, picks it out in the other. */
function link(container) {
  const pick = (key) => {
    for (const node of container.querySelectorAll("[data-key]")) {
      node.classList.toggle("picked", key !== undefined && node.dataset.key === key);
    }
  };
  const over = (event) => pick(event.target.closest?.("[data-key]")?.dataset.key);
  container.onpointerover = over;
  container.onfocusin = over;
  container.onpointerleave = () => pick(undefined);
}
