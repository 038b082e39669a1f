"""Evaluation with a real engine and the real bi-encoder; the model is a server that judges by a rule."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.conftest import ROOT
from tests.integration.training.scripted_judge import ScriptedJudge, serving
from training import records
from training.evaluate import EvaluateConfig, Plan, evaluate_collections, run
from training.evaluate.evaluation import QueryValues
from training.evaluate.metrics import PRIMARY, Answer, Metrics, Role, System, load
from training.evaluate.report import as_text
from training.recipe import Recipe
from training.records import Group, GroupPassage, Source, Split
from training.records import Role as PassageRole
from training.stages import RunFolder, Stage, StageError
from whyrank.embedded.cache import silent
from whyrank.errors import BadRequestError
from whyrank.prompt import Constraint
from whyrank.records import ModelManifest, save_manifest
from whyrank.settings import Settings
from whyrank.types import FusionWeights, Mode

TOPICS = ("glaciers", "volcanoes", "orchids", "beetles", "comets", "rivers", "violins", "bridges")
SAYINGS = (
    "{topic} grow slowly over many thousand years. Measured by satellites.",
    "A museum of {topic} opened in the capital. It has a shop.",
    "{topic} {topic} {topic}: see the index of names. misquote",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "topics", "Is there an index of how {topic} grow?")


def written(folder: Path, question: str) -> Path:
    """Documents on some topics; for each topic BM25 likes the index of names best, and the first is the answer."""
    (folder / "qrels").mkdir(parents=True)
    documents, queries, grades = [], [], ["query-id\tcorpus-id\tscore"]
    for number, topic in enumerate(TOPICS):
        queries.append({"_id": f"q{number}", "text": question.format(topic=topic)})
        for place, saying in enumerate(SAYINGS):
            text = saying.format(topic=topic)
            documents.append({"_id": f"d{number}-{place}", "title": topic.title(), "text": text})
        grades.append(f"q{number}\td{number}-0\t2")
        grades.append(f"q{number}\td{number}-1\t1")
    (folder / "corpus.jsonl").write_text("".join(json.dumps(each) + "\n" for each in documents))
    (folder / "queries.jsonl").write_text("".join(json.dumps(each) + "\n" for each in queries))
    (folder / "qrels" / "test.tsv").write_text("\n".join(grades) + "\n")
    (folder / "exclude.tsv").write_text("query-id\tcorpus-id\nq0\td0-2\n")
    return folder


@pytest.fixture
def judge() -> Iterator[ScriptedJudge]:
    with serving(ScriptedJudge()) as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path, opensearch_url: str) -> Settings:
    manifest = ModelManifest(
        "scripted", "rule", "2026-01-01T00:00:00Z", weights=FusionWeights(0.2, 0.6, 0.2), constraint=Constraint.LABEL
    )
    save_manifest(manifest, tmp_path / "manifest.json")
    return Settings(
        home=tmp_path / "home",
        engine_url=opensearch_url,
        model_manifest=tmp_path / "manifest.json",
        model_timeout_s=20.0,
    )


def indices(url: str) -> list[str]:
    return [each["index"] for each in httpx.get(f"{url}/_cat/indices/whyrank-evaluate-*?format=json").json()]


PLAN = Plan(queries=None, depth=5, consistency_pairs=4)


def test_a_collection_is_searched_judged_compared_and_reported(
    folder: Path, judge: ScriptedJudge, settings: Settings, tmp_path: Path
) -> None:
    url, cache, out = settings.engine_url, tmp_path / "cache", tmp_path / "out"

    def evaluate(plan: Plan, validation: tuple[Path, ...] = ()) -> Metrics:
        return evaluate_collections(
            [folder], out, plan, settings, validation=validation, model_url=judge.url, engine_url=url, cache=cache
        )

    metrics = evaluate(PLAN)
    assert metrics == load(out / "metrics.json")
    (found,) = metrics.collections
    assert (found.documents, found.queries) == (24, 8)
    assert found.ceiling == pytest.approx(1.0)
    assert found.means[System.LM][PRIMARY] > found.means[System.ENGINE][PRIMARY]
    by_engine = metrics.comparison(System.LM, System.ENGINE)
    assert by_engine is not None and by_engine.low > 0 and by_engine.queries == 8
    assert {c.system for c in metrics.comparisons} >= {System.ALL, System.LM, System.ENCODER}
    assert metrics.comparison(System.LM, System.LM_LABEL) is not None
    assert metrics.comparison(System.ALL, System.CURRENT_ALL) is None
    assert metrics.weights[System.ALL] == FusionWeights(0.2, 0.6, 0.2)
    assert metrics.weights[System.ENCODER_ENGINE] == FusionWeights(0.2, 0.0, 0.2)

    answers = metrics.models[Role.CANDIDATE].explanations[Mode.REASON]
    assert answers.parse_rate == 1.0
    assert 0 < answers.quotes_verbatim < 1  # the indices of names are misquoted
    assert answers.agreement is not None and answers.agreement.weighted_kappa > 0.5
    assert answers.calibration is not None and sum(b.pairs for b in answers.calibration.bins) == answers.pairs
    assert answers.consistency is not None and answers.consistency.pairs > 4
    assert metrics.models[Role.CANDIDATE].explanations[Mode.LABEL].quotes == 0

    page = LexborHTMLParser((out / "report.html").read_text())
    assert "WhyRank" in page.css_first("title").text()
    assert page.css_first(".verdict").text().startswith("Reranking ranks better against the engine's own order")
    assert len(page.css("table")) == len(page.css("table > caption"))
    assert len(page.css("figure svg")) == 3
    assert all(svg.attributes["aria-label"] for svg in page.css("figure svg"))
    ids = [node.attributes["id"] for node in page.css("[id]")]
    assert len(ids) == len(set(ids))
    assert not page.css("script, link, img")
    assert "Right, and supported by the text" in page.text()
    assert "No quote, or one that is not in the text" in page.text()
    values = list(records.read(out / "queries.jsonl", QueryValues))
    assert len(values) == 8
    mean = sum(value.values[System.ALL][PRIMARY] for value in values) / 8
    assert mean == pytest.approx(metrics.means[System.ALL][PRIMARY])
    assert "all three against engine (BM25)" in as_text(metrics)

    # Nothing is searched or judged again for other weights, nor for fewer queries; and nothing of ours stays behind
    asked, judge.down = judge.answered, True
    assert indices(url) == []
    again = evaluate_collections(
        [folder],
        out,
        msgspec.structs.replace(PLAN, weights=FusionWeights(1.0, 0.0, 0.0), queries=4),
        settings,
        model_url=judge.url,
        engine_url="http://127.0.0.1:9",
        cache=cache,
    )
    assert judge.answered == asked
    assert again.means[System.ALL] == again.means[System.ENGINE]
    assert again.models[Role.CANDIDATE].pairs_per_s is None

    # Chosen on a collection of its own
    judge.down = False
    other = written(tmp_path / "other", "Which index names {topic}?")
    chosen = evaluate(PLAN, validation=(other,))
    assert chosen.choice is not None
    assert chosen.choice.value == max(point.value for point in chosen.choice.surface)
    assert chosen.choice.weights == chosen.weights[System.ALL]
    assert chosen.weights[System.LM_ENGINE].similarity == 0.0
    page = LexborHTMLParser((out / "report.html").read_text())
    assert len(page.css("figure svg")) == 4
    assert "8 validation queries (other)" in page.text()


def test_weights_are_not_chosen_on_what_is_reported(folder: Path, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="topics is reported on: weights must be chosen on other data"):
        evaluate_collections(
            [folder], tmp_path / "out", PLAN, settings, validation=(folder,), model_url="http://127.0.0.1:9/v1"
        )


def test_excluded_documents_are_never_candidates(
    folder: Path, judge: ScriptedJudge, settings: Settings, tmp_path: Path
) -> None:
    evaluate_collections(
        [folder], tmp_path / "out", PLAN, settings, model_url=judge.url, engine_url=settings.engine_url, cache=tmp_path
    )
    names = [document for query, document in judge.asked if query.startswith("Is there an index of how glaciers")]
    assert any("grow slowly" in document for document in names)
    assert not any("index of names" in document and "glaciers" in document for document in names)
    others = [document for query, document in judge.asked if query.startswith("Is there an index of how volcanoes")]
    assert any("index of names" in document for document in others)


def test_a_killed_evaluation_goes_on_and_asks_nothing_twice(
    folder: Path, judge: ScriptedJudge, settings: Settings, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "training.evaluate", str(folder), "--out", str(tmp_path / "out")),
        *("--model-url", judge.url, "--engine-url", settings.engine_url, "--cache", str(tmp_path / "cache")),
        *("--depth", "5", "--consistency", "0"),
    ]
    variables = {**os.environ, "WHYRANK_MODEL_MANIFEST": str(settings.model_manifest)}
    first = subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.DEVNULL)

    def kill() -> None:
        if judge.answered == 10 and first.poll() is None:
            first.kill()
            first.wait()

    judge.on_request = kill
    assert first.wait(120) == -9
    assert not (tmp_path / "out" / "metrics.json").exists()
    (kept,) = (tmp_path / "cache" / "judgements").glob("*.jsonl")
    # A killed process may leave half a line
    with kept.open("ab") as file:
        file.write(b'{"mode":"reason","que')
    answered = kept.read_bytes().count(b"\n")
    before = judge.asked.copy()
    second = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    assert "| engine (BM25) |" in second.stdout
    metrics = load(tmp_path / "out" / "metrics.json")
    assert (judge.asked - before).total() == metrics.collections[0].pairs - answered


def test_a_server_that_stays_away_loses_nothing(
    folder: Path, judge: ScriptedJudge, settings: Settings, tmp_path: Path
) -> None:
    plan = msgspec.structs.replace(PLAN, patience_s=0.5)

    def go_down() -> None:
        judge.down = judge.answered >= 12

    judge.on_request = go_down
    arguments = {"model_url": judge.url, "engine_url": settings.engine_url, "cache": tmp_path / "cache"}
    with pytest.raises(StageError, match="what was judged is kept"):
        evaluate_collections([folder], tmp_path / "out", plan, settings, **arguments)
    judge.on_request, judge.down = lambda: None, False
    metrics = evaluate_collections([folder], tmp_path / "out", plan, settings, **arguments)
    assert metrics.collections[0].queries == 8
    assert set(judge.asked.values()) <= {1, 2}  # mode reason and mode label
    by_mode = [(request["messages"][0]["content"], request["messages"][1]["content"]) for request in judge.requests]
    assert len(by_mode) == len(set(by_mode))


def group(number: int, split: Split, source: Source = Source.ANCHOR, query: str | None = None) -> Group:
    topic = TOPICS[number]
    texts = [(f"{topic.title()}\n{saying.format(topic=topic)}") for saying in reversed(SAYINGS)]
    passages = [
        GroupPassage(f"p{number}-{place}", text, PassageRole.HARD if place < 2 else PassageRole.POSITIVE, 9.0 - place)
        for place, text in enumerate(texts)
    ]
    passages.append(GroupPassage(f"p{number}-x", "Something else altogether.", PassageRole.RANDOM))
    id = f"{split.value}-{source.value}-{number}"
    asked = query or f"Is there an index of how {topic} grow?"
    return Group(id, asked, source, f"origin-{number}", "site", split, tuple(passages))


def test_the_stage_compares_the_runs_adapter_with_the_current_model_on_held_out_groups(
    judge: ScriptedJudge, settings: Settings, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    groups = [group(number, Split.TEST) for number in range(4)]
    groups += [group(number, Split.VALIDATION) for number in range(4, 8)]
    groups.append(group(0, Split.TEST, Source.SYNTHETIC, "growth of glaciers"))
    records.write(folder.folder(Stage.MINE) / "groups.jsonl", groups)
    adapter = folder.folder(Stage.DISTILL) / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    config = EvaluateConfig(
        model_url=judge.url, current_url=judge.url, cache=str(tmp_path / "cache"), modes=(Mode.REASON,)
    )
    recipe = Recipe(name="test", base="a-base", constraint="label")
    report = run(folder, config, settings, recipe, silent)
    assert folder.report(Stage.EVALUATE) == report
    assert set(report.outputs) == {"metrics.json", "report.html", "queries.jsonl"}
    metrics = load(folder.path / "evaluate" / "metrics.json")
    (held_out,) = metrics.collections
    assert (held_out.name, held_out.queries, held_out.pairs) == ("held-out", 4, 12)
    assert metrics.choice is not None
    assert (metrics.choice.collections, metrics.choice.queries) == (("validation",), 4)
    by_current = metrics.comparison(System.LM, System.CURRENT_LM)
    assert by_current is not None
    assert (by_current.difference, by_current.low, by_current.high, by_current.p) == (0.0, 0.0, 0.0, 1.0)
    assert metrics.models[Role.CANDIDATE].revision != metrics.models[Role.CURRENT].revision
    assert metrics.models[Role.CURRENT].name == "scripted"
    assert not any("Something else" in document for _, document in judge.asked)
    candidate = metrics.models[Role.CANDIDATE].explanations[Mode.REASON]
    assert candidate.consistency is not None
    assert "synthetic 1" in candidate.consistency.by_paraphrase
    assert metrics.lm_adds in set(Answer)
    assert report.figures["language model adds"] == metrics.lm_adds.value


def test_a_run_without_an_adapter_says_what_to_do(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="run the stage distill first"):
        run(RunFolder(tmp_path), EvaluateConfig(), settings, Recipe(name="test", base="embedded"), silent)


def test_a_folder_that_is_no_collection_is_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="is no collection"):
        evaluate_collections([tmp_path], tmp_path, PLAN, settings)


def test_without_a_model_engine_and_bi_encoder_are_compared(folder: Path, settings: Settings, tmp_path: Path) -> None:
    plan = Plan(depth=5, modes=(), weights=FusionWeights(0.5, 0.0, 0.5), consistency_pairs=0)
    out, url = tmp_path / "out", settings.engine_url
    metrics = evaluate_collections([folder], out, plan, settings, engine_url=url, cache=tmp_path / "cache")
    assert set(metrics.means) == {System.ENGINE, System.ENCODER, System.ENCODER_ENGINE}
    assert not metrics.models[Role.CANDIDATE].explanations
    assert as_text(metrics).startswith("The bi-encoder ")
    assert "was not measured" in LexborHTMLParser((out / "report.html").read_text()).text()
