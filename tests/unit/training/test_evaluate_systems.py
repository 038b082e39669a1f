"""Orders, their measures and the choice of weights, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.evaluate.evaluation import compare
from training.evaluate.explanations import Judged
from training.evaluate.first_stage import Asked, Hit, Sample
from training.evaluate.judging import Pair, PairKey
from training.evaluate.metrics import PRIMARY, Role, System
from training.evaluate.report import examples
from training.evaluate.systems import Scorer, available, ceiling, evaluate, orders, ranked_hits, single_weights
from training.evaluate.weights import choose_weights, of_two, simplex
from whyrank.types import FailureKind, FusionWeights, Mode, Passage, Quote, Verdict, VerdictFailure


def verdict(relevance: float, label: int = 1) -> Verdict:
    return Verdict(label, (0.0, 1.0, 0.0), relevance, "e", (Quote("q", 0, 1),), True, Mode.REASON, "r")


def asked(id: str, *scores: float) -> Asked:
    hits = tuple(Hit(f"{id}{place}", score, Passage(f"text {id}{place}")) for place, score in enumerate(scores))
    return Asked(id, f"query {id}", hits)


def keys(query: Asked) -> list[PairKey]:
    return [Pair(query.text, hit.passage).key for hit in query.hits]


QUERY = asked("a", 3.0, 2.0, 1.0)
EVEN = FusionWeights(1 / 3, 1 / 3, 1 / 3)
SAMPLE = Sample("s", 9, (QUERY, asked("b", 5.0)), {"a": {"a2": 2, "a1": 1, "missed": 1}, "b": {"b9": 1}})
OUTCOMES = dict(zip(keys(QUERY), [verdict(0.1), verdict(0.4), verdict(0.9)], strict=True))
SIMILARITIES = dict(zip([*keys(QUERY), *keys(SAMPLE.queries[1])], [0.2, 0.8, 0.5, 0.3], strict=True))


def test_measures_by_hand() -> None:
    values = Scorer(SAMPLE).score({"a": ["a0", "a1", "a2"], "b": ["b0"]})
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert values["nDCG@10"] == pytest.approx([(1 / math.log2(3) + 2 / math.log2(4)) / ideal, 0.0])
    assert values["RR@10"] == pytest.approx([1 / 2, 0.0])
    assert values["AP"] == pytest.approx([(1 / 2 + 2 / 3) / 3, 0.0])
    assert values["R@10"] == pytest.approx([2 / 3, 0.0])


def test_a_query_without_candidates_counts_as_zero() -> None:
    assert Scorer(SAMPLE).score({})[PRIMARY] == pytest.approx([0.0, 0.0])


def test_the_ceiling_is_the_best_order_of_the_candidates() -> None:
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ceiling(SAMPLE) == pytest.approx((2 + 1 / math.log2(3)) / ideal / 2)


def test_orders_of_single_signals() -> None:
    weights = single_weights()

    def order(system: System, said: dict[PairKey, Verdict | VerdictFailure] | None) -> list[str]:
        return orders(SAMPLE, weights[system], said, SIMILARITIES)["a"]

    assert order(System.ENGINE, None) == ["a0", "a1", "a2"]
    assert order(System.ENCODER, None) == ["a1", "a2", "a0"]
    assert order(System.LM, {**OUTCOMES}) == ["a2", "a1", "a0"]
    # What the model could not judge keeps its place, as in a search
    failed = {**OUTCOMES, keys(QUERY)[1]: VerdictFailure(FailureKind.EMPTY)}
    assert order(System.LM, failed) == ["a2", "a1", "a0"]
    failed = {**OUTCOMES, keys(QUERY)[2]: VerdictFailure(FailureKind.EMPTY)}
    assert order(System.LM, failed) == ["a1", "a0", "a2"]
    assert ranked_hits(QUERY, failed, SIMILARITIES)[2].failure == VerdictFailure(FailureKind.EMPTY)


def test_only_systems_that_were_judged_are_compared() -> None:
    assert System.LM not in available({})
    outcomes = {(Role.CANDIDATE, Mode.REASON): OUTCOMES}
    assert set(available(outcomes)) == {
        *(System.ENGINE, System.ENCODER, System.ENCODER_ENGINE),
        *(System.LM, System.LM_ENGINE, System.ALL),
    }
    weights = {**single_weights(), System.ALL: FusionWeights(1, 1, 1)}
    values = evaluate(SAMPLE, {s: weights[s] for s in (System.ENGINE, System.LM)}, outcomes, SIMILARITIES)
    (comparison,) = compare([values])
    assert (comparison.system, comparison.baseline, comparison.queries) == (System.LM, System.ENGINE, 2)
    assert comparison.p == comparison.p_corrected
    assert comparison.difference == pytest.approx(np.mean(values[System.LM][PRIMARY] - values[System.ENGINE][PRIMARY]))


def test_the_simplex_sums_to_one() -> None:
    grid = simplex(4)
    assert len(grid) == 15
    assert all(w.engine + w.relevance + w.similarity == pytest.approx(1.0) for w in grid)
    assert len(set(grid)) == 15


def test_weights_are_chosen_where_the_measure_is_highest() -> None:
    # The language model is right about the first query, the bi-encoder about the second, the engine about neither
    one, two = asked("x", 3.0, 2.9, 0.0), asked("y", 3.0, 2.9, 0.0)
    sample = Sample("s", 6, (one, two), {"x": {"x1": 1}, "y": {"y1": 1}})
    said = dict(zip(keys(one), [verdict(0.1), verdict(0.9), verdict(0.1)], strict=True))
    said |= dict(zip(keys(two), [verdict(0.5), verdict(0.5), verdict(0.5)], strict=True))
    near = dict(zip([*keys(one), *keys(two)], [0.5, 0.5, 0.5, 0.1, 0.9, 0.2], strict=True))
    choice = choose_weights([sample], said, near, EVEN, steps=4)
    assert choice.value == 1.0
    assert choice.weights.relevance > 0
    assert choice.weights.similarity > 0
    assert (choice.queries, choice.collections, len(choice.surface)) == (2, ("s",), 15)
    pairs = of_two(choice.weights, choice)
    assert pairs[System.LM_ENGINE].similarity == 0.0
    assert pairs[System.ENCODER_ENGINE].relevance == 0.0


def test_each_collection_weighs_the_same_in_the_choice() -> None:
    # Five queries that the engine has right, and one, in a collection of its own, that only the model has right:
    # in one heap the five would have it, as collections they are even, and some weights serve both
    many = tuple(asked(f"m{n}", 3.0, 1.0) for n in range(5))
    few = asked("f", 3.0, 1.0)
    first = Sample("many", 10, many, {query.id: {f"{query.id}0": 1} for query in many})
    second = Sample("few", 2, (few,), {"f": {"f1": 1}})
    said = {key: verdict(0.2) for query in many for key in keys(query)[:1]}
    said |= {key: verdict(0.9) for query in many for key in keys(query)[1:]}
    said |= dict(zip(keys(few), [verdict(0.0), verdict(1.0)], strict=True))
    choice = choose_weights([first, second], said, {}, EVEN, steps=2)
    by_weights = {(p.weights.engine, p.weights.relevance): p.value for p in choice.surface}
    low = 1 / math.log2(3)
    assert by_weights[1.0, 0.0] == pytest.approx((1 + low) / 2)
    assert by_weights[0.0, 1.0] == pytest.approx((low + 1) / 2)


def test_of_a_plateau_the_weights_nearest_to_those_that_serve_are_chosen() -> None:
    sample = Sample("s", 2, (asked("x", 3.0, 1.0),), {"x": {"x0": 1}})
    said = {key: verdict(0.5) for key in keys(sample.queries[0])}
    # Everything ties or is right: all weights are as good
    for before in (FusionWeights(1, 0, 0), FusionWeights(0, 0, 1), FusionWeights(1 / 3, 1 / 3, 1 / 3)):
        assert choose_weights([sample], said, {}, before, steps=3).weights == before
    assert choose_weights([sample], said, {}, FusionWeights(0, 5, 0), steps=3).weights == FusionWeights(0, 1, 0)


@pytest.mark.parametrize(("wins", "leaves"), [(1, False), (6, True)])
def test_weights_that_serve_are_left_for_evidence_only(wins: int, leaves: bool) -> None:
    """Of eight queries, one that the model has right and the engine wrong is within one standard error; six are not."""
    queries = tuple(asked(f"q{n}", 3.0, 1.0) for n in range(8))
    sample = Sample("s", 16, queries, {query.id: {f"{query.id}1": 1} for query in queries})
    said = {}
    for n, query in enumerate(queries):
        right = n < wins
        said |= dict(zip(keys(query), [verdict(0.1 if right else 0.9), verdict(0.9 if right else 0.1)], strict=True))
    choice = choose_weights([sample], said, {}, FusionWeights(1, 0, 0), steps=4)
    assert choice.best is not None
    assert (choice.weights == FusionWeights(1, 0, 0)) is not leaves
    assert (choice.value < choice.best) is not leaves
    assert choice.of_two[System.LM_ENGINE].similarity == 0.0
    assert choice.of_two[System.ENCODER_ENGINE].relevance == 0.0


def test_given_weights_without_one_signal() -> None:
    found = of_two(FusionWeights(engine=0.2, relevance=0.3, similarity=0.5), None)
    assert found[System.LM_ENGINE] == FusionWeights(0.2, 0.3, 0.0)
    assert found[System.ENCODER_ENGINE] == FusionWeights(0.2, 0.0, 0.5)
    assert of_two(FusionWeights(0.0, 1.0, 0.0), None)[System.ENCODER_ENGINE] == FusionWeights(0.5, 0.0, 0.5)


def test_examples_of_each_kind_and_of_different_queries() -> None:
    ungrounded = Verdict(2, (0, 0, 1), 1.0, "made up", (Quote("x"),), False, Mode.REASON, "r")

    def judged(query: str, outcome: Verdict | VerdictFailure, reference: int) -> Judged:
        return Judged("c", query, query, "d", Passage("p" * 900), outcome, reference)

    pairs = [
        judged("1", verdict(1.0, 2), 2),
        judged("1", verdict(1.0, 2), 2),
        judged("2", verdict(0.0, 0), 0),  # right, but it shows nothing
        judged("3", verdict(1.0, 2), 0),
        judged("4", verdict(1.0, 2), 1),  # nearly
        judged("5", ungrounded, 2),
        judged("6", VerdictFailure(FailureKind.EMPTY), 2),
    ]
    found = examples(pairs)
    assert [(example.kind, example.query) for example in found] == [("good", "1"), ("ungrounded", "5"), ("wrong", "3")]
    assert len(found[0].passage) == 601
