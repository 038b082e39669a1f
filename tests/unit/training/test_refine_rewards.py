"""Rewards and what is made of them, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from msgspec.structs import replace

from training.records import GroupPassage, Judgement, Role
from training.refine import Objective, RefineConfig, RewardWeights, Scale
from training.refine.learning import lesson, rewards
from training.refine.pairs import JudgedPair
from training.refine.rewards import (
    UNREAD,
    Batch,
    FormatReward,
    LabelReward,
    ModelReward,
    QuotesReward,
    RankingReward,
    batch,
    mean_relevance,
    ndcg,
)
from training.refine.sampling import SampledAnswer, Samples, read_answer
from training.refine.weighting import boosts, combine, kept, loss_weights, normalise, preferences
from whyrank.model_client import Answer
from whyrank.prompt import Constraint
from whyrank.types import LabelProbabilities, Mode, Passage

CONFIG = RefineConfig()
ONE_HOT: tuple[LabelProbabilities, ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
UNREADABLE = SampledAnswer("I cannot say", True, None, None, None, 0, 0, "no_label")

matrices = st.tuples(st.integers(1, 5), st.integers(2, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-100, 100, width=32))
)


def answer(label: int, relevance: float | None = None, quotes: int = 1, grounded: int = 1) -> SampledAnswer:
    relevance = label / 2 if relevance is None else relevance
    text = f"answer {label} {relevance} {quotes} {grounded}"
    return SampledAnswer(text, True, label, ONE_HOT[label], relevance, quotes, grounded)


def pair(group: str, name: str, probabilities: LabelProbabilities) -> JudgedPair:
    relevance = (probabilities[1] + 2 * probabilities[2]) / 2
    label = int(np.argmax(probabilities))
    judged = Judgement(group, name, "test", label, probabilities, relevance, "It is so.")
    return JudgedPair("query", GroupPassage(name, f"Text of {name}.", Role.HARD), judged)


def sampled(*rows: tuple[str, LabelProbabilities, Sequence[SampledAnswer]]) -> Batch:
    """A batch of (group, teacher's probabilities, answers)."""
    pairs = [pair(group, str(number), probabilities) for number, (group, probabilities, _) in enumerate(rows)]
    samples = {
        each.key: Samples(*each.key, tuple(answers), read_chars=100)
        for each, (_, _, answers) in zip(pairs, rows, strict=True)
    }
    return batch(pairs, samples)


def test_format_and_quotes() -> None:
    found = sampled(
        ("g", ONE_HOT[0], [answer(0, quotes=4, grounded=3), answer(1, quotes=0, grounded=0), UNREADABLE]),
    )
    assert FormatReward().score(found).tolist() == [[1.0, 1.0, 0.0]]
    assert QuotesReward().score(found).tolist() == [[0.75, 0.0, 0.0]]


def test_the_label_is_scored_by_its_distance_from_the_soft_one() -> None:
    answers = [answer(0), answer(1), answer(2), UNREADABLE]
    found = sampled(("g", ONE_HOT[2], answers), ("g", (0.5, 0.25, 0.25), answers))
    # Cumulative: the teacher's (0.5, 0.75); label 0's (1, 1), 1's (0, 1), 2's (0, 0)
    soft = [1 - (0.25 + 0.0625) / 2, 1 - (0.25 + 0.0625) / 2, 1 - (0.25 + 0.5625) / 2, 0.0]
    assert LabelReward().score(found) == pytest.approx(np.array([[0.0, 0.5, 1.0, 0.0], soft]))


def test_the_ranking_gain_of_an_answer() -> None:
    # The engine's order: an irrelevant passage, then a relevant one; by the means 0.5 and 0.5 it stays
    found = sampled(
        ("g", ONE_HOT[0], [answer(0, 0.0), answer(2, 1.0)]),
        ("g", ONE_HOT[2], [answer(0, 0.0), answer(2, 1.0)]),
    )
    second = 1 / np.log2(3)
    raised = 1 - second
    assert RankingReward().score(found) == pytest.approx(np.array([[raised, 0.0], [0.0, raised]]))


def test_an_unreadable_answer_ranks_its_passage_last() -> None:
    found = sampled(
        ("g", ONE_HOT[2], [answer(1, 0.5), UNREADABLE]),
        ("g", ONE_HOT[0], [answer(0, 0.0), answer(0, 0.0)]),
    )
    second = 1 / np.log2(3)
    assert RankingReward().score(found) == pytest.approx(np.array([[0.0, second - 1], [0.0, 0.0]]))
    assert mean_relevance(found.relevance).tolist() == [0.5, 0.0]
    assert mean_relevance(np.full((1, 3), UNREAD, np.float64)).tolist() == [UNREAD]


def test_groups_are_ranked_apart_and_one_without_anything_relevant_says_nothing() -> None:
    found = sampled(
        ("a", ONE_HOT[0], [answer(0), answer(2)]),
        ("b", ONE_HOT[2], [answer(0), answer(2)]),
        ("c", ONE_HOT[0], [answer(0), answer(2)]),
        ("c", ONE_HOT[0], [answer(2), answer(0)]),
    )
    assert [(rows.start, rows.stop) for rows in found.groups] == [(0, 1), (1, 2), (2, 4)]
    assert RankingReward().score(found).tolist() == [[0.0, 0.0]] * 4


def test_ndcg_of_a_whole_group() -> None:
    gains = np.array([0.0, 1.0, 0.5])
    discounts = 1 / np.log2([2, 3, 4])
    ideal = discounts[0] + 0.5 * discounts[1]
    orders = np.array([[0.1, 0.9, 0.5], [0.9, 0.5, 0.1], [0.3, 0.3, 0.3]])
    second = (discounts[1] + 0.5 * discounts[2]) / ideal
    assert ndcg(orders, gains) == pytest.approx(np.array([1.0, second, second]))


@given(arrays(np.float64, (3, 4), elements=st.floats(0, 1, width=32)), arrays(np.float64, 4, elements=st.floats(0, 1)))
def test_ndcg_is_in_the_unit_interval(relevance: np.ndarray, gains: np.ndarray) -> None:
    found = ndcg(relevance, gains)
    assert found.shape == (3,)
    assert (found >= 0).all()
    assert (found <= 1 + 1e-9).all()
    assert ndcg(gains[None, :], gains)[0] == pytest.approx(1.0 if gains.sum() else 0.0)


def test_the_reward_models_logits_are_the_answers() -> None:
    found = sampled(("g", ONE_HOT[0], [answer(0), answer(1)]))
    assert ModelReward(np.array([-3.0, 2.0])).score(found).tolist() == [[-3.0, 2.0]]


def test_refused_pairs_are_left_out() -> None:
    pairs = [pair("g", name, ONE_HOT[0]) for name in "ab"]
    samples = {
        pairs[0].key: Samples(*pairs[0].key, (), read_chars=0, refused="too long"),
        pairs[1].key: Samples(*pairs[1].key, (answer(0), answer(1)), read_chars=9),
    }
    found = batch(pairs, samples)
    assert [each.passage.id for each in found.pairs] == ["b"]
    assert found.labels.tolist() == [[0, 1]]


def test_what_serving_reads_in_an_answer() -> None:
    passage = Passage("Set max_wal_size to 2 GB. Then restart.")
    text = 'It states "Set max_wal_size to 2 GB" and "drop all tables". Relevance Label: 2'
    found = read_answer(Answer(text, (), passage, completion_tokens=20), Mode.REASON)
    assert (found.label, found.relevance, found.quotes, found.grounded) == (2, 1.0, 2, 1)
    assert (found.completion_tokens, found.failure) == (20, "")
    cut = read_answer(Answer("It states", (), passage, finished=False), Mode.REASON)
    assert (cut.label, cut.relevance, cut.quotes, cut.failure, cut.finished) == (None, None, 0, "no_label", False)


def test_standardised_rewards_count_alike_and_constant_ones_not_at_all() -> None:
    scores = {
        "format": np.ones((2, 2)),
        "label": np.array([[0.0, 1.0], [0.0, 1.0]]),
        "model": np.array([[-30.0, 10.0], [10.0, -30.0]]),
    }
    both = combine(scores, RewardWeights(), standardise=True)
    assert both == pytest.approx(np.array([[-2.0, 2.0], [0.0, 0.0]]))
    assert combine(scores, RewardWeights(label=2), standardise=True) == pytest.approx(np.array([[-3.0, 3.0], [-1, 1]]))
    raw = combine(scores, RewardWeights(label=2, model=0.1), standardise=False)
    assert raw == pytest.approx(np.array([[-2.0, 4.0], [2.0, 0.0]]))


def test_normalisation_within_the_pair_or_over_the_round() -> None:
    rewarded = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
    assert normalise(rewarded, Scale.PAIR).tolist() == [[0.0, 1.0, 0.5], [0.0, 0.0, 0.0]]
    assert normalise(rewarded, Scale.ROUND).tolist() == [[0.0, 0.5, 0.25], [1.0, 1.0, 1.0]]


@given(matrices, st.sampled_from(Scale))
def test_normalised_rewards_are_in_the_unit_interval_and_keep_their_order(rewarded: np.ndarray, scale: Scale) -> None:
    found = normalise(rewarded, scale)
    assert found.shape == rewarded.shape
    assert (found >= 0).all()
    assert (found <= 1).all()
    for row, normalised in zip(rewarded, found, strict=True):
        assert (np.diff(normalised[np.argsort(row, kind="stable")]) >= 0).all()
    if scale is Scale.PAIR:
        apart = np.ptp(rewarded, axis=1) > 1e-9
        assert (found[apart].min(axis=1) == 0).all()
        assert (found[apart].max(axis=1) == 1).all()


@given(matrices, st.randoms(use_true_random=False))
def test_normalisation_and_weights_follow_the_answers_wherever_they_stand(rewarded: np.ndarray, chance: object) -> None:
    order = np.random.default_rng(chance.randrange(2**32)).permutation(rewarded.shape[1])  # type: ignore[attr-defined]
    boost = np.linspace(0, 1, len(rewarded))
    whole = loss_weights(normalise(rewarded, Scale.PAIR), boost, CONFIG)
    moved = loss_weights(normalise(rewarded[:, order], Scale.PAIR), boost, CONFIG)
    assert moved == pytest.approx(whole[:, order])


def test_the_boost_is_the_share_of_labels_that_differ() -> None:
    labels = np.array([[2, 2, 2, 2], [0, 2, UNREAD, 1], [0, 0, 0, 0]])
    assert boosts(labels, np.array([2, 2, 1])).tolist() == [0.0, 0.75, 1.0]


def test_the_weight_is_the_power_of_the_boosted_reward_of_what_is_kept() -> None:
    normalised = np.array([[0.0, 0.4, 0.5, 1.0]])
    assert kept(normalised, 0.5).tolist() == [[False, False, True, True]]
    cubed = loss_weights(normalised, None, CONFIG)
    assert cubed == pytest.approx(np.array([[0.0, 0.0, 0.125, 1.0]]))
    boosted = loss_weights(normalised, np.array([0.5]), CONFIG)
    assert boosted == pytest.approx(np.array([[0.0, 0.0, 0.25**3, 0.125]]))
    assert loss_weights(normalised, np.array([0.0]), CONFIG).tolist() == [[0.0] * 4]
    assert loss_weights(normalised, None, replace(CONFIG, min_reward=0.0)) == pytest.approx(normalised**3)
    assert loss_weights(normalised, None, replace(CONFIG, reward_power=0.0)).tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert loss_weights(normalised, None, replace(CONFIG, reward_power=1.0)).tolist() == [[0.0, 0.0, 0.5, 1.0]]


def test_preferences_are_the_best_answer_and_the_worst() -> None:
    rewarded = np.array([[3.0, 1.0, 2.0], [4.0, 4.0, 4.0], [0.0, 1.0, 5.0]])
    normalised = normalise(rewarded, Scale.PAIR)
    assert preferences(rewarded, normalised, None, CONFIG).tolist() == [[0, 0, 1], [2, 2, 0]]
    assert preferences(rewarded, normalised, np.array([0.5, 1.0, 0.0]), CONFIG).tolist() == [[0, 0, 1]]
    # Over the whole round, a pair's best may still be under the minimum
    over_all = normalise(rewarded, Scale.ROUND)
    assert preferences(rewarded, over_all, None, replace(CONFIG, min_reward=0.9)).tolist() == [[2, 2, 0]]


# Two pairs, one that is hard for the student and one that is not, with answers that differ in every reward
HARD = [answer(0, 0.1, 2, 2), answer(2, 0.8, 1, 0), answer(1, 0.6, 1, 1), UNREADABLE]
EASY = [answer(0, 0.0, 1, 1), answer(0, 0.2, 1, 0), answer(0, 0.1, 2, 1), answer(0, 0.9, 1, 1)]
ROUND = sampled(("g", (0.1, 0.3, 0.6), HARD), ("g", (0.9, 0.1, 0.0), EASY))
LOGITS = np.array([[3.0, -1.0, 0.5, 2.0], [1.0, 0.0, 4.0, 2.0]])


def learnt(config: RefineConfig) -> list[tuple[str, float]]:
    found = lesson(ROUND, LOGITS, config, Constraint.QUOTE)
    return [(row.answer.text, round(row.weight, 6)) for row in found.rows]  # type: ignore[attr-defined]


BASIS = replace(CONFIG, boost=False)


@pytest.mark.parametrize(
    "ablated",
    [
        *(replace(BASIS, rewards=RewardWeights(**{name: 0.0})) for name in RewardWeights.__struct_fields__),
        replace(BASIS, boost=True),
        replace(BASIS, standardise=False),
        replace(BASIS, scale=Scale.ROUND),
        replace(BASIS, min_reward=0.0),
        replace(BASIS, reward_power=0.0),
    ],
)
def test_every_switch_changes_what_is_learnt(ablated: RefineConfig) -> None:
    assert learnt(ablated) != learnt(BASIS)
    assert learnt(ablated)


def test_a_reward_that_is_switched_off_is_not_even_computed() -> None:
    only = replace(CONFIG, rewards=RewardWeights(format=0, quotes=0, label=0, ranking=0, model=1))
    assert [reward.name for reward in rewards(only, LOGITS)] == ["model"]
    assert [reward.name for reward in rewards(CONFIG, None)] == ["format", "quotes", "label", "ranking"]
    found = lesson(ROUND, LOGITS, replace(only, boost=False), Constraint.QUOTE)
    assert found.figures["rewards"] == {"model": pytest.approx(LOGITS.mean())}
    weights = {row.answer.text: row.weight for row in found.rows}  # type: ignore[attr-defined]
    # 3 of (-1 … 3) and 4 of (0 … 4) are the best; 2 of the former is 0.75 of the way, and unreadable, but no switch
    # forbids it; 2 of the latter is half-way
    assert weights == {
        HARD[0].text: pytest.approx(1.0),
        HARD[3].text: pytest.approx(0.75**3),
        EASY[2].text: pytest.approx(1.0),
        EASY[3].text: pytest.approx(0.5**3),
    }


def test_a_lesson_says_how_it_came_about() -> None:
    found = lesson(ROUND, None, replace(CONFIG, min_reward=0.5), Constraint.QUOTE)
    assert found.figures["pairs"] == 2
    assert found.figures["answers"] == 8
    assert found.figures["learnt"] == len(found.rows)
    assert found.figures["learnt_share"] == len(found.rows) / 8
    assert found.figures["boost"] == {"mean": 0.375, "quartiles": [0.1875, 0.375, 0.5625], "zero_share": 0.5}
    assert found.figures["label_agreement"] == 5 / 8
    assert found.figures["rewards"]["format"] == 7 / 8
    # The student is never wrong on the second pair: with the boost, nothing is learnt there
    assert {row.answer.text for row in found.rows} <= {each.text for each in HARD}  # type: ignore[attr-defined]


def test_the_answer_is_taught_as_it_is_to_be_written() -> None:
    ended = SampledAnswer("It is so. Relevance Label: 2 ", True, 2, ONE_HOT[2], 1.0, 0, 0)
    cut = SampledAnswer("It is so, and so, and", False, None, None, None, 0, 0, "no_label")
    found = sampled(("g", ONE_HOT[2], [ended, cut]))
    basis = replace(CONFIG, boost=False, objective=Objective.DPO)
    (free,) = lesson(found, None, basis, Constraint.NONE).rows
    assert free.chosen.text == "It is so. Relevance Label: 2 ##"  # type: ignore[attr-defined]
    assert (free.rejected.text, free.rejected.finished) == (cut.text, False)  # type: ignore[attr-defined]
    (bound,) = lesson(found, None, basis, Constraint.LABEL).rows
    assert bound.chosen.text == "It is so. Relevance Label: 2"  # type: ignore[attr-defined]
    assert "Text of 0." in bound.messages[-1]["content"]  # type: ignore[attr-defined]
