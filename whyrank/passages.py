"""From a document's fields to the passage that the model reads, within a token budget (pure)."""

# ruff: noqa: RUF001 (look-alike characters are what this module is about)
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import zip_longest

from whyrank.types import Candidate, Fragment, Passage

GAP = " … "
"""Stands where text between two stretches of one field was left out."""

_FIELD_JOIN = "\n"
_CHARS_PER_TOKEN = 4
_SHORT_FIELD_SHARE = 4  # a field of at most budget/4 that leads the document is a title: kept whole

_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ "
_DIGITS = b"0123456789"
_SENTENCE_END = re.compile(r"[.!?…]['\")\]”’»]*(?=\s)|[。！？]|\n")
_MAX_JOINED_SPACE = 16
_Span = tuple[int, int]


def estimate_tokens(text: str) -> int:
    """Tokens of the text for any common tokenizer, estimated without one: linear, and never less for more text.

    A token is four English letters or spaces, two signs, two bytes of UTF-8 of another script, or one digit.
    """
    data = text.encode("utf-8", "surrogatepass")
    without_letters = data.translate(None, _LETTERS)
    signs = len(without_letters.translate(None, _DIGITS))
    letters, digits = len(data) - len(without_letters), len(without_letters) - signs
    return -(-(letters + 2 * signs + 4 * digits) // _CHARS_PER_TOKEN)


def content_hash(fields: Sequence[Fragment]) -> str:
    """Hash of a document's fields, names and full texts: 128 bits in hex."""
    framed = "".join([f"{len(field.field)}:{field.field}{len(field.text)}:{field.text}" for field in fields])
    # SHA-256 has instructions of its own on today's processors: half the time of blake2b, for each hit of each search
    return sha256(framed.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def needs_fragments(candidate: Candidate, budget: int) -> bool:
    """Whether the document's full text exceeds the budget (in tokens)."""
    return _exceeds(_whole([_clean(field.text) for field in candidate.fields]), budget)


def fit(candidate: Candidate, budget: int, fragments: Mapping[str, Sequence[str]] | None) -> Passage:
    """The document's passage: never more than `budget` by `estimate_tokens`.

    A document that fits is taken whole, its fields one below the other. Of a longer one: leading short fields
    (its title), then the engine's `fragments` (by field, best first) in the document's order, then as much of
    its beginning as there is room for. A fragment that is not in its field word for word is left out, so that a
    passage holds nothing but the document's own text and gaps.
    """
    names = [field.field for field in candidate.fields]
    texts = [_clean(field.text) for field in candidate.fields]
    whole = _whole(texts)
    if not _exceeds(whole, budget):
        return Passage(whole)
    chosen: list[list[_Span]] = [[] for _ in texts]

    def fits(field: int, span: _Span) -> bool:
        spans = [_merge(texts[i], [*old, span] if i == field else old) for i, old in enumerate(chosen)]
        return not _exceeds(_render(texts, spans), budget)

    first_long = 0
    for i, text in enumerate(texts):
        if _exceeds(text, budget // _SHORT_FIELD_SHARE) or not fits(i, (0, len(text))):
            break
        chosen[i] = [(0, len(text))]
        first_long = i + 1
    for i, span in _located(texts, names, fragments or {}, first_long):
        if span[1] - span[0] <= budget * _CHARS_PER_TOKEN and fits(i, span):
            chosen[i] = _merge(texts[i], [*chosen[i], span])
    for i in range(first_long, len(texts)):
        head = _head(texts[i], budget, lambda end, i=i: fits(i, (0, end)))  # type: ignore[misc]
        if head:
            chosen[i] = _merge(texts[i], [*chosen[i], (0, head)])
        if head < len(texts[i]):
            break
    return Passage(_render(texts, chosen), truncated=True)


def head(text: str, budget: int) -> str:
    """The beginning of the text within the budget, ended at a sentence, else at a word, else anywhere."""
    if not _exceeds(text, budget):
        return text
    return text[: _head(text, budget, lambda end: not _exceeds(text[:end], budget))].rstrip()


def _exceeds(text: str, budget: int) -> bool:
    # No text of this length fits, whatever it holds: ten megabytes need not be encoded to know it
    return len(text) > budget * _CHARS_PER_TOKEN or estimate_tokens(text) > budget


def _clean(text: str) -> str:
    # JSON can carry half a surrogate pair, which neither the model server nor Redis can be sent
    return text.encode("utf-8", "replace").decode("utf-8").strip() if not text.isascii() else text.strip()


def _whole(texts: Sequence[str]) -> str:
    return _FIELD_JOIN.join(text for text in texts if text)


def _render(texts: Sequence[str], chosen: Sequence[Sequence[_Span]]) -> str:
    parts = (GAP.join(text[a:b].strip() for a, b in spans) for text, spans in zip(texts, chosen, strict=True))
    return _whole(list(parts))


def _merge(text: str, spans: Sequence[_Span]) -> list[_Span]:
    """The spans in the text's order, those that touch (but for white space) made one."""
    merged: list[_Span] = []
    for start, end in sorted(spans):
        if merged and (start <= merged[-1][1] or _is_short_space(text, merged[-1][1], start)):
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _is_short_space(text: str, start: int, end: int) -> bool:
    return end - start <= _MAX_JOINED_SPACE and text[start:end].isspace()


def _located(
    texts: Sequence[str], names: Sequence[str], fragments: Mapping[str, Sequence[str]], first: int
) -> list[tuple[int, _Span]]:
    """The fragments' spans in the fields from `first` on: best of each field, then second best of each, ..."""
    by_field: list[list[tuple[int, _Span]]] = []
    for i in range(first, len(texts)):
        found = []
        for fragment in fragments.get(names[i], ()):
            wanted = _clean(fragment)
            start = texts[i].find(wanted) if wanted else -1
            if start >= 0:
                found.append((i, (start, start + len(wanted))))
        by_field.append(found)
    return [item for row in zip_longest(*by_field) for item in row if item is not None]


def _head(text: str, budget: int, fits: Callable[[int], bool]) -> int:
    """Length of the longest well-ended beginning of the text for which `fits(length)`."""
    low, high = 0, min(len(text), budget * _CHARS_PER_TOKEN + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    if low == len(text):
        return low
    sentence = max((m.end() for m in _SENTENCE_END.finditer(text, 0, low)), default=0)
    word = low if text[low].isspace() else max(text.rfind(space, 0, low) for space in " \n\t")
    # A shorter beginning may need a gap that a longer one, reaching the next stretch, does not: so ask again
    return next((end for end in (sentence, word) if end > low // 2 and fits(end)), low)
