"""TRL's trainers with what refinement needs: a weight for each answer, and the very tokens that were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import DPOTrainer, SFTTrainer

from training.stages import StageError

_IGNORED = -100


def load_base(name: str, *, qlora: bool) -> Any:
    """The base model, in 4-bit NF4 for QLoRA (Dettmers et al., 2023, arXiv 2305.14314).

    Raises StageError where there is no such model, or no bitsandbytes for QLoRA.
    """
    extra: dict[str, Any] = {}
    if qlora:
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **extra)
    except (ImportError, OSError, ValueError) as error:
        raise StageError(f"the base model {name} cannot be loaded: {error}") from error


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


def save_adapter(trainer: Any, folder: Path) -> None:
    """The trained adapter alone, in bfloat16 as `distill` leaves it, whole or not at all."""
    draft = folder.with_name(folder.name + ".draft")
    model = trainer.accelerator.unwrap_model(trainer.model)
    state = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items() if "lora_" in name}
    config = model.peft_config["default"]
    if isinstance(config.target_modules, set):  # whose order would be another one in each process
        config.target_modules = sorted(config.target_modules)
    model.save_pretrained(draft, state_dict=state, selected_adapters=["default"])
    draft.replace(folder)
