"""An engine in memory: what `Engine` promises, and as much of the query DSL as WhyRank's own calls use."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any
from uuid import uuid4
from zlib import crc32

from typing_extensions import override

from whyrank.engines import (
    BulkFailure,
    BulkResult,
    Documents,
    Engine,
    EngineAnswer,
    EngineInfo,
    EngineKind,
    Json,
    ScanHit,
    ScanMark,
    ScanPage,
    ScanSlice,
)
from whyrank.errors import EngineError, EngineUnavailableError, IndexMissingError


class _Index:
    def __init__(self, mappings: Json) -> None:
        self.mappings = mappings
        self.documents: dict[str, dict[str, Any]] = {}
        self.visible: dict[str, dict[str, Any]] = {}
        self.id = uuid4().hex
        self.writes = 0

    def refusal(self, document: Json) -> str | None:
        properties = self.mappings.get("properties", {})
        for field, value in document.items():
            if field not in properties:
                if self.mappings.get("dynamic") == "strict":
                    return f"strict_dynamic_mapping_exception: [{field}] is not allowed"
            elif properties[field].get("type") == "integer":
                try:
                    int(value)
                except (TypeError, ValueError):
                    return f"mapper_parsing_exception: failed to parse field [{field}] of type [integer]"
        return None


class FakeEngine(Engine):
    """Set `down` to make every call raise as if nothing answered; `calls` counts those that were answered."""

    def __init__(self) -> None:
        self.down = False
        self.calls = 0
        self._indices: dict[str, _Index] = {}

    def _answer(self) -> None:
        if self.down:
            raise EngineUnavailableError("engine cannot be reached: the fake is down")
        self.calls += 1

    def _index(self, name: str) -> _Index:
        self._answer()
        try:
            return self._indices[name]
        except KeyError:
            raise IndexMissingError(f"no such index [{name}]") from None

    @override
    async def info(self) -> EngineInfo:
        self._answer()
        return EngineInfo(kind=EngineKind.OPENSEARCH, version="3.8.0")

    @override
    async def ensure_index(self, name: str, mappings: Json, settings: Json) -> bool:
        self._answer()
        if name in self._indices:
            return False
        self._indices[name] = _Index(mappings)
        return True

    @override
    async def index_exists(self, name: str) -> bool:
        self._answer()
        return name in self._indices

    @override
    async def delete_index(self, name: str) -> bool:
        self._answer()
        return self._indices.pop(name, None) is not None

    @override
    async def put_document(self, index: str, id: str, document: Json, *, refresh: bool = False) -> None:
        self._answer()
        target = self._indices.setdefault(index, _Index({}))
        if refusal := target.refusal(document):
            raise EngineError(f"engine answered 400: {refusal}")
        target.documents[id] = json.loads(json.dumps(document))  # as it comes back from an engine
        target.writes += 1
        if refresh:
            target.visible = dict(target.documents)

    @override
    async def get_document(self, index: str, id: str) -> dict[str, Any] | None:
        return copy.deepcopy(self._index(index).documents.get(id))

    @override
    async def delete_document(self, index: str, id: str, *, refresh: bool = False) -> bool:
        target = self._index(index)
        found = target.documents.pop(id, None) is not None
        target.writes += found
        if refresh:
            target.visible = dict(target.documents)
        return found

    @override
    async def bulk(self, index: str, documents: Documents) -> BulkResult:
        indexed, failures = 0, []
        given = [pair async for pair in documents] if isinstance(documents, AsyncIterable) else list(documents)
        for id_, document in given:
            try:
                await self.put_document(index, id_, document)
            except EngineUnavailableError:
                raise
            except EngineError as error:
                failures.append(BulkFailure(id=id_, status=400, reason=str(error)))
            else:
                indexed += 1
        return BulkResult(indexed=indexed, failures=tuple(failures))

    @override
    async def search(self, index: str, body: Json) -> dict[str, Any]:
        target = self._index(index)
        query = body.get("query", {"match_all": {}})
        if not set(query) <= {"match_all", "term", "match", "multi_match"}:
            raise EngineError(f"engine answered 400: parsing_exception: unknown query {list(query)}")
        scored = [(_score(query, document), id_) for id_, document in target.visible.items()]
        matching = sorted(((score, id_) for score, id_ in scored if score > 0), key=lambda pair: -pair[0])
        start, size = body.get("from", 0), body.get("size", 10)
        hits = [
            {"_index": index, "_id": id_, "_score": score, "_source": copy.deepcopy(target.visible[id_])}
            for score, id_ in matching[start : start + size]
        ]
        return {"timed_out": False, "hits": {"total": {"value": len(matching), "relation": "eq"}, "hits": hits}}

    @override
    async def search_many(self, index: str, bodies: Sequence[Json]) -> list[dict[str, Any]]:
        return [await self.search(index, body) for body in bodies]

    @override
    async def scan(
        self,
        index: str,
        *,
        by: str,
        fields: Sequence[str] | None = None,
        query: Json | None = None,
        part: ScanSlice = ScanSlice(),  # noqa: B008 - frozen
        page: int = 500,
        after: ScanMark | None = None,
    ) -> AsyncIterator[ScanPage]:
        visible = dict(self._index(index).visible)
        ordered = sorted(visible, key=lambda id_: _order(visible[id_].get(by)))
        if by not in self._index(index).mappings.get("properties", {by: {}}):
            raise EngineError(f"engine answered 400: query_shard_exception: no mapping found for [{by}] to sort on")
        chosen = [
            id_
            for id_ in ordered
            if _score(query or {"match_all": {}}, visible[id_]) > 0
            and crc32(id_.encode()) % part.of == part.number
            and not _passed(visible[id_].get(by), f"{index}/{id_}", after)
        ]
        for start in range(0, len(chosen), page):
            ids = chosen[start : start + page]
            value = visible[ids[-1]].get(by)
            tied = [f"{index}/{id_}" for id_ in chosen[: start + len(ids)] if visible[id_].get(by) == value]
            earlier = after.seen if after is not None and after.value == value else ()
            hits = tuple(
                ScanHit(
                    id_, index, copy.deepcopy({k: v for k, v in visible[id_].items() if fields is None or k in fields})
                )
                for id_ in ids
            )
            yield ScanPage(hits, ScanMark(value, (*earlier, *tied)))

    @override
    async def refresh(self, index: str) -> None:
        target = self._index(index)
        target.visible = dict(target.documents)

    @override
    async def count(self, index: str) -> int:
        return len(self._index(index).visible)

    @override
    async def writes(self, index: str) -> dict[str, int]:
        return {self._index(index).id: self._index(index).writes}

    @override
    async def request(
        self, method: str, path: str, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> EngineAnswer:
        self._answer()
        info = await self.info()
        if (method, path) == ("GET", "/"):
            version = {"number": info.version, "distribution": info.kind.value}
            return EngineAnswer(200, {"cluster_uuid": "fake", "version": version})
        index, _, rest = path[1:].partition("/")
        if index not in self._indices:
            error = {"type": "index_not_found_exception", "reason": f"no such index [{index}]"}
            return EngineAnswer(404, {"error": error, "status": 404})
        if (method, rest) == ("GET", "_mapping"):
            return EngineAnswer(200, {index: {"mappings": self._indices[index].mappings}})
        return EngineAnswer(
            400, {"error": {"type": "illegal_argument_exception", "reason": f"no {rest}"}, "status": 400}
        )

    @override
    async def close(self) -> None:
        pass


def _score(query: Json, document: Json) -> float:
    """Number of the query's words in the fields asked; 1 for match_all and a term that is there."""
    ((kind, arguments),) = query.items()
    if kind == "match_all":
        return 1.0
    if kind == "term":
        ((field, value),) = arguments.items()
        return float(document.get(field) == value)
    if kind == "match":
        ((field, text),) = arguments.items()
        return float(len(_words(text) & _words(document.get(field))))
    fields = [field.partition("^")[0] for field in arguments["fields"]]
    return float(sum(len(_words(arguments["query"]) & _words(document.get(field))) for field in fields))


def _picked(document: dict[str, Any], fields: Sequence[str] | None) -> dict[str, Any]:
    return document if fields is None else {name: value for name, value in document.items() if name in fields}


def _order(value: Any) -> tuple[bool, Any]:
    """Documents without the value last."""
    return (True, 0) if value is None else (False, value)


def _passed(value: Any, name: str, after: ScanMark | None) -> bool:
    if after is None:
        return False
    if value == after.value:
        return name in after.seen
    return _order(value) < _order(after.value)


def _words(text: object) -> set[str]:
    return set(re.findall(r"\w+", str(text or "").lower()))
