"""Learning of one round: `python -m training.refine.job JOB.json`, by the model environment's Python.

It goes on from its newest checkpoint. With `processes` above 1 it starts itself again under accelerate.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoTokenizer
from trl import DPOConfig, SFTConfig

from training.adapters import Watch, load_base, save_adapter
from training.distill.checkpoints import newest
from training.model_job import job_main, tell
from training.records import read
from training.refine.config import KeptAnswer, Objective, Preference, TrainJob
from training.refine.tokens import Encoded, encode, epochs_in_order
from training.refine.trainers import (
    EncodedDPOTrainer,
    WeightedTrainer,
    collate_weighted,
    learnt,
)
from training.stages import StageError
from whyrank.embedded.cache import exclusive

Row = dict[str, Any]


def weighted_rows(job: TrainJob, tokenizer: Any) -> list[tuple[int, Row]]:
    """(length, row of `WeightedTrainer`) of each kept answer."""
    rows: list[tuple[int, Row]] = []
    for kept in read(job.data, KeptAnswer):
        found = encode(tokenizer, kept.messages, kept.answer)
        ids = [*found.prompt, *found.answer]
        row = {"input_ids": ids, "labels": learnt(found.prompt, found.answer), "weight": kept.weight}
        rows.append((len(ids), row))
    return rows


def preference_rows(job: TrainJob, tokenizer: Any) -> list[tuple[int, Row]]:
    """(length of the longer answer with its prompt, row of `EncodedDPOTrainer`) of each preference."""
    rows: list[tuple[int, Row]] = []
    for preference in read(job.data, Preference):
        chosen: Encoded = encode(tokenizer, preference.messages, preference.chosen)
        rejected = encode(tokenizer, preference.messages, preference.rejected)
        row = {"prompt_ids": chosen.prompt, "chosen_ids": chosen.answer, "rejected_ids": rejected.answer}
        rows.append((max(len(chosen), len(rejected)), row))
    return rows


def in_order(job: TrainJob, rows: Sequence[tuple[int, Row]], world: int) -> Dataset:
    """The rows of all epochs in the order in which they are learnt."""
    config = job.config
    lengths = [length for length, _ in rows]
    order = epochs_in_order(lengths, config.device_batch * world, config.epochs, config.seed)
    return Dataset.from_list([rows[index][1] for index in order])


def arguments(job: TrainJob, world: int) -> dict[str, Any]:
    """What both trainers are told. One epoch: the rows hold all of them already."""
    config = job.config
    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(job.folder / "checkpoints"),
        "per_device_train_batch_size": config.device_batch,
        "gradient_accumulation_steps": max(1, config.batch // (config.device_batch * world)),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "num_train_epochs": 1,
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "logging_steps": 5,
        "logging_first_step": True,
        "save_steps": config.save_steps,
        "save_total_limit": 2,
        "bf16": cuda,
        "use_cpu": not cuda,
        "gradient_checkpointing": cuda,
        "seed": config.seed,
        "train_sampling_strategy": "sequential",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "max_length": None,
        "dataloader_pin_memory": cuda,
    }


def make_trainer(job: TrainJob, tokenizer: Any, rows: Sequence[tuple[int, Row]], world: int) -> Any:
    """The objective's trainer, on the adapter to go on from."""
    data, shared = in_order(job, rows, world), arguments(job, world)
    model = PeftModel.from_pretrained(
        load_base(job.base, quantize=job.config.qlora), str(job.adapter), is_trainable=True
    )
    if job.config.objective is Objective.DPO:
        return EncodedDPOTrainer(
            model,
            args=DPOConfig(**shared, beta=job.config.beta),
            processing_class=tokenizer,
            train_dataset=data,
            callbacks=[Watch()],
        )
    return WeightedTrainer(
        model,
        args=SFTConfig(**shared, dataset_kwargs={"skip_prepare_dataset": True}),
        processing_class=tokenizer,
        train_dataset=data,
        data_collator=partial(collate_weighted, pad=tokenizer.pad_token_id or tokenizer.eos_token_id),
        callbacks=[Watch()],
    )


def train(job: TrainJob) -> dict[str, Any]:
    """Train, or go on training; the adapter is in `adapter` when this returns. Gives the round's figures."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    tokenizer = AutoTokenizer.from_pretrained(job.base)
    encoded = (preference_rows if job.config.objective is Objective.DPO else weighted_rows)(job, tokenizer)
    rows = [(length, row) for length, row in encoded if length <= job.config.max_length]
    if not rows:
        raise StageError(f"all {len(encoded)} answers to learn are longer than max_length = {job.config.max_length}")
    checkpoint, faults = newest(job.folder / "checkpoints")
    for fault in faults:
        tell(f"{fault}: going on from an older checkpoint", None)
    tell("loading the base model", None)
    trainer = make_trainer(job, tokenizer, rows, world)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - began
    before = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    if trainer.is_world_process_zero():
        save_adapter(trainer, job.folder / "adapter")
    steps = trainer.state.global_step
    tokens = _tokens(rows) * job.config.epochs
    history = [line for line in trainer.state.log_history if "loss" in line]
    return {
        "learnt": len(rows),
        "too_long": len(encoded) - len(rows),
        "tokens": tokens,
        "steps": steps,
        "resumed_at": before,
        "tokens_per_second": tokens * (steps - before) / steps / seconds if steps else 0.0,
        "losses": [line["loss"] for line in history],
        "margins": [line["rewards/margins"] for line in history if "rewards/margins" in line],
    }


def _tokens(rows: Sequence[tuple[int, Row]]) -> int:
    return sum(len(ids) for _, row in rows for name, ids in row.items() if name.endswith("_ids"))


def _under_accelerate() -> None:
    """Give this process over to accelerate's launcher where the job wants several and is not one of them yet."""
    processes = msgspec.json.decode(Path(sys.argv[1]).read_bytes())["config"]["processes"]
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        launcher = ["-m", "accelerate.commands.launch", "--num_processes", str(processes), "--num_machines", "1"]
        job = ["--module", "training.refine.job", sys.argv[1]]
        os.execv(sys.executable, [sys.executable, *launcher, *job])  # noqa: S606  the same program


def main() -> None:
    """The job, one at a time: one that a killed stage has left behind is waited for."""
    _under_accelerate()
    if os.environ.get("RANK", "0") != "0":
        job_main(TrainJob, train)
        return
    with exclusive(Path(sys.argv[1]).with_name("lock")):
        job_main(TrainJob, train)


if __name__ == "__main__":
    main()
