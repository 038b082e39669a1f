"""`whyrank doctor`: each check on what it is there for, how checks are carried out, and what is shown."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from msgspec.structs import replace
from rich.console import Console
from starlette.responses import JSONResponse
from typer.testing import CliRunner

from plugin_service.api.parts import PartState
from plugin_service.rescoring.ports import ModelInfo
from tests.fakes.admin import AdminEngine
from tests.fakes.sidecar import Sidecar
from whyrank.cli import app
from whyrank.client import AsyncClient
from whyrank.connect.doors import ml_commons
from whyrank.connect.steps import Door
from whyrank.doctor import report
from whyrank.doctor.checks import CHECKS
from whyrank.doctor.cli import chosen_checks
from whyrank.doctor.context import Context
from whyrank.doctor.findings import Finding, Level, broken, ok, unknown, warning
from whyrank.doctor.registry import Check, examine
from whyrank.engines import EngineAnswer, EngineKind
from whyrank.engines.policies import POLICY_INDEX, PolicyStore
from whyrank.errors import EngineUnavailableError, StoreUnavailableError
from whyrank.places import Places
from whyrank.records import ModelManifest, save_manifest
from whyrank.settings import Settings
from whyrank.types import FusionWeights, Policy

ROOT = Path(__file__).parents[2]
PIPELINE = "index.search.default_pipeline"
SIDECAR = "http://127.0.0.1:8080"
TEXT = {"properties": {"title": {"type": "text"}, "body": {"type": "text"}}}


class FakeRedis:
    """What the checks ask of Redis."""

    def __init__(self) -> None:
        self.about: dict[str, Any] = {
            "redis_version": "7.2.4",
            "role": "master",
            "maxmemory": 0,
            "maxmemory_policy": "noeviction",
            "used_memory": 5 << 20,
        }
        self.clients = [{"cmd": "brpop"}, {"cmd": "client|list"}]
        self.running: dict[str, float] = {}
        self.ahead_s = 0.0
        self.refuses: set[str] = set()

    async def ping(self) -> bool:
        return True

    async def info(self) -> dict[str, Any]:
        return self.about

    async def client_list(self) -> list[dict[str, Any]]:
        if "client_list" in self.refuses:
            raise StoreUnavailableError("NOPERM")
        return self.clients

    async def zcount(self, key: str, least: float, most: float) -> int:
        assert key == "unacked_index"
        return sum(least <= at <= most for at in self.running.values())

    async def time(self) -> tuple[int, int]:
        return int(time.time() + self.ahead_s), 0


class World:
    """An installation in which all is well, until a test breaks a part of it."""

    def __init__(self, tmp_path: Path, kind: EngineKind = EngineKind.OPENSEARCH) -> None:
        self.engine = AdminEngine(kind, "3.8.0" if kind is EngineKind.OPENSEARCH else "9.5.3")
        self.engine.index_settings["docs"] = {}
        self.engine.mappings["docs"] = TEXT
        stamp = {"nodes": {"n1": {"timestamp": time.time() * 1000}}}
        self.engine.answers["GET", "/_nodes/stats/os"] = EngineAnswer(200, stamp)
        self.redis = FakeRedis()
        self.behind: Callable[[str, str], Any] = self._engine_behind
        world = self

        class Standing(Sidecar):
            async def _proxy(self, scope: Any, receive: Any, send: Any) -> None:
                status, body, headers = world.behind(scope["method"], scope["path"])
                await JSONResponse(body, status, headers)(scope, receive, send)

        self.manifest = ModelManifest(name="m1", base="b", created=datetime(2026, 1, 1, tzinfo=UTC), served_name="m1")
        path = tmp_path / "manifest.json"
        save_manifest(self.manifest, path)
        self.settings = Settings(secret="x", model_url="http://model/v1", model_manifest=path, policy_refresh_s=0.01)
        self.sidecar = Standing(self.settings)
        self.model: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(
            200, json={"data": [{"id": "m1"}]}
        )
        self.index: str | None = None
        self.door: Door | None = None
        self.places = Places(self.settings, SIDECAR)

    def _engine_behind(self, method: str, path: str) -> tuple[int, Any, dict[str, str]]:
        if path == "/":
            return 200, {"cluster_uuid": "u1"}, {}
        told = {"status": "complete", "reason": "all_judged"}
        return 200, {"hits": {"hits": [{"_id": "1"}]}, "ext": {"whyrank": told}}, {"X-WhyRank-Status": "complete"}

    async def policy(self, policy: Policy) -> None:
        """A policy, in the engine and at the sidecar."""
        await PolicyStore(self.engine).put(policy)
        self.sidecar.policies.policies[policy.index] = policy

    async def look(self, *names: str) -> list[Finding]:
        """What these checks find, by name; what they need is taken for granted."""
        context = Context(self.places, self.index, self.door)
        await context.sidecar.close()
        await context.http.aclose()
        application = httpx.ASGITransport(app=self.sidecar.app)
        context.sidecar = AsyncClient(SIDECAR, transport=application)
        mounts = {SIDECAR: application, "http://model": httpx.MockTransport(self.model)}
        context.http = httpx.AsyncClient(mounts=mounts, transport=httpx.MockTransport(_refused))
        for ask, value in ((Context.engine, self.engine), (Context.redis, self.redis)):
            future = asyncio.get_running_loop().create_future()
            if isinstance(value, Exception):
                future.set_exception(value)
            else:
                future.set_result(value)
            context.known[ask.__wrapped__] = future  # type: ignore[attr-defined]
        async with context:
            return await examine(context, [replace_needs(CHECKS[name]) for name in names])

    async def one(self, name: str) -> Finding:
        """The only finding of a check."""
        (found,) = await self.look(name)
        return found


def replace_needs(check: Check) -> Check:
    return Check(check.name, check.run, (), check.active)


def _refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    world.sidecar.policies.policies.clear()
    await world.policy(Policy("docs", ("title", "body")))
    context = Context(world.places)
    world.sidecar.model.info = replace(world.sidecar.model.info, revision=context.revision())
    await context.sidecar.close()
    await context.http.aclose()
    yield world


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level.value for finding in findings}


# Carrying out


async def test_all_is_well_in_a_healthy_installation(world: World) -> None:
    found = await world.look(*CHECKS)
    assert [f"{finding.check}: {finding.what}" for finding in found if finding.level is not Level.OK] == []
    assert {finding.check for finding in found} >= {
        "engine.reachable",
        "redis.eviction",
        "workers.judge",
        "proxy.search",
    }


def test_what_a_check_needs_comes_before_it_and_every_check_says_what_it_looks_for() -> None:
    seen: set[str] = set()
    for name, check in CHECKS.items():
        assert check.name == name
        assert set(check.needs) <= seen, name
        assert check.looks_for.endswith("."), name
        seen.add(name)


def test_every_check_is_in_the_manual() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+\.[a-z]+)` \| (.*?) \|$", page, re.MULTILINE))
    assert rows == {name: check.looks_for for name, check in CHECKS.items()}


async def test_one_check_that_fails_hides_no_other(world: World) -> None:
    async def fails(_: Context) -> list[Finding]:
        """Fail."""
        raise RuntimeError("a fault of ours")

    async def refuses(_: Context) -> list[Finding]:
        """Refuse."""
        raise EngineUnavailableError("the engine is away")

    async def well(_: Context) -> list[Finding]:
        """Be well."""
        return [ok("fine")]

    context = Context(world.places)
    async with context:
        checks = [Check("a.a", fails), Check("a.b", refuses), Check("a.c", well, ("a.a",)), Check("a.d", well)]
        found = await examine(context, checks)
    assert [(f.check, f.level.value) for f in found] == [
        ("a.a", "unknown"),
        ("a.b", "unknown"),
        ("a.c", "unknown"),
        ("a.d", "ok"),
    ]
    assert "a fault of ours" in found[0].what
    assert found[1].what == "the engine is away"
    assert found[2].what == "not looked at, for a.a"


async def test_a_check_that_is_given_up_takes_nothing_from_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whyrank.doctor.registry.CHECK_S", 0.01)
    slow = asyncio.get_running_loop().create_future()

    async def waits(context: Context) -> list[Finding]:
        """Wait."""
        await context.redis()
        return [ok("it came")]

    async def brings(context: Context) -> list[Finding]:
        """Bring it."""
        slow.set_result(world.redis)
        return await waits(context)

    async with Context(world.places) as context:
        context.known[Context.redis.__wrapped__] = slow  # type: ignore[attr-defined]
        found = await examine(context, [Check("a.a", waits), Check("a.b", brings)])
    assert [(finding.level.value, finding.what) for finding in found] == [
        ("unknown", "gave no answer within 0 s"),
        ("ok", "it came"),
    ]


async def test_an_engine_that_is_away_leaves_the_rest_to_be_looked_at(world: World) -> None:
    world.engine.down = True
    checks = [CHECKS[name] for name in ("engine.reachable", "engine.health", "engine.policies", "redis.reachable")]
    context = Context(world.places)
    async with context:
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(EngineUnavailableError("refused"))
        context.known[Context.engine.__wrapped__] = failed  # type: ignore[attr-defined]
        redis = asyncio.get_running_loop().create_future()
        redis.set_result(world.redis)
        context.known[Context.redis.__wrapped__] = redis  # type: ignore[attr-defined]
        found = await examine(context, checks)
    assert [finding.level.value for finding in found] == ["broken", "unknown", "unknown", "ok"]
    assert found[1].what == "not looked at, for engine.reachable"


def test_checks_are_chosen_by_name_or_part_with_what_they_need() -> None:
    names = [check.name for check in chosen_checks(["index.fields"], passive=False)]
    assert names == ["engine.reachable", "engine.policies", "index.fields"]
    assert all(not check.active for check in chosen_checks([], passive=True))
    assert {check.part for check in chosen_checks(["redis"], passive=False)} == {"redis"}
    with pytest.raises(typer.BadParameter, match="there is no check 'rediss'"):
        chosen_checks(["rediss"], passive=False)


# Engine


async def test_a_red_cluster_is_broken(world: World) -> None:
    world.engine.answers["GET", "/_cluster/health"] = EngineAnswer(200, {"status": "red", "number_of_nodes": 1})
    assert (await world.one("engine.health")).level is Level.BROKEN


async def test_policies_that_cannot_be_read_or_are_off_are_told(world: World) -> None:
    assert (await world.one("engine.policies")).what == "1 of 1 policies switched on"
    document = {"kind": "policy", "policy": {"index": "news", "fields": [], "window": -1}}
    await world.engine.put_document(POLICY_INDEX, "news", document, refresh=True)
    found = await world.one("engine.policies")
    assert (found.level, "news" in found.what) == (Level.BROKEN, True)
    await world.engine.delete_document(POLICY_INDEX, "news", refresh=True)
    await world.policy(Policy("docs", ("title",), enabled=False))
    assert (await world.one("engine.policies")).level is Level.WARNING


# Redis and workers


@pytest.mark.parametrize(
    ("policy", "limit", "level"),
    [
        ("noeviction", 0, "ok"),
        ("noeviction", 1 << 30, "warning"),
        ("allkeys-lru", 1 << 30, "broken"),
        ("allkeys-lfu", 0, "warning"),
        ("volatile-lru", 1 << 30, "ok"),
        ("volatile-ttl", 0, "ok"),
    ],
)
async def test_what_a_full_redis_drops(world: World, policy: str, limit: int, level: str) -> None:
    world.redis.about |= {"maxmemory_policy": policy, "maxmemory": limit}
    assert (await world.one("redis.eviction")).level.value == level


async def test_a_replica_a_full_memory_and_clocks_apart(world: World) -> None:
    world.redis.about |= {"role": "slave", "master_host": "primary", "master_port": 6379}
    assert "primary:6379" in (await world.one("redis.role")).what
    world.redis.about |= {"maxmemory": 100 << 20, "used_memory": 95 << 20}
    assert (await world.one("redis.memory")).what == "memory is used up to 95% of 100 MB"
    world.redis.ahead_s = -60
    found = await world.one("clocks.redis")
    assert (found.level, "behind" in found.what) == (Level.WARNING, True)
    slow = {"nodes": {"n1": {"timestamp": (time.time() + 3600) * 1000}, "n2": {"timestamp": time.time() * 1000}}}
    world.engine.answers["GET", "/_nodes/stats/os"] = EngineAnswer(200, slow)
    found = await world.one("clocks.engine")
    assert (found.level, "ahead" in found.what) == (Level.WARNING, True)


async def test_a_redis_out_of_reach_is_broken(world: World) -> None:
    world.redis = StoreUnavailableError("Redis: refused")  # type: ignore[assignment]
    found = await world.one("redis.reachable")
    assert (found.level, found.what) == (Level.BROKEN, "Redis: refused")


async def test_workers_are_seen_by_what_they_wait_for(world: World) -> None:
    world.redis.clients = [{"cmd": "subscribe"}]
    assert (await world.one("workers.listening")).level is Level.BROKEN
    world.redis.running = {"job": time.time() - 5}
    assert (await world.one("workers.listening")).level is Level.OK
    world.redis.running = {"job": time.time() - 3600}
    assert (await world.one("workers.listening")).level is Level.BROKEN
    world.redis.refuses.add("client_list")
    assert (await world.one("workers.listening")).level is Level.UNKNOWN


@pytest.mark.parametrize(("waiting", "level"), [(10, "ok"), (1500, "warning"), (2000, "broken")])
async def test_a_queue_that_fills_up(world: World, waiting: int, level: str) -> None:
    world.sidecar.depths = {"interactive": waiting, "background": 9000}
    assert (await world.one("workers.queue")).level.value == level
    world.sidecar.depths = StoreUnavailableError("away")
    assert (await world.one("workers.queue")).level is Level.UNKNOWN


async def test_a_worker_of_the_stack_that_does_not_answer(world: World) -> None:
    assert await world.look("workers.metrics") == []
    world.places = replace(world.places, worker_metrics_url="http://worker/metrics")
    assert (await world.one("workers.metrics")).level is Level.BROKEN


async def test_a_pair_that_nobody_judges(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await world.one("workers.judge")).level is Level.OK
    monkeypatch.setattr("whyrank.doctor.checks.workers._JUDGE_MS", 50)
    world.sidecar.jobs.idle = True
    found = await world.one("workers.judge")
    assert (found.level, "was not judged" in found.what) == (Level.BROKEN, True)
    world.sidecar.model.info = ModelInfo(False, "r", FusionWeights(), "it loads")
    found = await world.one("workers.judge")
    assert (found.level, "it loads" in found.what) == (Level.WARNING, True)


# Model and sidecar


async def test_a_model_server_that_serves_another_model(world: World) -> None:
    world.model = lambda _: httpx.Response(200, json={"data": [{"id": "other"}]})
    assert (await world.one("model.server")).what == "it serves other, not m1"
    world.model = lambda _: httpx.Response(404, text="not here")
    assert (await world.one("model.server")).level is Level.BROKEN
    world.model = lambda _: httpx.Response(200, text="<p>welcome")
    assert "is no model server" in (await world.one("model.server")).what
    world.model = _refused
    assert "no model server answers" in (await world.one("model.server")).what


async def test_the_model_servers_key_goes_to_it_alone(tmp_path: Path, world: World) -> None:
    seen: list[str | None] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={"data": [{"id": "m1"}]})

    world.model = note
    settings = world.settings.model_copy(update={"engine_user": "ada"})
    world.places = replace(world.places, settings=settings)
    await world.one("model.server")
    assert seen == [None]


async def test_a_manifest_that_is_missing_or_another_than_the_sidecars(world: World, tmp_path: Path) -> None:
    world.sidecar.model.info = replace(world.sidecar.model.info, revision="0123456789abcdef")
    found = await world.one("model.revision")
    assert (found.level, "0123456789abcdef" in found.what) == (Level.WARNING, True)
    (tmp_path / "manifest.json").write_text("{}")
    assert (await world.one("model.manifest")).level is Level.BROKEN
    world.places = replace(world.places, settings=world.settings.model_copy(update={"model_manifest": None}))
    assert (await world.one("model.manifest")).level is Level.WARNING


async def test_a_sidecar_with_worse_parts_says_which(world: World) -> None:
    world.sidecar.states["redis"] = PartState("down", "refused")
    world.sidecar.states["policies"] = PartState("degraded", "not read yet")
    found = {finding.about: finding for finding in await world.look("sidecar.parts")}
    assert {name: finding.level.value for name, finding in found.items()} == {
        "engine": "ok",
        "model": "ok",
        "redis": "broken",
        "policies": "warning",
    }
    assert found["redis"].what == "down: refused"


async def test_a_sidecar_before_another_engine(world: World) -> None:
    world.behind = lambda *_: (200, {"cluster_uuid": "u2"}, {})
    assert (await world.one("sidecar.engine")).level is Level.BROKEN
    world.behind = lambda *_: (503, {"error": "away"}, {})
    assert (await world.one("sidecar.engine")).level is Level.UNKNOWN


async def test_policies_that_the_sidecar_has_not_seen(world: World) -> None:
    await PolicyStore(world.engine).put(Policy("news", ("title",)))
    found = await world.one("sidecar.policies")
    assert (found.level, "news" in found.what) == (Level.BROKEN, True)


async def test_a_sidecar_over_the_network_without_tls(world: World) -> None:
    assert (await world.one("sidecar.exposed")).level is Level.OK
    world.places = replace(world.places, sidecar_url="http://whyrank:8080")
    assert (await world.one("sidecar.exposed")).level is Level.WARNING
    world.places = replace(world.places, sidecar_url="https://whyrank")
    assert (await world.one("sidecar.exposed")).level is Level.OK


# Indices


@pytest.mark.parametrize(
    ("field", "level", "said"),
    [
        ("title", "ok", ""),
        ("headline", "broken", "is not in the mapping"),
        ("title.raw", "broken", "multi-field"),
        ("author.name", "ok", ""),
        ("author", "broken", "its type is object"),
        ("vector", "broken", "dense_vector"),
        ("other", "broken", "alias"),
        ("labels.colour", "ok", ""),
        ("dotted.name", "ok", ""),
        ("year", "ok", ""),
    ],
)
async def test_fields_that_hold_no_text_are_told(world: World, field: str, level: str, said: str) -> None:
    world.engine.mappings["docs"] = {
        "properties": {
            "title": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
            "author": {"properties": {"name": {"type": "text"}}},
            "vector": {"type": "dense_vector"},
            "other": {"type": "alias", "path": "title"},
            "labels": {"type": "flattened"},
            "dotted.name": {"type": "keyword"},
            "year": {"type": "integer"},
        }
    }
    await world.policy(Policy("docs", (field,)))
    found = await world.one("index.fields")
    assert found.level.value == level
    assert said in found.what
    await world.policy(Policy("docs", ("title", "year", field)))
    assert (await world.one("index.fields")).level.value == ("ok" if level == "ok" else "warning")


async def test_an_index_without_source_without_policy_or_not_there(world: World) -> None:
    world.engine.mappings["docs"] = {**TEXT, "_source": {"enabled": False}}
    assert "_source is not kept" in (await world.one("index.fields")).what
    await world.policy(Policy("gone", ("title",)))
    found = {finding.about: finding for finding in await world.look("index.exists")}
    assert (found["gone"].level, found["docs"].level) == (Level.WARNING, Level.OK)
    world.index = "unknown"
    assert (await world.one("index.exists")).about == "unknown"
    world.engine.index_settings["unknown"] = {}
    assert "has no policy" in (await world.one("index.exists")).what


async def test_a_window_and_a_deadline_beyond_their_limits(world: World) -> None:
    await world.policy(Policy("docs", ("title",), window=60, deadline_ms=60_000))
    assert (await world.one("index.window")).level is Level.OK
    world.engine.index_settings["docs"] = {"index.max_result_window": "50"}
    found = await world.one("index.window")
    assert (found.level, found.remedy) == (Level.BROKEN, "whyrank enable docs --window 50")
    await world.policy(Policy("docs", ("title",), window=9, deadline_ms=60_000))
    assert (await world.one("index.window")).level is Level.WARNING
    assert await world.look("index.deadline") == []
    world.places = replace(world.places, settings=world.settings.model_copy(update={"max_deadline_ms": 2_000}))
    assert (await world.one("index.deadline")).level is Level.WARNING


async def test_default_pipelines_that_break_searches(world: World) -> None:
    world.engine.index_settings["docs"] = {PIPELINE: "why"}
    found = await world.one("index.pipeline")
    assert (found.level, "does not exist" in found.what) == (Level.BROKEN, True)
    world.engine.pipelines["why"] = {"response_processors": [{"rerank": {"ml_opensearch": {}}}]}
    found = await world.one("index.pipeline")
    assert (found.level, "size 0" in found.what) == (Level.BROKEN, True)
    world.engine.pipelines["why"]["response_processors"][0]["rerank"]["ignore_failure"] = True
    assert (await world.one("index.pipeline")).level is Level.OK


# Doors


async def test_the_proxy_is_tried_with_a_search(world: World) -> None:
    def answers(status: int, body: Any, reason: str = "") -> None:
        world.behind = lambda *_: (status, body, {"X-WhyRank-Reason": reason})

    answers(200, {"hits": {"hits": []}}, "policy_disabled")
    found = await world.one("proxy.search")
    assert (found.level, "policy_disabled" in found.remedy) == (Level.BROKEN, True)
    answers(503, {"error": "engine away"})
    assert (await world.one("proxy.search")).level is Level.BROKEN
    told = {"ext": {"whyrank": {"status": "failed", "reason": "store_unavailable"}}, "hits": {"hits": [{}]}}
    answers(200, told)
    assert (await world.one("proxy.search")).level is Level.BROKEN
    told["ext"]["whyrank"]["status"] = "warming"
    assert (await world.one("proxy.search")).level is Level.WARNING
    told["hits"]["hits"] = []
    assert (await world.one("proxy.search")).level is Level.UNKNOWN
    world.door = Door.PLUGIN
    assert await world.look("proxy.search") == []


def connected(world: World, **changes: Any) -> None:
    """ml-commons as `whyrank connect` sets it up, with changes of the connector's client."""
    engine = world.engine
    engine.plugins, engine.processors = ["opensearch-ml"], ["rerank"]
    engine.cluster["persistent"] = {ml_commons.TRUSTED: ["^http://whyrank:8080/.*$"], ml_commons.PRIVATE: "true"}
    action = {
        "action_type": "predict",
        "url": "http://whyrank:8080/v2/rerank",
        "request_body": ml_commons.REQUEST_BODY,
        "post_process_function": "connector.post_process.cohere.rerank",
    }
    client = {"connection_timeout": 1, "read_timeout": 2, "max_retry_times": 0}
    engine.connectors["c1"] = {"actions": [action], "client_config": {**client, **changes}}
    engine.models["m1"] = {"model_state": "DEPLOYED", "connector_id": "c1"}
    rerank = {"ignore_failure": True, "ml_opensearch": {"model_id": "m1"}, "context": {"document_fields": ["title"]}}
    engine.pipelines["why"] = {"response_processors": [{"rerank": rerank}]}


