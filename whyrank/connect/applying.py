"""Carrying a plan out step by step, and taking it back: what fails takes the steps before it back, too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from urllib.parse import parse_qsl, urlsplit

from msgspec.structs import replace

from whyrank.connect.records import Record, Records
from whyrank.connect.steps import Look, Plan, Request, Step, Undo, at, filled, filled_path
from whyrank.connect.survey import refusal
from whyrank.engines import Engine, EngineAnswer
from whyrank.errors import EngineError

_EFFECT_S = 60.0
_LOOK_EVERY_S = 0.5


class Outcome(StrEnum):
    """What became of a step, or of taking one back."""

    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"
    GONE = "gone"
    """There was nothing to take back any more."""
    LEFT = "left"
    """Somebody has changed it since; it is theirs now."""
    STUCK = "stuck"
    """It could not be taken back."""


Tell = Callable[[str, Outcome, str], None]
"""Called as (title, outcome, detail) as things happen."""


class ApplyError(EngineError):
    """A step failed. `left` are the requests that would take back what could not be taken back."""

    def __init__(self, message: str, left: Sequence[Request]) -> None:
        super().__init__(message)
        self.left = tuple(left)


async def apply(engine: Engine, plan: Plan, target: str, secrets: Mapping[str, str], tell: Tell) -> Record:
    """Carry out all steps, and keep how to take them back.

    Raises ApplyError, after taking back what was done; that is also done when it is cancelled (Ctrl-C).
    """
    run = _Run(engine, secrets)
    title = ""
    try:
        for step in plan.steps:
            title = step.title
            tell(title, Outcome.DONE, await run.carry_out(step))
        title = "Remember how to undo it"
        record = Record(plan.door, target, time.time(), tuple(run.undo))
        await Records(engine).save(record)
    except EngineError as error:
        tell(title, Outcome.FAILED, str(error))
        raise ApplyError(f"{title}: {error}", await take_back(engine, run.undo, tell)) from error
    except asyncio.CancelledError:
        tell(title, Outcome.FAILED, "interrupted")
        await take_back(engine, run.undo, tell)
        raise
    return record


async def take_back(engine: Engine, undo: Sequence[Undo], tell: Tell) -> list[Request]:
    """Take back what can be; gives the requests of what could not."""
    left = []
    for one in undo:
        try:
            if one.only_while is not None and not await _holds(engine, one.only_while):
                tell(one.title, Outcome.LEFT, "it was changed since")
                continue
            answer = await _send(engine, one.request)
        except EngineError as error:
            answer = EngineAnswer(error.status, {"error": str(error)})
        if answer.ok:
            tell(one.title, Outcome.UNDONE, "")
        elif answer.status == 404:
            tell(one.title, Outcome.GONE, "")
        else:
            tell(one.title, Outcome.STUCK, refusal(answer))
            left.append(one.request)
    return left


class _Run:
    """One plan on its way. `undo` is what takes back everything done so far, the newest first."""

    def __init__(self, engine: Engine, secrets: Mapping[str, str]) -> None:
        self._engine = engine
        self._secrets = secrets
        self._known: dict[str, str] = {}
        self._done: list[Undo] = []
        self._coming: list[Undo] = []

    @property
    def undo(self) -> list[Undo]:
        """In the order in which it is carried out; without what needs an answer that never came."""
        named = [self._named(undo) for undo in (*self._coming, *self._done)]
        return [undo for undo in named if "{" not in undo.request.path]

    async def carry_out(self, step: Step) -> str:
        """Give the names that the step's answer gave, in words. Raises EngineError."""
        # counted from when it is sent: an answer that is lost may stand for a change
        self._coming = list(step.undo)
        answer = await _send(self._engine, filled(step.request, self._known, self._secrets))
        if not answer.ok:
            self._coming = []
            raise EngineError(refusal(answer))
        for name, key in step.gives.items():
            value = at(answer.body, (key,))
            if not isinstance(value, str) or not value:
                raise EngineError(f"the engine's answer has no {key}: {answer.body!r:.200}")
            self._known[name] = value
        if step.until is not None:
            await self._take_effect(step.until)
        self._done = [*self._coming, *self._done]
        self._coming = []
        return ", ".join(f"{name} {self._known[name]}" for name in step.gives)

    async def _take_effect(self, until: Look) -> None:
        look = replace(until, path=filled_path(until.path, self._known))
        ends = time.monotonic() + _EFFECT_S
        while not await _holds(self._engine, look):
            if time.monotonic() > ends:
                raise EngineError(f"{look.path} does not show {look.keys[-1]}: {look.value} after {_EFFECT_S:.0f} s")
            await asyncio.sleep(_LOOK_EVERY_S)

    def _named(self, undo: Undo) -> Undo:
        return replace(undo, request=replace(undo.request, path=filled_path(undo.request.path, self._known)))


async def _send(engine: Engine, request: Request) -> EngineAnswer:
    parts = urlsplit(request.path)
    return await engine.request(request.method, parts.path, request.body, dict(parse_qsl(parts.query)))


async def _holds(engine: Engine, look: Look) -> bool:
    answer = await _send(engine, Request("GET", look.path))
    return answer.ok and at(answer.body, look.keys) == look.value
