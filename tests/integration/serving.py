"""A sidecar on a real socket, on an event loop of its own in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn

from tests.fakes.sidecar import Sidecar

T = TypeVar("T")


class Server:
    """`url` without a trailing slash; `do` runs a function on the server's event loop and gives its result."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.url = url
        self._loop = loop

    def do(self, action: Callable[..., T], *arguments: Any) -> T:
        async def call() -> T:
            return action(*arguments)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout=10)

    def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Wait until `condition` holds on the server's event loop; TimeoutError after `timeout_s`."""
        ends = time.monotonic() + timeout_s
        while not self.do(condition):
            if time.monotonic() > ends:
                raise TimeoutError
            time.sleep(0.01)


@contextmanager
def serving(sidecar: Sidecar) -> Iterator[Server]:
    """Serve `sidecar.app` until the block ends; the thread has then ended too."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not loops:
            loops.append(asyncio.get_running_loop())
        await sidecar.app(scope, receive, send)

    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, lifespan="on", log_level="error", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ends = time.monotonic() + 30
    while not server.started:
        if not thread.is_alive() or time.monotonic() > ends:
            raise RuntimeError("the server did not start")
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Server(f"http://127.0.0.1:{port}", loops[0])
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        if thread.is_alive():
            raise RuntimeError("the server did not stop")
