from __future__ import annotations

import math
import struct
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from whyrank.ranking import fuse, scores_for_callers
from whyrank.types import FusionWeights, Mode, RankedHit, Verdict

RELEVANCE_ONLY = FusionWeights()


Signals = tuple[float | None, ...]
"""Engine score, relevance (None: no verdict) and similarity (may be left out)."""


def judged(relevance: float, similarity: float | None = None) -> Verdict:
    return Verdict(1, (0.0, 1.0, 0.0), relevance, "", (), False, Mode.LABEL, "r", similarity=similarity)


def hits(*given: Signals) -> list[RankedHit]:
    """Hits with these signals, in engine order; their ids are their positions."""
    return [
        RankedHit(
            str(i), "index", i, engine_score=score, verdict=None if relevance is None else judged(relevance, *more)
        )
        for i, (score, relevance, *more) in enumerate(given)
    ]


def ids(ranked: tuple[RankedHit, ...]) -> str:
    return "".join(hit.id for hit in ranked)


def test_relevance_orders_and_the_engine_breaks_ties() -> None:
    assert ids(fuse(hits((4, 0.1), (3, 0.5), (2, 0.9), (1, 0.5)), RELEVANCE_ONLY)) == "2130"


def test_a_hit_without_a_verdict_keeps_its_place() -> None:
    ranked = fuse(hits((5, 0.1), (4, None), (3, 0.2), (2, None), (1, 0.3)), RELEVANCE_ONLY)
    assert ids(ranked) == "41230"
    assert [hit.score for hit in ranked] == [0.3, None, 0.2, None, 0.1]


def test_engine_scores_are_normalised_over_the_window() -> None:
    ranked = fuse(hits((30, 0.0), (20, 0.8), (10, 1.0)), FusionWeights(engine=1, relevance=1))
    assert [(hit.id, hit.score) for hit in ranked] == [("1", 0.65), ("0", 0.5), ("2", 0.5)]


def test_unjudged_hits_count_in_the_normalisation() -> None:
    ranked = fuse(hits((30, None), (20, 0.0), (10, 0.0)), FusionWeights(engine=1, relevance=0))
    assert [hit.score for hit in ranked] == [None, 0.5, 0.0]


@pytest.mark.parametrize(
    "scores", [(None, None, None), (3, None, 1), (2, 2, 2), (5e-324, 0, 0), (math.nan, 1, 0), (math.inf, 1, 0)]
)
def test_engine_scores_that_say_nothing_give_way_to_the_position(scores: tuple[float | None, ...]) -> None:
    ranked = fuse(hits(*((score, 0.0) for score in scores)), FusionWeights(engine=1, relevance=1))
    assert [hit.score for hit in ranked] == pytest.approx([1 / 2, 1 / 4, 1 / 6])


@pytest.mark.parametrize("weights", [(0, 0), (-1, 0), (math.nan, math.inf), (-5, 3)])
def test_weights_that_say_nothing_mean_relevance_alone(weights: tuple[float, float]) -> None:
    assert ids(fuse(hits((9, 0.1), (1, 0.9)), FusionWeights(*weights))) == "10"


def test_similarities_are_normalised_over_the_judged() -> None:
    given = hits((3, 0.0, 0.6), (9, None), (2, 0.4, 0.7), (1, 0.0, 0.8))
    ranked = fuse(given, FusionWeights(engine=0, relevance=1, similarity=1))
    assert [(hit.id, hit.score) for hit in ranked] == [
        ("3", pytest.approx(0.5)),
        ("1", None),
        ("2", pytest.approx(0.45)),
        ("0", 0.0),
    ]


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf, -math.inf])
def test_one_unknown_similarity_leaves_the_signal_out_of_the_window(unknown: float | None) -> None:
    weights = FusionWeights(engine=1, relevance=2, similarity=7)
    given = hits((3, 0.2, 0.9), (2, 0.9, unknown), (1, 0.5, 0.1))
    assert fuse(given, weights) == fuse(given, FusionWeights(engine=1, relevance=2))


@pytest.mark.parametrize("similarities", [(0.5,), (0.7, 0.7, 0.7), (5e-324, 0.0)])
def test_similarities_that_part_nothing_are_left_out(similarities: tuple[float, ...]) -> None:
    given = hits(*((None, 0.5, similarity) for similarity in similarities))
    ranked = fuse(given, FusionWeights(engine=0, relevance=1, similarity=9))
    assert [hit.score for hit in ranked] == [0.5] * len(similarities)


def test_a_hit_without_a_verdict_does_not_count_as_unknown() -> None:
    ranked = fuse(hits((3, None), (2, 0.5, 0.1), (1, 0.5, 0.2)), FusionWeights(similarity=1))
    assert ids(ranked) == "021"


