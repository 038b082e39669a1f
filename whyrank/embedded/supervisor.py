"""Starts the parts of the stack in parallel, restarts what dies, and stops everything with itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from whyrank.embedded import state as states
from whyrank.embedded.parts import Part, launch, tail
from whyrank.embedded.process import Child, Launch, end_group
from whyrank.embedded.state import PartState, Phase, State

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
STEADY_S = 30.0
"""A part that was ready this long and then died is restarted at once, as if it had never failed."""

LOOK_S = 0.2
"""How often a starting part is asked whether it is ready; a ready one is asked ten times less often."""

T = TypeVar("T")


class Supervisor:
    """One stack in one home folder. The caller holds the home (`state.holding`) while it runs."""

    def __init__(self, home: Path, parts: Sequence[Part], urls: dict[str, str]) -> None:
        self._home = home
        self._parts = parts
        self._children: dict[str, Child] = {}
        self._ready_since: dict[str, float] = {}
        self._ready = {part.name: asyncio.Event() for part in parts}
        self.state = State(
            pid=os.getpid(),
            started=time.time(),
            home=str(home),
            urls=urls,
            parts={p.name: PartState(p.name, p.port, str(home / "logs" / f"{p.name}.log")) for p in parts},
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Keep all parts running until `stop` is set; then stop them all, and return when none is left."""
        await asyncio.to_thread(end_leftovers, states.last(self._home))
        tasks = [asyncio.create_task(self._keep(part)) for part in self._parts]
        try:
            stopped = asyncio.create_task(stop.wait())
            done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # a part's task has no end: this raises what ended it
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop_all()

    async def _keep(self, part: Part) -> None:
        """Start a part again and again, with pauses that grow while it fails."""
        pause = FIRST_PAUSE_S
        while True:
            why = await self._run_once(part)
            self._ready[part.name].clear()
            ready_since = self._ready_since.pop(part.name, None)
            if ready_since is not None and time.monotonic() - ready_since > STEADY_S:
                pause = FIRST_PAUSE_S
            self.state.parts[part.name].restarts += 1
            self._tell(part, Phase.RESTARTING, f"{why}; next try in {pause:.1f} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _run_once(self, part: Part) -> str:
        """From preparation to the end of the process; gives why it ended, in words."""
        self._tell(part, Phase.PREPARING)
        loop = asyncio.get_running_loop()

        def progress(what: str, share: float | None) -> None:
            loop.call_soon_threadsafe(self._tell, part, Phase.PREPARING, what, share)

        try:
            prepared = await in_thread(lambda: part.prepare(progress))
            for other in part.after:
                if not self._ready[other].is_set():
                    self._tell(part, Phase.WAITING, f"for {other}")
                    await self._ready[other].wait()
            child = self._start(part, prepared)
        except Exception as error:  # noqa: BLE001  no fault of one part may end the others: it is told and tried again
            return str(error) or type(error).__name__
        self._tell(part, Phase.STARTING)
        while (code := child.exit_code()) is None:
            if await in_thread(part.ready):
                self._tell(part, Phase.READY)
                self._ready_since.setdefault(part.name, time.monotonic())
                self._ready[part.name].set()
            elif self.state.parts[part.name].ready:
                self._tell(part, Phase.UNREADY, "does not answer")
            await self._pause(child, LOOK_S * 10 if self.state.parts[part.name].ready else LOOK_S)
        await in_thread(lambda: child.stop(part.stop_grace_s))  # what it had started in turn
        del self._children[part.name]
        last_line = tail(Path(self.state.parts[part.name].log), 1).strip()[:200]
        return f"ended with {code} ({last_line})" if last_line else f"ended with {code}"

    def _start(self, part: Part, prepared: Launch) -> Child:
        state = self.state.parts[part.name]
        child = launch(part, prepared, Path(state.log))
        self._children[part.name] = child
        state.pid = child.pid
        with contextlib.suppress(psutil.NoSuchProcess):
            state.born = psutil.Process(child.pid).create_time()
        return child

    @staticmethod
    async def _pause(child: Child, seconds: float) -> None:
        """Wait, but not after the process's end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and child.exit_code() is None:  # noqa: ASYNC110  a process sets no Event
            await asyncio.sleep(min(LOOK_S, seconds))

    async def _stop_all(self) -> None:
        """First the parts that use others, so that none fails for want of another while it finishes."""
        needed = {name for part in self._parts for name in part.after}
        for wave in ([p for p in self._parts if p.name not in needed], [p for p in self._parts if p.name in needed]):
            await asyncio.gather(*(self._stop(part) for part in wave))

    async def _stop(self, part: Part) -> None:
        child = self._children.pop(part.name, None)
        if child is not None:
            await in_thread(lambda: child.stop(part.stop_grace_s))
        self._tell(part, Phase.STOPPED)

    def _tell(self, part: Part, phase: Phase, detail: str = "", share: float | None = None) -> None:
        """Note what is new of a part, in the state file too."""
        state = self.state.parts[part.name]
        if (state.phase, state.detail, state.share) == (phase, detail, share) and phase is not Phase.PREPARING:
            return
        if state.phase is not phase:
            state.since = time.time()
        state.phase, state.detail, state.share = phase, detail, share
        if phase in (Phase.RESTARTING, Phase.STOPPED, Phase.PREPARING):
            state.pid = state.born = None
        states.write(self._home, self.state)


def end_leftovers(state: State | None) -> None:
    """End the processes that an earlier supervisor left, should its watchdog have been killed with it.

    A process is known by pid and creation time, so that one which merely got the same number is left alone.
    """
    for part in state.parts.values() if state else ():
        with contextlib.suppress(psutil.NoSuchProcess):
            if part.pid is not None and psutil.Process(part.pid).create_time() == part.born:
                end_group(part.pid, grace_s=5.0)


async def in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call in a daemon thread: unlike an executor's, it does not hold up the program's end.

    That matters for an installation under way at Ctrl-C; its tools are ended by the watchdog.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # T may itself be Optional
        else:
            future.set_exception(error)

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as caught:  # noqa: BLE001  handed to whoever awaits
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, daemon=True).start()
    return await future


async def supervise(
    home: Path, parts: Sequence[Part], urls: dict[str, str], on_start: Callable[[Supervisor], None] = lambda _: None
) -> None:
    """Run the stack until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    supervisor = Supervisor(home, parts, urls)
    on_start(supervisor)
    await supervisor.run(stop)