ML = [name for name in CHECKS if name.startswith("ml-commons.")]


async def test_ml_commons_as_we_connect_it_is_well_and_another_model_is_not_ours(world: World) -> None:
    assert await world.look(*ML) == []
    connected(world)
    world.index = "docs"
    found = await world.look(*ML)
    assert {finding.check for finding in found} == set(ML)
    assert levels(found) == {"ok"}
    world.engine.connectors["c1"]["actions"][0]["url"] = "https://api.cohere.ai/v1/embed"
    assert await world.look(*ML) == []
    world.door = Door.ML_COMMONS
    assert (await world.one("ml-commons.used")).level is Level.BROKEN


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"read_timeout": 1}, "broken"),
        ({"read_timeout": 30}, "warning"),
        ({"connection_timeout": 30}, "warning"),
        ({"max_retry_times": 3}, "warning"),
        ({"read_timeout": 3}, "ok"),
    ],
)
async def test_the_connectors_timeouts(world: World, changes: dict[str, int], level: str) -> None:
    connected(world, **changes)
    assert (await world.one("ml-commons.timeouts")).level.value == level
    world.engine.connectors["c1"]["client_config"] = None
    assert (await world.one("ml-commons.timeouts")).level is Level.WARNING


async def test_the_connectors_address_and_request(world: World) -> None:
    connected(world)
    world.engine.cluster["persistent"][ml_commons.PRIVATE] = "false"
    assert "private_ip_enabled" in (await world.one("ml-commons.address")).what
    world.engine.cluster["persistent"][ml_commons.TRUSTED] = ["^https://whyrank:8080/.*$", "(?<broken"]
    found = await world.one("ml-commons.address")
    assert (found.level, "^http://whyrank:8080/.*$" in found.remedy) == (Level.BROKEN, True)
    action = world.engine.connectors["c1"]["actions"][0]
    for template, said in (
        ('{"documents":${parameters.documents},"query":"${parameters.query}","top_n": 5}', "top_n 5"),
        ('{"query":"${parameters.query}"}', "does not send"),
    ):
        action["request_body"] = template
        assert said in (await world.one("ml-commons.request")).what
    action["request_body"] = ml_commons.REQUEST_BODY
    del action["post_process_function"]
    assert "post_process_function" in (await world.one("ml-commons.request")).what


