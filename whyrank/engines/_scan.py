"""Reading a whole index, page by page: point in time, `search_after`, slices. Alike on both engines.

Pages are sorted by a field of the caller's, then by `_shard_doc`, which makes any two documents of one point in
time differ. Only the field outlives the point in time, so a `ScanMark` is its last value and the documents that
were given with this very value: a scan that goes on asks for all of them again and drops those.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import structlog

from whyrank.engines.base import Json, ScanHit, ScanMark, ScanPage, ScanSlice
from whyrank.errors import EngineError

log = structlog.get_logger(__name__)

KEEP_ALIVE = "5m"
"""How long the engine keeps a point in time that nobody asks; each page renews it."""

_BEFORE_ALL_TIES = -1
"""`_shard_doc` counts from 0."""


class PointInTimeGoneError(EngineError):
    """The point in time has expired, or its node has left."""


class PointsInTime(Protocol):
    """What differs between the engines."""

    async def open_pit(self, index: str) -> str:
        """Open a point in time, kept for KEEP_ALIVE."""
        ...

    async def search_pit(self, body: Json) -> dict[str, Any]:
        """A search whose body names the point in time. Raises PointInTimeGoneError."""
        ...

    async def close_pit(self, id: str) -> None:
        """Close it; one that is gone is no error."""
        ...


async def scan(
    engine: PointsInTime,
    index: str,
    *,
    by: str,
    fields: Sequence[str] | None,
    query: Json | None,
    part: ScanSlice,
    page: int,
    after: ScanMark | None,
) -> AsyncIterator[ScanPage]:
    """The pages of `Engine.scan`. The next one is asked for while the caller works on the one it has."""
    reader = _Reader(engine, index, _body(by, fields, query, part, page), after)
    coming: asyncio.Task[ScanPage | None] | None = None
    try:
        coming = asyncio.create_task(reader.next())
        while (found := await coming) is not None:
            coming = asyncio.create_task(reader.next())
            yield found
    finally:
        # Also where the caller leaves in the middle, or is cancelled
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.wait([coming])
        elif coming is not None and not coming.cancelled():
            coming.exception()  # seen: nobody will await a page that was asked for ahead
        await reader.close()


def _body(by: str, fields: Sequence[str] | None, query: Json | None, part: ScanSlice, page: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "size": page,
        "query": query or {"match_all": {}},
        "_source": list(fields) if fields is not None else True,
        "sort": [{by: {"order": "asc", "missing": "_last"}}, {"_shard_doc": "asc"}],
        "track_total_hits": False,
    }
    if part.of > 1:
        # By the hash of ids: the default of some versions, the document's number in the segment, lasts no longer
        # than the point in time.
        body["slice"] = {"field": "_id", "id": part.number, "max": part.of}
    return body


class _Reader:
    """One scan: its point in time and how far it is."""

    def __init__(self, engine: PointsInTime, index: str, body: dict[str, Any], after: ScanMark | None) -> None:
        self._engine = engine
        self._index = index
        self._body = body
        self._mark = after
        self._after: list[Any] | None = None
        self._pit: str | None = None

    async def next(self) -> ScanPage | None:
        """The next page that is not empty, None after the last."""
        reopened = False
        while True:
            try:
                hits = await self._ask()
                reopened = False
            except PointInTimeGoneError:
                if reopened:  # gone as soon as it is open: no use in trying for ever
                    raise
                log.info("point_in_time_reopened", index=self._index)
                self._pit, reopened = None, True
                continue
            if not hits:
                return None
            seen = set() if self._mark is None else set(self._mark.seen)
            value = None if self._mark is None else self._mark.value
            new = [hit for hit in hits if not (hit["sort"][0] == value and _name(hit) in seen)]
            self._after = hits[-1]["sort"]
            self._mark = _advanced(self._mark, new)
            if new and self._mark is not None:
                return ScanPage(tuple(ScanHit(hit["_id"], hit["_index"], hit["_source"]) for hit in new), self._mark)

    async def _ask(self) -> list[dict[str, Any]]:
        if self._pit is None:
            self._pit = await self._engine.open_pit(self._index)
            self._after = None if self._mark is None else [self._mark.value, _BEFORE_ALL_TIES]
        body = {**self._body, "pit": {"id": self._pit, "keep_alive": KEEP_ALIVE}}
        if self._after is not None:
            body["search_after"] = self._after
        answer = await self._engine.search_pit(body)
        if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
            raise EngineError(f"the engine answered with a part of {self._index} only")
        self._pit = answer.get("pit_id", self._pit)
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits

    async def close(self) -> None:
        """Give the point in time back. One that cannot be closed expires by itself."""
        if self._pit is None:
            return
        pit, self._pit = self._pit, None
        try:
            await self._engine.close_pit(pit)
        except EngineError as error:
            log.debug("point_in_time_not_closed", index=self._index, error=str(error))


def _advanced(mark: ScanMark | None, new: Sequence[dict[str, Any]]) -> ScanMark | None:
    """Where a scan stands after these hits."""
    if not new:
        return mark
    value = new[-1]["sort"][0]
    tied = tuple(_name(hit) for hit in new if hit["sort"][0] == value)
    if mark is not None and mark.value == value:
        return ScanMark(value, mark.seen + tied)
    return ScanMark(value, tied)


def _name(hit: Json) -> str:
    return f"{hit['_index']}/{hit['_id']}"
