"""A whole stack whose parts can be stopped, killed and started again one by one; all of them real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from whyrank.embedded import stack
from whyrank.embedded.cache import Cache, silent
from whyrank.embedded.parts import Part
from whyrank.embedded.process import Child

T = TypeVar("T")
PATIENCE_S = 180.0


class Service:
    """One part as a process that keeps its port and its data over restarts."""

    def __init__(self, part: Part, log: Path) -> None:
        self._part = part
        self._log = log
        self._child: Child | None = None

    def start(self) -> None:
        self._child = Child(self._part.prepare(silent), self._log)
        ends = time.monotonic() + PATIENCE_S
        while not self._part.ready():
            assert self._child.exit_code() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < ends, f"{self._part.name} is not ready"
            time.sleep(0.1)

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(self._part.stop_grace_s)
            self._child = None

    def kill(self) -> None:
        """SIGKILL, as the kernel does it when memory is short."""
        assert self._child is not None
        os.killpg(self._child.pid, signal.SIGKILL)
        self.stop()


class Relay:
    """Stands before the real model server, so that it can be out of reach and back without loading for a minute."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path = parts.path
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self._path}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse connections, and break those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for pipe in list(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
            try:
                await asyncio.gather(_pipe(reader, up_writer), _pipe(up_reader, writer))
            finally:
                up_writer.close()
        except (OSError, asyncio.CancelledError):
            pass  # either side went, or the test cut it: the other side sees a broken connection
        finally:
            self._pipes.discard(task)
            writer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


class Live:
    """Engine, Valkey, worker and sidecar as `whyrank up` lays them out; the model server is the environment's."""

    def __init__(self, home: Path) -> None:
        laid_out = stack.build(home, with_model=False, sidecar_port=8080, cache=Cache())
        self.urls = laid_out.urls
        self.services = {part.name: Service(part, home / f"{part.name}.log") for part in laid_out.parts}

    def start(self) -> None:
        for name in ("engine", "valkey", "worker", "sidecar"):
            self.services[name].start()

    def stop(self) -> None:
        for service in reversed(list(self.services.values())):
            service.stop()


async def until(found: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """What `found` gives as soon as it is something; blocks the loop only while `found` runs."""
    ends = time.monotonic() + patience_s
    while not (value := found()):
        assert time.monotonic() < ends, "it did not come to be in time"
        await asyncio.sleep(0.1)
    return value
