"""One suite for every `Engine` (fake, real OpenSearch, real Elasticsearch), and what only clients can do wrong."""

from __future__ import annotations

import asyncio
import inspect
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import elastic_transport
import elasticsearch.exceptions
import msgspec
import opensearchpy.exceptions
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.fakes.engine import FakeEngine
from whyrank.engines import Engine, EngineAnswer, EngineKind, ScanMark, ScanPage, ScanSlice, connect, opensearch
from whyrank.engines import elasticsearch as elasticsearch_adapter
from whyrank.engines.elasticsearch import ElasticsearchEngine, plain_media_type
from whyrank.engines.opensearch import OpenSearchEngine
from whyrank.errors import BadRequestError, EngineError, EngineTimeoutError, EngineUnavailableError, IndexMissingError
from whyrank.settings import Settings

MAPPINGS = {"dynamic": "strict", "properties": {"n": {"type": "integer"}, "text": {"type": "text"}}}
SETTINGS = {"number_of_shards": 1, "number_of_replicas": 0}
NOWHERE = "http://127.0.0.1:1"
ADAPTERS = [OpenSearchEngine, ElasticsearchEngine]


@pytest.fixture(params=["fake", "opensearch", "elasticsearch"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    if request.param == "fake":
        engine: Engine = FakeEngine()
    else:
        engine = await connect(Settings(engine_url=request.getfixturevalue(f"{request.param}_url")))
        assert (await engine.info()).kind == request.param
    yield engine
    await engine.close()


@pytest.fixture
async def index(engine: Engine) -> AsyncIterator[str]:
    name = f"whyrank-contract-{uuid.uuid4().hex[:12]}"
    assert await engine.ensure_index(name, MAPPINGS, SETTINGS)
    yield name
    await engine.delete_index(name)


async def test_an_index_is_made_once(engine: Engine, index: str) -> None:
    assert await engine.index_exists(index)
    assert not await engine.ensure_index(index, MAPPINGS, SETTINGS)
    assert await engine.delete_index(index)
    assert not await engine.index_exists(index)
    assert not await engine.delete_index(index)


async def test_any_other_request_is_answered_whatever_its_status(engine: Engine, index: str) -> None:
    root = await engine.request("GET", "/")
    assert (root.ok, root.body["version"]["number"]) == (True, (await engine.info()).version)
    mapping = await engine.request("GET", f"/{index}/_mapping", params={"pretty": "true"})
    assert mapping.body[index]["mappings"]["properties"]["n"] == {"type": "integer"}
    missing = await engine.request("GET", "/whyrank-contract-nowhere/_mapping")
    assert (missing.ok, missing.status) == (False, 404)
    assert missing.body["error"]["type"] == "index_not_found_exception"
    assert (await engine.request("POST", f"/{index}/_nothing_of_the_kind", {"a": 1})).status == 400


async def test_many_may_make_the_same_index_at_once(engine: Engine) -> None:
    name = f"whyrank-contract-{uuid.uuid4().hex[:12]}"
    try:
        made = await asyncio.gather(*(engine.ensure_index(name, MAPPINGS, SETTINGS) for _ in range(5)))
        assert made.count(True) == 1
    finally:
        await engine.delete_index(name)


async def test_a_document_is_written_read_replaced_and_deleted(engine: Engine, index: str) -> None:
    odd_id = "a/b c?é#%2F"
    await engine.put_document(index, odd_id, {"n": 1, "text": "one"})
    await engine.put_document(index, odd_id, {"n": 2})
    assert await engine.get_document(index, odd_id) == {"n": 2}
    assert await engine.delete_document(index, odd_id)
    assert not await engine.delete_document(index, odd_id)
    assert await engine.get_document(index, odd_id) is None


async def test_writes_count_replacements_and_deletions_too(engine: Engine, index: str) -> None:
    ((id_, before),) = (await engine.writes(index)).items()
    await engine.put_document(index, "a", {"n": 1})
    await engine.put_document(index, "a", {"n": 2})
    await engine.bulk(index, [("b", {"n": 1}), ("c", {"n": 1})])
    await engine.delete_document(index, "b")
    assert await engine.writes(index) == {id_: before + 5}


async def test_an_index_made_anew_counts_for_itself(engine: Engine, index: str) -> None:
    before = await engine.writes(index)
    await engine.delete_index(index)
    await engine.ensure_index(index, {}, {})
    after = await engine.writes(index)
    assert list(after.values()) == [0]
    assert after.keys().isdisjoint(before)


async def test_a_refreshed_write_is_seen_by_the_next_search(engine: Engine, index: str) -> None:
    await engine.put_document(index, "a", {"n": 1}, refresh=True)
    assert await engine.count(index) == 1
    await engine.delete_document(index, "a", refresh=True)
    assert await engine.count(index) == 0
    await engine.put_document(index, "b", {"n": 1})
    await engine.refresh(index)
    assert await engine.count(index) == 1


async def test_search_answers_in_the_engines_shape(engine: Engine, index: str) -> None:
    await engine.bulk(index, [("fox", {"text": "the quick brown fox"}), ("dog", {"text": "the lazy dog"})])
    await engine.refresh(index)
    answer = await engine.search(index, {"query": {"match": {"text": "brown fox"}}, "size": 1})
    assert answer["hits"]["total"]["value"] == 1
    (hit,) = answer["hits"]["hits"]
    assert (hit["_index"], hit["_id"], hit["_source"]) == (index, "fox", {"text": "the quick brown fox"})
    assert hit["_score"] > 0


async def test_bulk_counts_every_document_and_names_the_refused(engine: Engine, index: str) -> None:
    wrong = {"7": {"n": "seven"}, "701": {"unknown": 1}}
    documents = [(str(i), wrong.get(str(i), {"n": i})) for i in range(1203)]
    result = await engine.bulk(index, documents)
    assert result.indexed == 1201
    assert {failure.id: failure.status for failure in result.failures} == {"7": 400, "701": 400}
    assert "[n]" in result.failures[0].reason
    assert "unknown" in result.failures[1].reason
    await engine.refresh(index)
    assert await engine.count(index) == 1201


async def test_bulk_takes_async_iterables_and_the_same_ids_again(engine: Engine, index: str) -> None:
    class Stream:
        async def __aiter__(self) -> AsyncIterator[tuple[str, dict[str, int]]]:
            for i in range(3):
                yield str(i), {"n": i}

    for _ in range(2):
        assert (await engine.bulk(index, Stream())).indexed == 3
    assert (await engine.bulk(index, [])).indexed == 0
    await engine.refresh(index)
    assert await engine.count(index) == 3


async def test_bulk_takes_requests_of_several_megabytes(engine: Engine, index: str) -> None:
    # aiohttp warns of large bodies given as bytes, and here warnings are errors
    result = await engine.bulk(index, ((str(i), {"text": "x y " * 100_000}) for i in range(12)))
    assert (result.indexed, result.failures) == (12, ())


async def test_bulk_keeps_fields_named_as_the_actions_own(engine: Engine) -> None:
    name = f"whyrank-contract-{uuid.uuid4().hex[:12]}"
    document = {"routing": "x", "pipeline": "y", "doc": {"version": 3}}
    try:
        assert (await engine.bulk(name, [("a", document)])).failures == ()
        assert await engine.get_document(name, "a") == document
    finally:
        await engine.delete_index(name)


async def test_an_error_of_the_documents_source_is_not_ours_to_map(engine: Engine, index: str) -> None:
    def broken() -> AsyncIterator[tuple[str, dict[str, int]]]:
        raise LookupError("the source broke")

    with pytest.raises(LookupError):
        await engine.bulk(index, (broken() for _ in range(1)))  # type: ignore[misc]


@pytest.mark.parametrize(
    "call",
    [
        lambda e: e.get_document("whyrank-nowhere", "a"),
        lambda e: e.delete_document("whyrank-nowhere", "a"),
        lambda e: e.search("whyrank-nowhere", {}),
        lambda e: e.search_many("whyrank-nowhere", [{}]),
        lambda e: anext(aiter(e.scan("whyrank-nowhere", by="n"))),
        lambda e: e.count("whyrank-nowhere"),
        lambda e: e.writes("whyrank-nowhere"),
        lambda e: e.refresh("whyrank-nowhere"),
    ],
)
async def test_a_missing_index_has_its_own_error(engine: Engine, call: Callable[[Engine], Awaitable[object]]) -> None:
    with pytest.raises(IndexMissingError):
        await call(engine)


async def test_a_refused_body_is_an_engine_error_with_the_engines_reason(engine: Engine, index: str) -> None:
    with pytest.raises(EngineError, match="no_such_query") as refused:
        await engine.search(index, {"query": {"no_such_query": {}}})
    assert type(refused.value) is EngineError
    with pytest.raises(EngineError, match=r"\[n\]"):
        await engine.put_document(index, "a", {"n": "not a number"})


async def test_many_searches_are_answered_in_their_order(engine: Engine, index: str) -> None:
    await engine.bulk(index, [("fox", {"text": "the quick brown fox"}), ("dog", {"text": "the lazy dog"})])
    await engine.refresh(index)
    answers = await engine.search_many(index, [{"query": {"match": {"text": words}}} for words in ("lazy", "fox")])
    assert [[hit["_id"] for hit in answer["hits"]["hits"]] for answer in answers] == [["dog"], ["fox"]]
    assert await engine.search_many(index, []) == []
    with pytest.raises(EngineError, match="no_such_query"):
        await engine.search_many(index, [{}, {"query": {"no_such_query": {}}}])


async def _filled(engine: Engine, index: str, count: int = 130, ties: int = 1) -> list[str]:
    """Documents of which `ties` share a value of `n`, and some of which have none. Their ids, sorted."""
    documents = {f"d{i:03}": {"n": i // ties, "text": "x"} for i in range(count)}
    documents |= {f"z{i}": {"text": "none"} for i in range(5)}
    await engine.bulk(index, documents.items())
    await engine.refresh(index)
    return sorted(documents)


async def _ids(pages: AsyncIterator[ScanPage]) -> list[str]:
    return [hit.id async for page in pages for hit in page.hits]


async def test_a_scan_gives_each_document_once_in_order(engine: Engine, index: str) -> None:
    ids = await _filled(engine, index)
    pages = [page async for page in engine.scan(index, by="n", fields=["n"], page=25)]
    assert [hit.id for page in pages for hit in page.hits][:130] == ids[:130]
    assert sorted(hit.id for page in pages for hit in page.hits) == ids
    assert max(len(page.hits) for page in pages) == 25
    assert pages[0].hits[1].source == {"n": 1}
    assert pages[0].hits[0].index == index
    assert pages[-1].hits[-1].source == {}
    assert await _ids(engine.scan(index, by="n", query={"term": {"n": 7}})) == ["d007"]
    assert await _ids(engine.scan(index, by="n", query={"term": {"n": 999}})) == []


@pytest.mark.parametrize("ties", [1, 3, 60])
async def test_a_scan_goes_on_exactly_after_any_page(engine: Engine, index: str, ties: int) -> None:
    ids = await _filled(engine, index, ties=ties)
    given: list[str] = []
    async for page in engine.scan(index, by="n", page=26):
        given += [hit.id for hit in page.hits]
        kept = msgspec.json.decode(msgspec.json.encode(page.after), type=ScanMark)
        rest = await _ids(engine.scan(index, by="n", page=26, after=kept))
        assert sorted(given + rest) == ids
    assert sorted(given) == ids


async def test_slices_hold_each_document_once_and_stay_the_same(engine: Engine, index: str) -> None:
    ids = await _filled(engine, index)
    parts = [ScanSlice(number, 3) for number in range(3)]
    first = [await _ids(engine.scan(index, by="n", part=part, page=20)) for part in parts]
    assert all(first)
    assert sorted(id_ for ids_ in first for id_ in ids_) == ids
    # New segments, other document numbers: the slices of ids do not move.
    await engine.put_document(index, "d000", {"n": 0, "text": "again"}, refresh=True)
    assert [await _ids(engine.scan(index, by="n", part=part)) for part in parts] == first


async def test_a_field_that_cannot_be_sorted_by_is_said(engine: Engine, index: str) -> None:
    await _filled(engine, index)
    with pytest.raises(EngineError, match="nothing"):
        await _ids(engine.scan(index, by="nothing"))


@pytest.fixture(params=["opensearch", "elasticsearch"])
async def points(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Engine, dict[str, bool]]]:
    """An engine, and its points in time of this test by id: whether they are open."""
    open_: dict[str, bool] = {}
    kind = opensearch if request.param == "opensearch" else elasticsearch_adapter
    open_pit, close_pit = kind._PointsInTime.open_pit, kind._PointsInTime.close_pit

    async def opening(self: Any, index: str) -> str:
        pit = await open_pit(self, index)
        open_[pit] = True
        return pit

    async def closing(self: Any, id: str) -> None:
        await close_pit(self, id)
        open_[id] = False

    monkeypatch.setattr(kind._PointsInTime, "open_pit", opening)
    monkeypatch.setattr(kind._PointsInTime, "close_pit", closing)
    engine = await connect(Settings(engine_url=request.getfixturevalue(f"{request.param}_url")))
    yield engine, open_
    await engine.close()


async def test_a_point_in_time_that_is_gone_is_opened_again(points: tuple[Any, dict[str, bool]]) -> None:
    engine, open_ = points
    name = f"whyrank-contract-{uuid.uuid4().hex[:12]}"
    await engine.ensure_index(name, MAPPINGS, SETTINGS)
    try:
        ids = await _filled(engine, name, ties=4)
        given: list[str] = []
        kind = opensearch if isinstance(engine, OpenSearchEngine) else elasticsearch_adapter
        async for page in engine.scan(name, by="n", page=10):
            given += [hit.id for hit in page.hits]
            await asyncio.sleep(0.05)  # the next page is on its way, and must not lose its point in time
            await kind._PointsInTime(engine._client).close_pit(list(open_)[-1])
        assert sorted(given) == ids
        assert len(open_) > 5
    finally:
        await engine.delete_index(name)


async def test_points_in_time_are_closed_at_the_end_and_when_left(points: tuple[Any, dict[str, bool]]) -> None:
    engine, open_ = points
    name = f"whyrank-contract-{uuid.uuid4().hex[:12]}"
    await engine.ensure_index(name, MAPPINGS, SETTINGS)
    try:
        await _filled(engine, name)
        await _ids(engine.scan(name, by="n"))
        async with aclosing(engine.scan(name, by="n", page=10)) as pages:
            async for _ in pages:
                break
        with pytest.raises(LookupError):
            async with aclosing(engine.scan(name, by="n", page=10)) as pages:
                async for _ in pages:
                    raise LookupError("the caller broke")
        assert list(open_.values()) == [False] * 3
    finally:
        await engine.delete_index(name)


# What only the client libraries can do: their exceptions, and engines that answer badly.


def _calls(engine: Engine) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "info": engine.info,
        "ensure_index": lambda: engine.ensure_index("i", {}, {}),
        "index_exists": lambda: engine.index_exists("i"),
        "delete_index": lambda: engine.delete_index("i"),
        "put_document": lambda: engine.put_document("i", "a", {}),
        "get_document": lambda: engine.get_document("i", "a"),
        "delete_document": lambda: engine.delete_document("i", "a"),
        "bulk": lambda: engine.bulk("i", [("a", {})]),
        "search": lambda: engine.search("i", {}),
        "search_many": lambda: engine.search_many("i", [{}]),
        "scan": lambda: anext(aiter(engine.scan("i", by="n"))),
        "refresh": lambda: engine.refresh("i"),
        "count": lambda: engine.count("i"),
        "writes": lambda: engine.writes("i"),
        "request": lambda: engine.request("GET", "/i/_stats"),
    }


def test_the_list_of_calls_is_whole() -> None:
    methods = {name for name, _ in inspect.getmembers(Engine, inspect.isfunction) if not name.startswith("_")}
    assert methods - {"close"} == set(_calls(FakeEngine()))


def _exceptions_of(*modules: object) -> list[type[Exception]]:
    return sorted(
        {
            value
            for module in modules
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, Exception) and not issubclass(value, Warning)
        },
        key=str,
    )


def _instance(kind: type[Exception]) -> Exception:
    if issubclass(kind, elastic_transport.ApiError):
        node = elastic_transport.NodeConfig("http", "localhost", 9200)
        meta = elastic_transport.ApiResponseMeta(418, "1.1", elastic_transport.HttpHeaders(), 0.0, node)
        return kind("message", meta, {"error": {"type": "teapot_exception", "reason": "short and stout"}})
    if issubclass(kind, opensearchpy.exceptions.ConnectionError):
        return kind("N/A", "message", OSError("cause"))
    if issubclass(kind, opensearchpy.exceptions.TransportError):
        return kind(418, "message", {"error": {"type": "teapot_exception", "reason": "short and stout"}})
    return kind("message")


@pytest.mark.parametrize(
    ("adapter", "kind"),
    [(OpenSearchEngine, kind) for kind in _exceptions_of(opensearchpy.exceptions)]
    + [(ElasticsearchEngine, kind) for kind in _exceptions_of(elasticsearch.exceptions, elastic_transport)],
)
async def test_no_exception_of_a_client_is_unmapped(
    adapter: type[OpenSearchEngine | ElasticsearchEngine], kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = adapter(NOWHERE)

    async def fail(*_: object, **__: object) -> None:
        raise _instance(kind)

    monkeypatch.setattr(engine._client.transport, "perform_request", fail)
    for name, call in _calls(engine).items():
        try:
            answer = await call()
        except EngineError:
            continue
        except Exception as leaked:  # noqa: BLE001 - any is what is looked for
            pytest.fail(f"{name} lets {type(leaked).__name__} out")
        if isinstance(answer, EngineAnswer):  # any status is an answer to a request of any kind
            assert (answer.ok, answer.status) == (False, 418), name
            continue
        # "Not found" is an answer to these, whatever the client calls it.
        assert answer in (False, None), name
        assert "NotFound" in kind.__name__, name
    await engine.close()


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_nothing_listening_is_unavailable(adapter: type[OpenSearchEngine | ElasticsearchEngine]) -> None:
    engine = adapter(NOWHERE)
    for call in _calls(engine).values():
        with pytest.raises(EngineUnavailableError, match="cannot be reached"):
            await call()
    await engine.close()


class StubEngine:
    """An HTTP server that answers `_bulk` as told: a status for a whole request, or statuses for ids, in turn.

    Each answer carries a Warning header, which under pytest fails the test that lets it become a Python warning.
    """

    def __init__(self) -> None:
        self.whole: list[int] = []
        self.refuse: dict[str, list[int]] = {}
        self.requests: list[list[str]] = []
        self.headers: list[dict[str, str]] = []
        self.speaks = asyncio.Event()
        self.speaks.set()

    async def bulk(self, request: web.Request) -> web.Response:
        self.headers.append({key.lower(): value for key, value in request.headers.items()})
        await self.speaks.wait()
        lines = [json.loads(line) for line in (await request.text()).splitlines()]
        ids = [line["index"]["_id"] for line in lines[::2]]
        self.requests.append(ids)
        if self.whole and (status := self.whole.pop(0)) != 200:
            return self._answer({"error": {"type": "refused", "reason": "all of it"}, "status": status}, status)
        items = []
        for id_ in ids:
            statuses = self.refuse.get(id_)
            status = statuses.pop(0) if statuses else 201
            item = {"_id": id_, "_index": "i", "status": status}
            if status >= 400:
                item["error"] = {"type": "rejected_execution_exception", "reason": "queue full"}
            items.append({"index": item})
        return self._answer({"took": 1, "errors": bool(self.refuse), "items": items}, 200)

    @staticmethod
    def _answer(body: dict[str, object], status: int) -> web.Response:
        headers = {"x-elastic-product": "Elasticsearch", "warning": '299 stub "an engine\'s warning"'}
        return web.json_response(body, status=status, headers=headers)


@pytest.fixture
async def stub() -> AsyncIterator[tuple[StubEngine, str]]:
    stub = StubEngine()
    app = web.Application()
    app.router.add_route("*", "/_bulk", stub.bulk)
    async with TestServer(app, host="127.0.0.1") as server:
        yield stub, f"http://127.0.0.1:{server.port}"
        stub.speaks.set()


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_bulk_tries_again_what_was_refused_for_load_and_only_that(
    adapter: type[OpenSearchEngine | ElasticsearchEngine], stub: tuple[StubEngine, str]
) -> None:
    server, url = stub
    server.refuse = {"b": [429, 429], "c": [400], "d": [429] * 50}
    engine = adapter(url, bulk_pause_s=0.001)
    result = await engine.bulk("i", [(id_, {"n": 1}) for id_ in "abcd"])
    await engine.close()
    assert result.indexed == 2
    assert [(failure.id, failure.status) for failure in result.failures] == [("c", 400), ("d", 429)]
    assert result.failures[1].reason == "rejected_execution_exception: queue full"
    assert server.requests == [["a", "b", "c", "d"], ["b", "d"], ["b", "d"], ["d"], ["d"], ["d"]]


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_bulk_too_large_names_its_documents_and_goes_on(
    adapter: type[OpenSearchEngine | ElasticsearchEngine], stub: tuple[StubEngine, str]
) -> None:
    server, url = stub
    server.whole = [413]
    engine = adapter(url, bulk_pause_s=0.001)
    result = await engine.bulk("i", [(str(i), {"n": i}) for i in range(501)])
    await engine.close()
    assert result.indexed == 1
    assert {failure.status for failure in result.failures} == {413}
    assert len(result.failures) == 500


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(("status", "error"), [(401, EngineError), (403, EngineError), (503, EngineUnavailableError)])
async def test_a_bulk_refused_as_a_whole_is_raised(
    adapter: type[OpenSearchEngine | ElasticsearchEngine],
    stub: tuple[StubEngine, str],
    status: int,
    error: type[EngineError],
) -> None:
    server, url = stub
    server.whole = [status] * 20
    engine = adapter(url, bulk_pause_s=0.001)
    with pytest.raises(error, match=str(status)):
        await engine.bulk("i", [("a", {})])
    await engine.close()


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_silent_engine_is_not_waited_for(
    adapter: type[OpenSearchEngine | ElasticsearchEngine], stub: tuple[StubEngine, str]
) -> None:
    server, url = stub
    server.speaks.clear()
    engine = adapter(url, timeout_s=0.05)
    with pytest.raises(EngineTimeoutError):
        await engine.bulk("i", [("a", {})])
    await engine.close()


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_credentials_are_sent_and_plain_json_is_spoken(
    adapter: type[OpenSearchEngine | ElasticsearchEngine], stub: tuple[StubEngine, str]
) -> None:
    server, url = stub
    engine = adapter(url, user="ann", password="pä:ss")
    assert (await engine.bulk("i", [("a", {})])).indexed == 1
    await engine.close()
    (headers,) = server.headers
    assert headers["authorization"] == "Basic " + "YW5uOnDDpDpzcw=="
    assert "compatible-with" not in headers.get("accept", "") + headers["content-type"]


def test_media_types_lose_vendor_and_version() -> None:
    assert plain_media_type("application/vnd.elasticsearch+x-ndjson; compatible-with=9") == "application/x-ndjson"
    assert plain_media_type("application/json") == "application/json"


async def test_connect_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"no engine answers at http://127\.0\.0\.1:1"):
        await connect(Settings(engine_url=NOWHERE))
    for url in ("localhost:9200", "ftp://localhost", "http://", "http://localhost:99999"):
        with pytest.raises(BadRequestError, match="engine_url"):
            await connect(Settings(engine_url=url))
    with pytest.raises(BadRequestError, match="engine_ca"):
        await connect(Settings(engine_url=NOWHERE, engine_ca=tmp_path / "none.pem"))


async def test_connect_knows_what_is_no_engine(stub: tuple[StubEngine, str]) -> None:
    with pytest.raises(EngineError, match="does not answer as an engine"):
        await connect(Settings(engine_url=stub[1]))


async def test_a_given_kind_is_believed_without_asking() -> None:
    engine = await connect(Settings(engine_url=NOWHERE, engine_kind="elasticsearch"))
    assert isinstance(engine, ElasticsearchEngine)
    await engine.close()


async def test_auto_finds_each_kind(opensearch_url: str, elasticsearch_url: str) -> None:
    for url, kind, adapter in (
        (opensearch_url, EngineKind.OPENSEARCH, OpenSearchEngine),
        (elasticsearch_url, EngineKind.ELASTICSEARCH, ElasticsearchEngine),
    ):
        engine = await connect(Settings(engine_url=url))
        assert isinstance(engine, adapter)
        info = await engine.info()
        assert info.kind is kind
        assert int(info.version.split(".")[0]) >= 3
        await engine.close()
