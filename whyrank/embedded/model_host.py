"""Keeps the model server of the version that the registry points at, and changes it without a gap.

`python -m whyrank.embedded.model_host --home HOME --port PORT`: a part of the stack, in a process of its own. A new
version is merged, started and warmed beside the one that serves; only then does the manifest that sidecars and workers
follow name it. The old server goes when its requests have ended. Where the new one does not come up, the old one stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import structlog
from msgspec.structs import replace

from whyrank import logging
from whyrank.embedded import model_server
from whyrank.embedded.cache import Cache, Progress, silent
from whyrank.embedded.jars import DownloadError
from whyrank.embedded.parts import Part, PartError, answers, free_port, launch, tail
from whyrank.embedded.process import Child, Launch
from whyrank.embedded.relay import Relay
from whyrank.embedded.state import MODEL
from whyrank.embedded.supervisor import in_thread
from whyrank.errors import ModelError
from whyrank.model_client import HttpTransport, ModelClient
from whyrank.records import ModelManifest, save_manifest
from whyrank.registry import Action, Registry, RegistryError, Serving, Version
from whyrank.settings import Settings
from whyrank.types import Mode, Passage

LOOK_S = 1.0
START_S = 600.0
"""Longest wait for a server that loads."""
WARM_S = 300.0
"""Longest wait for a first answer."""
RETIRE_AFTER_S = 30.0
"""The old server still answers by its own name so long: jobs that were made for it are on their way."""
DRAIN_S = 120.0
"""Then, how long its last requests may take."""
_FAULTS = (RegistryError, DownloadError, PartError, ModelError, OSError)
_SAMPLE = ("why is the sky blue", Passage("The sky is blue because the air scatters blue light more than red light."))
_log = structlog.get_logger(__name__)

Serve = Callable[[Version, ModelManifest, int], Part]
"""The model server of a version, described by its manifest, on a port."""


class HostError(Exception):
    """The model server that serves has ended, or none could be started."""


@dataclass
class _Server:
    """A running model server that has answered."""

    name: str
    manifest: ModelManifest
    child: Child
    grace_s: float

    @property
    def served_name(self) -> str:
        return self.manifest.served_name or ""


def manifest_path(home: Path) -> Path:
    """The manifest that sidecars and workers follow."""
    return home / "model" / "manifest.json"


def shadow_path(home: Path) -> Path:
    """The manifest of the shadow; there while one runs."""
    return home / "model" / "shadow.json"


def candidates(registry: Registry) -> list[str]:
    """What to serve, in this order, until one can be: the pointer's version, the last that served, the default."""
    wished: list[str | None] = []
    with contextlib.suppress(RegistryError):
        wished.append(registry.current())
    serving = registry.serving()
    wished += [serving.version if serving else None, registry.default(), model_server.BASE_VERSION]
    return list(dict.fromkeys(name for name in wished if name is not None))


def write_first_manifest(home: Path, registry: Registry) -> Path:
    """A manifest for sidecars and workers that start before the model does; gives its path.

    One that is there stays: its verdicts are served until another model is.
    """
    path = manifest_path(home)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in candidates(registry):
            with contextlib.suppress(RegistryError):
                save_manifest(model_server.describe(registry.load(name)), path)
                break
    return path


def part(home: Path, port: int, cache: Cache) -> Part:
    """The model as a part of the stack: prepared once the environment and the base model are there."""

    def prepare(progress: Progress) -> Launch:
        model_server.install_model(cache, progress)
        command = [sys.executable, "-m", "whyrank.embedded.model_host", "--home", str(home), "--port", str(port)]
        return Launch(command, {"WHYRANK_CACHE": str(cache.root)})

    return Part(MODEL, port, prepare, answers(f"http://127.0.0.1:{port}/health"))


