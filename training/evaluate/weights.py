"""Choosing fusion weights: a grid over the simplex, on validation data. What is reported on has no part in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ir_measures import nDCG

from training.evaluate.first_stage import Sample
from training.evaluate.judging import Outcome, PairKey
from training.evaluate.metrics import PRIMARY, System, WeightChoice, WeightPoint
from training.evaluate.systems import Scorer, ranked_hits
from whyrank.ranking import fuse
from whyrank.types import FusionWeights

STEPS = 20


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
    steps: int = STEPS,
) -> WeightChoice:
    """The weights with the highest mean of the primary measure, each sample alike, and the whole surface.

    Where several are as good, the one in the middle of them: the edge of a plateau is where luck ends.
    """
    prepared = [
        (Scorer(sample, [nDCG @ 10]), {q.id: ranked_hits(q, outcomes, similarities) for q in sample.queries})
        for sample in samples
    ]
    surface = []
    for weights in simplex(steps):
        means = [
            scorer.score({query: [hit.id for hit in fuse(hits, weights)] for query, hits in found.items()})[
                PRIMARY
            ].mean()
            for scorer, found in prepared
        ]
        surface.append(WeightPoint(weights, float(np.mean(means))))
    best = _middle(surface)
    return WeightChoice(
        weights=best.weights,
        value=best.value,
        queries=sum(len(sample.queries) for sample in samples),
        collections=tuple(sample.name for sample in samples),
        surface=tuple(surface),
    )


def of_two(all_weights: FusionWeights, choice: WeightChoice | None) -> dict[System, FusionWeights]:
    """Weights of the systems with two signals: each the best of its edge of the surface.

    Where weights were given and not chosen, theirs without the third signal, or even shares where nothing is left.
    """
    found = {}
    for system, absent in ((System.LM_ENGINE, "similarity"), (System.ENCODER_ENGINE, "relevance")):
        if choice is not None:
            edge = [point for point in choice.surface if getattr(point.weights, absent) == 0.0]
            found[system] = _middle(edge).weights
            continue
        engine = all_weights.engine
        other = all_weights.relevance if absent == "similarity" else all_weights.similarity
        if engine + other <= 0.0:
            engine = other = 0.5
        shares = {"engine": engine, "relevance": other, "similarity": other, absent: 0.0}
        found[system] = FusionWeights(**shares)
    return found


def _middle(points: Sequence[WeightPoint]) -> WeightPoint:
    """Of the best points, the one nearest to their mean."""
    highest = max(point.value for point in points)
    best = [point for point in points if point.value >= highest - 1e-9]
    places = np.array([_place(point.weights) for point in best])
    return best[int(np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1)))]


def _place(weights: FusionWeights) -> tuple[float, float, float]:
    return weights.engine, weights.relevance, weights.similarity
