"""The stage with a teacher behind real HTTP: what it makes, what it costs, and what it does when things go wrong."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from pydantic import SecretStr

from tests.integration.training.teacher import KEY, MODEL, TeacherServer
from tests.unit.training.synthetic import RECIPE, group, mined
from training import synthesize
from training.records import Group, Judgement, Source, Split, read
from training.stages import Report, RunFolder, Stage, StageError
from training.synthesize import SynthesizeConfig
from training.synthesize.checks import Rejection
from training.synthesize.client import TeacherClient
from whyrank.embedded.cache import silent
from whyrank.errors import BadRequestError
from whyrank.grounding import find
from whyrank.settings import Settings

TEXTS = (
    "doc-checkpoint A checkpoint writes all dirty buffers to disk. Its interval can be set.",
    "doc-vacuum Vacuum reclaims the storage that dead rows occupy. It runs beside reads.",
    "doc-sine The sine takes an angle in radians. So does the cosine.",
)
ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import sys
from pathlib import Path
from tests.integration.training.test_synthesize_openai import configured, settings
from tests.unit.training.synthetic import RECIPE
from training import synthesize
from training.stages import RunFolder
from whyrank.embedded.cache import silent
synthesize.run(RunFolder(Path(sys.argv[1])), configured(concurrency=2), settings(sys.argv[2]), RECIPE, silent)
"""


@pytest_asyncio.fixture
async def teacher() -> AsyncIterator[TeacherServer]:
    server = await TeacherServer().start()
    yield server
    await server.stop()


def settings(url: str) -> Settings:
    return Settings(teacher_url=url, teacher_api_key=SecretStr(KEY))


def configured(**changes: Any) -> SynthesizeConfig:
    values = {"teacher": "openai", "model": MODEL, "retries": 1, "timeout_s": 30.0, "concurrency": 4, **changes}
    return msgspec.convert(values, SynthesizeConfig)


def a_run(path: Path, queries: tuple[str, ...] = ("when is a checkpoint written",)) -> RunFolder:
    return mined(path, [group(f"g{i}", query, TEXTS, origin=f"page-{i}") for i, query in enumerate(queries)])


async def synthesized(run: RunFolder, teacher: TeacherServer, **changes: Any) -> Report:
    return await asyncio.to_thread(synthesize.run, run, configured(**changes), settings(teacher.url), RECIPE, silent)


def judgements(run: RunFolder) -> dict[str, Judgement]:
    path = run.folder(Stage.SYNTHESIZE) / "judgements.jsonl"
    return {judgement.passage.split("-")[1]: judgement for judgement in read(path, Judgement)}


def files_of(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file())


def rejections(run: RunFolder) -> list[Rejection]:
    return list(read(run.folder(Stage.SYNTHESIZE) / "rejected.jsonl", Rejection))


async def test_each_pair_gets_the_teachers_explanation_label_and_probabilities(
    tmp_path: Path, teacher: TeacherServer
) -> None:
    run = a_run(tmp_path)
    report = await synthesized(run, teacher, price_in=10.0, price_out=100.0)
    found = judgements(run)
    assert len(found) == 3
    first = found["p0"]
    assert first.teacher.startswith(f"openai/{MODEL}@")
    assert first.explanation == 'It states "doc-checkpoint A checkpoint writes all dirty buffers to disk".'
    assert first.quotes == ("doc-checkpoint A checkpoint writes all dirty buffers to disk",)
    assert first.label == 2
    assert 0.8 < first.probabilities[2] < 1.0, "read at the label's token"
    assert first.relevance == pytest.approx(first.probabilities[1] / 2 + first.probabilities[2])
    assert (first.prompt_tokens, first.completion_tokens) == (300, 40)
    assert found["p2"].label == 0
    assert set(teacher.seen.values()) == {1}
    assert teacher.keys == {f"Bearer {KEY}"}
    assert report.figures["cost"] == pytest.approx(3 * (300 * 10 + 40 * 100) / 1e6)
    assert report.figures["answers"] == 3
    assert "You are the teacher" in teacher.bodies[0]["messages"][0]["content"]
    assert run.report(Stage.SYNTHESIZE) == report


