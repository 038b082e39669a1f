"""A tiny random Llama and a random adapter for it, and what they answer. Run by the model environment's Python.

python tiny_llama.py make FOLDER         FOLDER/model, FOLDER/adapter, and FOLDER/expected.json: logits with the adapter
python tiny_llama.py logits MODEL JSON   logits of a model
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", "relevance", "label", "0", "1", "2"])}
PROMPT = torch.tensor([[1, 3, 4, 5, 6, 7]])


def make(folder: Path) -> None:
    """Write both, and what they answer together before they are merged."""
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "model")
    words = Tokenizer(WordLevel(WORDS, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(folder / "model")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"]
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False))
    adapted.save_pretrained(folder / "adapter")
    with torch.no_grad():
        logits = adapted.eval()(PROMPT).logits
    (folder / "expected.json").write_text(json.dumps(logits.tolist()))


def answer(model: Path, out: Path) -> None:
    """What a saved model answers, and the type of its weights."""
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype="auto", local_files_only=True)
    with torch.no_grad():
        logits = loaded.eval()(PROMPT).logits
    out.write_text(json.dumps({"logits": logits.tolist(), "dtype": str(loaded.dtype)}))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        answer(Path(sys.argv[2]), Path(sys.argv[3]))
