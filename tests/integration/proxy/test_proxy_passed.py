"""What passes through: the same bytes as from the engine itself, on both engines."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from typing import Any

import aiohttp
import pytest

from tests.integration.proxy.conftest import QUERY, Rig, proxy_before, serving

SEARCH = {"query": QUERY, "size": 3}
NDJSON = {"content-type": "application/x-ndjson"}
LINES = b'{"index":{"_id":"x1"}}\n{"body":"one"}\n{"delete":{"_id":"x1"}}\n'
MSEARCH = b'{}\n{"query":{"match_all":{}},"size":1}\n{"index":"no-such"}\n{}\n'

# method, target with {i} for the index without a policy, body, headers
REQUESTS: list[tuple[str, str, Any, dict[str, str]]] = [
    ("GET", "/", None, {}),
    ("HEAD", "/", None, {}),
    ("GET", "/?pretty", None, {}),
    ("GET", "/?pretty=true&human=false", None, {}),
    ("GET", "/?filter_path=version.number", None, {}),
    ("GET", "/?format=yaml", None, {}),
    ("GET", "/?format=cbor", None, {}),
    ("GET", "/?format=smile", None, {}),
    ("GET", "/", None, {"accept": "application/yaml"}),
    ("GET", "/", None, {"accept-encoding": "gzip"}),
    ("GET", "/", None, {"x-opaque-id": "an id"}),
    ("GET", "/?error_trace=false&unknown=1", None, {}),
    ("GET", "/{i}", None, {}),
    ("HEAD", "/{i}", None, {}),
    ("HEAD", "/no-such-index", None, {}),
    ("GET", "/no-such-index", None, {}),
    ("GET", "/{i}/_doc/all", None, {}),
    ("HEAD", "/{i}/_doc/all", None, {}),
    ("HEAD", "/{i}/_doc/none", None, {}),
    ("GET", "/{i}/_doc/none", None, {}),
    ("GET", "/{i}/_doc/a%2Fb", None, {}),
    ("GET", "/{i}/_doc/a%20b+c%2B%25", None, {}),
    ("GET", "/{i}/_doc/%C3%A9%E2%82%AC", None, {}),
    ("GET", "/{i}/_doc/%2e%2e", None, {}),
    ("GET", "/{i}/_source/all?_source_includes=title", None, {}),
    ("GET", "/{i}/_mapping", None, {}),
    ("GET", "/{i}/_settings?flat_settings", None, {}),
    ("GET", "/%7Bi%7D/_mapping", None, {}),
    ("GET", "/{i}/", None, {}),
    ("GET", "/{i}//_mapping", None, {}),
    ("POST", "/{i}/_search", SEARCH, {}),
    ("GET", "/{i}/_search", SEARCH, {}),
    ("POST", "/{i}/_search/", SEARCH, {}),
    ("POST", "//{i}/_search", SEARCH, {}),
    ("POST", "/{i}/_search?typed_keys&rest_total_hits_as_int=true", SEARCH, {}),
    ("POST", "/{i}/_search?q=body:alpha%20AND+zeta&size=2", None, {}),
    ("GET", "/{i}/_search?q=%22alpha%20number%22", None, {}),
    ("GET", "/{i}/_search?q=a&q=b", None, {}),
    ("POST", "/{i}/_search", b"{not json", {}),
    ("POST", "/{i}/_search", b"", {}),
    ("POST", "/{i}/_search", {"query": {"nonsense": {}}}, {}),
    ("POST", "/{i}/_search", gzip.compress(json.dumps(SEARCH).encode()), {"content-encoding": "gzip"}),
    ("POST", "/{i}/_search", SEARCH, {"accept-encoding": "gzip, deflate"}),
    ("POST", "/{i}/_search", SEARCH, {"content-type": "application/json; charset=UTF-8"}),
    ("POST", "/{i}/_search", SEARCH, {"content-type": "text/plain"}),
    ("POST", "/{i}/_search", SEARCH, {"content-type": "application/vnd.elasticsearch+json; compatible-with=9"}),
    ("POST", "/{i}/_search", b"query:\n  match_all: {}\n", {"content-type": "application/yaml"}),
    ("POST", "/{i},no-such/_search?ignore_unavailable=true", SEARCH, {}),
    ("POST", "/{i}*/_search", SEARCH, {}),
    ("POST", "/%3C{i}%3E/_search", SEARCH, {}),
    ("POST", "/{i}/_count", {"query": QUERY}, {}),
    ("GET", "/{i}/_count?q=zeta", None, {}),
    ("POST", "/{i}/_msearch", MSEARCH, NDJSON),
    ("GET", "/{i}/_msearch", MSEARCH, NDJSON),
    ("POST", "/{i}/_msearch", MSEARCH[:-1], NDJSON),
    ("POST", "/{i}/_mget", {"ids": ["all", "none"]}, {}),
    ("POST", "/{i}/_explain/all", {"query": QUERY}, {}),
    ("POST", "/{i}/_validate/query", {"query": QUERY}, {}),
    ("POST", "/_analyze", {"text": "Some Text", "analyzer": "standard"}, {}),
    ("POST", "/{i}/_field_caps?fields=*", None, {}),
    ("GET", "/_cat/indices/{i}?h=index,docs.count", None, {}),
    ("GET", "/_cat/indices/{i}?format=json&h=index", None, {}),
    ("PUT", "/{i}/_doc/put?if_seq_no=999&if_primary_term=9", {"title": "t"}, {}),
    ("POST", "/{i}/_bulk", b"nonsense\n", NDJSON),
    ("PUT", "/{i}", {"settings": {}}, {}),
    ("DELETE", "/no-such-index", None, {}),
    ("OPTIONS", "/{i}/_search", None, {}),
    ("OPTIONS", "/", None, {}),
    ("PATCH", "/{i}", None, {}),
    ("TRACE", "/{i}", None, {}),
    ("DELETE", "/{i}/_search", None, {}),
    ("GET", "/_nothing/like/this", None, {}),
    ("POST", "/v1/rankings/x", {}, {}),
]
_CHANGING = re.compile(rb'"took" ?: ?\d+|took: \d+')


def settled(body: bytes, headers: list[tuple[str, str]]) -> bytes:
    """The body without times, which differ from call to call."""
    if ("content-encoding", "gzip") in [(name.lower(), value) for name, value in headers]:
        body = gzip.decompress(body)
    return _CHANGING.sub(b"took", body)


def comparable(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers as HTTP compares them; the length varies with `took`."""
    ours = {"content-length", "transfer-encoding"}
    return sorted((name.lower(), value) for name, value in headers if name.lower() not in ours)


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: f"{case[0]} {case[1]}")
async def test_the_answer_is_the_engines(rig: Rig, case: tuple[str, str, Any, dict[str, str]]) -> None:
    method, target, body, headers = case
    target = target.replace("{i}", rig.plain)
    direct = await rig.direct(method, target, body, **headers)
    proxied = await rig.proxied(method, target, body, **headers)
    assert proxied.status == direct.status
    assert settled(proxied.body, proxied.headers) == settled(direct.body, direct.headers)
    assert comparable(proxied.headers) == comparable(direct.headers)
    assert (proxied.header("content-length") is None) == (direct.header("content-length") is None)


