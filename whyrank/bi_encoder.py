"""The cheap judge: a small sentence encoder, whose cosine of query and passage is one signal of the fusion.

It runs inside the process that asks (onnxruntime: no torch, ready in half a second), so it needs no server.
Bi-encoders: Reimers and Gurevych, "Sentence-BERT", 2019, arXiv 1908.10084; the default model is BAAI's
bge-small-en-v1.5 (Xiao et al., "C-Pack", 2023, arXiv 2309.07597; MIT licence).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from whyrank.errors import BadRequestError

if TYPE_CHECKING:
    import onnxruntime

Vectors = npt.NDArray[np.float32]

DESCRIPTION = "encoder.json"
BATCH = 16


class EncoderDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model is used: `encoder.json` beside its `model.onnx` and `tokenizer.json`."""

    name: str
    pooling: Literal["cls", "mean"]
    """What of the last layer is the text's vector: that of its first token, or the mean of all."""
    query_prefix: str = ""
    passage_prefix: str = ""
    max_tokens: int = 512


def describe(folder: Path) -> EncoderDescription:
    """What a model folder holds, without loading it. Raises BadRequestError for a folder that is none."""
    try:
        return msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=EncoderDescription)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError("bi_encoder", f"{folder} holds no bi-encoder: {error}") from error


class BiEncoder:
    """A model folder, loaded. Safe to use from several threads. Raises BadRequestError for a folder that is none.

    `threads` is how many cores one call computes on; None: all that this process may use.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        import onnxruntime  # noqa: PLC0415  a third of a second that most commands need not spend
        from tokenizers import Tokenizer  # noqa: PLC0415

        self.description = describe(folder)
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
            options.log_severity_level = 3
            # Its threads would spin between two calls, on cores that the model server computes on
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its libraries raise bare Exceptions of their own
            raise BadRequestError("bi_encoder", f"{folder} holds no bi-encoder: {error}") from error
        self._tokenizer.enable_truncation(self.description.max_tokens)
        self._tokenizer.no_padding()
        self._inputs = {item.name for item in self._session.get_inputs()}

    @property
    def name(self) -> str:
        """The model's name: verdicts with its similarities are made of it."""
        return self.description.name

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of queries, shape (len(texts), dimensions)."""
        return self._encode([self.description.query_prefix + text for text in texts])

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of passages, shape (len(texts), dimensions)."""
        return self._encode([self.description.passage_prefix + text for text in texts])

    def _encode(self, texts: Sequence[str]) -> Vectors:
        """Batches of like lengths, so that little is computed for padding; the answer is in the texts' order."""
        encoded = [e.ids for e in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
        rows: list[tuple[int, npt.NDArray[np.float32]]] = []
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            rows += zip(chosen, self._batch([encoded[i] for i in chosen]), strict=True)
        if not rows:
            return np.zeros((0, 0), np.float32)
        return np.stack([vector for _, vector in sorted(rows, key=lambda row: row[0])])

    def _batch(self, ids: Sequence[Sequence[int]]) -> Vectors:
        width = max(map(len, ids))
        tokens = np.zeros((len(ids), width), np.int64)
        mask = np.zeros((len(ids), width), np.int64)
        for row, found in enumerate(ids):
            tokens[row, : len(found)] = found
            mask[row, : len(found)] = 1
        feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        hidden = self._session.run(None, {name: feed[name] for name in feed if name in self._inputs})[0]
        if self.description.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            weights = mask[:, :, None].astype(np.float32)
            pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        lengths = np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        unit: Vectors = (pooled / lengths).astype(np.float32)
        return unit
