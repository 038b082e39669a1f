"""A new version in service without a gap: the model host, real workers, and model servers that stand in for vLLM."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from plugin_service.adapters.announcements import RedisAnnouncements
from plugin_service.adapters.jobs import CeleryJobQueue
from plugin_service.adapters.manifest import ManifestFile
from plugin_service.adapters.model_status import PolledModelStatus
from plugin_service.adapters.redis_link import RedisLink
from plugin_service.rescoring.ports import JobRequest, Outcome
from tests.contract.samples import new_key
from tests.integration.test_worker import Worker
from whyrank.embedded import model_host
from whyrank.embedded.model_host import HostError, ModelHost, manifest_path, shadow_path
from whyrank.embedded.parts import Part, answers, free_port
from whyrank.embedded.process import Launch
from whyrank.records import ModelManifest, load_manifest
from whyrank.registry import Action, Registry, Version, served_name
from whyrank.settings import Settings
from whyrank.types import Mode, Pair, Passage, Priority, Verdict

PATIENCE_S = 90
MADE = datetime(2026, 11, 23, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def describe(version: Version) -> ModelManifest:
    return replace(version.manifest, served_name=served_name(version.manifest))


def serve(version: Version, manifest: ModelManifest, port: int) -> Part:
    """A version whose adapter says `broken` ends at its start; `mute` answers nothing but that it lives."""
    kind = (version.adapter / "adapter_model.safetensors").read_text() if version.adapter else ""
    name = "another" if kind == "mute" else manifest.served_name
    command = [sys.executable, "-m", "tests.integration.stand_in", str(port), "0.02", str(name)]
    broken = [sys.executable, "-c", "raise SystemExit('out of memory')"]
    launch = Launch(broken if kind == "broken" else command)
    return Part("model", port, lambda _: launch, answers(f"http://127.0.0.1:{port}/health"), stop_grace_s=1.0)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Home:
    """A home with a registry and a model host in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base = ModelManifest("base", "tiny", MADE, material={"weights": "w"})
        self.registry = Registry(folder / "models", base=base)
        self.port = free_port()
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def version(self, content: str) -> str:
        source = self.folder / f"adapter-{content}"
        source.mkdir()
        (source / "adapter_config.json").write_text("{}")
        (source / "adapter_model.safetensors").write_text(content)
        return self.registry.add(source, ModelManifest("new", "tiny", MADE))

    def start(self, *, shadow: bool = False) -> None:
        host = ModelHost(
            self.folder, self.port, self.registry, serve, shadow=shadow, describe=describe, retire_after_s=1.0
        )
        self.task = asyncio.create_task(host.run(self.stop))

    async def serves(self, name: str) -> None:
        def ready() -> bool:
            assert self.task is not None
            assert not self.task.done(), self.task.exception()
            told = self.registry.serving()
            return told is not None and told.version == name and told.loading is None

        await until(ready)

    async def end(self) -> None:
        self.stop.set()
        if self.task is not None:
            with suppress(HostError):
                await self.task

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def models(self) -> list[str]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/models") as answer:
            return [model["id"] for model in (await answer.json())["data"]]

    def served_name(self, version: str) -> str:
        return served_name(self.registry.load(version).manifest)


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    monkeypatch.setattr(model_host, "LOOK_S", 0.05)
    monkeypatch.chdir(ROOT)
    subject = Home(tmp_path)
    yield subject
    await subject.end()


class Searches:
    """Searches that ask, one after another, for pairs under the revision that the sidecar knows then."""

    def __init__(self, link: RedisLink, settings: Settings) -> None:
        self.queue = CeleryJobQueue(link, settings)
        self.announcements = RedisAnnouncements(link)
        self.status = PolledModelStatus(settings, ready_s=0.2, not_ready_s=0.05)
        self.outcomes: dict[str, Outcome] = {}
        self.asked: dict[str, str] = {}

    async def __aenter__(self) -> Searches:
        for part in (self.announcements, self.queue, self.status):
            await part.start()
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.status.stop()
        await self.announcements.stop()
        await self.queue.close()

    async def search(self) -> str:
        """One search of four pairs, awaited; gives its revision."""
        revision = self.status.current().revision
        pairs = [Pair(new_key(), "why", Passage(f"doc-{i} Rayleigh scattering.")) for i in range(4)]
        self.asked |= dict.fromkeys((p.key for p in pairs), revision)
        self.announcements.subscribe([p.key for p in pairs], self.outcomes.__setitem__)
        ends = time.time() + PATIENCE_S
        await self.queue.submit(JobRequest(tuple(pairs), Mode.REASON, revision, Priority.INTERACTIVE, ends, "search-1"))
        await until(lambda: all(p.key in self.outcomes for p in pairs))
        return revision


async def test_every_search_is_answered_by_the_model_it_is_kept_under(
    home: Home, redis_url: str, tmp_path: Path
) -> None:
    first, second = home.version("first"), home.version("second")
    home.registry.promote(first, "to begin")
    home.start()
    await home.serves(first)
    database = f"{redis_url}/7"
    settings = Settings(redis_url=database, model_url=home.url, model_manifest=manifest_path(tmp_path))
    names = {ManifestFile(settings).current().revision: home.served_name(first)}
    worker = Worker(
        tmp_path / "worker.log",
        {"redis_url": database, "model_url": home.url, "model_manifest": manifest_path(tmp_path), "worker_jobs": 8},
    )
    link = RedisLink(database, 2.0)
    try:
        await worker.ready()
        async with Searches(link, settings) as searches:
            await until(lambda: searches.status.current().ready)
            seen: list[str] = []
            ready: list[bool] = []

            async def search_on(enough: Callable[[], bool]) -> None:
                while not enough():
                    seen.append(await searches.search())
                    ready.append(searches.status.current().ready)

            swaps = [asyncio.create_task(search_on(lambda: len(set(seen)) == 2 and len(seen) > 60)) for _ in range(4)]
            await until(lambda: len(seen) > 8)
            home.registry.promote(second, "better")
            await home.serves(second)
            names[ManifestFile(settings).current().revision] = home.served_name(second)
            await asyncio.gather(*swaps)
            assert all(ready), "no search was told that the model is away"
        assert len(names) == 2
        assert set(seen) == set(names)
        for key, revision in searches.asked.items():
            verdict = searches.outcomes[key]
            assert isinstance(verdict, Verdict), verdict
            assert verdict.model_revision == revision
            assert names[revision] in verdict.explanation, "a model's answer under another's revision"
        assert not worker.events("pair_not_judged")
    finally:
        worker.process.kill()
        worker.process.wait()
        await link.client.flushdb()
        await link.close()


