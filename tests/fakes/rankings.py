"""Fake of the port RankingStore."""

from __future__ import annotations

from whyrank.errors import StoreUnavailableError
from whyrank.types import Ranking


class FakeRankingStore:
    """Rankings in dictionaries. `down` makes every call fail."""

    def __init__(self) -> None:
        self.rankings: dict[str, Ranking] = {}
        self.pins: dict[str, str] = {}
        self.down = False

    async def save(self, ranking: Ranking, pin: str | None = None) -> None:
        self._check()
        self.rankings[ranking.id] = ranking
        if pin is not None:
            self.pins[pin] = ranking.id

    async def load(self, ranking_id: str) -> Ranking | None:
        self._check()
        return self.rankings.get(ranking_id)

    async def pinned(self, pin: str) -> Ranking | None:
        self._check()
        return self.rankings.get(self.pins.get(pin, ""))

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailableError("fake: down")
