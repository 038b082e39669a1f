// Elements made from data: text goes in as text nodes only, never as markup.

/** An element with properties (`class`, `dataset` and attributes by their names) and children (nodes or strings). */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "dataset") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

/** The element of the page with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Snippet parts as nodes, the marked ones in <mark>. */
export function marked(parts) {
  return parts.map((part) => (part.marked ? element("mark", {}, part.text) : document.createTextNode(part.text)));
}
