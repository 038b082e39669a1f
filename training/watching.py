"""How a person looks at runs: carried out in front of them, followed from elsewhere, started and left, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.live import Live

from training import console, history, lease
from training.history import RunError, RunRecord
from training.runs import Change, settings_of, signals_stop, surroundings
from training.stages import RunFolder, Stage
from whyrank.console import out

PATIENCE_S = 60.0
_TAIL_BYTES = 2000
_LEFT: list[subprocess.Popen[bytes]] = []


def watched(folder: RunFolder, go: Callable[..., RunRecord], engine_url: str | None, *, quiet: bool) -> RunRecord:
    """Carry a run out in this process; a terminal shows its stages meanwhile, another output gets a line for each.

    `go` is `training.runs.carry_out` but for who stops it, what it finds around it, and who hears of changes.
    """
    stop = lease.Stop()
    surrounding = surroundings(folder.path.parents[2], engine_url)
    with signals_stop(stop):
        if quiet:
            return go(stop=stop, surrounding=surrounding)
        if not out.is_terminal:
            return go(stop=stop, surrounding=surrounding, changed=Lines(history.read(folder)))
        with Live(
            console=out,
            refresh_per_second=2,
            get_renderable=lambda: console.run_view(history.read(folder), history.told(folder), alive=True),
            vertical_overflow="visible",
            transient=True,
        ):
            return go(stop=stop, surrounding=surrounding)


class Lines:
    """What happens from now on, a line each."""

    def __init__(self, record: RunRecord) -> None:
        self._said: dict[Stage, str] = {stage: told.status.value for stage, told in record.stages.items()}

    def __call__(self, record: RunRecord) -> None:
        """Say what has changed in a record."""
        for stage, told in record.stages.items():
            if self._said[stage] != told.status.value:
                self._said[stage] = told.status.value
                out.print(f"{stage.value}: {told.status.value}")


def follow(home: Path, folder: RunFolder) -> None:
    """Show a run until it ends, or Ctrl-C, which leaves it alone."""
    with Live(console=out, refresh_per_second=2, transient=True) as live, suppress(KeyboardInterrupt):
        while alive(home, record := history.read(folder)):
            live.update(console.run_view(record, history.told(folder), alive=True))
            time.sleep(0.5)


def detach(folder: RunFolder, change: Change, *, alone: bool, stages: str, engine_url: str | None) -> None:
    """Start the run in a process that outlives this one; returns when it has begun. Raises RunError if it does not."""
    command = [sys.executable, "-m", "training.runs", "run", str(folder.path), "--stages", stages]
    command += ["--alone"] if alone else []
    command += [word for value in change.assign for word in ("--set", value)]
    command += ["--from-stage", change.first.value] if change.first is not None else []
    command += ["--engine-url", engine_url] if engine_url is not None else []
    path = folder.path / "logs" / "runner.log"
    path.parent.mkdir(exist_ok=True)
    before = history.read(folder).started
    with path.open("a+b") as output:
        # It outlives us, and is not waited for: dropped while it runs, it would warn of that.
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        _LEFT.append(process)
        seen = os.dup(output.fileno())

    def said() -> str:
        """The log's last lines: by its descriptor, since the file may be gone."""
        size = os.fstat(seen).st_size
        return os.pread(seen, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace").strip()

    def begun() -> bool:
        ended = process.poll() is not None
        with suppress(RunError):  # a run that does not begin removes its folder
            if history.read(folder).started != before:
                return True
        if ended:
            raise RunError(f"the run did not begin: {said()}")
        return False

    try:
        _until(begun, f"the run does not begin ({path})")
    finally:
        os.close(seen)


def stop(home: Path) -> lease.Holder:
    """Stop the run that is training, in this home or elsewhere in the fleet; who it was. Raises RunError."""
    holder = holder_of(home)
    if holder is None:
        raise RunError("nothing is training")
    if holder == lease.here(home) and holder.host == socket.gethostname():
        with suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGINT)
    else:
        lease.request_stop(_redis_url(home), holder)
    _until(lambda: holder_of(home) != holder, f"{holder.told()}, and does not end")
    return holder


def holder_of(home: Path) -> lease.Holder | None:
    """Who trains now."""
    return lease.current(home, _redis_url(home))


def alive(home: Path, record: RunRecord) -> bool:
    """Whether somebody is at work on the run."""
    holder = holder_of(home)
    return holder is not None and holder.run == record.id


def _redis_url(home: Path) -> str:
    return settings_of(surroundings(home)).redis_url.get_secret_value()


def _until(seen: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not seen():
        if time.monotonic() > deadline:
            raise RunError(problem)
        time.sleep(0.2)