async def test_a_label_is_certain_where_the_server_tells_no_probabilities(
    tmp_path: Path, teacher: TeacherServer
) -> None:
    run = a_run(tmp_path)
    await synthesized(run, teacher, logprobs=False)
    assert judgements(run)["p0"].probabilities == (0.0, 0.0, 1.0)
    assert "logprobs" not in teacher.bodies[0]


async def test_the_teachers_queries_become_groups_of_the_same_origin_and_are_judged(
    tmp_path: Path, teacher: TeacherServer
) -> None:
    groups = [
        group("g0", "when is a checkpoint written", TEXTS),
        group("g1", "checkpoints", TEXTS),
        group("g2", "held out", TEXTS, split=Split.TEST, origin="page-2"),
    ]
    run = mined(tmp_path, groups)
    report = await synthesized(run, teacher, queries_per_origin=10)
    handed_on = list(read(run.folder(Stage.SYNTHESIZE) / "groups.jsonl", Group))
    written = [g for g in handed_on if g.source is Source.SYNTHETIC]
    assert sorted(g.query for g in written) == ["How can writes to the disk be spread over time?", "Tune spikes"]
    for each in written:
        assert (each.origin, each.site, each.split) == ("page-1", "docs", Split.TRAIN)
        assert [p.text for p in each.passages] == list(TEXTS)
        assert {p.engine_score for p in each.passages} == {None}
    assert sum(count for (_, document), count in teacher.seen.items() if document == "queries") == 1, "one per origin"
    assert report.figures["judgements"] == 4 * 3
    assert report.figures["synthetic_groups"] == 2
    assert len(handed_on) == 5
    assert not any(query == "held out" for query, _ in teacher.seen)


@pytest.mark.parametrize(
    "fault", ["429", "500", "garbage", "no choices", "wrong label", "no label", "ungrounded", "unquoted"]
)
async def test_after_one_fault_the_pair_is_asked_again(tmp_path: Path, teacher: TeacherServer, fault: str) -> None:
    teacher.faults["doc-checkpoint"] = [fault]
    run = a_run(tmp_path)
    report = await synthesized(run, teacher)
    assert judgements(run)["p0"].label == 2
    assert not rejections(run)
    paid = not (fault.isdecimal() or fault in ("garbage", "no choices"))
    assert report.figures["answers"] == 3 + paid
    assert judgements(run)["p0"].prompt_tokens == 300 * (1 + paid), "the answer that was not taken was paid, too"
    asked_again_by_us = not fault.isdecimal()
    assert teacher.temperatures["doc-checkpoint"] == [0.0, pytest.approx(0.3) if asked_again_by_us else 0.0]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong label", "bad_label"),
        ("no label", "no_label"),
        ("ungrounded", "ungrounded"),
        ("400", "refused"),
        ("500", "no_answer"),
    ],
)
async def test_what_stays_wrong_is_rejected_with_its_reason(
    tmp_path: Path, teacher: TeacherServer, fault: str, reason: str
) -> None:
    teacher.faults["doc-checkpoint"] = [fault] * 9
    run = a_run(tmp_path)
    report = await synthesized(run, teacher, retries=0, attempts=2)
    assert set(judgements(run)) == {"p1", "p2"}
    (rejected,) = rejections(run)
    assert (rejected.group, rejected.passage, rejected.reason) == ("g0", "g0-p0", reason)
    assert rejected.answer
    assert report.figures["rejected"] == {reason: 1}
    assert teacher.seen["when is a checkpoint written", "doc-checkpoint"] == (1 if fault.isdecimal() else 2)


async def test_a_pair_that_hangs_is_given_up_and_the_others_are_judged(tmp_path: Path, teacher: TeacherServer) -> None:
    teacher.faults["doc-checkpoint"] = ["hang"]
    run = a_run(tmp_path)
    await synthesized(run, teacher, retries=0, timeout_s=1.0)
    (rejected,) = rejections(run)
    assert rejected.reason == "no_answer"
    assert "did not answer within 1 s" in rejected.answer
    assert len(judgements(run)) == 2


async def test_a_teacher_that_thinks_first_is_read_after_its_thoughts(tmp_path: Path, teacher: TeacherServer) -> None:
    teacher.faults["doc-checkpoint"] = ["thinking"]
    run = a_run(tmp_path)
    await synthesized(run, teacher)
    assert judgements(run)["p0"].label == 2
    assert judgements(run)["p0"].explanation.startswith("It states")


