"""How good each student is on the validation pairs, each judged once as a search would have it judged (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from training.refine.config import RewardWeights
from training.refine.rewards import UNREAD, Batch, Floats, FormatReward, LabelReward, QuotesReward, ndcg

_LEAST_SPREAD = 1e-9


class Standing(msgspec.Struct, frozen=True):
    """One student's figures."""

    student: int
    """How many rounds it has had: 0 is the distilled one."""
    score: float
    """How much better it is than student 0: the mean gain over the rewards that count, in the standard deviations
    that student 0's own have over the pairs (`ranking`: over the groups)."""
    agreement: float
    """The share of its labels that are the teacher's."""
    rewards: dict[str, float]
    """Means; `ranking` is the groups' nDCG itself."""


def measure(batch: Batch, logits: Floats | None) -> dict[str, Floats]:
    """Each reward over the pairs, `ranking` over the groups; arrays of one dimension."""
    found = {each.name: each.score(batch)[:, 0] for each in (FormatReward(), QuotesReward(), LabelReward())}
    # nDCG is not defined for a group in which nothing is relevant
    gains = [(rows, batch.teacher_relevance[rows]) for rows in batch.groups]
    found["ranking"] = np.array([ndcg(batch.relevance[rows].T, gain)[0] for rows, gain in gains if gain.any()])
    if logits is not None:
        found["model"] = logits[:, 0]
    return found


def agreement(batch: Batch) -> float:
    """The share of labels that are the teacher's; an answer without one agrees with nobody."""
    labels = batch.labels[:, 0]
    return float(((labels == batch.teacher_label) & (labels != UNREAD)).mean()) if len(labels) else 0.0


def score(measured: Mapping[str, Floats], first: Mapping[str, Floats], weights: RewardWeights) -> float:
    """As `Standing.score`, of a student measured so, against student 0."""
    total, counted = 0.0, 0.0
    for name, values in measured.items():
        weight = getattr(weights, name)
        if weight == 0.0 or values.size == 0 or first[name].size == 0:
            continue
        spread = float(first[name].std())
        gain = float(values.mean()) - float(first[name].mean())
        total += weight * gain / (spread if spread > _LEAST_SPREAD else 1.0)
        counted += weight
    return total / counted if counted else 0.0


def best(standings: Sequence[Standing]) -> int:
    """The student with the highest score, of equals the one with the fewest rounds."""
    return max(standings, key=lambda standing: (standing.score, -standing.student)).student
