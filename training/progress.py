"""How long loops show how far they are: to the run's log by its `Progress`, to a person by a bar on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from whyrank.embedded.cache import Progress as Report

REPORT_EVERY_S = 1.0
"""A `Progress` that writes a log must not be called for each of a million items."""


class Counter:
    """Counts what is done. `advance` may be called often; the watcher hears of it once a second, and at the end."""

    def __init__(self, what: str, total: int, done: int, report: Report) -> None:
        self._what = what
        self._total = total
        self._done = done
        self._report = report
        self._note = ""
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._last = 0.0

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more are done; `note` is what else a watcher may want to know by now, as what it has cost."""
        self._done += count
        self._note = note
        if self._bar is not None:
            self._bar.update(self._task, advance=count, note=note)
        now = time.monotonic()
        if now - self._last >= REPORT_EVERY_S:
            self._last = now
            self.tell()

    def tell(self) -> None:
        """Report the share that is done."""
        what = f"{self._what} ({self._note})" if self._note else self._what
        self._report(what, min(1.0, self._done / self._total) if self._total else None)

    def show(self, bar: Progress) -> None:
        """Draw it on a terminal from now on."""
        self._bar = bar
        self._task = bar.add_task(self._what, total=self._total or None, completed=self._done, note="")


@contextmanager
def counting(what: str, total: int, report: Report, *, unit: str = "items", done: int = 0) -> Iterator[Counter]:
    """A counter to `total` (0 where it is not known); `done` of them were done by an earlier run.

    Where stderr is a terminal a bar is drawn with items a second and the time left; in any case `report` is called.
    """
    counter = Counter(what, total, done, report)
    counter.tell()
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield counter
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(unit))
        note = TextColumn("{task.fields[note]}", style="dim")
        with Progress(*columns, TimeRemainingColumn(), note, console=console, transient=True) as bar:
            counter.show(bar)
            yield counter
    counter.tell()


class _Speed(ProgressColumn):
    """Items a second of this run alone: what an earlier one did took none of its time."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """As `3.2 pairs/s`; empty until something is done."""
        return Text(f"{task.speed:.1f} {self._unit}/s" if task.speed else "", style="dim")


class Stopwatch:
    """Seconds of work on a stage over all its attempts, kept in its folder; `save` now and then, for kills."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "seconds.txt"
        self._began = time.monotonic()
        try:
            self._before = float(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            self._before = 0.0

    @property
    def seconds(self) -> float:
        """Those of earlier attempts and of this one."""
        return self._before + time.monotonic() - self._began

    def save(self) -> None:
        """Keep them for the next attempt."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(f"{self.seconds:.3f}", encoding="ascii")
        draft.replace(self._path)

    def saving(self, report: Report) -> Report:
        """`report`, at each call of which the seconds are kept."""

        def saving(what: str, share: float | None) -> None:
            self.save()
            report(what, share)

        return saving

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.save()
