"""OpenSearch, through opensearch-py's async client."""

from __future__ import annotations

import logging
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import structlog
from opensearchpy import AIOHttpConnection, AsyncOpenSearch
from opensearchpy import exceptions as foreign
from opensearchpy.helpers import async_streaming_bulk
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


class _Connection(AIOHttpConnection):
    """Logs what the client would raise as Python warnings: they concern whoever runs the engine, not our caller."""

    def _raise_warnings(self, warning_headers: Iterable[str]) -> None:
        for header in warning_headers:
            log.debug("engine_warning", engine="opensearch", warning=header)

    async def _create_aiohttp_session(self) -> None:
        # The client always sets enable_cleanup_closed, of which aiohttp warns where Python no longer needs it.
        # Nothing is awaited in there, so no other task can meet the changed filters.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            await super()._create_aiohttp_session()
        self.session = StreamedBodies(self.session)


class OpenSearchEngine(Engine):
    """The `Engine` on OpenSearch. Makes no request before its first call.

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
        logging.getLogger("opensearch").setLevel(logging.ERROR)
        self._bulk_pause_s = bulk_pause_s
        with _mapped():
            self._client = AsyncOpenSearch(
                hosts=[url],
                headers=_answers.basic_auth(user, password) if user is not None else None,
                ca_certs=ca,
                timeout=timeout_s,
                connection_class=_Connection,
            )

    @override
    async def info(self) -> EngineInfo:
        """Ask the engine who it is: Elasticsearch answers this client too, and is told apart here."""
        with _mapped():
            answer = await self._client.info()
        try:
            version = answer["version"]
            distribution = version.get("distribution", EngineKind.ELASTICSEARCH)
            return EngineInfo(kind=EngineKind(distribution), version=str(version["number"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise EngineError(f"what answers there is neither OpenSearch nor Elasticsearch: {answer!r:.300}") from error

    @override
    async def ensure_index(self, name: str, mappings: Json, settings: Json) -> bool:
        if await self.index_exists(name):
            return False
        with _mapped():
            try:
                await self._client.indices.create(index=name, body={"mappings": mappings, "settings": settings})
            except foreign.RequestError as error:
                if _answers.already_there(error.info):
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
            await self._client.index(index=index, id=id, body=document, params={"refresh": _flag(refresh)})

    @override
    async def get_document(self, index: str, id: str) -> dict[str, Any] | None:
        with _mapped():
            try:
                answer = await self._client.get(index=index, id=id)
            except foreign.NotFoundError as error:
                if _answers.error_type(error.info):
                    raise
                return None
        source: dict[str, Any] = answer["_source"]
        return source

    @override
    async def delete_document(self, index: str, id: str, *, refresh: bool = False) -> bool:
        with _mapped():
            try:
                await self._client.delete(index=index, id=id, params={"refresh": _flag(refresh)})
            except foreign.NotFoundError as error:
                if _answers.error_type(error.info):
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
            async with aclosing(items):
                async for ok, item in items:
                    if ok:
                        indexed += 1
                    else:
                        failures.append(_answers.bulk_failure(item))
        return BulkResult(indexed=indexed, failures=tuple(failures))

    @override
    async def search(self, index: str, body: Json) -> dict[str, Any]:
        with _mapped():
            answer: dict[str, Any] = await self._client.search(index=index, body=body)
        return answer

    @override
    async def search_many(self, index: str, bodies: Sequence[Json]) -> list[dict[str, Any]]:
        if not bodies:
            return []
        with _mapped():
            answer = await self._client.msearch(index=index, body=_answers.search_lines(bodies))
        return _answers.searches_of(answer)

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
                index=index, metric="docs", params={"level": "shards", "filter_path": _answers.WRITES}
            )
        return _answers.writes_of(answer)

    @override
    async def request(
        self, method: str, path: str, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> EngineAnswer:
        with _mapped():
            try:
                answer = await self._client.transport.perform_request(
                    method, path, params=dict(params or {}), body=body
                )
            except foreign.TransportError as error:
                if not isinstance(error.status_code, int):
                    raise
                return EngineAnswer(error.status_code, error.info)
        return EngineAnswer(200, answer)

    @override
    async def close(self) -> None:
        await self._client.close()


class _PointsInTime(_scan.PointsInTime):
    def __init__(self, client: AsyncOpenSearch) -> None:
        self._client = client

    @override
    async def open_pit(self, index: str) -> str:
        with _mapped():
            answer = await self._client.create_pit(index=index, params={"keep_alive": _scan.KEEP_ALIVE})
        return str(answer["pit_id"])

    @override
    async def search_pit(self, body: Json) -> dict[str, Any]:
        with _mapped():
            answer: dict[str, Any] = await self._client.search(
                body=body, params={"allow_partial_search_results": "false"}
            )
        return answer

    @override
    async def close_pit(self, id: str) -> None:
        with _mapped():
            await self._client.delete_pit(body={"pit_id": [id]})


def _flag(value: bool) -> str:
    return "true" if value else "false"


@contextmanager
def _mapped() -> Iterator[None]:
    """Map the client's exceptions to ours: an answer with a status by that, no answer to unavailable."""
    try:
        yield
    except foreign.ConnectionTimeout as error:
        raise EngineTimeoutError("engine did not answer in time") from error
    except foreign.ConnectionError as error:
        raise EngineUnavailableError(f"engine cannot be reached: {error.error}") from error
    except foreign.TransportError as error:
        if not isinstance(error.status_code, int):
            raise EngineUnavailableError(f"engine cannot be reached: {error}") from error
        raise _answers.error_of(error.status_code, error.info) from error
    except (foreign.OpenSearchException, foreign.OpenSearchDslException, foreign.ImproperlyConfigured) as error:
        raise EngineError(f"{type(error).__name__}: {error}") from error
