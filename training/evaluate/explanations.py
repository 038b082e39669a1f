"""How good the model's answers are apart from the order that they make."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from training.evaluate.first_stage import Sample
from training.evaluate.judging import Outcome, Pair, PairKey
from training.evaluate.metrics import Agreement, Bin, Calibration, Consistency, Explanations
from whyrank.types import Mode, Passage, Verdict

BINS = 10
Confusion = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


class Judged(msgspec.Struct, frozen=True):
    """One candidate with the model's answer on it and what is known about it."""

    collection: str
    query_id: str
    query: str
    document: str
    passage: Passage
    outcome: Outcome
    reference: int
    """The label that the collection's judgement amounts to, 0 where it has none, as in the ranking measures."""


def judged_pairs(samples: Iterable[Sample], outcomes: Mapping[PairKey, Outcome]) -> list[Judged]:
    """Every candidate that the model was asked about."""
    found = []
    for sample in samples:
        highest = max((grade for grades in sample.qrels.values() for grade in grades.values()), default=1)
        for query in sample.queries:
            for hit in query.hits:
                outcome = outcomes.get(Pair(query.text, hit.passage).key)
                if outcome is None:
                    continue
                grade = sample.qrels[query.id].get(hit.id, 0)
                reference = sample.labels.get((query.id, hit.id), as_label(grade, highest))
                found.append(Judged(sample.name, query.id, query.text, hit.id, hit.passage, outcome, reference))
    return found


def as_label(grade: int, highest: int) -> int:
    """A collection's grade as one of our labels: the upper half of its scale is 2, the rest of the relevant 1."""
    if grade <= 0:
        return 0
    return 2 if 2 * grade > highest else 1


def describe(mode: Mode, pairs: Sequence[Judged], consistency: Consistency | None) -> Explanations:
    """All figures of one model's answers in one mode. Raises ValueError where there are none."""
    if not pairs:
        raise ValueError("no pair was judged")
    verdicts = [(pair, pair.outcome) for pair in pairs if isinstance(pair.outcome, Verdict)]
    failures = Counter(pair.outcome.kind.value for pair in pairs if not isinstance(pair.outcome, Verdict))
    quotes = [quote for _, verdict in verdicts for quote in verdict.quotes]
    labels = Counter(verdict.label for _, verdict in verdicts)
    return Explanations(
        mode=mode,
        pairs=len(pairs),
        parse_rate=len(verdicts) / len(pairs),
        failures=dict(sorted(failures.items())),
        quotes=len(quotes),
        quotes_verbatim=sum(quote.grounded for quote in quotes) / len(quotes) if quotes else 1.0,
        grounded=sum(verdict.grounded for _, verdict in verdicts) / max(1, len(verdicts)),
        labels=(labels[0], labels[1], labels[2]),
        agreement=agreement([(pair.reference, verdict.label) for pair, verdict in verdicts]) if verdicts else None,
        calibration=calibration(
            [sum(verdict.label_probabilities[1:]) for _, verdict in verdicts],
            [pair.reference > 0 for pair, _ in verdicts],
        )
        if verdicts
        else None,
        consistency=consistency,
    )


def agreement(labels: Sequence[tuple[int, int]]) -> Agreement:
    """Of (reference, model) labels. A kappa of labels that are all alike is 1 where they agree, else 0.

    Cohen, "A Coefficient of Agreement for Nominal Scales", 1960; weighted: Cohen, 1968.
    """
    table = np.zeros((3, 3))
    for reference, label in labels:
        table[reference, label] += 1
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    distance = np.subtract.outer(np.arange(3), np.arange(3)).astype(float) ** 2

    def kappa(cost: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        by_chance = float((cost * expected).sum())
        disagreement = float((cost * table).sum())
        if by_chance == 0.0:
            return 1.0 if disagreement == 0.0 else 0.0
        return 1.0 - disagreement / by_chance

    rows = [(int(row[0]), int(row[1]), int(row[2])) for row in table]
    return Agreement(
        pairs=len(labels),
        accuracy=float(np.trace(table) / table.sum()),
        kappa=kappa((distance > 0).astype(float)),
        weighted_kappa=kappa(distance),
        confusion=(rows[0], rows[1], rows[2]),
    )


def calibration(predicted: Sequence[float], relevant: Sequence[bool], bins: int = BINS) -> Calibration:
    """Of P(relevant) and whether it was; bins of equal width, empty ones left out.

    Guo et al., "On Calibration of Modern Neural Networks", 2017; Brier, "Verification of Forecasts", 1950.
    """
    probabilities, observed = np.asarray(predicted, float), np.asarray(relevant, float)
    which = np.minimum((probabilities * bins).astype(int), bins - 1)
    found = []
    for number in range(bins):
        inside = which == number
        if inside.any():
            found.append(
                Bin(
                    number / bins,
                    (number + 1) / bins,
                    int(inside.sum()),
                    float(probabilities[inside].mean()),
                    float(observed[inside].mean()),
                )
            )
    return Calibration(
        pairs=len(probabilities),
        ece=sum(b.pairs * abs(b.predicted - b.observed) for b in found) / len(probabilities),
        brier=float(((probabilities - observed) ** 2).mean()),
        bins=tuple(found),
    )


def consistency(asked: Sequence[tuple[Pair, str, Pair]], outcomes: Mapping[PairKey, Outcome]) -> Consistency | None:
    """Of (pair, rule, the same pair with the query rephrased); None where no two of them were both read."""
    equal: dict[str, list[bool]] = defaultdict(list)
    changes = []
    for pair, rule, rephrased in asked:
        before, after = outcomes.get(pair.key), outcomes.get(rephrased.key)
        if isinstance(before, Verdict) and isinstance(after, Verdict):
            equal[rule].append(before.label == after.label)
            changes.append(abs(before.relevance - after.relevance))
    if not changes:
        return None
    return Consistency(
        pairs=len(changes),
        equal_labels=float(np.mean([same for found in equal.values() for same in found])),
        relevance_change=float(np.mean(changes)),
        by_paraphrase={rule: float(np.mean(found)) for rule, found in sorted(equal.items())},
    )
