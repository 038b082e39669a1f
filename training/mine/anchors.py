"""The words of links as queries: what they are set on asks for where they lead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from training.mine.corpus import Corpus
from training.mine.sections import tells, unnumbered
from training.mine.seeds import Drop, Quarry, Seed, Target
from training.mine.words import content_words, real_words, squash
from training.records import Source

_WORDS = """
above answer article available below back blog chapter check click comment content detail documentation example
following found full guide help here home index information link list manual more next note page paper post previous
question read reference same section see site source table text this top tutorial version website wiki
"""
_GENERIC = frozenset(_WORDS.split())
"""These words, with their plurals, say only that there is a link."""
_FEW_WORDS = 3
"""Anchors of fewer real words get the heading that they stand under."""
_MOST_WORDS = 30


class _Uses(msgspec.Struct):
    """Where one anchor leads to one place."""

    anchor: str
    page: int
    """The first page that has it."""
    pages: int = 0


_Table = dict[str, dict[tuple[int, str], _Uses]]
"""Folded anchor → (page, place) → uses."""


def anchor_seeds(quarry: Quarry) -> Iterator[list[Seed]]:
    """The seeds of each page that links lead to."""
    corpus, drop = quarry.corpus, quarry.drop
    by_page: dict[int, list[tuple[str, _Uses]]] = defaultdict(list)
    for targets in _collect(corpus, drop).values():
        pages = {page for page, _ in targets}
        if len(pages) > 1:
            drop(Source.ANCHOR, "leads_to_many")
        elif sum(use.pages for use in targets.values()) > quarry.config.max_anchor_pages:
            drop(Source.ANCHOR, "is_navigation")
        else:
            # To several places of one page: to the page
            (_, place), uses = next(iter(targets.items()))
            if not (quarry.fresh[uses.page] or quarry.fresh[next(iter(pages))]):
                continue
            by_page[pages.pop()].append((place if len(targets) == 1 else "", uses))
    for number in sorted(by_page):
        yield [seed for place, uses in by_page[number] if (seed := _seed(number, place, uses, quarry)) is not None]


def _collect(corpus: Corpus, drop: Drop) -> _Table:
    table: _Table = defaultdict(dict)
    for number, page in enumerate(corpus.pages()):
        here = set()
        for link in page.links:
            found = corpus.lookup(link.url)
            if found is None:
                drop(Source.ANCHOR, "leads_out")
                continue
            key = squash(link.anchor)
            if not says_something(link.anchor):
                drop(Source.ANCHOR, "says_nothing")
            elif (key, found) not in here:
                here.add((key, found))
                table[key].setdefault(found, _Uses(link.anchor, number)).pages += 1
    return table


def says_something(anchor: str) -> bool:
    """Whether the words of a link say what it leads to: two of them do, and are no part of code."""
    if len(anchor.split()) > _MOST_WORDS:
        return False
    return len(content_words(" ".join(real_words(anchor))) - _GENERIC) >= 2


def _seed(number: int, place: str, uses: _Uses, quarry: Quarry) -> Seed | None:
    page = quarry.corpus.page(number)
    said = squash(unnumbered(uses.anchor))
    if said in {squash(page.title), squash(unnumbered(quarry.corpus.titles.plain(page.site, page.title)))}:
        quarry.drop(Source.ANCHOR, "is_the_title")
        return None
    query = _query(uses, quarry.corpus)
    at = page.places.get(place) if place else None
    if at is None:
        at = quarry.matcher.ranked(query, number)[0]
    piece = page.pieces[at]
    if said in {squash(unnumbered(heading)) for heading in (*piece.headings, piece.text.partition("\n")[0])}:
        quarry.drop(Source.ANCHOR, "is_the_heading")
        return None
    if len(piece.text.split()) < quarry.config.min_words:
        quarry.drop(Source.ANCHOR, "short_target")
        return None
    return quarry.seed(Source.ANCHOR, query, number, (Target(number, at),))


def _query(uses: _Uses, corpus: Corpus) -> str:
    """The anchor; a short one with the heading that it stands under, where it stands in one section only."""
    if len(real_words(uses.anchor)) >= _FEW_WORDS:
        return uses.anchor
    around = {piece.under for piece in corpus.page(uses.page).pieces if uses.anchor in piece.text}
    heading = unnumbered(around.pop()) if len(around) == 1 else ""
    if not tells(heading) or content_words(heading) <= content_words(uses.anchor):
        return uses.anchor
    return f"{uses.anchor} {heading}"
