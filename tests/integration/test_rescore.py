"""The hook's door with real parts: engines' hits by the proxy and by the hook; Valkey, a worker, a sidecar."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from plugin_service.api.app import create_app
from plugin_service.bootstrap import Sidecar
from tests.integration.live import until
from tests.integration.proxy.conftest import DOCS, proxy_before
from tests.integration.serving import serving
from tests.integration.stand_in import StandIn
from whyrank.embedded import valkey
from whyrank.settings import Settings
from whyrank.types import Policy

WORDS = "alpha beta zeta"
ROOT = Path(__file__).parents[2]

Json = dict[str, Any]


# One cache for both doors, before real engines


@pytest.fixture(params=["opensearch", "elasticsearch"], scope="module")
async def index(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, str]]:
    """An engine's address and an index of it, with a field of several values and one of another type."""
    url, name = request.getfixturevalue(f"{request.param}_url"), f"rescore-{uuid.uuid4().hex[:8]}"
    lines = [
        json.dumps({"index": {"_index": name, "_id": key}})
        + "\n"
        + json.dumps({"title": title, "body": body, "about": {"tags": ["a", "\u00fc"], "year": 1.50}})
        for key, (title, body) in DOCS.items()
    ]
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        await client.put(f"/{name}", json={"settings": {"number_of_shards": 1, "number_of_replicas": 0}})
        headers = {"Content-Type": "application/x-ndjson"}
        loaded = await client.post("/_bulk?refresh=true", content="\n".join(lines) + "\n", headers=headers)
        assert loaded.json()["errors"] is False
        yield url, name
        await client.delete(f"/{name}")


@pytest.mark.parametrize("first", ["proxy", "hook"])
async def test_a_search_judged_at_one_door_is_not_judged_again_at_the_other(index: tuple[str, str], first: str) -> None:
    url, name = index
    search = {"query": {"match": {"body": WORDS}}, "size": 10}
    async with proxy_before(url) as (sidecar_url, sidecar), httpx.AsyncClient(timeout=30) as client:
        fields = ("title", "body", "about.tags", "about.year", "absent")
        sidecar.policies.policies = {name: Policy(index=name, fields=fields, deadline_ms=10_000)}

        async def by_proxy() -> list[Json]:
            answer = (await client.post(f"{sidecar_url}/{name}/_search", json=search)).json()
            assert answer["ext"]["whyrank"]["status"] == "complete"
            found: list[Json] = answer["hits"]["hits"]
            return found

        async def by_hook() -> list[Json]:
            """As a hook does it: the hits of the engine's own answer, and the page that it makes of ours."""
            found = (await client.post(f"{url}/{name}/_search", json=search)).json()["hits"]["hits"]
            hits = [{"id": hit["_id"], "index": hit["_index"], "score": hit["_score"]} for hit in found]
            texts = [{**hit, "fields": source["_source"]} for hit, source in zip(hits, found, strict=True)]
            answer = (
                await client.post(f"{sidecar_url}/v1/rescore", json={"index": name, "query": WORDS, "hits": texts})
            ).json()
            assert answer["status"] == "complete"
            return [found[place] | {"said": answer["hits"][place]} for place in answer["order"]]

        one, other = (by_proxy, by_hook) if first == "proxy" else (by_hook, by_proxy)
        await one()
        judged = sum(len(request.pairs) for request in sidecar.jobs.requests)
        await other()
        assert judged == 10 == sum(len(request.pairs) for request in sidecar.jobs.requests)
        proxied, hooked = await by_proxy(), await by_hook()
        assert [hit["_id"] for hit in proxied] == [hit["_id"] for hit in hooked]
        for hit, same in zip(proxied, hooked, strict=True):
            shown = hit["fields"]
            said = same["said"]
            assert [said[name] for name in ("score", "relevance", "label", "explanation")] == [
                shown[f"whyrank.{name}"][0] for name in ("score", "relevance", "label", "explanation")
            ]
            assert said["quotes"] == shown["whyrank.quotes"]


# The whole way, through Valkey and a worker


class World:
    """A sidecar as bootstrap joins it, a worker process, and a model server that the tests hold in their hands."""

    def __init__(self, url: str, model: StandIn) -> None:
        self.url = url
        self.model = model

    async def post(self, path: str, **body: Any) -> Json:
        async with httpx.AsyncClient(timeout=120) as client:
            response = await client.post(f"{self.url}{path}", json=body)
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        return answer

    async def rescored(self, name: str, count: int = 6, **fields: Any) -> Json:
        hits = [{"id": str(n), "score": 1.0, "text": f"doc-{name}{n} is a document."} for n in range(count)]
        return await self.post("/v1/rescore", index="docs", query="what is it", hits=hits, **fields)

    def prompts(self, name: str) -> int:
        """How often the model was asked about documents of this name."""
        return sum(times for document, times in self.model.seen.items() if document.startswith(f"doc-{name}"))


