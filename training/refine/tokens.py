"""Answers as token ids, as the student read and wrote them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.refine.config import Completion

_POOL_BATCHES = 50
"""Batches of like lengths are made inside pools of so many: little padding, and still an order of its own."""


@dataclass(frozen=True)
class Encoded:
    """A prompt and one answer to it."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def encode(tokenizer: Any, messages: list[dict[str, str]], answer: Completion) -> Encoded:
    """Prompt and answer are tokenised apart, because that is where the model server begins to write."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    ids: list[int] = tokenizer(answer.text, add_special_tokens=False).input_ids
    return Encoded(prompt, [*ids, tokenizer.eos_token_id] if answer.finished else ids)


def epochs_in_order(lengths: Sequence[int], batch: int, epochs: int, seed: int) -> list[int]:
    """Indices of all epochs in the order in which they are learnt, batches of like lengths together.

    A fixed order rather than a sampler's, so that a training that was killed goes on exactly where it was.
    """
    order: list[int] = []
    for epoch in range(epochs):
        chance = random.Random(f"{seed}:{epoch}")  # noqa: S311  an order, not a secret
        indices = list(range(len(lengths)))
        chance.shuffle(indices)
        pool = batch * _POOL_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(indices), pool):
            alike = sorted(indices[start : start + pool], key=lambda i: lengths[i])
            batches += [alike[at : at + batch] for at in range(0, len(alike), batch)]
        # One that is not full would shift all that come after it
        last = batches.pop() if batches and len(batches[-1]) < batch else []
        chance.shuffle(batches)
        order += [index for each in [*batches, last] for index in each]
    return order
