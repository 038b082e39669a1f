"""Tokens per second of our training and of TRL's SFTTrainer, side by side; run by the model environment's Python.

`python -m bench.training_job BASE RECORDS GROUPS` prints JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from training.adapters import load_base
from training.distill import attention
from training.distill.config import DistillConfig
from training.distill.job import Job, adapter_config, arguments, load_rows
from training.distill.tokens import Packed
from training.distill.trainer import GroupTrainer, Weights
from whyrank.prompt import Constraint

PAIRS_AT_ONCE = 8


def ours(job: Job, rows: list[Packed], tokenizer: Any) -> float:
    """Seconds of our trainer over the rows."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = GroupTrainer(
            load_base(job.base, quantize=False, attn_implementation=attention.NAME),
            args=arguments(job.config, Path(folder)),
            processing_class=tokenizer,
            peft_config=adapter_config(job.config),
            rows=rows,
            order=range(len(rows)),
            weights=Weights(1.0, 1.0, 1.0),
        )
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def trls(job: Job, rows: list[Packed], tokenizer: Any) -> float:
    """Seconds of TRL's trainer over the same pairs, each a sequence of its own, lengths grouped, loss on the answer."""
    pairs = [(row.prefix + branch.ids, branch.answer_length) for row in rows for branch in row.branches]
    data = Dataset.from_dict(
        {
            "input_ids": [ids for ids, _ in pairs],
            "labels": [[-100] * (len(ids) - length) + ids[-length:] for ids, length in pairs],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        options = arguments(job.config, Path(folder)).to_dict()
        changed = {"per_device_train_batch_size": PAIRS_AT_ONCE, "train_sampling_strategy": "group_by_length"}
        known = SFTConfig.__dataclass_fields__
        args = SFTConfig(**{k: v for k, v in {**options, **changed}.items() if k in known and k != "dataset_kwargs"})
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(job.base, dtype="float32"),
            args=args,
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=adapter_config(job.config),
        )
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def main(base: str, records: Path, groups: int) -> None:
    """Measure both, ours first and last, so that what the machine does meanwhile shows."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = DistillConfig(max_groups=groups, label_mode_share=0.0, groups_per_step=1)
    job = Job(config, records, base, Constraint.QUOTE, Path())
    loaded = load_rows(job, tokenizer)
    rows, counts = loaded.packed, loaded.counts
    first, theirs, last = ours(job, rows, tokenizer), trls(job, rows, tokenizer), ours(job, rows, tokenizer)
    print(json.dumps({**counts, "ours_s": [first, last], "trl_s": theirs}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
