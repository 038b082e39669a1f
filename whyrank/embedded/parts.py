"""A part of the stack as the supervisor sees it, and how to run just one of them."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from whyrank.embedded.cache import Progress, silent
from whyrank.embedded.process import Child, Launch
from whyrank.errors import WhyRankError

PROBE_TIMEOUT_S = 2.0


class PartError(WhyRankError):
    """A part did not start; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Part:
    """One process of the stack. It is alone on `port` of the loopback interface (0: it has none).

    `prepare` installs and writes what the part needs (it may take minutes, blocks, and is called again after each
    exit, so it must be quick when all is there) and gives the command. `ready` asks the running part, in at most
    a few seconds, and never raises. `after` are the parts that must be ready before this one's process is started;
    it is prepared meanwhile.
    """

    name: str
    port: int
    prepare: Callable[[Progress], Launch]
    ready: Callable[[], bool]
    after: tuple[str, ...] = ()
    stop_grace_s: float = 10.0


@contextmanager
def running(part: Part, log: Path, timeout_s: float = 180.0, progress: Progress = silent) -> Iterator[Child]:
    """The part alone, ready for use; stopped at the end, and by a watchdog should this process be killed.

    Raises PartError when it exits or is not ready within `timeout_s` seconds (preparation not counted).
    """
    child = launch(part, part.prepare(progress), log)
    try:
        deadline = time.monotonic() + timeout_s
        while not part.ready():
            if child.exit_code() is not None or time.monotonic() > deadline:
                raise PartError(f"{part.name} did not start:\n{tail(log)}")
            time.sleep(0.1)
        yield child
    finally:
        child.stop(part.stop_grace_s)


def launch(part: Part, prepared: Launch, log: Path) -> Child:
    """Start the part's process. Raises PartError when its port is taken: another's answers would pass for its own."""
    if part.port and not is_free(part.port):
        raise PartError(f"port {part.port} is taken by another program")
    return Child(prepared, log)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, "" when there is none."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def free_port(first: int = 0, last: int = 0, preferred: int | None = None) -> int:
    """A port of 127.0.0.1 that nobody listens on.

    `preferred` if it is free, else the first free one of the range, or any where no range is given.
    Raises PartError when the whole range is taken.
    """
    wanted = (preferred,) if preferred else ()
    for port in chain(wanted, range(first, last + 1)):
        if port and is_free(port):
            return port
    if first == last == 0:
        with _bound(0) as probe:
            return int(probe.getsockname()[1])
    raise PartError(f"no free port between {first} and {last}")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    try:
        with _bound(port):
            return True
    except OSError:
        return False


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    with socket.socket() as probe:
        # As servers do: connections that have just ended do not keep a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        yield probe


def get_json(url: str, timeout_s: float = PROBE_TIMEOUT_S) -> tuple[int, Any]:
    """Status and JSON of a GET: (0, None) when nobody answers, None where the body is no JSON."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
        answer = connection.getresponse()
        body = answer.read()
        status = answer.status
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
    try:
        return status, json.loads(body)
    except ValueError:
        return status, None


def answers(url: str) -> Callable[[], bool]:
    """A probe: a GET of `url` is answered with 200."""
    return lambda: get_json(url)[0] == 200


def environment(values: Mapping[str, object]) -> dict[str, str]:
    """`WHYRANK_*` variables for a part of ours, from names of settings."""
    return {f"WHYRANK_{name.upper()}": str(value) for name, value in values.items()}
