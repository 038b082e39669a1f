"""`whyrank train`: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from tests.unit.training.small_stages import NAME, STAGES, THROUGH, ledger
from training import cli, cli_models, console, history, lease, records, watching
from training.history import Cause, RunRecord, Status
from training.recipe import Recipe
from training.records import Group, GroupPassage, Role, Source, Split
from training.stages import Report, RunFolder, Stage
from whyrank import commands
from whyrank.cli import app

ROOT = Path(__file__).parents[3]
SMALL = ["--recipe", "small.toml", "--alone", "--stages", NAME]
PATIENCE_S = 180


@pytest.fixture(autouse=True)
def _by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing from outside, no Redis and no engine, a recipe of small stages."""
    for name in [name for name in os.environ if name.startswith("WHYRANK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WHYRANK_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("WHYRANK_ENGINE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for module in (cli, cli_models, watching):
        monkeypatch.setattr(module, "out", Console(highlight=False, width=200))
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text('name = "small"\nbase = "none"\n[mine]\nindex = "books"\n')
    yield
    if (left := lease.here(tmp_path / ".whyrank")) is not None:  # of a test that failed
        os.kill(left.pid, signal.SIGKILL)


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["train", *words])


def made(home: Path, status: Status = Status.WAITING) -> tuple[RunFolder, RunRecord]:
    recipe = Recipe(name="small", base="none", mine={"index": "books"})
    run, record = history.new_run(home / ".whyrank", recipe, tuple(STAGES), Cause.COMMAND)
    record.status = status
    history.write(run, record)
    return run, record


def group(number: int) -> Group:
    passages = (GroupPassage("a", "Rain falls.", Role.POSITIVE), GroupPassage("b", "Snow lies.", Role.HARD, 1.5))
    return Group(f"g{number}", f"query {number}", Source.HEADING, "page", "site", Split.TRAIN, passages)


def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_a_run_from_its_start_to_its_log(tmp_path: Path) -> None:
    told = call("run", *SMALL)
    assert told.exit_code == 0, told.output
    for stage in STAGES:
        assert f"{stage.value}: running\n{stage.value}: done" in told.stdout
    [record] = json.loads(call("history", "--json").stdout)
    assert (record["status"], record["recipe"]["mine"], record["cause"]) == ("done", {"index": "books"}, "command")
    assert record["id"] in call("history").stdout
    assert "promote says hello" in call("log", record["id"]).stdout
    assert "mine says hello" in call("log", record["id"][:10], "--stage", "mine").stdout
    assert len(call("log", record["id"], "--lines", "1").stdout.splitlines()) == 1
    told = call("status", "--json")
    assert told.exit_code == 0
    assert json.loads(told.stdout)["training"] is False
    assert json.loads(told.stdout)["run"] == record


def test_a_failed_run_is_resumed_with_another_value(tmp_path: Path) -> None:
    told = call("run", *SMALL, "--set", "synthesize.fails=no teacher answers", "--json")
    assert told.exit_code == 1
    record = json.loads(told.stdout)
    assert record["error"] == "synthesize: no teacher answers"
    told = call("status")
    assert told.exit_code == 1
    assert "no teacher answers" in told.stdout
    assert f"whyrank train run --resume {record['id']}" in told.stdout
    told = call("run", "--resume", record["id"], "--alone", "--stages", NAME, "--set", "synthesize.fails=")
    assert told.exit_code == 0, told.output
    run = history.find(tmp_path / ".whyrank", record["id"])
    assert ledger(run) == [*THROUGH[:3], *THROUGH[2:]]
    told = call("run", "--resume", record["id"], "--alone", "--stages", NAME, "--from-stage", "promote")
    assert told.exit_code == 0
    assert ledger(run)[-2:] == THROUGH[4:]


def test_a_run_in_the_background_is_seen_and_stopped(tmp_path: Path) -> None:
    never = tmp_path / "never"
    told = call("run", *SMALL, "--detach", "--set", f'synthesize.waits_for="{never}"')
    assert told.exit_code == 0, told.output
    [record] = history.all_runs(tmp_path / ".whyrank")
    assert f"run {record.id} has begun" in told.stdout
    run = history.find(tmp_path / ".whyrank", record.id)
    until(lambda: "synthesize begins" in ledger(run))
    until(lambda: history.told(run) is not None and history.told(run).share is not None)  # type: ignore[union-attr]
    seen = json.loads(call("status", "--json").stdout)
    assert seen["training"] is True
    assert (seen["progress"]["stage"], seen["progress"]["what"]) == ("synthesize", "half")
    assert call("status").exit_code == 0
    second = call("run", *SMALL)
    assert second.exit_code == 1
    assert f"run {record.id} is training on" in second.stderr
    assert len(history.all_runs(tmp_path / ".whyrank")) == 1
    told = call("stop")
    assert told.exit_code == 0, told.output
    assert history.read(run).status is Status.STOPPED
    assert call("status").exit_code == 0
    told = call("stop")
    assert told.exit_code == 1
    assert "nothing is training" in told.stderr


def test_a_run_that_cannot_begin_in_the_background_says_why() -> None:
    told = call("run", "--recipe", "small.toml", "--stages", NAME, "--detach")
    assert told.exit_code == 1
    assert "Redis cannot be reached" in told.stderr
    assert "nothing has been trained here yet" in call("history").stdout


def test_one_stage_of_a_run(tmp_path: Path) -> None:
    told = call("stage", "mine", *SMALL, "--json")
    assert told.exit_code == 0, told.output
    id_ = json.loads(told.stdout)["id"]
    run = history.find(tmp_path / ".whyrank", id_)
    assert ledger(run) == THROUGH[:2]
    told = call("stage", "promote", "--run", id_, "--alone", "--stages", NAME)
    assert told.exit_code == 1
    assert "synthesize is not done" in told.stderr
    told = call("stage", "mine", "--run", id_, "--alone", "--stages", NAME, "--again")
    assert told.exit_code == 0
    assert ledger(run) == THROUGH[:2] * 2


def test_an_estimate_asks_nobody_and_changes_nothing(tmp_path: Path) -> None:
    run, record = made(tmp_path)
    groups = [group(number) for number in range(3)]
    records.write(run.folder(Stage.MINE) / "groups.jsonl", groups)
    told = call("stage", "synthesize", "--run", record.id, "--dry-run")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["pairs"] == sum(len(each.passages) for each in groups)
    assert history.read(run) == record
    assert call("stage", "mine", "--run", record.id, "--dry-run").exit_code == 2
    assert call("stage", "synthesize", "--dry-run").exit_code == 2


def test_status_knows_a_run_that_died(tmp_path: Path) -> None:
    _, record = made(tmp_path, Status.RUNNING)
    told = call("status")
    assert told.exit_code == 1
    assert f"died; whyrank train run --resume {record.id} goes on" in told.stdout
    assert "died" in call("history").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", *SMALL, "--set", "distil.epochs=1"], "is not of the form"),
        (["run", *SMALL, "--set", "mine.valeu=1"], "valeu"),
        (["run", "--recipe", "nowhere"], "cannot read"),
        (["run", "--from-stage", "mine"], "--resume RUN"),
        (["run", "--resume", "nowhere"], "there is no run 'nowhere'"),
        (["log", "nowhere"], "there is no run 'nowhere'"),
        (["stage", "nothing"], "nothing"),
    ],
)
def test_a_wrong_command_line(words: list[str], says: str) -> None:
    told = call(*words)
    assert told.exit_code == 2
    assert says in told.stderr.replace("\n", " ").replace("│ ", "")
    assert "nothing has been trained here yet" in call("status").stdout


