"""What an answer is worth: verifiable rewards and a reward model behind one interface (pure, over numpy arrays)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from training.refine.pairs import JudgedPair
from training.refine.sampling import Samples

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

UNREAD = -1
"""Label of an answer that cannot be read; as its relevance it ranks below all others."""


@dataclass(frozen=True)
class Batch:
    """Sampled pairs, those of a group side by side in the engine's order, with n answers each."""

    pairs: Sequence[JudgedPair]
    samples: Sequence[Samples]
    labels: Integers
    """Shape (pairs, n); `UNREAD` where there is none."""
    relevance: Floats
    """Shape (pairs, n); `UNREAD` where there is none."""
    quotes: Integers
    """Shape (pairs, n): quotes of each answer."""
    grounded: Integers
    """Shape (pairs, n): those that stand in the passage."""
    teacher: Floats
    """Shape (pairs, 3): the teacher's label probabilities."""
    teacher_label: Integers
    """Shape (pairs,)."""
    teacher_relevance: Floats
    """Shape (pairs,)."""
    groups: Sequence[slice]
    """Rows of each group."""


def batch(pairs: Sequence[JudgedPair], samples: Mapping[tuple[str, str], Samples]) -> Batch:
    """The pairs that have answers, as arrays. Pairs whose prompt the server refused are left out."""
    kept = [pair for pair in pairs if samples[pair.key].answers]
    answers = [samples[pair.key].answers for pair in kept]
    starts = [i for i in range(len(kept)) if i == 0 or kept[i].key[0] != kept[i - 1].key[0]]
    shape = (len(kept), len(answers[0]) if answers else 0)
    judged = [pair.judgement for pair in kept]

    def integers(values: list[list[int]]) -> Integers:
        return np.array(values, np.int64).reshape(shape)

    return Batch(
        pairs=kept,
        samples=[samples[pair.key] for pair in kept],
        labels=integers([[UNREAD if a.label is None else a.label for a in row] for row in answers]),
        relevance=np.array(
            [[UNREAD if a.relevance is None else a.relevance for a in row] for row in answers], np.float64
        ).reshape(shape),
        quotes=integers([[a.quotes for a in row] for row in answers]),
        grounded=integers([[a.grounded for a in row] for row in answers]),
        teacher=np.array([judgement.probabilities for judgement in judged], np.float64).reshape(-1, 3),
        teacher_label=np.array([judgement.label for judgement in judged], np.int64),
        teacher_relevance=np.array([judgement.relevance for judgement in judged], np.float64),
        groups=[slice(*ends) for ends in pairwise([*starts, len(kept)])],
    )


class Reward(Protocol):
    """One reason to prefer an answer."""

    @property
    def name(self) -> str:
        """As in `RewardWeights`."""
        ...

    def score(self, batch: Batch) -> Floats:
        """Shape (pairs, n), more is better; an answer's score may depend on all of its group's."""
        ...


class FormatReward:
    """1 where the answer can be read, else 0."""

    name = "format"

    def score(self, batch: Batch) -> Floats:
        """See the protocol."""
        read: Floats = (batch.labels != UNREAD).astype(np.float64)
        return read


class QuotesReward:
    """The share of its quotes that stand in the passage, word for word; 0 for an answer without any."""

    name = "quotes"

    def score(self, batch: Batch) -> Floats:
        """See the protocol."""
        share: Floats = batch.grounded / np.maximum(1, batch.quotes)
        return share


class LabelReward:
    """1 minus the ranked probability score of the label against the teacher's probabilities; 0 where there is none.

    The Brier score for ordered classes (Epstein, "A Scoring System for Probability Forecasts of Ranked Categories",
    1969): label 1 for a 2 is less wrong than 0 is. The label is certain of itself, because it is what is learnt.
    """

    name = "label"

    def score(self, batch: Batch) -> Floats:
        """See the protocol."""
        steps = np.arange(2)
        own = (batch.labels[:, :, None] <= steps).astype(np.float64)
        teacher = np.cumsum(batch.teacher, axis=1)[:, None, :2]
        distance = ((own - teacher) ** 2).sum(axis=2) / len(steps)
        return np.where(batch.labels == UNREAD, 0.0, 1.0 - distance)


class RankingReward:
    """What the answer does to the group's order.

    The nDCG of the group when this answer's relevance stands for its pair's mean one, minus the nDCG of the mean
    ones; the teacher's relevance is the gain. An answer that cannot be read puts its passage last.
    """

    name = "ranking"

    def score(self, batch: Batch) -> Floats:
        """See the protocol."""
        scores = np.zeros_like(batch.relevance)
        for rows in batch.groups:
            scores[rows] = _gains(batch.relevance[rows], batch.teacher_relevance[rows])
        return scores


class ModelReward:
    """The reward model's logits, of shape (pairs, n): `training.refine.reward_job` computes them."""

    name = "model"

    def __init__(self, logits: Floats) -> None:
        self._logits = logits

    def score(self, batch: Batch) -> Floats:
        """See the protocol."""
        return self._logits.reshape(batch.labels.shape)


def ndcg(relevance: Floats, gains: Floats) -> Floats:
    """nDCG of a whole group for each row of `relevance`; ties stay in the engine's order.

    Shapes (orders, passages) and (passages,) -> (orders,); 0 where the teacher finds nothing relevant.
    """
    discounts = 1.0 / np.log2(np.arange(2, len(gains) + 2))
    ideal = float(np.sort(gains)[::-1] @ discounts)
    if ideal == 0.0:
        return np.zeros(len(relevance))
    order = np.argsort(-relevance, axis=1, kind="stable")
    found: Floats = gains[order] @ discounts / ideal
    return found


def mean_relevance(relevance: Floats) -> Floats:
    """Shape (pairs, n) -> (pairs,): of the answers that can be read, `UNREAD` where none can."""
    read = relevance != UNREAD
    total = np.where(read, relevance, 0.0).sum(axis=1)
    means: Floats = np.where(read.any(axis=1), total / np.maximum(1, read.sum(axis=1)), UNREAD)
    return means


def _gains(relevance: Floats, gains: Floats) -> Floats:
    passages, answers = relevance.shape
    means = mean_relevance(relevance)
    orders = np.tile(means, (passages * answers, 1))
    changed = np.arange(passages * answers)
    orders[changed, changed // answers] = relevance.reshape(-1)
    base = ndcg(means[None, :], gains)[0]
    changes: Floats = (ndcg(orders, gains) - base).reshape(passages, answers)
    return changes
