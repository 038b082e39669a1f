"""GGUF weights -> the folder of safetensors that vLLM serves. Run by the model environment's Python, never imported.

python convert_gguf.py WEIGHTS.gguf FOLDER bfloat16|float32
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(weights: Path, folder: Path, dtype: str) -> None:
    """Read, dequantise and save the model and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(
        weights.parent, gguf_file=weights.name, dtype=getattr(torch, dtype), local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name, local_files_only=True)
    # The weights are plain numbers by now; left in place, these marks make `save_pretrained` refuse.
    model.is_quantized = False
    for mark in ("hf_quantizer", "quantization_method"):
        if hasattr(model, mark):
            setattr(model, mark, None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
