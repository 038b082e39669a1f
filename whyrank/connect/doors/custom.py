"""Elasticsearch's `custom` inference service: WhyRank as a rerank endpoint for `text_similarity_reranker`.

Explanations cannot return this way: the service keeps scores alone.
"""

from __future__ import annotations

from urllib.parse import quote

from whyrank.connect.steps import SOME_INDEX, Door, Plan, Request, Secret, Step, Undo
from whyrank.connect.survey import Asks, Survey
from whyrank.connect.wish import Wish
from whyrank.engines import EngineKind
from whyrank.errors import BadRequestError

NAME = "whyrank"
LICENCES = frozenset({"enterprise", "trial"})
WINDOW = 50
# Documents come by shard, not in the engine's order, and chunks' scores may be taken by their place: so we are to
# answer in the order sent, and to fail while verdicts are missing, for the retriever then keeps the engine's order.
_REQUEST = '{"model":"whyrank","query":${query},"documents":${input},"order":"input","incomplete":"error"}'


def unfit(survey: Survey) -> str | None:
    """Elasticsearch 8.19 or 9.1 and later, with an Enterprise licence."""
    if survey.kind is not EngineKind.ELASTICSEARCH:
        return f"the `custom` inference service is Elasticsearch's; this is {survey.name}"
    if survey.version < (8, 19) or (9, 0) <= survey.version < (9, 1):
        return f"the `custom` inference service came with Elasticsearch 8.19 and 9.1; this is {survey.name}"
    if survey.licence is None:
        return "this Elasticsearch has no licensing (`GET _license`), so it has no inference service either"
    if survey.licence not in LICENCES:
        return f"its `text_similarity_reranker` needs an Enterprise licence; this cluster's is {survey.licence}"
    return None


async def plan(engine: Asks, survey: Survey, wish: Wish) -> Plan:
    """One inference endpoint, and a retriever that uses it."""
    del survey
    name = wish.name or NAME
    path = f"/_inference/rerank/{quote(name, safe='')}"
    if (await engine.request("GET", path)).ok:
        raise BadRequestError("name", f"there is an inference endpoint {name!r} already; choose another name")
    create = Step(
        "Create the inference endpoint",
        Request("PUT", path, endpoint(wish)),
        undo=(Undo("Delete the inference endpoint", Request("DELETE", path)),),
    )
    notes = (
        "Explanations cannot return through this service: send the texts of the page to POST /v1/rerank with the same "
        'query, "order": "input" and "deadline_ms": 0; or use the proxy.',
        "The retriever's `field` is one field; `rank_window_size` is how many hits are reranked.",
        "Keep `allow_rerank_failures`: without it a sidecar that is down fails the search.",
    )
    return Plan(Door.CUSTOM, (create,), notes, _example(wish, name))


def endpoint(wish: Wish) -> dict[str, object]:
    """The endpoint's settings. The request template names no ${top_n}: the retriever passes none, which is an error."""
    return {
        "service": "custom",
        "service_settings": {
            "secret_parameters": {"api_key": Secret(wish.key_variable)},
            "url": f"{wish.sidecar_url}/v1/rerank",
            "headers": {"Authorization": "Bearer ${api_key}", "Content-Type": "application/json"},
            "request": _REQUEST,
            "response": {
                "json_parser": {
                    "relevance_score": "$.results[*].relevance_score",
                    "reranked_index": "$.results[*].index",
                }
            },
        },
    }


def _example(wish: Wish, name: str) -> Request:
    field = next(iter(wish.fields or (wish.policy.fields if wish.policy else ())), "body")
    words = "words of a user"
    retriever = {
        "text_similarity_reranker": {
            "retriever": {"standard": {"query": {"match": {field: words}}}},
            "field": field,
            "inference_id": name,
            "inference_text": words,
            "rank_window_size": wish.known_window(WINDOW),
            "allow_rerank_failures": True,
        }
    }
    return Request("POST", f"/{wish.index or SOME_INDEX}/_search", {"retriever": retriever})
