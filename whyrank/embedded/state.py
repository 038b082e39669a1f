"""What a running `whyrank up` tells about itself, in `<home>/state.json`.

Only the supervisor writes it, whole and atomically; `status`, `down`, `demo` and the tests read it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec

from whyrank.embedded import watchdog
from whyrank.errors import WhyRankError

ENGINE, VALKEY, MODEL, WORKER, SIDECAR = "engine", "valkey", "model", "worker", "sidecar"


class AlreadyRunningError(WhyRankError):
    """Another supervisor holds this home."""


class NotRunningError(WhyRankError):
    """No supervisor holds this home."""


class Phase(StrEnum):
    """Where a part is on its way."""

    WAITING = "waiting"
    """Prepared, for the parts that must be ready before it."""
    PREPARING = "preparing"
    """Downloading or writing what it needs."""
    STARTING = "starting"
    """The process runs, and does not answer yet."""
    READY = "ready"
    UNREADY = "unready"
    """It answered before, runs, and does not answer now."""
    RESTARTING = "restarting"
    """It ended or could not be prepared; the next try comes after a pause."""
    STOPPED = "stopped"


class PartState(msgspec.Struct):
    """One part; `since` is when the phase began, seconds since the epoch."""

    name: str
    port: int
    log: str
    phase: Phase = Phase.WAITING
    detail: str = ""
    share: float | None = None
    """Of the preparation, 0 to 1, where known."""
    pid: int | None = None
    born: float | None = None
    """The process's creation time, which with the pid names it for good."""
    restarts: int = 0
    since: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return self.phase is Phase.READY


class State(msgspec.Struct):
    """The whole stack."""

    pid: int
    started: float
    home: str
    urls: dict[str, str]
    """Addresses of the parts by name, and `page`, the search page."""
    parts: dict[str, PartState]

    @property
    def ready(self) -> bool:
        """Whether every part answers."""
        return all(part.ready for part in self.parts.values())

    def searchable(self) -> bool:
        """Whether searches are answered: everything is ready but perhaps the model, which may warm meanwhile."""
        return all(part.ready for part in self.parts.values() if part.name != MODEL)


def write(home: Path, state: State) -> None:
    """Replace the state file."""
    path = home / "state.json"
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    fresh.replace(path)


def last(home: Path) -> State | None:
    """The state as last written, by a supervisor that may be gone; None when there is none that we can read."""
    try:
        return msgspec.json.decode((home / "state.json").read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return None


def running(home: Path) -> State | None:
    """The state of the supervisor that holds this home; None when none does or it has not written any yet."""
    state = last(home) if is_held(home) else None
    return state if state is not None and _exists(state.pid) else None


def is_held(home: Path) -> bool:
    """Whether a supervisor holds this home."""
    try:
        with (home / "lock").open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def holding(home: Path) -> Iterator[None]:
    """Be this home's supervisor. Raises AlreadyRunningError. The kernel frees the home if we die."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(f"already up in {home} (whyrank status, whyrank down)") from None
        yield


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def stop_supervisor(home: Path, state: State, patience_s: float) -> None:
    """SIGTERM, SIGKILL when that does not do in time, and wait until neither it nor any of its parts is left."""
    for what, patience in ((signal.SIGTERM, patience_s), (signal.SIGKILL, watchdog.GRACE_S)):
        if not is_held(home):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, what)
        deadline = time.monotonic() + patience
        while is_held(home) and time.monotonic() < deadline:
            time.sleep(0.05)
    deadline = time.monotonic() + 2 * watchdog.GRACE_S
    groups = [part.pid for part in state.parts.values() if part.pid is not None]
    while any(map(_exists, groups)) and time.monotonic() < deadline:
        time.sleep(0.05)
