"""A model and a peft adapter -> one model with the adapter in its weights. Run by the model environment's Python.

python merge_adapter.py MODEL ADAPTER FOLDER bfloat16|float32

Applying an adapter at each step costs a CPU forty times the time of the step; in the weights it costs nothing.
"""

import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(model: Path, adapter: Path, folder: Path, dtype: str) -> None:
    """Merge in float32, whatever the model is kept in, so that it is rounded once."""
    # An adapter that does not fit would be loaded in part, and the rest left as it was initialised.
    warnings.filterwarnings("error", message="Found missing adapter keys")
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(safe_merge=True)
    merged.to(getattr(torch, dtype)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model, local_files_only=True).save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