async def test_a_model_that_is_not_deployed_and_a_pipeline_that_fails(world: World) -> None:
    connected(world)
    world.engine.models["m1"]["model_state"] = "UNDEPLOYED"
    assert (await world.one("ml-commons.model")).level is Level.BROKEN
    rerank = world.engine.pipelines["why"]["response_processors"][0]["rerank"]
    del rerank["ignore_failure"]
    assert (await world.one("ml-commons.pipeline")).level is Level.BROKEN
    rerank |= {"ignore_failure": True, "context": {"document_fields": ["title", "abstract"]}}
    world.index = "docs"
    assert levels(await world.look("ml-commons.pipeline")) == {"ok", "warning"}


async def test_answers_that_are_handed_out_by_place_must_come_in_order(world: World) -> None:
    connected(world)
    action = world.engine.connectors["c1"]["actions"][0]
    inference = {"model_id": "m1", "ignore_failure": True, "input_map": [{"documents": "body"}]}
    world.engine.pipelines["why"] = {"response_processors": [{"ml_inference": inference}]}
    assert (await world.one("ml-commons.request")).level is Level.BROKEN
    action["request_body"] = action["request_body"].replace('"top_n":${parameters.top_n}', '"order": "input"')
    assert "no post_process_function" in (await world.one("ml-commons.request")).what
    del action["post_process_function"]
    world.index = "docs"
    assert levels(await world.look(*ML)) == {"ok"}
    inference["input_map"] = [{"documents": "abstract"}]
    assert levels(await world.look("ml-commons.pipeline")) == {"ok", "warning"}


