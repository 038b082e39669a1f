"""How sure a difference is: intervals and tests over queries, each collection weighing the same.

Paired bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993. Randomisation test: Smucker, Allan
and Carterette, "A Comparison of Statistical Significance Tests for IR Evaluation", 2007. Correction for many
comparisons: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

from training.evaluate.metrics import Answer

RESAMPLES = 10_000
LEVEL = 0.95
NEGLIGIBLE = 0.005
"""A gain of nDCG that nobody would notice: an interval that ends below it says no."""
SEED = 7

Values = npt.NDArray[np.float64]


class Difference(msgspec.Struct, frozen=True):
    """A mean difference with its interval and its two-sided p."""

    mean: float
    low: float
    high: float
    p: float


def mean_of_means(collections: Sequence[Values]) -> float:
    """The mean of the collections' means."""
    return float(np.mean([values.mean() for values in collections]))


def compare(system: Sequence[Values], baseline: Sequence[Values]) -> Difference:
    """The paired difference of two systems.

    Both have an array for each collection with a value for each query, queries in the same order. Queries are
    resampled within their collections. Deterministic. Raises ValueError for a collection of fewer than two
    queries, of which no interval can be told.
    """
    differences = [np.asarray(a, float) - np.asarray(b, float) for a, b in zip(system, baseline, strict=True)]
    if any(len(values) < 2 for values in differences):
        raise ValueError("two queries of each collection are the least that a comparison needs")
    mean = mean_of_means(differences)
    if all(not values.any() for values in differences):
        return Difference(0.0, 0.0, 0.0, 1.0)
    low, high = _interval(differences)
    return Difference(mean, low, high, _randomisation(differences))


def _interval(differences: Sequence[Values]) -> tuple[float, float]:
    """Percentile interval; several samples that are not paired with each other are resampled each for itself."""

    def statistic(*samples: Values, axis: int = -1) -> Values:
        return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)  # type: ignore[no-any-return]

    found = stats.bootstrap(
        tuple(differences),
        statistic,
        n_resamples=RESAMPLES,
        batch=1000,
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _randomisation(differences: Sequence[Values]) -> float:
    """If the systems were alike, each query's difference could as well have the other sign."""
    weights = np.concatenate([np.full(len(v), 1.0 / (len(differences) * len(v))) for v in differences])

    def statistic(sample: Values, axis: int = -1) -> Values:
        return (sample * _along(weights, sample.ndim, axis)).sum(axis=axis)  # type: ignore[no-any-return]

    found = stats.permutation_test(
        (np.concatenate(differences),),
        statistic,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=1000,
        vectorized=True,
        alternative="two-sided",
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)


def _along(weights: Values, dimensions: int, axis: int) -> Values:
    shape = [1] * dimensions
    shape[axis] = -1
    return weights.reshape(shape)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p of each comparison, corrected for all of them."""
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = least
    return corrected


def answer(low: float, high: float) -> Answer:
    """Whether there is a gain, by the interval of its difference."""
    if low > 0.0:
        return Answer.YES
    return Answer.NO if high < NEGLIGIBLE else Answer.UNDECIDED
