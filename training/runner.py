"""Runs the stages of a recipe one after another, each in a process of its own, and goes on where a run died."""

from __future__ import annotations

import hashlib
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import structlog

from training import history, lease
from training.history import Attempt, RunError, RunRecord, StageRecord, Status
from training.recipe import configs
from training.records import file_hash
from training.stages import OURS, RunFolder, Stage, StageCode, StageError
from whyrank.embedded.parts import tail
from whyrank.embedded.process import Child, Launch
from whyrank.errors import WhyRankError

_POLL_S = 0.2
_STOP_GRACE_S = 10.0
_log = structlog.get_logger(__name__)


class Runner:
    """One run, by the process that holds the lease. `stages` names a mapping of Stage to StageCode.

    `env` is what the stages get in their environment beside ours; `changed` is called with the record whenever it
    was written. `mark` asks what the index of a run's recipe has seen (None: not known), right before it is mined.
    """

    def __init__(
        self,
        run: RunFolder,
        stop: lease.Stop,
        *,
        stages: str = OURS,
        env: Mapping[str, str] | None = None,
        changed: Callable[[RunRecord], None] = lambda _record: None,
        mark: Callable[[str], dict[str, int] | None] = lambda _index: None,
    ) -> None:
        self.run = run
        self.record = history.read(run)
        self._stop = stop
        self._names = stages
        self._code = stage_codes(stages)
        self._env = {**(env or {}), "WHYRANK_LOG_FORMAT": "json"}
        self._changed = changed
        self._mark = mark
        # Now, and not when their turn comes: a wrong key is known before anything has run.
        self._configs = configs(self.record.recipe, self._code)

    def go(self) -> RunRecord:
        """Run what is not done yet, to the end or until `stop` is set. What went wrong is in the record."""
        self._begin()
        try:
            for stage in self._code:
                if self._left_out(stage):
                    continue
                if not self._fresh(stage) and not self._run(stage):
                    return self.record
        except WhyRankError as error:
            return self._end(Status.FAILED, str(error))
        return self._end(Status.DONE)

    def go_one(self, wanted: Stage, *, again: bool = False) -> RunRecord:
        """Run one stage alone. Raises RunError when one before it is not done or was made with another config."""
        if again:
            self.forget(wanted)
        for stage in self._code:
            if stage is wanted:
                break
            if not self._left_out(stage) and not self._fresh(stage):
                raise RunError(f"{stage.value} is not done as the recipe has it now; run it before {wanted.value}")
        if wanted in self.record.recipe.skip:
            raise RunError(f"the recipe leaves {wanted.value} out")
        self._begin()
        try:
            ran = self._fresh(wanted) or self._run(wanted)
        except WhyRankError as error:
            return self._end(Status.FAILED, str(error))
        if not ran:
            return self.record
        return self._end(Status.DONE if self.record.stage is None else Status.WAITING)

    def forget(self, first: Stage) -> None:
        """Have this stage and all after it run again, whatever they have done."""
        order = list(self._code)
        for stage in order[order.index(first) :]:
            self._put_aside(stage)
        self._save()

    def _begin(self) -> None:
        record = self.record
        if record.started is None:
            self._inherit()
        record.status, record.error, record.ended = Status.RUNNING, None, None
        record.started, record.host = time.time(), socket.gethostname()
        for stage in self._code:
            record.stages.setdefault(stage, StageRecord())
        for told in record.stages.values():
            for attempt in told.attempts:
                if attempt.status is Status.RUNNING:  # its runner was killed
                    attempt.status = Status.INTERRUPTED
            if told.status is Status.RUNNING:
                told.status = Status.INTERRUPTED
        self._save()
        _log.info("run_started", run=record.id)

    def _inherit(self) -> None:
        """What was paid for in an earlier run on the same index is not paid for again."""
        home = self.run.path.parents[2]
        earlier = [r.id for r in history.all_runs(home) if r.index == self.record.index and r.id != self.record.id]
        for stage, code in self._code.items():
            for name in code.paid:
                found = (history.folder(home) / id_ / stage.value / name for id_ in earlier)
                if (source := next(filter(Path.is_file, found), None)) is not None:
                    shutil.copyfile(source, self.run.folder(stage) / name)
                    _log.info("answers_inherited", run=self.record.id, source=str(source))

    def _end(self, status: Status, error: str | None = None) -> RunRecord:
        self.record.status, self.record.error, self.record.ended = status, error, time.time()
        self._save()
        _log.info("run_ended", run=self.record.id, status=status.value, error=error)
        return self.record

    def _left_out(self, stage: Stage) -> bool:
        """Whether the recipe leaves the stage out. What it did before the recipe did so must not be found."""
        if stage not in self.record.recipe.skip:
            return False
        self._put_aside(stage)
        self.record.stages[stage].status = Status.SKIPPED
        return True

    def _fresh(self, stage: Stage) -> bool:
        """Whether the stage is done, with the config and the inputs that it would have now.

        Raises StageError when a file that it made is not what its report says.
        """
        report = self.run.report(stage)
        told = self.record.stages[stage]
        if report is None or told.made_with != self._fingerprint(stage):
            return False
        for name, expected in report.outputs.items():
            path = self.run.folder(stage) / name
            if not path.is_file() or file_hash(path) != expected:
                told.status = Status.FAILED
                now = time.time()
                told.attempts.append(Attempt(now, now, Status.FAILED, f"{name} is damaged"))
                raise StageError(
                    f"{path} is not what the stage's report says: it was changed or damaged; `whyrank train run "
                    f"--resume {self.record.id} --from-stage {stage.value}` makes it again"
                )
        told.status = Status.DONE
        return True

    def _fingerprint(self, stage: Stage) -> str:
        """Hash of the stage's config, of everything before it, and of what that made."""
        recipe = self.record.recipe
        made_of: list[object] = [stage, self._configs[stage], recipe.base, recipe.constraint]
        for before in self._code:
            if before is stage:
                break
            report = self.run.report(before)
            made_of += [before, self.record.stages[before].made_with, report.outputs if report else None]
        return hashlib.sha256(msgspec.json.encode(made_of, order="sorted")).hexdigest()[:16]

    def _run(self, stage: Stage) -> bool:
        """One attempt at a stage; False when the run has ended with it."""
        if self._stop.is_set():
            return self._stopped()
        fingerprint = self._fingerprint(stage)
        told = self.record.stages[stage]
        if told.made_with != fingerprint:
            self._put_aside(stage)
        for later in list(self._code)[list(self._code).index(stage) + 1 :]:
            if later not in self.record.recipe.skip:
                self.record.stages[later].status = Status.WAITING
        if stage is Stage.MINE and self.record.index is not None:
            self.record.watermark_after = self._mark(self.record.index)
        attempt = Attempt(time.time())
        told.attempts.append(attempt)
        told.made_with, told.status = fingerprint, Status.RUNNING
        (self.run.path / "progress.json").unlink(missing_ok=True)
        self._save()
        code = self._process(stage)
        attempt.ended = time.time()
        if self.run.report(stage) is not None:
            attempt.status = told.status = Status.DONE
            self._save()
            return True
        if self._stop.is_set():
            attempt.status = told.status = self._stop_status()
            return self._stopped()
        attempt.status = told.status = Status.FAILED
        attempt.error = self._why(stage, code)
        self._end(Status.FAILED, f"{stage.value}: {attempt.error}")
        return False

    def _process(self, stage: Stage) -> int:
        """The exit code of the stage's process. It ends with us, however we end, and so does all that it starts."""
        command = [sys.executable, "-m", "training.runs", "stage", str(self.run.path), stage.value]
        child = Child(Launch([*command, "--stages", self._names], self._env), history.log_path(self.run, stage))
        try:
            while (code := child.exit_code()) is None and not self._stop.wait(_POLL_S):
                pass
        finally:
            child.stop(_STOP_GRACE_S)
        return code if code is not None else child.exit_code() or 0

    def _why(self, stage: Stage, code: int) -> str:
        told = history.told(self.run)
        if told is not None and told.stage is stage and told.error:
            return told.error
        log = history.log_path(self.run, stage)
        if code < 0:
            hint = ": the machine was out of memory, or somebody killed it" if code == -signal.SIGKILL else ""
            return f"ended by {signal.Signals(-code).name}{hint} ({log})"
        return f"ended with code {code} and no report ({log}):\n{tail(log, 5)}"

    def _put_aside(self, stage: Stage) -> None:
        """What the stage made with another config or other inputs: kept, but where no stage finds it."""
        told = self.record.stages[stage]
        told.made_with = ""
        if told.status is not Status.SKIPPED:
            told.status = Status.WAITING
        folder = self.run.path / stage.value
        if not folder.exists():
            return
        if self._code[stage].keeps and stage not in self.record.recipe.skip:
            (folder / "report.json").unlink(missing_ok=True)
            return
        aside = self.run.path / "replaced"
        aside.mkdir(exist_ok=True)
        number = next(n for n in range(1, 10_000) if not (aside / f"{stage.value}-{n}").exists())
        folder.rename(aside / f"{stage.value}-{number}")

    def _stop_status(self) -> Status:
        return Status.STOPPED if self._stop.by_person else Status.INTERRUPTED

    def _stopped(self) -> bool:
        self._end(self._stop_status(), self._stop.reason)
        return False

    def _save(self) -> None:
        history.write(self.run, self.record)
        self._changed(self.record)


def stage_codes(name: str) -> Mapping[Stage, StageCode]:
    """The mapping that `module:NAME` names. Raises StageError."""
    found: Mapping[Stage, StageCode] = StageCode(name, name).function()  # type: ignore[assignment]
    return found
