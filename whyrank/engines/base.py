"""What WhyRank asks of an engine, in the words that OpenSearch and Elasticsearch share.

One Protocol, an adapter for each engine, one fake in `tests/fakes`; `tests/contract/test_engine.py` runs on all
three. These are WhyRank's own calls (policies, indexing, reading the index for training); the searches of users
never pass through here, they go through the proxy byte for byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

Json = Mapping[str, Any]
"""A JSON object on its way in."""
Documents = Iterable[tuple[str, Json]] | AsyncIterable[tuple[str, Json]]
"""(id, document) pairs; consumed once, a chunk at a time."""


class EngineKind(StrEnum):
    """Which engine answers."""

    OPENSEARCH = "opensearch"
    ELASTICSEARCH = "elasticsearch"


class EngineInfo(msgspec.Struct, frozen=True):
    """The engine as it presents itself. `version` is its own number, as `3.8.0`."""

    kind: EngineKind
    version: str


class EngineAnswer(msgspec.Struct, frozen=True):
    """What the engine answered to a request of any kind."""

    status: int
    """HTTP status."""
    body: Any
    """Decoded JSON; text where it is none."""

    @property
    def ok(self) -> bool:
        """Whether the engine did what was asked."""
        return 200 <= self.status < 300


class BulkFailure(msgspec.Struct, frozen=True):
    """One document that the engine refused, after all retries."""

    id: str
    status: int
    """HTTP status that the engine gives this document."""
    reason: str


class BulkResult(msgspec.Struct, frozen=True):
    """What became of a bulk: every document given is counted once, here or there."""

    indexed: int
    failures: tuple[BulkFailure, ...] = ()


class ScanHit(msgspec.Struct, frozen=True):
    """One document of a scan, with the fields that were asked for."""

    id: str
    index: str
    source: dict[str, Any]


class ScanMark(msgspec.Struct, frozen=True):
    """Where a scan stands: can be kept on disk, and outlives points in time and restarts of the engine."""

    value: str | int | float | bool | None
    """The sort field's value of the last document given."""
    seen: tuple[str, ...]
    """`index/id` of all documents given with this value: one, where the field is unique."""


class ScanPage(msgspec.Struct, frozen=True):
    """A page of a scan, never empty."""

    hits: tuple[ScanHit, ...]
    after: ScanMark
    """A scan with this `after` begins behind this page."""


class ScanSlice(msgspec.Struct, frozen=True):
    """Slice `number` (from 0) of `of`; together the slices hold each document once."""

    number: int = 0
    of: int = 1


WHOLE = ScanSlice()


class Engine(Protocol):
    """OpenSearch or Elasticsearch.

    Every call raises EngineUnavailableError when the engine cannot be reached or is overloaded, EngineTimeoutError
    when it is silent for too long, IndexMissingError when the index is not there, EngineError for any other answer
    that is not a success.
    No exception or warning of a client library leaves an adapter.
    """

    async def info(self) -> EngineInfo:
        """Ask the engine who it is."""
        ...

    async def ensure_index(self, name: str, mappings: Json, settings: Json) -> bool:
        """Make the index unless it is there; True when made. One that is there is left as it is.

        Safe to call from many processes at once.
        """
        ...

    async def index_exists(self, name: str) -> bool:
        """Whether an index or alias of this name is there."""
        ...

    async def delete_index(self, name: str) -> bool:
        """Delete the index with its documents; False when it was not there."""
        ...

    async def put_document(self, index: str, id: str, document: Json, *, refresh: bool = False) -> None:
        """Write or replace one document; with `refresh`, searches see it when this returns."""
        ...

    async def get_document(self, index: str, id: str) -> dict[str, Any] | None:
        """The document as last written, refreshed or not; None when the index has no such document."""
        ...

    async def delete_document(self, index: str, id: str, *, refresh: bool = False) -> bool:
        """Delete one document; False when it was not there."""
        ...

    async def bulk(self, index: str, documents: Documents) -> BulkResult:
        """Write or replace many documents, in chunks; memory holds one chunk.

        A document that the engine refuses does not stop the others: it is in `failures`. Refusals for load
        (429) are tried again with growing pauses first. When the engine goes away in between, what was written
        stays and an error is raised; ids make it safe to start over.
        """
        ...

    async def search(self, index: str, body: Json) -> dict[str, Any]:
        """The engine's answer to a search body, as it is."""
        ...

    async def search_many(self, index: str, bodies: Sequence[Json]) -> list[dict[str, Any]]:
        """The engine's answers to many search bodies, in their order, in one round trip.

        One that the engine refuses raises for all.
        """
        ...

    def scan(
        self,
        index: str,
        *,
        by: str,
        fields: Sequence[str] | None = None,
        query: Json | None = None,
        part: ScanSlice = WHOLE,
        page: int = 500,
        after: ScanMark | None = None,
    ) -> AsyncIterator[ScanPage]:
        """Read the index (a name, an alias, or several with commas) as it is at one point in time, page by page.

        `by` is a field with doc values (keyword, number, date) in whose order documents come; those without it
        come last. It should be unique, or nearly: neither ids nor the engine's own document numbers can be
        sorted by and outlive a point in time, so a scan that goes on after `after` finds its place by this field
        alone. It does so exactly, each document once, for any field; but documents that share a value, or lack
        it, are all remembered until their value has passed. `fields` are those of `_source`, all when None.

        Memory holds two pages (of `page` documents, up to 10,000). A point in time that expires while the caller
        works is opened again, which shows documents written meanwhile. Close the iterator
        (`contextlib.aclosing`) when leaving it early, so that the point in time is closed too.
        """
        ...

    async def refresh(self, index: str) -> None:
        """Make everything written so far visible to searches."""
        ...

    async def count(self, index: str) -> int:
        """Number of documents that searches see."""
        ...

    async def writes(self, index: str) -> dict[str, int]:
        """Writes and deletions that each index behind the name has had so far, by the index's own id.

        Counted by the engine's sequence numbers: what was written since is a difference, replaced documents
        included, and an index that took another's name has an id of its own.
        """
        ...

    async def request(
        self, method: str, path: str, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> EngineAnswer:
        """Any other request, for administration: there the engines differ in paths and words.

        `path` begins with a slash and is percent-encoded. An answer with any status is an answer, so this raises
        nothing but EngineUnavailableError and EngineTimeoutError, when there is none.
        """
        ...

    async def close(self) -> None:
        """Release the connections. Closing twice is harmless."""
        ...
