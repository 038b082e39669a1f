"""What every training of an adapter shares, in the model environment: loading its base, sealing checkpoints, saving."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from training.distill.checkpoints import seal
from training.model_job import tell
from training.stages import StageError


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers' callbacks have no types
    """Seals checkpoints, and tells the stage how far the training is."""

    def on_save(self, args: TrainingArguments, state: TrainerState, _: TrainerControl, **__: Any) -> None:
        """The checkpoint is complete."""
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_step_end(self, _: TrainingArguments, state: TrainerState, __: TrainerControl, **___: Any) -> None:
        """A step of the optimiser."""
        if state.is_world_process_zero:
            tell("training", state.global_step / state.max_steps)


def load_base(name: str, *, quantize: bool, **options: Any) -> Any:
    """The base model, in 4-bit NF4 for QLoRA (Dettmers et al., 2023, arXiv 2305.14314).

    `options` go to transformers. Raises StageError where there is no such model, or no bitsandbytes for QLoRA.
    """
    if quantize:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **options)
    except (ImportError, OSError, ValueError) as error:
        raise StageError(f"the base model {name} cannot be loaded: {error}") from error


def save_adapter(trainer: Any, folder: Path) -> None:
    """The trained adapter alone, in bfloat16, in place of `folder`: whole or not at all."""
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    state = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items() if "lora_" in name}
    config = model.peft_config["default"]
    if isinstance(config.target_modules, set):  # whose order would be another one in each process
        config.target_modules = sorted(config.target_modules)
    model.save_pretrained(draft, state_dict=state, selected_adapters=["default"])
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
