"""Hits of an engine, by whatever door they come: candidates of them, and their places in a ranking (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from plugin_service.rescoring.field_paths import text_at
from plugin_service.rescoring.json_parts import JsonObject, SurrogateShield
from whyrank.types import Candidate, Fragment, RankedHit, Ranking

TEXT_FIELD = "text"
"""The field of a text that comes without a name."""


def text_fields(text: str) -> tuple[Fragment, ...]:
    """The fields of a bare text; none where there is nothing to read."""
    return (Fragment(TEXT_FIELD, text),) if text.strip() else ()


def fields_at(
    paths: Iterable[str], places: Sequence[JsonObject | None], shield: SurrogateShield | None
) -> tuple[Fragment, ...]:
    """The texts at these paths, each from the first place that has one. Raises NotJsonError.

    Every door makes its candidates by this, so that a verdict given at one is found at the others. The places are a
    hit's `_source` and what stands beside it; `shield` is the one that is up, if any.
    """
    found = []
    for path in paths:
        for place in places:
            if place and (text := text_at(place, path)) and not text.isspace():
                found.append(Fragment(path, shield.readable(text) if shield else text))
                break
    return tuple(found)


def placed(candidates: Sequence[Candidate], total: int, ranking: Ranking) -> list[tuple[int, RankedHit | None]]:
    """Positions of all `total` hits in the ranking's order, each with its place in the ranking.

    `candidates` are the first of the hits. They may not be those that the ranking was made of: hits that it does not
    know follow in the engine's order, hits that are gone are skipped. Every position comes exactly once, and of hits
    with the same name each has its own place.
    """
    positions: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, candidate in enumerate(candidates):
        positions[candidate.index, candidate.id].append(position)
    order: list[tuple[int, RankedHit | None]] = []
    for ranked in ranking.hits:
        if waiting := positions.get((ranked.index, ranked.id)):
            own = ranked.engine_position
            order.append((waiting.pop(waiting.index(own) if own in waiting else 0), ranked))
    rest = sorted(position for waiting in positions.values() for position in waiting)
    return order + [(position, None) for position in (*rest, *range(len(candidates), total))]
