"""The official clients, pointed at the proxy instead of the engine and not changed otherwise."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from typing import Any

import elasticsearch
import elasticsearch.helpers
import opensearchpy
import opensearchpy.helpers
import pytest

from tests.integration.proxy.conftest import QUERY, Rig


class Caller:
    """One way of calling for the sync and the async clients: the sync ones run in a thread."""

    def __init__(self, client: Any, helpers: Any, asynchronous: bool) -> None:
        self.client = client
        self.helpers = helpers
        self.asynchronous = asynchronous

    async def __call__(self, path: str, /, **arguments: Any) -> Any:
        function = self.client
        for name in path.split("."):
            function = getattr(function, name)
        if self.asynchronous:
            return await function(**arguments)
        return await asyncio.to_thread(function, **arguments)

    async def bulk(self, actions: list[dict[str, Any]]) -> Any:
        if self.asynchronous:
            return await self.helpers.async_bulk(self.client, actions, refresh=True)
        return await asyncio.to_thread(self.helpers.bulk, self.client, actions, refresh=True)

    async def close(self) -> None:
        closed = self.client.close()
        if inspect.isawaitable(closed):
            await closed


@pytest.fixture(params=[False, True], ids=["sync", "async"])
async def caller(rig: Rig, request: pytest.FixtureRequest) -> Any:
    module = opensearchpy if rig.kind == "opensearch" else elasticsearch
    if rig.kind == "opensearch":
        kind: Any = opensearchpy.AsyncOpenSearch if request.param else opensearchpy.OpenSearch
    else:
        kind = elasticsearch.AsyncElasticsearch if request.param else elasticsearch.Elasticsearch
    caller = Caller(kind(rig.url, http_compress=True), module.helpers, request.param)
    yield caller
    await caller.close()


def body(rig: Rig, **search: Any) -> dict[str, Any]:
    """How each client takes a search body."""
    return {"body": search} if rig.kind == "opensearch" else search


def ids(answer: Any) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]


async def test_documents_come_and_go(rig: Rig, caller: Caller) -> None:
    index = f"{rig.plain}-{uuid.uuid4().hex[:6]}"
    await caller("indices.create", index=index)
    try:
        done, errors = await caller.bulk([{"_index": index, "_id": str(n), "n": n} for n in range(1200)])
        assert (done, errors) == (1200, [])
        assert (await caller("count", index=index))["count"] == 1200
        document = {"body": {"n": -1}} if rig.kind == "opensearch" else {"document": {"n": -1}}
        await caller("index", index=index, id="a/b c%é", refresh=True, **document)
        assert (await caller("get", index=index, id="a/b c%é"))["_source"] == {"n": -1}
        assert await caller("exists", index=index, id="a/b c%é")
        await caller("delete", index=index, id="a/b c%é")
        assert not await caller("exists", index=index, id="a/b c%é")
    finally:
        await caller("indices.delete", index=index)


async def test_a_search_is_rescored(rig: Rig, caller: Caller) -> None:
    answer = await caller("search", index=rig.ranked, **body(rig, query=QUERY, size=4))
    assert ids(answer)[:2] == ["all", "both"]
    assert answer["ext"]["whyrank"]["status"] == "complete"
    assert answer["hits"]["hits"][0]["fields"]["whyrank.explanation"]


async def test_msearch(rig: Rig, caller: Caller) -> None:
    lines = [{"index": rig.ranked}, {"query": QUERY}, {"index": rig.plain}, {"query": QUERY}]
    searches = {"body": lines} if rig.kind == "opensearch" else {"searches": lines}
    ranked, plain = (await caller("msearch", **searches))["responses"]
    assert ids(ranked)[0] == "all"
    assert ids(plain)[0] == "short"


async def test_scroll(rig: Rig, caller: Caller) -> None:
    page = await caller("search", index=rig.ranked, scroll="1m", **body(rig, query=QUERY, size=5))
    found = ids(page)
    while ids(page):
        page = await caller("scroll", scroll_id=page["_scroll_id"], scroll="1m")
        found += ids(page)
    assert len(found) == len(set(found)) == 12
    await caller("clear_scroll", scroll_id=page["_scroll_id"])


async def test_point_in_time(rig: Rig, caller: Caller) -> None:
    if rig.kind == "opensearch":
        pit = (await caller("create_pit", index=rig.ranked, keep_alive="1m"))["pit_id"]
    else:
        pit = (await caller("open_point_in_time", index=rig.ranked, keep_alive="1m"))["id"]
    page = await caller("search", **body(rig, query=QUERY, pit={"id": pit}, size=5))
    assert len(ids(page)) == 5
    if rig.kind == "opensearch":
        await caller("delete_pit", body={"pit_id": [pit]})
    else:
        await caller("close_point_in_time", id=pit)


async def test_errors_are_the_clients_own(rig: Rig, caller: Caller) -> None:
    module = opensearchpy if rig.kind == "opensearch" else elasticsearch
    with pytest.raises(module.NotFoundError):
        await caller("search", index="no-such-index", **body(rig, query=QUERY))
    with pytest.raises(module.exceptions.RequestError if rig.kind == "opensearch" else module.BadRequestError):
        await caller("search", index=rig.ranked, **body(rig, query={"nonsense": {}}))
    wrong = body(rig, query=QUERY, ext={"whyrank": {"mode": "x"}})
    with pytest.raises(module.exceptions.RequestError if rig.kind == "opensearch" else module.BadRequestError):
        await caller("search", index=rig.ranked, **wrong)