class ModelHost:
    """One home's model servers behind one relay. `run` until told to stop.

    `shadow` says whether the registry's shadow is run, too: it takes the memory of another server.
    """

    def __init__(
        self,
        home: Path,
        port: int,
        registry: Registry,
        serve: Serve,
        *,
        shadow: bool = False,
        describe: Callable[[Version], ModelManifest] = model_server.describe,
        retire_after_s: float = RETIRE_AFTER_S,
    ) -> None:
        self._home = home
        self._registry = registry
        self._serve = serve
        self._with_shadow = shadow
        self._describe = describe
        self._retire_after_s = retire_after_s
        self._relay = Relay(port)
        self._children: list[Child] = []
        self._current: _Server | None = None
        self._shadow: _Server | None = None
        self._seen: dict[str, tuple[int, int] | None] = {}
        self._told = replace(registry.serving() or Serving(), loading=None, shadow=None)
        self._retiring: set[asyncio.Task[None]] = set()
        self._leaving: dict[str, tuple[_Server, asyncio.Task[None]]] = {}
        """Servers that nobody is sent to any more, and that are still there: going back to one costs nothing."""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`. Raises HostError when the serving model server ends or none can be started."""
        shadow_path(self._home).unlink(missing_ok=True)
        await self._relay.start()
        tasks = {asyncio.create_task(each) for each in (_until(stop), self._follow(), self._watch())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks | self._retiring:
                task.cancel()
            await asyncio.gather(*tasks, *self._retiring, return_exceptions=True)
            shadow_path(self._home).unlink(missing_ok=True)
            await self._relay.stop()
            await asyncio.gather(*(in_thread(functools.partial(child.stop, 3.0)) for child in self._children))

    async def _watch(self) -> NoReturn:
        """Look after what runs, whatever else is being started meanwhile."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._current is not None and (code := self._current.child.exit_code()) is not None:
                raise HostError(f"the model server of {self._current.name} ended with {code}")
            if self._shadow is not None and self._shadow.child.exit_code() is not None:
                _log.warning("shadow_ended", version=self._shadow.name)
                await self._drop_shadow()

    async def _follow(self) -> NoReturn:
        """The first server, then whatever the pointers say."""
        self._seen["current"] = self._registry.stamp("current")
        wished, decided = None, None
        try:
            wished, decided = self._registry.current(), self._registry.decided()
        except RegistryError as error:
            self._fail(None, error)
        for name in candidates(self._registry):
            if await self._change(name, wished=name == wished):
                break
        else:
            raise HostError(f"no model server could be started: {self._told.failure}")
        self._tell(decided=decided)
        while True:
            if (stamp := self._registry.stamp("current")) != self._seen.get("current"):
                self._seen["current"] = stamp
                await self._to_current()
            if self._with_shadow and (stamp := self._registry.stamp("shadow")) != self._seen.get("shadow"):
                self._seen["shadow"] = stamp
                await self._to_shadow()
            await asyncio.sleep(LOOK_S)

    async def _to_current(self) -> None:
        try:
            name, decided = self._registry.current(), self._registry.decided()
        except RegistryError as error:
            self._fail(None, error)
            return
        if self._current is not None and name == self._current.name:
            self._tell(failed=None, failure="")
        elif name is not None:
            await self._change(name, wished=True)
        self._tell(decided=decided)

    async def _change(self, name: str, *, wished: bool) -> bool:
        """Serve this version from now on; False when it cannot be, and then all is as before.

        `wished` is False for a version that is served because the wished one cannot be.
        """
        before = self._current
        try:
            server = await self._obtain(name)
        except _FAULTS as error:
            self._fail(name, error)
            return False
        self._relay.lead(server.served_name)
        # Only now is anyone told of it.
        manifest_path(self._home).parent.mkdir(parents=True, exist_ok=True)
        save_manifest(server.manifest, manifest_path(self._home))
        self._current = server
        self._registry.note(Action.SERVE, name, "", before.name if before else None)
        self._tell(version=name, since=datetime.now(UTC), loading=None)
        if wished:
            self._tell(failed=None, failure="")
        _log.info("model_serves", version=name, served_name=server.served_name)
        if before is not None:
            self._retire(before, self._retire_after_s)
        return True

    async def _to_shadow(self) -> None:
        await self._drop_shadow()
        try:
            name = self._registry.shadowed()
            if name is None or (self._current is not None and name == self._current.name):
                return
            server = await self._obtain(name)
        except _FAULTS as error:
            _log.warning("shadow_failed", error=str(error))
            self._registry.note(Action.FAIL, None, f"shadow: {error}"[:1000])
            self._tell(loading=None)
            return
        self._shadow = server
        save_manifest(server.manifest, shadow_path(self._home))
        self._tell(loading=None, shadow=name)
        _log.info("shadow_runs", version=name)

    async def _drop_shadow(self) -> None:
        shadow_path(self._home).unlink(missing_ok=True)
        if self._shadow is not None:
            self._retire(self._shadow, 0.0)
            self._shadow = None
            self._tell(shadow=None)

    async def _obtain(self, name: str) -> _Server:
        """The version's server: the shadow's own, one that was about to go, or a new one. Raises one of _FAULTS."""
        if self._shadow is not None and self._shadow.name == name:
            server, self._shadow = self._shadow, None
            shadow_path(self._home).unlink(missing_ok=True)
            self._tell(shadow=None)
            return server
        if name in self._leaving:
            server, leaving = self._leaving.pop(name)
            leaving.cancel()
            return server
        return await self._start(name)

    async def _start(self, name: str) -> _Server:
        """Load, launch and warm a version. Raises one of _FAULTS; nothing of it is left then."""
        self._tell(loading=name)
        version = await in_thread(lambda: self._registry.load(name))
        manifest = await in_thread(lambda: self._describe(version))
        port = free_port()
        part = self._serve(version, manifest, port)
        prepared = await in_thread(lambda: part.prepare(silent))
        log = self._home / "logs" / f"model-{name}.log"
        child = launch(part, prepared, log)
        self._children.append(child)
        try:
            deadline = time.monotonic() + START_S
            while not await in_thread(part.ready):
                _check_starting(child, deadline, log)
                await asyncio.sleep(LOOK_S / 4)
            await _warm(port, manifest)
        except BaseException:
            await self._end(child, part.stop_grace_s)
            raise
        self._relay.add(manifest.served_name or "", f"http://127.0.0.1:{port}")
        return _Server(name, manifest, child, part.stop_grace_s)

    def _retire(self, server: _Server, after_s: float) -> None:
        async def retire() -> None:
            await asyncio.sleep(after_s)
            self._leaving.pop(server.name, None)
            await self._relay.remove(server.served_name, DRAIN_S)
            await self._end(server.child, server.grace_s)
            _log.info("model_retired", version=server.name)

        task = asyncio.create_task(retire())
        self._retiring.add(task)
        self._leaving[server.name] = server, task
        task.add_done_callback(self._retiring.discard)

    async def _end(self, child: Child, grace_s: float) -> None:
        await in_thread(lambda: child.stop(grace_s))
        self._children.remove(child)

    def _fail(self, name: str | None, error: Exception) -> None:
        before = self._current.name if self._current else None
        reason = str(error) or type(error).__name__
        _log.error("model_failed", version=name, serving=before, error=reason)
        self._registry.note(Action.FAIL, name, reason[:1000], before)
        self._tell(loading=None, failed=name, failure=reason)

    def _tell(self, **changes: object) -> None:
        self._told = replace(self._told, **changes)
        self._registry.tell(self._told)


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


def _check_starting(child: Child, deadline: float, log: Path) -> None:
    if child.exit_code() is not None or time.monotonic() > deadline:
        raise PartError(f"its model server did not start:\n{tail(log)}")


async def _warm(port: int, manifest: ModelManifest) -> None:
    """Ask once in each mode, so that no search pays for what a server does at its first answer. Raises ModelError."""
    async with HttpTransport(model_server.url(port), None, WARM_S) as transport:
        client = ModelClient(transport, manifest.served_name or "", 16)
        for mode in Mode:
            await client.ask(*_SAMPLE, mode, manifest.constraint)


async def _main(home: Path, port: int) -> None:
    settings = Settings()
    cache = Cache()

    def serve(version: Version, manifest: ModelManifest, at: int) -> Part:
        name = manifest.served_name or model_server.SERVED_NAME
        return model_server.part(at, cache, version.adapter, weights=version.weights, name=name)

    host = ModelHost(home, port, model_server.registry(home), serve, shadow=settings.shadow_share > 0)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await host.run(stop)


def main() -> int:
    """Serve until SIGTERM; 1 when there is nothing left to serve with."""
    parser = ArgumentParser(prog="whyrank.embedded.model_host")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    settings = Settings()
    logging.configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(_main(options.home, options.port))
    except HostError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