@contextmanager
def working(settings: dict[str, str], log: Path) -> Iterator[None]:
    """A worker process, until the block ends."""
    environment = {**os.environ, **{f"WHYRANK_{name.upper()}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "plugin_service.workers"]
    with log.open("wb") as out:
        worker = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=out, stderr=out)
        try:
            yield
        finally:
            worker.terminate()
            worker.wait(60)


@contextmanager
def sidecar_of(**settings: Any) -> Iterator[str]:
    """A sidecar as bootstrap joins it; gives its URL."""
    app = create_app(Sidecar(Settings(secret="test", log_level="error", **settings)).parts())
    with serving(SimpleNamespace(app=app)) as server:  # type: ignore[arg-type]
        yield server.url


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The queue is narrow: it has room for 40 pairs."""
    folder = tmp_path_factory.mktemp("rescore")
    model = await StandIn().start()
    with valkey.start(folder) as redis_url:
        settings = {"redis_url": redis_url, "model_url": model.url, "queue_limit": "40"}
        with working(settings, folder / "worker.log"), sidecar_of(**settings) as url:
            world = World(url, model)
            await until(lambda: httpx.get(f"{url}/_whyrank/ready").json()["parts"]["model"]["state"] == "ok")
            yield world
    await model.stop()


async def test_hits_are_judged_once_for_all_doors(world: World) -> None:
    answer = await world.rescored("once", deadline_ms=60_000)
    assert (answer["status"], answer["order"], world.prompts("once")) == ("complete", list(range(6)), 6)
    assert [hit["label"] for hit in answer["hits"]] == [2] * 6
    again = await world.rescored("once", deadline_ms=0)
    assert (again["status"], again["hits"]) == ("complete", answer["hits"])
    documents = [f"doc-once{n} is a document." for n in range(6)]
    reranked = await world.post("/v2/rerank", query="what is it", documents=documents, deadline_ms=0)
    assert (reranked["status"], world.prompts("once")) == ("complete", 6)


async def test_what_is_late_comes_by_the_rankings_events_and_pages_stay(world: World) -> None:
    world.model.hold = asyncio.Event()
    try:
        first = await world.rescored("late", deadline_ms=100)
        assert (first["status"], first["hits"]) == ("pending", [None] * 6)
    finally:
        world.model.hold.set()
        world.model.hold = None
    seen = []
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream("GET", f"{world.url}/v1/rankings/{first['ranking_id']}/events") as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
    assert seen == ["verdict"] * 6 + ["order", "end"]
    second = await world.rescored("late", **{"from": 10})
    assert (second["ranking_id"], second["judged"], second["order"]) == (first["ranking_id"], 6, first["order"])
    anew = await world.rescored("late")
    assert anew["ranking_id"] != first["ranking_id"]
    assert anew["status"] == "complete"


async def test_more_documents_than_the_queue_holds_are_judged_in_turns_beside_other_searches(world: World) -> None:
    """400 pairs through a queue for 40: none is shed, and no search that comes in between."""
    documents = [f"doc-many{n} is a document." for n in range(400)]
    world.model.latency_s = 0.01
    try:
        many = asyncio.create_task(
            world.post("/v2/rerank", query="what is it", documents=documents, deadline_ms=60_000, explain=False)
        )
        between = []
        while not many.done():
            between.append(await world.rescored(f"between{len(between)}-", deadline_ms=60_000))
        assert (await many)["status"] == "complete"
        assert {answer["status"] for answer in between} == {"complete"}
        assert world.prompts("many") == 400
    finally:
        world.model.latency_s = 0.0


async def test_without_the_store_the_engines_order_comes_back(world: World) -> None:
    """Of a sidecar whose Valkey is not there at all."""
    with sidecar_of(redis_url="redis://127.0.0.1:1/0") as url:
        answer = await World(url, world.model).rescored("nowhere", deadline_ms=5_000)
    assert (answer["status"], answer["reason"].partition(":")[0]) == ("failed", "store_unavailable")
    assert (answer["order"], answer["hits"]) == (list(range(6)), [None] * 6)
