"""All pages of the index on disk, with what must be at hand of each in memory.

In memory, for a million pages of ten pieces: ids, addresses and offsets (some 400 MB) and, while near-duplicates
are looked for, signatures (2.5 GB). Texts are read when they are wanted.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from random import Random

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.mine import addresses
from training.mine.config import MineConfig
from training.mine.duplicates import PERMUTATIONS, Clusters, Signatures, join_alike, union
from training.mine.pages import Page
from training.mine.splits import RANKS, assign
from training.mine.words import Rarity, Titles, content_words
from training.records import Split

_KEPT = 2048
"""Pages kept decoded."""
_SPLITS = {rank: split for split, rank in RANKS.items()}
_RARITY_PIECES = 200_000
"""Passages that the rarity of words is learned from, evenly spread."""


class Corpus:
    """Pages by number, id and address; `known` are the splits that an earlier run gave, by page id."""

    def __init__(self, path: Path, config: MineConfig, known: dict[str, Split]) -> None:
        self._path = path
        self._offsets = array("Q")
        self._decoder = msgspec.json.Decoder(Page)
        self.ids: list[str] = []
        self.sites: list[str] = []
        self.hashes: list[str] = []
        self.numbers: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        self.answers: dict[str, list[int]] = defaultdict(list)
        """Pages that answer a question, by its id."""
        self.first_piece = array("Q", [0])
        """The number over all pages of each page's first piece; one more than there are pages."""
        titles = self._load()
        self.titles = Titles(zip(self.sites, titles, strict=True))
        self.splits, self._piece_ranks, self.piece_clusters, self.page_clusters = self._separate(config, known)
        self._allowed = {split: np.flatnonzero(self.splits <= RANKS[split]) for split in Split}
        self.rarity = self._learn_rarity()
        self.page = lru_cache(maxsize=_KEPT)(self._read)

    def __len__(self) -> int:
        return len(self.ids)

    def _load(self) -> list[str]:
        titles = []
        offset = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file):
                page = self._decoder.decode(line)
                self._offsets.append(offset)
                offset += len(line)
                self.ids.append(page.id)
                self.sites.append(page.site)
                self.hashes.append(page.content_hash)
                self.numbers[page.id] = number
                if page.url:
                    self._addresses.setdefault(addresses.split(page.url)[0], number)
                if page.post is not None and page.post.parent is not None:
                    self.answers[page.post.parent].append(number)
                self.first_piece.append(self.first_piece[-1] + len(page.pieces))
                titles.append(page.title)
        return titles

    def _separate(
        self, config: MineConfig, known: dict[str, Split]
    ) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int64], NDArray[np.int64]]:
        """Splits of pages (as ranks), the strictest split that each piece's text occurs in, and both clusters."""
        pages, pieces = len(self.ids), self.first_piece[-1]
        signatures: Signatures = np.zeros((pieces, PERMUTATIONS), dtype=np.uint32)
        whole: Signatures = np.zeros((pages, PERMUTATIONS), dtype=np.uint32)
        for number, page in enumerate(self.pages()):
            found = page.signatures()
            signatures[self.first_piece[number] : self.first_piece[number + 1]] = found
            whole[number] = union(found)
        page_clusters = Clusters(pages)
        join_alike(whole, page_clusters)
        for question, answers in self.answers.items():
            for answer in answers:
                page_clusters.join(self.numbers.get(question, answers[0]), answer)
        names = page_clusters.names()
        splits = assign(config, self.ids, self.sites, names, known)
        piece_clusters = Clusters(pieces)
        join_alike(signatures, piece_clusters)
        piece_names = piece_clusters.names()
        strictest = np.zeros(pieces, dtype=np.int8)
        first = np.asarray(self.first_piece, dtype=np.int64)
        np.maximum.at(strictest, piece_names, np.repeat(splits, first[1:] - first[:-1]))
        return splits, strictest[piece_names], piece_names, names

    def _learn_rarity(self) -> Rarity:
        rarity = Rarity()
        step = max(1, self.first_piece[-1] // _RARITY_PIECES)
        for page in self.pages(step):
            for piece in page.pieces:
                rarity.add(content_words(piece.text))
        return rarity

    def pages(self, step: int = 1) -> Iterator[Page]:
        """All pages, or each `step`-th, in their order."""
        with self._path.open("rb") as file:
            for number, line in enumerate(file):
                if number % step == 0:
                    yield self._decoder.decode(line)

    def _read(self, number: int) -> Page:
        with self._path.open("rb") as file:
            file.seek(self._offsets[number])
            return self._decoder.decode(file.readline())

    def lookup(self, url: str) -> tuple[int, str] | None:
        """The page that an address leads to, and the place in it; None where it leads out of the index."""
        name, place = addresses.split(url)
        number = self._addresses.get(name)
        return None if number is None else (number, place)

    def split_of(self, number: int) -> Split:
        """The split of a page."""
        return _SPLITS[int(self.splits[number])]

    def may_show(self, number: int, piece: int, split: Split) -> bool:
        """Whether a group of this split may hold the piece.

        Groups for training hold nothing that stands, word for word or nearly, on a page held out; groups that are
        held out may hold any page's, as a search among all pages does.
        """
        rank = RANKS[split]
        if self.splits[number] > rank:
            return False
        return bool(split is Split.TEST or self._piece_ranks[self.first_piece[number] + piece] <= rank)

    def cluster(self, number: int, piece: int) -> int:
        """Pieces with near-duplicate texts have the same."""
        return int(self.piece_clusters[self.first_piece[number] + piece])

    def any_page(self, split: Split, random: Random) -> int:
        """Some page that a group of this split may show. There is one: the group's own."""
        allowed = self._allowed[split]
        return int(allowed[random.randrange(len(allowed))])

    def fingerprint(self) -> str:
        """A hash of all pages' ids and contents."""
        found = blake2b(digest_size=16)
        for id_, content in zip(self.ids, self.hashes, strict=True):
            found.update(f"{len(id_)}:{id_}{content}\n".encode("utf-8", "replace"))
        return found.hexdigest()
