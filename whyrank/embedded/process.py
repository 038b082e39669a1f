"""Child processes that cannot be left behind: each leads a process group, and a watchdog knows them all."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from whyrank.embedded import watchdog

LOG_LIMIT_BYTES = 20_000_000


@dataclass(frozen=True)
class Launch:
    """A command, and what it needs in its environment beside ours."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Guard:
    """The watchdog of this process, started with the first child and restarted should it be killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[str] | None = None

    def add(self, group: int) -> None:
        """End `group` when this process is gone."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """`group` has ended, and its number may soon be another's."""
        with self._lock:
            self._groups.discard(group)
            self._tell(f"-{group}")

    def close(self) -> None:
        """At this process's own orderly end: the watchdog ends what is left, then itself."""
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
                self._process.wait()
                self._process = None

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", watchdog.__file__],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            line = "".join(f"+{group}\n" for group in self._groups).rstrip()
        pipe = self._process.stdin
        if pipe is None:
            raise RuntimeError("a watchdog without an input")
        try:
            pipe.write(f"{line}\n")
            pipe.flush()
        except BrokenPipeError:  # killed a moment ago: the next call starts another, which is told everything
            self._process.wait()


GUARD = Guard()
"""One per process: a pipe's end tells that the process is gone, so nothing smaller can own it."""
atexit.register(GUARD.close)


class Child:
    """A running command and everything that it starts in turn.

    Its output goes to the end of `log`. It leads a new session, so that a Ctrl-C in our terminal is ours alone to
    handle. Raises OSError when the command cannot be started.
    """

    def __init__(self, launch: Launch, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".old.log"))
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in launch.command],
                env={**os.environ, **launch.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        GUARD.add(self.pid)

    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    def stop(self, grace_s: float = 10.0) -> None:
        """SIGTERM to the whole group, SIGKILL to what is left of it after `grace_s` seconds. Blocks until none is."""
        end_group(self.pid, grace_s, reap=self._process.poll)
        self._process.wait()
        GUARD.remove(self.pid)


def end_group(group: int, grace_s: float, reap: Callable[[], object] = lambda: None) -> None:
    """SIGTERM to a process group, and SIGKILL to what is left after `grace_s` seconds; returns when none is left."""
    watchdog.send(group, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while _alive(group, reap):
        if time.monotonic() > deadline:
            watchdog.send(group, signal.SIGKILL)
        time.sleep(0.05)


def run_tool(command: Sequence[str], on_line: Callable[[str], None] = lambda _line: None) -> None:
    """Run an installer to its end, giving each line it prints to `on_line`.

    Like a Child it does not outlive this process. Raises CalledProcessError, with the output's last lines.
    """
    last: list[str] = []
    with subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        GUARD.add(process.pid)
        try:
            for line in process.stdout or ():
                last = [*last[-19:], line.rstrip()]
                on_line(line.rstrip())
            code = process.wait()
        finally:
            if process.poll() is None:
                end_group(process.pid, 1.0, reap=process.poll)
            GUARD.remove(process.pid)
    if code != 0:
        raise subprocess.CalledProcessError(code, list(command), "\n".join(last))


def _alive(group: int, reap: Callable[[], object]) -> bool:
    """Whether the group has a process that is more than an unreaped entry in the process table."""
    reap()
    if not watchdog.send(group, 0):
        return False
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return False
