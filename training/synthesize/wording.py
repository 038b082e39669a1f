"""The offline teacher's words: which of the query's terms a passage covers, and the sentence that says so (pure)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from whyrank.folding import fold
from whyrank.prompt import neutralise

_DATA_FILE = files("training") / "synthesize" / "prompts" / "offline.toml"
_DATA = tomllib.loads(_DATA_FILE.read_text(encoding="utf-8"))

WORDING_VERSION = sha256(_DATA_FILE.read_bytes()).hexdigest()[:8]
"""Part of the teacher's name: other words are another teacher."""

_STOP = frozenset(_DATA["words"]["stop"].split())
_TERM = re.compile(r"\w+(?:['’.-]\w+)*[+#]*")  # noqa: RUF001 (both apostrophes)
_WORD = re.compile(r"\w+[+#]*")
_SUFFIXES = (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""), ("ly", ""), ("e", ""))
_MIN_STEM = 3


class Terms(NamedTuple):
    """A query's content terms in its own spelling and order, by whether a passage has them."""

    covered: list[str]
    missing: list[str]


def stem(word: str) -> str:
    """A folded word without its commonest English endings: for comparing, not for reading."""
    for suffix, ending in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _MIN_STEM:
            word = word[: -len(suffix)] + ending
            break
    # So that `running` meets `run` and `plots` meets `plotted`
    return word[:-1] if len(word) > _MIN_STEM and word[-1] == word[-2] else word


@lru_cache(maxsize=4096)
def stems(text: str) -> frozenset[str]:
    """The stems of all words of a text."""
    return frozenset(stem(word) for word in _WORD.findall(fold(text).text))


def content_stems(text: str) -> frozenset[str]:
    """The stems of the words that say something, of all words where none does."""
    words = _WORD.findall(fold(text).text)
    return frozenset(stem(word) for word in words if word not in _STOP) or stems(text)


def terms(query: str, passage: str) -> Terms:
    """The query's content terms, each in `covered` when all its parts are words of the passage."""
    there = stems(passage)
    found = Terms([], [])
    seen: set[frozenset[str]] = set()
    for match in _TERM.finditer(neutralise(query)):
        folded = fold(match[0]).text
        parts = frozenset(stem(word) for word in _WORD.findall(folded) if len(word) > 1)
        if not parts or parts in seen or folded.replace("'", "") in _STOP or parts <= _STOP:
            continue
        seen.add(parts)
        (found.covered if parts <= there else found.missing).append(match[0])
    return found


def explain(label: int, quotes: Sequence[str], found: Terms) -> str:
    """The explanation of a label: what the document states, what of the query it covers and what it lacks."""
    words: dict[str, str] = _DATA[f"label_{label}"]
    case = ("neither", "covered", "missing", "both")[bool(found.covered) + 2 * bool(found.missing)]
    if not quotes:
        return words["bare"]
    cited = " and ".join(f'"{quote}"' for quote in quotes)
    opening = words["opening"].replace("{quotes}", cited)
    rest = words[case].replace("{covered}", _listed(found.covered, "and"))
    return f"{opening} {rest.replace('{missing}', _listed(found.missing, 'or'))}"


def _listed(words: Sequence[str], joiner: str) -> str:
    shown = list(words[: _DATA["max_terms"]])
    return f"{', '.join(shown[:-1])} {joiner} {shown[-1]}" if len(shown) > 1 else "".join(shown)
