"""The main job with every real part, and what a search gets while one of them is away."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.integration.live import Live, Relay, until

INDEX = "python-docs"
WINDOW = 6
pytestmark = pytest.mark.real_model


class World:
    """The stack, and a caller of it."""

    def __init__(self, live: Live, relay: Relay, client: httpx.AsyncClient) -> None:
        self.live, self.relay, self.client = live, relay, client
        self.engine = live.urls["engine"]
        self.sidecar = live.urls["sidecar"]

    async def search(self, words: str, *, size: int = WINDOW, start: int = 0, **options: Any) -> httpx.Response:
        body = {
            "query": {"multi_match": {"query": words, "fields": ["title^2", "body"]}},
            "from": start,
            "size": size,
            "ext": {"whyrank": options},
        }
        return await self.client.post(f"{self.sidecar}/{INDEX}/_search", json=body)

    async def engine_order(self, words: str, size: int = WINDOW) -> list[str]:
        body = {"query": {"multi_match": {"query": words, "fields": ["title^2", "body"]}}, "size": size}
        return ids((await self.client.post(f"{self.engine}/{INDEX}/_search", json=body)).json())

    async def ranking(self, ranking_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"{self.sidecar}/v1/rankings/{ranking_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def all_judged(self, ranking_id: str) -> dict[str, Any]:
        for _ in range(600):
            ranking = await self.ranking(ranking_id)
            if not ranking["missing"]:
                return ranking
            await asyncio.sleep(0.3)
        raise AssertionError("verdicts were lost")


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def said(answer: httpx.Response) -> dict[str, Any]:
    """What the answer says was done to it."""
    assert answer.status_code == 200, answer.text
    return answer.json()["ext"]["whyrank"]


@pytest.fixture(scope="module")
async def world(model_url: str, model_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    relay = Relay(model_url)
    await relay.open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYRANK_MODEL_URL", relay.url)
        patch.setenv("WHYRANK_MODEL_MANIFEST", str(model_manifest))
        patch.setenv("WHYRANK_REDELIVERY_S", "4")
        live = Live(tmp_path_factory.mktemp("whole"))
        try:
            await asyncio.to_thread(live.start)
            load = [sys.executable, "-m", "ingest", "--python-docs", "--index", INDEX]
            enable = [sys.executable, "-m", "whyrank.cli", "enable", INDEX, "--fields", "title,body"]
            options = ["--window", str(WINDOW), "--passage-tokens", "64", "--deadline-ms", "60000"]
            for command in (load, [*enable, *options]):
                await asyncio.to_thread(
                    subprocess.run, [*command, "--engine-url", live.urls["engine"]], check=True, capture_output=True
                )
            async with httpx.AsyncClient(timeout=120) as client:
                await until(lambda: INDEX in httpx.get(f"{live.urls['sidecar']}/_whyrank/policies").text)
                await until(lambda: ready_parts(live)["model"]["state"] == "ok")
                yield World(live, relay, client)
        finally:
            await asyncio.to_thread(live.stop)
            await relay.cut()


def ready_parts(live: Live) -> dict[str, Any]:
    return httpx.get(f"{live.urls['sidecar']}/_whyrank/ready").json()["parts"]


async def test_a_search_comes_back_reordered_and_explained(world: World) -> None:
    words = "copy a directory tree"
    answer = await world.search(words)
    assert said(answer)["status"] == "complete"
    assert answer.headers["x-whyrank-status"] == "complete"
    assert sorted(ids(answer.json())) == sorted(await world.engine_order(words))
    hits = answer.json()["hits"]["hits"]
    scores = [hit["fields"]["whyrank.score"][0] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    for hit in hits:
        fields = hit["fields"]
        assert fields["whyrank.label"][0] in (0, 1, 2)
        assert 0.0 <= fields["whyrank.relevance"][0] <= 1.0
        assert fields["whyrank.grounded"] == [True]
        text = f"{hit['_source']['title']}\n{hit['_source']['body']}"
        for quote in fields["whyrank.quotes"]:
            words_of_quote = " ".join(quote["text"].split())
            assert words_of_quote in " ".join(text.split())
            assert words_of_quote in fields["whyrank.explanation"][0]


async def test_a_second_search_is_answered_from_the_cache(world: World) -> None:
    first = await world.search("copy a directory tree")
    again = await world.search("copy a directory tree", deadline_ms=0)
    assert said(again)["status"] == "complete"
    assert ids(again.json()) == ids(first.json())


async def test_mode_label_gives_labels_without_explanations(world: World) -> None:
    answer = await world.search("send an email message", mode="label")
    assert said(answer)["status"] == "complete"
    for hit in answer.json()["hits"]["hits"]:
        assert hit["fields"]["whyrank.label"][0] in (0, 1, 2)
        assert "whyrank.explanation" not in hit["fields"]


async def test_explanations_stream_as_they_land_and_end_with_the_order(world: World) -> None:
    answer = await world.search("escape html characters", deadline_ms=0)
    assert said(answer)["status"] == "pending"
    assert ids(answer.json()) == await world.engine_order("escape html characters")
    events: list[tuple[str, Any]] = []
    async with world.client.stream("GET", f"{world.sidecar}/v1/rankings/{said(answer)['ranking_id']}/events") as stream:
        name = ""
        async for line in stream.aiter_lines():
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                events.append((name, json.loads(line[5:])))
    assert [name for name, _ in events] == ["verdict"] * WINDOW + ["order", "end"]
    order = events[WINDOW][1]
    assert sorted(hit["id"] for hit in order["hits"]) == sorted(ids(answer.json()))
    assert order["status"] == "complete"


async def test_one_id_runs_from_the_search_to_the_worker(world: World) -> None:
    body = {"query": {"match": {"body": "hash a password"}}, "size": 2}
    headers = {"X-Opaque-Id": "follow-me-42"}
    answer = await world.client.post(f"{world.sidecar}/{INDEX}/_search", json=body, headers=headers)
    assert said(answer)["status"] == "complete"
    for part in ("sidecar", "worker"):
        lines = world.live.services[part]._log.read_text().splitlines()
        assert any(json.loads(line).get("search_id") == "follow-me-42" for line in lines if line.startswith("{")), part


async def test_pages_are_pages_of_one_ranking(world: World) -> None:
    """200 searches with random from and size within the window, while verdicts land: none twice, none missing."""
    randoms = random.Random(7)
    queries = ["open a socket", "sort a list", "compress data", "parse arguments", "random numbers"]
    searches, statuses = 0, set()
    while searches < 200 or (len(statuses) < 2 and searches < 10_000):
        words = queries[searches % len(queries)]
        seen: list[str] = []
        while len(seen) < WINDOW:
            size = randoms.randint(1, WINDOW - len(seen))
            answer = await world.search(words, start=len(seen), size=size, mode="label", deadline_ms=0)
            statuses.add(said(answer)["status"])
            assert len(ids(answer.json())) == size
            seen += ids(answer.json())
            searches += 1
        assert sorted(seen) == sorted(await world.engine_order(words))
    assert len(statuses) > 1, "verdicts should land meanwhile, or this shows nothing"


async def test_worker_killed_during_a_search(world: World) -> None:
    answer = await world.search("walk a folder and its subfolders", deadline_ms=0)
    ranking_id = said(answer)["ranking_id"]
    for _ in range(600):
        if (await world.ranking(ranking_id))["judged"]:
            break
        await asyncio.sleep(0.1)
    await asyncio.to_thread(world.live.services["worker"].kill)
    words = "measure the time that code takes"
    meanwhile = await world.search(words, deadline_ms=300)
    assert said(meanwhile)["status"] == "pending"
    assert ids(meanwhile.json()) == await world.engine_order(words)
    await asyncio.to_thread(world.live.services["worker"].start)
    for lost in (ranking_id, said(meanwhile)["ranking_id"]):
        assert (await world.all_judged(lost))["judged"] == WINDOW


def kept_verdicts(world: World) -> set[bytes]:
    with redis.Redis.from_url(world.live.urls["valkey"]) as client:
        return set(client.scan_iter("whyrank:v1:verdict:*"))


async def test_valkey_stopped(world: World) -> None:
    words = "convert a string to bytes"
    for _ in range(2):
        assert said(await world.search(words, mode="label"))["status"] == "complete"
    before = kept_verdicts(world)
    await asyncio.to_thread(world.live.services["valkey"].stop)
    other = "convert bytes to a string"
    answer = await world.search(other, mode="label")
    assert said(answer)["status"] == "failed"
    assert said(answer)["reason"].startswith("store_unavailable")
    assert ids(answer.json()) == await world.engine_order(other)
    assert said(await world.search(words, mode="label"))["status"] == "complete", "read a moment ago, still at hand"
    await asyncio.to_thread(world.live.services["valkey"].start)
    assert kept_verdicts(world) == before, "verdicts outlive a restart"
    for _ in range(100):
        if said(await world.search(other, mode="label", deadline_ms=0))["status"] != "failed":
            break
        await asyncio.sleep(0.2)
    fresh = await world.search("list all files", mode="label")
    assert said(fresh)["status"] == "complete", "jobs and announcements work again"


async def test_model_server_stopped(world: World) -> None:
    await world.relay.cut()
    words = "encode binary data as text"
    early = await world.search(words, mode="label", deadline_ms=100)
    assert said(early)["status"] in ("pending", "warming")
    assert ids(early.json()) == await world.engine_order(words)
    await until(lambda: ready_parts(world.live)["model"]["state"] == "degraded")
    late = await world.search("decode text to data", mode="label")
    assert said(late)["status"] == "warming"
    assert said(late)["reason"].startswith("model_not_ready")
    await world.relay.open()
    for answer in (early, late):
        ranking = await world.all_judged(said(answer)["ranking_id"])
        assert ranking["judged"] == WINDOW, "what was asked while it was away is judged when it is back"
    await until(lambda: ready_parts(world.live)["model"]["state"] == "ok")


async def test_engine_stopped(world: World) -> None:
    await asyncio.to_thread(world.live.services["engine"].stop)
    answer = await world.search("copy a directory tree")
    assert answer.status_code == 503
    error = answer.json()
    assert error["status"] == 503
    assert {"type", "reason", "root_cause"} <= set(error["error"])
    ready = await world.client.get(f"{world.sidecar}/_whyrank/ready")
    assert ready.status_code == 503
    await asyncio.to_thread(world.live.services["engine"].start)
    back = await world.search("copy a directory tree", deadline_ms=0)
    assert said(back)["status"] == "complete", "policy and verdicts are still there"


async def test_disable_is_seen_by_a_running_sidecar(world: World) -> None:
    whyrank = [sys.executable, "-m", "whyrank.cli", "disable", INDEX, "--engine-url", world.engine]
    await asyncio.to_thread(subprocess.run, whyrank, check=True, capture_output=True)
    for _ in range(100):
        answer = await world.search("copy a directory tree")
        if answer.headers["x-whyrank-status"] == "bypassed":
            break
        await asyncio.sleep(0.1)
    assert answer.headers["x-whyrank-reason"].startswith("policy_disabled")
    assert "ext" not in answer.json()
    assert ids(answer.json()) == await world.engine_order("copy a directory tree")
