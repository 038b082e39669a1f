"""What a recipe's section `synthesize` may say."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from training.records import Split

EMBEDDED = "embedded"
"""Names the bi-encoder of this machine among `encoders`."""

Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class OfflineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the offline teacher makes labels of similarities (training/synthesize/soft_labels.py)."""

    encoders: Annotated[tuple[str, ...], Meta(min_length=1)] = (EMBEDDED,)
    """`embedded`, or folders with `encoder.json`, `model.onnx`, `tokenizer.json`; the first one chooses the quotes."""
    engine_weight: Share = 0.0
    """Share of the engine's score, standardised within its group, in the score."""
    relative_weight: Share = 0.5
    """Share of a cosine's standing within its group; the rest is its standing among all pairs."""
    shares: tuple[float, float, float] = (0.55, 0.27, 0.18)
    """How many of the labels are to be 0, 1 and 2: they place the cut points."""
    temperature: Annotated[float, Meta(gt=0.0)] = 0.4
    """Softness of the labels, in standard deviations of the score."""
    sentences: Annotated[int, Meta(ge=1)] = 12
    """How many sentences of a passage are encoded to find the best quote: those sharing most words with the query."""
    quotes: Annotated[int, Meta(ge=1, le=2)] = 1
    """How many sentences an explanation quotes."""
    threads: int | None = None
    """Threads of the encoders; None for all cores."""


class SynthesizeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who judges, what, and at what pace and cost."""

    teacher: Literal["offline", "openai"] = "offline"
    splits: tuple[Split, ...] = (Split.TRAIN, Split.VALIDATION)
    """Groups of these are judged; groups of the others are handed on unjudged."""
    offline: OfflineConfig = OfflineConfig()
