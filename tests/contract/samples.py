"""Values that the contract suites share, and a Redis database of their own."""

from __future__ import annotations

import secrets
import time

from plugin_service.rescoring.ports import JobRequest
from whyrank.types import FusionWeights, Mode, Pair, Passage, Priority, Quote, RankedHit, Ranking, Status, Verdict

REDIS_DB = 5


def new_key() -> str:
    return secrets.token_hex(16)


def verdict(label: int = 1, explanation: str = 'The document states "a b".') -> Verdict:
    return Verdict(
        label=label,
        label_probabilities=(0.2, 0.5, 0.3),
        relevance=0.55,
        explanation=explanation,
        quotes=(Quote("a b", 3, 6), Quote("elsewhere")),
        grounded=False,
        mode=Mode.REASON,
        model_revision="rev-1",
        truncated=True,
        similarity=-0.125,
    )


def pair(key: str | None = None) -> Pair:
    return Pair(key or new_key(), "why is the sky blue", Passage("Rayleigh scattering."))


def request(*pairs: Pair, priority: Priority = Priority.INTERACTIVE, expires_in: float = 30.0) -> JobRequest:
    return JobRequest(
        pairs=pairs,
        mode=Mode.LABEL,
        model_revision="rev-1",
        priority=priority,
        expires_at=time.time() + expires_in,
        search_id="search-1",
    )


def ranking(ranking_id: str | None = None) -> Ranking:
    return Ranking(
        id=ranking_id or new_key(),
        query="why is the sky blue",
        mode=Mode.REASON,
        model_revision="rev-1",
        status=Status.PARTIAL,
        reason="deadline",
        created=1_700_000_000.5,
        weights=FusionWeights(engine=0.3, relevance=0.6, similarity=0.1),
        hits=(
            RankedHit("a", "docs", 0, 2.5, 0.9, "k", verdict()),
            RankedHit("b", "docs", 1, None, key="l"),
        ),
    )
