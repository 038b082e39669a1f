"""One round's samples made into what is learnt, and the figures that say how (pure but for reading the samples)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from training.refine.config import Completion, KeptAnswer, Objective, Preference, RefineConfig
from training.refine.pairs import JudgedPair
from training.refine.rewards import (
    Batch,
    Floats,
    FormatReward,
    LabelReward,
    ModelReward,
    QuotesReward,
    RankingReward,
    Reward,
)
from training.refine.sampling import SampledAnswer, Samples
from training.refine.weighting import boosts, combine, loss_weights, normalise, preferences
from whyrank import prompt
from whyrank.prompt import STOP, Constraint

_QUANTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Lesson:
    """What a round learns, and figures of how it came about."""

    rows: Sequence[msgspec.Struct]
    """`KeptAnswer`s, or `Preference`s for DPO."""
    figures: dict[str, Any]


def rewards(config: RefineConfig, logits: Floats | None) -> list[Reward]:
    """The rewards that are switched on; `logits` of shape (pairs, n) are the reward model's, where there is one."""
    every: list[Reward] = [FormatReward(), QuotesReward(), LabelReward(), RankingReward()]
    if logits is not None:
        every.append(ModelReward(logits))
    return [reward for reward in every if getattr(config.rewards, reward.name) > 0.0]


def lesson(batch: Batch, logits: Floats | None, config: RefineConfig, constraint: Constraint) -> Lesson:
    """Reward a round's answers and choose what is learnt of them."""
    scores = {reward.name: reward.score(batch) for reward in rewards(config, logits)}
    rewarded = combine(scores, config.rewards, standardise=config.standardise)
    normalised = normalise(rewarded, config.scale)
    boost = boosts(batch.labels, batch.teacher_label)
    applied = boost if config.boost else None
    weights = loss_weights(normalised, applied, config)
    teach = _Teaching(batch, config, constraint)
    rows: Sequence[msgspec.Struct]
    if config.objective is Objective.DPO:
        chosen = preferences(rewarded, normalised, applied, config)
        rows = [teach.preference(*triple) for triple in chosen.tolist()]
    else:
        rows = [teach.kept(row, n, float(weights[row, n])) for row, n in np.argwhere(weights > 0.0).tolist()]
    figures = {
        "pairs": len(batch.pairs),
        "answers": int(weights.size),
        "learnt": len(rows),
        "rewards": {name: _mean(values) for name, values in scores.items()},
        "normalised_reward": _mean(normalised),
        "kept_share": _mean(normalised >= config.min_reward),
        "learnt_share": _mean(weights > 0.0),
        "mean_weight": _mean(weights[weights > 0.0]),
        "label_agreement": _mean(batch.labels == batch.teacher_label[:, None]),
        "boost": {
            "mean": _mean(boost),
            "quartiles": np.quantile(boost, _QUANTILES).tolist(),
            "zero_share": _mean(boost == 0.0),
        },
    }
    return Lesson(rows, figures)


def messages_of(
    pair: JudgedPair, samples: Samples, config: RefineConfig, constraint: Constraint
) -> list[dict[str, str]]:
    """The chat that the student answered."""
    return prompt.messages(pair.query, pair.read_as(samples.read_chars), config.mode, constraint)


def completion(answer: SampledAnswer, constraint: Constraint) -> Completion:
    """The answer as the student is to write it: with the stop sequence that the server cut off (`prompt.answer`)."""
    text = answer.text.rstrip()
    ended = answer.finished and constraint is Constraint.NONE
    return Completion(f"{text} {STOP}" if ended else text, answer.finished)


class _Teaching:
    def __init__(self, batch: Batch, config: RefineConfig, constraint: Constraint) -> None:
        self._batch = batch
        self._config = config
        self._constraint = constraint

    def _messages(self, row: int) -> list[dict[str, str]]:
        return messages_of(self._batch.pairs[row], self._batch.samples[row], self._config, self._constraint)

    def _completion(self, row: int, number: int) -> Completion:
        return completion(self._batch.samples[row].answers[number], self._constraint)

    def kept(self, row: int, number: int, weight: float) -> KeptAnswer:
        return KeptAnswer(self._messages(row), self._completion(row, number), weight)

    def preference(self, row: int, best: int, worst: int) -> Preference:
        return Preference(self._messages(row), self._completion(row, best), self._completion(row, worst))


def _mean(values: Any) -> float:
    return float(np.mean(values)) if np.size(values) else 0.0
