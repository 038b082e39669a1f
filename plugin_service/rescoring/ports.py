"""What the Rescorer needs from outside, as small Protocols.

Each has one real adapter in `plugin_service/adapters` and one fake in `tests/fakes`; the suites in
`tests/contract` run on both. Adapters map foreign exceptions to `whyrank.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from whyrank.types import Candidate, FusionWeights, Mode, Pair, Policy, Priority, Ranking, Verdict, VerdictFailure

Outcome = Verdict | VerdictFailure


class VerdictCache(Protocol):
    """Verdicts by pair key."""

    async def get_many(self, keys: Sequence[str]) -> list[Verdict | None]:
        """One round trip (MGET); the answer is aligned with `keys`. Raises StoreUnavailableError."""
        ...


class Subscription(Protocol):
    """Interest in some keys, held while a search waits. Closing twice is harmless."""

    def close(self) -> None:
        """Stop listening."""
        ...


class Announcements(Protocol):
    """Outcomes as workers announce them, over the whole fleet."""

    def subscribe(self, keys: Sequence[str], on_outcome: Callable[[str, Outcome], None]) -> Subscription:
        """Call `on_outcome(key, outcome)` on the event loop for each announcement of one of `keys`.

        Local and immediate (no round trip): subscribe before asking the cache, and no verdict can fall
        between the two. Announcements may repeat.
        """
        ...


class Admission(StrEnum):
    """What became of a batch of jobs."""

    ACCEPTED = "accepted"
    """All are enqueued, or already in flight somewhere in the fleet."""
    SHED = "shed"
    """The queue is full: none of those not yet in flight was enqueued."""


class JobRequest(msgspec.Struct, frozen=True):
    """Pairs of one search to be judged."""

    pairs: tuple[Pair, ...]
    mode: Mode
    model_revision: str
    priority: Priority
    expires_at: float
    """Seconds since the epoch: an interactive job that starts later than this becomes background."""
    search_id: str
    """Runs through the logs from the search to the worker."""


class JobQueue(Protocol):
    """Judging jobs, single flight per pair key over the fleet."""

    async def submit(self, request: JobRequest) -> Admission:
        """Take a lease on each pair and enqueue those that got one. Raises StoreUnavailableError."""
        ...


class RankingStore(Protocol):
    """Rankings by id, and the newest ranking of a paging session."""

    async def save(self, ranking: Ranking, pin: str | None = None) -> None:
        """Keep the ranking; with `pin`, make it the one that later pages of this session use.

        Raises StoreUnavailableError.
        """
        ...

    async def load(self, ranking_id: str) -> Ranking | None:
        """None when unknown or expired. Raises StoreUnavailableError."""
        ...

    async def pinned(self, pin: str) -> Ranking | None:
        """The newest ranking saved with this pin, None when unknown or expired."""
        ...


class ModelInfo(msgspec.Struct, frozen=True):
    """What is known of the model server right now."""

    ready: bool
    revision: str
    weights: FusionWeights
    reason: str = ""
    """Why it is not ready, in words."""


class ModelStatus(Protocol):
    """The served model, kept current in the background."""

    def current(self) -> ModelInfo:
        """Immediate: never a round trip."""
        ...


class Policies(Protocol):
    """Policies of the engine, kept current in the background."""

    def lookup(self, index: str) -> Policy | None:
        """The policy of this index or alias name. Immediate: never a round trip."""
        ...

    def all(self) -> Mapping[str, Policy]:
        """All known policies by index name."""
        ...


class FragmentSource(Protocol):
    """The engine's highlighter, with the caller's own rights."""

    async def fragments(
        self, query: str, candidates: Sequence[Candidate], fields: Sequence[str], fragment_chars: int, count: int
    ) -> Mapping[tuple[str, str], Mapping[str, Sequence[str]]]:
        """Best fragments by (index, id), then field, best first; a missing entry means none were found.

        Raises EngineError.
        """
        ...
