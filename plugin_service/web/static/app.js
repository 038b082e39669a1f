// The search page: joins the form, the address bar, one search at a time, and what is shown of it.

import { listPolicies } from "./api.js";
import { showComparison } from "./compare.js";
import { byId, element } from "./dom.js";
import { HitView } from "./hits.js";
import { glide, prefersStill } from "./motion.js";
import { PAGE_SIZE, Run } from "./run.js";
import { beyondWords, problemWords, statusWords, summaryWords, waitingWords } from "./words.js";

const LAST_INDEX = "whyrank.index";
const BEFORE_READING_MS = 900; // an order that comes sooner than this may be shown unasked: nobody reads that fast

const ui = Object.fromEntries(
  ["search", "words", "index", "results", "bar", "summary", "status", "count", "progress", "compare-switch", "notice",
    "notice-title", "notice-text", "retry", "ready", "hits", "compare", "beyond", "pages", "previous", "next", "page"]
    .map((id) => [id, byId(id)]),
);
const state = { policies: [], run: null, views: new Map(), page: 1, touched: false, shownAt: 0, comparing: false, address: "" };

// ---- the address bar

function address() {
  const query = new URLSearchParams(location.search);
  const page = Number.parseInt(query.get("page") ?? "1", 10);
  return {
    words: (query.get("q") ?? "").trim(),
    index: query.get("index"),
    page: page > 0 ? page : 1,
    compare: query.has("compare"),
  };
}

function remember({ words, index, page, compare }, how) {
  const query = new URLSearchParams({ q: words, index });
  if (page > 1) query.set("page", String(page));
  if (compare) query.set("compare", "1");
  history[how](null, "", `?${query}`);
  state.address = location.search;
}

function lastIndex(index) {
  try {
    if (index !== undefined) localStorage.setItem(LAST_INDEX, index);
    return localStorage.getItem(LAST_INDEX);
  } catch {
    return null; // storage is forbidden: the first index it is
  }
}

/** Show what the address says: after a load, a new search, back and forward. */
function route() {
  state.address = location.search;
  const { words, index, page, compare } = address();
  ui.words.value = words;
  const policy = state.policies.find((one) => one.index === index);
  if (policy !== undefined) ui.index.value = index;
  setComparing(compare);
  if (words === "") return showStart();
  if (index !== null && policy === undefined) {
    return showNotice("This index cannot be searched here.", `“${index}” is not set up. Choose another index.`);
  }
  const run = state.run;
  if (run?.words === words && run.policy.index === ui.index.value && run.status !== "") return turn(page);
  return begin(words, ui.index.value, page);
}

// ---- one search at a time

async function begin(words, index, page) {
  state.run?.cancel();
  const policy = state.policies.find((one) => one.index === index);
  if (policy === undefined) return;
  const run = new Run(policy, words, (change, key) => heard(run, change, key));
  state.run = run;
  state.page = (page - 1) * PAGE_SIZE < policy.window ? page : 1;
  document.title = `${words} – WhyRank`;
  document.body.dataset.view = "results";
  ui.results.setAttribute("aria-busy", "true");
  ui.ready.replaceChildren();
  try {
    showPage(run, await run.start(state.page), { fresh: true });
    run.listen();
  } catch (error) {
    failed(run, error);
  }
}

/** Show another page of the search that is on. */
async function turn(page) {
  const run = state.run;
  ui.results.setAttribute("aria-busy", "true");
  try {
    const keys = await run.page(page);
    if (run !== state.run) return;
    state.page = page;
    showPage(run, keys, { fresh: true });
    scrollTo({ top: 0, behavior: "instant" });
  } catch (error) {
    failed(run, error);
  }
}

function failed(run, error) {
  if (run !== state.run || error.name === "AbortError") return;
  if (error.kind === undefined) throw error;
  run.cancel();
  run.status = "";
  const [title, text] = problemWords(error);
  showNotice(title, text, () => route());
}

/** A change of the search that is on. */
function heard(run, change, key) {
  if (run !== state.run) return;
  if (change === "verdict") showOutcome(run, key, state.views.get(key));
  if (change === "order") ordered(run);
  if (change === "end" || change === "gone") ended(run, change);
  if (change === "lost") ui.status.textContent = "The connection was lost; trying again…";
  else refresh(run);
}

/** No more verdicts come: say so where one was awaited, and offer to listen again where some may follow. */
function ended(run, change) {
  const awaited = [...state.views].filter(([key]) => !run.outcomes.has(key));
  for (const [, view] of awaited) view.silent("Not read.");
  if (ui.ready.childElementCount > 0 || !["pending", "partial", "warming"].includes(run.status)) return;
  if (change === "gone") offer("Explanations stopped coming.", "Try again", () => resume(run));
  else if (awaited.length > 0) offer("Some explanations are late.", "Keep waiting", () => resume(run));
}