def test_the_beginning_of_an_id_must_be_no_others(tmp_path: Path) -> None:
    for _ in range(2):
        made(tmp_path)
    told = call("log", "2")
    assert told.exit_code == 2
    assert "'2' is the beginning of 2 runs" in told.stderr


def test_the_schedule_tells_when_and_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_TRAIN_RECIPE", "demo")
    told = call("schedule")
    assert told.exit_code == 0, told.output
    assert "WHYRANK_TRAIN_SCHEDULE is not set" in told.stdout
    monkeypatch.setenv("WHYRANK_TRAIN_SCHEDULE", "30 2 * * *")
    told = call("schedule", "--json")
    seen = json.loads(told.stdout)
    assert len(seen["next"]) == 3
    assert all("T02:30:00" in at for at in seen["next"])
    assert seen["plan"]["action"] == "start"
    assert "whyrank-train-demo" in call("schedule").stdout
    monkeypatch.setenv("WHYRANK_TRAIN_SCHEDULE", "at night")
    assert call("schedule").exit_code == 2


def test_the_gates_decision_in_words() -> None:
    checks = [{"passed": True, "words": "it reads well"}, {"passed": False, "words": "it ranks worse"}]
    figures = {"words": "v2 is not promoted", "action": "refused", "checks": checks}
    told = Console(width=100, record=True, file=io.StringIO())
    told.print(console.decision(Report(Stage.PROMOTE, {}, {}, figures, 1.0)))
    text = told.export_text()
    assert "v2 is not promoted" in text
    assert "yes  it reads well" in text
    assert "no   it ranks worse" in text


