"""The sidecar's interfaces as calls: what is sent, and how the answer becomes a result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from whyrank.client.exchange import Call, decoded
from whyrank.client.results import (
    Document,
    Health,
    RankingAnswer,
    Readiness,
    Reranked,
    RerankResult,
    Rescored,
)
from whyrank.errors import BadRequestError
from whyrank.types import Quote

_DEADLINE_S = 1.5
"""The sidecar's own deadline where a call names none (WHYRANK_RERANK_DEADLINE_MS), for the time limit alone."""


class _Result(msgspec.Struct):
    index: int
    relevance_score: float
    status: str
    label: int | None = None
    truncated: bool = False
    explanation: str | None = None
    quotes: tuple[Quote, ...] = ()


class _Reranked(msgspec.Struct):
    results: list[_Result]
    status: str
    reason: str
    ranking_id: str | None = None


_READ_RERANKED = decoded(_Reranked)
_READ_RESCORED = decoded(Rescored)
_READ_RANKING = decoded(RankingAnswer)
_READ_HEALTH = decoded(Health)
_READ_READINESS = decoded(Readiness)


def rerank(
    query: str,
    documents: Sequence[Document],
    *,
    top_n: int | None,
    explain: bool,
    deadline_ms: int | None,
    mode: str | None,
    max_tokens: int | None,
) -> Call[Reranked]:
    """`POST /v2/rerank`. Raises BadRequestError for a document without text."""
    body = _given(
        {
            "query": query,
            "documents": [_text(document, position) for position, document in enumerate(documents)],
            "top_n": top_n,
            "explain": explain,
            "deadline_ms": deadline_ms,
            "mode": mode,
            "max_tokens_per_doc": max_tokens,
        }
    )

    def read(answer: httpx.Response) -> Reranked:
        told = _READ_RERANKED(answer)
        if not all(0 <= result.index < len(documents) for result in told.results):
            raise msgspec.ValidationError("it names documents that were not given")
        results = tuple(_result(result, documents[result.index]) for result in told.results)
        return Reranked(results, told.status, told.reason, told.ranking_id)

    return Call("POST", "/v2/rerank", read, body, wait_s=_wait_s(deadline_ms))


def rescore(
    index: str,
    query: str,
    hits: Sequence[Mapping[str, Any]],
    *,
    deadline_ms: int | None,
    mode: str | None,
    window: int | None,
    fields: Sequence[str] | None,
    tenant: str | None,
    user: str | None,
    explain: bool,
    ranking: str | None,
    offset: int,
) -> Call[Rescored]:
    """`POST /v1/rescore`."""
    body = _given(
        {
            "index": index,
            "query": query,
            "hits": [dict(hit) for hit in hits],
            "deadline_ms": deadline_ms,
            "mode": mode,
            "window": window,
            "fields": None if fields is None else list(fields),
            "tenant": tenant,
            "user": user,
            "explain": explain,
            "ranking": ranking,
            "from": offset,
        }
    )

    def read(answer: httpx.Response) -> Rescored:
        told = _READ_RESCORED(answer)
        if sorted(told.order) != list(range(len(hits))) or len(told.hits) != len(hits):
            raise msgspec.ValidationError("its order is not one of the hits given")
        return told

    return Call("POST", "/v1/rescore", read, body, wait_s=_wait_s(deadline_ms))


def ranking(ranking_id: str) -> Call[RankingAnswer]:
    """`GET /v1/rankings/{id}`."""
    return Call("GET", ranking_path(ranking_id), _READ_RANKING)


def ranking_path(ranking_id: str) -> str:
    """Where a ranking is. Raises BadRequestError for an id that cannot be one."""
    if not ranking_id:
        raise BadRequestError("ranking_id", "must not be empty")
    return f"/v1/rankings/{quote(ranking_id, safe='')}"


def health() -> Call[Health]:
    """`GET /_whyrank/health`."""
    return Call("GET", "/_whyrank/health", _READ_HEALTH)


def ready() -> Call[Readiness]:
    """`GET /_whyrank/ready`, which answers 503 while the engine is out of reach."""
    return Call("GET", "/_whyrank/ready", _READ_READINESS, accepts=frozenset({503}))


def encoded(body: object) -> bytes:
    """The body as JSON. Raises BadRequestError where it holds what JSON does not."""
    try:
        # escaped to ASCII, so that half a surrogate pair in a document is the sidecar's to mend
        return json.dumps(body, default=str, allow_nan=False).encode("ascii")
    except ValueError as error:
        raise BadRequestError("body", f"cannot be sent as JSON: {error}") from error


def _text(document: Document, position: int) -> str:
    text = document.get("text") if isinstance(document, Mapping) else document
    if not isinstance(text, str):
        raise BadRequestError(f"documents[{position}]", "must be a string, or an object with a string `text`")
    return text


def _result(told: _Result, document: Document) -> RerankResult:
    id_ = None if isinstance(document, str) else document.get("id")
    return RerankResult(
        index=told.index,
        score=told.relevance_score,
        document=document,
        id=None if id_ is None else str(id_),
        status=told.status,
        label=told.label,
        explanation=told.explanation,
        quotes=told.quotes,
        truncated=told.truncated,
    )


def _given(options: Mapping[str, object]) -> dict[str, object]:
    """Without what the caller left to the sidecar."""
    return {name: value for name, value in options.items() if value is not None}


def _wait_s(deadline_ms: int | None) -> float:
    return _DEADLINE_S if deadline_ms is None else deadline_ms / 1000
