"""The section `distill` of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Weight = Annotated[float, Meta(ge=0.0)]


class DistillConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the student is trained. The recipe `interank` has the paper's values."""

    start: Literal["base", "current"] = "base"
    """Begin with the base model, or go on from the current version's adapter (whose rank, alpha, dropout and targets
    it then has): what the new pages teach is learnt in minutes where the base needs an hour."""
    explanation_weight: Weight = 0.3
    """Of the mean negative log-likelihood of the answer's tokens before the label."""
    label_weight: Weight = 1.0
    """Of the cross-entropy at the label token."""
    listwise_weight: Weight = 1.0
    """Of ListNet's cross-entropy over the group; 0 switches the term off."""
    soft_labels: bool = True
    """Learn the teacher's label probabilities instead of its label."""
    label_mode_share: Share = 0.25
    """Of the groups, those that are learnt in mode `label`, without explanation."""
    rank: Annotated[int, Meta(ge=1, le=512)] = 16
    alpha: Annotated[float, Meta(gt=0)] = 32
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    quantize: bool = False
    """QLoRA: the base in 4 bits (NF4), by bitsandbytes; needs a GPU."""
    learning_rate: Annotated[float, Meta(gt=0)] = 5e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.04
    epochs: Annotated[float, Meta(gt=0)] = 1.0
    groups_per_step: Annotated[int, Meta(ge=1)] = 2
    """On each device; groups differ in length, so a device computes one after the other and pads nothing."""
    max_tokens: Annotated[int, Meta(ge=64)] = 4096
    """Of a packed group (instruction and query once, then every passage with its answer); what is over is left out."""
    max_groups: Annotated[int, Meta(ge=1)] | None = None
    checkpoint_steps: Annotated[int, Meta(ge=1)] = 50
    seed: int = 7