function resume(run) {
  ui.ready.replaceChildren();
  run.listen();
  for (const [key, view] of state.views) showOutcome(run, key, view);
  refresh(run);
}

// ---- the new order

function ordered(run) {
  if (run.applied) return refreshPlaces(run);
  if (!run.moved || state.comparing) return applyOrder(run, { quietly: true });
  const unread = performance.now() - state.shownAt < BEFORE_READING_MS;
  if (unread && !state.touched && !prefersStill()) return applyOrder(run, { quietly: true });
  return offer("The new order is ready.", "Show it", () => applyOrder(run, { quietly: false }));
}

/** Rearrange the page. `quietly`: neither the keyboard nor the view is moved, for the reader did not ask. */
async function applyOrder(run, { quietly }) {
  ui.ready.replaceChildren();
  try {
    const keys = await run.apply(state.page);
    if (run !== state.run) return;
    showPage(run, keys, { fresh: false });
  } catch (error) {
    if (run === state.run && error.name !== "AbortError") {
      offer("The new order could not be fetched.", "Try again", () => applyOrder(run, { quietly }));
    }
    return;
  }
  refresh(run);
  if (quietly) return;
  if (ui.bar.getBoundingClientRect().top < 0) {
    ui.bar.scrollIntoView({ behavior: prefersStill() ? "instant" : "smooth", block: "start" });
  }
  ui.summary.focus({ preventScroll: true });
}

/** A quiet word at the foot of the window, with one thing to do about it. */
function offer(words, action, act) {
  const button = element("button", { type: "button" }, action);
  button.addEventListener("click", act);
  ui.ready.replaceChildren(element("span", {}, words), button);
}

// ---- what is shown

function showStart() {
  state.run?.cancel();
  state.run = null;
  state.views.clear();
  document.body.dataset.view = "start";
  document.title = "WhyRank search";
  ui.hits.replaceChildren();
  ui.ready.replaceChildren();
  for (const part of [ui.bar, ui.notice, ui.beyond, ui.pages, ui.compare]) part.hidden = true;
  ui.words.focus();
}

function showNotice(title, text, again = null) {
  document.body.dataset.view = "results";
  ui.results.setAttribute("aria-busy", "false");
  ui.hits.replaceChildren();
  ui.ready.replaceChildren();
  state.views.clear();
  for (const part of [ui.bar, ui.beyond, ui.pages, ui.compare]) part.hidden = true;
  ui.notice.hidden = false;
  ui["notice-title"].textContent = title;
  ui["notice-text"].textContent = text;
  ui.retry.hidden = again === null;
  ui.retry.onclick = again;
}

/** Put these hits on the page. `fresh`: as a new page; otherwise those that stay glide to their places. */
function showPage(run, keys, { fresh }) {
  ui.results.setAttribute("aria-busy", "false");
  if (run.total === 0) {
    showNotice(summaryWords(0, "eq", run.policy.index), `Nothing matches “${run.words}”. Try other or fewer words.`);
    return;
  }
  ui.notice.hidden = true;
  ui.bar.hidden = false;
  ui.hits.hidden = state.comparing;
  ui.summary.textContent = summaryWords(run.total, run.relation, run.policy.index);
  const known = fresh ? new Map() : state.views;
  state.views = new Map(keys.map((key) => [key, known.get(key) ?? newView(run, key)]));
  const arrange = () => {
    // room is kept for explanations to come only while they may come
    ui.hits.dataset.settled = String(run.applied || !run.streaming);
    ui.hits.replaceChildren(...[...state.views.values()].map((view) => view.node));
    refreshPlaces(run);
    for (const view of state.views.values()) view.measure();
  };
  if (fresh) arrange();
  else glide(ui.hits, arrange);
  if (fresh) {
    state.shownAt = performance.now();
    state.touched = false;
  }
  showPages(run);
  refresh(run);
}

function newView(run, key) {
  const view = new HitView(run.hit(key), run.policy.fields, run.words);
  showOutcome(run, key, view);
  return view;
}

function showOutcome(run, key, view) {
  if (view === undefined) return;
  const outcome = run.outcomes.get(key);
  if (outcome !== undefined) view.judge(outcome, run.mode);
  else if (run.streaming) view.wait(waitingWords(run.status));
  else view.silent();
}

function refreshPlaces(run) {
  const first = (state.page - 1) * PAGE_SIZE;
  [...state.views].forEach(([key, view], at) => view.place(first + at + 1, run.move(key, first + at)));
}

