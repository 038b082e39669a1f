// The sidecar's HTTP names: policies, searches and the events of a ranking.

const ROOT = new URL("../", new URL(".", document.baseURI));
const GIVE_UP_AFTER = 6;

/** A search or a listing that brought nothing; `kind` is network, unavailable, denied, missing or engine. */
export class Problem extends Error {
  constructor(kind, detail) {
    super(detail);
    this.kind = kind;
    this.detail = detail;
  }
}

async function json(path, options) {
  let response;
  try {
    response = await fetch(new URL(path, ROOT), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("network", String(error.message ?? error));
  }
  let body = null;
  try {
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (!response.ok) throw new Problem(problemKind(response.status), problemDetail(body, response.status));
  if (body === null) throw new Problem("engine", "The answer was not JSON.");
  return { body, headers: response.headers };
}

function problemKind(status) {
  if (status === 401 || status === 403) return "denied";
  if (status === 404) return "missing";
  return status === 429 || status >= 502 ? "unavailable" : "engine";
}

function problemDetail(body, status) {
  const error = body?.error;
  const cause = error?.root_cause?.[0]?.reason ?? error?.reason ?? error?.message ?? body?.detail ?? error;
  return typeof cause === "string" && cause !== "" ? cause : `The answer was HTTP ${status}.`;
}

/** The policies, as an admin set them. */
export async function listPolicies() {
  const { body } = await json("_whyrank/policies", { headers: { accept: "application/json" } });
  return (body.policies ?? []).filter((policy) => typeof policy.index === "string");
}

/**
 * One page of a search. `ranking` pins the order of an earlier answer; `only` narrows what comes of each document.
 * Answers {hits, total, relation, why}; `why` is `ext.whyrank`, or what the headers say of a bypassed search.
 */
export async function search({ policy, words, from, size, ranking, only, signal }) {
  const [first, ...others] = policy.fields;
  const body = {
    query: { multi_match: { query: words, fields: [`${first}^2`, ...others], lenient: true } },
    from,
    size,
    ext: { whyrank: { query: words, deadline_ms: 0, ...(ranking ? { ranking } : {}) } },
    ...(only ? { _source: only } : {}),
  };
  const answer = await json(`${encodeURIComponent(policy.index)}/_search`, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  const total = answer.body.hits?.total ?? 0;
  return {
    hits: answer.body.hits?.hits ?? [],
    total: typeof total === "number" ? total : total.value,
    relation: total.relation ?? "eq",
    why: answer.body.ext?.whyrank ?? {
      status: answer.headers.get("x-whyrank-status") ?? "bypassed",
      reason: answer.headers.get("x-whyrank-reason") ?? "",
    },
  };
}

/**
 * Listen to a ranking: `verdict`, `order` and `end` as they come, `lost` while reconnecting, `back` after it,
 * `gone` when it is given up. Answers a function that stops listening.
 */
export function follow(rankingId, on) {
  const source = new EventSource(new URL(`v1/rankings/${encodeURIComponent(rankingId)}/events`, ROOT));
  let failures = 0;
  const heard = () => {
    if (failures > 0) on.back();
    failures = 0;
  };
  const each = (name, handle) =>
    source.addEventListener(name, (event) => {
      heard();
      handle(event.data ? JSON.parse(event.data) : null);
    });
  each("verdict", on.verdict);
  each("order", on.order);
  each("end", (data) => {
    source.close();
    on.end(data);
  });
  source.addEventListener("error", () => {
    failures += 1;
    if (source.readyState === EventSource.CLOSED || failures >= GIVE_UP_AFTER) {
      source.close();
      on.gone();
    } else {
      on.lost();
    }
  });
  return () => source.close();
}