@pytest.mark.parametrize(
    ("always", "words"),
    [
        ("429", "answered 429"),
        ("500", "answered 500"),
        ("400", "answered 400"),
        ("garbage", "not of the OpenAI protocol"),
        ("hang", "did not answer within"),
    ],
)
async def test_a_teacher_that_never_answers_ends_the_stage_and_nothing_is_lost(
    tmp_path: Path, teacher: TeacherServer, always: str, words: str
) -> None:
    run = a_run(tmp_path, ("when is a checkpoint written", "vacuum storage"))
    await synthesized(run, teacher, max_cost=0.0001, price_out=1.0, max_tokens=40, concurrency=1)
    answered = sum(teacher.answered.values())
    assert answered == 2
    teacher.always = always
    with pytest.raises(StageError, match=words):
        await synthesized(run, teacher, retries=0, timeout_s=0.5, concurrency=2)
    teacher.always = None
    teacher.release.set()
    report = await synthesized(run, teacher)
    assert sum(teacher.answered.values()) == report.figures["answers"] == 6


@pytest.mark.parametrize(("status", "hint"), [("401", "API_KEY"), ("403", "API_KEY"), ("404", "synthesize.model")])
async def test_a_wrong_key_address_or_model_ends_the_stage_at_once(
    tmp_path: Path, teacher: TeacherServer, status: str, hint: str
) -> None:
    teacher.always = status
    run = a_run(tmp_path)
    with pytest.raises(StageError, match=hint) as caught:
        await synthesized(run, teacher, concurrency=1)
    assert len(teacher.bodies) == 1
    assert KEY not in str(caught.value)
    assert run.report(Stage.SYNTHESIZE) is None


async def test_no_server_at_all_is_a_clear_error(tmp_path: Path, teacher: TeacherServer) -> None:
    await teacher.stop()
    with pytest.raises(StageError, match="cannot be reached"):
        await synthesized(a_run(tmp_path), teacher, retries=0)


async def test_the_key_is_in_no_file(tmp_path: Path, teacher: TeacherServer) -> None:
    run = a_run(tmp_path)
    await synthesized(run, teacher, queries_per_origin=2)
    files = files_of(tmp_path)
    assert len(files) > 6
    assert not any(KEY.encode() in path.read_bytes() for path in files)


async def test_killed_in_the_middle_and_restarted_nothing_is_asked_twice_and_the_result_is_the_same(
    tmp_path: Path, teacher: TeacherServer
) -> None:
    queries = ("when is a checkpoint written", "vacuum storage", "angle of the sine")
    whole = a_run(tmp_path / "whole", queries)
    await synthesized(whole, teacher)
    teacher.seen.clear()
    teacher.answered.clear()
    teacher.hold_after = 5
    killed = a_run(tmp_path / "killed", queries)
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, str(killed.path), teacher.url, cwd=ROOT)
    while teacher.held < 2:
        assert child.returncode is None, "the stage ended by itself"
        await asyncio.sleep(0.05)
    child.kill()
    assert await child.wait() == -signal.SIGKILL
    teacher.hold_after = None
    assert killed.report(Stage.SYNTHESIZE) is None
    report = await synthesized(killed, teacher)
    assert set(teacher.answered.values()) == {1}, "no pair was paid twice"
    assert sum(teacher.answered.values()) == report.figures["answers"] == 9
    assert sum(teacher.seen.values()) - 9 == teacher.held == 2, "lost: no more than were in flight"
    for name in ("groups.jsonl", "judgements.jsonl", "rejected.jsonl"):
        path = Path(Stage.SYNTHESIZE) / name
        assert (killed.path / path).read_bytes() == (whole.path / path).read_bytes()


