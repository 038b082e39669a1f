"""The words of WhyRank as frozen values. A leaf: it imports nothing of ours.

The vocabulary is docs/architecture.md's; the code, the logs and the API use the same words.
All types are `msgspec.Struct`s, so that the verdict cache and the API encode them without copies.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
LabelProbabilities = tuple[float, float, float]
"""P(label 0), P(label 1), P(label 2); they sum to 1."""


class Mode(StrEnum):
    """How the model judges: explain, then label; or label at once (the paper's ablation)."""

    REASON = "reason"
    LABEL = "label"


class Status(StrEnum):
    """What was done to one search."""

    COMPLETE = "complete"
    """Every candidate with text was judged; the order is the fused one."""
    PARTIAL = "partial"
    """Some were judged by the deadline; the others kept their place in the engine's order."""
    PENDING = "pending"
    """None was judged by the deadline; engine order; verdicts are on their way."""
    WARMING = "warming"
    """The model server is not ready and verdicts are missing."""
    BYPASSED = "bypassed"
    """The request cannot or should not be rescored; it went to the engine as it was."""
    SHED = "shed"
    """The job queue is full; missing pairs were not enqueued."""
    FAILED = "failed"
    """A part of WhyRank failed; engine order."""


class Priority(StrEnum):
    """Which queue a job goes to."""

    INTERACTIVE = "interactive"
    BACKGROUND = "background"


class Fragment(msgspec.Struct, frozen=True):
    """A stretch of a document's field that the engine's highlighter found best for the query."""

    field: str
    text: str


class Passage(msgspec.Struct, frozen=True):
    """What the model reads of a document, fitted to a token budget."""

    text: str
    truncated: bool = False


class Candidate(msgspec.Struct, frozen=True):
    """One hit of the engine inside the window.

    `fields` are the policy's fields with their full text, in the policy's order, absent ones left out.
    `content_hash` covers `fields`, so a changed document misses the cache by construction.
    """

    id: str
    index: str
    fields: tuple[Fragment, ...]
    content_hash: str
    engine_score: float | None = None


class Pair(msgspec.Struct, frozen=True):
    """One query and one passage, with the cache key under which its verdict is kept."""

    key: str
    query: str
    passage: Passage


class Quote(msgspec.Struct, frozen=True):
    """A span that the explanation cites.

    `text` is the passage's own spelling when grounded, the model's otherwise. `start` and `end` are
    character offsets into the passage (`passage.text[start:end] == text`), None when not grounded.
    """

    text: str
    start: int | None = None
    end: int | None = None

    @property
    def grounded(self) -> bool:
        """Whether the quote stands in the passage."""
        return self.start is not None


class Verdict(msgspec.Struct, frozen=True):
    """The model's answer on a pair. `relevance` is (P(1) + 2·P(2)) / 2, in [0, 1]."""

    label: int
    label_probabilities: LabelProbabilities
    relevance: float
    explanation: str
    quotes: tuple[Quote, ...]
    grounded: bool
    mode: Mode
    model_revision: str
    truncated: bool = False
    similarity: float | None = None
    """Cosine of query and passage by the bi-encoder that the model's manifest names, in [-1, 1]; None: not known."""


class FailureKind(StrEnum):
    """Why there is no verdict for a pair. Never the same as label 0."""

    EMPTY = "empty"
    """The model answered nothing."""
    NO_LABEL = "no_label"
    """The answer does not end with a relevance label."""
    BAD_LABEL = "bad_label"
    """A label that is not 0, 1 or 2."""
    NO_EXPLANATION = "no_explanation"
    """Mode `reason`, and nothing stands before the label."""
    TOO_LONG = "too_long"
    """The model server refused the prompt for its length."""
    REFUSED = "refused"
    """The model server answered with another 4xx."""
    UNAVAILABLE = "unavailable"
    """The model server could not be reached in all attempts."""


class VerdictFailure(msgspec.Struct, frozen=True):
    """A pair that the model could not judge, by name."""

    kind: FailureKind
    detail: str = ""


class FusionWeights(msgspec.Struct, frozen=True):
    """Weights of the per-query normalised signals; they belong to the model's manifest."""

    engine: float = 0.0
    relevance: float = 1.0
    similarity: float = 0.0


class RankedHit(msgspec.Struct, frozen=True):
    """One candidate's place in a ranking. Positions count from 0 within the window.

    `key` is None where the document has no text in the policy's fields; such a hit keeps its place.
    """

    id: str
    index: str
    engine_position: int
    engine_score: float | None = None
    score: float | None = None
    """The fused score in [0, 1]; None while the pair has no verdict."""
    key: str | None = None
    verdict: Verdict | None = None
    failure: VerdictFailure | None = None
    truncated: bool = False


class Ranking(msgspec.Struct, frozen=True):
    """The order given to one search: immutable once answered, so that page two refers to page one's."""

    id: str
    query: str
    mode: Mode
    model_revision: str
    status: Status
    reason: str
    created: float
    """Seconds since the epoch."""
    weights: FusionWeights
    hits: tuple[RankedHit, ...]

    @property
    def judged(self) -> int:
        """How many hits have a verdict."""
        return sum(1 for hit in self.hits if hit.verdict is not None)

    @property
    def missing(self) -> int:
        """How many hits could be judged, and have neither verdict nor failure yet."""
        return sum(1 for h in self.hits if h.key is not None and h.verdict is None and h.failure is None)


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an admin sets for an index (its name, or an alias, as searches name it)."""

    index: Annotated[str, Meta(min_length=1, max_length=255)]
    fields: Annotated[tuple[str, ...], Meta(min_length=1, max_length=32)]
    """Field paths whose text makes the passage, in this order; nested paths with dots."""
    window: Annotated[int, Meta(ge=1, le=200)] = 10
    deadline_ms: Annotated[int, Meta(ge=0, le=60_000)] = 300
    mode: Mode = Mode.REASON
    passage_tokens: Annotated[int, Meta(ge=16, le=8192)] = 256
    enabled: bool = True
    weights: FusionWeights | None = None
    """None: those of the model's manifest."""
    similarity: bool = True
    """False: the bi-encoder has no say, its weight is zero."""
