"""Texts that are nearly the same, found by MinHash and locality-sensitive hashing.

Signatures are datasketch's MinHash (Broder 1997) over three-word shingles. Banding (Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, ch. 3) is done on all signatures at once, by sorting: an index in memory such as
datasketch's takes kilobytes for each text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

PERMUTATIONS = 64
BANDS = 16
"""Of 4 rows: two texts that share half of their shingles meet with a chance of 64 in 100, four fifths with 99.98."""
THRESHOLD = 0.7
"""Estimated Jaccard similarity from which texts are near-duplicates; the estimate's standard error is 0.06."""
SHINGLE = 3

Signatures = NDArray[np.uint32]
"""One row of PERMUTATIONS for each text."""

_TOKEN = re.compile(r"\w+")
_MIX: NDArray[np.uint32] = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D], dtype=np.uint32)
"""Odd numbers that make the hashes of a shingle's words one, by their places in it (those of xxHash)."""


@functools.cache
def _empty() -> MinHash:
    return MinHash(num_perm=PERMUTATIONS, scheme="affine32", hashfunc=int)


def signature(text: str) -> NDArray[np.uint32]:
    """The text's signature; texts of fewer than three words are one shingle."""
    tokens = [crc32(token.encode("utf-8", "replace")) for token in _TOKEN.findall(text.casefold())]
    tokens += [0] * (SHINGLE - len(tokens))
    hashes = np.array(tokens, dtype=np.uint32)
    shingles = np.lib.stride_tricks.sliding_window_view(hashes, SHINGLE) @ _MIX
    made = MinHash(num_perm=PERMUTATIONS, scheme="affine32", hashfunc=int, permutations=_empty().permutations)
    made.update_batch(shingles.tolist())
    return np.asarray(made.hashvalues, dtype=np.uint32)


def union(signatures: Signatures) -> NDArray[np.uint32]:
    """The signature of texts taken together."""
    joined: NDArray[np.uint32] = signatures.min(axis=0)
    return joined


class Clusters:
    """Sets of numbers 0 … n-1 that are joined pair by pair; a set's name is its least number."""

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count, dtype=np.int64)

    def find(self, number: int) -> int:
        """The name of the set that holds the number."""
        root = number
        while (above := int(self._parents[root])) != root:
            root = above
        while (above := int(self._parents[number])) != root:
            self._parents[number], number = root, above
        return root

    def join(self, first: int, second: int) -> None:
        """Make one set of the two that hold these."""
        a, b = self.find(first), self.find(second)
        self._parents[max(a, b)] = min(a, b)

    def names(self) -> NDArray[np.int64]:
        """Each number's set."""
        return np.fromiter((self.find(number) for number in range(len(self._parents))), np.int64, len(self._parents))


def join_alike(signatures: Signatures, clusters: Clusters, numbers: Sequence[int] | None = None) -> None:
    """Join the texts that are near-duplicates. `numbers` are those of the rows, their positions when None."""
    rows = PERMUTATIONS // BANDS
    for band in range(BANDS):
        part = np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * rows))).ravel()
        order = np.argsort(keys, kind="stable")
        equal = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        # Neighbours of one bucket are compared, not all pairs: a bucket of a thousand copies is joined in a chain
        for at in equal:
            first, second = int(order[at]), int(order[at + 1])
            if np.count_nonzero(signatures[first] == signatures[second]) >= THRESHOLD * PERMUTATIONS:
                clusters.join(*((first, second) if numbers is None else (numbers[first], numbers[second])))
