"""The same query in other words, made by rules: what it asks for stays, so the labels should (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable

_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be been by can could did do does for from had has have how i in into is it its me my of on "
        "or should so that the their there these they this to was we were what when where which who why will with "
        "would you your"
    )
)
_ASKING = frozenset(_WORD.findall("what how why when where which who can is are does do did should could"))
_KEYWORDS = 5
"""A query of at most so many words that asks nothing is a list of keywords, whose order says little."""
_PUNCTUATION = re.compile(r"(?<!\S)[^\w\s]+|[^\w\s]+(?!\S)")
"""Not what stands inside of a word, as in C++11's or x86-64."""


def paraphrases(query: str) -> dict[str, str]:
    """Other forms of the query by the name of the rule; a rule that changes nothing is left out."""
    forms = {name: " ".join(rule(query).split()) for name, rule in _RULES.items()}
    return {name: form for name, form in forms.items() if form and form != " ".join(query.split())}


def _case(query: str) -> str:
    return query.lower() if query != query.lower() else query[:1].upper() + query[1:]


def _punctuation(query: str) -> str:
    bare = _PUNCTUATION.sub(" ", query)
    return bare if bare.split() != query.split() else query + "?"


def _word_order(query: str) -> str:
    words = query.split()
    return " ".join(reversed(words)) if _is_keywords(query) else query


def _what_is(query: str) -> str:
    return f"what is {query}" if _is_keywords(query) else query


def _stop_words(query: str) -> str:
    kept = [word for word in query.split() if word.lower().strip("?.,;:!") not in _STOP_WORDS]
    return " ".join(kept) if len(kept) > 1 else query


def _is_keywords(query: str) -> bool:
    words = query.lower().split()
    return 1 < len(words) <= _KEYWORDS and words[0] not in _ASKING and "?" not in query


_RULES: dict[str, Callable[[str], str]] = {
    "case": _case,
    "punctuation": _punctuation,
    "word order": _word_order,
    "what is": _what_is,
    "stop words": _stop_words,
}
