"""Suite of the port Announcements, on the fake and on Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from plugin_service.adapters.announcements import RedisAnnouncements
from plugin_service.adapters.leases import Leases
from plugin_service.adapters.redis_link import OUTCOMES, RedisLink
from plugin_service.rescoring.ports import Announcements, Outcome
from tests.contract.samples import REDIS_DB, new_key, verdict
from tests.fakes.announcements import FakeAnnouncements
from whyrank.types import FailureKind, VerdictFailure


@dataclass
class Case:
    announcements: Announcements
    announce: Callable[[str, Outcome], Awaitable[None]]


@pytest.fixture(params=["fake", "redis"])
async def case(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Case]:
    if request.param == "fake":
        fake = FakeAnnouncements()

        async def announce(key: str, outcome: Outcome) -> None:
            fake.announce(key, outcome)

        yield Case(fake, announce)
        return
    link = RedisLink(f"{redis_url}/{REDIS_DB}", 2.0)
    real, leases = RedisAnnouncements(link), Leases(link)
    await real.start()
    yield Case(real, lambda key, outcome: leases.land(key, outcome, 60))
    await real.stop()
    await link.close()


class Heard:
    """Collects what one subscription is told."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Outcome]] = []
        self._more = asyncio.Event()

    def __call__(self, key: str, outcome: Outcome) -> None:
        self.all.append((key, outcome))
        self._more.set()

    async def count(self, n: int) -> list[tuple[str, Outcome]]:
        async with asyncio.timeout(10):
            while len(self.all) < n:
                self._more.clear()
                await self._more.wait()
        return self.all


async def test_each_waiting_subscription_hears_its_keys_and_no_other(case: Case) -> None:
    a, b, other = new_key(), new_key(), new_key()
    both, one = Heard(), Heard()
    failure = VerdictFailure(FailureKind.NO_LABEL, "…")
    subscriptions = [case.announcements.subscribe([a, b], both), case.announcements.subscribe([a], one)]
    await case.announce(other, verdict())
    await case.announce(a, verdict(2))
    await case.announce(b, failure)
    assert await both.count(2) == [(a, verdict(2)), (b, failure)]
    assert await one.count(1) == [(a, verdict(2))]
    for subscription in subscriptions:
        subscription.close()


async def test_a_closed_subscription_hears_nothing_and_closing_twice_is_harmless(case: Case) -> None:
    key = new_key()
    closed, still = Heard(), Heard()
    subscription = case.announcements.subscribe([key], closed)
    open_one = case.announcements.subscribe([key], still)
    subscription.close()
    subscription.close()
    await case.announce(key, verdict())
    await still.count(1)
    assert closed.all == []
    open_one.close()


async def test_one_may_close_while_being_told(case: Case) -> None:
    key, last = new_key(), Heard()
    first = case.announcements.subscribe([key], lambda *_: first.close())
    second = case.announcements.subscribe([key], last)
    await case.announce(key, verdict())
    await case.announce(key, verdict())
    assert len(await last.count(2)) == 2
    second.close()


async def test_a_faulty_listener_and_unreadable_messages_harm_nobody(redis_url: str) -> None:
    link = RedisLink(f"{redis_url}/{REDIS_DB}", 2.0)
    announcements = RedisAnnouncements(link)
    await announcements.start()
    key, heard = new_key(), Heard()

    def faulty(key: str, outcome: Outcome) -> None:
        raise ValueError(key)

    announcements.subscribe([key], faulty)
    announcements.subscribe([key], heard)
    for message in (b"", b"{", b"\xff", b'{"key":"%b"}' % key.encode(), b'{"key":"%b","verdict":{}}' % key.encode()):
        await link.client.publish(OUTCOMES, message)
    await Leases(link).land(key, verdict(), 60)
    assert await heard.count(1) == [(key, verdict())]
    await announcements.stop()
    await link.close()