PLUGIN = [name for name in CHECKS if name.startswith("plugin.")]


def plugged(world: World, **changes: Any) -> dict[str, Any]:
    """Our processor in the default pipeline of the index, as `whyrank connect` puts it there."""
    world.engine.processors = ["whyrank"]
    ours = {"url": f"{SIDECAR}/v1/rescore", "fields": ["title", "body"], "ignore_failure": True, **changes}
    world.engine.pipelines["why"] = {
        "request_processors": [{"whyrank": {"ignore_failure": True}}],
        "response_processors": [{"whyrank": ours}],
    }
    world.engine.index_settings["docs"] = {PIPELINE: "why"}
    told: dict[str, Any] = {"ext": {"whyrank": {"status": "complete", "reason": "all_judged"}}, "hits": {"hits": []}}
    world.engine.answers["POST", "/docs/_search"] = EngineAnswer(200, told)
    return ours


async def test_the_plugin_as_we_connect_it_is_well(world: World) -> None:
    assert await world.look(*PLUGIN) == []
    plugged(world)
    found = await world.look(*PLUGIN, "index.twice", "index.pipeline")
    assert {finding.check for finding in found} == {*PLUGIN, "index.twice", "index.pipeline"}
    assert [f"{finding.check}: {finding.what}" for finding in found if finding.level is not Level.OK] == []
    world.engine.processors = []
    assert "not installed on every node" in (await world.one("plugin.used")).what


