"""Rankings kept for later pages and explanation streams, without delaying the answer they belong to."""

from __future__ import annotations

import asyncio

import msgspec
from msgspec.structs import replace

from plugin_service.rescoring.assemble import with_outcomes, without_verdicts
from plugin_service.rescoring.background import Background
from plugin_service.rescoring.ports import RankingStore, VerdictCache
from whyrank.types import Ranking


class _Saving(msgspec.Struct, frozen=True):
    ranking: Ranking
    pin: str | None
    task: asyncio.Task[None]


class RankingKeeper:
    """Saves in the background and reads its own unfinished writes, so page two never outruns page one."""

    def __init__(self, store: RankingStore, cache: VerdictCache, background: Background) -> None:
        self._store = store
        self._cache = cache
        self._background = background
        self._saving: dict[str, _Saving] = {}

    def save(self, ranking: Ranking, pin: str | None = None) -> None:
        """Keep the ranking (without its verdicts). A failure is logged; the answer does not depend on it."""
        slim = without_verdicts(ranking)
        task = self._background.spawn("save_ranking", self._store.save(slim, pin))
        self._saving[ranking.id] = _Saving(slim, pin, task)
        task.add_done_callback(lambda _: self._saving.pop(ranking.id, None))

    async def load(self, ranking_id: str) -> Ranking | None:
        """The ranking in its order, with every verdict landed since. Raises StoreUnavailableError."""
        saving = self._saving.get(ranking_id)
        ranking = saving.ranking if saving else await self._store.load(ranking_id)
        return None if ranking is None else await self._hydrated(ranking)

    async def pinned(self, pin: str) -> Ranking | None:
        """The newest ranking of a paging session, as `load` gives it. Raises StoreUnavailableError."""
        newest = next((s.ranking for s in reversed(list(self._saving.values())) if s.pin == pin), None)
        ranking = newest or await self._store.pinned(pin)
        return None if ranking is None else await self._hydrated(ranking)

    async def _hydrated(self, ranking: Ranking) -> Ranking:
        keys = tuple(dict.fromkeys(hit.key for hit in ranking.hits if hit.key is not None))
        verdicts = await self._cache.get_many(keys) if keys else []
        known = {key: verdict for key, verdict in zip(keys, verdicts, strict=True) if verdict is not None}
        return replace(ranking, hits=with_outcomes(ranking.hits, known))
