"""Fake of the port VerdictCache."""

from __future__ import annotations

from collections.abc import Sequence

from whyrank.errors import StoreUnavailableError
from whyrank.types import Verdict


class FakeVerdictCache:
    """Verdicts in a dictionary. `down` makes every call fail; `round_trips` counts them."""

    def __init__(self, verdicts: dict[str, Verdict] | None = None) -> None:
        self.verdicts: dict[str, Verdict] = dict(verdicts or {})
        self.down = False
        self.round_trips = 0

    async def get_many(self, keys: Sequence[str]) -> list[Verdict | None]:
        self.round_trips += 1
        if self.down:
            raise StoreUnavailableError("fake: down")
        return [self.verdicts.get(key) for key in keys]