/** The status line, the progress and the switch, as the search now stands. */
function refresh(run) {
  const words = statusWords(run);
  if (ui.status.textContent !== words) ui.status.textContent = words;
  const heard = Math.min(run.outcomes.size, run.candidates);
  ui.count.textContent = run.streaming ? `${heard} of ${run.candidates} read` : "";
  ui.progress.style.transform = `scaleX(${run.streaming ? heard / run.candidates : 0})`;
  ui["compare-switch"].hidden = run.rankingId === null;
  showCompared(run);
}

function showPages(run) {
  ui.beyond.hidden = run.total <= run.candidates || run.rankingId === null || state.page < run.pages;
  ui.beyond.textContent = beyondWords(run.candidates);
  ui.pages.hidden = run.pages < 2 || state.comparing;
  ui.page.textContent = `Page ${state.page} of ${run.pages}`;
  ui.previous.disabled = state.page <= 1;
  ui.next.disabled = state.page >= run.pages;
}

// ---- the comparison

function setComparing(on) {
  state.comparing = on;
  ui["compare-switch"].setAttribute("aria-checked", String(on));
  ui.compare.hidden = !on;
  ui.hits.hidden = on;
}

async function toggleComparison() {
  const run = state.run;
  setComparing(!state.comparing);
  remember({ words: run.words, index: run.policy.index, page: state.page, compare: state.comparing }, "replaceState");
  showPages(run);
  if (state.comparing && run.order !== null && !run.applied) await applyOrder(run, { quietly: true });
  else refresh(run);
}

async function showCompared(run) {
  ui.compare.hidden = !state.comparing || run.rankingId === null;
  ui.hits.hidden = state.comparing && run.rankingId !== null;
  if (ui.compare.hidden) return;
  try {
    await run.whole();
  } catch (error) {
    if (error.name !== "AbortError") offer("The comparison could not be fetched.", "Try again", () => refresh(run));
    return;
  }
  if (run !== state.run || !state.comparing || run.engine === null) return;
  const waiting = run.streaming ? "The new order comes when every result is read." : "There is no new order.";
  showComparison(ui.compare, { engine: run.engine, fresh: run.order, describe: (key) => run.describe(key), waiting });
}

// ---- the reader's doing

function submit(event) {
  event.preventDefault();
  const words = ui.words.value.trim();
  if (words === "" || ui.index.value === "") return;
  lastIndex(ui.index.value);
  remember({ words, index: ui.index.value, page: 1, compare: state.comparing }, "pushState");
  if (matchMedia("(pointer: coarse)").matches) ui.words.blur(); // puts the on-screen keyboard away
  begin(words, ui.index.value, 1);
}

function goTo(page) {
  const run = state.run;
  remember({ words: run.words, index: run.policy.index, page, compare: false }, "pushState");
  turn(page).then(() => ui.summary.focus({ preventScroll: true }));
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "/" && typing === null) {
    event.preventDefault();
    ui.words.focus();
    ui.words.select();
    return;
  }
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  if (step === undefined) return;
  const views = [...state.views.values()];
  if (event.target === ui.words && event.key === "ArrowDown" && views.length > 0) {
    event.preventDefault();
    views[0].focus();
    return;
  }
  const at = views.findIndex((view) => view.node.contains(document.activeElement));
  if (at < 0) return;
  event.preventDefault();
  if (at + step < 0) ui.words.focus();
  else views[at + step]?.focus();
}

// ---- the beginning

async function main() {
  document.body.dataset.view = address().words === "" ? "start" : "results";
  ui.search.addEventListener("submit", submit);
  ui["compare-switch"].addEventListener("click", toggleComparison);
  ui.previous.addEventListener("click", () => goTo(state.page - 1));
  ui.next.addEventListener("click", () => goTo(state.page + 1));
  ui.index.addEventListener("change", () => state.run && ui.search.requestSubmit());
  addEventListener("popstate", () => location.search !== state.address && route()); // not for a mere #fragment
  addEventListener("keydown", pressed);
  for (const sign of ["scroll", "pointerdown", "keydown", "wheel"]) {
    addEventListener(sign, () => (state.touched = true), { passive: true, capture: true });
  }
  try {
    state.policies = await listPolicies();
  } catch (error) {
    if (error.kind === undefined) throw error;
    showNotice("The indices could not be listed.", problemWords(error)[1], () => location.reload());
    return;
  }
  if (state.policies.length === 0) {
    showNotice("No index is set up yet.", "An admin does it with: whyrank enable INDEX --fields title,body");
    return;
  }
  ui.index.replaceChildren(...state.policies.map(({ index }) => element("option", { value: index }, index)));
  const last = lastIndex();
  if (state.policies.some((policy) => policy.index === last)) ui.index.value = last;
  route();
}

main();
