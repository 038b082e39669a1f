"""From a query and what answers it to a group: with what the engine finds for the query, and with other pages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from training.mine.config import MineConfig
from training.mine.corpus import Corpus
from training.mine.pages import key_of
from training.mine.sections import likewise
from training.mine.seeds import Quarry, Seed, Target
from training.mine.words import squash
from training.records import Group, GroupPassage, Role
from whyrank.engines import Engine, Json
from whyrank.errors import EngineTimeoutError, EngineUnavailableError

_TRIES = 6
_PAUSE_S = 0.5
"""Before the second try; doubled each time."""
_RANDOM_TRIES = 20
"""For each passage wanted: pages without a passage to show are drawn again."""


class Hit(NamedTuple):
    """A page that the engine found, by the corpus's number."""

    page: int
    score: float


async def search(engine: Engine, seeds: Sequence[Seed], corpus: Corpus, config: MineConfig) -> list[list[Hit]]:
    """The engine's hits for each query, in one request; an engine that is overloaded is given time.

    Equal scores are ordered by the key field, so that mining again finds the same. Raises EngineError.
    """
    pause = _PAUSE_S
    bodies = [_body(seed.query, config) for seed in seeds]
    for attempt in range(_TRIES):
        try:
            answers = await engine.search_many(config.index, bodies)
            break
        except (EngineUnavailableError, EngineTimeoutError):
            if attempt == _TRIES - 1:
                raise
            await asyncio.sleep(pause)
            pause *= 2
    return [
        [
            Hit(number, float(hit["_score"]))
            for hit in answer["hits"]["hits"]
            # A page may have been written since the index was read
            if (number := corpus.numbers.get(key_of(config, hit["_id"], hit["_index"]))) is not None
        ]
        for answer in answers
    ]


def _body(query: str, config: MineConfig) -> Json:
    words: Json = {"multi_match": {"query": query, "fields": list(config.search_fields)}}
    return {
        "size": config.search_depth,
        "query": {"bool": {"must": words, "filter": config.filter}} if config.filter else words,
        "sort": [{"_score": "desc"}, {config.key: {"order": "asc", "missing": "_last"}}],
        "_source": False,
        "track_total_hits": False,
    }


def group_of(seed: Seed, hits: Sequence[Hit], quarry: Quarry) -> Group | str:
    """The seed's group, or why there is none."""
    return _Grouping(seed, hits, quarry).make()


class _Grouping:
    """One group in the making. No two of its passages are near-duplicates."""

    def __init__(self, seed: Seed, hits: Sequence[Hit], quarry: Quarry) -> None:
        self._seed = seed
        self._hits = hits
        self._scores = {hit.page: hit.score for hit in hits}
        self._corpus, self._matcher, self._config = quarry.corpus, quarry.matcher, quarry.config
        self._asked = squash(seed.query)
        self._clusters: set[int] = set()
        self._passages: list[GroupPassage] = []

    def make(self) -> Group | str:
        """The group, or why there is none."""
        for target in self._seed.targets:
            if len(self._passages) < min(self._config.max_positives, self._config.group_size - 1):
                self._add(target, Role.POSITIVE)
        positives = len(self._passages)
        if not positives:
            return "positive_held_out"
        room = self._config.group_size - positives
        kept_free = min(self._config.random_negatives, room)
        self._add_some(self._hard(), min(self._config.hard_negatives, room - kept_free), Role.HARD)
        self._add_some(self._random(), self._config.group_size - len(self._passages), Role.RANDOM)
        if len(self._passages) == positives:
            return "no_negatives"
        seed = self._seed
        ranked = sorted(self._passages, key=self._place)
        return Group(seed.id, seed.query, seed.source, seed.origin, seed.site, seed.split, tuple(ranked))

    def _place(self, passage: GroupPassage) -> tuple[bool, float, str]:
        """The engine's order; what it did not find is behind, in an order that does not tell the roles."""
        score = passage.engine_score
        return score is None, -(score or 0.0), passage.id

    def _add_some(self, targets: Iterator[Target], most: int, role: Role) -> None:
        added = 0
        while added < most and (target := next(targets, None)) is not None:
            added += self._add(target, role)

    def _add(self, target: Target, role: Role) -> bool:
        """Whether the passage may stand in the group, and now does."""
        number, piece = target.page, target.piece
        if not self._corpus.may_show(number, piece, self._seed.split):
            return False
        cluster = self._corpus.cluster(number, piece)
        page = self._corpus.page(number)
        text = target.text
        if text is None:
            whole = page.pieces[piece]
            text = whole.text if role is Role.POSITIVE else likewise(self._seed.source, whole, self._seed.id)
        if cluster in self._clusters or (role is not Role.POSITIVE and self._repeats(text)):
            return False
        self._clusters.add(cluster)
        passage = page.passage(text, self._config.passage_tokens)
        score = self._scores.get(number)
        self._passages.append(GroupPassage(f"{page.id}#{piece}", passage.text, role, score, passage.truncated))
        return True

    def _repeats(self, text: str) -> bool:
        """Whether the passage says the whole query word for word: a copy of the sentence that was taken out."""
        return self._asked.count(" ") >= 7 and self._asked in squash(text)

    def _hard(self) -> Iterator[Target]:
        """The best passage of each page found, in the engine's order; of a positive's page, other passages."""
        own = {target.page for target in self._seed.targets}
        hidden = {*self._seed.hidden}
        siblings = self._config.siblings
        for hit in self._hits:
            if hit.page in hidden:
                continue
            ranked = self._matcher.ranked(self._seed.query, hit.page)
            if hit.page not in own:
                yield Target(hit.page, ranked[0])
                continue
            taken = {target.piece for target in self._seed.targets if target.page == hit.page}
            for piece in [piece for piece in ranked if piece not in taken][:siblings]:
                siblings -= 1
                yield Target(hit.page, piece)

    def _random(self) -> Iterator[Target]:
        """Passages of pages that the engine did not find, drawn by the group's id; of other sites first."""
        random = Random(f"{self._config.seed}/{self._seed.id}")  # noqa: S311 - a choice of pages, no secret
        shown = {*self._seed.hidden, *self._scores, *(target.page for target in self._seed.targets)}
        near = []
        for _ in range(_RANDOM_TRIES * self._config.group_size):
            number = self._corpus.any_page(self._seed.split, random)
            if number in shown:
                continue
            shown.add(number)
            target = Target(number, random.randrange(len(self._corpus.page(number).pieces)))
            if self._corpus.sites[number] != self._seed.site:
                yield target
            else:
                near.append(target)
        yield from near
