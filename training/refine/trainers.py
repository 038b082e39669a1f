"""TRL's trainers with what refinement needs: a weight for each answer, and the very tokens that were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from trl import DPOTrainer, SFTTrainer

_IGNORED = -100


class WeightedTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """Reward-weighted likelihood: the negative log-likelihood of each answer's tokens times the answer's weight.

    Averaged over the tokens of an optimiser step, so that with weights of 1 it is SFTTrainer's own loss.
    """

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["input_ids", "labels", "weight"]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """A scalar; `inputs["weight"]` has shape (sequences,)."""
        weight = inputs.pop("weight")
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        nll = -(outputs.log_probs * weight[:, None])  # zero where nothing is learnt
        tokens = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss = nll.sum() / torch.as_tensor(tokens).clamp(min=1)
        if num_items_in_batch is not None:  # those of all devices, whose gradients are averaged
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


class EncodedDPOTrainer(DPOTrainer):  # type: ignore[misc]  # TRL has no types
    """DPO on token ids: the rows have `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Trainer's own sees the reference adapter's folder in the checkpoint, and then loads that one alone."""
        model = self.model if model is None else model
        model.load_adapter(resume_from_checkpoint, "default", is_trainable=True)


def collate_weighted(examples: Sequence[dict[str, Any]], pad: int) -> dict[str, torch.Tensor]:
    """Rows of `input_ids`, `labels` and `weight` as tensors (sequences, tokens), padded on the right."""
    ids = [torch.tensor(example["input_ids"]) for example in examples]
    labels = [torch.tensor(example["labels"]) for example in examples]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=_IGNORED),
        "weight": torch.tensor([example["weight"] for example in examples]),
    }


def learnt(prompt: Sequence[int], answer: Sequence[int]) -> list[int]:
    """Labels of a prompt and its answer: only the answer is learnt."""
    return [_IGNORED] * len(prompt) + list(answer)
