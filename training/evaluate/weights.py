"""Choosing fusion weights: a grid over the simplex, on validation data. What is reported on has no part in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from ir_measures import nDCG

from training.evaluate.first_stage import Sample
from training.evaluate.judging import Outcome, PairKey
from training.evaluate.metrics import PRIMARY, System, WeightChoice, WeightPoint
from training.evaluate.statistics import Values, mean_of_means
from training.evaluate.systems import Scorer, ranked_hits
from whyrank.ranking import fuse
from whyrank.types import FusionWeights

STEPS = 20
_ROUNDING = 1e-9


def simplex(steps: int) -> list[FusionWeights]:
    """All weights that are multiples of 1/steps and sum to 1."""
    return [
        FusionWeights(
            engine=engine / steps, relevance=relevance / steps, similarity=(steps - engine - relevance) / steps
        )
        for engine in range(steps + 1)
        for relevance in range(steps + 1 - engine)
    ]


def choose_weights(
    samples: Sequence[Sample],
    outcomes: Mapping[PairKey, Outcome],
    similarities: Mapping[PairKey, float],
    before: FusionWeights,
    steps: int = STEPS,
) -> WeightChoice:
    """The weights nearest to those of `before` that are as good as the best, and the whole surface.

    Good is a high mean of the primary measure, each sample alike. As good as the best is what is not below it by more
    than one standard error of their paired difference (the one-standard-error rule: Breiman, Friedman, Olshen and
    Stone, "Classification and Regression Trees", 1984): the highest of hundreds of points on some dozens of queries
    is mostly luck, and weights that have served are not left for luck.
    """
    prepared = [
        (Scorer(sample, [nDCG @ 10]), {q.id: ranked_hits(q, outcomes, similarities) for q in sample.queries})
        for sample in samples
    ]
    found = []
    for weights in simplex(steps):
        values = tuple(
            scorer.score({query: [hit.id for hit in fuse(hits, weights)] for query, hits in ranked.items()})[PRIMARY]
            for scorer, ranked in prepared
        )
        found.append(_Measured(weights, mean_of_means(values), values))
    chosen = _settled(found, before)
    return WeightChoice(
        weights=chosen.weights,
        value=chosen.mean,
        queries=sum(len(sample.queries) for sample in samples),
        collections=tuple(sample.name for sample in samples),
        surface=tuple(WeightPoint(each.weights, each.mean) for each in found),
        of_two={
            system: _settled([each for each in found if getattr(each.weights, absent) == 0.0], edge).weights
            for (system, absent), edge in zip(_ABSENT.items(), of_two(before, None).values(), strict=True)
        },
        best=max(each.mean for each in found),
    )


def of_two(all_weights: FusionWeights, choice: WeightChoice | None) -> dict[System, FusionWeights]:
    """Weights of the systems with two signals, as they were chosen with all three.

    Where weights were given and not chosen, theirs without the third signal, or even shares where nothing is left.
    """
    if choice is not None and choice.of_two:
        return dict(choice.of_two)
    found = {}
    for system, absent in _ABSENT.items():
        engine = all_weights.engine
        other = all_weights.relevance if absent == "similarity" else all_weights.similarity
        if engine + other <= 0.0:
            engine = other = 0.5
        shares = {"engine": engine, "relevance": other, "similarity": other, absent: 0.0}
        found[system] = FusionWeights(**shares)
    return found


_ABSENT = {System.LM_ENGINE: "similarity", System.ENCODER_ENGINE: "relevance"}


class _Measured(NamedTuple):
    """A point with the value of each query, by sample."""

    weights: FusionWeights
    mean: float
    values: tuple[Values, ...]


def _settled(points: Sequence[_Measured], before: FusionWeights) -> _Measured:
    """Of the points that are as good as the best, the one nearest to `before`."""
    best = max(points, key=lambda point: point.mean)
    good = [point for point in points if best.mean - point.mean <= _standard_error(best, point) + _ROUNDING]
    total = before.engine + before.relevance + before.similarity
    served = np.array(_place(before)) / total if total > 0.0 else np.full(3, 1 / 3)
    return min(good, key=lambda point: float(((np.array(_place(point.weights)) - served) ** 2).sum()))


def _standard_error(one: _Measured, other: _Measured) -> float:
    """Of the mean of their paired differences, each sample alike; 0 where a sample has one query."""
    variances = [
        float(np.var(ours - theirs, ddof=1)) / len(ours) if len(ours) > 1 else 0.0
        for ours, theirs in zip(one.values, other.values, strict=True)
    ]
    return math.sqrt(sum(variances)) / len(variances)


def _place(weights: FusionWeights) -> tuple[float, float, float]:
    return weights.engine, weights.relevance, weights.similarity
