"""The candidates of each query: the engine's top hits with the passages that the model would read of them.

The search is a match over title and text in one field; passages are made as the sidecar makes them, from the
document's fields and the engine's own highlighter. What was found is kept on disk by the collection's content.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from training import records
from training.evaluate.collections import Collection, GivenHit, IndexText, judged_queries
from training.progress import counting
from whyrank.embedded.cache import Progress, digest
from whyrank.engines import Engine, connect
from whyrank.errors import BadRequestError, EngineError
from whyrank.passages import content_hash, fit
from whyrank.settings import Settings
from whyrank.types import Candidate, Fragment, Passage

_FORM = "1"
"""Changes whenever the index, the search or the making of passages does."""
_ALL = "all"
_FIELDS = ("title", "text")
_MAPPINGS = {"properties": {name: {"type": "text", "analyzer": "english"} for name in (*_FIELDS, _ALL)}}
_SETTINGS = {"number_of_replicas": 0, "index.highlight.max_analyzed_offset": 50_000_000}
_FRAGMENT_CHARS = 300
"""As the sidecar's highlight requests have it."""
_QUERY_WORDS = 400
"""Engines refuse a query of more than 1,024 terms; some collections ask with whole posts."""
_AT_LEAST = 1_000
"""Queries that are searched once an index is there, so that a larger sample needs no second one."""
_SEARCHES = 4


class Hit(msgspec.Struct, frozen=True):
    """One candidate."""

    id: str
    score: float | None
    passage: Passage


class Asked(msgspec.Struct, frozen=True):
    """One query with its candidates, best first."""

    id: str
    text: str
    hits: tuple[Hit, ...]


class Sample(msgspec.Struct, frozen=True):
    """What is evaluated of one collection."""

    name: str
    documents: int
    queries: tuple[Asked, ...]
    qrels: dict[str, dict[str, int]]
    """Grades by query, then document; what the collection excludes is not in it."""
    labels: dict[tuple[str, str], int] = {}
    """A teacher's labels by query and document, where there is one."""
    rephrased: dict[str, tuple[str, ...]] = {}
    """Other words for the same query, where there are."""

    @property
    def pairs(self) -> int:
        """Candidates of all queries."""
        return sum(len(query.hits) for query in self.queries)


class _Kept(msgspec.Struct, frozen=True):
    """First line of a kept first stage."""

    documents: int
    queries: tuple[Asked, ...]


Starter = Callable[[], AbstractContextManager[str]]
"""Starts an engine for the length of a `with`, and gives its address."""


class LazyEngine:
    """An engine that is connected, and started where it has to be, when it is first asked for."""

    def __init__(self, settings: Settings, starter: Starter | None) -> None:
        self._settings = settings
        self._starter = starter
        self._parts = AsyncExitStack()
        self._engine: Engine | None = None

    async def get(self) -> Engine:
        """Raises EngineUnavailableError, BadRequestError; PartError where it cannot be started."""
        if self._engine is None:
            settings = self._settings
            if self._starter is not None:
                settings = settings.model_copy(update={"engine_url": self._parts.enter_context(self._starter())})
            self._engine = await connect(settings)
            self._parts.push_async_callback(self._engine.close)
        return self._engine

    async def close(self) -> None:
        """Release the connections, and stop what was started."""
        await self._parts.aclose()


@asynccontextmanager
async def lazily(settings: Settings, starter: Starter | None) -> AsyncIterator[LazyEngine]:
    """The settings' engine, or one that `starter` starts, for the length of an `async with`."""
    engine = LazyEngine(settings, starter)
    try:
        yield engine
    finally:
        await engine.close()


def chosen_queries(collection: Collection, count: int | None, seed: int) -> list[str]:
    """A seeded sample of the queries that can be scored, all of them for None.

    A larger sample of the same seed holds the smaller one, so that judgements at hand are used again.
    """
    found = judged_queries(collection)
    random.Random(seed).shuffle(found)  # noqa: S311  a sample, no secret
    return found[:count]


async def candidates(
    collection: Collection,
    engine: LazyEngine,
    folder: Path,
    *,
    queries: int | None,
    depth: int,
    passage_tokens: int,
    seed: int,
    progress: Progress,
) -> Sample:
    """The sample with the top `depth` candidates of each query.

    `engine` is asked for what `folder` has not kept from before. Raises EngineError, and BadRequestError for a
    corpus that is not as its format says.
    """
    wanted = chosen_queries(collection, queries, seed)
    if not wanted:
        raise BadRequestError("collections", f"{collection.name} has no query with a relevant document")
    if collection.given is not None and all(hit.passage for hits in collection.given.values() for hit in hits):
        found: Mapping[str, Sequence[Hit]] = _given(collection)
        documents = len({hit.id for hits in found.values() for hit in hits})
    else:
        more = chosen_queries(collection, max(len(wanted), _AT_LEAST), seed)
        search = _FirstStage(collection, depth, passage_tokens)
        documents, found = await search.run(engine, folder, wanted, more, progress)
    asked, chosen = [], frozenset(wanted)
    for id in wanted:
        dropped = collection.excluded.get(id, frozenset())
        hits = [hit for hit in found.get(id, ()) if hit.id not in dropped][:depth]
        asked.append(Asked(id, collection.queries[id], tuple(hits)))
    return Sample(
        collection.name,
        documents,
        tuple(asked),
        {id: _judged(collection, id) for id in wanted},
        labels={pair: label for pair, label in collection.labels.items() if pair[0] in chosen},
        rephrased={id: tuple(forms) for id, forms in collection.rephrased.items() if id in chosen},
    )


