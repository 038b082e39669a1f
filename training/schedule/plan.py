"""What a scheduled start does: continue a run that died, start one from the watermark, or nothing.

The decision is made from the records of the home alone, and made again once the lease is held: another worker may
have done meanwhile what was to be done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec
import structlog

from training import history, lease
from training.history import Cause, RunRecord, Status
from training.recipe import Recipe, load
from training.runner import Runner, stage_codes
from training.runs import seen, settings_of
from training.stages import OURS, RunFolder, Stage
from whyrank.settings import Settings

PATIENCE_S = 60.0
"""A killed worker's run may still be ending, and its lease may still have to expire."""
TRIES = 3
"""A stage that has failed so often is not tried again by the schedule: a fresh run is."""
_log = structlog.get_logger(__name__)


class Action(StrEnum):
    """What is to be done."""

    CONTINUE = "continue"
    START = "start"
    NOTHING = "nothing"


class Plan(msgspec.Struct, frozen=True):
    """What is to be done, and why."""

    action: Action
    why: str
    run: str | None = None
    """The run that is continued."""


def recipe_of(settings: Settings) -> Recipe:
    """The recipe that the schedule runs, on the index that it is to learn from. Raises BadRequestError."""
    recipe = load(settings.train_recipe)
    if settings.train_index is None:
        return recipe
    return msgspec.structs.replace(recipe, mine={**recipe.mine, "index": settings.train_index})


def decide(
    records: Sequence[RunRecord], recipe: Recipe, writes: Callable[[str], dict[str, int] | None], min_new: int
) -> Plan:
    """What a scheduled start is to do. `records` are all runs, newest first; `writes` as `training.runs.seen`.

    Only runs of the schedule's own are continued: a person's run is the person's.
    """
    ours = [r for r in records if r.cause is Cause.SCHEDULE and r.recipe.name == recipe.name]
    if ours and (why := _unfinished(ours[0])):
        return Plan(Action.CONTINUE, why, ours[0].id)
    index = history.index_of(recipe)
    last = history.last_finished(records, index)
    if index is None or last is None or last.watermark_after is None:
        return Plan(Action.START, f"no run on {index or 'this index'} has finished yet")
    now = writes(index)
    if now is None:
        return Plan(Action.NOTHING, f"the engine does not tell what is new in {index}")
    new = sum(max(0, count - last.watermark_after.get(id_, 0)) for id_, count in now.items())
    what = f"{new} documents were written since run {last.id} mined {index}"
    return Plan(Action.START, what) if new >= min_new else Plan(Action.NOTHING, f"{what}, fewer than {min_new}")


def once(home: Path, surrounding: Mapping[str, str], stop: lease.Stop, stages: str = OURS) -> RunRecord | None:
    """What is to be done now, done to its end; the record of the run, None when there was nothing to do.

    Raises HeldError when another run is training, BadRequestError for a recipe that is wrong.
    """
    settings = settings_of(surrounding)
    url = settings.redis_url.get_secret_value()
    recipe = recipe_of(settings)
    writes = partial(seen, settings)
    while not stop.is_set():
        asked = time.time()
        plan = decide(history.all_runs(home), recipe, writes, settings.train_min_new)
        _log.info("training_plan", action=plan.action.value, why=plan.why, run=plan.run)
        if plan.action is Action.NOTHING:
            return None
        id_ = plan.run or history.new_id(home, recipe)
        with lease.holding(home, id_, url, stop, patience_s=PATIENCE_S):
            if _overtaken(home, plan, asked):
                continue
            run = history.find(home, plan.run) if plan.run is not None else _made(home, recipe, stages, id_)
            with history.gone_unless_started(run):
                return Runner(run, stop, stages=stages, env=surrounding, mark=writes).go()
    return None


def _made(home: Path, recipe: Recipe, stages: str, id_: str) -> RunFolder:
    fresh = recipe if recipe.learn == "all" else _since(home, recipe)
    return history.new_run(home, fresh, stage_codes(stages), Cause.SCHEDULE, id_)[0]


def _since(home: Path, recipe: Recipe) -> Recipe:
    """The recipe, mining only what is new or changed since the last run that finished."""
    last = history.last_finished(history.all_runs(home), history.index_of(recipe))
    if last is None:
        return recipe
    mark = history.folder(home) / last.id / Stage.MINE.value / "watermark.jsonl"
    return msgspec.structs.replace(recipe, mine={**recipe.mine, "since": str(mark)}) if mark.exists() else recipe


def _overtaken(home: Path, plan: Plan, asked: float) -> bool:
    """Whether another process did, while we waited for the lease, what was to be done."""
    if plan.run is not None:
        return _unfinished(history.read(history.find(home, plan.run))) is None
    return any(r.started is not None and r.started >= asked for r in history.all_runs(home))


def _unfinished(record: RunRecord) -> str | None:
    """Why a run is to be continued; None when it is not. Nobody runs it: who asks holds the lease, or will."""
    stage = record.stage
    if stage is None or record.status in (Status.DONE, Status.STOPPED, Status.SKIPPED):
        return None
    tries = record.stages[stage].attempts[-TRIES:]
    if len(tries) == TRIES and all(attempt.status is Status.FAILED for attempt in tries):
        return None
    words = {Status.RUNNING: "died", Status.FAILED: "failed", Status.INTERRUPTED: "was interrupted"}
    return f"run {record.id} {words.get(record.status, 'has not begun')} at {stage.value}"
