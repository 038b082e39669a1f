"""Groups as the model reads them: token ids, with instruction and query once for all passages of a group.

The prompts of a group differ only from the document on, so the shared beginning is computed once, and each passage
with its answer is a branch that sees the beginning and itself, at the positions that it has when served alone:
the same numbers as one sequence for each pair, for about two thirds of the tokens. (Prefix sharing as in
tree attention: `training.distill.attention`.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch

from training.records import Group, Judgement
from whyrank.folding import fold
from whyrank.prompt import Constraint, answer, messages, quotable
from whyrank.types import LabelProbabilities, Mode, Passage


@dataclass(frozen=True)
class Branch:
    """One passage's own tokens: the rest of its prompt, then the answer of which `answer_length` tokens are learnt."""

    ids: list[int]
    answer_length: int
    label_at: int
    """Index into `ids` of the label's token."""
    target: LabelProbabilities
    relevance: float


@dataclass
class Packed:
    """A group as one row."""

    prefix: list[int]
    branches: list[Branch]
    label_ids: tuple[int, int, int]
    """The tokens of the labels 0, 1, 2."""
    ids: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = [*self.prefix, *(token for branch in self.branches for token in branch.ids)]

    def positions(self) -> torch.Tensor:
        """Shape (tokens,): where each token stands in its own pair's sequence."""
        start = len(self.prefix)
        parts = [torch.arange(start), *(torch.arange(start, start + len(b.ids)) for b in self.branches)]
        return torch.cat(parts)

    def bounds(self) -> tuple[int, ...]:
        """Where the prefix and each branch end in the row; a branch begins where the part before it ends."""
        return tuple(accumulate([len(self.prefix), *(len(branch.ids) for branch in self.branches)]))


class Renderer:
    """Pairs -> token ids, by the tokenizer's own chat template and `whyrank.prompt`'s words."""

    def __init__(self, tokenizer: Any, constraint: Constraint) -> None:
        self._tokenizer = tokenizer
        self._constraint = constraint

    def prompt(self, query: str, passage: Passage, mode: Mode) -> list[int]:
        """The ids of a pair's prompt, up to where the answer begins; exactly what a server makes of the messages."""
        text = self._tokenizer.apply_chat_template(
            messages(query, passage, mode, self._constraint), tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def answer(self, explanation: str, quote: str | None, label: int, mode: Mode) -> tuple[list[int], int, list[int]]:
        """(ids of the answer with its end, index of the label's token, the tokens of labels 0, 1, 2 there).

        Raises ValueError for a tokenizer that does not write a label as one token of its own.
        """
        forms = [
            self._tokenizer(
                answer(explanation, quote, each, mode, self._constraint), add_special_tokens=False
            ).input_ids
            for each in (0, 1, 2)
        ]
        differ = [i for i, tokens in enumerate(zip(*forms, strict=False)) if len(set(tokens)) > 1]
        if len({len(form) for form in forms}) != 1 or len(differ) != 1:
            raise ValueError("this tokenizer does not write a label as one token")
        labels = [form[differ[0]] for form in forms]
        return [*forms[label], self._tokenizer.eos_token_id], differ[0], labels

    def _choice(self, query: str, passage: Passage, judged: Judgement) -> str | None:
        """The one of the grammar's quotes that the teacher's best quote is, or lies in; None when there is none."""
        if not judged.quotes:
            return None
        wanted = fold(judged.quotes[0]).text.strip()
        return next((each for each in quotable(passage, query) if wanted in fold(each).text), None)

    def pack(
        self, group: Group, judged: Mapping[str, Judgement], mode: Mode, max_tokens: int, soft: bool = True
    ) -> Packed | None:
        """The group's judged passages as one row; None when fewer than two fit in."""
        prompts, rows = [], []
        for item in group.passages:
            if (found := judged.get(item.id)) is None:
                continue
            quote = self._choice(group.query, item.passage(), found)
            if quote is None and mode is Mode.REASON and self._constraint is Constraint.QUOTE:
                continue  # an answer that the grammar does not admit
            prompts.append(self.prompt(group.query, item.passage(), mode))
            rows.append((found, *self.answer(found.explanation, quote, found.label, mode)))
        if len(prompts) < 2:
            return None
        shared = common_prefix(prompts)
        branches: list[Branch] = []
        used = shared
        for prompt, (found, ids, label_at, _) in zip(prompts, rows, strict=True):
            own = prompt[shared:]
            used += len(own) + len(ids)
            if used > max_tokens:
                break
            target = found.probabilities if soft else _one_hot(found.label)
            branches.append(Branch([*own, *ids], len(ids), len(own) + label_at, target, found.relevance))
        labels = rows[0][3]
        return Packed(prompts[0][:shared], branches, (labels[0], labels[1], labels[2])) if len(branches) > 1 else None


def common_prefix(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with alike, at most all but one of the shortest's."""
    first, last = min(rows), max(rows)
    bound = min(len(row) for row in rows) - 1
    return next((i for i in range(bound) if first[i] != last[i]), bound)


def _one_hot(label: int) -> LabelProbabilities:
    return (float(label == 0), float(label == 1), float(label == 2))
