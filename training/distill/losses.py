"""What is learnt of a packed group: answers, label probabilities, order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from training.distill.tokens import Packed

_LEAST = 1e-4
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""


@dataclass(frozen=True)
class Terms:
    """The parts of a group's loss, scalars: weigh and add them."""

    explanation: torch.Tensor
    label: torch.Tensor
    listwise: torch.Tensor


def relevance_logits(label_logits: torch.Tensor) -> torch.Tensor:
    """Shape (passages, 3) -> (passages,): the logit of relevance = (P(1) + 2·P(2)) / 2 over the label tokens alone.

    That is the score by which verdicts are ranked (`whyrank.verdict`), where constrained decoding masks the rest.
    """
    scores = functional.log_softmax(label_logits.float(), dim=-1)
    half = torch.log(torch.tensor(0.5))
    high = torch.logaddexp(scores[..., 1] + half, scores[..., 2])
    low = torch.logaddexp(scores[..., 1] + half, scores[..., 0])
    return high - low


def learnt_positions(row: Packed) -> tuple[list[int], list[int], list[int]]:
    """(positions whose next token is learnt, those next tokens, which of them are labels), over all branches."""
    at: list[int] = []
    following: list[int] = []
    labels: list[int] = []
    for start, branch in zip(row.bounds(), row.branches, strict=False):
        first = len(branch.ids) - branch.answer_length
        for index in range(first, len(branch.ids)):
            if index == branch.label_at:
                labels.append(len(at))
            # A branch is never empty before its answer: `common_prefix` leaves it at least one token of the prompt
            at.append(start + index - 1)
            following.append(branch.ids[index])
    return at, following, labels


def terms(logits: torch.Tensor, row: Packed) -> Terms:
    """The loss's parts of one group.

    `logits` has shape (learnt positions, vocabulary), in the order of `learnt_positions`. The label's cross-entropy is
    over the whole vocabulary, so that the label tokens also win against all others where nothing constrains them.
    """
    _, following, labels = learnt_positions(row)
    nll = functional.cross_entropy(logits.float(), torch.tensor(following, device=logits.device), reduction="none")
    is_label = torch.zeros(len(following), dtype=torch.bool, device=logits.device)
    is_label[labels] = True
    at_label = logits[labels].float()
    targets = torch.tensor([branch.target for branch in row.branches], device=logits.device)
    whole = functional.log_softmax(at_label, dim=-1)[:, list(row.label_ids)]
    student = relevance_logits(at_label[:, list(row.label_ids)])
    wanted = torch.tensor([branch.relevance for branch in row.branches], device=logits.device)
    teacher = torch.logit(wanted.clamp(_LEAST, 1 - _LEAST))
    return Terms(
        explanation=nll[~is_label].mean(),
        label=-(targets * whole).sum(dim=-1).mean(),
        # Kullback-Leibler divergence, not cross-entropy: 0 is reached, so that the log shows what is left to learn
        listwise=functional.kl_div(
            functional.log_softmax(student, dim=0),
            functional.log_softmax(teacher, dim=0),
            reduction="sum",
            log_target=True,
        ),
    )
