// What the page says, in plain words.

const LABELS = ["Does not answer the query", "Partly answers the query", "Answers the query"];

// reasons whose own detail is for engineers
const REASONS = {
  policy_disabled: "Reranking is switched off for this index.",
  store_unavailable: "The store of verdicts cannot be reached.",
  unjudgeable: "The model gave no usable answer.",
  internal_error: "Something went wrong inside WhyRank.",
};

/** What a label of 0, 1 or 2 means. */
export function labelWords(label) {
  return LABELS[label] ?? "";
}

/** How far a hit moved: positive is up. */
export function moveWords(move) {
  if (move === 0) return "same place";
  return move > 0 ? `up ${move}` : `down ${-move}`;
}

/** A reason (`code: a sentence for a person`) as a sentence of its own, "" where there is none. */
function reasonWords(reason) {
  const [code, ...rest] = reason.split(":");
  const detail = rest.join(":").trim();
  return REASONS[code] ?? detail.charAt(0).toUpperCase() + detail.slice(1);
}

/** The line under the number of results, for a search in this state. */
export function statusWords({ status, reason, judged, candidates, streaming, applied, moved, order }) {
  switch (status) {
    case "complete":
      if (order === null) return "Every result was read.";
      if (!moved) return "Every result was read; the order did not change.";
      return applied ? "Every result was read; this is the new order." : "Every result was read.";
    case "partial":
    case "pending":
      if (streaming && order === null) return "Results are in the engine’s order while they are read.";
      if (judged === 0) return "No result could be read yet; they are in the engine’s order.";
      return `${judged} of ${candidates} results were read; the others keep their place.`;
    case "warming":
      return "The model is still loading; results are in the engine’s order.";
    case "shed":
      return "Too many searches are waiting to be read; results are in the engine’s order.";
    case "failed":
      return `Results could not be read and are in the engine’s order. ${reasonWords(reason)}`.trim();
    case "bypassed":
      return `Results are in the engine’s order. ${reasonWords(reason)}`.trim();
    default:
      return "Results are in the engine’s order.";
  }
}

/** What stands under a hit until its explanation comes. */
export function waitingWords(status) {
  return status === "warming" ? "waiting for the model…" : "reading…";
}

/** The number of results found. */
export function summaryWords(total, relation, index) {
  if (total === 0) return `No results in ${index}`;
  const about = relation === "gte" ? "More than " : "";
  return `${about}${total.toLocaleString("en")} ${total === 1 ? "result" : "results"} in ${index}`;
}

/** What is said below the last hit of the window when the engine found more. */
export function beyondWords(candidates) {
  return `The first ${candidates} results are read and ordered here. Add words to narrow the search.`;
}

/** Title and text for a search that brought no results at all. */
export function problemWords(problem) {
  switch (problem.kind) {
    case "network":
      return ["The search could not be sent.", "WhyRank did not answer. Check the connection, then try again."];
    case "unavailable":
      return ["The search engine is not answering.", "It may be restarting. Try again in a moment."];
    case "denied":
      return ["You may not search this index.", problem.detail];
    case "missing":
      return ["This index is not there any more.", "Choose another index beside the search box."];
    default:
      return ["The search engine could not run this search.", problem.detail];
  }
}
