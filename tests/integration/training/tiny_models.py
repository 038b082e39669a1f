"""Tiny random models, and what they think of an answer; run by the model environment's Python.

`python -m tests.integration.training.tiny_models make FOLDER TOKENIZER` writes FOLDER/base (a Llama of two layers),
FOLDER/adapter and FOLDER/reward (a sequence classifier); `... likelihoods BASE QUESTIONS ADAPTER ...` prints, for
each adapter and each line of JSONL `{"messages": ..., "answer": ...}`, the mean log probability of the answer's tokens.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def make(folder: Path, tokenizer_folder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(1)
    shape = LlamaConfig(
        **SIZES,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    base = LlamaForCausalLM(shape)
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained(folder / "adapter")
    shape.num_labels = 1
    LlamaForSequenceClassification(shape).save_pretrained(folder / "reward")
    tokenizer.save_pretrained(folder / "reward")


def likelihoods(base: str, questions: Path, adapters: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    for adapter in adapters:
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter
        ).eval()
        for line in questions.read_text().splitlines():
            question = json.loads(line)
            text = tokenizer.apply_chat_template(question["messages"], tokenize=False, add_generation_prompt=True)
            prompt = tokenizer(text, add_special_tokens=False).input_ids
            answer = [*tokenizer(question["answer"], add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            found = torch.log_softmax(logits.float(), dim=-1)[range(len(answer)), answer]
            print(float(found.mean()))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), sys.argv[3])
    else:
        likelihoods(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