async def test_an_index_without_our_processor_is_told_how_to_get_it(world: World) -> None:
    world.engine.processors = ["whyrank"]
    world.door = Door.PLUGIN
    assert (await world.one("plugin.used")).level is Level.BROKEN
    world.index = "docs"
    found = (await world.look("plugin.used"))[-1]
    assert found.remedy == "whyrank connect opensearch --door plugin --index docs --apply"


async def test_the_plugins_address_and_switches(world: World) -> None:
    plugged(world, url="http://elsewhere:8080")
    found = await world.one("plugin.address")
    assert (found.level, "whyrank.allowed_urls" in found.remedy) == (Level.BROKEN, True)
    world.engine.node_settings = {"whyrank.allowed_urls": ["http://*:8080"]}
    found = await world.one("plugin.address")
    assert (found.level, "from here" in found.what) == (Level.WARNING, True)
    settings = world.settings.model_copy(update={"engine_url": "http://search.example:9200"})
    world.places = replace(world.places, settings=settings)
    plugged(world)
    assert (await world.one("plugin.address")).level is Level.UNKNOWN
    world.engine.cluster["persistent"]["whyrank.enabled"] = "false"
    assert (await world.one("plugin.switch")).level is Level.BROKEN
    world.engine.cluster["persistent"].clear()
    plugged(world, enabled=False)
    assert (await world.one("plugin.switch")).level is Level.WARNING


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"window": 10, "deadline_ms": 300, "mode": "reason"}, None),
        ({"window": 20}, "window"),
        ({"mode": "label", "deadline_ms": 50}, "deadline_ms, mode"),
        ({"fields": ["title"]}, "fields"),
    ],
)
async def test_a_processor_that_says_otherwise_than_the_policy(world: World, changes: Any, said: str | None) -> None:
    plugged(world, **changes)
    found = await world.one("plugin.settings")
    assert found.level is (Level.OK if said is None else Level.WARNING)
    assert said is None or found.what.startswith(said)


