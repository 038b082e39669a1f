"""What users searched for and clicked, as OpenSearch's User Behavior Insights keeps it (schema 1.x).

`ubi_queries` has the queries (`query_id`, `user_query`), `ubi_events` what followed (`query_id`, `action_name`,
`event_attributes.object`, with `object_id`, and in `object_id_field` what that is: the document's id unless it says
otherwise). Whoever writes these indices is not trusted more than a page is: what is not of this form is passed over.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from training.mine.seeds import Quarry, Seed, Target, group_id
from training.mine.splits import RANKS
from training.mine.words import squash
from training.records import Source
from whyrank.engines import ScanHit

QUERY_FIELDS = ("query_id", "user_query")
EVENT_FIELDS = ("query_id", "action_name", "event_attributes")
CLICK = "click"


class Asked(msgspec.Struct, frozen=True):
    """A query of a user."""

    id: str
    words: str


class Clicked(msgspec.Struct, frozen=True):
    """A click on one of its hits: the document's id, or its address."""

    query: str
    object: str


Record = Asked | Clicked


def asked(hit: ScanHit) -> Asked | None:
    """The query of a document of `ubi_queries`."""
    id_, words = hit.source.get("query_id"), hit.source.get("user_query")
    if not isinstance(id_, str) or not isinstance(words, str) or not squash(words):
        return None
    return Asked(id_, " ".join(words.split()))


def clicked(hit: ScanHit) -> Clicked | None:
    """The click of a document of `ubi_events`; None for other events."""
    id_ = hit.source.get("query_id")
    if hit.source.get("action_name") != CLICK or not isinstance(id_, str):
        return None
    found = _inside(_inside(hit.source.get("event_attributes"), "object"), "object_id")
    return Clicked(id_, str(found)) if isinstance(found, str | int) else None


def _inside(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


class Clicks(msgspec.Struct, frozen=True):
    """All that was clicked for one query, however often it was asked."""

    words: str
    """As it was asked most often."""
    objects: dict[str, int]
    """Clicks by the object's id."""

    @property
    def fingerprint(self) -> str:
        """A hash of what was clicked."""
        return blake2b(msgspec.json.encode(self, order="sorted"), digest_size=16).hexdigest()


def origin_of(words: str) -> str:
    """The origin of a user's query: itself, folded, since it comes from no page."""
    return f"ubi:{blake2b(squash(words).encode(), digest_size=16).hexdigest()}"


def together(queries: Iterator[Asked], events: Iterator[Clicked]) -> dict[str, Clicks]:
    """Clicks by origin. Memory holds every query that was asked."""
    words: dict[str, str] = {}
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    objects: dict[str, Counter[str]] = defaultdict(Counter)
    for query in queries:
        words[query.id] = query.words
        forms[squash(query.words)][query.words] += 1
    for event in events:
        if event.query in words:
            objects[squash(words[event.query])][event.object] += 1
    return {
        origin_of(folded): Clicks(min(forms[folded], key=lambda form: (-forms[folded][form], form)), dict(found))
        for folded, found in sorted(objects.items())
    }


def click_seeds(clicks: Mapping[str, Clicks], quarry: Quarry) -> Iterator[list[Seed]]:
    """A query asks for what was clicked, most clicked first. Its split is the strictest of those pages."""
    corpus = quarry.corpus
    for origin, found in clicks.items():
        pages: Counter[int] = Counter()
        for name, count in found.objects.items():
            place = corpus.lookup(name)
            number = corpus.numbers.get(name, place[0] if place is not None else None)
            if number is None:
                quarry.drop(Source.UBI, "leads_out")
            else:
                pages[number] += count
        chosen = [number for number, count in sorted(pages.items(), key=_most) if count >= quarry.config.min_clicks]
        if not chosen:
            quarry.drop(Source.UBI, "few_clicks")
            continue
        split = max((corpus.split_of(number) for number in chosen), key=RANKS.__getitem__)
        targets = tuple(Target(number, quarry.matcher.ranked(found.words, number)[0]) for number in chosen)
        id_ = group_id(Source.UBI, origin, found.words)
        yield [Seed(id_, Source.UBI, found.words, origin, corpus.sites[chosen[0]], split, targets)]


def _most(item: tuple[int, int]) -> tuple[int, int]:
    return -item[1], item[0]
