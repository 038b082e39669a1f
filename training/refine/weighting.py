"""From rewards to what is learnt: one number for each answer, and what it weighs in the loss (pure).

In the paper's order: rewards are min-max normalised within each pair, answers under a minimum are dropped, hard
pairs are boosted, and the loss of what is left is weighted with the power of its reward.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from training.refine.config import RefineConfig, RewardWeights, Scale
from training.refine.rewards import Floats, Integers

Booleans = npt.NDArray[np.bool_]

_LEAST_SPREAD = 1e-9
"""Rewards that differ by less are alike: rounding must not decide what is learnt."""


def combine(scores: Mapping[str, Floats], weights: RewardWeights, *, standardise: bool) -> Floats:
    """The weighted sum of the rewards, each of shape (pairs, n) and named as in `weights`.

    With `standardise` each is counted in its standard deviations over the round, so that equal weights mean equal
    influence; one that is the same for all answers says nothing.
    """
    total = np.zeros_like(next(iter(scores.values())))
    for name, values in scores.items():
        spread = float(values.std()) if standardise else 1.0
        if spread > _LEAST_SPREAD:
            total += getattr(weights, name) * (values - values.mean() if standardise else values) / spread
    return total


def normalise(rewards: Floats, scale: Scale) -> Floats:
    """Rewards min-max normalised to [0, 1], within each row (pair) or over all; 0 where all are alike."""
    axis = 1 if scale is Scale.PAIR else None
    low = rewards.min(axis=axis, keepdims=True)
    spread = rewards.max(axis=axis, keepdims=True) - low
    alike = spread <= _LEAST_SPREAD
    unit: Floats = np.where(alike, 0.0, (rewards - low) / np.where(alike, 1.0, spread))
    return np.clip(unit, 0.0, 1.0)


def boosts(labels: Integers, teacher: Integers) -> Floats:
    """Shapes (pairs, n) and (pairs,) -> (pairs,): the share of the student's labels that differ from the teacher's.

    An answer without a label differs.
    """
    share: Floats = (labels != teacher[:, None]).mean(axis=1)
    return share


def kept(normalised: Floats, minimum: float) -> Booleans:
    """Which answers reach the minimum."""
    return normalised >= minimum


def loss_weights(normalised: Floats, boost: Floats | None, config: RefineConfig) -> Floats:
    """What each answer's loss is multiplied by, shape (pairs, n): (boost · r) ^ `reward_power`, 0 for dropped ones."""
    reward = normalised if boost is None else normalised * boost[:, None]
    weights: Floats = np.where(kept(normalised, config.min_reward) & (reward > 0.0), reward**config.reward_power, 0.0)
    return weights


def preferences(rewards: Floats, normalised: Floats, boost: Floats | None, config: RefineConfig) -> Integers:
    """(row, best answer, worst answer) of the pairs that have a preference, shape (preferences, 3).

    By the rewards before normalisation; the best must reach the minimum, and a boosted pair must not be one that the
    student always labels as the teacher does: what weighs nothing for `rwl` is not learnt with `dpo` either.
    """
    rows = np.arange(len(rewards))
    best, worst = rewards.argmax(axis=1), rewards.argmin(axis=1)
    differ = rewards[rows, best] - rewards[rows, worst] > _LEAST_SPREAD
    wanted = differ & kept(normalised, config.min_reward)[rows, best]
    if boost is not None:
        wanted &= boost > 0.0
    chosen: Integers = np.stack([rows, best, worst], axis=1)[wanted].astype(np.int64)
    return chosen