def _judged(collection: Collection, query: str) -> dict[str, int]:
    dropped = collection.excluded.get(query, frozenset())
    return {id: grade for id, grade in collection.qrels[query].items() if id not in dropped}


def _given(collection: Collection) -> dict[str, Sequence[Hit]]:
    return {
        query: [Hit(hit.id, hit.score, hit.passage) for hit in hits if hit.passage]
        for query, hits in (collection.given or {}).items()
    }


class _FirstStage:
    """Searches one collection, once."""

    def __init__(self, collection: Collection, depth: int, passage_tokens: int) -> None:
        self._collection = collection
        self._depth = depth
        self._budget = passage_tokens
        self._key = digest(_FORM, collection.content_hash(), str(depth), str(passage_tokens))

    async def run(
        self, engine: LazyEngine, folder: Path, wanted: Sequence[str], more: Sequence[str], progress: Progress
    ) -> tuple[int, Mapping[str, Sequence[Hit]]]:
        """(documents, hits by query) of at least the `wanted` queries."""
        path = folder / f"{self._collection.name}-{self._key}.jsonl"
        if path.exists():
            (kept,) = records.read(path, _Kept)
            if {query.id for query in kept.queries} >= set(wanted):
                return kept.documents, {query.id: query.hits for query in kept.queries}
        documents, found = await self._search(await engine.get(), more, progress)
        asked = tuple(Asked(id, self._collection.queries[id], tuple(found[id])) for id in more)
        records.write(path, [_Kept(documents, asked)])
        return documents, found

    async def _search(
        self, engine: Engine, queries: Sequence[str], progress: Progress
    ) -> tuple[int, dict[str, list[Hit]]]:
        where = self._collection.texts_in
        if where is not None:
            return await engine.count(where.index), await self._searches(engine, where, queries, progress)
        index = f"whyrank-evaluate-{self._key}"
        try:
            # A killed run may have left half of it
            await engine.delete_index(index)
            await engine.ensure_index(index, _MAPPINGS, _SETTINGS)
            progress(f"indexing {self._collection.name}", None)
            result = await engine.bulk(index, self._documents())
            if result.failures:
                first = result.failures[0]
                raise EngineError(f"{self._collection.name}: the engine refuses {first.id!r}: {first.reason}")
            await engine.refresh(index)
            return result.indexed, await self._searches(engine, IndexText(index, _FIELDS), queries, progress)
        finally:
            await engine.delete_index(index)

    def _documents(self) -> Iterator[tuple[str, dict[str, str]]]:
        for document in self._collection.documents():
            whole = f"{document.title} {document.text}"
            yield document.id, {"title": document.title, "text": document.text, _ALL: whole}

    async def _searches(
        self, engine: Engine, where: IndexText, queries: Sequence[str], progress: Progress
    ) -> dict[str, list[Hit]]:
        slots = asyncio.Semaphore(_SEARCHES)
        with counting(f"searching {self._collection.name}", len(queries), progress, unit="queries") as counter:

            async def one(query: str) -> list[Hit]:
                async with slots:
                    found = await self._hits(engine, where, query)
                counter.advance()
                return found

            found = await asyncio.gather(*(one(query) for query in queries))
        return dict(zip(queries, found, strict=True))

    async def _hits(self, engine: Engine, where: IndexText, query: str) -> list[Hit]:
        text = " ".join(self._collection.queries[query].split()[:_QUERY_WORDS])
        size = self._depth + len(self._collection.excluded.get(query, ()))
        given: Sequence[GivenHit] | None = None
        if self._collection.given is not None:
            given = self._collection.given.get(query, ())[:size]
            body = self._body(where, text, {"ids": {"values": [hit.id for hit in given]}}, size)
        else:
            over = [_ALL] if where.fields == _FIELDS and self._collection.texts_in is None else list(where.fields)
            body = self._body(where, text, {"multi_match": {"query": text, "fields": over, "lenient": True}}, size)
        answer = await engine.search(where.index, body)
        found = {hit["_id"]: hit for hit in answer["hits"]["hits"]}
        if given is None:
            return [self._hit(hit, where, hit["_score"]) for hit in found.values()]
        return [self._hit(found[hit.id], where, hit.score) for hit in given if hit.id in found]

    def _body(self, where: IndexText, text: str, query: dict[str, Any], size: int) -> dict[str, Any]:
        fields = {field: {"highlight_query": {"match": {field: {"query": text, "lenient": True}}}}
                  for field in where.fields}  # fmt: skip
        return {
            "size": size,
            "query": query,
            "_source": list(where.fields),
            "highlight": {
                "type": "unified",
                "order": "score",
                "fragment_size": _FRAGMENT_CHARS,
                "number_of_fragments": max(1, self._budget * 4 // _FRAGMENT_CHARS),
                "no_match_size": _FRAGMENT_CHARS,
                "pre_tags": [""],
                "post_tags": [""],
                "fields": fields,
            },
        }

    def _hit(self, hit: dict[str, Any], where: IndexText, score: float | None) -> Hit:
        source = hit["_source"]
        fields = tuple(Fragment(name, str(source[name])) for name in where.fields if source.get(name))
        candidate = Candidate(hit["_id"], where.index, fields, content_hash(fields), score)
        return Hit(hit["_id"], score, fit(candidate, self._budget, hit.get("highlight")))