def test_the_models_of_a_new_home_are_those_that_come_with_the_program() -> None:
    told = call("models", "list", "--json")
    assert told.exit_code == 0, told.output
    seen = json.loads(told.stdout)
    assert seen["current"] in [version["name"] for version in seen["versions"]]
    assert call("models", "list").exit_code == 0
    name = seen["current"]
    assert call("models", "compare", name, name).exit_code == 0
    told = call("models", "compare", name, "nowhere")
    assert told.exit_code == 1
    assert "there is no model version 'nowhere'" in told.stderr
    told = call("models", "rollback")
    assert told.exit_code == 1
    assert "no version before" in told.stderr
    assert "no version runs in shadow" in call("models", "shadow").stdout
    assert call("models", "shadow", name, "--off").exit_code == 2
    assert call("models", "history", "--json").stdout.strip() == "[]"


def test_a_command_that_cannot_be_imported_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"train": "training.nowhere:app", "other": "training.cli:nothing"}
    monkeypatch.setattr(commands.Commands, "elsewhere", lambda _: broken)
    for words in (["train"], ["train", "--help"], ["train", "run", "--recipe", "x"], ["other"]):
        told = CliRunner().invoke(app, words)
        assert told.exit_code == 1, told.output
        assert "cannot be loaded" in told.stderr
    told = CliRunner().invoke(app, ["--help"])
    assert told.exit_code == 0
    assert "cannot be loaded" in told.stdout
    assert CliRunner().invoke(app, ["status"]).exit_code == 1
    assert CliRunner().invoke(app, ["nothing"]).exit_code == 2


def test_the_kernels_commands_import_no_program() -> None:
    code = (
        "import sys; from whyrank.cli import main; sys.argv = ['whyrank', 'status', '--json']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "programs = ('training', 'plugin_service', 'ingest')\n"
        "sys.exit(', '.join(name for name in sys.modules if name.split('.')[0] in programs) or 0)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["up"] is False


def test_a_stop_reaches_a_holder_elsewhere_by_redis_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = lease.Holder("r", "elsewhere", 1, 0.0, "home", "nonce")
    holders = [other, other, None]
    monkeypatch.setattr(lease, "current", lambda *_: holders.pop(0))
    asked: list[lease.Holder] = []
    monkeypatch.setattr(lease, "request_stop", lambda _url, holder: asked.append(holder))
    assert watching.stop(tmp_path) == other
    assert asked == [other]
