// One hit of the list: title, address, snippet, and why it is there.

import { element, marked } from "./dom.js";
import { documentHref, fieldText, findQuotes, readableAddress, snippet, titleField } from "./text.js";
import { labelWords, moveWords } from "./words.js";

/** What tells documents apart. */
export function keyOf(index, id) {
  return JSON.stringify([index, id]);
}

/** A document's title, or its id where it has none. */
export function titleOf(hit, fields) {
  const title = fieldText(hit._source, titleField(fields)) || fieldText(hit._source, "title");
  return title.trim() || hit._id;
}

/** The outcome that a search's answer carries for a hit, in the shape of a ranking's events; null for none. */
export function outcomeOf(hit) {
  const all = (name) => hit.fields?.[`whyrank.${name}`];
  if (all("label") === undefined) return null;
  return {
    label: all("label")[0],
    explanation: all("explanation")?.[0] ?? null,
    grounded: all("grounded")?.[0] === true,
    quotes: all("quotes") ?? [],
    failure: null,
  };
}

/** A hit on the page. */
export class HitView {
  #hit;
  #fields;
  #words;
  #rank = element("span", { class: "rank", "aria-hidden": "true" });
  #heading = element("h3", { class: "hit-title", dir: "auto" });
  #snippet = element("p", { class: "snippet", dir: "auto" });
  #label = element("span", { class: "label" });
  #move = element("span", { class: "move" });
  #text = element("p", { class: "why-text", dir: "auto" });
  #more = element("button", { type: "button", class: "more", hidden: true, "aria-expanded": "false" }, "more");
  #why;

  constructor(hit, fields, words) {
    this.#hit = hit;
    this.#fields = fields;
    this.#words = words;
    const href = documentHref(hit._source);
    const id = `hit-${crypto.getRandomValues(new Uint32Array(2)).join("")}`;
    this.#heading.id = id;
    this.#more.setAttribute("aria-label", `Show the whole explanation of ${titleOf(hit, fields)}`);
    this.#more.addEventListener("click", () => this.#toggle());
    const head = element("p", { class: "why-head" }, this.#label, this.#move);
    this.#why = element("div", { class: "why", "aria-live": "polite" }, head, this.#text);
    this.node = element(
      "li",
      { class: "hit", dataset: { key: keyOf(hit._index, hit._id) } },
      this.#rank,
      element(
        "article",
        { "aria-labelledby": id },
        this.#heading,
        element("p", { class: "address" }, href === null ? "" : readableAddress(href)),
        this.#snippet,
        element("div", { class: "reasons" }, this.#why, this.#more),
      ),
    );
    this.#link = href === null ? element("span", { tabindex: "-1" }) : element("a", { href });
    this.#heading.append(this.#link);
    this.#showDocument([]);
  }

  #link;

  /** The number in front of the hit, and how far it moved to get there (null: nothing to say). */
  place(rank, move) {
    this.#rank.textContent = String(rank);
    this.#move.textContent = move === null ? "" : moveWords(move);
    this.#move.dataset.way = move === null ? "" : way(move);
  }

  /** An explanation is awaited; `words` say how. */
  wait(words) {
    this.#say("waiting", words);
  }

  /** No explanation will come; `words` say why ("" for silence). */
  silent(words = "") {
    this.#say(words === "" ? "none" : "absent", words);
  }

  /** What the model said. An explanation without a quote that stands in the document is not shown as one. */
  judge({ label, explanation, grounded, quotes, failure }, mode) {
    if (label === null) {
      this.silent(failure === null ? "Not read." : "The model gave no usable answer.");
      return;
    }
    this.#label.textContent = labelWords(label);
    this.#label.dataset.label = String(label);
    if (grounded && explanation) this.#say("explained", explanation);
    else this.silent(mode === "label" ? "" : "No grounded explanation.");
    const standing = quotes.filter((quote) => quote.start !== null && quote.start !== undefined);
    this.#showDocument(standing.map((quote) => quote.text));
  }

  /** Offer the rest of an explanation that does not fit into the room kept for it. */
  measure() {
    const open = this.node.dataset.open === "true";
    this.#more.hidden = !open && this.#text.scrollHeight <= this.#text.clientHeight + 2;
  }

  /** Put the keyboard on this hit. */
  focus() {
    this.#link.focus();
  }

  #say(state, words) {
    this.#why.dataset.state = state;
    this.#text.textContent = words;
    this.measure();
  }

  #toggle() {
    const open = this.node.dataset.open !== "true";
    this.node.dataset.open = String(open);
    this.#more.setAttribute("aria-expanded", String(open));
    this.#more.textContent = open ? "less" : "more";
  }

  #showDocument(quotes) {
    const source = this.#hit._source;
    const title = titleOf(this.#hit, this.#fields);
    const titled = titleField(this.#fields);
    const texts = this.#fields.filter((path) => path !== titled).map((path) => fieldText(source, path));
    const quoted = texts.find((text) => findQuotes(text, quotes).length > 0);
    const text = quoted ?? texts.find((one) => one !== "") ?? "";
    this.#snippet.replaceChildren(...marked(snippet(text, quotes, this.#words)));
    this.#link.replaceChildren(...marked(quoted === undefined ? markedTitle(title, quotes) : [{ text: title }]));
  }
}

function markedTitle(title, quotes) {
  const [span] = findQuotes(title, quotes);
  if (span === undefined) return [{ text: title, marked: false }];
  return [
    { text: title.slice(0, span.start), marked: false },
    { text: title.slice(span.start, span.end), marked: true },
    { text: title.slice(span.end), marked: false },
  ].filter((part) => part.text !== "");
}

/** Up, down or same, for the style sheet. */
export function way(move) {
  if (move === 0) return "same";
  return move > 0 ? "up" : "down";
}
