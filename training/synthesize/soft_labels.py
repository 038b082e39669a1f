"""From similarities to graded soft labels (pure).

A cosine says little by itself: encoders differ in their range, and queries in how close anything comes to them.
So each is standardised twice, among all pairs and within its group, and the two are blended. Labels are then an
adjacent-categories logit of the score s (the partial credit model; Masters, 1982, Psychometrika 47):

    log P(1)/P(0) = (s - c1) / T        log P(2)/P(1) = (s - c2) / T

Their likeliest label changes exactly at the cut points c1 <= c2, which are quantiles of the scores, and the
relevance (P(1) + 2·P(2)) / 2 rises with s.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.records import Group

Array = npt.NDArray[np.float64]

_FLAT = 1e-6
"""Deviations under this are noise of the arithmetic: such a group has no order of its own."""
DECIMALS = 6


def standing(cosines: Sequence[Array], relative_weight: float) -> list[Array]:
    """Per group, each cosine's standing: `relative_weight` of it within its group, the rest among all pairs."""
    if not cosines:
        return []
    among_all = np.concatenate(cosines)
    mean, deviation = float(among_all.mean()), float(among_all.std())
    return [
        (1.0 - relative_weight) * _standardised(group, mean, deviation) + relative_weight * _within(group)
        for group in cosines
    ]


def engine_standing(group: Group) -> Array:
    """The engine's scores of a group, standardised; a passage that its search did not find stands with the last."""
    found = [p.engine_score for p in group.passages if p.engine_score is not None]
    lowest = min(found, default=0.0)
    return _within(np.array([lowest if p.engine_score is None else p.engine_score for p in group.passages]))


def cut_points(scores: Array, shares: tuple[float, float, float]) -> tuple[float, float]:
    """The scores that part labels 0, 1 and 2 so that each has its share."""
    if not len(scores):
        return 0.0, 0.0
    first, second = np.quantile(scores, [shares[0], shares[0] + shares[1]])
    return float(first), float(second)


def probabilities(scores: Array, cuts: tuple[float, float], temperature: float) -> Array:
    """P(0), P(1), P(2) of each score, shape (len(scores), 3), to DECIMALS."""
    first, second = (scores - cuts[0]) / temperature, (scores - cuts[1]) / temperature
    logits = np.stack([np.zeros_like(first), first, first + second], axis=1)
    likelihoods = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Array = np.round(likelihoods / likelihoods.sum(axis=1, keepdims=True), DECIMALS)
    return found


def labels(scores: Array, cuts: tuple[float, float]) -> npt.NDArray[np.int64]:
    """The likeliest label of each score."""
    return (scores > cuts[0]).astype(np.int64) + (scores > cuts[1])


def _within(group: Array) -> Array:
    return _standardised(group, float(group.mean()), float(group.std())) if len(group) else group


def _standardised(values: Array, mean: float, deviation: float) -> Array:
    return (values - mean) / deviation if deviation > _FLAT else np.zeros_like(values)
