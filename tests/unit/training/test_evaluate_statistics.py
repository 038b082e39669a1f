from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluate.metrics import Answer
from training.evaluate.statistics import answer, compare, holm


def test_the_difference_is_the_mean_of_the_collections_means() -> None:
    ones, twos = [np.array([0.4, 0.6]), np.array([0.9] * 6)], [np.array([0.2, 0.2]), np.array([0.8] * 6)]
    # (0.3 + 0.1) / 2, although the second has three times the queries
    assert compare(ones, twos).mean == pytest.approx(0.2)


def test_the_randomisation_test_is_exact_where_it_can_be() -> None:
    # Of the 8 ways to set the signs of three differences, two are as extreme: all plus, all minus
    found = compare([np.array([0.1, 0.2, 0.3])], [np.zeros(3)])
    assert found.p == pytest.approx(2 / 8)
    # Mean 0.1; sums as extreme as 0.3: +++ (0.6), -++ (0.4), +-+ ... of -0.1, 0.2, 0.2 and their mirrors
    assert compare([np.array([-0.1, 0.2, 0.2])], [np.zeros(3)]).p == pytest.approx(4 / 8)


def test_each_collection_weighs_the_same_in_the_test() -> None:
    # Weights 1/4 and 1/4 beside 1/8 four times: the two queries of the first decide as much as the four of the second
    first, second = np.array([0.4, 0.4]), np.array([-0.1, -0.1, -0.1, -0.1])
    found = compare([first, second], [np.zeros(2), np.zeros(4)])
    assert found.mean == pytest.approx((0.4 - 0.1) / 2)
    by_hand = []
    for signs in np.ndindex(*[2] * 6):
        flipped = np.concatenate([first, second]) * np.where(np.array(signs) == 1, -1, 1)
        by_hand.append((flipped[:2].mean() + flipped[2:].mean()) / 2)
    share = np.mean(np.abs(by_hand) >= 0.15 - 1e-12)
    assert found.p == pytest.approx(share)


def test_the_interval_resamples_queries_within_their_collections() -> None:
    # One collection is always +0.5, the other always -0.1: mixing them would give the interval a width
    found = compare([np.full(10, 0.5), np.full(40, -0.1)], [np.zeros(10), np.zeros(40)])
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))


def test_the_interval_is_as_wide_as_theory_has_it() -> None:
    values = np.random.default_rng(1).normal(0.05, 0.2, 400)
    found = compare([values], [np.zeros(400)])
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)


def test_alike_is_no_difference_at_all() -> None:
    same = [np.array([0.3, 0.7, 0.1])]
    found = compare(same, same)
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_one_query_tells_nothing() -> None:
    with pytest.raises(ValueError, match="two queries"):
        compare([np.array([1.0])], [np.array([0.0])])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_corrected_ps_are_larger_and_keep_their_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1.0 for p, c in zip(p_values, corrected, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [corrected[i] for i in order] == sorted(corrected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.001, 0.05, Answer.YES), (-0.02, 0.03, Answer.UNDECIDED), (-0.05, -0.01, Answer.NO), (-0.01, 0.004, Answer.NO)],
)
def test_plain_answers(low: float, high: float, expected: Answer) -> None:
    assert answer(low, high) is expected
