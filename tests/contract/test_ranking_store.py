"""Suite of the port RankingStore, on the fake and on Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from plugin_service.adapters.redis_link import PIN, RANKING, RedisLink
from plugin_service.adapters.redis_store import RedisRankingStore
from plugin_service.rescoring.ports import RankingStore
from tests.contract.samples import REDIS_DB, new_key, ranking
from tests.fakes.rankings import FakeRankingStore
from whyrank.errors import StoreUnavailableError


@dataclass
class Case:
    store: RankingStore
    unreachable: RankingStore


@pytest.fixture(params=["fake", "redis"])
async def case(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Case]:
    if request.param == "fake":
        down = FakeRankingStore()
        down.down = True
        yield Case(FakeRankingStore(), down)
        return
    link, nowhere = RedisLink(f"{redis_url}/{REDIS_DB}", 2.0), RedisLink("redis://127.0.0.1:1/0", 0.2)
    yield Case(RedisRankingStore(link, 60), RedisRankingStore(nowhere, 60))
    await link.close()
    await nowhere.close()


async def test_what_is_saved_is_loaded(case: Case) -> None:
    saved = ranking()
    await case.store.save(saved)
    assert await case.store.load(saved.id) == saved
    assert await case.store.load(new_key()) is None


async def test_the_pin_names_the_newest(case: Case) -> None:
    pin, first, second = new_key(), ranking(), ranking()
    assert await case.store.pinned(pin) is None
    await case.store.save(first, pin)
    assert await case.store.pinned(pin) == first
    await case.store.save(second, pin)
    assert await case.store.pinned(pin) == second
    assert await case.store.load(first.id) == first


async def test_saving_without_a_pin_leaves_pins_alone(case: Case) -> None:
    pin, first = new_key(), ranking()
    await case.store.save(first, pin)
    await case.store.save(ranking())
    assert await case.store.pinned(pin) == first


async def test_unreachable_is_an_error_of_ours(case: Case) -> None:
    with pytest.raises(StoreUnavailableError):
        await case.unreachable.save(ranking(), "pin")
    with pytest.raises(StoreUnavailableError):
        await case.unreachable.load("x")
    with pytest.raises(StoreUnavailableError):
        await case.unreachable.pinned("x")


async def test_rankings_and_pins_expire_and_damage_is_a_miss(redis_url: str) -> None:
    link = RedisLink(f"{redis_url}/{REDIS_DB}", 2.0)
    store, saved, pin = RedisRankingStore(link, 60), ranking(), new_key()
    await store.save(saved, pin)
    assert 0 < await link.client.ttl(RANKING + saved.id) <= 60
    assert 0 < await link.client.ttl(PIN + pin) <= 60
    await link.client.set(RANKING + saved.id, b"{", ex=60)
    assert await store.load(saved.id) is None
    assert await store.pinned(pin) is None
    await link.client.delete(RANKING + saved.id)
    assert await store.pinned(pin) is None
    await link.close()
