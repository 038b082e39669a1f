"""Quotes in an explanation, and where they stand in the passage (pure)."""

# ruff: noqa: RUF001 (look-alike characters are what this module is about)
from __future__ import annotations

import re
from functools import cached_property

from whyrank.folding import Folded, fold
from whyrank.types import Quote

MIN_WORDS = 2
"""A quoted stretch of fewer words is a term that is spoken of, not evidence: it counts neither way."""

MAX_QUOTES = 16
"""More quotes than these are not looked for: an answer is bounded, so must be the work on it."""

_CLOSERS = {'"': '"', "“": "”“", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』", "'": "'", "‘": "’'"}
_OPENER = re.compile(r"[\"“„«»「『]|(?<!\w)['‘](?=\S)")
_SINGLE = "'‘"
_WORD = re.compile(r"[^\W_]+")
_ELLIPSIS = re.compile(r"\s*(?:\.{3,}|…|\[(?:…|\.{3})\])\s*")
_EDGES = " \t\n\r.,;:!?…'\"-"
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
_UNSPACED_CHARS_PER_WORD = 2


def quotes(explanation: str) -> list[str]:
    """What the explanation puts in quotation marks, in its order, without the marks.

    Straight and curly marks, guillemets and corner brackets; the outermost of nested ones. A single mark
    counts where it cannot be an apostrophe: opening after a space or sign, closing before one.
    """
    found: list[str] = []
    unclosed: set[str] = set()
    at = 0
    while opener := _OPENER.search(explanation, at):
        mark, start = opener[0], opener.end()
        at = start
        if mark in unclosed:
            continue
        end = _closing(explanation, mark, start)
        if end is None:
            unclosed.add(mark)
            continue
        at = end + 1
        if inside := explanation[start:end].strip():
            found.append(inside)
    return found


def is_evidence(quote: str) -> bool:
    """Whether the quote is long enough to support anything: `MIN_WORDS` words.

    In scripts written without spaces, two characters count as a word.
    """
    unspaced = len(_UNSPACED.findall(quote))
    return len(_WORD.findall(_UNSPACED.sub(" ", quote))) + unspaced // _UNSPACED_CHARS_PER_WORD >= MIN_WORDS


def find(quote: str, passage: str) -> tuple[int, int] | None:
    """Where the quote stands in the passage, as `passage[start:end]`; None where it does not.

    As it is, else with white space, case, Unicode forms, marks and dashes folded; the punctuation around it
    may be the explanation's. Offsets are into the passage as given, also where folding changes lengths.
    """
    return _Haystack(passage).find(quote)


def ground(explanation: str, passage: str) -> tuple[Quote, ...]:
    """The explanation's quotes that can be evidence, each with its place in the passage if it has one.

    A quote that leaves words out (`a … b`) is taken as its parts.
    """
    haystack = _Haystack(passage)
    grounded: list[Quote] = []
    for quote in quotes(explanation)[:MAX_QUOTES]:
        if not is_evidence(quote):
            continue
        whole = haystack.find(quote)
        parts = [part for part in _ELLIPSIS.split(quote) if is_evidence(part)]
        for part in [quote] if whole or not parts else parts:
            place = whole or haystack.find(part)
            grounded.append(Quote(passage[slice(*place)], *place) if place else Quote(part))
    return tuple(grounded)


class _Haystack:
    """A passage to find quotes in, folded once, and only when a quote is not there as it is."""

    def __init__(self, passage: str) -> None:
        self.passage = passage

    @cached_property
    def folded(self) -> Folded:
        return fold(self.passage)

    def find(self, quote: str) -> tuple[int, int] | None:
        for wanted in dict.fromkeys((quote.strip(), quote.strip(_EDGES))):
            if not wanted:
                return None
            start = self.passage.find(wanted)
            if start >= 0:
                return start, start + len(wanted)
            needle = fold(wanted).text.strip()
            at = self.folded.text.find(needle) if needle else -1
            if at >= 0:
                return self.folded.offsets[at], self.folded.offsets[at + len(needle) - 1] + 1
        return None


def _closing(text: str, mark: str, start: int) -> int | None:
    """Offset of the mark that closes the one before `start`."""
    if mark not in _SINGLE:
        ends = [end for closer in _CLOSERS[mark] if (end := text.find(closer, start)) >= 0]
        return min(ends, default=None)
    pattern = _SINGLE_CLOSER[mark]
    closer = pattern.search(text, start)
    return closer.start() if closer else None


_SINGLE_CLOSER = {mark: re.compile(rf"(?<=\S)[{_CLOSERS[mark]}](?!\w)") for mark in _SINGLE}
