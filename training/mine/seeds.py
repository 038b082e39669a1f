"""A query with the passages that are said to answer it: what a group grows from."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from training.mine.config import MineConfig
from training.mine.corpus import Corpus
from training.mine.words import content_words, squash
from training.records import Source, Split

MIN_QUERY_WORDS = 2
MAX_QUERY_CHARS = 600


class Target(msgspec.Struct, frozen=True):
    """A passage that answers, by the numbers of its page and piece."""

    page: int
    piece: int
    text: str | None = None
    """The piece without what would give it away (the heading, the sentence that is the query); None for all of it."""


class Seed(msgspec.Struct, frozen=True):
    """What a group grows from. Pages are the corpus's numbers."""

    id: str
    """The group's id."""
    source: Source
    query: str
    origin: str
    site: str
    split: Split
    targets: tuple[Target, ...]
    """Best first."""
    hidden: tuple[int, ...] = ()
    """Pages that the group must not show: the question itself, where the query is its title."""


Drop = Callable[[Source, str], None]
"""Count something that did not become a seed: of which source, and why."""


def group_id(source: Source, origin: str, query: str) -> str:
    """The content hash that is a group's id."""
    content = msgspec.json.encode((source, origin, query))
    return blake2b(content, digest_size=16).hexdigest()


class Matcher:
    """Which piece of a page is nearest to a query: by the rarity of the words that they share."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._words = lru_cache(maxsize=1024)(self._words_of)

    def _words_of(self, number: int) -> tuple[frozenset[str], ...]:
        return tuple(content_words(piece.text) for piece in self._corpus.page(number).pieces)

    def ranked(self, query: str, number: int) -> list[int]:
        """The pieces of the page, best first; of equals the earlier first."""
        rarity = {word: self._corpus.rarity.of(word) for word in content_words(query)}
        scores = [-sum(value for word, value in rarity.items() if word in found) for found in self._words(number)]
        return sorted(range(len(scores)), key=lambda piece: (scores[piece], piece))


class Quarry(NamedTuple):
    """What every source of seeds works with."""

    corpus: Corpus
    matcher: Matcher
    config: MineConfig
    drop: Drop
    fresh: Sequence[bool]
    """For each page, whether it is new or changed since the run that `MineConfig.since` names; all without one."""

    def seed(
        self, source: Source, query: str, number: int, targets: tuple[Target, ...], hidden: tuple[int, ...] = ()
    ) -> Seed:
        """A seed whose origin is the page of this number."""
        corpus = self.corpus
        origin = corpus.ids[number]
        id_ = group_id(source, origin, query)
        return Seed(id_, source, query, origin, corpus.sites[number], corpus.split_of(number), targets, hidden)


class Chosen:
    """The seeds that are kept: each query once, and of each source those with the least ids."""

    def __init__(self, config: MineConfig, drop: Drop) -> None:
        self._most = config.groups_per_source
        self._per_page = config.queries_per_page
        self._drop = drop
        self._seen: set[bytes] = set()
        self._heaps: dict[Source, list[tuple[int, Seed]]] = {}

    def offer(self, seeds: Iterable[Seed]) -> None:
        """The seeds of one origin and source."""
        new: list[Seed] = []
        for seed in sorted(seeds, key=lambda seed: seed.id):
            asked = squash(seed.query)
            if asked.count(" ") + 1 < MIN_QUERY_WORDS or len(seed.query) > MAX_QUERY_CHARS:
                self._drop(seed.source, "query_length")
                continue
            # 64 bits of a hash: a million queries collide with a chance of one in thirty million
            key = blake2b(asked.encode("utf-8", "replace"), digest_size=8).digest()
            if key in self._seen:
                self._drop(seed.source, "query_again")
            elif len(new) == self._per_page:
                self._drop(seed.source, "page_has_enough")
            else:
                self._seen.add(key)
                new.append(seed)
        for seed in new:
            heap = self._heaps.setdefault(seed.source, [])
            heapq.heappush(heap, (-int(seed.id, 16), seed))
            if len(heap) > self._most:
                heapq.heappop(heap)
                self._drop(seed.source, "source_has_enough")

    def seeds(self) -> list[Seed]:
        """What is kept, by source, then in the order of ids."""
        return [seed for source in Source for _, seed in sorted(self._heaps.get(source, ()), key=lambda item: -item[0])]
