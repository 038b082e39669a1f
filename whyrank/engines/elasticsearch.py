"""Elasticsearch, through elasticsearch-py's async client."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import elastic_transport as transport
import structlog
from elastic_transport._node import NodeApiResponse
from elasticsearch import AsyncElasticsearch
from elasticsearch import exceptions as foreign
from elasticsearch.helpers import BulkIndexError, ScanError, async_streaming_bulk
from typing_extensions import override

from whyrank.engines import _answers, _scan
from whyrank.engines._bodies import StreamedBodies
from whyrank.engines.base import (
    WHOLE,
    BulkFailure,
    BulkResult,
    Documents,
    Engine,
    EngineAnswer,
    EngineInfo,
    EngineKind,
    Json,
    ScanMark,
    ScanPage,
    ScanSlice,
)
from whyrank.errors import EngineError, EngineTimeoutError, EngineUnavailableError

log = structlog.get_logger(__name__)


class _Node(transport.AiohttpHttpNode):
    """The HTTP seam below the client.

    The engine's Warning headers are logged here, because the client would raise them as Python warnings.
    And plain JSON is spoken: the client asks for version 9's dialect, which an 8.x engine refuses, while the
    calls used here are the same in both.
    """

    async def perform_request(  # type: ignore[override]
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: transport.HttpHeaders | None = None,
        request_timeout: Any = transport.client_utils.DEFAULT,
    ) -> NodeApiResponse:
        if headers:
            headers = headers.copy()
            for name in ("accept", "content-type"):
                if name in headers:
                    headers[name] = plain_media_type(headers[name])
        answer = await super().perform_request(method, target, body, headers, request_timeout)
        if "warning" in answer.meta.headers:
            log.debug("engine_warning", engine="elasticsearch", warning=answer.meta.headers["warning"])
            kept = transport.HttpHeaders({k: v for k, v in answer.meta.headers.items() if k.lower() != "warning"})
            answer = answer._replace(meta=dataclasses.replace(answer.meta, headers=kept))
        return answer

    def _create_aiohttp_session(self) -> None:
        super()._create_aiohttp_session()
        self.session = StreamedBodies(self.session)  # type: ignore[arg-type, assignment]


def plain_media_type(media_type: str) -> str:
    """`application/vnd.elasticsearch+json; compatible-with=9` without vendor and version."""
    return media_type.partition(";")[0].strip().replace("vnd.elasticsearch+", "")


class ElasticsearchEngine(Engine):
    """The `Engine` on Elasticsearch 8 and 9. Makes no request before its first call.

    `timeout_s` is the longest wait for one answer, in seconds; `ca` a file or folder of certificates.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        ca: str | None = None,
        timeout_s: float = 60.0,
        bulk_pause_s: float = _answers.BULK_PAUSE_S,
    ) -> None:
        # Each failure is raised as an error of ours; logged by the client as well, it would stand there twice.
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)
        self._bulk_pause_s = bulk_pause_s
        options: dict[str, Any] = {} if ca is None else {"ca_certs": ca}
        if user is not None:
            options["headers"] = _answers.basic_auth(user, password)
        with _mapped():
            self._client = AsyncElasticsearch(url, node_class=_Node, request_timeout=timeout_s, **options)

    @override
    async def info(self) -> EngineInfo:
        """Ask the engine who it is."""
        with _mapped():
            answer = await self._client.info()
        return EngineInfo(kind=EngineKind.ELASTICSEARCH, version=str(answer["version"]["number"]))

    @override
    async def ensure_index(self, name: str, mappings: Json, settings: Json) -> bool:
        if await self.index_exists(name):
            return False
        with _mapped():
            try:
                await self._client.indices.create(index=name, mappings=dict(mappings), settings=dict(settings))
            except foreign.BadRequestError as error:
                if _answers.already_there(error.body):
                    return False
                raise
        return True

    @override
    async def index_exists(self, name: str) -> bool:
        with _mapped():
            return bool(await self._client.indices.exists(index=name))

    @override
    async def delete_index(self, name: str) -> bool:
        with _mapped():
            try:
                await self._client.indices.delete(index=name)
            except foreign.NotFoundError:
                return False
        return True

    @override
    async def put_document(self, index: str, id: str, document: Json, *, refresh: bool = False) -> None:
        with _mapped():
            await self._client.index(index=index, id=id, document=document, refresh=refresh)

    @override
    async def get_document(self, index: str, id: str) -> dict[str, Any] | None:
        with _mapped():
            try:
                answer = await self._client.get(index=index, id=id)
            except foreign.NotFoundError as error:
                if _answers.error_type(error.body):
                    raise
                return None
        source: dict[str, Any] = answer["_source"]
        return source

    @override
    async def delete_document(self, index: str, id: str, *, refresh: bool = False) -> bool:
        with _mapped():
            try:
                await self._client.delete(index=index, id=id, refresh=refresh)
            except foreign.NotFoundError as error:
                if _answers.error_type(error.body):
                    raise
                return False
        return True

    @override
    async def bulk(self, index: str, documents: Documents) -> BulkResult:
        indexed, failures = 0, list[BulkFailure]()
        items = async_streaming_bulk(
            self._client,
            _answers.index_actions(index, documents),
            chunk_size=_answers.BULK_CHUNK,
            max_chunk_bytes=_answers.BULK_BYTES,
            raise_on_error=False,
            raise_on_exception=False,
            max_retries=_answers.BULK_RETRIES,
            initial_backoff=self._bulk_pause_s,
        )
        with _mapped():
            async with aclosing(items):  # type: ignore[type-var]
                async for ok, item in items:
                    if ok:
                        indexed += 1
                    else:
                        failures.append(_answers.bulk_failure(item))
        return BulkResult(indexed=indexed, failures=tuple(failures))

    @override
    async def search(self, index: str, body: Json) -> dict[str, Any]:
        with _mapped():
            answer = await self._client.search(index=index, body=dict(body))
        return dict(answer.body)

    @override
    async def search_many(self, index: str, bodies: Sequence[Json]) -> list[dict[str, Any]]:
        if not bodies:
            return []
        with _mapped():
            answer = await self._client.msearch(index=index, searches=_answers.search_lines(bodies))
        return _answers.searches_of(answer.body)

    @override
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
        points = _PointsInTime(self._client)
        return _scan.scan(points, index, by=by, fields=fields, query=query, part=part, page=page, after=after)

    @override
    async def refresh(self, index: str) -> None:
        with _mapped():
            await self._client.indices.refresh(index=index)

    @override
    async def count(self, index: str) -> int:
        with _mapped():
            answer = await self._client.count(index=index)
        return int(answer["count"])

    @override
    async def writes(self, index: str) -> dict[str, int]:
        with _mapped():
            answer = await self._client.indices.stats(
                index=index, metric="docs", level="shards", filter_path=_answers.WRITES
            )
        return _answers.writes_of(answer.body)

    @override
    async def request(
        self, method: str, path: str, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> EngineAnswer:
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        with _mapped():
            try:
                answer = await self._client.perform_request(method, path, params=params, headers=headers, body=body)
            except transport.ApiError as error:
                return EngineAnswer(error.meta.status, error.body)
        return EngineAnswer(answer.meta.status, answer.body)

    @override
    async def close(self) -> None:
        await self._client.close()


class _PointsInTime(_scan.PointsInTime):
    def __init__(self, client: AsyncElasticsearch) -> None:
        self._client = client

    @override
    async def open_pit(self, index: str) -> str:
        with _mapped():
            answer = await self._client.open_point_in_time(index=index, keep_alive=_scan.KEEP_ALIVE)
        return str(answer["id"])

    @override
    async def search_pit(self, body: Json) -> dict[str, Any]:
        with _mapped():
            answer = await self._client.search(body=dict(body), allow_partial_search_results=False)
        return dict(answer.body)

    @override
    async def close_pit(self, id: str) -> None:
        with _mapped():
            await self._client.close_point_in_time(id=id)


@contextmanager
def _mapped() -> Iterator[None]:
    """Map the client's exceptions to ours: an answer with a status by that, no answer to unavailable."""
    try:
        yield
    except foreign.UnsupportedProductError as error:
        raise EngineError(f"what answers there is not Elasticsearch: {error.message}") from error
    except transport.ApiError as error:
        raise _answers.error_of(error.meta.status, error.body) from error
    except (transport.SerializationError, BulkIndexError, ScanError) as error:
        raise EngineError(f"{type(error).__name__}: {error}") from error
    except transport.ConnectionTimeout as error:
        raise EngineTimeoutError("engine did not answer in time") from error
    except transport.TransportError as error:
        raise EngineUnavailableError(f"engine cannot be reached: {error}") from error
