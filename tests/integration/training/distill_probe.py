"""What a packed group computes, beside each of its pairs by itself; run by the model environment's Python.

`python -m tests.integration.training.distill_probe BASE RECORDS` prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.distill import attention
from training.distill.losses import learnt_positions, relevance_logits, terms
from training.distill.tokens import Renderer
from training.records import Group, Judgement, read
from whyrank.prompt import Constraint
from whyrank.types import Mode


def main(base: str, records: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation=attention.NAME).eval()
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    (group, *_) = read(records / "groups.jsonl", Group)
    judged = {j.passage: j for j in read(records / "judgements.jsonl", Judgement) if j.group == group.id}
    found = {}
    for mode in Mode:
        row = Renderer(tokenizer, Constraint.QUOTE).pack(group, judged, mode, 4096)
        assert row is not None
        with torch.inference_mode():
            at, following, labels = learnt_positions(row)
            packed = model(
                input_ids=torch.tensor([row.ids]),
                position_ids=row.positions()[None],
                bounds=row.bounds(),
                use_cache=False,
            ).logits[0, at]
            alone = torch.cat(
                [
                    plain(input_ids=torch.tensor([row.prefix + b.ids])).logits[0, -b.answer_length - 1 : -1]
                    for b in row.branches
                ]
            )
            parts = terms(packed, row)
        answers = [tokenizer.decode(b.ids[-b.answer_length :]) for b in row.branches]
        own = [tokenizer.decode(row.prefix + b.ids[: -b.answer_length]) for b in row.branches]
        scores = torch.softmax(packed[labels][:, list(row.label_ids)], dim=-1)
        found[mode.value] = {
            "difference": float((packed - alone).abs().max()),
            "size": float(alone.abs().max()),
            "shared": len(row.prefix),
            "answers": answers,
            "prompts": own,
            "label_tokens": [tokenizer.decode([following[i]]) for i in labels],
            "labels": [tokenizer.decode([token]) for token in row.label_ids],
            "relevance": torch.sigmoid(relevance_logits(packed[labels][:, list(row.label_ids)])).tolist(),
            "expected": ((scores[:, 1] + 2 * scores[:, 2]) / 2).tolist(),
            "terms": [float(parts.explanation), float(parts.label), float(parts.listwise)],
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