async def test_large_uploads_and_answers(rig: Rig) -> None:
    index = f"{rig.plain}-large"
    await rig.direct("PUT", f"/{index}", {"mappings": {"enabled": False}})
    text = "w" * 1000

    async def lines() -> Any:
        for n in range(20):
            yield b"".join(
                b'{"index":{"_id":"%d"}}\n{"text":"%b"}\n' % (n * 1000 + m, text.encode()) for m in range(1000)
            )

    try:
        async with rig.session.post(f"{rig.url}/{index}/_bulk?refresh=true", data=lines(), headers=NDJSON) as response:
            loaded = await response.json()
        assert loaded["errors"] is False
        assert len(loaded["items"]) == 20_000
        page = await rig.proxied("POST", f"/{index}/_search", {"size": 10_000})
        assert len(page.body) > 10_000_000
        assert len(page.json()["hits"]["hits"]) == 10_000
    finally:
        await rig.direct("DELETE", f"/{index}")


async def test_expect_100_continue(rig: Rig) -> None:
    async with rig.session.post(
        f"{rig.url}/{rig.plain}/_search", data=json.dumps(SEARCH).encode(), expect100=True,
        headers={"content-type": "application/json"},
    ) as response:  # fmt: skip
        assert response.status == 200
        assert len((await response.json())["hits"]["hits"]) == 3


async def test_an_engine_that_is_down(rig: Rig) -> None:
    async with proxy_before("http://127.0.0.1:9") as (url, sidecar):
        sidecar.policies.policies = rig.sidecar.policies.policies
        for target in (f"/{rig.plain}/_search", f"/{rig.ranked}/_search", "/_cluster/health"):
            answer = await rig.send(url, "POST", target, SEARCH)
            assert answer.status == answer.json()["status"] == 503
            cause = answer.json()["error"]["root_cause"][0]
            assert cause["type"] == answer.json()["error"]["type"] == "whyrank_engine_unavailable_exception"
            assert answer.header("content-type") == "application/json"


async def test_an_engine_that_is_silent(rig: Rig) -> None:
    release = asyncio.Event()

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(silent) as engine, proxy_before(engine, timeout_s=0.2) as (url, _):
        answer = await rig.send(url, "GET", "/")
        release.set()
    assert answer.status == answer.json()["status"] == 504
    assert answer.json()["error"]["type"] == "whyrank_engine_timeout_exception"


async def test_a_client_that_leaves_cancels_the_engines_work(rig: Rig) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def engine_app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(engine_app) as engine, proxy_before(engine) as (url, _):
        request = asyncio.create_task(rig.send(url, "GET", "/"))
        await asked.wait()
        request.cancel()
        await asyncio.wait_for(left.wait(), 5)


async def test_an_answer_cut_short_is_cut_for_the_client_too(rig: Rig) -> None:
    async def cutting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()

    server = await asyncio.start_server(cutting, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, proxy_before(f"http://127.0.0.1:{port}") as (url, _):
        with pytest.raises(aiohttp.ClientPayloadError):
            await rig.send(url, "GET", "/")


async def test_connections_that_the_engine_closed_are_not_noticed(rig: Rig) -> None:
    """An engine that closes after each answer without saying so: reads are sent again on a new connection."""

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")  # the next request is swallowed
        writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, proxy_before(f"http://127.0.0.1:{port}") as (url, _):
        for _ in range(4):
            assert (await rig.send(url, "GET", "/")).body == b"ok"
        lost = await rig.send(url, "POST", "/_bulk", b"")
        assert lost.status in (200, 503)


async def test_an_engine_that_answers_before_it_has_read_everything(rig: Rig) -> None:
    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nno!")
        await writer.drain()
        await reader.read()
        writer.close()

    async def endless() -> Any:
        for _ in range(200):
            yield b"x" * 65536

    server = await asyncio.start_server(refusing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        proxy_before(f"http://127.0.0.1:{port}") as (url, _),
        rig.session.post(f"{url}/_bulk", data=endless()) as response,
    ):
        assert response.status == 413
        assert await response.read() == b"no!"
