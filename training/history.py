"""What is known of every training run: `<home>/training/runs/<id>/run.json`, kept for good.

Only the process that runs a run writes its record, whole and atomically; everybody else reads.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from pathlib import Path

import msgspec
import structlog

from training.recipe import Recipe
from training.stages import RunFolder, Stage
from whyrank.errors import NotFoundError, WhyRankError

RECORD_VERSION = 1
_log = structlog.get_logger(__name__)


class RunError(WhyRankError):
    """A run cannot be started, continued or read; the message says what to do."""


class Status(StrEnum):
    """Of a run, and of each of its stages."""

    WAITING = "waiting"
    """Its turn has not come."""
    RUNNING = "running"
    """Or it died: then nobody holds it (training.lease)."""
    DONE = "done"
    FAILED = "failed"
    """Its error says why; it can be continued."""
    STOPPED = "stopped"
    """By a person: only a person continues it."""
    INTERRUPTED = "interrupted"
    """Its worker was stopped, or lost the lease: the schedule continues it."""
    SKIPPED = "skipped"
    """The recipe leaves the stage out; of a run: there was too little new."""


class Cause(StrEnum):
    """Who started a run."""

    COMMAND = "command"
    SCHEDULE = "schedule"


class Attempt(msgspec.Struct):
    """One process of a stage. Times are seconds since the epoch."""

    started: float
    ended: float | None = None
    """None while it runs, and for ever if its runner was killed meanwhile."""
    status: Status = Status.RUNNING
    error: str | None = None


class StageRecord(msgspec.Struct):
    """What became of one stage."""

    status: Status = Status.WAITING
    attempts: list[Attempt] = []
    made_with: str = ""
    """Fingerprint of its config and its inputs, of the newest attempt: with another one it runs again."""

    @property
    def seconds(self) -> float:
        """Over all attempts whose end is known."""
        return sum(attempt.ended - attempt.started for attempt in self.attempts if attempt.ended is not None)


class RunRecord(msgspec.Struct):
    """One run."""

    id: str
    recipe: Recipe
    """As it runs: what the command line changed is changed here."""
    commit: str | None
    """Of our own source, with `-dirty` where it differs; None outside of a checkout."""
    host: str
    cause: Cause
    created: float
    stages: dict[Stage, StageRecord]
    started: float | None = None
    """Of the newest start; None before the first."""
    ended: float | None = None
    status: Status = Status.WAITING
    error: str | None = None
    watermark_before: dict[str, int] | None = None
    """`watermark_after` of the last run on the same index that finished before this one was made."""
    watermark_after: dict[str, int] | None = None
    """Writes that each index (by its own id) had had when this run began to mine: what it has seen."""
    version: int = RECORD_VERSION

    @property
    def stage(self) -> Stage | None:
        """The stage that runs or is the next to run; None when all are through."""
        over = (Status.DONE, Status.SKIPPED)
        return next((stage for stage, record in self.stages.items() if record.status not in over), None)

    @property
    def index(self) -> str | None:
        """The index that it learns from, where the recipe names one."""
        return index_of(self.recipe)


def index_of(recipe: Recipe) -> str | None:
    """The index that a recipe learns from, where it names one."""
    return str(recipe.mine.get("index") or "") or None


class Told(msgspec.Struct, frozen=True):
    """How far a stage is: `progress.json`, which only the stage's own process writes."""

    stage: Stage
    what: str
    share: float | None
    at: float
    error: str | None = None
    """Why it ended, when it did not end well."""


def folder(home: Path) -> Path:
    """Where all runs of a home are."""
    return home / "training" / "runs"


def new_id(home: Path, recipe: Recipe) -> str:
    """A name for a run that is about to be made."""
    name = re.sub(r"[^a-z0-9]+", "-", recipe.name.lower()).strip("-") or "run"
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}"
    taken = {path.name for path in folder(home).glob(f"{stamp}*")}
    return next(id_ for number in count() if (id_ := f"{stamp}-{number}" if number else stamp) not in taken)


def new_run(
    home: Path, recipe: Recipe, stages: Iterable[Stage], cause: Cause, id: str | None = None
) -> tuple[RunFolder, RunRecord]:
    """A folder and a record for a run that has not started yet. Raises RunError when there is one of this id."""
    path = folder(home) / (id or new_id(home, recipe))
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:  # made by another process at this moment
        raise RunError(f"there is a run {path.name} already; try again") from error
    records = {stage: StageRecord(Status.SKIPPED if stage in recipe.skip else Status.WAITING, []) for stage in stages}
    record = RunRecord(path.name, recipe, commit(), socket.gethostname(), cause, time.time(), records)
    before = last_finished(all_runs(home), record.index)
    record.watermark_before = before.watermark_after if before is not None else None
    write(RunFolder(path), record)
    return RunFolder(path), record


@contextmanager
def gone_unless_started(run: RunFolder) -> Iterator[None]:
    """A run that was made and did not start in the end, because another one is training, leaves nothing behind."""
    try:
        yield
    finally:
        if (run.path / "run.json").exists() and read(run).started is None:
            shutil.rmtree(run.path, ignore_errors=True)


def write(run: RunFolder, record: RunRecord) -> None:
    """Replace the record."""
    replace(run.path / "run.json", record)


def replace(path: Path, what: msgspec.Struct) -> None:
    """Write a JSON file, whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(what), indent=2) + b"\n")
    draft.replace(path)


def read(run: RunFolder) -> RunRecord:
    """The record of a run's folder. Raises RunError."""
    path = run.path / "run.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise RunError(f"{path}: {error}") from error


def find(home: Path, id: str) -> RunFolder:
    """The folder of a run by its id, or by a beginning of the id that is no other's.

    Raises NotFoundError, whose `field` is `run`.
    """
    known = sorted(path.parent.name for path in folder(home).glob("*/run.json"))
    found = [name for name in known if name == id] or [name for name in known if name.startswith(id)]
    if len(found) != 1:
        problem = f"{id!r} is the beginning of {len(found)} runs" if found else f"there is no run {id!r}"
        raise NotFoundError("run", f"{problem} in {folder(home)} (whyrank train history)")
    return RunFolder(folder(home) / found[0])


def all_runs(home: Path) -> list[RunRecord]:
    """Every run, the newest first. One whose record cannot be read is logged and left out."""
    found = []
    for path in folder(home).glob("*/run.json"):
        try:
            found.append(read(RunFolder(path.parent)))
        except RunError as error:
            _log.warning("run_unreadable", error=str(error))
    return sorted(found, key=lambda record: (record.created, record.id), reverse=True)


def told(run: RunFolder) -> Told | None:
    """How far the stage that runs is; None when nothing has been told."""
    try:
        return msgspec.json.decode((run.path / "progress.json").read_bytes(), type=Told)
    except (OSError, msgspec.DecodeError):
        return None


def log_path(run: RunFolder, stage: Stage) -> Path:
    """Everything that the stage's processes printed, of all attempts; our own lines in it are JSON."""
    return run.path / "logs" / f"{stage.value}.log"


def last_finished(records: Sequence[RunRecord], index: str | None) -> RunRecord | None:
    """The newest run on an index that finished and knows what it had seen. `records` are newest first."""
    finished = (r for r in records if r.status is Status.DONE and r.index == index and r.watermark_after is not None)
    return next(finished, None)


def commit() -> str | None:
    """The commit of this source."""
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
