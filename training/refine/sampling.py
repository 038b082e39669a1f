"""Answers of the current student, drawn from the model server as serving draws them, each paid for once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec

from training.records import RECORDS_VERSION, Appender, RecordsError, append, read
from training.refine.pairs import JudgedPair
from training.stages import StageError
from whyrank.errors import ModelError, ModelRefusedError
from whyrank.model_client import Answer, HttpTransport, ModelClient
from whyrank.prompt import Constraint
from whyrank.types import LabelProbabilities, Mode, Verdict
from whyrank.verdict import parse

_LONGEST_WAIT_S = 30.0


class SampledAnswer(msgspec.Struct, frozen=True):
    """One answer, and what `whyrank.verdict` reads in it."""

    text: str
    finished: bool
    label: int | None
    """None where the answer cannot be read."""
    probabilities: LabelProbabilities | None
    relevance: float | None
    quotes: int
    """How many quotes the explanation has that can be evidence."""
    grounded: int
    """How many of them stand in the passage."""
    failure: str = ""
    completion_tokens: int = 0


class Samples(msgspec.Struct, frozen=True):
    """A pair's answers by one student."""

    group: str
    passage: str
    answers: tuple[SampledAnswer, ...]
    """Empty where the server refused the prompt."""
    read_chars: int
    """How much of the passage the model read."""
    refused: str = ""
    prompt_tokens: int = 0
    version: int = RECORDS_VERSION

    @property
    def key(self) -> tuple[str, str]:
        """As of `JudgedPair`."""
        return self.group, self.passage


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn. `count` None: one, the likeliest, as a search gets it."""

    mode: Mode
    constraint: Constraint
    explanation_tokens: int
    count: int | None
    temperature: float
    seed: int
    concurrency: int
    attempts: int
    backoff_s: float


@dataclass(frozen=True)
class Endpoint:
    """A model server that serves one student."""

    url: str
    model: str
    api_key: str | None
    timeout_s: float


def known(path: Path) -> dict[tuple[str, str], Samples]:
    """What is drawn so far. Raises StageError for a file that holds something else."""
    if not path.exists():
        return {}
    with append(path):
        pass  # what a killed run left half-written is dropped
    try:
        return {samples.key: samples for samples in read(path, Samples, verify=False)}
    except RecordsError as error:
        raise StageError(f"{error}; mend the line, or delete {path} to draw all of it again") from error


async def draw(
    pairs: Sequence[JudgedPair], path: Path, endpoint: Endpoint, drawing: Drawing, done: Callable[[int], None]
) -> None:
    """Draw answers for the pairs that are not in `path` yet, and append them as they come.

    `done` is told 1 for each pair that comes. Raises StageError when the server stays away or answers garbage; what
    came before is kept.
    """
    before = known(path)
    missing = [pair for pair in pairs if pair.key not in before]
    transport = HttpTransport(endpoint.url, endpoint.api_key, endpoint.timeout_s)
    async with transport:
        client = ModelClient(transport, endpoint.model, drawing.explanation_tokens)
        with append(path) as add:
            sampler = _Sampler(client, drawing, add, done)
            queue = iter(missing)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(min(drawing.concurrency, len(missing))):
                        tasks.create_task(sampler.work(queue))
            except ExceptionGroup as errors:
                reason = errors.exceptions[0]
                if not isinstance(reason, ModelError):
                    raise
                raise StageError(
                    f"the model server at {endpoint.url} does not answer as it should: {reason}. "
                    f"{path} keeps what was sampled; run the stage again to go on"
                ) from reason


class _Sampler:
    def __init__(self, client: ModelClient, drawing: Drawing, add: Appender, done: Callable[[int], None]) -> None:
        self._client = client
        self._drawing = drawing
        self._add = add
        self._done = done

    async def work(self, queue: Iterable[JudgedPair]) -> None:
        """Draw for pairs until the shared queue is empty."""
        for pair in queue:
            self._add(await self._samples(pair))
            self._done(1)

    async def _samples(self, pair: JudgedPair) -> Samples:
        group, passage = pair.key
        try:
            answers = await self._patiently(pair)
        except ModelRefusedError as refusal:
            return Samples(group, passage, (), read_chars=0, refused=str(refusal))
        return Samples(
            group,
            passage,
            tuple(read_answer(answer, self._drawing.mode) for answer in answers),
            read_chars=len(answers[0].passage.text),
            prompt_tokens=answers[0].prompt_tokens,
        )

    async def _patiently(self, pair: JudgedPair) -> tuple[Answer, ...]:
        wait = self._drawing.backoff_s
        for _ in range(self._drawing.attempts - 1):
            try:
                return await self._ask(pair)
            except ModelRefusedError:
                raise
            except ModelError:  # away, overloaded, or an answer that is none
                await asyncio.sleep(wait)
                wait = min(2.0 * wait, _LONGEST_WAIT_S)
        return await self._ask(pair)

    async def _ask(self, pair: JudgedPair) -> tuple[Answer, ...]:
        drawing, passage = self._drawing, pair.passage.passage()
        if drawing.count is None:
            return (await self._client.ask(pair.query, passage, drawing.mode, drawing.constraint),)
        return await self._client.sample(
            pair.query,
            passage,
            drawing.mode,
            drawing.constraint,
            count=drawing.count,
            temperature=drawing.temperature,
            seed=_seed(drawing.seed, pair),
        )


def read_answer(answer: Answer, mode: Mode) -> SampledAnswer:
    """What is in an answer, by the very code that reads it when serving."""
    verdict = parse(answer.text, answer.tokens, passage=answer.passage, mode=mode, model_revision="")
    if not isinstance(verdict, Verdict):
        return SampledAnswer(
            answer.text, answer.finished, None, None, None, 0, 0, verdict.kind.value, answer.completion_tokens
        )
    return SampledAnswer(
        answer.text,
        answer.finished,
        verdict.label,
        verdict.label_probabilities,
        verdict.relevance,
        len(verdict.quotes),
        sum(1 for quote in verdict.quotes if quote.grounded),
        completion_tokens=answer.completion_tokens,
    )


def _seed(seed: int, pair: JudgedPair) -> int:
    """The same for a pair in every attempt, so that a server that honours seeds draws the same again."""
    digest = blake2b(f"{seed}:{pair.key[0]}:{pair.key[1]}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
