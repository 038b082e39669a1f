"""What the stage `refine` is told, and what its two jobs in the model's environment are told."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from whyrank.types import Mode

NotNegative = Annotated[float, Meta(ge=0.0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1)]


class Objective(StrEnum):
    """How the student learns from its rewarded answers."""

    RWL = "rwl"
    """Reward-weighted likelihood, the paper's: r^`reward_power` · NLL of each kept answer."""
    DPO = "dpo"
    """Direct preference optimisation (Rafailov et al., 2023, arXiv 2305.18290) of each pair's best answer over its
    worst."""


class Scale(StrEnum):
    """Over which answers rewards are min-max normalised."""

    PAIR = "pair"
    """Those of one pair, as in the paper: its best answer has 1, its worst 0."""
    ROUND = "round"
    """All of the round (ablation): pairs that the student answers well anyway then weigh more."""


class Keep(StrEnum):
    """Which student is the stage's result."""

    BEST = "best"
    """The best one on the validation pairs; the distilled one counts, so a harmful refinement leaves no adapter."""
    LAST = "last"


class RewardWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each reward weighs in the sum; 0 switches it off. The paper's is `model` alone."""

    format: NotNegative = 1.0
    """1 where the answer can be read, else 0."""
    quotes: NotNegative = 1.0
    """The share of its quotes that stand in the passage."""
    label: NotNegative = 1.0
    """How near its label is to the teacher's soft one."""
    ranking: NotNegative = 1.0
    """What its relevance does to the group's nDCG."""
    model: NotNegative = 1.0
    """The reward model's opinion of the conversation, where there is a `reward_model`."""


class RefineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The paper's loop. Each part has a switch, for ablations."""

    rounds: Annotated[int, Meta(ge=0)] = 2
    """0 switches the stage off: the distilled student stays."""
    pairs_per_round: Count = 1000
    """Whole groups are taken, as many as fit; each round takes the next ones."""
    validation_pairs: Annotated[int, Meta(ge=0)] = 200
    """Judged by each student as it would be served, to choose the best one."""
    keep: Keep = Keep.BEST

    mode: Mode = Mode.REASON
    samples: Annotated[int, Meta(ge=2, le=128)] = 8
    temperature: Annotated[float, Meta(gt=0.0, le=2.0)] = 1.0
    max_tokens: Count | None = None
    """New tokens of an explanation; None: WHYRANK_MAX_EXPLANATION_TOKENS, as when serving."""
    server: str = ""
    """A vLLM (address with /v1) that takes adapters while it runs; empty: WHYRANK_MODEL_URL where that is set, else
    an embedded server is started for each student."""
    concurrency: Count = 16
    """Pairs in flight at the model server."""
    attempts: Count = 8
    """For one pair, while the model server is away or overloaded."""
    backoff_s: NotNegative = 1.0
    """Wait before the second attempt; it doubles up to 30 s."""

    rewards: RewardWeights = RewardWeights()
    reward_model: str | None = None
    """Folder or Hugging Face name of a sequence classifier with one logit."""
    reward_batch: Count = 8
    reward_max_length: Count = 4096
    standardise: bool = True
    """Each reward in its standard deviations before they are added, so that weights compare; off: as they are."""
    scale: Scale = Scale.PAIR
    min_reward: Share = 0.5
    """Answers with less (normalised) are dropped; 0 keeps all."""
    boost: bool = True
    """Multiply by the share of the student's labels on the pair that differ from the teacher's."""
    reward_power: NotNegative = 3.0
    """1: linear; 0: kept answers count alike (rejection sampling)."""

    objective: Objective = Objective.RWL
    beta: Annotated[float, Meta(gt=0.0)] = 0.1
    """Of DPO: how strongly the student is held to where it started."""
    learning_rate: Annotated[float, Meta(gt=0.0)] = 5e-5
    epochs: Count = 1
    """Over one round's kept answers."""
    batch: Count = 16
    """Sequences (DPO: preference pairs) of one optimiser step, over all devices."""
    device_batch: Count = 4
    """Sequences that one device computes at once."""
    max_length: Count = 2048
    """Tokens of prompt and answer; longer ones are left out, and counted."""
    save_steps: Count = 50
    """Optimiser steps between checkpoints: what a kill can cost."""
    processes: Count = 1
    """Training processes, one for each GPU (accelerate)."""
    qlora: bool = False
    """The base in 4-bit NF4 (needs CUDA and bitsandbytes)."""
    seed: int = 0


class TrainJob(msgspec.Struct, frozen=True):
    """What `python -m training.refine.job FILE` is told (training/model_job.py)."""

    base: str
    folder: Path
    """Where `checkpoints/` are, and where `adapter/` appears, whole."""
    adapter: Path
    """The adapter to go on from."""
    data: Path
    """JSONL of `KeptAnswer`, or of `Preference` for DPO."""
    config: RefineConfig


class RewardJob(msgspec.Struct, frozen=True):
    """What `python -m training.refine.reward_job FILE` is told."""

    base: str
    """The reward model."""
    folder: Path
    """Where `scores.jsonl` (`ConversationScore`) grows."""
    data: Path
    """JSONL of `Conversation`."""
    config: RefineConfig


class Conversation(msgspec.Struct, frozen=True):
    """One answer in its chat, for the reward model."""

    id: int
    messages: list[dict[str, str]]


class ConversationScore(msgspec.Struct, frozen=True):
    """The reward model's logit."""

    id: int
    score: float


class Completion(msgspec.Struct, frozen=True):
    """The words of an answer, as the student is to write them."""

    text: str
    finished: bool = True
    """The student ended it itself; one that was cut does not teach where to end."""


class KeptAnswer(msgspec.Struct, frozen=True):
    """An answer to learn, with its weight in the loss."""

    messages: list[dict[str, str]]
    answer: Completion
    weight: float


class Preference(msgspec.Struct, frozen=True):
    """A pair's best and worst answer."""

    messages: list[dict[str, str]]
    chosen: Completion
    rejected: Completion
