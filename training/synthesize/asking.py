"""Asking a teacher many questions: some at a time, each until its answer can be taken, within a budget.

A teacher that gives no answers ends the stage (StageError) once as many calls in a row as there may be in flight,
each with all its retries, came to nothing. A single question without an answer is a rejection; the rest goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from training.progress import Counter, Stopwatch, counting
from training.stages import Progress, StageError
from training.synthesize.checks import Rejection
from training.synthesize.client import NoAnswerError, Reply
from training.synthesize.config import SynthesizeConfig
from training.synthesize.ledger import Ledger
from training.synthesize.questions import Messages, PaidAnswer, Question, prompt_tokens

_WARMER = 0.3
_HOTTEST = 2.0
_FEWEST_FAILURES = 3

Read = TypeVar("Read")


class Client(Protocol):
    """Who answers: `training.synthesize.client.TeacherClient`."""

    async def ask(self, messages: Messages, temperature: float) -> Reply:
        """One answer. Raises NoAnswerError when this call came to nothing, StageError when every call would."""
        ...


class _OutOfBudgetError(Exception):
    """The next call could cost more than is left."""


class Desk:
    """Puts questions to the teacher and keeps its answers in the ledger."""

    def __init__(self, client: Client, ledger: Ledger, config: SynthesizeConfig, watch: Stopwatch) -> None:
        self._client = client
        self._ledger = ledger
        self._config = config
        self._watch = watch
        self._budget = _Budget(ledger, config)
        self._answered = False
        self._failed_in_a_row = 0
        self._last_failure = ""
        self._broken: StageError | None = None

    @property
    def out_of_budget(self) -> bool:
        """Whether there were questions that could not be asked for their cost."""
        return self._budget.spent

    async def ask_all(
        self, what: str, questions: Sequence[Question[Read]], progress: Progress
    ) -> dict[str, Read | Rejection]:
        """What the teacher says, by the questions' keys; those that the budget had no room for are not in it.

        Raises StageError when the teacher cannot be used; what was answered until then is in the ledger.
        """
        distinct = {question.key: question for question in questions}
        settled: dict[str, Read | Rejection] = {}
        for key, question in distinct.items():
            if (known := reading(question, self._ledger, self._config.attempts)) is not None:
                settled[key] = known
        queue = iter([question for key, question in distinct.items() if key not in settled])

        async def work(counter: Counter) -> None:
            for question in queue:
                outcome = await self._until_taken(question)
                if outcome is None:
                    return
                settled[question.key] = outcome
                self._watch.save()
                counter.advance(1, self._budget.note())

        with counting(what, len(distinct), progress, unit="answers", done=len(settled)) as counter:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._config.concurrency, len(distinct) - len(settled))):
                    group.create_task(work(counter))
        if self._broken is None and self._failed_in_a_row and not self._answered:
            self._break()
        if self._broken is not None:
            raise self._broken
        return settled

    async def _until_taken(self, question: Question[Read]) -> Read | Rejection | None:
        """Ask until an answer can be taken or all attempts are used; None when nothing more can be asked."""
        attempts = self._config.attempts
        for attempt in range(len(self._ledger.of(question.key)), attempts):
            if self._broken is not None:
                return None
            try:
                await self._ask(question, min(_HOTTEST, self._config.temperature + attempt * _WARMER))
            except _OutOfBudgetError:
                return None
            except StageError as error:
                self._broken = error
                return None
            except NoAnswerError as error:
                self._failed(str(error))
                if error.garbled:
                    continue
                return rejection(question, "refused" if error.refused else "no_answer", self._ledger, str(error))
            if (read := reading(question, self._ledger, attempts)) is not None:
                return read
        return rejection(question, "no_answer", self._ledger, self._last_failure)

    async def _ask(self, question: Question[Read], temperature: float) -> None:
        """One answer, into the ledger."""
        messages = question.messages()
        async with self._budget.room_for(prompt_tokens(messages)):
            reply = await self._client.ask(messages, temperature)
            self._failed_in_a_row, self._answered = 0, True
            likely = question.probabilities(reply.text, reply.tokens)
            paid = PaidAnswer(question.key, reply.text, likely, reply.prompt_tokens, reply.completion_tokens)
            self._ledger.add(paid)

    def _failed(self, words: str) -> None:
        self._last_failure = words
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= max(_FEWEST_FAILURES, self._config.concurrency):
            self._break()

    def _break(self) -> None:
        self._broken = StageError(
            f"{self._failed_in_a_row} calls of the teacher in a row came to nothing; the last: {self._last_failure}. "
            "Every answer until then is kept: run the stage again when the teacher is well"
        )


class _Budget:
    """What the answers have cost, and what those in flight may cost at most."""

    def __init__(self, ledger: Ledger, config: SynthesizeConfig) -> None:
        self._ledger = ledger
        self._config = config
        self._in_flight: list[float] = []
        self._returned = asyncio.Condition()
        self.spent = False

    @property
    def cost(self) -> float:
        """Of all that is in the ledger."""
        return self._ledger.cost(self._config.price_in, self._config.price_out)

    @asynccontextmanager
    async def room_for(self, tokens: int) -> AsyncIterator[None]:
        """Hold back what a call may cost; waits for calls in flight, which may turn out cheaper than feared.

        Raises _OutOfBudgetError when there is no room and nothing to wait for.
        """
        config = self._config
        most = (tokens * config.price_in + config.max_tokens * config.price_out) / 1e6
        async with self._returned:
            while config.max_cost is not None and self.cost + sum(self._in_flight) + most > config.max_cost:
                if self.spent or not self._in_flight:
                    self.spent = True
                    self._returned.notify_all()
                    raise _OutOfBudgetError
                await self._returned.wait()
            self._in_flight.append(most)
        try:
            yield
        finally:
            async with self._returned:
                self._in_flight.remove(most)
                self._returned.notify_all()

    def note(self) -> str:
        """For who watches: tokens, and what they cost where prices are known."""
        tokens = f"{self._ledger.prompt_tokens + self._ledger.completion_tokens:,} tokens"
        priced = self._config.price_in or self._config.price_out
        return f"{tokens}, cost {self.cost:.2f}" if priced else tokens


def reading(question: Question[Read], ledger: Ledger, attempts: int) -> Read | Rejection | None:
    """What the answers in the ledger say; None while more are to be asked."""
    answers = ledger.of(question.key)
    reason = ""
    for answer in answers:
        read = question.read(answer)
        if not isinstance(read, str):
            return read
        reason = read
    return rejection(question, reason, ledger) if len(answers) >= attempts else None


def rejection(question: Question[Read], reason: str, ledger: Ledger, words: str = "") -> Rejection:
    """Why there is no answer to be had on a question; `words` are the server's where it gave none."""
    answers = ledger.of(question.key)
    return Rejection(
        *question.about,
        teacher=question.teacher,
        reason=reason,
        answer=words or answers[-1].text,
        attempts=len(answers),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
    )
