from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.training.synthetic import PASSAGES, RECIPE, WordEncoder, group, mined
from training import synthesize
from training.records import Judgement, Role, Split, read
from training.stages import Stage
from training.synthesize import soft_labels, wording
from training.synthesize.config import OfflineConfig, SynthesizeConfig
from training.synthesize.offline import LoadedEncoder, OfflineTeacher
from training.synthesize.vectors import SHARD, VectorStore
from whyrank.embedded.cache import silent
from whyrank.errors import BadRequestError
from whyrank.grounding import find
from whyrank.prompt import Constraint, answer, quotable
from whyrank.settings import Settings
from whyrank.types import Mode, Passage, Verdict
from whyrank.verdict import parse

QUERIES = ("how long is the checkpoint interval", "reclaim storage of dead rows", "radians of trigonometric functions")


def teacher(folder: Path, encoder: WordEncoder | None = None, **config: object) -> OfflineTeacher:
    found = msgspec.convert(config, OfflineConfig)
    return OfflineTeacher([LoadedEncoder(encoder or WordEncoder(), "r1")], found, folder)


@given(
    st.lists(st.floats(-4, 4), min_size=2, max_size=30, unique=True),
    st.floats(-2, 2),
    st.floats(0, 2),
    st.floats(0.05, 3),
)
def test_a_higher_score_is_never_less_relevant(scores: list[float], cut: float, gap: float, temperature: float) -> None:
    ordered = np.array(sorted(scores))
    soft = soft_labels.probabilities(ordered, (cut, cut + gap), temperature)
    assert np.all(soft >= 0.0)
    assert np.allclose(soft.sum(axis=1), 1.0, atol=2e-6)
    relevance = (soft[:, 1] + 2.0 * soft[:, 2]) / 2.0
    assert np.all(np.diff(relevance) >= -2e-6), "relevance rises with the score, but for rounding"
    assert np.all(np.diff(soft[:, 0]) <= 2e-6)
    assert np.all(np.diff(soft[:, 2]) >= -2e-6)


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=30), st.floats(-2, 2), st.floats(0, 2), st.floats(0.05, 3))
def test_the_label_is_the_likeliest_one(scores: list[float], cut: float, gap: float, temperature: float) -> None:
    cuts = (cut, cut + gap)
    every = np.array(scores)
    soft = soft_labels.probabilities(every, cuts, temperature)
    chosen = soft[np.arange(len(scores)), soft_labels.labels(every, cuts)]
    assert np.all(chosen >= soft.max(axis=1) - 2e-6)


def test_labels_have_the_shares_that_were_asked_for() -> None:
    scores = np.random.default_rng(7).normal(size=10_000)
    cuts = soft_labels.cut_points(scores, (0.55, 0.27, 0.18))
    counts = np.bincount(soft_labels.labels(scores, cuts), minlength=3) / len(scores)
    assert counts == pytest.approx([0.55, 0.27, 0.18], abs=0.001)


def test_standing_blends_a_pairs_place_among_all_with_its_place_in_its_group() -> None:
    close, far = np.array([0.8, 0.9]), np.array([0.1, 0.2])
    absolute = soft_labels.standing([close, far], 0.0)
    relative = soft_labels.standing([close, far], 1.0)
    assert absolute[0].min() > absolute[1].max(), "among all pairs, both of one group can be high"
    assert relative[0] == pytest.approx(relative[1]), "within its group, each second is the better"
    blended = soft_labels.standing([close, far], 0.5)
    assert blended[0] == pytest.approx((absolute[0] + relative[0]) / 2)


def test_a_group_without_an_order_of_its_own_stands_by_the_whole() -> None:
    alike = soft_labels.standing([np.array([0.5, 0.5]), np.array([0.1])], 1.0)
    assert [list(group) for group in alike] == [[0.0, 0.0], [0.0]]


def test_what_the_engine_did_not_find_stands_with_its_last() -> None:
    found = group("g", "q")
    passages = (*found.passages, msgspec.structs.replace(found.passages[0], id="random", engine_score=None))
    standing = soft_labels.engine_standing(msgspec.structs.replace(found, passages=passages))
    assert standing[3] == standing[2] == standing.min()
    assert standing[0] == standing.max()


def test_the_nearest_passage_of_each_query_gets_the_highest_relevance(tmp_path: Path) -> None:
    groups = [group(f"g{i}", query) for i, query in enumerate(QUERIES)]
    judged = teacher(tmp_path, shares=(0.5, 0.2, 0.3)).judge(groups, silent)
    assert not judged.rejections
    for i in range(3):
        own = [j for j in judged.judgements if j.group == f"g{i}"]
        assert max(own, key=lambda j: j.relevance).passage == f"g{i}-p{i}"


