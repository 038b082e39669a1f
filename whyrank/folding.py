"""Text as it compares equal: whitespace, case, Unicode forms, quotation marks and dashes folded (pure).

Neutralised prompt text (`whyrank.prompt.neutralise`) folds to the same as its original, so that a quote which
the model copied from the prompt is found in the passage as the engine holds it.
"""

# ruff: noqa: RUF001 (look-alike characters are what this module is about)
from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

STAND_INS = {"<": "˂", "[": "⁅", ":": "∶"}
"""What neutralising writes in place of a character that would make a marker. None of these has a compatibility
form, so no tokenizer's normalisation turns them back; folding does."""

_HASHES = re.compile("[#＃﹟]{2,}")
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_DROPPED = re.compile(f"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff{_INVISIBLE}]")
"""Controls, lone surrogates, and what takes no ink: zero-width, bidi, fillers, variation selectors, tags."""

_ODD_SPACE = re.compile("\r\n?|[\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")

_PLAIN = re.compile("[!$-&(-_a-~]+(?: [!$-&(-_a-~]+)*")
"""ASCII that folds to its lower case: most text, so folded by the stretch."""

_ALIASES = {
    **{stand_in: char for char, stand_in in STAND_INS.items()},
    **dict.fromkeys("\"'`´ʻʼʽˈ′″‘’‚‛“”„‟«»‹›「」『』〝〞＂＇｀", "'"),
    **dict.fromkeys("‐‑‒–—―−﹘﹣－", "-"),
    "ı": "i",  # its capital is I, the only letter whose case does not fold
    **{char: char for char in "≮≯≠⩴⩵⩶"},  # they decompose into characters that neutralising looks for
}


class Folded(NamedTuple):
    """Folded text, and for each of its characters the offset of the original's that made it."""

    text: str
    offsets: list[int]


def visible(text: str) -> str:
    """The text without what cannot be seen: `\\r\\n` is `\\n`, other odd line breaks are spaces, invisible is gone."""
    if not text.isprintable():
        text = _ODD_SPACE.sub(lambda match: "\n" if match[0][0] == "\r" else " ", text)
    # U+2800 and its like are printable and take no ink
    return text if text.isascii() and text.isprintable() else _DROPPED.sub("", text)


def single_hashes(text: str) -> str:
    """The text with each run of `#` cut to one, so that it cannot hold the stop sequence."""
    return _HASHES.sub("#", text) if "#" in text or "＃" in text or "﹟" in text else text


@lru_cache(maxsize=1 << 16)
def _fold_char(char: str) -> str:
    if _DROPPED.match(char):
        return ""
    if char.isspace():
        return " "
    if char in _ALIASES:
        return _ALIASES[char]
    # Casefolding between two decompositions makes every letter equal to its upper and lower case
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    return "".join(" " if c.isspace() else _ALIASES.get(c, c) for c in decomposed if not _DROPPED.match(c))


def fold(text: str) -> Folded:
    """Fold the text: linear time; the folded text neither begins with nor repeats a space."""
    chars: list[str] = []
    offsets: list[int] = []
    last, at = " ", 0
    while at < len(text):
        if plain := _PLAIN.match(text, at):
            chars.append(plain[0].lower())
            offsets.extend(range(at, plain.end()))
            last, at = "", plain.end()
            continue
        for out in _fold_char(text[at]):
            if out == last and out in " #":
                continue
            chars.append(out)
            offsets.append(at)
            last = out
        at += 1
    return Folded("".join(chars), offsets)