async def test_a_pipeline_that_reranks_each_page_by_itself(world: World) -> None:
    plugged(world)
    del world.engine.pipelines["why"]["request_processors"]
    found = await world.one("plugin.window")
    assert (found.level, "request_processors" in found.remedy) == (Level.BROKEN, True)


async def test_a_search_that_the_plugin_does_not_rescore(world: World) -> None:
    plugged(world)
    for status, body, said in (
        (400, {"error": {"type": "x", "reason": "no such thing"}}, "no such thing"),
        (200, {"hits": {}}, "was not rescored"),
        (200, {"ext": {"whyrank": {"status": "failed", "reason": "sidecar_unreachable"}}}, "sidecar_unreachable"),
    ):
        world.engine.answers["POST", "/docs/_search"] = EngineAnswer(status, body)
        found = await world.one("plugin.search")
        assert (found.level, said in found.what) == (Level.BROKEN, True)


CUSTOM = [name for name in CHECKS if name.startswith("custom.")]


def endpoint(**changes: Any) -> dict[str, Any]:
    settings = {
        "url": "http://whyrank:8080/v1/rerank",
        "request": '{"query":${query},"documents":${input},"order":"input","incomplete":"error"}',
        "response": {
            "json_parser": {
                "relevance_score": "$.results[*].relevance_score",
                "reranked_index": "$.results[*].index",
            }
        },
    }
    return {"service": "custom", "service_settings": {**settings, **changes}}


