"""A search answer on its way out: candidates for the Rescorer, then the page in the new order.

Bytes that are not ours stay as they are: the answer is taken apart to its hits and their members, and
put together again from the same bytes. Only `hits.hits` (order, slice, our entries in `fields`) and
`ext.whyrank` differ from what the engine said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from plugin_service.rescoring.field_paths import without
from plugin_service.rescoring.hits import fields_at, placed
from plugin_service.rescoring.json_parts import (
    JsonObject,
    NotJsonError,
    SurrogateShield,
    decoded,
    encode,
    object_of,
    objects_of,
)
from plugin_service.rescoring.search_request import Plan
from whyrank.errors import EngineError
from whyrank.passages import content_hash
from whyrank.types import Candidate, Mode, Policy, RankedHit, Ranking


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """An engine's answer, taken apart."""

    candidates: tuple[Candidate, ...]
    """The hits inside the window, in the engine's order."""
    _answer: JsonObject
    _section: JsonObject
    _hits: list[JsonObject]
    _shield: SurrogateShield | None


class _HitHead(msgspec.Struct):
    """What makes a candidate of a hit."""

    id: str = msgspec.field(name="_id")
    index: str = msgspec.field(name="_index")
    score: float | None = msgspec.field(name="_score", default=None)
    source: JsonObject | None = msgspec.field(name="_source", default=None)
    fields: JsonObject | None = None
    ignored_field_values: JsonObject | None = None


_HEADS = msgspec.json.Decoder(list[_HitHead])


def parse(body: bytes, plan: Plan, policy: Policy) -> ParsedResponse:
    """Take a search answer apart. Raises EngineError if it is not one.

    Partial answers (a shard failed, the search timed out) are answers. Where the engine gives more hits
    than it was asked for (a search pipeline may), those beyond the window are no candidates.
    """
    shield = None
    try:
        try:
            answer = object_of(body)
        except NotJsonError:
            shield = SurrogateShield(body)
            answer = object_of(shield.body)
        section = object_of(answer["hits"])
        hits = objects_of(section["hits"])
        heads = decoded(_HEADS, section["hits"])
        candidates = tuple(_candidate(head, policy.fields, shield) for head in heads[: plan.window])
    except KeyError as error:
        raise EngineError(f"the engine's answer to a search has no {error}") from error
    except NotJsonError as error:
        raise EngineError(f"the engine's answer to a search is not readable: {error}") from error
    return ParsedResponse(candidates, answer, section, hits, shield)


def _candidate(hit: _HitHead, paths: Sequence[str], shield: SurrogateShield | None) -> Candidate:
    fields = fields_at(paths, (hit.source, hit.fields, hit.ignored_field_values), shield)
    return Candidate(hit.id, hit.index, fields, content_hash(fields), hit.score)


def apply_order(parsed: ParsedResponse, ranking: Ranking) -> list[tuple[int, RankedHit | None]]:
    """The engine's positions in the ranking's order, as `placed` gives them."""
    return placed(parsed.candidates, len(parsed._hits), ranking)


def render(parsed: ParsedResponse, ranking: Ranking, plan: Plan) -> bytes:
    """The page that the caller asked for, in the ranking's order and explained: a JSON search answer."""
    page = apply_order(parsed, ranking)[plan.offset : plan.offset + plan.size]
    hits = [_rendered(parsed._hits[position], position, ranked, plan) for position, ranked in page]
    ext = object_of(parsed._answer["ext"]) if "ext" in parsed._answer else {}
    section: dict[str, object] = {**parsed._section, "hits": hits}
    answer: dict[str, object] = {**parsed._answer, "hits": section, "ext": {**ext, "whyrank": _summary(ranking, plan)}}
    body = encode(answer)
    return parsed._shield.restore(body) if parsed._shield else body


def _rendered(hit: JsonObject, position: int, ranked: RankedHit | None, plan: Plan) -> dict[str, object]:
    """One hit with our entries in `fields`, and without what was borrowed."""
    rendered: dict[str, object] = dict(hit)
    if plan.borrowed_fields:
        for place in ("fields", "ignored_field_values"):
            if place in hit and not (kept := without(object_of(hit[place]), plan.borrowed_fields)):
                del rendered[place]
            elif place in hit:
                rendered[place] = kept
    elif "fields" in hit:
        rendered["fields"] = object_of(hit["fields"])
    fields = rendered.get("fields")
    rendered["fields"] = {**(fields if isinstance(fields, dict) else {}), **_entries(position, ranked, plan)}
    return rendered


def _entries(position: int, ranked: RankedHit | None, plan: Plan) -> dict[str, object]:
    """What we say of one hit: each an array, as the engines' own entries are.

    Only what stands in the document is shown: no explanation that is not grounded, no such quote.
    """
    if ranked is None:
        return {"whyrank.engine_rank": (position + 1,)}
    entries: dict[str, object] = {"whyrank.engine_rank": (ranked.engine_position + 1,)}
    if ranked.score is not None:
        entries["whyrank.score"] = (float(ranked.score),)
    verdict = ranked.verdict
    if verdict is None:
        return entries
    entries["whyrank.label"] = (verdict.label,)
    entries["whyrank.relevance"] = (float(verdict.relevance),)
    if verdict.similarity is not None:
        entries["whyrank.similarity"] = (float(verdict.similarity),)
    if verdict.mode is Mode.REASON:
        entries["whyrank.grounded"] = (verdict.grounded,)
        if plan.explain and verdict.grounded and verdict.explanation:
            entries["whyrank.explanation"] = (verdict.explanation,)
        if plan.explain and (quotes := [quote for quote in verdict.quotes if quote.grounded]):
            entries["whyrank.quotes"] = quotes
    return entries


def _summary(ranking: Ranking, plan: Plan) -> dict[str, object]:
    """`ext.whyrank` of the answer; the counts are over the whole window."""
    return {
        "status": ranking.status,
        "reason": ranking.reason,
        "ranking_id": ranking.id,
        "mode": ranking.mode,
        "window": plan.window,
        "judged": ranking.judged,
        "missing": ranking.missing,
        "failed": sum(1 for hit in ranking.hits if hit.failure is not None),
        "truncated": sum(1 for hit in ranking.hits if hit.truncated),
        "model_revision": ranking.model_revision,
        "query": ranking.query,
    }
