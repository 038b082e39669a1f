from __future__ import annotations

import pytest

from plugin_service.adapters.recent import RecentVerdicts
from tests.contract.samples import verdict
from tests.fakes.cache import FakeVerdictCache
from whyrank.errors import StoreUnavailableError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_what_was_read_is_not_asked_for_again() -> None:
    inner = FakeVerdictCache({"a": verdict(1), "b": verdict(2)})
    recent = RecentVerdicts(inner, 10)
    assert await recent.get_many(["a", "b"]) == [verdict(1), verdict(2)]
    inner.down = True
    assert await recent.get_many(["b", "a", "b"]) == [verdict(2), verdict(1), verdict(2)]
    assert inner.round_trips == 1
    with pytest.raises(StoreUnavailableError):
        await recent.get_many(["a", "c"])


async def test_a_miss_is_asked_for_again() -> None:
    inner = FakeVerdictCache()
    recent = RecentVerdicts(inner, 10)
    assert await recent.get_many(["a"]) == [None]
    inner.verdicts["a"] = verdict(1)
    assert await recent.get_many(["a"]) == [verdict(1)]


async def test_verdicts_are_forgotten_in_time_and_the_oldest_when_there_are_many() -> None:
    clock = Clock()
    inner = FakeVerdictCache({name: verdict(1) for name in "abc"})
    recent = RecentVerdicts(inner, 2, clock)
    for name in "abc":
        await recent.get_many([name])
    inner.verdicts.clear()
    assert await recent.get_many(["a", "b", "c"]) == [None, verdict(1), verdict(1)]
    clock.now = 61.0
    assert await recent.get_many(["b"]) == [None]
