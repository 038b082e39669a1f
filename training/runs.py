"""Runs as programs: what a run finds around it, and the processes that carry it out.

`python -m training.runs run FOLDER` runs all stages of a run, for those who start one and do not wait for it;
`python -m training.runs stage FOLDER STAGE` is one stage, as the runner starts it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import structlog
import typer

from training import history, lease
from training.history import RunRecord, Status, Told
from training.recipe import assign, configs, section
from training.runner import Runner, stage_codes
from training.stages import OURS, Report, RunFolder, Stage, StageCode, StageError
from whyrank import logging
from whyrank.embedded import state as states
from whyrank.embedded.cache import exclusive
from whyrank.embedded.parts import environment
from whyrank.engines import connect
from whyrank.errors import EngineError, WhyRankError
from whyrank.settings import Settings

TELL_EVERY_S = 0.5
"""How often the same words are told with another share; other words are told at once."""
_log = structlog.get_logger(__name__)


def surroundings(home: Path, engine_url: str | None = None) -> dict[str, str]:
    """`WHYRANK_*` variables of a run in this home: the addresses of the stack that is up in it, where the environment
    names no others."""
    values: dict[str, object] = {"home": home}
    state = states.running(home)
    if state is not None:
        urls = state.urls
        # Not its model server: that one serves searches, and takes no adapters of a run's.
        values |= {"engine_url": urls[states.ENGINE], "redis_url": urls[states.VALKEY]}
    known = {name: text for name, text in environment(values).items() if name not in os.environ}
    known["WHYRANK_HOME"] = str(home)
    return known if engine_url is None else {**known, "WHYRANK_ENGINE_URL": engine_url}


def settings_of(surrounding: Mapping[str, str]) -> Settings:
    """The settings that a process with these variables beside ours would read."""
    return Settings(**{name.removeprefix("WHYRANK_").lower(): text for name, text in surrounding.items()})  # type: ignore[arg-type]


def seen(settings: Settings, index: str) -> dict[str, int] | None:
    """Writes that each index behind the name has had; None when the engine cannot tell."""

    async def ask() -> dict[str, int]:
        engine = await connect(settings)
        try:
            return await engine.writes(index)
        finally:
            await engine.close()

    try:
        return asyncio.run(ask())
    except EngineError as error:
        _log.warning("writes_unknown", index=index, error=str(error))
        return None


@contextmanager
def signals_stop(stop: lease.Stop) -> Iterator[None]:
    """Ctrl-C is a person's stop; SIGTERM comes from whoever ends our worker or machine, and the run goes on later."""

    def heard(number: int, _frame: FrameType | None) -> None:
        person = number == signal.SIGINT
        stop("stopped by Ctrl-C" if person else "its process was told to end (SIGTERM)", by_person=person)

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Change(msgspec.Struct, frozen=True):
    """What a person wants changed in a run that is continued."""

    assign: tuple[str, ...] = ()
    """As `training.recipe.assign`."""
    first: Stage | None = None
    """This stage and all after it run again."""


def carry_out(
    run: RunFolder,
    stop: lease.Stop,
    surrounding: Mapping[str, str],
    *,
    alone: bool = False,
    stages: str = OURS,
    change: Change = Change(),  # noqa: B008 - frozen
    changed: Callable[[RunRecord], None] = lambda _record: None,
    go: Callable[[Runner], RunRecord] = Runner.go,
) -> RunRecord:
    """Run a run while holding the lease; `alone` without Redis, so that only this home is guarded.

    Raises HeldError when another run is training, BadRequestError for a recipe that is wrong.
    """
    settings = settings_of(surrounding)
    url = None if alone else settings.redis_url.get_secret_value()
    with lease.holding(run.path.parents[2], run.path.name, url, stop):
        if change.assign:
            record = history.read(run)
            record.recipe = assign(record.recipe, change.assign)
            configs(record.recipe, stage_codes(stages))
            history.write(run, record)
        runner = Runner(run, stop, stages=stages, env=surrounding, changed=changed, mark=partial(seen, settings))
        if change.first is not None:
            runner.forget(change.first)
        return go(runner)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Names = Annotated[str, typer.Option("--stages", help="Where the stages' code is, as module:NAME of a mapping.")]


@app.command("run")
def run_command(  # noqa: PLR0917 - its options
    folder: Path,
    alone: Annotated[bool, typer.Option("--alone")] = False,
    stages: Names = OURS,
    values: Annotated[list[str] | None, typer.Option("--set")] = None,
    first: Annotated[Stage | None, typer.Option("--from-stage")] = None,
    engine_url: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Run what is not done of a run; its record says how it ended."""
    logging.configure("info", "json")
    stop = lease.Stop()
    run = RunFolder(folder.resolve())
    surrounding = surroundings(run.path.parents[2], engine_url)
    change = Change(tuple(values or ()), first)
    try:
        with signals_stop(stop), history.gone_unless_started(run):
            record = carry_out(run, stop, surrounding, alone=alone, stages=stages, change=change)
    except WhyRankError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from error
    raise typer.Exit(0 if record.status is Status.DONE else 1)


@app.command("stage")
def stage_command(folder: Path, stage: Stage, stages: Names = OURS) -> None:
    """Run one stage in this process. The run's own runner calls this."""
    settings = Settings()
    logging.configure(settings.log_level, settings.log_format)
    run = RunFolder(folder)
    teller = Teller(run, stage)
    # An attempt whose runner was killed is ended by its watchdog; until it is, it may still write.
    with (
        exclusive(folder / "stage.lock"),
        structlog.contextvars.bound_contextvars(run=folder.name, stage=stage.value),
    ):
        try:
            report = _stage(run, stage, stage_codes(stages)[stage], settings, teller)
        except WhyRankError as error:
            _log.error("stage_failed", error=str(error))
            teller.fail(str(error))
            raise typer.Exit(1) from error
        except Exception as error:
            _log.exception("stage_broken")
            where = history.log_path(run, stage)
            teller.fail(f"{type(error).__name__}: {error} (the traceback is in {where})")
            raise typer.Exit(1) from error
        _log.info("stage_done", seconds=round(report.seconds, 1))


def _stage(run: RunFolder, stage: Stage, code: StageCode, settings: Settings, teller: Teller) -> Report:
    recipe = history.read(run).recipe
    config = section(recipe, stage, code.config_type())
    _log.info("stage_started", config=msgspec.to_builtins(config))
    teller("starting", None)
    report = code.function()(run, config, settings, recipe, teller)
    if run.report(stage) is None:
        raise StageError(f"{code.run} has returned without its report")
    return report


class Teller:
    """The Progress of a stage's process: into `progress.json`, twice a second at most while it is the same thing."""

    def __init__(self, run: RunFolder, stage: Stage) -> None:
        self._path = run.path / "progress.json"
        self._stage = stage
        self._last = Told(stage, "", None, 0.0)

    def __call__(self, what: str, share: float | None) -> None:
        """As `training.stages.Progress`."""
        now = time.time()
        if what != self._last.what or now - self._last.at >= TELL_EVERY_S:
            self._last = Told(self._stage, what, share, now)
            history.replace(self._path, self._last)

    def fail(self, error: str) -> None:
        """Leave the reason of the end."""
        history.replace(self._path, msgspec.structs.replace(self._last, at=time.time(), error=error))


if __name__ == "__main__":
    app()
