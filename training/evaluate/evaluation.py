"""One evaluation from its collections to its metrics: search, judge, order, compare."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

import msgspec
from msgspec.structs import replace

from training.evaluate import explanations, statistics
from training.evaluate.collections import Collection
from training.evaluate.explanations import Judged
from training.evaluate.first_stage import Sample, Starter, candidates, lazily
from training.evaluate.judging import Outcome, Pair, PairKey, Store
from training.evaluate.metrics import (
    PRIMARY,
    Answer,
    CollectionFigures,
    Comparison,
    Consistency,
    Metrics,
    Model,
    Role,
    System,
    WeightChoice,
)
from training.evaluate.models import Source
from training.evaluate.paraphrases import paraphrases
from training.evaluate.similarities import Similarities
from training.evaluate.systems import COMPARISONS, Values, available, ceiling, evaluate, single_weights
from training.evaluate.weights import choose_weights, of_two
from whyrank.bi_encoder import BiEncoder
from whyrank.embedded import bi_encoder
from whyrank.embedded.cache import Cache, Progress, digest
from whyrank.errors import BadRequestError
from whyrank.settings import Settings
from whyrank.types import FusionWeights, Mode


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is evaluated, and how."""

    depth: int = 50
    queries: int | None = 50
    """Of each collection; None for all."""
    validation_queries: int | None = 100
    passage_tokens: int = 256
    seed: int = 7
    modes: tuple[Mode, ...] = (Mode.REASON, Mode.LABEL)
    """Of the candidate; the current model is asked in mode `reason` alone."""
    weights: FusionWeights | None = None
    """Of the candidate; None: chosen on the validation collections, and where there are none, its manifest's."""
    consistency_pairs: int = 24
    """Candidates, one of a query, that are judged again with the query rephrased by every rule that applies."""
    patience_s: float = 300.0
    """How long a model server may be away before the evaluation gives up."""


class QueryValues(msgspec.Struct, frozen=True):
    """A line of queries.jsonl: all that was measured on one query."""

    collection: str
    query: str
    text: str
    values: dict[System, dict[str, float]]


class Result(msgspec.Struct, frozen=True):
    """What an evaluation gives."""

    metrics: Metrics
    queries: tuple[QueryValues, ...]
    judged: tuple[Judged, ...]
    """The candidate's answers in mode `reason`, for the report to show some of."""


