"""What `whyrank train` prints: the stages of a run, the history, and what a scheduled start would find."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from training.history import Cause, RunRecord, StageRecord, Status, Told
from training.stages import Report
from whyrank.console import duration

_STYLES = {
    Status.DONE: "green",
    Status.RUNNING: "yellow",
    Status.FAILED: "red",
    Status.STOPPED: "red",
    Status.INTERRUPTED: "red",
    Status.WAITING: "dim",
    Status.SKIPPED: "dim",
}


def run_view(record: RunRecord, told: Told | None, *, alive: bool) -> RenderableType:
    """One run: its stages, a line each, with the progress of the one that runs."""
    index = f" on [bold]{escape(record.index)}[/]" if record.index else ""
    head = Text.from_markup(f"run [bold]{escape(record.id)}[/], recipe {escape(record.recipe.name)}{index}")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "state"):
        table.add_column(name, min_width=8, no_wrap=True)
    for name in ("tries", "time"):
        table.add_column(name, justify="right", min_width=5, no_wrap=True)
    table.add_column("", ratio=1)
    for stage, stage_record in record.stages.items():
        running = alive and stage_record.status is Status.RUNNING
        word = "died" if stage_record.status is Status.RUNNING and not alive else stage_record.status.value
        table.add_row(
            stage.value,
            Text(word, style="red" if word == "died" else _STYLES[stage_record.status]),
            str(len(stage_record.attempts) or ""),
            _spent(stage_record, running=running),
            _detail(stage_record, told if running and told is not None and told.stage is stage else None),
        )
    return Group(head, table, *_ending(record, alive=alive))


def history_table(records: Iterable[RunRecord], living: str | None) -> RenderableType:
    """Runs, a line each; `living` is the id of the one that is at work now."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "recipe", "index", "by", "state", "at"):
        table.add_column(name, no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("", ratio=1)
    for record in records:
        dead = record.status is Status.RUNNING and record.id != living
        stage = record.stage
        table.add_row(
            escape(record.id),
            escape(record.recipe.name),
            escape(record.index or ""),
            "schedule" if record.cause is Cause.SCHEDULE else "hand",
            Text("died" if dead else record.status.value, style="red" if dead else _STYLES[record.status]),
            stage.value if stage is not None and record.status is not Status.DONE else "",
            duration(sum(s.seconds for s in record.stages.values())),
            Text((record.error or "").splitlines()[0] if record.error else ""),
        )
    return table


def decision(report: Report | None) -> RenderableType:
    """What the gate decided, in words; nothing while it has not. `report` is the stage promote's."""
    if report is None or "words" not in report.figures:
        return Text("")
    figures = report.figures
    good = figures["action"] in ("promoted", "forced", "shadow", "current")
    lines = [Text(figures["words"], style="bold green" if good else "bold yellow")]
    for check in figures["checks"]:
        mark = Text("  yes  ", style="green") if check["passed"] else Text("  no   ", style="red")
        lines.append(mark.append(check["words"], style="default"))
    return Group(*lines)


def state_word(record: RunRecord, *, alive: bool) -> str:
    """The status as a word; a run that nobody runs although its record says so has died."""
    return "died" if record.status is Status.RUNNING and not alive else record.status.value


def _ending(record: RunRecord, *, alive: bool) -> list[RenderableType]:
    word = state_word(record, alive=alive)
    lines: list[RenderableType] = []
    if record.error:
        lines.append(Text(record.error, style="red"))
    if word in ("died", "failed", "stopped", "interrupted"):
        lines.append(Text(f"{word}; whyrank train run --resume {record.id} goes on where it was", style="dim"))
    return lines


def _detail(record: StageRecord, told: Told | None) -> RenderableType:
    if told is not None:
        words = Text(told.what, style="dim")
        if told.share is None:
            return words
        return Group(words, ProgressBar(total=1.0, completed=told.share, width=30))
    last = record.attempts[-1] if record.attempts else None
    return Text((last.error or "").splitlines()[0] if last is not None and last.error else "", style="dim")


def _spent(record: StageRecord, *, running: bool) -> str:
    seconds = record.seconds + (time.time() - record.attempts[-1].started if running and record.attempts else 0.0)
    return duration(seconds) if record.attempts else ""
