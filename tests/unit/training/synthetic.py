"""Groups, an encoder and a run folder for the tests of the stage `synthesize`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from training.recipe import Recipe
from training.records import Group, GroupPassage, Role, Source, Split, write
from training.stages import RunFolder, Stage
from whyrank.bi_encoder import Vectors

RECIPE = Recipe(name="test", base="embedded")

PASSAGES = (
    "A checkpoint writes all dirty buffers to disk. The interval is set by checkpoint_timeout in the server's file.",
    "VACUUM reclaims the storage that dead rows occupy. It can run beside ordinary reads and writes of the table.",
    "The trigonometric functions take arguments of type double precision. Their results are in radians.",
)


class WordEncoder:
    """An encoder by hand: a text's vector counts its words, hashed. `encoded` tells what it was asked."""

    name = "words"

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.fail_after: int | None = None

    def queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts)

    def passages(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        if self.fail_after is not None and len(self.encoded) >= self.fail_after:
            raise RuntimeError("killed by the test")
        self.encoded += texts
        counts = np.full((len(texts), 64), 0.01, np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().replace(".", " ").split():
                counts[row, crc32(word.encode()) % 64] += 1.0
        unit: Vectors = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return unit


def group(
    name: str, query: str, texts: Sequence[str] = PASSAGES, split: Split = Split.TRAIN, origin: str = "page-1"
) -> Group:
    passages = tuple(
        GroupPassage(f"{name}-p{i}", text, Role.HARD, engine_score=float(len(texts) - i))
        for i, text in enumerate(texts)
    )
    return Group(name, query, Source.HEADING, origin, "docs", split, passages)


def mined(path: Path, groups: Sequence[Group]) -> RunFolder:
    """A run whose stage `mine` is done."""
    run = RunFolder(path)
    write(run.folder(Stage.MINE) / "groups.jsonl", groups)
    return run
