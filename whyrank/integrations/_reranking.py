"""What the adapters share: texts in, places and what to say of each one out, whatever happens to the sidecar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog

from whyrank.client import ClientError, Reranked, RerankResult

log = structlog.get_logger(__name__)
PREFIX = "whyrank_"


class Placed(msgspec.Struct, frozen=True):
    """Where a text goes: `index` among those given, its score, and what to say of it."""

    index: int
    score: float | None
    metadata: Mapping[str, Any]


def placed(answer: Reranked) -> list[Placed]:
    """The texts in their new order."""
    said = {"status": answer.status, "reason": answer.reason, "ranking_id": answer.ranking_id}
    return [Placed(result.index, result.score, _named({**_of(result), **said})) for result in answer.results]


def kept(texts: Sequence[str], top_n: int | None, error: ClientError) -> list[Placed]:
    """The texts in the order given, for a sidecar that does not answer: the reader is told, and nothing fails."""
    log.warning("reranking_failed", error=str(error), documents=len(texts))
    said = _named({"status": "failed", "reason": f"{type(error).__name__}: {error}"})
    return [Placed(index, None, said) for index in range(len(texts))][:top_n]


def _of(result: RerankResult) -> dict[str, Any]:
    return {
        "score": result.score,
        "label": result.label,
        "explanation": result.explanation,
        "quotes": [quote.text for quote in result.quotes],
    }


def _named(said: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{PREFIX}{name}": value for name, value in said.items() if value is not None}
