"""Suite of the port VerdictCache, on the fake and on Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from plugin_service.adapters.leases import Leases
from plugin_service.adapters.recent import RecentVerdicts
from plugin_service.adapters.redis_link import VERDICT, RedisLink
from plugin_service.adapters.redis_store import RedisVerdictCache
from plugin_service.rescoring.ports import VerdictCache
from tests.contract.samples import REDIS_DB, new_key, verdict
from tests.fakes.cache import FakeVerdictCache
from whyrank.errors import StoreUnavailableError
from whyrank.types import Verdict


@dataclass
class Case:
    cache: VerdictCache
    put: Callable[[str, Verdict], Awaitable[None]]
    unreachable: VerdictCache


@pytest.fixture(params=["fake", "recent", "redis"])
async def case(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Case]:
    if request.param in ("fake", "recent"):
        fake, down = FakeVerdictCache(), FakeVerdictCache()
        down.down = True

        async def put(key: str, value: Verdict) -> None:
            fake.verdicts[key] = value

        if request.param == "recent":
            yield Case(RecentVerdicts(fake, 100), put, RecentVerdicts(down, 100))
        else:
            yield Case(fake, put, down)
        return
    link, nowhere = RedisLink(f"{redis_url}/{REDIS_DB}", 2.0), RedisLink("redis://127.0.0.1:1/0", 0.2)
    leases = Leases(link)
    yield Case(RedisVerdictCache(link), lambda k, v: leases.land(k, v, 60), RedisVerdictCache(nowhere))
    await link.close()
    await nowhere.close()


async def test_answers_are_aligned_with_the_keys(case: Case) -> None:
    first, missing, second = new_key(), new_key(), new_key()
    await case.put(first, verdict(0))
    await case.put(second, verdict(2, "other «words» \u2028"))
    assert await case.cache.get_many([second, missing, first, second]) == [
        verdict(2, "other «words» \u2028"),
        None,
        verdict(0),
        verdict(2, "other «words» \u2028"),
    ]


async def test_no_keys_no_verdicts(case: Case) -> None:
    assert await case.cache.get_many([]) == []


async def test_unreachable_is_an_error_of_ours(case: Case) -> None:
    with pytest.raises(StoreUnavailableError):
        await case.unreachable.get_many([new_key()])


@pytest.mark.parametrize("value", [b"", b"{", b"\xff\xfe", b'{"v":2}', b'{"label":"2"}', b"null"])
async def test_what_cannot_be_read_is_a_miss(redis_url: str, value: bytes) -> None:
    link = RedisLink(f"{redis_url}/{REDIS_DB}", 2.0)
    good, bad = new_key(), new_key()
    await Leases(link).land(good, verdict(), 60)
    await link.client.set(VERDICT + bad, value, ex=60)
    assert await RedisVerdictCache(link).get_many([bad, good]) == [None, verdict()]
    await link.close()


async def test_verdicts_expire(redis_url: str) -> None:
    link = RedisLink(f"{redis_url}/{REDIS_DB}", 2.0)
    key = new_key()
    await Leases(link).land(key, verdict(), 60)
    assert 0 < await link.client.ttl(VERDICT + key) <= 60
    await link.close()
