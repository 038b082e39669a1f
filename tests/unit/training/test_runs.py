"""A run through its stages: in order, each once, going on where it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.unit.training import small_stages
from tests.unit.training.small_stages import NAME, THROUGH, ledger
from training import history, lease
from training.history import Cause, RunError, Status
from training.recipe import Recipe
from training.runner import Runner
from training.runs import Change, carry_out
from training.stages import RunFolder, Stage
from whyrank.errors import BadRequestError

PATIENCE_S = 180
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WHYRANK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(ROOT)


def made(home: Path, **sections: dict[str, Any]) -> RunFolder:
    recipe = Recipe(name="small", base="none", **sections)  # type: ignore[arg-type]
    run, _ = history.new_run(home, recipe, tuple(small_stages.STAGES), Cause.COMMAND)
    return run


def go(run: RunFolder, stop: lease.Stop | None = None) -> history.RunRecord:
    return Runner(run, stop or lease.Stop(), stages=NAME).go()


def again(run: RunFolder, *values: str, first: Stage | None = None) -> history.RunRecord:
    return carry_out(run, lease.Stop(), {}, alone=True, stages=NAME, change=Change(values, first))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_stages_run_in_order_and_leave_reports_and_logs(tmp_path: Path) -> None:
    run = made(tmp_path)
    seen: list[Status] = []
    record = Runner(run, lease.Stop(), stages=NAME, changed=lambda r: seen.append(r.status), mark=lambda i: {i: 7}).go()
    assert record.status is Status.DONE
    assert ledger(run) == THROUGH
    assert all(told.status is Status.DONE and len(told.attempts) == 1 for told in record.stages.values())
    assert record.stages[Stage.MINE].seconds > 0
    assert record.watermark_after is None, "this recipe names no index"
    log = history.log_path(run, Stage.PROMOTE).read_text()
    assert "promote says hello" in log
    assert '"event":"stage_done"' in log
    assert f'"run":"{record.id}"' in log
    assert history.read(run) == record
    assert (seen[0], seen[-1]) == (Status.RUNNING, Status.DONE)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    run = made(tmp_path)
    go(run)
    assert go(run).status is Status.DONE
    assert ledger(run) == THROUGH


def test_a_changed_config_runs_its_stage_and_all_after_it_again(tmp_path: Path) -> None:
    run = made(tmp_path)
    go(run)
    assert again(run, "synthesize.value=3").status is Status.DONE
    assert ledger(run) == THROUGH + THROUGH[2:]
    report = run.report(Stage.SYNTHESIZE)
    assert report is not None
    assert report.figures["value"] == 3
    assert history.read(run).recipe.synthesize == {"value": 3}
    # What was paid for stays, whatever else was made is put aside
    assert (run.folder(Stage.SYNTHESIZE) / "begun").read_text() == "xx"
    assert (run.folder(Stage.PROMOTE) / "begun").read_text() == "x"
    assert (run.path / "replaced" / "promote-1" / "report.json").exists()


def test_stages_can_be_run_again_from_one_on(tmp_path: Path) -> None:
    run = made(tmp_path)
    go(run)
    again(run, first=Stage.PROMOTE)
    assert ledger(run) == THROUGH + THROUGH[4:]


def test_a_failed_stage_says_why_and_goes_on_when_its_cause_is_gone(tmp_path: Path) -> None:
    run = made(tmp_path, synthesize={"fails": "the teacher cannot be reached"})
    record = go(run)
    assert record.status is Status.FAILED
    assert record.error == "synthesize: the teacher cannot be reached"
    assert record.stage is Stage.SYNTHESIZE
    assert record.stages[Stage.PROMOTE].status is Status.WAITING
    assert again(run, "synthesize.fails=").status is Status.DONE
    assert ledger(run).count("mine begins") == 1


def test_what_nobody_foresaw_is_in_the_log_with_its_traceback(tmp_path: Path) -> None:
    run = made(tmp_path, mine={"breaks": True})
    record = go(run)
    assert record.error is not None
    assert record.error.startswith("mine: LookupError: this was not foreseen")
    assert "Traceback" in history.log_path(run, Stage.MINE).read_text()


def test_a_stage_that_is_killed_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    lets_go = tmp_path / "go"
    run = made(tmp_path, promote={"waits_for": str(lets_go)})
    killer = threading.Thread(target=_kill_stage, args=(run,))
    killer.start()
    record = go(run)
    killer.join()
    assert record.status is Status.FAILED
    assert record.error is not None
    assert "SIGKILL: the machine was out of memory" in record.error
    lets_go.touch()
    record = go(run)
    assert record.status is Status.DONE
    assert [attempt.status for attempt in record.stages[Stage.PROMOTE].attempts] == [Status.FAILED, Status.DONE]
    assert (run.folder(Stage.PROMOTE) / "begun").read_text() == "xx"
    assert ledger(run) == [*THROUGH[:5], *THROUGH[4:]]


def _kill_stage(run: RunFolder) -> None:
    until(lambda: "promote begins" in ledger(run))
    for process in psutil.process_iter(["cmdline"]):
        if str(run.path) in (process.info["cmdline"] or []) and "stage" in process.info["cmdline"]:
            process.kill()


def test_a_runner_that_is_killed_takes_its_stage_with_it_and_the_run_goes_on(tmp_path: Path) -> None:
    lets_go = tmp_path / "go"
    run = made(tmp_path, synthesize={"waits_for": str(lets_go), "child": True})
    command = [sys.executable, "-m", "training.runs", "run", str(run.path), "--alone", "--stages", NAME]
    with (tmp_path / "log").open("wb") as log:
        runner = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    until(lambda: (run.path / "child").exists() and (run.path / "child").read_text())
    holder = lease.current(tmp_path, None)
    assert holder is not None
    assert (holder.run, holder.pid) == (run.path.name, runner.pid)
    with pytest.raises(lease.HeldError, match=rf"run {run.path.name} is training on .* since "):
        again(run)
    runner.kill()
    runner.wait()
    until(lambda: gone(int((run.path / "child").read_text())))
    assert lease.current(tmp_path, None) is None
    record = history.read(run)
    assert (record.status, record.stage) == (Status.RUNNING, Stage.SYNTHESIZE)
    lets_go.touch()
    record = again(run)
    assert record.status is Status.DONE
    assert [a.status for a in record.stages[Stage.SYNTHESIZE].attempts] == [Status.INTERRUPTED, Status.DONE]
    assert ledger(run) == [*THROUGH[:3], *THROUGH[2:]]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, Status.STOPPED), (signal.SIGTERM, Status.INTERRUPTED)])
def test_a_stopped_run_leaves_no_process_behind(tmp_path: Path, number: signal.Signals, status: Status) -> None:
    run = made(tmp_path, mine={"waits_for": str(tmp_path / "never"), "child": True})
    command = [sys.executable, "-m", "training.runs", "run", str(run.path), "--alone", "--stages", NAME]
    runner = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    until(lambda: (run.path / "child").exists() and (run.path / "child").read_text())
    runner.send_signal(number)
    runner.communicate(timeout=PATIENCE_S)
    assert runner.returncode == 1
    assert gone(int((run.path / "child").read_text()))
    record = history.read(run)
    assert record.status is status
    assert record.stages[Stage.MINE].attempts[0].status is status


def test_a_stage_that_was_through_when_its_runner_died_is_not_run_again(tmp_path: Path) -> None:
    run = made(tmp_path)
    record = go(run)
    # As the record stood when the runner was killed between the stage's report and its own note of it
    record.status = record.stages[Stage.PROMOTE].status = Status.RUNNING
    record.stages[Stage.PROMOTE].attempts[0].status = Status.RUNNING
    history.write(run, record)
    assert go(run).status is Status.DONE
    assert ledger(run) == THROUGH


def test_a_damaged_file_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    run = made(tmp_path)
    go(run)
    (run.folder(Stage.SYNTHESIZE) / "out").write_text("something else")
    record = again(run, "promote.value=1")
    assert record.status is Status.FAILED
    assert record.error is not None
    assert f"--resume {record.id} --from-stage synthesize" in record.error
    assert ledger(run) == THROUGH
    assert again(run, first=Stage.SYNTHESIZE).status is Status.DONE
    assert ledger(run) == THROUGH + THROUGH[2:]


def test_a_stage_that_the_recipe_leaves_out_is_not_run_and_not_found(tmp_path: Path) -> None:
    run = made(tmp_path)
    go(run)
    record = again(run, 'skip=["synthesize"]')
    assert record.status is Status.DONE
    assert record.stages[Stage.SYNTHESIZE].status is Status.SKIPPED
    assert run.report(Stage.SYNTHESIZE) is None
    assert ledger(run) == THROUGH + THROUGH[4:]
    assert again(run, "skip=[]").status is Status.DONE
    assert ledger(run) == THROUGH + THROUGH[4:] + THROUGH[2:]


def test_a_wrong_key_is_known_before_anything_has_run(tmp_path: Path) -> None:
    run = made(tmp_path, promote={"valeu": 1})
    with pytest.raises(BadRequestError, match=r"promote: .*valeu"):
        go(run)
    assert ledger(run) == []


def test_a_change_that_is_wrong_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    run = made(tmp_path)
    go(run)
    before = history.read(run)
    with pytest.raises(BadRequestError, match="promote"):
        again(run, "promote.valeu=1")
    assert history.read(run) == before


def test_one_stage_alone(tmp_path: Path) -> None:
    run = made(tmp_path)
    with pytest.raises(RunError, match="mine is not done"):
        Runner(run, lease.Stop(), stages=NAME).go_one(Stage.SYNTHESIZE)
    record = Runner(run, lease.Stop(), stages=NAME).go_one(Stage.MINE)
    assert (record.status, record.stage) == (Status.WAITING, Stage.SYNTHESIZE)
    assert ledger(run) == THROUGH[:2]
    Runner(run, lease.Stop(), stages=NAME).go_one(Stage.MINE)
    assert ledger(run) == THROUGH[:2]
    Runner(run, lease.Stop(), stages=NAME).go_one(Stage.MINE, again=True)
    assert ledger(run) == THROUGH[:2] * 2
    assert go(run).status is Status.DONE


def test_a_run_remembers_what_the_last_finished_one_had_seen(tmp_path: Path) -> None:
    first = made(tmp_path, mine={"index": "books"})
    Runner(first, lease.Stop(), stages=NAME, mark=lambda _: {"uuid": 7}).go()
    assert history.read(first).watermark_after == {"uuid": 7}
    assert history.read(made(tmp_path, mine={"index": "books"})).watermark_before == {"uuid": 7}
    assert history.read(made(tmp_path, mine={"index": "films"})).watermark_before is None


def test_what_was_paid_for_is_at_hand_in_the_next_run_on_the_index(tmp_path: Path) -> None:
    go(made(tmp_path, mine={"index": "books"}))
    next_one, other = made(tmp_path, mine={"index": "books"}), made(tmp_path, mine={"index": "films"})
    go(next_one)
    go(other)
    assert (next_one.folder(Stage.SYNTHESIZE) / "begun").read_text() == "xx"
    assert (next_one.folder(Stage.MINE) / "begun").read_text() == "x"
    assert (other.folder(Stage.SYNTHESIZE) / "begun").read_text() == "x"


def test_a_stage_with_a_report_of_another_version_is_an_error(tmp_path: Path) -> None:
    run = made(tmp_path)
    go(run)
    (run.folder(Stage.MINE) / "report.json").write_text("{}")
    record = go(run)
    assert record.status is Status.FAILED
    assert record.error is not None
    assert "delete it to run the stage again" in record.error