async def test_the_budget_is_kept_and_more_of_it_goes_on_where_it_ended(tmp_path: Path, teacher: TeacherServer) -> None:
    run = a_run(tmp_path, ("when is a checkpoint written", "vacuum storage"))
    prices = {"price_in": 10.0, "price_out": 100.0, "max_tokens": 40}
    report = await synthesized(run, teacher, max_cost=0.025, **prices)
    figures = report.figures
    assert figures["out_of_budget"] is True
    assert 0 < figures["judgements"] < 6
    assert figures["unasked"] == 6 - figures["judgements"]
    assert figures["cost"] <= 0.025
    report = await synthesized(run, teacher, **prices)
    assert report.figures["judgements"] == 6
    assert report.figures["out_of_budget"] is False
    assert set(teacher.answered.values()) == {1}


async def test_a_budget_for_nothing_is_an_error(tmp_path: Path, teacher: TeacherServer) -> None:
    with pytest.raises(StageError, match="max_cost"):
        await synthesized(a_run(tmp_path), teacher, max_cost=0.000001, price_out=100.0)
    assert not teacher.bodies


async def test_a_dry_run_asks_and_writes_nothing_and_knows_what_is_paid(tmp_path: Path, teacher: TeacherServer) -> None:
    run = a_run(tmp_path)
    before = files_of(tmp_path)
    report = await synthesized(run, teacher, dry_run=True, queries_per_origin=2, price_in=1.0, price_out=2.0)
    estimate = report.figures["dry_run"]
    assert estimate["to_ask"] == {"queries": 1, "pairs": 3 + 2 * 3}
    assert 9 * 100 < estimate["prompt_tokens"] < 10 * 1000
    assert 0 < estimate["cost"] < estimate["cost_at_most"]
    assert not teacher.bodies
    assert files_of(tmp_path) == before
    await synthesized(run, teacher, queries_per_origin=2, price_in=1.0, price_out=2.0)
    report = await synthesized(run, teacher, dry_run=True, queries_per_origin=2, price_in=1.0, price_out=2.0)
    assert report.figures["dry_run"]["to_ask"] == {"queries": 0, "pairs": 0}
    assert report.figures["dry_run"]["paid"]["cost"] > 0


async def test_a_pair_of_two_groups_is_asked_once(tmp_path: Path, teacher: TeacherServer) -> None:
    query = "when is a checkpoint written"
    run = mined(tmp_path, [group("g0", query, TEXTS), group("g1", query, TEXTS[:2])])
    report = await synthesized(run, teacher)
    assert report.figures["judgements"] == 5
    assert report.figures["answers"] == 3


async def test_every_quote_stands_in_its_passage(tmp_path: Path, teacher: TeacherServer) -> None:
    run = a_run(tmp_path)
    await synthesized(run, teacher)
    texts = dict(zip(("p0", "p1", "p2"), TEXTS, strict=True))
    for name, judgement in judgements(run).items():
        assert judgement.quotes
        assert all(find(quote, texts[name]) for quote in judgement.quotes)


async def test_requests_a_minute_are_limited(teacher: TeacherServer) -> None:
    chat = [{"role": "user", "content": f"Query: q\n\n<document>\n{TEXTS[0]}\n</document>"}]
    async with TeacherClient(configured(requests_per_minute=2), settings(teacher.url)) as client:
        await client.ask(chat, 0.0)
        await client.ask(chat, 0.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.ask(chat, 0.0), 0.3)
    assert len(teacher.bodies) == 2


async def test_tokens_a_minute_are_limited_and_a_large_question_is_still_asked(teacher: TeacherServer) -> None:
    chat = [{"role": "user", "content": f"Query: q\n\n<document>\n{TEXTS[0]}\n</document>"}]
    async with TeacherClient(configured(tokens_per_minute=100), settings(teacher.url)) as client:
        await client.ask(chat, 0.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.ask(chat, 0.0), 0.3)
    assert len(teacher.bodies) == 1


@pytest.mark.parametrize(
    ("changes", "url", "field"),
    [
        ({}, None, "WHYRANK_TEACHER_URL"),
        ({"model": ""}, "http://127.0.0.1:1/v1", "synthesize.model"),
        ({"teacher": "offline", "queries_per_origin": 3}, None, "synthesize.queries_per_origin"),
    ],
)
def test_a_recipe_without_a_teacher_is_refused(
    tmp_path: Path, changes: dict[str, Any], url: str | None, field: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        synthesize.run(a_run(tmp_path), configured(**changes), Settings(teacher_url=url), RECIPE, silent)
    assert caught.value.field == field