class Evaluation:
    """Works in `folder`, where what was found, judged and computed is kept for all evaluations after it.

    `engine` starts one when candidates are sought that are not kept; None: the settings' engine is used.
    """

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        folder: Path,
        progress: Progress,
        engine: Starter | None = None,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._settings = settings
        self._folder = folder
        self._progress = progress
        self._encoder = BiEncoder(settings.bi_encoder or bi_encoder.install(Cache(), progress))
        self._similarities = Similarities(folder / "similarities", self._encoder)
        self._speeds: dict[Role, float] = {}

    def run(
        self,
        collections: Sequence[Collection],
        validation: Sequence[Collection],
        candidate: Source,
        current: Source | None,
    ) -> Result:
        """All of it. Raises StageError when a model server stays away: what it judged is kept.

        Raises BadRequestError for collections that hold nothing to evaluate, or that weights would be chosen on as
        well, EngineError.
        """
        _refuse_tuning_on_what_is_reported(collections, validation)
        samples = self._samples(collections, self._plan.queries)
        if not samples or any(len(sample.queries) < 2 for sample in samples):
            raise BadRequestError("collections", "two judged queries of each collection are the least")
        choosing = self._samples(validation, self._plan.validation_queries) if self._plan.weights is None else []
        self._similarities.compute([*samples, *choosing], self._progress)
        rephrased = _rephrased(samples, self._plan.consistency_pairs)

        outcomes: dict[tuple[Role, Mode], Mapping[PairKey, Outcome]] = {}
        for source in (candidate, *([current] if current else [])):
            modes = self._plan.modes if source.role is Role.CANDIDATE else (Mode.REASON,)
            extra = [again for _, _, again in rephrased]
            if source.role is Role.CANDIDATE:
                extra += _pairs(choosing)
            asked = {mode: _pairs(samples) + (extra if mode is Mode.REASON else []) for mode in modes}
            outcomes |= {(source.role, mode): found for mode, found in self._judge(source, asked).items()}

        before = (current or candidate).manifest.weights
        choice = self._choose(choosing, outcomes, before)
        weights = self._weights(candidate, current, choice, outcomes)
        values = [evaluate(sample, weights, outcomes, self._similarities.known) for sample in samples]
        reasons = {
            source.role: explanations.judged_pairs(samples, outcomes[source.role, Mode.REASON])
            for source in (candidate, current)
            if source is not None and (source.role, Mode.REASON) in outcomes
        }
        models = {
            source.role: self._model(source, weights, samples, outcomes, rephrased)
            for source in (candidate, current)
            if source is not None
        }
        comparisons = compare(values)
        return Result(
            Metrics(
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                machine=machine(),
                depth=self._plan.depth,
                passage_tokens=self._plan.passage_tokens,
                models=models,
                collections=tuple(_figures(sample, found) for sample, found in zip(samples, values, strict=True)),
                means=_means(values),
                comparisons=comparisons,
                weights=weights,
                encoder=self._encoder.name,
                lm_adds=_lm_adds(comparisons),
                choice=choice,
            ),
            tuple(_query_values(samples, values)),
            tuple(reasons.get(Role.CANDIDATE, ())),
        )

    def _samples(self, collections: Sequence[Collection], queries: int | None) -> list[Sample]:
        async def find() -> list[Sample]:
            async with lazily(self._settings, self._engine) as engine:
                return [
                    await candidates(
                        collection,
                        engine,
                        self._folder / "first_stage",
                        queries=queries,
                        depth=self._plan.depth,
                        passage_tokens=self._plan.passage_tokens,
                        seed=self._plan.seed,
                        progress=self._progress,
                    )
                    for collection in collections
                ]

        return asyncio.run(find())

    def _judge(self, source: Source, asked: Mapping[Mode, Sequence[Pair]]) -> dict[Mode, Mapping[PairKey, Outcome]]:
        """All that is known of these pairs; the model is only started when something is not."""
        store = Store(self._folder / "judgements", source.revision)
        if any(store.missing(pairs, mode) for mode, pairs in asked.items()):
            self._progress(f"starting the {source.role.value} model", None)
            with source.serve() as served:
                for mode, pairs in asked.items():
                    judging = store.judge(
                        pairs, mode, served, self._settings, progress=self._progress, patience_s=self._plan.patience_s
                    )
                    speed = asyncio.run(judging)
                    if speed is not None and mode is Mode.REASON:
                        self._speeds[source.role] = speed
        return {mode: store.known(mode) for mode in asked}

    def _choose(
        self,
        samples: Sequence[Sample],
        outcomes: Mapping[tuple[Role, Mode], Mapping[PairKey, Outcome]],
        before: FusionWeights,
    ) -> WeightChoice | None:
        judged = outcomes.get((Role.CANDIDATE, Mode.REASON))
        if not samples or judged is None:
            return None
        self._progress("choosing fusion weights", None)
        return choose_weights(samples, judged, self._similarities.known, before)

    def _weights(
        self,
        candidate: Source,
        current: Source | None,
        choice: WeightChoice | None,
        outcomes: Mapping[tuple[Role, Mode], Mapping[PairKey, Outcome]],
    ) -> dict[System, FusionWeights]:
        of_all = self._plan.weights or (choice.weights if choice else candidate.manifest.weights)
        weights = {**single_weights(), **of_two(of_all, choice), System.ALL: of_all, System.ALL_LABEL: of_all}
        if current is not None:
            weights[System.CURRENT_ALL] = current.manifest.weights
        return {system: weights[system] for system in available(outcomes) if system in weights}

    def _model(
        self,
        source: Source,
        weights: Mapping[System, FusionWeights],
        samples: Sequence[Sample],
        outcomes: Mapping[tuple[Role, Mode], Mapping[PairKey, Outcome]],
        rephrased: Sequence[tuple[Pair, str, Pair]],
    ) -> Model:
        found = {}
        for (role, mode), judged in outcomes.items():
            if role is source.role:
                again: Consistency | None = explanations.consistency(rephrased, judged) if mode is Mode.REASON else None
                found[mode] = explanations.describe(mode, explanations.judged_pairs(samples, judged), again)
        system = System.ALL if source.role is Role.CANDIDATE else System.CURRENT_ALL
        return Model(
            role=source.role,
            name=source.manifest.name,
            revision=source.revision,
            base=source.manifest.base,
            adapter=source.manifest.adapter,
            weights=weights.get(system, source.manifest.weights),
            explanations=found,
            pairs_per_s=self._speeds.get(source.role),
        )


