"""The orders that are compared, all of the same candidates and all made by `whyrank.ranking.fuse`, as a search is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
import msgspec
import numpy as np
import numpy.typing as npt
from ir_measures import AP, RR, Qrel, R, ScoredDoc, nDCG
from msgspec.structs import replace

from training.evaluate.first_stage import Asked, Sample
from training.evaluate.judging import Outcome, Pair, PairKey
from training.evaluate.metrics import PRIMARY, Role, System
from whyrank.ranking import fuse
from whyrank.types import FusionWeights, Mode, RankedHit, Verdict, VerdictFailure

MEASURES = (nDCG @ 10, RR @ 10, AP, R @ 10, R @ 20)
"""All of graded or binary judgements alike: what is not judged is not relevant."""

Values = dict[str, npt.NDArray[np.float64]]
"""By measure: a value for each query of a sample, in its order."""


class Needs(msgspec.Struct, frozen=True):
    """Whose relevance a system uses; None for none."""

    role: Role | None = None
    mode: Mode = Mode.REASON


NEEDS = {
    System.ENGINE: Needs(),
    System.ENCODER: Needs(),
    System.ENCODER_ENGINE: Needs(),
    System.LM: Needs(Role.CANDIDATE),
    System.LM_ENGINE: Needs(Role.CANDIDATE),
    System.ALL: Needs(Role.CANDIDATE),
    System.LM_LABEL: Needs(Role.CANDIDATE, Mode.LABEL),
    System.ALL_LABEL: Needs(Role.CANDIDATE, Mode.LABEL),
    System.CURRENT_LM: Needs(Role.CURRENT),
    System.CURRENT_ALL: Needs(Role.CURRENT),
}

COMPARISONS = (
    (System.ALL, System.ENGINE),
    (System.LM, System.ENGINE),
    (System.LM_ENGINE, System.ENGINE),
    (System.ENCODER, System.ENGINE),
    (System.ENCODER_ENGINE, System.ENGINE),
    (System.ALL, System.ENCODER_ENGINE),
    (System.LM, System.LM_LABEL),
    (System.ALL, System.ALL_LABEL),
    (System.ALL, System.CURRENT_ALL),
    (System.LM, System.CURRENT_LM),
)
"""(system, baseline); those of which both are there are made."""

Outcomes = Mapping[tuple[Role, Mode], Mapping[PairKey, Outcome]]


def available(outcomes: Outcomes) -> list[System]:
    """The systems that can be ordered with these judgements."""
    return [system for system, needs in NEEDS.items() if needs.role is None or (needs.role, needs.mode) in outcomes]


def single_weights() -> dict[System, FusionWeights]:
    """Those of the systems that have one signal only."""
    lm = FusionWeights(engine=0.0, relevance=1.0, similarity=0.0)
    return {
        System.ENGINE: FusionWeights(engine=1.0, relevance=0.0, similarity=0.0),
        System.ENCODER: FusionWeights(engine=0.0, relevance=0.0, similarity=1.0),
        **dict.fromkeys((System.LM, System.LM_LABEL, System.CURRENT_LM), lm),
    }


def ranked_hits(
    query: Asked, outcomes: Mapping[PairKey, Outcome] | None, similarities: Mapping[PairKey, float]
) -> list[RankedHit]:
    """The candidates as `fuse` takes them.

    Without `outcomes` each has a verdict that carries nothing but its similarity: for orders that no language model
    has a say in.
    """
    hits = []
    for position, hit in enumerate(query.hits):
        key = Pair(query.text, hit.passage).key
        outcome = _no_opinion if outcomes is None else outcomes.get(key)
        if isinstance(outcome, Verdict):
            outcome = replace(outcome, similarity=similarities.get(key))
        hits.append(
            RankedHit(
                hit.id,
                "",
                position,
                engine_score=hit.score,
                verdict=outcome if isinstance(outcome, Verdict) else None,
                failure=outcome if isinstance(outcome, VerdictFailure) else None,
            )
        )
    return hits


_no_opinion = Verdict(0, (1.0, 0.0, 0.0), 0.0, "", (), False, Mode.LABEL, "")


class Scorer:
    """Measures orders of one sample."""

    def __init__(self, sample: Sample, measures: Sequence[ir_measures.Measure] = MEASURES) -> None:
        qrels = [Qrel(query, id, grade) for query, grades in sample.qrels.items() for id, grade in grades.items()]
        self._places = {query.id: place for place, query in enumerate(sample.queries)}
        self._measures = measures
        self._evaluator = ir_measures.evaluator(list(measures), qrels)

    def score(self, orders: Mapping[str, Sequence[str]]) -> Values:
        """The values of each query's order, given as documents' ids."""
        run = [ScoredDoc(query, id, float(-rank)) for query, order in orders.items() for rank, id in enumerate(order)]
        values = {str(measure): np.zeros(len(self._places)) for measure in self._measures}
        for metric in self._evaluator.iter_calc(run):
            values[str(metric.measure)][self._places[metric.query_id]] = metric.value
        return values


def orders(
    sample: Sample,
    weights: FusionWeights,
    outcomes: Mapping[PairKey, Outcome] | None,
    similarities: Mapping[PairKey, float],
) -> dict[str, list[str]]:
    """The documents of each query in their new order."""
    return {
        query.id: [hit.id for hit in fuse(ranked_hits(query, outcomes, similarities), weights)]
        for query in sample.queries
    }


def evaluate(
    sample: Sample,
    weights: Mapping[System, FusionWeights],
    outcomes: Outcomes,
    similarities: Mapping[PairKey, float],
) -> dict[System, Values]:
    """The values of every system that `weights` has."""
    scorer = Scorer(sample)
    found = {}
    for system, shares in weights.items():
        needs = NEEDS[system]
        of_model = outcomes[needs.role, needs.mode] if needs.role is not None else None
        found[system] = scorer.score(orders(sample, shares, of_model, similarities))
    return found


def ceiling(sample: Sample) -> float:
    """The primary measure of the best order of the candidates."""
    best = {
        query.id: sorted((hit.id for hit in query.hits), key=lambda id: -sample.qrels[query.id].get(id, 0))
        for query in sample.queries
    }
    return float(Scorer(sample, [nDCG @ 10]).score(best)[PRIMARY].mean())
