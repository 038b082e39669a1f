"""What the figures say, in sentences that need no statistics to be read (pure)."""

from __future__ import annotations

from training.evaluate.metrics import Answer, Comparison, Metrics, System
from training.evaluate.statistics import answer

NAMES = {
    System.ENGINE: "engine (BM25)",
    System.ENCODER: "bi-encoder",
    System.ENCODER_ENGINE: "bi-encoder + engine",
    System.LM: "language model",
    System.LM_ENGINE: "language model + engine",
    System.ALL: "all three",
    System.LM_LABEL: "language model, label only",
    System.ALL_LABEL: "all three, label only",
    System.CURRENT_LM: "current language model",
    System.CURRENT_ALL: "all three, current model",
}


def name(comparison: Comparison) -> str:
    """As `all three against engine (BM25)`."""
    return f"{NAMES[comparison.system]} against {NAMES[comparison.baseline]}"


def verdict(metrics: Metrics) -> str:
    """The evaluation in a sentence or two."""
    parts = []
    by_engine = metrics.comparison(System.ALL, System.ENGINE)
    without_model = metrics.comparison(System.ENCODER_ENGINE, System.ENGINE)
    if by_engine is None and without_model is not None:
        told = f"{_does(without_model)} against the engine's own order: {interval(without_model)}"
        parts.append(f"The bi-encoder {told}.")
    if by_engine is not None:
        parts.append(f"Reranking {_does(by_engine)} against the engine's own order: {interval(by_engine)}.")
    if by_current := metrics.comparison(System.ALL, System.CURRENT_ALL):
        parts.append(f"Against the model that is served now it {_does(by_current)}: {interval(by_current)}.")
    if worst := _worst(metrics):
        parts.append(worst)
    return " ".join(parts) or "There was nothing to compare with."


def lm_adds(metrics: Metrics) -> str:
    """Whether the language model adds to the other two, plainly."""
    comparison = metrics.comparison(System.ALL, System.ENCODER_ENGINE)
    if comparison is None:
        return "Whether the language model adds to engine and bi-encoder was not measured."
    plain = {
        Answer.YES: "Yes: the language model adds to engine and bi-encoder",
        Answer.NO: "No: the language model does not add to engine and bi-encoder",
        Answer.UNDECIDED: "Undecided: these queries are too few to tell whether the language model adds to engine and "
        "bi-encoder",
    }
    return f"{plain[answer(comparison.low, comparison.high)]} ({interval(comparison)})."


def interval(comparison: Comparison) -> str:
    """As `nDCG@10 0.520 against 0.480, +0.040 (95% interval +0.010 to +0.070, p 0.004, 200 queries)`."""
    return (
        f"{comparison.measure} {comparison.mean:.3f} against {comparison.baseline_mean:.3f}, "
        f"{comparison.difference:+.3f} (95% interval {comparison.low:+.3f} to {comparison.high:+.3f}, "
        f"p {_p(comparison.p_corrected)}, {comparison.queries} queries)"
    )


def _does(comparison: Comparison) -> str:
    if comparison.low > 0:
        return "ranks better"
    return "ranks worse" if comparison.high < 0 else "makes no certain difference"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _worst(metrics: Metrics) -> str:
    found = [
        (comparison.difference, collection.name)
        for collection in metrics.collections
        for comparison in collection.comparisons
        if (comparison.system, comparison.baseline) == (System.ALL, System.ENGINE)
    ]
    if len(found) < 2:
        return ""
    difference, where = min(found)
    return f"The collection where it does least well against the engine is {where}, {difference:+.3f}."