def compare(values: Sequence[Mapping[System, Values]]) -> tuple[Comparison, ...]:
    """Every comparison that can be made of the primary measure, over these collections together."""
    found = []
    for system, baseline in COMPARISONS:
        if any(system not in each or baseline not in each for each in values):
            continue
        ours, theirs = [each[system][PRIMARY] for each in values], [each[baseline][PRIMARY] for each in values]
        difference = statistics.compare(ours, theirs)
        found.append(
            Comparison(
                system=system,
                baseline=baseline,
                measure=PRIMARY,
                mean=statistics.mean_of_means(ours),
                baseline_mean=statistics.mean_of_means(theirs),
                difference=difference.mean,
                low=difference.low,
                high=difference.high,
                p=difference.p,
                p_corrected=difference.p,
                queries=sum(map(len, ours)),
            )
        )
    corrected = statistics.holm([comparison.p for comparison in found])
    return tuple(replace(each, p_corrected=p) for each, p in zip(found, corrected, strict=True))


def machine() -> str:
    """Where it was measured, in a line."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _means(values: Sequence[Mapping[System, Values]]) -> dict[System, dict[str, float]]:
    return {
        system: {measure: statistics.mean_of_means([each[system][measure] for each in values]) for measure in measures}
        for system, measures in values[0].items()
    }


def _figures(sample: Sample, found: Mapping[System, Values]) -> CollectionFigures:
    return CollectionFigures(
        name=sample.name,
        documents=sample.documents,
        queries=len(sample.queries),
        pairs=sample.pairs,
        ceiling=ceiling(sample),
        means=_means([found]),
        comparisons=compare([found]),
    )


def _query_values(samples: Sequence[Sample], values: Sequence[Mapping[System, Values]]) -> Iterator[QueryValues]:
    for sample, found in zip(samples, values, strict=True):
        for place, query in enumerate(sample.queries):
            of_query = {
                system: {measure: float(each[place]) for measure, each in measures.items()}
                for system, measures in found.items()
            }
            yield QueryValues(sample.name, query.id, query.text, of_query)


def _lm_adds(comparisons: Sequence[Comparison]) -> Answer:
    for each in comparisons:
        if (each.system, each.baseline) == (System.ALL, System.ENCODER_ENGINE):
            return statistics.answer(each.low, each.high)
    return Answer.UNDECIDED


def _refuse_tuning_on_what_is_reported(collections: Sequence[Collection], validation: Sequence[Collection]) -> None:
    reported = {collection.content_hash(): collection.name for collection in collections}
    for collection in validation:
        if (name := reported.get(collection.content_hash())) is not None:
            raise BadRequestError("validation", f"{name} is reported on: weights must be chosen on other data")


def _pairs(samples: Sequence[Sample]) -> list[Pair]:
    return [Pair(query.text, hit.passage) for sample in samples for query in sample.queries for hit in query.hits]


def _rephrased(samples: Sequence[Sample], count: int) -> list[tuple[Pair, str, Pair]]:
    """Candidates of the first queries of each collection in turn, each with its query in other words.

    Which candidate of a query it is, is chance, but always the same: a larger sample judges few pairs anew.
    """
    in_turn = [
        (sample, query)
        for row in zip_longest(*([(sample, query) for query in sample.queries if query.hits] for sample in samples))
        for sample, query in filter(None, row)
    ]
    found = []
    for sample, query in in_turn[:count]:
        hit = min(query.hits, key=lambda hit: digest(query.id, hit.id))
        forms = paraphrases(query.text)
        forms |= {f"synthetic {number}": text for number, text in enumerate(sample.rephrased.get(query.id, ())[:2], 1)}
        found += [(Pair(query.text, hit.passage), rule, Pair(form, hit.passage)) for rule, form in forms.items()]
    return found