@pytest.mark.parametrize(
    ("changes", "check", "said"),
    [
        ({}, "", ""),
        ({"request": '{"query":${query},"documents":${input},"top_n":${top_n}}'}, "custom.request", "top_n"),
        ({"request": '{"query":"${query}","documents":${input}}'}, "custom.request", "quotes"),
        ({"request": '{"query":${query}}'}, "custom.request", "does not send"),
        ({"request": '{"query":${query},"documents":${input}}'}, "custom.request", "order of shards"),
        ({"response": {"json_parser": {"relevance_score": "$.x"}}}, "custom.response", "relevance_score"),
        (
            {"response": {"json_parser": {"relevance_score": "$.results[*].relevance_score"}}},
            "custom.response",
            "index",
        ),
    ],
)
async def test_the_custom_services_templates(tmp_path: Path, changes: Any, check: str, said: str) -> None:
    world = World(tmp_path, EngineKind.ELASTICSEARCH)
    assert await world.look(*CUSTOM) == []
    world.engine.licence = "enterprise"
    world.engine.endpoints = {"why": endpoint(**changes), "elser": {"service": "elasticsearch", "service_settings": {}}}
    found = [finding for finding in await world.look(*CUSTOM) if finding.level is not Level.OK]
    assert [finding.check for finding in found] == ([check] if check else [])
    if check:
        assert said in found[0].what
        assert found[0].about == "why"


