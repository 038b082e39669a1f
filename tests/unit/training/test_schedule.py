"""What a scheduled start decides, and when it comes."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tests.unit.training import small_stages
from training import history
from training.history import Attempt, Cause, RunRecord, Status
from training.recipe import Recipe
from training.schedule.app import create_app, parse
from training.schedule.forecast import next_times
from training.schedule.plan import TRIES, Action, decide, recipe_of
from training.stages import Stage
from whyrank.errors import BadRequestError
from whyrank.settings import Settings

RECIPE = Recipe(name="small", base="none", mine={"index": "books"})


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WHYRANK_")]:
        monkeypatch.delenv(name)


def made(home: Path, status: Status, cause: Cause = Cause.SCHEDULE, recipe: Recipe = RECIPE) -> RunRecord:
    _, record = history.new_run(home, recipe, tuple(small_stages.STAGES), cause)
    record.status = status
    if status is Status.DONE:
        for told in record.stages.values():
            told.status = Status.DONE
        record.watermark_after = {"u": 1000}
    return record


def plan(records: list[RunRecord], now: dict[str, int] | None, min_new: int = 10) -> tuple[Action, str]:
    found = decide(records, RECIPE, lambda _: now, min_new)
    return found.action, found.why


def test_the_first_start_runs(tmp_path: Path) -> None:
    assert plan([], {"u": 0})[0] is Action.START
    assert (
        plan([made(tmp_path, Status.DONE, recipe=Recipe(name="small", base="none", mine={"index": "films"}))], {})[0]
        is Action.START
    )


@pytest.mark.parametrize(
    ("now", "action", "new"),
    [
        ({"u": 1000}, Action.NOTHING, 0),
        ({"u": 1009}, Action.NOTHING, 9),
        ({"u": 1010}, Action.START, 10),
        ({"rebuilt": 500}, Action.START, 500),
        ({"u": 1002, "added": 8}, Action.START, 10),
    ],
)
def test_what_was_written_since_the_last_run_decides(
    tmp_path: Path, now: dict[str, int], action: Action, new: int
) -> None:
    last = made(tmp_path, Status.DONE, Cause.COMMAND)
    found, why = plan([last], now)
    assert found is action
    assert why.startswith(f"{new} documents were written since run {last.id} mined books")


def test_an_engine_that_does_not_tell_starts_nothing(tmp_path: Path) -> None:
    assert plan([made(tmp_path, Status.DONE)], None)[0] is Action.NOTHING


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.RUNNING, "died at mine"),
        (Status.INTERRUPTED, "was interrupted at mine"),
        (Status.FAILED, "failed at mine"),
        (Status.WAITING, "has not begun at mine"),
    ],
)
def test_a_run_that_did_not_end_is_continued_first(tmp_path: Path, status: Status, words: str) -> None:
    died = made(tmp_path, status)
    found = decide([died, made(tmp_path, Status.DONE)], RECIPE, lambda _: {"u": 5000}, 10)
    assert (found.action, found.run) == (Action.CONTINUE, died.id)
    assert found.why == f"run {died.id} {words}"


def test_a_persons_run_and_a_stopped_one_are_left_alone(tmp_path: Path) -> None:
    done = made(tmp_path, Status.DONE)
    assert plan([made(tmp_path, Status.RUNNING, Cause.COMMAND), done], {"u": 1000})[0] is Action.NOTHING
    assert plan([made(tmp_path, Status.STOPPED), done], {"u": 1000})[0] is Action.NOTHING


def test_a_stage_that_fails_again_and_again_is_not_tried_for_ever(tmp_path: Path) -> None:
    failed = made(tmp_path, Status.FAILED)
    failed.stages[Stage.MINE].attempts = [Attempt(1.0, 2.0, Status.FAILED, "no")] * (TRIES - 1)
    assert plan([failed], {"u": 1})[0] is Action.CONTINUE
    failed.stages[Stage.MINE].attempts = [Attempt(1.0, 2.0, Status.FAILED, "no")] * TRIES
    assert plan([failed], {"u": 1})[0] is Action.START
    # What was interrupted, and not by its own fault, is
    failed.stages[Stage.MINE].attempts = [Attempt(1.0, 2.0, Status.INTERRUPTED)] * (TRIES + 1)
    assert plan([failed], {"u": 1})[0] is Action.CONTINUE


def test_the_index_of_the_settings_goes_before_the_recipes() -> None:
    assert recipe_of(Settings(train_recipe="demo")).mine["index"] == "whyrank-train-demo"
    assert recipe_of(Settings(train_recipe="demo", train_index="books")).mine["index"] == "books"
    with pytest.raises(BadRequestError, match="recipe"):
        recipe_of(Settings(train_recipe="nowhere"))


def test_the_next_times_are_those_of_the_crontab_in_utc() -> None:
    after = datetime(2026, 11, 23, 16, 25, tzinfo=UTC)
    days = [(2026, 11, 25), (2026, 11, 30), (2026, 12, 2)]
    assert next_times(parse("30 2 * * 1,3"), after) == tuple(datetime(*day, 2, 30, tzinfo=UTC) for day in days)


@pytest.mark.parametrize("wrong", ["", "daily", "30 2 * *", "61 2 * * *", "30 2 * * * *"])
def test_a_schedule_that_is_no_crontab(wrong: str) -> None:
    with pytest.raises(BadRequestError, match="train_schedule"):
        parse(wrong)


def test_beat_has_the_schedule_of_the_settings_or_none() -> None:
    assert not create_app(Settings()).conf.beat_schedule
    schedule = create_app(Settings(train_schedule="30 2 * * *")).conf.beat_schedule
    assert [entry["schedule"] for entry in schedule.values()] == [parse("30 2 * * *")]


def test_a_plan_can_be_printed_as_json() -> None:
    found = decide([], RECIPE, lambda _: {}, 1)
    assert msgspec.json.decode(msgspec.json.encode(found))["action"] == "start"
