"""Queries that pages themselves give: headings, and sentences taken out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from training.mine.pages import Page
from training.mine.passages import Piece
from training.mine.seeds import Quarry, Seed, Target, group_id
from training.mine.words import content_words, is_code, real_words, sentences, squash
from training.records import Source

_NUMBERING = re.compile(r"^(?:(?:chapter|section|appendix|part)\s+)?(?:\d+|[A-Z])(?:\.\d+)*\.?\s+(?=\S)", re.IGNORECASE)
_NUMBERED = re.compile(r"^(?:(?:chapter|section|appendix|part)\s|\d|[A-Z]\.)", re.IGNORECASE)
_WORDS = """
about abstract and bugs caveats contents description details directives example examples faq further general index
information introduction license links more note notes options overview parameter parameters preface reading reference
references related remarks return returns see also summary synopsis syntax table topics usage value values warning
"""
_GENERAL = frozenset(_WORDS.split())
"""Headings of these words alone say nothing of what is below."""
_SENTENCE_WORDS = range(8, 31)
_REAL_WORDS = 5
_REST_WORDS = 30


def heading_seeds(page: Page, number: int, quarry: Quarry) -> Iterator[Seed]:
    """A section's heading with the page's title asks for the section, whose heading is taken out."""
    if not quarry.fresh[number]:
        return
    title = unnumbered(quarry.corpus.titles.plain(page.site, page.title))
    for at, piece in enumerate(page.pieces):
        heading, _, rest = piece.text.partition("\n")
        if not piece.headings or piece.headings[0] != heading:
            continue
        words = unnumbered(heading)
        if not tells(words):
            quarry.drop(Source.HEADING, "says_nothing")
        elif squash(words) in {squash(title), squash(page.title)}:
            quarry.drop(Source.HEADING, "is_the_title")
        elif len(rest.split()) < quarry.config.min_words:
            quarry.drop(Source.HEADING, "short_section")
        else:
            query = words if content_words(title) <= content_words(words) else f"{words} {title}"
            yield quarry.seed(Source.HEADING, query, number, (Target(number, at, rest),))


def sentence_seeds(page: Page, number: int, quarry: Quarry) -> Iterator[Seed]:
    """A sentence asks for the rest of its passage: the inverse cloze task (Lee, Chang and Toutanova 2019)."""
    if not quarry.fresh[number]:
        return
    for at, piece in enumerate(page.pieces):
        found = [
            (sentence, rest)
            for line, sentence in _prose(piece)
            if len((rest := _without(piece, line, sentence)).split()) >= max(quarry.config.min_words, _REST_WORDS)
        ]
        if not found:
            quarry.drop(Source.SENTENCE, "no_sentence")
            continue
        # One of each passage: which, is drawn by the query's hash
        sentence, rest = min(found, key=lambda pair: group_id(Source.SENTENCE, page.id, pair[0]))
        yield quarry.seed(Source.SENTENCE, sentence, number, (Target(number, at, rest),))


def likewise(source: Source, piece: Piece, group: str) -> str:
    """The text of a passage beside the positive, with as much taken out as was taken out of the positive.

    Else what is missing would tell the positive: a student learns that a passage without its heading, or with a gap,
    is the answer, and reads no more (bench/LOG.md).
    """
    if source is Source.HEADING and piece.headings:
        heading, _, rest = piece.text.partition("\n")
        return rest if piece.headings[0] == heading and rest else piece.text
    if source is Source.SENTENCE:
        found = [(sentence, rest) for line, sentence in _prose(piece) if (rest := _without(piece, line, sentence))]
        return min(found, key=lambda pair: group_id(source, group, pair[0]))[1] if found else piece.text
    return piece.text


def tells(heading: str) -> bool:
    """Whether a heading says what is below it."""
    return bool(real_words(heading)) and not set(squash(heading).split()) <= _GENERAL


def unnumbered(heading: str) -> str:
    """The heading without its number (`1.3.`, `Chapter 4.`) and paragraph sign."""
    heading = heading.replace("¶", "").strip()
    return _NUMBERING.sub("", heading) if _NUMBERED.match(heading) else heading


def _prose(piece: Piece) -> Iterator[tuple[int, str]]:
    """The sentences that could be a query, each with the line of the piece that it stands in."""
    for number, line in enumerate(piece.text.split("\n")):
        if line in piece.headings or is_code(line):
            continue
        for sentence in sentences(line):
            if (
                len(sentence.split()) in _SENTENCE_WORDS
                and sentence[0].isupper()
                and sentence.endswith((".", "?", "!"))
                and not is_code(sentence)
                and len(real_words(sentence)) >= _REAL_WORDS
                and piece.text.count(sentence) == 1
            ):
                yield number, sentence


def _without(piece: Piece, number: int, sentence: str) -> str:
    lines = piece.text.split("\n")
    lines[number] = " ".join(lines[number].replace(sentence, " ", 1).split())
    return "\n".join(line for line in lines if line)
