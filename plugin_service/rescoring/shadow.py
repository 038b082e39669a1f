"""A second model on a share of the searches, in the background and never shown: how would it change their order?"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from itertools import combinations
from typing import Any

import msgspec
import structlog

from plugin_service.rescoring.assemble import fused, order
from plugin_service.rescoring.outcomes import Outcomes
from plugin_service.rescoring.ports import Admission, Announcements, ModelInfo, VerdictCache
from whyrank.errors import WhyRankError
from whyrank.types import Ranking

TOP = 10
PATIENCE_S = 600.0
"""Longest wait for the shadow's verdicts of one search: they stand behind everything else in the queue."""
MOST = 16
"""Searches that wait for them at once; those beyond are left out."""
log = structlog.get_logger(__name__)


class RankChange(msgspec.Struct, frozen=True):
    """How the shadow's order of one search differs from the one that was answered."""

    top_changed: bool
    """Whether the first ten are others, or stand in another order."""
    tau: float
    """Kendall's tau of the two orders: 1 is the same order, -1 the reverse."""


class Shadow:
    """Judges a share of the searches by the model that `model` gives, if any, and tells how the order changes.

    Its verdicts are kept under its own revision, where no search looks for them: should the model be promoted, they
    are there. `tell` gets the revision and the change, None where not every pair was judged in time.
    """

    def __init__(
        self,
        model: Callable[[], ModelInfo | None],
        cache: VerdictCache,
        announcements: Announcements,
        share: float,
        tell: Callable[[str, RankChange | None], None],
        *,
        patience_s: float = PATIENCE_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._model = model
        self._cache = cache
        self._announcements = announcements
        self._share = share
        self._tell = tell
        self._patience_s = patience_s
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()

    def wanted(self) -> ModelInfo | None:
        """The shadow's model where this search is to be judged by it, too."""
        if len(self._tasks) >= MOST or self._chance() >= self._share:
            return None
        return self._model()

    def follow(self, shown: Ranking, draft: Ranking, submit: Callable[[frozenset[str]], Awaitable[Admission]]) -> None:
        """Judge and compare in the background: `draft` is the search's ranking by the shadow, nothing judged yet.

        `submit` has the pairs of these keys judged.
        """
        task = asyncio.create_task(self._compare(shown, draft, submit), name="shadow")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for nothing more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(
        self, shown: Ranking, draft: Ranking, submit: Callable[[frozenset[str]], Awaitable[Admission]]
    ) -> None:
        change: RankChange | None = None
        try:
            with Outcomes(self._announcements, (hit.key for hit in draft.hits if hit.key)) as outcomes:
                outcomes.fill(await self._cache.get_many(outcomes.keys))
                if outcomes.missing:
                    await submit(frozenset(outcomes.missing))
                if await outcomes.wait_all(self._patience_s):
                    change = compare(shown, fused(draft, outcomes.known))
        except WhyRankError as error:
            log.warning("shadow_failed", error=str(error), revision=draft.model_revision)
        self._tell(draft.model_revision, change)


def compare(shown: Ranking, other: Ranking) -> RankChange | None:
    """Two rankings of the same hits; None where the other has a hit that its model could not judge."""
    if any(hit.failure is not None for hit in other.hits):
        return None
    before, after = order(shown), order(other)
    return RankChange(before[:TOP] != after[:TOP], kendall_tau(before, after))


def kendall_tau(one: Sequence[Hashable], other: Sequence[Any]) -> float:
    """Kendall's rank correlation of two orders of the same things (Kendall, 1938); 1 for fewer than two."""
    place = {each: number for number, each in enumerate(other)}
    pairs = list(combinations((place[each] for each in one), 2))
    return sum(1 if a < b else -1 for a, b in pairs) / len(pairs) if pairs else 1.0
