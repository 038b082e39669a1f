"""The teacher behind the OpenAI protocol: it writes queries, and judges each pair with an explanation.

After InteRank (Samarinas and Zamani, 2025, arXiv 2504.03947v3): reasoning-heavy queries of each question, then an
explanation and a label for every query and passage. Every answer is on disk before anything is made of it; the
records are made of the ledger alone, so a run that was killed and resumed makes the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from training.progress import Stopwatch
from training.records import Group, Judgement, Source
from training.stages import Progress, StageError
from training.synthesize.asking import Desk, reading
from training.synthesize.checks import Rejection
from training.synthesize.client import TeacherClient
from training.synthesize.config import SynthesizeConfig
from training.synthesize.ledger import Ledger
from training.synthesize.questions import (
    TEACHER_PROMPT_VERSION,
    PairQuestion,
    QueriesQuestion,
    Question,
    prompt_tokens,
)
from whyrank.embedded.cache import digest
from whyrank.prompt import neutralise
from whyrank.settings import Settings
from whyrank.types import Verdict

ANSWERS = "answers.jsonl"
_EXPECTED_TOKENS = {PairQuestion: 100, QueriesQuestion: 250}
"""Of an answer, for the estimate of a dry run."""


class Taught(NamedTuple):
    """What the teacher made of some groups."""

    synthetic: list[Group]
    judgements: list[Judgement]
    rejections: list[Rejection]
    figures: dict[str, Any]
    primer_groups: Sequence[Group] = ()
    primer_judgements: Sequence[Judgement] = ()


def name(config: SynthesizeConfig) -> str:
    """Of the teacher, as records carry it: its model and the hash of what it is asked."""
    return f"openai/{config.model}@{TEACHER_PROMPT_VERSION}"


async def teach(
    groups: Sequence[Group],
    config: SynthesizeConfig,
    settings: Settings,
    *,
    folder: Path,
    watch: Stopwatch,
    progress: Progress,
) -> Taught:
    """Have queries written for the groups' origins, and all pairs judged.

    Raises BadRequestError when no teacher is named, StageError when it cannot be used or nothing could be asked.
    """
    with Ledger.open(folder / ANSWERS) as ledger:
        async with TeacherClient(config, settings) as client:
            desk = Desk(client, ledger, config, watch)
            asked = _query_questions(groups, config)
            written = await desk.ask_all("the teacher writes queries", asked, progress)
            synthetic = [
                group
                for question in asked
                if not isinstance(queries := written.get(question.key, ()), Rejection)
                for group in _groups(question.group, queries)
            ]
            pairs = _pair_questions([*groups, *synthetic], config)
            verdicts = await desk.ask_all("the teacher judges pairs", pairs, progress)
        judgements: list[Judgement] = []
        rejections = [outcome for outcome in written.values() if isinstance(outcome, Rejection)]
        for question in pairs:
            outcome = verdicts.get(question.key)
            if isinstance(outcome, Verdict):
                judgements.append(_judgement(question, outcome, ledger))
            elif outcome is not None:
                group, passage = question.about
                rejections.append(msgspec.structs.replace(outcome, group=group, passage=passage))
        if desk.out_of_budget and not judgements:
            raise StageError(f"max_cost = {config.max_cost:g} is reached before a pair is judged: raise it")
        figures = {
            "answers": len(ledger),
            "unasked": len(pairs) - len(judgements) - sum(bool(rejection.passage) for rejection in rejections),
            "out_of_budget": desk.out_of_budget,
            **_paid(ledger, config),
        }
    return Taught(synthetic, judgements, rejections, figures)


def estimate(groups: Sequence[Group], config: SynthesizeConfig, folder: Path) -> dict[str, Any]:
    """What is still to be asked of the teacher, in calls, tokens and money; reads the ledger, writes nothing.

    Queries that are not written yet are taken to be as long as the question that they come from.
    """
    ledger = Ledger(folder / ANSWERS)
    asked = _query_questions(groups, config)
    unwritten = [question for question in asked if reading(question, ledger, config.attempts) is None]
    synthetic = [
        group
        for question in asked
        if isinstance(queries := reading(question, ledger, config.attempts), tuple)
        for group in _groups(question.group, queries)
    ]
    pairs = {question.key: question for question in _pair_questions([*groups, *synthetic], config)}
    unjudged = [question for question in pairs.values() if reading(question, ledger, config.attempts) is None]
    to_come = [pair for question in unwritten for pair in _pair_questions([question.group], config)]
    repeated = config.queries_per_origin
    tokens_in = _prompt_tokens(unwritten) + _prompt_tokens(unjudged) + repeated * _prompt_tokens(to_come)
    calls = {"queries": len(unwritten), "pairs": len(unjudged) + repeated * len(to_come)}
    expected = calls["queries"] * _EXPECTED_TOKENS[QueriesQuestion] + calls["pairs"] * _EXPECTED_TOKENS[PairQuestion]
    most = sum(calls.values()) * config.max_tokens
    return {
        "to_ask": calls,
        "prompt_tokens": tokens_in,
        "completion_tokens": min(expected, most),
        "cost": round((tokens_in * config.price_in + min(expected, most) * config.price_out) / 1e6, 4),
        "cost_at_most": round((tokens_in * config.price_in + most * config.price_out) / 1e6, 4),
        "paid": _paid(ledger, config),
    }


def _paid(ledger: Ledger, config: SynthesizeConfig) -> dict[str, Any]:
    return {
        "prompt_tokens": ledger.prompt_tokens,
        "completion_tokens": ledger.completion_tokens,
        "cost": round(ledger.cost(config.price_in, config.price_out), 6),
    }


def _prompt_tokens(questions: Sequence[Question[object]]) -> int:
    return sum(prompt_tokens(question.messages()) for question in questions)


def _query_questions(groups: Sequence[Group], config: SynthesizeConfig) -> list[QueriesQuestion]:
    """One for each origin, from the first of its groups."""
    if not config.queries_per_origin:
        return []
    first: dict[tuple[str, str], Group] = {}
    for group in groups:
        first.setdefault((group.site, group.origin), group)
    return [QueriesQuestion(name(config), group, config.queries_per_origin) for group in first.values()]


def _groups(base: Group, queries: Sequence[str]) -> list[Group]:
    """A group for each query, with the base's passages; their engine scores were of another query."""
    passages = tuple(msgspec.structs.replace(passage, engine_score=None) for passage in base.passages)
    return [
        msgspec.structs.replace(
            base,
            id=digest(Source.SYNTHETIC, base.site, base.origin, query),
            query=query,
            source=Source.SYNTHETIC,
            passages=passages,
        )
        for query in queries
    ]


def _pair_questions(groups: Sequence[Group], config: SynthesizeConfig) -> list[PairQuestion]:
    """Group by group, so that a budget leaves few groups half judged."""
    teacher = name(config)
    return [PairQuestion(teacher, group.id, group.query, passage) for group in groups for passage in group.passages]


def _judgement(question: PairQuestion, verdict: Verdict, ledger: Ledger) -> Judgement:
    answers = ledger.of(question.key)
    return Judgement(
        group=question.group,
        passage=question.passage.id,
        teacher=question.teacher,
        label=verdict.label,
        probabilities=verdict.label_probabilities,
        relevance=verdict.relevance,
        # As the student reads the document: a marker that the teacher copied must not come back to life
        explanation=neutralise(verdict.explanation),
        quotes=tuple(quote.text for quote in verdict.quotes),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
    )
