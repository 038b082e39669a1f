"""The reward model's opinions: `python -m training.refine.reward_job JOB.json`, by the model environment's Python.

A sequence classifier with one logit over the whole conversation, in the model's own chat template, as
Skywork-Reward-Llama-3.1-8B-v0.2 is used.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from training.model_job import job_main, tell
from training.records import append, read
from training.refine.config import Conversation, ConversationScore, RewardJob
from training.stages import StageError
from whyrank.embedded.cache import exclusive


def load(name: str) -> tuple[Any, Any]:
    """(model, tokenizer). Raises StageError for a model that has not one logit."""
    cuda = torch.cuda.is_available()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(
            name, dtype=torch.bfloat16 if cuda else torch.float32, device_map="auto" if cuda else None
        )
    except (OSError, ValueError) as error:
        raise StageError(f"the reward model {name} cannot be loaded: {error}") from error
    if model.config.num_labels != 1:
        raise StageError(f"the reward model {name} has {model.config.num_labels} logits, and one is needed")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # The logit is read at the last token that is no padding, which the model finds by this id
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def score(model: Any, tokenizer: Any, ids: Sequence[Sequence[int]]) -> list[float]:
    """The logits of conversations of like lengths."""
    width = max(map(len, ids))
    rows = [[*row, *[tokenizer.pad_token_id] * (width - len(row))] for row in ids]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in ids]
    with torch.inference_mode():
        logits = model(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
        ).logits
    values: list[float] = logits[:, 0].float().tolist()
    return values


def run(job: RewardJob) -> dict[str, Any]:
    """Score the conversations that have no score yet. Gives the step's figures."""
    output = job.folder / "scores.jsonl"
    with append(output):
        pass  # half a line that a killed run left is dropped
    known = {found.id for found in read(output, ConversationScore, verify=False)}
    left = [each for each in read(job.data, Conversation) if each.id not in known]
    if not left:
        return {"scored": len(known), "tokens_per_second": 0.0}
    tell("loading the reward model", None)
    model, tokenizer = load(job.base)
    texts = [tokenizer.apply_chat_template(each.messages, tokenize=False) for each in left]
    # The template writes the special tokens. From the left: the answer, at the end, is what is judged
    ids = [row[-job.config.reward_max_length :] for row in tokenizer(texts, add_special_tokens=False).input_ids]
    order = sorted(range(len(left)), key=lambda i: len(ids[i]))
    began = time.monotonic()
    with append(output) as add:
        for start in range(0, len(order), job.config.reward_batch):
            chosen = order[start : start + job.config.reward_batch]
            for index, value in zip(chosen, score(model, tokenizer, [ids[i] for i in chosen]), strict=True):
                add(ConversationScore(left[index].id, value))
            tell("scoring", (start + len(chosen)) / len(order))
    seconds = time.monotonic() - began
    return {"scored": len(known) + len(left), "tokens_per_second": sum(map(len, ids)) / seconds}


if __name__ == "__main__":
    with exclusive(Path(sys.argv[1]).with_name("lock")):
        job_main(RewardJob, run)