async def test_the_custom_service_without_licence_or_beyond_its_patience(tmp_path: Path) -> None:
    world = World(tmp_path, EngineKind.ELASTICSEARCH)
    world.door = Door.CUSTOM
    assert (await world.one("custom.used")).level is Level.BROKEN
    world.engine.licence = "basic"
    world.engine.endpoints = {"why": endpoint()}
    assert "basic" in (await world.one("custom.used")).what
    world.engine.licence = "trial"
    world.places = replace(world.places, settings=world.settings.model_copy(update={"rerank_deadline_ms": 30_000}))
    assert (await world.one("custom.deadline")).level is Level.BROKEN
    world.engine.answers["POST", "/_inference/rerank/why"] = EngineAnswer(500, {"error": "refused"})
    assert (await world.one("custom.live")).level is Level.BROKEN
    busy = {"error": {"type": "status_exception", "reason": "Received a server error status code: 503"}}
    world.engine.answers["POST", "/_inference/rerank/why"] = EngineAnswer(500, busy)
    assert (await world.one("custom.live")).level is Level.WARNING


# What is shown

FOUND = [
    replace(broken("it is down", "start it"), check="redis.reachable"),
    replace(unknown("not looked at, for redis.reachable"), check="redis.role"),
    replace(warning("[red]nearly", "do [b]it"), check="index.fields"),
    replace(ok("fine", "docs"), check="index.exists"),
]


def test_findings_are_a_table_with_remedies_and_a_count() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.table(FOUND, whole=True))
    shown = console.export_text()
    assert "it is down" in shown
    assert "-> start it" in shown
    assert "[red]nearly" in shown, "what engines say is text, not markup"
    assert "docs: fine" in shown
    assert "not looked at, for redis.reachable: 1 checks" in shown
    assert "1 broken, 1 warning, 1 unknown, 1 ok" in shown
    console.print(report.table(FOUND, whole=False))
    assert "docs: fine" not in console.export_text()


def test_the_exit_code_is_that_of_the_worst_finding() -> None:
    assert report.exit_code(FOUND, strict=False) == 1
    assert report.exit_code(FOUND[2:], strict=False) == 0
    assert report.exit_code(FOUND[2:], strict=True) == 1
    assert report.exit_code(FOUND[3:], strict=True) == 0


def test_the_command_examines_what_does_not_answer(tmp_path: Path) -> None:
    nowhere = {
        "WHYRANK_ENGINE_URL": "http://127.0.0.1:1",
        "WHYRANK_REDIS_URL": "redis://127.0.0.1:1/0",
        "WHYRANK_MODEL_URL": "http://127.0.0.1:1/v1",
    }
    arguments = ["doctor", "--home", str(tmp_path), "--sidecar-url", "http://127.0.0.1:1", "--json"]
    told = CliRunner().invoke(app, arguments, env=nowhere)
    assert told.exit_code == 1, told.output
    found = json.loads(told.stdout)
    assert found["healthy"] is False
    broken_ = {finding["check"] for finding in found["findings"] if finding["level"] == "broken"}
    assert broken_ == {"engine.reachable", "redis.reachable", "sidecar.reachable", "model.server"}
    assert CliRunner().invoke(app, ["doctor", "--only", "nothing"]).exit_code == 2
