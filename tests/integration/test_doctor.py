"""`whyrank doctor` on a real installation (engine, Valkey, worker, sidecar), whole and with parts taken away.

The model server is a stand-in: what is looked at is whether verdicts come, not what they say.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.live import Live, until
from tests.integration.stand_in import StandIn
from whyrank.connect.steps import Door
from whyrank.doctor.checks import CHECKS
from whyrank.doctor.context import Context
from whyrank.doctor.findings import Level
from whyrank.doctor.registry import examine
from whyrank.engines import connect
from whyrank.engines.policies import POLICY_INDEX, PolicyStore
from whyrank.places import Places
from whyrank.settings import Settings
from whyrank.types import Policy

INDEX = "doctored"


class World:
    """The installation, and the command that looks at it."""

    def __init__(self, live: Live, model: StandIn, home: Path) -> None:
        self.live, self.model = live, model
        self._home = home
        self._env = {**os.environ, "WHYRANK_REDIS_URL": live.urls["valkey"], "WHYRANK_MODEL_URL": model.url}

    async def look(self, *arguments: str, code: int | None = None) -> list[dict[str, Any]]:
        """What it finds; its exit code is `code`, if one is given."""
        places = ["--engine-url", self.live.urls["engine"], "--sidecar-url", self.live.urls["sidecar"]]
        command = [sys.executable, "-m", "whyrank.cli", "doctor", "--json", "--home", str(self._home), *places]
        ran = await asyncio.to_thread(
            subprocess.run, [*command, *arguments], capture_output=True, text=True, check=False, env=self._env
        )
        assert ran.stdout, ran.stderr
        if code is not None:
            assert ran.returncode == code, ran.stdout
        return list(json.loads(ran.stdout)["findings"])

    async def not_well(self, *arguments: str, code: int | None = None) -> dict[str, str]:
        """Level by check, of what is not ok and could be looked at."""
        found = await self.look(*arguments, code=code)
        return {
            one["check"]: one["level"]
            for one in found
            if one["level"] != "ok" and not one["what"].startswith("not looked at")
        }

    async def engine(self, method: str, path: str, body: Any = None) -> Any:
        async with httpx.AsyncClient(base_url=self.live.urls["engine"], timeout=30) as client:
            answer = await client.request(method, path, json=body)
            assert answer.is_success, answer.text
            return answer.json()


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    model = await StandIn().start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYRANK_MODEL_URL", model.url)
        patch.setenv("WHYRANK_REDELIVERY_S", "4")
        live = Live(tmp_path_factory.mktemp("doctor"))
        world = World(live, model, tmp_path_factory.mktemp("nothing-up"))
        try:
            await asyncio.to_thread(live.start)
            mapping = {"mappings": {"properties": {"title": {"type": "text"}, "body": {"type": "text"}}}}
            await world.engine("PUT", f"/{INDEX}", mapping)
            for n in range(3):
                await world.engine("PUT", f"/{INDEX}/_doc/{n}?refresh=true", {"title": f"doc-{n}", "body": "words"})
            enable = [sys.executable, "-m", "whyrank.cli", "enable", INDEX, "--fields", "title,body"]
            await asyncio.to_thread(subprocess.run, [*enable, "--engine-url", live.urls["engine"]], check=True)
            await until(lambda: INDEX in httpx.get(f"{live.urls['sidecar']}/_whyrank/policies").text)
            await until(
                lambda: httpx.get(f"{live.urls['sidecar']}/_whyrank/ready").json()["parts"]["model"]["state"] == "ok"
            )
            yield world
        finally:
            await asyncio.to_thread(live.stop)
            await model.stop()


async def test_a_healthy_installation_is_found_healthy(world: World) -> None:
    found = await world.look(code=0)
    # a manifest is not set here; the engine is yellow or green
    assert {one["check"] for one in found if one["level"] != "ok"} == {"model.manifest"}
    names = {one["check"] for one in found}
    assert {"workers.judge", "workers.listening", "redis.eviction", "index.fields", "proxy.search"} <= names
    assert {"clocks.redis", "clocks.engine", "clocks.sidecar", "sidecar.engine", "sidecar.policies"} <= names
    assert await world.look("--strict", code=1)
    assert {one["check"].split(".")[0] for one in await world.look("--only", "redis", "--strict", code=0)} == {"redis"}


async def test_the_plugin_connected_rescores_the_engines_own_searches_and_is_found_well(world: World) -> None:
    connect = [sys.executable, "-m", "whyrank.cli", "connect", "opensearch", "--door", "plugin", "--index", INDEX]
    places = ["--engine-url", world.live.urls["engine"], "--sidecar-url", world.live.urls["sidecar"]]
    for action in ("--apply", "--undo"):
        ran = await asyncio.to_thread(
            subprocess.run, [*connect, action, *places], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        body = {"query": {"match": {"body": "words"}}, "ext": {"whyrank": {"deadline_ms": 10_000}}}
        answer = await world.engine("POST", f"/{INDEX}/_search", body)
        assert len(answer["hits"]["hits"]) == 3
        if action == "--apply":
            assert answer["ext"]["whyrank"]["status"] == "complete"
            assert all(hit["fields"]["whyrank.label"] == [2] for hit in answer["hits"]["hits"])
            found = await world.look("--index", INDEX, "--door", "plugin", code=0)
            assert {one["check"] for one in found if one["level"] != "ok"} == {"model.manifest"}
            assert {"plugin.used", "plugin.address", "plugin.settings", "plugin.search"} <= {o["check"] for o in found}
        else:
            assert "whyrank" not in answer.get("ext", {})
    assert await world.not_well("--index", INDEX, "--door", "plugin", "--only", "plugin", code=1) == {
        "plugin.used": "broken"
    }


async def test_a_policy_that_does_not_fit_its_index(world: World) -> None:
    await world.engine("PUT", f"/{INDEX}/_settings", {"index.max_result_window": 5})
    try:
        assert await world.not_well("--only", "index", "--index", INDEX, code=1) == {"index.window": "broken"}
    finally:
        await world.engine("PUT", f"/{INDEX}/_settings", {"index.max_result_window": None})
    assert await world.not_well("--only", "index", code=0) == {}


async def test_a_default_pipeline_that_is_gone_breaks_every_search(world: World) -> None:
    await world.engine("PUT", f"/{INDEX}/_settings", {"index.search.default_pipeline": "gone"})
    try:
        found = await world.not_well("--index", INDEX, code=1)
        assert (found["index.pipeline"], found["proxy.search"]) == ("broken", "broken")
    finally:
        await world.engine("PUT", f"/{INDEX}/_settings", {"index.search.default_pipeline": None})


async def test_the_worker_away(world: World) -> None:
    worker = world.live.services["worker"]
    await asyncio.to_thread(worker.stop)
    try:
        found = await world.not_well("--only", "workers", code=1)
        assert found == {"workers.listening": "broken", "workers.judge": "broken"}
    finally:
        await asyncio.to_thread(worker.start)


async def test_the_model_server_away(world: World) -> None:
    port = world.model.port
    await world.model.stop()
    try:
        found = await world.not_well("--only", "model", "--only", "sidecar", "--passive", code=1)
        assert found["model.server"] == "broken"
    finally:
        await world.model.start(port)
    await until(
        lambda: httpx.get(f"{world.live.urls['sidecar']}/_whyrank/ready").json()["parts"]["model"]["state"] == "ok"
    )


async def test_valkey_away_leaves_the_rest_to_be_looked_at(world: World) -> None:
    valkey = world.live.services["valkey"]
    await asyncio.to_thread(valkey.stop)
    try:
        found = await world.not_well(code=1)
        assert (found["redis.reachable"], found["sidecar.parts"]) == ("broken", "broken")
        assert not {"engine.reachable", "sidecar.reachable", "index.fields"} & found.keys()
    finally:
        await asyncio.to_thread(valkey.start)


async def test_what_is_looked_at_on_elasticsearch(elasticsearch_url: str) -> None:
    settings = Settings(engine_url=elasticsearch_url)
    engine = await connect(settings)
    name = f"doctored-{uuid.uuid4().hex[:8]}"
    names = [check for check in CHECKS if check.startswith(("engine.", "index.", "custom."))] + ["clocks.engine"]
    try:
        await engine.ensure_index(name, {"properties": {"title": {"type": "text"}}}, {"number_of_replicas": 0})
        await PolicyStore(engine).put(Policy(name, ("title", "headline")))
        async with Context(Places(settings, "http://127.0.0.1:1"), name) as context:
            found = await examine(context, [CHECKS[one] for one in names])
        bad = {one.check: (one.level, one.what) for one in found if one.level is not Level.OK}
        assert bad == {"index.fields": (Level.WARNING, "headline is not in the mapping")}
        assert {"engine.health", "index.window", "clocks.engine"} <= {one.check for one in found}
        async with Context(Places(settings, "http://127.0.0.1:1"), name, Door.CUSTOM) as context:
            (used,) = await examine(context, [CHECKS["custom.used"]])
        assert (used.level, "no licensing" in used.what) == (Level.BROKEN, True)
    finally:
        await engine.delete_index(name)
        await engine.delete_index(POLICY_INDEX)
        await engine.close()
