"""The training itself: `python -m training.distill.job JOB.json`, by the model environment's Python.

Under `accelerate launch -m training.distill.job JOB.json` it uses all GPUs of the machine.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoTokenizer, TrainerControl, TrainerState
from trl import SFTConfig

from training.adapters import Watch, load_base, save_adapter
from training.distill import attention
from training.distill.checkpoints import newest
from training.distill.config import DistillConfig
from training.distill.tokens import Packed, Renderer
from training.distill.trainer import GroupTrainer, Weights
from training.model_job import job_main, tell
from training.records import Group, Judgement, Split, read
from training.stages import StageError
from whyrank.prompt import Constraint
from whyrank.types import Mode


class Job(msgspec.Struct, forbid_unknown_fields=True):
    """What the stage hands over."""

    config: DistillConfig
    records: Path
    base: str
    """Folder or name of the base model."""
    constraint: Constraint
    folder: Path
    start: Path | None = None
    """The adapter to go on from; None for a new one."""


class Speaking(Watch):
    """Tells losses and speed as well."""

    def __init__(self) -> None:
        self.trainer: GroupTrainer | None = None
        self.started = time.monotonic()

    def on_log(self, _: SFTConfig, state: TrainerState, __: TrainerControl, logs: Any = None, **___: Any) -> None:
        """A line of the log."""
        if state.is_world_process_zero and logs and "loss" in logs and self.trainer is not None:
            speed = self.trainer.tokens_seen / (time.monotonic() - self.started)
            parts = ", ".join(f"{name} {logs[f'{name}_loss']:.3f}" for name in ("explanation", "label", "listwise"))
            tell(f"step {state.global_step}/{state.max_steps}: {parts}; {speed:.0f} tokens/s", None)


class Rows:
    """What is learnt: packed groups, and counts of what they hold and of what was left out."""

    def __init__(self, renderer: Renderer, config: DistillConfig) -> None:
        self.packed: list[Packed] = []
        self.primer = 0
        """How many of them, the first ones, are the primer's."""
        self.counts = {
            "groups": 0,
            "primer_groups": 0,
            "unusable_groups": 0,
            "pairs": 0,
            "tokens": 0,
            "tokens_unshared": 0,
        }
        self._renderer = renderer
        self._config = config

    def add(self, group: Group, judged: Mapping[str, Judgement], mode: Mode) -> None:
        """Pack a group, if it can be."""
        config = self._config
        row = self._renderer.pack(group, judged, mode, config.max_tokens, config.soft_labels)
        if row is None:
            self.counts["unusable_groups"] += 1
            return
        self.packed.append(row)
        self.counts["groups"] += 1
        self.counts["pairs"] += len(row.branches)
        self.counts["tokens"] += len(row.ids)
        self.counts["tokens_unshared"] += len(row.ids) + (len(row.branches) - 1) * len(row.prefix)

    def end_primer(self) -> None:
        """What is added from now on is not the primer's."""
        self.primer = self.counts["primer_groups"] = len(self.packed)

    def order(self) -> list[int]:
        """Indexes of `packed`: the primer once, then the rest for the configured epochs, shuffled by the seed."""
        chance = random.Random(self._config.seed)  # noqa: S311 - an order, not a secret
        rest = list(range(self.primer, len(self.packed)))
        wanted = round(self._config.epochs * len(rest))
        shuffled: list[int] = []
        while len(shuffled) < wanted:
            chance.shuffle(rest)
            shuffled += rest
        return [*range(self.primer), *shuffled[:wanted]]


def load_rows(job: Job, tokenizer: Any) -> Rows:
    """The primer's groups, then a choice (by the seed) of the train split's judged groups, packed."""
    config = job.config
    rows = Rows(Renderer(tokenizer, job.constraint), config)
    groups, judged = _judged(job.records, "primer_")
    for group in groups:
        rows.add(group, judged[group.id], Mode.LABEL)
    rows.end_primer()
    groups, judged = _judged(job.records, "")
    chance = random.Random(config.seed)  # noqa: S311 - a choice, not a secret
    chance.shuffle(groups)
    for group in groups[: config.max_groups]:
        mode = Mode.LABEL if chance.random() < config.label_mode_share else Mode.REASON
        rows.add(group, judged[group.id], mode)
    return rows


def _judged(records: Path, kind: str) -> tuple[list[Group], dict[str, dict[str, Judgement]]]:
    """The judged groups of the split train, and the judgements by group and passage."""
    judged: dict[str, dict[str, Judgement]] = defaultdict(dict)
    for judgement in read(records / f"{kind}judgements.jsonl", Judgement):
        judged[judgement.group][judgement.passage] = judgement
    groups = read(records / f"{kind}groups.jsonl", Group)
    return [group for group in groups if group.split is Split.TRAIN and group.id in judged], judged


def arguments(config: DistillConfig, folder: Path) -> SFTConfig:
    """The trainer's arguments."""
    cuda = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=config.groups_per_step,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        num_train_epochs=1,  # `Rows.order` repeats
        max_grad_norm=1.0,
        weight_decay=0.0,
        logging_steps=5,
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        bf16=cuda,
        use_cpu=not cuda,
        gradient_checkpointing=cuda,
        seed=config.seed,
        train_sampling_strategy="sequential",  # the primer first
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        dataloader_pin_memory=cuda,
    )


def adapter_config(config: DistillConfig) -> LoraConfig:
    """The adapter that is trained."""
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets),
        task_type="CAUSAL_LM",
    )


def train(job: Job) -> dict[str, Any]:
    """Train, or go on training; the adapter is in `adapter` when this returns. Gives the stage's figures."""
    config = job.config
    tell("reading the records", None)
    tokenizer = AutoTokenizer.from_pretrained(job.base)
    rows = load_rows(job, tokenizer)
    if len(rows.packed) == rows.primer:
        raise StageError("there is no judged group of the split train: mine more, or look at synthesize/report.json")
    checkpoint, faults = newest(job.folder / "checkpoints")
    for fault in faults:
        tell(f"{fault}: going on from an older checkpoint", None)
    tell("loading the base model", None)
    watch = Speaking()
    model = load_base(job.base, quantize=config.quantize, attn_implementation=attention.NAME)
    if job.start is not None:
        model = PeftModel.from_pretrained(model, str(job.start), is_trainable=True)
    trainer = GroupTrainer(
        model,
        args=arguments(config, job.folder),
        processing_class=tokenizer,
        peft_config=adapter_config(config) if job.start is None else None,
        callbacks=[watch],
        rows=rows.packed,
        order=rows.order(),
        weights=Weights(config.explanation_weight, config.label_weight, config.listwise_weight),
    )
    watch.trainer, watch.started = trainer, time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - watch.started
    if trainer.is_world_process_zero():
        save_adapter(trainer, job.folder / "adapter")
    history = [line for line in trainer.state.log_history if "loss" in line]
    return {
        **rows.counts,
        "steps": trainer.state.global_step,
        "resumed_at": int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
        "train_seconds": seconds,
        "tokens_per_second": trainer.tokens_seen / seconds,
        "losses": [
            {k: line[k] for k in ("step", "loss", "explanation_loss", "label_loss", "listwise_loss")}
            for line in history
        ],
    }


if __name__ == "__main__":
    job_main(Job, train)
