// One search: its pages, the ranking that pins them, and what is heard of that ranking. Knows nothing of the page.

import { follow, search } from "./api.js";
import { documentHref, titleField } from "./text.js";
import { keyOf, outcomeOf, titleOf } from "./hits.js";

/** Hits on one page. */
export const PAGE_SIZE = 10;
const AWAITED = ["pending", "partial", "warming"]; // statuses after which verdicts are still to come
const TITLE_AND_ADDRESS = ["title", "name", "heading", "headline", "subject", "url", "link", "href", "uri", "permalink"];

/** One search of one index. `tell` is called with the name of each change: verdict, order, end, lost, back, gone. */
export class Run {
  #controller = new AbortController();
  #stop = () => {};
  #full = new Map();
  #titles = new Map();

  constructor(policy, words, tell) {
    this.policy = policy;
    this.words = words;
    this.tell = tell;
    this.status = "";
    this.reason = "";
    this.mode = policy.mode;
    this.total = 0;
    this.relation = "eq";
    this.candidates = 0; // hits inside the window
    this.outcomes = new Map(); // key -> {label, explanation, grounded, quotes, failure}
    this.engine = null; // keys in the engine's order, once known
    this.order = null; // keys in the final order, once known
    this.applied = false; // whether pages are in the final order
    this.streaming = false; // whether verdicts are still awaited
    this.rankingId = null; // what pins the pages
    this.finalId = null; // what pins the pages of the final order
  }

  /** The first page, or the page of a shared link. Raises Problem, or AbortError when cancelled. */
  async start(page) {
    const answer = await this.#fetch(page);
    this.total = answer.total;
    this.relation = answer.relation;
    this.#adopt(answer.why);
    return this.#learn(answer, this.#full);
  }

  /** Hear verdicts and the final order as they come; again after they stopped coming, too. */
  listen() {
    const id = this.finalId ?? this.rankingId;
    if (id === null || !this.candidates || !(AWAITED.includes(this.status) || this.status === "complete")) return;
    this.streaming = this.status !== "complete";
    this.#stop();
    this.#stop = follow(id, {
      verdict: (data) => this.#verdict(data),
      order: (data) => this.#order(data),
      end: () => this.#ended("end"),
      gone: () => this.#ended("gone"),
      lost: () => this.tell("lost"),
      back: () => this.tell("back"),
    });
  }

  /** The keys of a page in the order that is shown; asks the engine for what is not here yet. */
  async page(page) {
    if (this.applied && this.order !== null) {
      const keys = this.order.slice((page - 1) * PAGE_SIZE, page * PAGE_SIZE);
      if (keys.every((key) => this.#full.has(key))) return keys;
    }
    const answer = await this.#fetch(page);
    if (this.rankingId !== null && answer.why.ranking_id !== this.rankingId) {
      this.#adopt(answer.why); // the ranking has expired: this page begins a new one
      this.listen();
    }
    return this.#learn(answer, this.#full);
  }

  /** Take the new order, and answer the keys of a page in it. The former order stands if this fails. */
  async apply(page) {
    const before = [this.applied, this.rankingId];
    this.applied = true;
    this.rankingId = this.finalId ?? this.rankingId;
    try {
      return await this.page(page);
    } catch (error) {
      [this.applied, this.rankingId] = before;
      throw error;
    }
  }

  /** Make the titles of the whole window known, for the comparison. */
  async whole() {
    if (this.engine?.every((key) => this.#hit(key) !== undefined)) return;
    const only = [...new Set([titleField(this.policy.fields), ...TITLE_AND_ADDRESS])];
    const answer = await this.#fetch(1, { size: this.candidates, only });
    this.#learn(answer, this.#titles);
    this.engine ??= engineOrder(answer.hits);
  }

  /** What the comparison says of a hit. */
  describe(key) {
    const hit = this.#hit(key);
    const label = this.outcomes.get(key)?.label ?? null;
    if (hit === undefined) return { title: JSON.parse(key)[1], href: null, label };
    return { title: titleOf(hit, this.policy.fields), href: documentHref(hit._source), label };
  }

  /** The engine's hit, with its whole document. */
  hit(key) {
    return this.#full.get(key);
  }

  /** How far the hit at a place (from 0) of the shown order moved up; null where that is not known, or none moved. */
  move(key, place) {
    if (!this.applied || (this.order !== null && !this.moved)) return null;
    const from = this.engine?.indexOf(key) ?? (engineRank(this.#full.get(key)) ?? 0) - 1;
    return from < 0 ? null : from - place;
  }

  /** Whether the new order differs from the engine's. */
  get moved() {
    return this.order !== null && this.order.some((key, place) => this.engine[place] !== key);
  }

  /** How many of the window have a verdict. */
  get judged() {
    return [...this.outcomes.values()].filter((outcome) => outcome.label !== null).length;
  }

  /** Pages that this search has within its window. */
  get pages() {
    return Math.max(1, Math.ceil(this.candidates / PAGE_SIZE));
  }

  /** Nobody is interested any longer. */
  cancel() {
    this.#controller.abort();
    this.#stop();
    this.tell = () => {};
  }

  #adopt(why) {
    this.status = why.status;
    this.reason = why.reason ?? "";
    this.mode = why.mode ?? this.mode;
    this.rankingId = why.ranking_id ?? null;
    this.finalId = null;
    this.candidates = Math.min(this.total, this.policy.window);
    this.engine = null;
    this.order = null;
    this.applied = why.status === "complete";
    this.streaming = this.rankingId !== null && AWAITED.includes(why.status);
  }

  async #fetch(page, { size = PAGE_SIZE, only = null } = {}) {
    const from = (page - 1) * PAGE_SIZE;
    return search({
      policy: this.policy,
      words: this.words,
      from,
      size: Math.max(1, Math.min(size, this.policy.window - from)),
      ranking: this.rankingId,
      only,
      signal: this.#controller.signal,
    });
  }

  #learn(answer, hits) {
    return answer.hits.map((hit) => {
      const key = keyOf(hit._index, hit._id);
      hits.set(key, hit);
      const outcome = outcomeOf(hit);
      if (outcome !== null && !this.outcomes.has(key)) this.outcomes.set(key, outcome);
      return key;
    });
  }

  #hit(key) {
    return this.#full.get(key) ?? this.#titles.get(key);
  }

  #verdict(data) {
    const key = keyOf(data.index, data.id);
    this.outcomes.set(key, data);
    if (this.status === "warming") this.status = "pending";
    this.tell("verdict", key);
  }

  #order(data) {
    const former = this.applied ? this.order : null;
    const key = (hit) => keyOf(hit.index, hit.id);
    this.order = data.hits.map(key);
    this.engine = [...data.hits].sort((a, b) => a.engine_position - b.engine_position).map(key);
    this.finalId = data.id;
    this.status = data.status;
    this.reason = data.reason;
    this.candidates = this.order.length;
    if (former !== null && former.some((one, place) => this.order[place] !== one)) this.applied = false;
    this.tell("order");
  }

  #ended(name) {
    this.streaming = false;
    this.tell(name);
  }
}

/** The engine's order of hits in whatever order. */
function engineOrder(hits) {
  return [...hits]
    .sort((a, b) => (engineRank(a) ?? 0) - (engineRank(b) ?? 0))
    .map((hit) => keyOf(hit._index, hit._id));
}

function engineRank(hit) {
  return hit?.fields?.["whyrank.engine_rank"]?.[0];
}