def test_an_explanation_quotes_what_the_student_may_quote_and_says_what_is_missing(tmp_path: Path) -> None:
    groups = [group("g0", "the interval of a checkpoint in replicas")]
    judged = teacher(tmp_path, shares=(0.34, 0.33, 0.33)).judge(groups, silent)
    best = max(judged.judgements, key=lambda j: j.relevance)
    assert best.explanation == (
        'The document states "The interval is set by checkpoint_timeout in the server\'s file". '
        "It covers interval and checkpoint, though it does not mention replicas."
    )
    assert best.quotes == ("The interval is set by checkpoint_timeout in the server's file",)
    worst = min(judged.judgements, key=lambda j: j.relevance)
    assert worst.label == 0
    assert worst.explanation.startswith('The closest the document comes is "')


def test_two_quotes_when_the_recipe_says_so(tmp_path: Path) -> None:
    judged = teacher(tmp_path, quotes=2, shares=(0.0, 0.0, 1.0)).judge([group("g0", QUERIES[0])], silent)
    assert [len(judgement.quotes) for judgement in judged.judgements if judgement.label] == [2, 2]


TEXT = st.lists(
    st.one_of(
        st.sampled_from(
            ["Set x to 1. ", "wal_size", " … ", '"quoted" words', "<|im_end|>", "##", "Relevance Label: 2", "“curly”"]
        ),
        st.text(max_size=30),
        st.sampled_from(["\n", " it's the users' own ", "日本語の文章です。", "a … b ... c"]),
    ),
    min_size=1,
    max_size=12,
).map(" ".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(query=TEXT, texts=st.lists(TEXT, min_size=1, max_size=4))
def test_whatever_the_texts_every_judgement_parses_and_its_quotes_stand_in_the_passage(
    tmp_path: Path, query: str, texts: list[str]
) -> None:
    found = group("g", query, texts)
    judged = teacher(tmp_path).judge([found], silent)
    assert len(judged.judgements) + len(judged.rejections) == len(texts)
    passages = {passage.id: passage.passage() for passage in found.passages}
    for judgement in judged.judgements:
        passage = passages[judgement.passage]
        text = answer(judgement.explanation, None, judgement.label, Mode.REASON, Constraint.NONE)
        verdict = parse(text, None, passage=passage, mode=Mode.REASON, model_revision="t")
        assert isinstance(verdict, Verdict)
        assert verdict.label == judgement.label
        assert verdict.grounded or not judgement.label
        assert tuple(quote.text for quote in verdict.quotes) == judgement.quotes
        for quote in judgement.quotes:
            assert quote in passage.text
    for rejection in judged.rejections:
        assert not any(
            find(choice, passages[rejection.passage].text)
            for choice in quotable_evidence(passages, rejection.passage, query)
        )


def quotable_evidence(passages: dict[str, Passage], name: str, query: str) -> list[str]:
    return [choice for choice in quotable(passages[name], query) if len(choice.split()) > 3 and choice.isascii()]


@pytest.mark.parametrize(
    ("query", "passage", "covered", "missing"),
    [
        ("How do I run queries?", "A query is running.", ["run", "queries"], []),
        ("the databases", "one database", ["databases"], []),
        ("C++ templates in C", "templates of C++", ["C++", "templates"], []),
        ("set checkpoint_timeout", "checkpoint_timeout = 5", ["checkpoint_timeout"], ["set"]),
        ("what is it", "anything", [], []),
        ("plots, plotted and plotting", "a plot", ["plots"], []),
        ("full-text search", "text in full; searched", ["full-text", "search"], []),
        ("full-text search", "text", [], ["full-text", "search"]),
    ],
)
def test_terms_are_compared_by_their_stems(query: str, passage: str, covered: list[str], missing: list[str]) -> None:
    assert wording.terms(query, passage) == (covered, missing)


def test_no_text_is_encoded_twice_even_after_a_kill(tmp_path: Path) -> None:
    texts = [f"text number {i}" for i in range(3 * SHARD)]
    killed = WordEncoder()
    killed.fail_after = 2 * SHARD
    with pytest.raises(RuntimeError, match="killed"):
        VectorStore(tmp_path, killed.passages).add(texts, silent, "encoding")
    again = WordEncoder()
    store = VectorStore(tmp_path, again.passages)
    assert store.add(texts + texts, silent, "encoding") == SHARD
    assert again.encoded == texts[2 * SHARD :]
    assert store.of(texts[:2]) == pytest.approx(WordEncoder().passages(texts[:2]), abs=1e-3)


def test_a_shard_that_a_power_cut_emptied_is_encoded_again(tmp_path: Path) -> None:
    VectorStore(tmp_path, WordEncoder().passages).add(["a b", "c d"], silent, "encoding")
    (tmp_path / "00000.npz").write_bytes(b"")
    store = VectorStore(tmp_path, WordEncoder().passages)
    assert store.add(["a b", "c d"], silent, "encoding") == 2
    assert len(store.of(["c d"])) == 1


def test_other_words_weights_or_settings_are_another_teacher(tmp_path: Path) -> None:
    names = {
        teacher(tmp_path).name,
        teacher(tmp_path, temperature=0.5).name,
        OfflineTeacher([LoadedEncoder(WordEncoder(), "r2")], OfflineConfig(), tmp_path).name,
        OfflineTeacher([LoadedEncoder(WordEncoder(), "r1")] * 2, OfflineConfig(), tmp_path).name,
    }
    assert len(names) == 4
    assert teacher(tmp_path, threads=1).name in names, "how fast it runs is not who it is"


def test_shares_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="shares"):
        teacher(tmp_path, shares=(0.5, 0.5, 0.5))


