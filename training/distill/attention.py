"""Attention over a packed group: each branch sees the shared beginning and itself, and nothing else is computed.

A mask over the whole row would say the same, at the price of the full square: on a CPU that was as much as all
matrix products of the model together (bench/LOG.md).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "whyrank_branches"


def branch_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  the bounds say it
    *,
    bounds: tuple[int, ...],
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """One layer's attention, by transformers' protocol for attention functions.

    `query` has shape (1, heads, tokens, size), `key` and `value` (1, key heads, tokens, size); the answer (1, tokens,
    heads, size). `bounds` are where the shared beginning and each branch end: (prefix, prefix + first, ...).
    """
    shared = bounds[0]
    options = {"dropout_p": dropout if module.training else 0.0, "scale": scaling, "enable_gqa": True}
    parts = [
        scaled_dot_product_attention(
            query[:, :, :shared], key[:, :, :shared], value[:, :, :shared], is_causal=True, **options
        )
    ]
    for start, end in pairwise(bounds):
        seen_keys = torch.cat([key[:, :, :shared], key[:, :, start:end]], dim=2)
        seen_values = torch.cat([value[:, :, :shared], value[:, :, start:end]], dim=2)
        mask = torch.ones(end - start, shared + end - start, dtype=torch.bool, device=query.device).tril(shared)
        parts.append(
            scaled_dot_product_attention(query[:, :, start:end], seen_keys, seen_values, attn_mask=mask, **options)
        )
    return torch.cat(parts, dim=2).transpose(1, 2), None


AttentionInterface.register(NAME, branch_attention)
