"""Suite of the port JobQueue, on the fake and on Celery over Redis."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from plugin_service.adapters.announcements import RedisAnnouncements
from plugin_service.adapters.jobs import CeleryJobQueue
from plugin_service.adapters.leases import QUEUES, Leases
from plugin_service.adapters.redis_link import LEASE, RedisLink
from plugin_service.rescoring.ports import Admission, JobQueue, Outcome
from tests.contract.samples import new_key, pair, request, verdict
from tests.fakes.jobs import FakeJobQueue
from whyrank.errors import StoreUnavailableError
from whyrank.settings import Settings
from whyrank.types import FailureKind, Priority, VerdictFailure

REDIS_DB = 6  # the queues have fixed names, so this suite has a database for itself


@dataclass
class Case:
    queue: JobQueue
    second: JobQueue
    """Of another sidecar, over the same store."""
    waiting: Callable[[Priority], Awaitable[list[str]]]
    """Keys in a queue, in the order in which workers get them."""
    finish: Callable[[str], Awaitable[None]]
    full: JobQueue
    unreachable: JobQueue


@pytest.fixture(params=["fake", "celery"])
async def case(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Case]:
    if request.param == "fake":
        fake, full, down = FakeJobQueue(), FakeJobQueue(), FakeJobQueue()
        full.full = down.down = True

        async def keys(priority: Priority) -> list[str]:
            return [pair.key for pair in fake.queues[priority]]

        async def finish(key: str) -> None:
            fake.finish(key)

        yield Case(fake, fake, keys, finish, full, down)
        return
    async with _Redis(redis_url) as link:
        settings = _settings(redis_url)
        queues = [CeleryJobQueue(link, settings) for _ in range(2)]
        full = CeleryJobQueue(link, _settings(redis_url, queue_limit=1))
        nowhere = RedisLink("redis://127.0.0.1:1/0", 0.2)
        down = CeleryJobQueue(nowhere, Settings(redis_url="redis://127.0.0.1:1/0"))
        leases = Leases(link)
        yield Case(*queues, lambda p: _waiting(link, p), lambda key: leases.land(key, verdict(), 60), full, down)
        for queue in (*queues, full, down):
            await queue.close()
        await nowhere.close()


def _settings(redis_url: str, **values: object) -> Settings:
    return Settings(redis_url=f"{redis_url}/{REDIS_DB}", job_pairs=2, **values)


class _Redis:
    """An empty database, emptied again at the end."""

    def __init__(self, url: str) -> None:
        self.link = RedisLink(f"{url}/{REDIS_DB}", 2.0)

    async def __aenter__(self) -> RedisLink:
        await self.link.client.flushdb()
        return self.link

    async def __aexit__(self, *_: object) -> None:
        await self.link.client.flushdb()
        await self.link.close()


async def _messages(link: RedisLink, priority: Priority) -> list[dict]:
    raw = await link.client.lrange(QUEUES[priority], 0, -1)
    return [json.loads(base64.b64decode(json.loads(message)["body"]))[0][0] for message in reversed(raw)]


async def _waiting(link: RedisLink, priority: Priority) -> list[str]:
    return [pair["key"] for job in await _messages(link, priority) for pair in job["pairs"]]


async def test_pairs_are_enqueued_by_priority_in_order(case: Case) -> None:
    first, second = [pair() for _ in range(5)], [pair()]
    assert await case.queue.submit(request(*first)) is Admission.ACCEPTED
    assert await case.queue.submit(request(*second, priority=Priority.BACKGROUND)) is Admission.ACCEPTED
    assert await case.waiting(Priority.INTERACTIVE) == [p.key for p in first]
    assert await case.waiting(Priority.BACKGROUND) == [p.key for p in second]


async def test_nothing_to_do_is_accepted(case: Case) -> None:
    assert await case.queue.submit(request()) is Admission.ACCEPTED
    assert await case.waiting(Priority.INTERACTIVE) == []


async def test_a_pair_is_in_flight_once_over_the_fleet(case: Case) -> None:
    shared, own = pair(), pair()
    await case.queue.submit(request(shared, shared))
    assert await case.second.submit(request(own, shared)) is Admission.ACCEPTED
    assert await case.waiting(Priority.INTERACTIVE) == [shared.key, own.key]
    await case.finish(shared.key)
    await case.second.submit(request(shared))
    assert (await case.waiting(Priority.INTERACTIVE)).count(shared.key) == 2


async def test_of_many_at_once_one_gets_the_pair(case: Case) -> None:
    shared = pair()
    both = [case.queue, case.second]
    await asyncio.gather(*(both[i % 2].submit(request(shared)) for i in range(20)))
    assert await case.waiting(Priority.INTERACTIVE) == [shared.key]


async def test_an_interactive_search_does_not_wait_behind_background_work(case: Case) -> None:
    shared = pair()
    await case.queue.submit(request(shared, priority=Priority.BACKGROUND))
    await case.second.submit(request(shared, priority=Priority.BACKGROUND))
    assert await case.waiting(Priority.BACKGROUND) == [shared.key]
    await case.second.submit(request(shared))
    await case.queue.submit(request(shared, priority=Priority.BACKGROUND))
    assert await case.waiting(Priority.INTERACTIVE) == [shared.key]
    assert await case.waiting(Priority.BACKGROUND) == [shared.key]


async def test_a_full_queue_sheds_and_enqueues_nothing(case: Case) -> None:
    assert await case.full.submit(request(pair(), pair())) is Admission.SHED
    assert await case.waiting(Priority.INTERACTIVE) == []


async def test_unreachable_is_an_error_of_ours(case: Case) -> None:
    with pytest.raises(StoreUnavailableError):
        await case.unreachable.submit(request(pair()))


async def test_what_was_shed_may_come_again_and_what_is_in_flight_is_accepted(redis_url: str) -> None:
    async with _Redis(redis_url) as link:
        queue = CeleryJobQueue(link, _settings(redis_url, queue_limit=4))
        early, late = [pair() for _ in range(4)], pair()
        assert await queue.submit(request(*early)) is Admission.ACCEPTED
        assert await queue.submit(request(late)) is Admission.SHED
        assert await queue.submit(request(early[0])) is Admission.ACCEPTED
        await link.client.delete(QUEUES[Priority.INTERACTIVE])
        assert await queue.submit(request(late)) is Admission.ACCEPTED
        await queue.close()


async def test_jobs_are_split_and_carry_no_document_in_their_headers(redis_url: str) -> None:
    async with _Redis(redis_url) as link:
        queue = CeleryJobQueue(link, _settings(redis_url))
        await queue.submit(request(*(pair() for _ in range(5))))
        assert [len(job["pairs"]) for job in await _messages(link, Priority.INTERACTIVE)] == [2, 2, 1]
        raw = await link.client.lrange(QUEUES[Priority.INTERACTIVE], 0, -1)
        assert all("Rayleigh" not in json.dumps(json.loads(message)["headers"]) for message in raw)
        await queue.close()


async def test_leases_are_given_back_when_publishing_fails(redis_url: str) -> None:
    async with _Redis(redis_url) as link:
        broken = CeleryJobQueue(link, Settings(redis_url="redis://127.0.0.1:1/0"))
        wanted = pair()
        with pytest.raises(StoreUnavailableError):
            await broken.submit(request(wanted))
        assert await link.client.get(LEASE + wanted.key) is None
        await broken.close()


async def test_leases_expire(redis_url: str) -> None:
    async with _Redis(redis_url) as link:
        queue = CeleryJobQueue(link, _settings(redis_url, lease_s=0.05))
        wanted = pair()
        await queue.submit(request(wanted))
        while await link.client.exists(LEASE + wanted.key):
            await asyncio.sleep(0.01)
        await queue.submit(request(wanted))
        assert await _waiting(link, Priority.INTERACTIVE) == [wanted.key] * 2
        await queue.close()


async def test_a_known_failure_is_announced_again_and_not_enqueued(redis_url: str) -> None:
    async with _Redis(redis_url) as link:
        queue, announcements = CeleryJobQueue(link, _settings(redis_url)), RedisAnnouncements(link)
        failure, key = VerdictFailure(FailureKind.TOO_LONG, "4097 tokens"), new_key()
        await Leases(link).land(key, failure, 60)
        await announcements.start()
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        announcements.subscribe([key], lambda _, outcome: told.set_result(outcome))
        assert await queue.submit(request(pair(key))) is Admission.ACCEPTED
        assert await asyncio.wait_for(told, 5) == failure
        assert await _waiting(link, Priority.INTERACTIVE) == []
        await announcements.stop()
        await queue.close()