def test_similarity_alone_gives_way_to_relevance_where_it_is_unknown() -> None:
    weights = FusionWeights(engine=0, relevance=0, similarity=1)
    assert ids(fuse(hits((2, 0.9, 0.1), (1, 0.1, 0.2)), weights)) == "10"
    assert ids(fuse(hits((2, 0.1, None), (1, 0.9, 0.2)), weights)) == "10"


FLOATS = st.none() | st.floats()
HITS = st.lists(st.tuples(FLOATS, st.none() | st.floats(0, 1), FLOATS), max_size=12)
WEIGHTS = st.builds(FusionWeights, engine=st.floats(), relevance=st.floats(), similarity=st.floats())


@given(HITS, WEIGHTS)
def test_fusion_permutes_the_judged_among_their_places(signals: list[Signals], weights: FusionWeights) -> None:
    before = hits(*signals)
    after = fuse(before, weights)
    assert sorted(hit.id for hit in after) == sorted(hit.id for hit in before)
    assert fuse(before, weights) == after
    order = []
    for old, new in zip(before, after, strict=True):
        if old.verdict is None:
            assert new == old
        else:
            assert new.score is not None
            assert 0.0 <= new.score <= 1.0
            assert new.verdict is before[int(new.id)].verdict
            order.append((-new.score, new.engine_position))
    assert order == sorted(order)


SCORED = st.lists(
    st.tuples(st.floats(0, 50), st.floats(0, 1), st.integers(-100, 100).map(lambda n: n / 100)), max_size=12
)


@given(SCORED, st.integers(1, 1000), st.integers(-1000, 1000))
def test_the_scale_of_similarities_does_not_matter(signals: list[Signals], scale: int, shift: int) -> None:
    similarities = [similarity or 0.0 for _, _, similarity in signals]
    scaled = [
        (score, relevance, s * scale + shift) for (score, relevance, _), s in zip(signals, similarities, strict=True)
    ]
    weights = FusionWeights(engine=1, relevance=1, similarity=1)
    before = {hit.id: hit.score for hit in fuse(hits(*signals), weights)}
    assert {hit.id: hit.score for hit in fuse(hits(*scaled), weights)} == pytest.approx(before, abs=1e-6)


@given(SCORED, st.data())
def test_a_document_that_is_more_similar_never_falls(signals: list[Signals], data: st.DataObject) -> None:
    assume(signals)
    chosen = data.draw(st.integers(0, len(signals) - 1))
    score, relevance, similarity = signals[chosen]
    raised = data.draw(st.integers(round(100 * (similarity or 0.0)), 100)) / 100
    weights = FusionWeights(engine=1, relevance=1, similarity=1)
    after = [*signals[:chosen], (score, relevance, raised), *signals[chosen + 1 :]]
    places = [[hit.id for hit in fuse(hits(*given), weights)].index(str(chosen)) for given in (signals, after)]
    assert places[1] <= places[0]


@given(st.lists(st.floats() | st.none(), max_size=12))
def test_nothing_judged_is_the_engines_order(scores: list[float | None]) -> None:
    before = hits(*((score, None) for score in scores))
    assert fuse(before, FusionWeights(1, 1)) == tuple(before)


def as_float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


@given(HITS, WEIGHTS)
def test_callers_who_sort_by_score_get_the_same_order(signals: list[Signals], weights: FusionWeights) -> None:
    scores = scores_for_callers(fuse(hits(*signals), weights))
    assert len(scores) == len(signals)
    assert all(type(score) is float and 0.0 <= score <= 1.0 for score in scores)
    # Elasticsearch adds one to a score, and keeps 32 bits
    kept = [as_float32(1.0 + score) for score in scores]
    assert all(a > b for a, b in pairwise(kept))


def test_unjudged_hits_lie_between_their_neighbours() -> None:
    ranked = fuse(hits((5, None), (4, 0.8), (3, None), (2, 0.4), (1, None)), RELEVANCE_ONLY)
    assert scores_for_callers(ranked) == pytest.approx([0.9, 0.8, 0.6, 0.4, 0.2], abs=1e-5)


def test_scores_of_alike_hits_differ_a_little() -> None:
    scores = scores_for_callers(fuse(hits((3, 1.0), (2, 1.0), (1, 1.0), (0, 0.0), (0, 0.0)), RELEVANCE_ONLY))
    assert scores == pytest.approx([1, 1, 1, 0, 0], abs=1e-5)
    assert len(set(scores)) == 5


def test_ten_thousand_hits_have_falling_scores() -> None:
    scores = scores_for_callers(hits(*[(None, None)] * 10_000))
    assert all(a > b for a, b in pairwise(scores))
    assert 0.0 <= scores[-1] < scores[0] <= 1.0
