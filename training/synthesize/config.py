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
    positive_weight: Annotated[float, Meta(ge=0.0)] = 0.0
    """What a passage gains by being mined as a positive, in standard deviations: a link or a click is evidence that
    no similarity has."""
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
    primer_groups: Annotated[int, Meta(ge=0)] = 0
    """How many groups of single sentences the student learns first (training/synthesize/primer.py)."""
    primer_sentences: Annotated[int, Meta(ge=2, le=64)] = 16
    """Sentences in each of them."""
    threads: int | None = None
    """Threads of the encoders; None for all cores."""


class SynthesizeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who judges, what, and at what pace and cost. All but the first three and the last are of the OpenAI teacher."""

    teacher: Literal["offline", "openai"] = "offline"
    splits: tuple[Split, ...] = (Split.TRAIN, Split.VALIDATION)
    """Groups of these are judged; groups of the others are handed on unjudged."""
    dry_run: bool = False
    """Count and estimate only: nothing is asked, nothing is written."""
    model: str = ""
    """The teacher's name on its server (WHYRANK_TEACHER_URL)."""
    queries_per_origin: Annotated[int, Meta(ge=0, le=10)] = 0
    """How many search queries the teacher writes for each origin."""
    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 16
    """Calls in flight: as many may be lost, though paid for, when the stage is killed."""
    requests_per_minute: Annotated[float, Meta(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Meta(gt=0)] | None = None
    """Prompt tokens as estimated, and the most that may be answered."""
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.0
    """Of the first attempt; each further one is 0.3 warmer."""
    max_tokens: Annotated[int, Meta(ge=16)] = 512
    """New tokens of an answer at most; a teacher that thinks aloud needs some thousands."""
    logprobs: bool = True
    """Ask for token probabilities: soft labels where the server gives them. Off for servers that refuse to."""
    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    """Answers that are asked of a pair until one is well-formed and its quotes are grounded."""
    timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    """Longest wait for one answer."""
    retries: Annotated[int, Meta(ge=0, le=20)] = 8
    """Of a call that meets 429, 5xx, a timeout or no server, with growing pauses, or those that the server asks for."""
    price_in: Annotated[float, Meta(ge=0.0)] = 0.0
    """Price of a million prompt tokens, in any currency."""
    price_out: Annotated[float, Meta(ge=0.0)] = 0.0
    """Price of a million answered tokens."""
    max_cost: Annotated[float, Meta(gt=0.0)] | None = None
    """The stage asks nothing more that could cost more than this in all, and hands on what it has."""
    offline: OfflineConfig = OfflineConfig()
