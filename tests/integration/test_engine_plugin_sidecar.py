"""Both doors on one real sidecar: the plugin in the engine, and the proxy before it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from tests.fakes.sidecar import Sidecar
from tests.integration.engine_plugin_rig import Json, ids, ours, said
from tests.integration.proxy.conftest import DOCS, proxy_before
from whyrank.types import Policy

FIELDS = ["title", "body"]
BODY: Json = {"query": {"match": {"body": "alpha beta zeta"}}, "size": 5}


@dataclass
class Doors:
    """One index; `engine` searches it by the plugin, `proxy` by the proxy alone."""

    http: httpx.AsyncClient
    engine_url: str
    proxy_url: str
    sidecar: Sidecar
    index: str

    async def engine(self, **more: Any) -> Json:
        return await self._search(self.engine_url, {}, more)

    async def proxy(self, **more: Any) -> Json:
        return await self._search(self.proxy_url, {"search_pipeline": "_none"}, more)

    async def _search(self, url: str, params: dict[str, str], more: Json) -> Json:
        answer = await self.http.post(f"{url}/{self.index}/_search", json={**BODY, **more}, params=params)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found


@pytest.fixture
async def doors(opensearch_url: str) -> AsyncIterator[Doors]:
    name = f"whyrank-doors-{uuid.uuid4().hex[:8]}"
    async with proxy_before(opensearch_url) as (url, sidecar), httpx.AsyncClient(timeout=60) as http:
        sidecar.policies.policies = {name: Policy(index=name, fields=("title", "body"), deadline_ms=20_000)}
        ours_ = {"url": url, "fields": FIELDS, "deadline_ms": 20_000, "mode": "reason"}
        pipeline = {"request_processors": [{"whyrank": {}}], "response_processors": [{"whyrank": ours_}]}
        (await http.put(f"{opensearch_url}/_search/pipeline/{name}", json=pipeline)).raise_for_status()
        settings = {"number_of_shards": 1, "number_of_replicas": 0, "index.search.default_pipeline": name}
        (await http.put(f"{opensearch_url}/{name}", json={"settings": settings})).raise_for_status()
        for key, (title, body) in DOCS.items():
            target = f"{opensearch_url}/{name}/_doc/{key}?refresh=true"
            (await http.put(target, json={"title": title, "body": body})).raise_for_status()
        yield Doors(http, opensearch_url, url, sidecar, name)
        await http.delete(f"{opensearch_url}/{name}")
        await http.delete(f"{opensearch_url}/_search/pipeline/{name}")


def shown(found: Json) -> list[tuple[str, Json]]:
    return [(hit["_id"], ours(hit)) for hit in found["hits"]["hits"]]


async def test_both_doors_give_one_answer(doors: Doors) -> None:
    by_plugin = await doors.engine()
    assert said(by_plugin)["status"] == "complete"
    assert ids(by_plugin)[0] == "all", "the judge's order, not the engine's"
    assert ours(by_plugin["hits"]["hits"][0])["whyrank.explanation"]
    by_proxy = await doors.proxy()
    assert shown(by_plugin) == shown(by_proxy)
    same = ("status", "reason", "mode", "model_revision", "window", "judged", "missing", "failed", "truncated", "query")
    assert {name: said(by_plugin)[name] for name in same} == {name: said(by_proxy)[name] for name in same}


async def test_a_verdict_of_one_door_is_found_at_the_other(doors: Doors) -> None:
    await doors.engine()
    judged = set(doors.sidecar.cache.verdicts)
    assert len(judged) == 10
    await doors.proxy()
    await doors.engine(_source=False)
    await doors.proxy(_source=["title"])
    assert set(doors.sidecar.cache.verdicts) == judged


async def test_explanations_are_fetched_by_the_rankings_id(doors: Doors) -> None:
    found = await doors.engine()
    ranking = (await doors.http.get(f"{doors.proxy_url}/v1/rankings/{said(found)['ranking_id']}")).json()
    assert [hit["id"] for hit in ranking["hits"]][:5] == ids(found)


async def test_page_two_keeps_the_order_of_page_one(doors: Doors) -> None:
    """Verdicts that land between two pages move no hit from one to the other."""
    doors.sidecar.jobs.idle = True
    first = await doors.engine(size=4, ext={"whyrank": {"deadline_ms": 0}})
    assert said(first)["status"] == "pending"
    for request in list(doors.sidecar.jobs.requests):
        for pair in request.pairs:
            doors.sidecar.jobs.settle(pair)
    second = await doors.engine(**{"from": 4, "size": 4, "ext": {"whyrank": {"deadline_ms": 0}}})
    third = await doors.engine(**{"from": 8, "size": 2})
    engine_order = [hit["_id"] for hit in (await doors.proxy(size=10, sort=["_score", "_doc"]))["hits"]["hits"]]
    assert ids(first) + ids(second) + ids(third) == engine_order
    again = await doors.engine(size=10)
    assert ids(again) != engine_order, "page one makes a new ranking"
    followed = await doors.engine(size=10, ext={"whyrank": {"ranking": said(first)["ranking_id"]}})
    assert ids(followed) == engine_order


async def test_the_policy_of_the_index_holds(doors: Doors) -> None:
    doors.sidecar.policies.policies = {doors.index: Policy(index=doors.index, fields=("title",), enabled=False)}
    found = await doors.engine()
    assert said(found)["status"] == "bypassed"
    assert said(found)["reason"].startswith("policy_disabled: ")
    assert ids(found) == ids(await doors.proxy())


async def test_a_model_that_is_not_ready(doors: Doors) -> None:
    doors.sidecar.model.info = replace(doors.sidecar.model.info, ready=False)
    doors.sidecar.jobs.idle = True
    found = await doors.engine()
    assert said(found)["status"] == "warming"
    assert [ours(hit)["whyrank.engine_rank"] for hit in found["hits"]["hits"]] == [[n] for n in range(1, 6)]
