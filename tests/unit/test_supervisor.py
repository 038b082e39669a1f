"""The supervisor with tiny real children: restarts, stops, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from whyrank.embedded import process, state, supervisor
from whyrank.embedded.parts import Part, PartError, running
from whyrank.embedded.process import Child, Launch, run_tool
from whyrank.embedded.state import AlreadyRunningError, PartState, Phase, State
from whyrank.embedded.supervisor import Supervisor

SLEEPER = "import time, pathlib, os; pathlib.Path({ready!r}).write_text(str(os.getpid())); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
PARENT = (
    "import subprocess, sys, time, pathlib;"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal, time; "
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)'], stdout=subprocess.PIPE);"
    "child.stdout.readline();"
    "pathlib.Path({ready!r}).write_text(str(child.pid)); time.sleep(600)"
)
PATIENCE_S = 30.0


def part(name: str, folder: Path, code: str = SLEEPER, after: tuple[str, ...] = ()) -> Part:
    """A part that is ready once its process has written a file; the file is gone when the process starts anew."""
    marker = folder / f"{name}.ready"

    def prepare(_progress: object) -> Launch:
        marker.unlink(missing_ok=True)
        return Launch([sys.executable, "-c", code.format(ready=str(marker))])

    return Part(name, 0, prepare, lambda: marker.exists() and marker.read_text() != "", after, stop_grace_s=1.0)


@asynccontextmanager
async def supervised(home: Path, *parts: Part) -> AsyncIterator[Supervisor]:
    stop = asyncio.Event()
    subject = Supervisor(home, parts, {})
    task = asyncio.create_task(subject.run(stop))
    try:
        yield subject
    finally:
        stop.set()
        await task


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


async def test_starts_all_parts_and_stops_them_with_itself(tmp_path: Path) -> None:
    async with supervised(tmp_path, part("one", tmp_path), part("two", tmp_path)) as subject:
        await until(lambda: subject.state.ready)
        pids = [p.pid for p in subject.state.parts.values()]
        told = state.last(tmp_path)
        assert told is not None
        assert [p.pid for p in told.parts.values()] == pids
        assert all(pid is not None and alive(pid) for pid in pids)
    assert not any(pid is not None and alive(pid) for pid in pids)
    told = state.last(tmp_path)
    assert told is not None
    assert {p.phase for p in told.parts.values()} == {Phase.STOPPED}


async def test_restarts_what_dies_and_leaves_the_others_alone(tmp_path: Path) -> None:
    async with supervised(tmp_path, part("mortal", tmp_path), part("other", tmp_path)) as subject:
        await until(lambda: subject.state.ready)
        mortal, other = subject.state.parts["mortal"], subject.state.parts["other"]
        first, others = mortal.pid, other.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: mortal.restarts == 1 and mortal.ready)
        assert mortal.pid not in {None, first}
        assert (other.pid, other.restarts) == (others, 0)


async def test_pauses_grow_while_a_part_fails_and_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    pauses: list[str] = []
    async with supervised(tmp_path, part("broken", tmp_path, "raise SystemExit('no flour {ready}')")) as subject:
        broken = subject.state.parts["broken"]

        def seen() -> int:
            if broken.phase is Phase.RESTARTING and broken.detail not in pauses:
                pauses.append(broken.detail)
            return len(pauses) >= 3

        await until(seen)
    assert all("ended with 1" in p and "no flour" in p for p in pauses)
    lengths = [float(p.rpartition("next try in ")[2].split()[0]) for p in pauses]
    assert lengths == sorted(lengths)


async def test_a_failed_preparation_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    good = part("late", tmp_path)
    tries: list[int] = []

    def prepare(progress: Callable[[str, float | None], None]) -> Launch:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("no network")
        return good.prepare(progress)

    async with supervised(tmp_path, Part("late", 0, prepare, good.ready)) as subject:
        await until(lambda: subject.state.parts["late"].detail.startswith("no network"))
        await until(lambda: subject.state.ready)
        assert subject.state.parts["late"].restarts == 2


async def test_waits_for_the_parts_that_one_needs(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = part("first", tmp_path)
    gated = Part("first", 0, first.prepare, lambda: first.ready() and gate.exists())
    async with supervised(tmp_path, gated, part("second", tmp_path, after=("first",))) as subject:
        await until(lambda: subject.state.parts["first"].phase is Phase.STARTING)
        await until(lambda: subject.state.parts["second"].detail == "for first")
        assert subject.state.parts["second"].phase is Phase.WAITING
        assert subject.state.parts["second"].pid is None
        gate.touch()
        await until(lambda: subject.state.ready)


async def test_a_part_that_stops_answering_is_unready_until_it_answers(tmp_path: Path) -> None:
    shy = part("shy", tmp_path)
    silent = tmp_path / "silent"
    subject_part = Part("shy", 0, shy.prepare, lambda: shy.ready() and not silent.exists())
    async with supervised(tmp_path, subject_part) as subject:
        await until(lambda: subject.state.ready)
        silent.touch()
        await until(lambda: subject.state.parts["shy"].phase is Phase.UNREADY)
        silent.unlink()
        await until(lambda: subject.state.ready)
        assert subject.state.parts["shy"].restarts == 0


async def test_stop_does_not_wait_for_a_preparation(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def prepare(_progress: object) -> Launch:
        begun.touch()
        time.sleep(5.0)
        raise AssertionError("nobody waits for this")

    async with supervised(tmp_path, Part("slow", 0, prepare, lambda: False)) as subject:
        await until(begun.exists)
    assert subject.state.parts["slow"].phase is Phase.STOPPED


async def test_grandchildren_that_ignore_sigterm_are_ended(tmp_path: Path) -> None:
    async with supervised(tmp_path, part("parent", tmp_path, PARENT)) as subject:
        await until(lambda: subject.state.ready)
        grandchild = int((tmp_path / "parent.ready").read_text())
        assert alive(grandchild)
    assert not alive(grandchild)


def test_a_killed_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys; sys.path.insert(0, '.');"
        "from tests.unit.test_supervisor import part, PARENT;"
        "from whyrank.embedded.supervisor import supervise; from whyrank.embedded import state;"
        "home = pathlib.Path(sys.argv[1]);"
        "held = state.holding(home); held.__enter__();"
        "asyncio.run(supervise(home, [part('plain', home), part('parent', home, PARENT)], {}))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as subject:
        try:
            wait_for(lambda: (told := state.running(tmp_path)) is not None and told.ready)
            told = state.running(tmp_path)
            assert told is not None
            family = [p.pid for p in told.parts.values() if p.pid is not None]
            family.append(int((tmp_path / "parent.ready").read_text()))
            assert all(map(alive, family))
        finally:
            subject.kill()
    wait_for(lambda: not any(map(alive, family)))
    assert state.running(tmp_path) is None


def test_sigterm_stops_everything_and_frees_the_home(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys; sys.path.insert(0, '.');"
        "from tests.unit.test_supervisor import part;"
        "from whyrank.embedded.supervisor import supervise; from whyrank.embedded import state;"
        "home = pathlib.Path(sys.argv[1]);"
        "held = state.holding(home); held.__enter__();"
        "asyncio.run(supervise(home, [part('plain', home)], {}))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as subject:
        wait_for(lambda: (told := state.running(tmp_path)) is not None and told.ready)
        told = state.running(tmp_path)
        assert told is not None
        state.stop_supervisor(tmp_path, told, patience_s=PATIENCE_S)
        assert not state.is_held(tmp_path)
        assert not any(p.pid is not None and alive(p.pid) for p in told.parts.values())
    assert subject.returncode == 0


def test_leftovers_of_a_run_whose_watchdog_died_too_are_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as leftover:
        born = psutil.Process(leftover.pid).create_time()
        stale = PartState("old", 1, "", pid=leftover.pid, born=born - 100.0)
        supervisor.end_leftovers(State(1, 0.0, "", {}, {"old": stale}))
        assert alive(leftover.pid), "another process that got the number must be left alone"
        stale.born = born
        supervisor.end_leftovers(State(1, 0.0, "", {}, {"old": stale}))
        assert not alive(leftover.pid)


def test_a_home_has_one_supervisor(tmp_path: Path) -> None:
    with state.holding(tmp_path):
        assert state.is_held(tmp_path)
        with pytest.raises(AlreadyRunningError, match="already up"), state.holding(tmp_path):
            pass
    assert not state.is_held(tmp_path)


def test_one_part_alone_is_stopped_at_the_end(tmp_path: Path) -> None:
    with running(part("single", tmp_path), tmp_path / "log") as child:
        assert alive(child.pid)
    assert not alive(child.pid)


def test_one_part_alone_that_ends_says_what_it_printed(tmp_path: Path) -> None:
    broken = part("single", tmp_path, "print('out of flour'); raise SystemExit(3) # {ready}")
    with pytest.raises(PartError, match="out of flour"), running(broken, tmp_path / "log"):
        pass


def test_the_watchdog_is_replaced_when_it_was_killed(tmp_path: Path) -> None:
    guard = process.Guard()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as child:
        guard.add(child.pid)
        first = guard._process
        assert first is not None
        first.kill()
        first.wait()
        guard.add(child.pid)
        second = guard._process
        assert second is not None
        assert second.stdin is not None
        assert first.stdin is not None
        second.stdin.close()  # as our end does when we die
        assert child.wait(timeout=PATIENCE_S) == -signal.SIGTERM
        second.wait()
        first.stdin.close()


def test_a_tool_that_fails_gives_its_last_lines() -> None:
    lines: list[str] = []
    command = [sys.executable, "-c", "print('one'); print('two'); raise SystemExit(4)"]
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run_tool(command, lines.append)
    assert failure.value.output == "one\ntwo"
    assert lines == ["one", "two"]


def test_logs_are_kept_and_do_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_LIMIT_BYTES", 3)
    log = tmp_path / "x.log"
    for word in ("first", "second"):
        child = Child(Launch([sys.executable, "-c", f"print({word!r})"]), log)
        wait_for(lambda child=child: child.exit_code() is not None)  # type: ignore[misc]
        child.stop()
    assert log.read_text() == "second\n"
    assert (tmp_path / "x.old.log").read_text() == "first\n"


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
