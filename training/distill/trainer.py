"""TRL's SFTTrainer with packed groups in place of padded rows, and the group's loss in place of the tokens'."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import SFTTrainer

from training.distill.losses import learnt_positions, terms
from training.distill.tokens import Packed


class Weights:
    """Of the loss's parts."""

    def __init__(self, explanation: float, label: float, listwise: float) -> None:
        self.explanation = explanation
        self.label = label
        self.listwise = listwise


class GroupTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """Trains on `rows`, one packed group at a time on each device; `groups_per_step` is gradient accumulation.

    `order` holds indexes into `rows`, in the order in which they are learnt.
    """

    def __init__(
        self, *arguments: Any, rows: Sequence[Packed], order: Sequence[int], weights: Weights, **named: Any
    ) -> None:
        self._rows = rows
        self._weights = weights
        self._sums: dict[str, list[float]] = defaultdict(list)
        self.tokens_seen = 0
        super().__init__(
            *arguments, train_dataset=Dataset.from_dict({"row": order}), data_collator=self._collate, **named
        )

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row"]

    def _collate(self, examples: Sequence[dict[str, int]]) -> dict[str, Any]:
        (example,) = examples  # groups differ in length: batches of more than one would be padding
        row = self._rows[example["row"]]
        return {
            "input_ids": torch.tensor([row.ids]),
            "position_ids": row.positions()[None],
            "bounds": row.bounds(),
            "logits_to_keep": torch.tensor(learnt_positions(row)[0]),
            "row": example["row"],
        }

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,  # noqa: ARG002
    ) -> Any:
        """The group's loss: a scalar. Its parts go to the log."""
        row = self._rows[inputs.pop("row")]
        outputs = model(**inputs, use_cache=False)
        parts = terms(outputs.logits[0], row)
        weights = self._weights
        loss = weights.explanation * parts.explanation + weights.label * parts.label + weights.listwise * parts.listwise
        self.tokens_seen += len(row.ids)
        for name in ("explanation", "label", "listwise"):
            self._sums[name].append(float(getattr(parts, name).detach()))
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the loss's parts since the last line."""
        logs |= {f"{name}_loss": sum(values) / len(values) for name, values in self._sums.items() if values}
        self._sums.clear()
        super().log(logs, start_time)
