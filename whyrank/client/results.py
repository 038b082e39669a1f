"""What the client gives back: the sidecar's answers as frozen values.

Words that newer sidecars may add to (`status`, `mode`) are plain strings; `whyrank.types` lists today's. Fields that
this client does not know are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from whyrank.types import FusionWeights, LabelProbabilities, Quote, Status

T = TypeVar("T")
Document = str | Mapping[str, Any]
"""A text; or an object with `text`, an `id` if it has one, and whatever else its owner keeps there."""


class RerankResult(msgspec.Struct, frozen=True):
    """One document in its new place."""

    index: int
    """Its position among the documents given."""
    score: float
    """In [0, 1], highest first."""
    document: Document
    """The very object given."""
    id: str | None = None
    """The document's `id`, where it has one."""
    status: str = "unjudged"
    """`judged`, `unjudged` (not in time, or no text) or `failed` (the model gave no usable answer)."""
    label: int | None = None
    """0 not relevant, 1 partially, 2 relevant; None unless judged."""
    explanation: str | None = None
    """Why; None unless judged, where its quotes do not stand in the document, or where none was asked for."""
    quotes: tuple[Quote, ...] = ()
    """Words that the explanation cites, with character offsets into the text."""
    truncated: bool = False
    """The model read only a part of the text."""


class Reranked(msgspec.Struct, frozen=True):
    """All documents (or the first `top_n`) in their new order, and what was done to get it."""

    results: tuple[RerankResult, ...]
    status: str
    reason: str
    ranking_id: str | None = None
    """For `ranking` and `events`; None where the documents were more than one ranking."""

    @property
    def complete(self) -> bool:
        """Whether every document with text was judged; if not, `reason` says why."""
        return self.status == Status.COMPLETE


class RescoredHit(msgspec.Struct, frozen=True):
    """What is known of one hit."""

    score: float | None = None
    """The fused score in [0, 1], by which hits are ordered."""
    relevance: float | None = None
    """The model's own, in [0, 1]."""
    similarity: float | None = None
    label: int | None = None
    grounded: bool = False
    """Whether the explanation's quotes stand in the document; if not, it is withheld."""
    explanation: str | None = None
    quotes: tuple[Quote, ...] = ()
    """With character offsets into the passage that the model read."""


class Rescored(msgspec.Struct, frozen=True):
    """A new order of a search's hits."""

    status: str
    order: tuple[int, ...]
    """Every position of the hits given, once, best first."""
    hits: tuple[RescoredHit | None, ...]
    """In the order given; None where there is no verdict."""
    reason: str | None = None
    ranking_id: str | None = None
    model_revision: str = ""
    took_ms: float = 0.0
    judged: int = 0
    missing: int = 0

    def ordered(self, hits: Sequence[T]) -> list[T]:
        """The hits that were given (or anything aligned with them) in the new order."""
        return [hits[position] for position in self.order]


class RankedDocument(msgspec.Struct, frozen=True):
    """One hit of a ranking. Positions count from 0; `move` is how many places it rose (negative: fell)."""

    id: str
    index: str
    position: int
    engine_position: int
    move: int
    status: str
    engine_score: float | None = None
    score: float | None = None
    failure: str | None = None
    relevance: float | None = None
    similarity: float | None = None
    label: int | None = None
    label_probabilities: LabelProbabilities | None = None
    grounded: bool = False
    explanation: str | None = None
    quotes: tuple[Quote, ...] = ()
    truncated: bool = False


class RankingAnswer(msgspec.Struct, frozen=True):
    """The order given to one search, with every verdict that has landed since."""

    id: str
    query: str
    mode: str
    model_revision: str
    status: str
    reason: str
    created: float
    """Seconds since the epoch."""
    weights: FusionWeights
    judged: int
    missing: int
    hits: tuple[RankedDocument, ...]


class VerdictEvent(msgspec.Struct, frozen=True):
    """A verdict (or the model's failure) landed on this hit; `position` is the one it was answered at."""

    hit: RankedDocument


class OrderEvent(msgspec.Struct, frozen=True):
    """The final order; its id is a new one if it differs from the order that was answered."""

    ranking: RankingAnswer


Event = VerdictEvent | OrderEvent


class Health(msgspec.Struct, frozen=True):
    """The sidecar answers."""

    status: str
    version: str


class PartHealth(msgspec.Struct, frozen=True):
    """How one part fares: `ok`, `degraded` or `down`."""

    state: str
    reason: str = ""


class Readiness(msgspec.Struct, frozen=True):
    """Whether searches are answered, and how well: `ready`, `degraded` (with less than all parts), `unready`."""

    status: str
    parts: dict[str, PartHealth]
