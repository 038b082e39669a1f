"""Words of texts as they are compared: folded, plurals and singulars alike (pure)."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")  # noqa: RUF001
_REAL = re.compile(r"[^\W\d_]{2,}")
_CODE = re.compile(r"[_=<>{}\[\]|\\$@~^]|\w\(|\w\.\w|::|\w/\w|--\w|[a-z][A-Z]")
"""Signs that prose has none of: names with underscores or dots, calls, operators, paths, options."""
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|(?<=[。！？])")  # noqa: RUF001
_SEPARATOR = re.compile(r"\s+(?:[-–—|·:»]|::)\s+")  # noqa: RUF001 - the dashes are meant
_BUCKETS = 1 << 20
_SUFFIX_PAGES = 4
_SUFFIX_SHARE = 0.2

_STOP = """
a about all also an and any are as at be been but by can could do does for from had has have how if in into is it its
may more most no not of on one only or other our same should so some such than that the their then there these they
this to up use used uses using was we were what when where which who why will with would you your
"""
STOP = frozenset(_STOP.split())


def squash(text: str) -> str:
    """The text as equal texts are equal: its words alone, in lower case."""
    return " ".join(_WORD.findall(text.casefold()))


def words(text: str) -> list[str]:
    """The words, in lower case, without plural endings."""
    return [_stem(word) for word in _WORD.findall(text.casefold())]


def content_words(text: str) -> frozenset[str]:
    """The words that carry meaning, each once."""
    return frozenset(word for word in words(text) if word not in STOP)


def real_words(text: str) -> list[str]:
    """The words that are made of letters, are not part of code, and carry meaning."""
    tokens = [token for token in text.split() if not _CODE.search(token)]
    return [word for token in tokens for word in _REAL.findall(token) if word.casefold() not in STOP]


def is_code(text: str) -> bool:
    """Whether a good part of the text is no prose: code, a row of a table, a list of names."""
    tokens = text.split()
    return sum(1 for token in tokens if _CODE.search(token) or not _REAL.search(token)) * 4 > len(tokens)


def sentences(line: str) -> list[str]:
    """The sentences of one block of text, verbatim."""
    return [part for sentence in _SENTENCE.split(line) if (part := sentence.strip())]


def _stem(word: str) -> str:
    word = word.partition("'")[0]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


class Rarity:
    """How much a word says, by how few passages hold it: ln(passages / passages with the word).

    Words share 2^20 counters by their hashes, so that memory does not grow with the vocabulary.
    """

    def __init__(self) -> None:
        self._counts: NDArray[np.uint32] = np.zeros(_BUCKETS, dtype=np.uint32)
        self._total = 0

    def add(self, found: Iterable[str]) -> None:
        """One more passage, with these words."""
        self._total += 1
        self._counts[[_bucket(word) for word in found]] += 1

    def of(self, word: str) -> float:
        """0 for a word that every passage has."""
        return math.log((self._total + 1) / (int(self._counts[_bucket(word)]) + 0.5)) if self._total else 1.0


def _bucket(word: str) -> int:
    return crc32(word.encode("utf-8", "replace")) % _BUCKETS


class Titles:
    """Titles without what a site puts behind (or before) each of them, as ` — Python 3.11.2 documentation`."""

    def __init__(self, titles: Iterable[tuple[str, str]]) -> None:
        """Of (site, title) pairs."""
        ends: dict[str, Counter[str]] = defaultdict(Counter)
        pages: Counter[str] = Counter()
        for site, title in titles:
            pages[site] += 1
            parts = _SEPARATOR.split(title)
            if len(parts) > 1:
                ends[site].update({parts[0], parts[-1]})
        self._common = {
            site: {end for end, count in found.items() if count >= max(_SUFFIX_PAGES, _SUFFIX_SHARE * pages[site])}
            for site, found in ends.items()
        }

    def plain(self, site: str, title: str) -> str:
        """The title's own words."""
        common = self._common.get(site, frozenset[str]())
        parts: Sequence[str] = [part for part in _SEPARATOR.split(title) if part not in common]
        return " ".join(parts) or title
