"""From verdicts and engine scores to an order (pure and deterministic)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from whyrank.types import FusionWeights, RankedHit

MIN_STEP = 1e-6
"""Least difference between two scores for callers."""


def fuse(hits: Sequence[RankedHit], weights: FusionWeights) -> tuple[RankedHit, ...]:
    """The window's hits (given in engine order) in their new order, each judged hit with its fused `score`.

    The score is the weighted mean of three signals, in [0, 1]: the engine's scores and the bi-encoder's
    similarities, each min-max normalised over the window (Lee, "Analyses of Multiple Evidence Combination", 1997),
    for neither has a scale of its own; and the verdict's relevance as it is, for probabilities have one, and a window
    without an answer must not be stretched until it seems to hold one.

    Where the similarities cannot part the judged hits (one is not known, or all are alike), that signal is left out
    of the whole window, and the other weights take its share: no hit is favoured for what is not known of another.

    Judged hits change places among themselves only, highest score first, ties as the engine had them; a hit without a
    verdict keeps its place, so a slow model never pushes down a document that it has not read.
    """
    similarities = _similarity_signals(hits)
    engine, relevance, similarity = _shares(weights, with_similarity=similarities is not None)
    judged = [
        replace(hit, score=_unit(engine * by_engine + relevance * hit.verdict.relevance + similarity * alike))
        for hit, by_engine, alike in zip(hits, _engine_signals(hits), similarities or [0.0] * len(hits), strict=True)
        if hit.verdict is not None
    ]
    judged.sort(key=lambda hit: (-(hit.score or 0.0), hit.engine_position))
    in_order = iter(judged)
    return tuple(next(in_order) if hit.verdict is not None else replace(hit, score=None) for hit in hits)


def scores_for_callers(hits: Sequence[RankedHit]) -> list[float]:
    """A score for each hit of a final order: floats in [0, 1] that fall along it.

    For callers who sort by score, and so get this very order back: two scores differ by at least `MIN_STEP`,
    which outlives the engines' 32-bit floats. But for that, a judged hit has its fused score, and unjudged hits
    are spread evenly between their judged neighbours (1 above the first, 0 below the last).
    """
    scores: list[float] = []
    ceiling, unjudged = 1.0, 0
    for hit in hits:
        if hit.score is None:
            unjudged += 1
            continue
        floor = min(ceiling, _unit(hit.score))
        scores += [*_between(ceiling, floor, unjudged), floor]
        ceiling, unjudged = floor, 0
    scores += _between(ceiling, 0.0, unjudged)
    step = min(MIN_STEP, 0.5 / max(1, len(scores)))
    for i in range(len(scores) - 2, -1, -1):
        scores[i] = max(scores[i], scores[i + 1] + step)
    # What was lifted above 1 comes down again; the steps need less room than there is
    for i in range(len(scores)):
        scores[i] = min(scores[i], scores[i - 1] - step if i else 1.0)
    return scores


def _between(high: float, low: float, count: int) -> list[float]:
    return [high - (high - low) * i / (count + 1) for i in range(1, count + 1)]


def _shares(weights: FusionWeights, *, with_similarity: bool) -> tuple[float, float, float]:
    """The weights as shares of their sum; weights that say nothing mean relevance alone."""
    given = (weights.engine, weights.relevance, weights.similarity if with_similarity else 0.0)
    usable = [max(0.0, weight) if math.isfinite(weight) else 0.0 for weight in given]
    largest = max(usable)
    if largest == 0.0:
        return 0.0, 1.0, 0.0
    # Scaled before they are added up: the sum of two finite floats need not be finite
    engine, relevance, similarity = (weight / largest for weight in usable)
    total = engine + relevance + similarity
    return engine / total, relevance / total, similarity / total


def _engine_signals(hits: Sequence[RankedHit]) -> list[float]:
    """The engine's opinion of each hit in [0, 1]: its scores, min-max normalised over the window.

    Where they say nothing (absent, not finite, all alike), the reciprocal of the position.
    """
    signals = _min_max([hit.engine_score for hit in hits])
    return signals or [1.0 / (1 + hit.engine_position) for hit in hits]


def _similarity_signals(hits: Sequence[RankedHit]) -> list[float] | None:
    """The bi-encoder's opinion of each judged hit in [0, 1], 0 for the others; None where it parts no two."""
    signals = _min_max([hit.verdict.similarity for hit in hits if hit.verdict is not None])
    if signals is None:
        return None
    in_order = iter(signals)
    return [next(in_order) if hit.verdict is not None else 0.0 for hit in hits]


def _min_max(values: Sequence[float | None]) -> list[float] | None:
    """The values spread over [0, 1]; None where one is absent or not finite, or all are alike."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    # Halved, so that the difference of two floats of either sign stays finite
    low, high = min(finite, default=0.0) / 2, max(finite, default=0.0) / 2
    if len(finite) < len(values) or high == low:
        return None
    return [(value / 2 - low) / (high - low) for value in finite]


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value)) if not math.isnan(value) else 0.0
