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

    The score is the weighted mean of the engine's signal and the verdict's relevance, in [0, 1]. Judged hits
    change places among themselves only, highest score first, ties as the engine had them; a hit without a
    verdict keeps its place, so a slow model never pushes down a document that it has not read.
    """
    engine, relevance = _shares(weights)
    judged = [
        replace(hit, score=_unit(engine * signal + relevance * hit.verdict.relevance))
        for hit, signal in zip(hits, _engine_signals(hits), strict=True)
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


def _shares(weights: FusionWeights) -> tuple[float, float]:
    """The weights as shares of their sum; weights that say nothing mean relevance alone."""
    engine, relevance = (max(0.0, w) if math.isfinite(w) else 0.0 for w in (weights.engine, weights.relevance))
    largest = max(engine, relevance)
    if largest == 0.0:
        return 0.0, 1.0
    engine, relevance = engine / largest, relevance / largest
    return engine / (engine + relevance), relevance / (engine + relevance)


def _engine_signals(hits: Sequence[RankedHit]) -> list[float]:
    """The engine's opinion of each hit in [0, 1]: its scores, min-max normalised over the window.

    Where they say nothing (absent, not finite, all alike), the reciprocal of the position.
    """
    scores = [hit.engine_score for hit in hits]
    finite = [score for score in scores if score is not None and math.isfinite(score)]
    # Halved, so that the difference of two floats of either sign stays finite
    low, high = min(finite, default=0.0) / 2, max(finite, default=0.0) / 2
    if len(finite) < len(scores) or high == low:
        return [1.0 / (1 + hit.engine_position) for hit in hits]
    return [(score / 2 - low) / (high - low) for score in finite]


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value)) if not math.isnan(value) else 0.0