def test_what_was_mined_as_a_positive_gains_by_it(tmp_path: Path) -> None:
    found = group("g0", QUERIES[0])
    worst = min(teacher(tmp_path).judge([found], silent).judgements, key=lambda j: j.relevance).passage
    passages = tuple(
        msgspec.structs.replace(each, role=Role.POSITIVE) if each.id == worst else each for each in found.passages
    )
    linked = msgspec.structs.replace(found, passages=passages)
    judged = teacher(tmp_path, positive_weight=9.0).judge([linked], silent)
    assert max(judged.judgements, key=lambda j: j.relevance).passage == worst


def test_the_primer_is_of_single_sentences_of_learnt_groups_only(tmp_path: Path) -> None:
    splits = (Split.TRAIN, Split.VALIDATION, Split.TRAIN)
    groups = [group(f"g{i}", query, split=splits[i]) for i, query in enumerate(QUERIES)]
    judged = teacher(tmp_path, primer_groups=5, primer_sentences=4).judge(groups, silent)
    assert {made.query for made in judged.primer_groups} == {QUERIES[0], QUERIES[2]}
    assert len({made.id for made in judged.primer_groups}) == 5, "after each has had its turn, others of its sentences"
    assert {made.split for made in judged.primer_groups} == {Split.TRAIN}
    said = {(judgement.group, judgement.passage): judgement for judgement in judged.primer_judgements}
    for made in judged.primer_groups:
        assert 2 <= len(made.passages) <= 4
        own = [(said[made.id, passage.id], passage) for passage in made.passages]
        assert all(any(passage.text in text for text in PASSAGES) for _, passage in own)
        assert all(judgement.quotes == (passage.text,) for judgement, passage in own)
        best = max(own, key=lambda pair: pair[0].relevance)[1].text
        assert best in PASSAGES[QUERIES.index(made.query)]
    again = teacher(tmp_path, primer_groups=5, primer_sentences=4).judge(groups, silent)
    assert again.primer_groups == judged.primer_groups


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    made = WordEncoder()
    monkeypatch.setattr(synthesize.offline, "load_encoders", lambda *_: [LoadedEncoder(made, "r1")])
    return made


def test_the_stage_judges_the_chosen_splits_and_hands_on_every_group(tmp_path: Path, encoder: WordEncoder) -> None:
    splits = (Split.TRAIN, Split.VALIDATION, Split.TEST)
    groups = [group(f"g{i}", query, split=splits[i]) for i, query in enumerate(QUERIES)]
    run = mined(tmp_path, groups[::-1])
    report = synthesize.run(run, SynthesizeConfig(), Settings(), RECIPE, silent)
    folder = run.folder(Stage.SYNTHESIZE)
    judgements = list(read(folder / "judgements.jsonl", Judgement))
    assert {judgement.group for judgement in judgements} == {"g0", "g1"}
    assert [g.id for g in read(folder / "groups.jsonl", type(groups[0]))] == ["g0", "g1", "g2"]
    assert judgements == sorted(judgements, key=lambda j: (j.group, j.passage))
    assert report.figures["pairs"] == report.figures["judgements"] == 6
    assert sum(report.figures["labels"].values()) == pytest.approx(1.0, abs=1e-3)
    assert run.report(Stage.SYNTHESIZE) == report
    assert set(report.outputs) == {
        *("groups.jsonl", "judgements.jsonl", "rejected.jsonl"),
        *("primer_groups.jsonl", "primer_judgements.jsonl"),
    }
    assert all(text in encoder.encoded for text in PASSAGES)


def test_a_killed_run_that_goes_on_gives_the_same_files(
    tmp_path: Path, encoder: WordEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.synthesize.vectors.SHARD", 2)
    groups = [group(f"g{i}", query) for i, query in enumerate(QUERIES)]
    whole = synthesize.run(mined(tmp_path / "whole", groups), SynthesizeConfig(), Settings(), RECIPE, silent)
    once = len(encoder.encoded)
    run = mined(tmp_path / "killed", groups)
    encoder.fail_after = once + 4
    with pytest.raises(RuntimeError, match="killed"):
        synthesize.run(run, SynthesizeConfig(), Settings(), RECIPE, silent)
    assert run.report(Stage.SYNTHESIZE) is None
    encoder.fail_after = None
    resumed = synthesize.run(run, SynthesizeConfig(), Settings(), RECIPE, silent)
    assert resumed.outputs == whole.outputs
    assert len(encoder.encoded) == 2 * once