async def test_the_old_server_goes_when_the_new_one_serves(home: Home) -> None:
    first, second = home.version("first"), home.version("second")
    home.registry.promote(first, "")
    home.start()
    await home.serves(first)
    assert await home.models() == [home.served_name(first)]
    home.registry.promote(second, "")
    await home.serves(second)
    assert load_manifest(manifest_path(home.folder)).served_name == home.served_name(second)
    async with asyncio.timeout(PATIENCE_S):
        while await home.models() != [home.served_name(second)]:
            await asyncio.sleep(0.05)
    served = [event.version for event in home.registry.history() if event.action is Action.SERVE]
    assert served == [first, second]


async def test_going_back_at_once_finds_the_old_server_still_there(home: Home) -> None:
    first, second = home.version("first"), home.version("second")
    home.registry.promote(first, "")
    home.start()
    await home.serves(first)
    log = home.folder / "logs" / f"model-{first}.log"
    home.registry.promote(second, "")
    await home.serves(second)
    home.registry.rollback("worse")
    await home.serves(first)
    assert load_manifest(manifest_path(home.folder)).name == first
    assert log.read_text().count("http://") == 1, "started once"


@pytest.mark.parametrize(("fault", "words"), [("broken", "out of memory"), ("mute", "does not exist")])
async def test_a_version_that_does_not_come_up_leaves_the_old_one_in_service(
    home: Home, fault: str, words: str
) -> None:
    good, bad, better = home.version("good"), home.version(fault), home.version("better")
    home.registry.promote(good, "")
    home.start()
    await home.serves(good)
    home.registry.promote(bad, "surely better")
    await until(lambda: (told := home.registry.serving()) is not None and told.failed == bad)
    told = home.registry.serving()
    assert told is not None
    assert (told.version, told.loading) == (good, None)
    assert words in told.failure
    assert await home.models() == [home.served_name(good)]
    assert load_manifest(manifest_path(home.folder)).name == good
    failure = home.registry.history()[-1]
    assert (failure.action, failure.version, failure.before) == (Action.FAIL, bad, good)
    home.registry.promote(better, "this one")
    await home.serves(better)
    told = home.registry.serving()
    assert told is not None
    assert told.failed is None


async def test_a_damaged_version_is_not_served(home: Home) -> None:
    good, damaged = home.version("good"), home.version("damaged")
    home.registry.promote(good, "")
    home.start()
    await home.serves(good)
    home.registry.promote(damaged, "")
    (home.folder / "models" / damaged / "adapter" / "adapter_model.safetensors").write_text("other")
    home.registry.promote(good, "")
    pointer = home.folder / "models" / "current"
    event = json.loads(pointer.read_text())
    draft = pointer.with_suffix(".new")
    draft.write_text(json.dumps({**event, "version": damaged}))
    draft.replace(pointer)
    await until(lambda: (told := home.registry.serving()) is not None and told.failed == damaged)
    told = home.registry.serving()
    assert told is not None
    assert "adapter_model.safetensors is damaged" in told.failure


async def test_a_host_that_starts_with_a_bad_pointer_serves_the_last_good_version(home: Home) -> None:
    good, bad = home.version("good"), home.version("broken")
    home.registry.promote(good, "")
    home.registry.promote(bad, "")
    home.start()
    await home.serves("base")
    told = home.registry.serving()
    assert told is not None
    assert told.failed == bad
    home.registry.rollback("it does not start")
    await home.serves(good)


async def test_a_host_whose_server_dies_ends_so_that_the_supervisor_starts_it_again(home: Home) -> None:
    home.start()
    await home.serves("base")
    assert home.task is not None
    os.kill(int(_pids(home.served_name("base"))[0]), 9)
    with pytest.raises(HostError, match="ended with -9"):
        await asyncio.wait_for(asyncio.shield(home.task), PATIENCE_S)


def _pids(word: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word.encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
    return found


async def test_a_shadow_runs_beside_and_takes_over_without_a_start(home: Home) -> None:
    first, second = home.version("first"), home.version("second")
    home.registry.promote(first, "")
    home.registry.shadow(second)
    home.start(shadow=True)
    await home.serves(first)
    await until(shadow_path(home.folder).exists)
    assert load_manifest(shadow_path(home.folder)).served_name == home.served_name(second)
    assert sorted(await home.models()) == sorted(map(home.served_name, (first, second)))
    home.registry.promote(second, "as good as it looked")
    await home.serves(second)
    assert not shadow_path(home.folder).exists()
    log = home.folder / "logs" / f"model-{second}.log"
    assert log.read_text().count("http://") == 1, "started once"
    home.registry.shadow(first)
    await until(shadow_path(home.folder).exists)
    home.registry.shadow(None)
    await until(lambda: not shadow_path(home.folder).exists())
