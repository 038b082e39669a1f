"""How the desk asks, with a teacher by hand: in parallel, again, within the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from training.progress import Stopwatch
from training.records import GroupPassage, Role
from training.stages import StageError
from training.synthesize import SynthesizeConfig
from training.synthesize.asking import Desk
from training.synthesize.checks import Rejection
from training.synthesize.client import NoAnswerError, Reply
from training.synthesize.ledger import Ledger
from training.synthesize.questions import Messages, PairQuestion, prompt_tokens
from whyrank.embedded.cache import silent
from whyrank.types import Verdict

GOOD = 'It says "the words of the document". Relevance Label: 2 ##'
QUESTIONS = [
    PairQuestion("t", "g", f"query {i}", GroupPassage(f"p{i}", "These are the words of the document.", Role.HARD))
    for i in range(12)
]


class Scripted:
    """Gives the next of `answers` for each call, then GOOD; exceptions are raised."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.temperatures: list[float] = []
        self.in_flight = 0
        self.most = 0

    async def ask(self, messages: Messages, temperature: float) -> Reply:
        self.temperatures.append(temperature)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        answer = self.answers.pop(0) if self.answers else GOOD
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer, (), 100, 10)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "answers.jsonl") as opened:
        yield opened


def desk(client: Scripted, ledger: Ledger, tmp_path: Path, **changes: Any) -> Desk:
    config = msgspec.convert({"teacher": "openai", "concurrency": 4, **changes}, SynthesizeConfig)
    return Desk(client, ledger, config, Stopwatch(tmp_path))


async def test_as_many_are_in_flight_as_the_config_says(tmp_path: Path, ledger: Ledger) -> None:
    client = Scripted()
    settled = await desk(client, ledger, tmp_path, concurrency=3).ask_all("asking", QUESTIONS, silent)
    assert set(settled) == {question.key for question in QUESTIONS}
    assert client.most == 3


async def test_each_further_attempt_is_warmer_and_the_last_answer_is_the_rejections(
    tmp_path: Path, ledger: Ledger
) -> None:
    client = Scripted("one", "two", "three")
    asking = desk(client, ledger, tmp_path, temperature=1.6, attempts=3)
    (outcome,) = (await asking.ask_all("asking", QUESTIONS[:1], silent)).values()
    assert isinstance(outcome, Rejection)
    assert (outcome.reason, outcome.answer, outcome.attempts) == ("no_label", "three", 3)
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (300, 30)
    assert client.temperatures == pytest.approx([1.6, 1.9, 2.0])


async def test_attempts_that_were_paid_before_count(tmp_path: Path, ledger: Ledger) -> None:
    await desk(Scripted("bad"), ledger, tmp_path, attempts=1).ask_all("asking", QUESTIONS[:1], silent)
    client = Scripted("bad again")
    settled = await desk(client, ledger, tmp_path, attempts=3).ask_all("asking", QUESTIONS[:1], silent)
    assert client.temperatures == pytest.approx([0.3, 0.6])
    assert isinstance(settled[QUESTIONS[0].key], Verdict)


async def test_failures_in_a_row_end_the_stage_but_not_those_between_answers(tmp_path: Path, ledger: Ledger) -> None:
    failures = [NoAnswerError("away") for _ in range(5)]
    mixed = Scripted(failures[0], failures[1], GOOD, failures[2], failures[3], GOOD, failures[4])
    settled = await desk(mixed, ledger, tmp_path, concurrency=1).ask_all("asking", QUESTIONS, silent)
    assert sum(isinstance(outcome, Rejection) for outcome in settled.values()) == 5
    dead = Scripted(*failures)
    with pytest.raises(StageError, match=r"3 calls .* away"):
        await desk(dead, ledger, tmp_path, concurrency=1).ask_all("asking", QUESTIONS, silent)
    assert len(dead.temperatures) == 3


async def test_a_single_question_without_an_answer_is_an_error_of_the_teacher(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(StageError, match="away"):
        await desk(Scripted(NoAnswerError("away")), ledger, tmp_path).ask_all("asking", QUESTIONS[:1], silent)


async def test_answers_in_flight_are_kept_when_another_call_ends_the_stage(tmp_path: Path, ledger: Ledger) -> None:
    client = Scripted(GOOD, StageError("wrong key"), GOOD, GOOD)
    with pytest.raises(StageError, match="wrong key"):
        await desk(client, ledger, tmp_path, concurrency=4).ask_all("asking", QUESTIONS, silent)
    assert len(ledger) == len(client.temperatures) - 1 >= 3


@pytest.mark.parametrize("concurrency", [1, 4, 12])
async def test_the_budget_holds_however_many_are_in_flight_and_is_used(
    tmp_path: Path, ledger: Ledger, concurrency: int
) -> None:
    prices = {"price_in": 1000.0, "price_out": 10_000.0, "max_tokens": 16}
    each = (100 * 1000.0 + 10 * 10_000.0) / 1e6
    feared = (prompt_tokens(QUESTIONS[0].messages()) * 1000.0 + 16 * 10_000.0) / 1e6
    asking = desk(Scripted(), ledger, tmp_path, max_cost=feared + 4 * each + 0.01, concurrency=concurrency, **prices)
    settled = await asking.ask_all("asking", QUESTIONS, silent)
    assert len(settled) == len(ledger) == 5, "it waits for what calls in flight really cost"
    assert asking.out_of_budget


async def test_who_watches_hears_of_tokens_and_cost(tmp_path: Path, ledger: Ledger) -> None:
    heard: list[tuple[str, float | None]] = []
    asking = desk(Scripted(), ledger, tmp_path, price_in=1000.0)
    await asking.ask_all("asking", QUESTIONS, lambda what, share: heard.append((what, share)))
    assert heard[0] == ("asking", 0.0)
    assert heard[-1] == ("asking (1,320 tokens, cost 1.20)", 1.0)


def test_a_stopwatch_counts_over_attempts(tmp_path: Path) -> None:
    with Stopwatch(tmp_path) as first:
        pass
    kept = float((tmp_path / "seconds.txt").read_text())
    assert 0.0 <= kept <= first.seconds
    (tmp_path / "seconds.txt").write_text("100.0")
    assert Stopwatch(tmp_path).seconds >= 100.0
    (tmp_path / "seconds.txt").write_text("")
    assert Stopwatch(tmp_path).seconds < 100.0
