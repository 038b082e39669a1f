"""The stretches of long texts that hold the query's words, for the doors that have no engine's highlighter to ask."""

from __future__ import annotations

import asyncio
import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from whyrank.keys import normalise_query
from whyrank.types import Candidate

MOST_CHARS = 200_000
"""Beyond this a field is not searched: an answer is being waited for."""
_MOST_TERMS = 24
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Letters of scripts that put no space between words: Thai, Lao, Burmese, Khmer, Kana, Han."""
_SENTENCE_END = re.compile(r"[.!?…]['\")\]”’»]*\s|[。！？]|\n")  # noqa: RUF001 - full-width signs end sentences, too
_ENDING = 3
"""Letters that a longer word may lose, so that `sorting` finds `sort` and `sorted`."""
_STEM = 4


class WordFragments:
    """Port FragmentSource without an engine: no analysis, so any language, and only what is in the candidates."""

    async def fragments(
        self, query: str, candidates: Sequence[Candidate], fields: Sequence[str], fragment_chars: int, count: int
    ) -> Mapping[tuple[str, str], Mapping[str, Sequence[str]]]:
        """Best fragments by (index, id), then field, best first; in a thread, for long texts take milliseconds."""
        terms = query_terms(query)
        return await asyncio.to_thread(
            lambda: {
                (candidate.index, candidate.id): {
                    field.field: best_stretches(terms, field.text, fragment_chars, count)
                    for field in candidate.fields
                    if field.field in fields
                }
                for candidate in candidates
            }
        )


def query_terms(query: str) -> list[re.Pattern[str]]:
    """What to look for: the beginnings of the query's words, or pairs of letters where words are not set apart."""
    found: dict[str, re.Pattern[str]] = {}
    for word in _WORD.findall(normalise_query(query).casefold()):
        if _UNSPACED.search(word):
            pairs = [word[i : i + 2] for i in range(max(1, len(word) - 1))]
            found.update((pair, re.compile(re.escape(pair), re.IGNORECASE)) for pair in pairs)
        else:
            stem = word[: max(_STEM, len(word) - _ENDING)]
            found[stem] = re.compile(rf"\b{re.escape(stem)}", re.IGNORECASE)
    return list(found.values())[:_MOST_TERMS]


def best_stretches(terms: Sequence[re.Pattern[str]], text: str, chars: int, count: int) -> list[str]:
    """Up to `count` stretches of about `chars` characters that hold most of the terms, best first.

    A term weighs the more, the fewer stretches it is in. Stretches without any are left out.
    """
    starts = _starts(text[:MOST_CHARS], chars)
    scores = [0.0] * len(starts)
    for term in terms:
        holding = {bisect_right(starts, match.start()) - 1 for match in term.finditer(text, 0, MOST_CHARS)}
        for place in holding:
            scores[place] += math.log(1 + len(starts) / len(holding))
    best = sorted((place for place, score in enumerate(scores) if score > 0), key=lambda place: -scores[place])
    ends = [*starts[1:], min(len(text), MOST_CHARS)]
    return [text[starts[place] : ends[place]].strip() for place in best[:count]]


def _starts(text: str, chars: int) -> list[int]:
    """Where stretches begin: where a sentence ends in the latter half of the one before, else a word, else anywhere."""
    starts = [0]
    while (limit := starts[-1] + chars) < len(text):
        half = limit - chars // 2
        sentence = max((match.end() for match in _SENTENCE_END.finditer(text, half, limit)), default=0)
        starts.append(sentence or max(text.rfind(" ", half, limit) + 1, text.rfind("\t", half, limit) + 1) or limit)
    return starts
