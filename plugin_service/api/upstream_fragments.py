"""The engine's highlighter as the Rescorer's source of fragments, with the caller's own rights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from plugin_service.api.targets import search_path
from plugin_service.api.upstream import Upstream
from plugin_service.api.upstream_connection import RawHeaders
from whyrank.errors import EngineError
from whyrank.types import Candidate


class _Hit(msgspec.Struct):
    id: str = msgspec.field(name="_id")
    index: str = msgspec.field(name="_index")
    highlight: dict[str, list[str]] = {}


class _Hits(msgspec.Struct):
    hits: list[_Hit]


class _Answer(msgspec.Struct):
    hits: _Hits


_ANSWERS = msgspec.json.Decoder(_Answer)


class EngineFragments:
    """Fragments of documents of `index`, asked for with `headers` (the caller's, for a JSON body)."""

    def __init__(self, upstream: Upstream, index: str, headers: RawHeaders) -> None:
        self._upstream = upstream
        self._path = search_path(index)
        self._headers = headers

    async def fragments(
        self, query: str, candidates: Sequence[Candidate], fields: Sequence[str], fragment_chars: int, count: int
    ) -> Mapping[tuple[str, str], Mapping[str, Sequence[str]]]:
        """Best fragments by (index, id), then field, best first. Raises EngineError."""
        body = msgspec.json.encode(_search(query, candidates, fields, fragment_chars, count))
        answer = await self._upstream.request("POST", self._path, self._headers, body, retry=True)
        try:
            raw = await answer.read()
        finally:
            answer.abandon()
        if answer.status != 200:
            raise EngineError(f"the engine answered {answer.status} to a highlight request")
        try:
            hits = _ANSWERS.decode(raw).hits.hits
        except msgspec.DecodeError as error:
            raise EngineError(f"the engine's answer to a highlight request is not readable: {error}") from error
        return {(hit.index, hit.id): hit.highlight for hit in hits if hit.highlight}


def _search(
    query: str, candidates: Sequence[Candidate], fields: Sequence[str], fragment_chars: int, count: int
) -> dict[str, object]:
    """Exactly these documents (an alias may hold one id in several indices), highlighted and nothing else."""
    ids: dict[str, list[str]] = defaultdict(list)
    for candidate in candidates:
        ids[candidate.index].append(candidate.id)
    wanted = [
        {"bool": {"filter": [{"term": {"_index": index}}, {"ids": {"values": values}}]}}
        for index, values in ids.items()
    ]
    return {
        "size": len(candidates),
        "query": {"bool": {"filter": [{"bool": {"should": wanted, "minimum_should_match": 1}}]}},
        "_source": False,
        "track_total_hits": False,
        "highlight": {
            "type": "unified",
            "order": "score",
            "fragment_size": fragment_chars,
            "number_of_fragments": count,
            "no_match_size": fragment_chars,
            "pre_tags": [""],
            "post_tags": [""],
            "fields": {
                field: {"highlight_query": {"match": {field: {"query": query, "lenient": True}}}} for field in fields
            },
        },
    }
