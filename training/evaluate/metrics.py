"""What an evaluation found, as data: `evaluate/metrics.json`. The report draws it, the promotion gate reads it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from whyrank.errors import BadRequestError
from whyrank.types import FusionWeights, Mode

METRICS_VERSION = 1
PRIMARY = "nDCG@10"
"""The measure that decides; the others are told beside it."""


class Role(StrEnum):
    """Which model a figure is about."""

    CANDIDATE = "candidate"
    CURRENT = "current"


class System(StrEnum):
    """One way to order the same candidates. `LM` and the like are the candidate model's, in mode `reason`."""

    ENGINE = "engine"
    """As the engine's BM25 has them."""
    ENCODER = "encoder"
    ENCODER_ENGINE = "encoder+engine"
    LM = "lm"
    LM_ENGINE = "lm+engine"
    ALL = "all"
    """Language model, bi-encoder and engine by the weights of the model's manifest: what is served."""
    LM_LABEL = "lm, label only"
    """The candidate asked for a label without an explanation (the paper's ablation)."""
    ALL_LABEL = "all, label only"
    CURRENT_LM = "current lm"
    CURRENT_ALL = "current all"
    """What is served now."""


class Answer(StrEnum):
    """What a comparison says."""

    YES = "yes"
    """The interval is above zero."""
    NO = "no"
    """The interval is below zero, or ends below `statistics.NEGLIGIBLE`: no gain worth speaking of is in it."""
    UNDECIDED = "undecided"


class Comparison(msgspec.Struct, frozen=True):
    """Two systems on the same queries. Means, difference and interval are of the measure, each collection alike."""

    system: System
    baseline: System
    measure: str
    mean: float
    baseline_mean: float
    difference: float
    """`mean - baseline_mean`."""
    low: float
    """Lower end of the 95% interval of the difference (paired bootstrap, stratified by collection)."""
    high: float
    p: float
    """Two-sided, by a paired randomisation test."""
    p_corrected: float
    """By Holm's method, for all comparisons of this family."""
    queries: int


class Bin(msgspec.Struct, frozen=True):
    """One point of the reliability curve."""

    low: float
    high: float
    pairs: int
    predicted: float
    """Mean probability of being relevant that the model gave these pairs."""
    observed: float
    """Share of them that is relevant."""


class Calibration(msgspec.Struct, frozen=True):
    """How far P(label 1) + P(label 2) is the share of pairs that are relevant."""

    pairs: int
    ece: float
    """Expected calibration error (Guo et al., 2017): mean distance of predicted and observed, 0 is best."""
    brier: float
    """Mean squared error of the probability (Brier, 1950), 0 is best."""
    bins: tuple[Bin, ...]


class Agreement(msgspec.Struct, frozen=True):
    """The model's labels beside those of a reference."""

    pairs: int
    accuracy: float
    kappa: float
    """Cohen's: 0 is chance, 1 is perfect."""
    weighted_kappa: float
    """The same with quadratic weights: 0 for 2 is worse than 1 for 2."""
    confusion: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]
    """Pairs by [label of the reference][label of the model]."""


class Consistency(msgspec.Struct, frozen=True):
    """The same pairs judged again with the query in other words."""

    pairs: int
    """Judgements compared."""
    equal_labels: float
    """Share of them with the label that the query as asked gave."""
    relevance_change: float
    """Mean absolute change of the relevance."""
    by_paraphrase: dict[str, float] = {}
    """`equal_labels` by kind of paraphrase."""


class Explanations(msgspec.Struct, frozen=True):
    """The answers of one model in one mode. Shares are in [0, 1]."""

    mode: Mode
    pairs: int
    parse_rate: float
    """Share of answers that could be read."""
    failures: dict[str, int]
    """The others, by kind of failure."""
    quotes: int
    quotes_verbatim: float
    """Share of all quotes that stand in their passage; 1 where there are none."""
    grounded: float
    """Share of explanations read that quote, and whose quotes all stand in the passage."""
    labels: tuple[int, int, int]
    """Answers by label."""
    agreement: Agreement | None = None
    """With the collections' judgements; None where there are none."""
    calibration: Calibration | None = None
    consistency: Consistency | None = None


class Model(msgspec.Struct, frozen=True):
    """One model that was evaluated."""

    role: Role
    name: str
    revision: str
    base: str
    adapter: str | None
    weights: FusionWeights
    """Of `System.ALL`."""
    explanations: dict[Mode, Explanations]
    pairs_per_s: float | None = None
    """Judged by this evaluation alone; None when all judgements were at hand from an earlier one."""


class CollectionFigures(msgspec.Struct, frozen=True):
    """What was found on one collection."""

    name: str
    documents: int
    queries: int
    pairs: int
    ceiling: float
    """The primary measure of the best order of the same candidates."""
    means: dict[System, dict[str, float]]
    """By system, then measure."""
    comparisons: tuple[Comparison, ...]
    """Of the primary measure; corrected within the collection."""


class WeightPoint(msgspec.Struct, frozen=True):
    """One point of the surface on which fusion weights were chosen."""

    weights: FusionWeights
    value: float
    """Mean of the primary measure, each collection alike."""


class WeightChoice(msgspec.Struct, frozen=True):
    """Fusion weights chosen on validation data: none of it is reported on."""

    weights: FusionWeights
    value: float
    queries: int
    collections: tuple[str, ...]
    surface: tuple[WeightPoint, ...]
    of_two: dict[System, FusionWeights] = {}
    """Chosen by the same rule for the orders of two signals."""
    best: float | None = None
    """The highest value of the surface: `value` is within one standard error of it."""


class Metrics(msgspec.Struct, frozen=True):
    """`evaluate/metrics.json`."""

    created: str
    machine: str
    depth: int
    passage_tokens: int
    models: dict[Role, Model]
    """The candidate, and the current model where there is one to compare with."""
    collections: tuple[CollectionFigures, ...]
    means: dict[System, dict[str, float]]
    """By system, then measure: the mean of the collections' means."""
    comparisons: tuple[Comparison, ...]
    """Over all collections: every comparison of the primary measure, corrected together."""
    weights: dict[System, FusionWeights]
    """By which each system of more than one signal was ordered."""
    encoder: str
    """The bi-encoder's name."""
    lm_adds: Answer
    """Whether the language model adds to engine and bi-encoder: `ALL` against `ENCODER_ENGINE`."""
    choice: WeightChoice | None = None
    """How the candidate's weights were chosen; None where they were given."""
    version: int = METRICS_VERSION

    def comparison(self, system: System, baseline: System) -> Comparison | None:
        """The comparison of these two over all collections; None where it was not made."""
        return next((c for c in self.comparisons if (c.system, c.baseline) == (system, baseline)), None)


def load(path: Path) -> Metrics:
    """Read metrics.json. Raises BadRequestError naming the file and what is wrong with it."""
    try:
        metrics = msgspec.json.decode(path.read_bytes(), type=Metrics)
    except OSError as error:
        raise BadRequestError("metrics", f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise BadRequestError("metrics", f"{path}: {error}") from error
    if metrics.version != METRICS_VERSION:
        raise BadRequestError("metrics", f"{path} has version {metrics.version}, this WhyRank reads {METRICS_VERSION}")
    return metrics


def save(metrics: Metrics, path: Path) -> None:
    """Write metrics.json, whole or not at all."""
    draft = path.with_name(path.name + ".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(metrics), indent=2) + b"\n")
    draft.replace(path)
