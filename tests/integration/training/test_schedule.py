"""Training on a schedule: real workers, a real beat, a real Valkey, a real engine, and small stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest
from redis import Redis

from tests.unit.training.small_stages import NAME, THROUGH, ledger
from training import history, lease
from training.history import RunRecord, Status
from training.schedule.app import QUEUE, TASK, UNACKED_INDEX, create_app
from training.stages import RunFolder, Stage
from whyrank.settings import Settings

DB = 12
PATIENCE_S = 240
ROOT = Path(__file__).parents[3]


class Fleet:
    """A home, a database, and the programs that a test starts in them."""

    def __init__(self, folder: Path, redis_url: str, engine_url: str) -> None:
        self.folder, self.home = folder, folder / "home"
        self.lets_go = folder / "go"
        self.index = f"whyrank-schedule-{uuid4().hex[:8]}"
        self.engine_url = engine_url
        recipe = folder / "small.toml"
        recipe.write_text(
            f'name = "small"\nbase = "none"\n[mine]\nindex = "{self.index}"\n'
            f'[synthesize]\nwaits_for = "{self.lets_go}"\nchild = true\n'
        )
        self.values: dict[str, object] = {
            "home": self.home,
            "redis_url": redis_url,
            "engine_url": engine_url,
            "train_recipe": str(recipe),
            "train_min_new": 3,
            "redelivery_s": 600,
        }
        self.redis = Redis.from_url(redis_url)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.app = create_app(Settings(**self.values))  # type: ignore[arg-type]

    def start(self, *words: str, **values: object) -> subprocess.Popen[bytes]:
        settings = {f"WHYRANK_{name.upper()}": str(value) for name, value in {**self.values, **values}.items()}
        log = self.folder / f"log-{len(self.processes)}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "training.schedule", *words],
                env={**os.environ, **settings},
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )
        self.processes.append(process)
        return process

    def worker(self, **values: object) -> subprocess.Popen[bytes]:
        process = self.start("worker", "--home", str(self.home), "--stages", NAME, **values)
        log = self.log()
        self.until(lambda: "training_worker_ready" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        return process

    def once(self) -> int:
        return self.start("once", "--home", str(self.home), "--stages", NAME).wait(PATIENCE_S)

    def log(self) -> Path:
        return self.folder / f"log-{len(self.processes) - 1}"

    def ring(self) -> None:
        """What beat does when it is time."""
        self.app.send_task(TASK)

    def records(self) -> list[RunRecord]:
        return history.all_runs(self.home)

    def run(self) -> RunFolder:
        [record] = self.records()
        return history.find(self.home, record.id)

    def lines(self) -> list[str]:
        return ledger(self.run()) if self.records() else []

    def status(self) -> Status | None:
        return self.records()[0].status if self.records() else None

    def write(self, count: int) -> None:
        for _ in range(count):
            httpx.post(f"{self.engine_url}/{self.index}/_doc", json={"title": "x"}).raise_for_status()

    @staticmethod
    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "not in time"
            time.sleep(0.05)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.until(lambda: lease.here(self.home) is None)
        keys = [*self.redis.scan_iter("*whyrank.training*"), lease.LEASE, lease.STOP]
        self.redis.delete(*keys)
        self.redis.close()
        httpx.delete(f"{self.engine_url}/{self.index}")


@pytest.fixture
def fleet(tmp_path: Path, redis_url: str, opensearch_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    for name in [name for name in os.environ if name.startswith("WHYRANK_")]:
        monkeypatch.delenv(name)
    fleet = Fleet(tmp_path, f"{redis_url}/{DB}", opensearch_url)
    yield fleet
    fleet.close()


def test_a_message_becomes_a_run_and_is_acknowledged(fleet: Fleet) -> None:
    fleet.lets_go.touch()
    fleet.write(1)
    fleet.worker()
    fleet.ring()
    fleet.until(lambda: fleet.status() is Status.DONE)
    assert fleet.lines() == THROUGH
    [record] = fleet.records()
    assert record.cause is history.Cause.SCHEDULE
    assert list((record.watermark_after or {}).values()) == [1]
    fleet.until(lambda: not fleet.redis.exists(UNACKED_INDEX) and not fleet.redis.llen(QUEUE))
    assert lease.current(fleet.home, str(fleet.values["redis_url"])) is None


def test_a_killed_workers_run_goes_on_in_another_where_it_died(fleet: Fleet) -> None:
    doomed = fleet.worker(redelivery_s=4)
    fleet.ring()
    fleet.until(lambda: "synthesize begins" in fleet.lines() and (fleet.run().path / "child").exists())
    doomed.kill()
    doomed.wait()
    child = int((fleet.run().path / "child").read_text())
    fleet.until(lambda: not psutil.pid_exists(child))
    fleet.lets_go.touch()
    fleet.worker(redelivery_s=4)
    fleet.until(lambda: fleet.status() is Status.DONE)
    assert fleet.lines() == [*THROUGH[:3], *THROUGH[2:]]
    record = fleet.records()[0]
    assert [attempt.status for attempt in record.stages[Stage.MINE].attempts] == [Status.DONE]
    assert [attempt.status for attempt in record.stages[Stage.SYNTHESIZE].attempts] == [
        Status.INTERRUPTED,
        Status.DONE,
    ]


def test_a_stopped_worker_gives_its_run_back_at_once(fleet: Fleet) -> None:
    leaving = fleet.worker()
    fleet.ring()
    fleet.until(lambda: "synthesize begins" in fleet.lines())
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait(PATIENCE_S) == 0
    assert fleet.status() is Status.INTERRUPTED
    # Were it not given back, it would be redelivered after ten minutes.
    assert fleet.redis.llen(QUEUE) == 1
    assert not fleet.redis.exists(UNACKED_INDEX)
    fleet.lets_go.touch()
    fleet.worker()
    fleet.until(lambda: fleet.status() is Status.DONE)
    assert fleet.lines() == [*THROUGH[:3], *THROUGH[2:]]


def test_a_long_run_is_not_delivered_again_while_its_worker_lives(fleet: Fleet) -> None:
    for _ in range(2):
        fleet.worker(redelivery_s=2)
    fleet.ring()
    fleet.until(lambda: "synthesize begins" in fleet.lines())
    [before] = fleet.redis.zrange(UNACKED_INDEX, 0, -1, withscores=True)
    time.sleep(6)
    [after] = fleet.redis.zrange(UNACKED_INDEX, 0, -1, withscores=True)
    assert after[0] == before[0]
    assert after[1] > before[1]
    assert fleet.redis.llen(QUEUE) == 0
    fleet.lets_go.touch()
    fleet.until(lambda: fleet.status() is Status.DONE)
    assert fleet.lines() == THROUGH


def test_two_messages_to_two_workers_make_one_run(fleet: Fleet) -> None:
    fleet.write(1)
    for _ in range(2):
        fleet.worker()
    for _ in range(2):
        fleet.ring()
    fleet.until(lambda: any("synthesize begins" in ledger(_folder(fleet, r)) for r in fleet.records()))
    fleet.until(lambda: fleet.redis.zcard(UNACKED_INDEX) == 2)
    fleet.lets_go.touch()
    fleet.until(lambda: not fleet.redis.exists(UNACKED_INDEX))
    assert fleet.status() is Status.DONE
    assert fleet.lines() == THROUGH


def test_a_start_does_something_only_when_enough_is_new(fleet: Fleet) -> None:
    fleet.lets_go.touch()
    fleet.write(5)
    assert fleet.once() == 0
    fleet.write(2)
    assert fleet.once() == 0
    assert len(fleet.records()) == 1
    [plan] = [line for line in _json(fleet.log()) if line["event"] == "training_plan"]
    assert (plan["action"], plan["why"].split()[0]) == ("nothing", "2")
    fleet.write(1)
    assert fleet.once() == 0
    newest, oldest = fleet.records()
    assert newest.status is Status.DONE
    assert newest.watermark_before == oldest.watermark_after


def test_a_start_while_another_home_trains_gives_up(fleet: Fleet, tmp_path: Path) -> None:
    with lease.holding(tmp_path / "other", "theirs", str(fleet.values["redis_url"]), lease.Stop()):
        assert fleet.once() == os.EX_TEMPFAIL
    assert fleet.records() == []
    assert "run theirs is training on" in fleet.log().read_text()


def test_beat_rings_by_the_crontab(fleet: Fleet) -> None:
    beat = fleet.start("beat", "--home", str(fleet.home), train_schedule="* * * * *")
    fleet.until(lambda: fleet.redis.llen(QUEUE) >= 1)
    message = json.loads(fleet.redis.lindex(QUEUE, 0))  # type: ignore[arg-type]
    assert message["headers"]["task"] == TASK
    beat.send_signal(signal.SIGTERM)
    assert beat.wait(PATIENCE_S) == 0
    assert list((fleet.home / "training" / "beat").iterdir())


def test_beat_without_a_schedule_says_what_to_set(fleet: Fleet) -> None:
    assert fleet.start("beat", "--home", str(fleet.home)).wait(PATIENCE_S) == 2
    assert "WHYRANK_TRAIN_SCHEDULE=" in fleet.log().read_text()


def _folder(fleet: Fleet, record: RunRecord) -> RunFolder:
    return RunFolder(history.folder(fleet.home) / record.id)


def _json(log: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
