"""Vectors of texts on disk: each text is encoded once, also over runs that were killed.

A shard (`00000.npz`) holds the keys and vectors of up to SHARD texts. Texts are encoded in the order given and in
whole shards, so that a run that was killed and resumed computes the same batches, hence the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np

from training.progress import counting
from training.stages import Progress
from whyrank.bi_encoder import Vectors

SHARD = 256
_KEY_BYTES = 16


class Encoder(Protocol):
    """What the offline teacher needs of an encoder: `whyrank.bi_encoder.BiEncoder` is one."""

    @property
    def name(self) -> str:
        """Its name, as records carry it."""
        ...

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of queries, shape (len(texts), dimensions)."""
        ...

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of passages, shape (len(texts), dimensions)."""
        ...


class VectorStore:
    """Vectors of one encoder and one kind of text in a folder. Half precision: half the disk, 1e-4 of a cosine."""

    def __init__(self, folder: Path, encode: Callable[[Sequence[str]], Vectors]) -> None:
        self._folder = folder
        self._encode = encode
        self._vectors: dict[bytes, np.ndarray[tuple[int], np.dtype[np.float16]]] = {}
        self._shards = 0
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.npz")):
            self._load(path)

    def add(self, texts: Iterable[str], progress: Progress, what: str) -> int:
        """Encode the texts that are not here yet, shard by shard; how many were."""
        missing = [text for text in dict.fromkeys(texts) if _key(text) not in self._vectors]
        if missing:
            with counting(what, len(missing), progress, unit="texts") as counter:
                for start in range(0, len(missing), SHARD):
                    shard = missing[start : start + SHARD]
                    self._encode_shard(shard)
                    counter.advance(len(shard))
        return len(missing)

    def of(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts that were added, shape (len(texts), dimensions)."""
        return np.stack([self._vectors[_key(text)] for text in texts]).astype(np.float32)

    def _encode_shard(self, texts: Sequence[str]) -> None:
        path = self._folder / f"{self._shards:05d}.npz"
        keys = np.frombuffer(b"".join(map(_key, texts)), np.uint8).reshape(len(texts), _KEY_BYTES)
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            np.savez(file, keys=keys, vectors=self._encode(texts).astype(np.float16))
        draft.replace(path)
        self._load(path)

    def _load(self, path: Path) -> None:
        self._shards = int(path.stem) + 1
        try:
            with np.load(path) as shard:
                keys, vectors = shard["keys"], shard["vectors"]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile):
            path.unlink()  # a machine that lost its power can leave an empty file; encoding again repairs it
            return
        self._vectors.update((row.tobytes(), vector) for row, vector in zip(keys, vectors, strict=True))


def _key(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]
