"""The application around the doors: who serves what, ids, headers, health, figures, pages, lifespan."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from plugin_service.api.app import is_ours, own_routes
from plugin_service.api.parts import PartState
from plugin_service.rescoring.ports import ModelInfo
from plugin_service.workers.metrics import WorkerMetrics
from tests.fakes.sidecar import Sidecar, judge
from whyrank.errors import EngineUnavailableError, StoreUnavailableError
from whyrank.types import FailureKind, FusionWeights, Pair, Passage, Policy, VerdictFailure

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("method", "path", "ours"),
    [
        ("GET", "/_whyrank", True),
        ("GET", "/_whyrank/", True),
        ("GET", "/_whyrank/health", True),
        ("PUT", "/_whyrank/anything", True),
        ("GET", "/_whyrankx", False),
        ("POST", "/v1/rerank", True),
        ("POST", "/v2/rerank", True),
        ("POST", "/rerank", True),
        ("POST", "/v1/rescore", True),
        ("GET", "/v1/rescore", False),
        ("GET", "/rerank", False),
        ("PUT", "/rerank", False),
        ("POST", "/v1/rerank/", False),
        ("GET", "/v1/rankings/x", True),
        ("GET", "/v1/rankings/x/events", True),
        ("GET", "/v1/rankings", False),
        ("POST", "/v1/rankings/x", False),
        ("GET", "/", False),
        ("POST", "/docs/_search", False),
        ("POST", "/docs/v1/rerank", False),
        ("DELETE", "/docs", False),
        ("GET", "/_cluster/health", False),
    ],
)
async def test_our_routes_are_ours_and_all_else_is_the_engines(method: str, path: str, ours: bool) -> None:
    assert is_ours(method, path) is ours
    sidecar = Sidecar()
    await sidecar.client().request(method, path)
    assert sidecar.proxied == ([] if ours else [f"{method} {path}"])


async def test_what_passes_through_gets_nothing_of_ours() -> None:
    response = await Sidecar().client().get("/docs/_search", headers={"X-Request-Id": "r"})
    assert response.text == "from the engine"
    assert set(response.headers) == {"content-length", "content-type"}


@pytest.mark.parametrize(
    "path", ["/_whyrank/x", "/_whyrank/../x", "/_whyrank/%2e%2e/%2e%2e/app.py", "/_whyrank/health/x"]
)
async def test_an_unknown_path_of_ours_is_our_404(path: str) -> None:
    response = await Sidecar().client().get(path.replace("/../", "/%2e%2e/"))
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found"


async def test_a_wrong_method_is_our_405() -> None:
    response = await Sidecar().client().post("/_whyrank/health")
    assert response.status_code == 405
    assert response.json()["error"]["type"] == "method_not_allowed"
    assert response.headers["allow"].startswith("GET")


async def test_the_request_id_comes_back_and_the_engines_own_too() -> None:
    client = Sidecar().client()
    assert (await client.get("/_whyrank/health", headers={"X-Request-Id": "a-1"})).headers["x-request-id"] == "a-1"
    both = (await client.get("/_whyrank/health", headers={"X-Opaque-Id": "b-2"})).headers
    assert (both["x-request-id"], both["x-opaque-id"]) == ("b-2", "b-2")
    assert len((await client.get("/_whyrank/health")).headers["x-request-id"]) == 32


async def test_the_request_id_is_in_the_logs_of_its_request_only() -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        for name in ("one", "two"):
            body = {"query": "q", "documents": ["d"]}
            await Sidecar().client().post("/v2/rerank", json=body, headers={"X-Request-Id": name})
    reranked = [line for line in lines if line["event"] == "reranked"]
    assert [line["search_id"] for line in reranked] == ["one", "two"]
    assert "search_id" not in structlog.contextvars.get_contextvars()


@pytest.mark.parametrize("path", ["/_whyrank/health", "/_whyrank/nothing", "/_whyrank/", "/v1/rankings/x"])
async def test_answers_of_ours_carry_protective_headers(path: str) -> None:
    headers = (await Sidecar().client().get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]


async def test_health_is_ok_even_when_every_part_is_down() -> None:
    sidecar = Sidecar()
    sidecar.states.update(dict.fromkeys(sidecar.states, PartState("down")))
    response = await sidecar.client().get("/_whyrank/health")
    assert (response.status_code, response.json()["status"]) == (200, "ok")


async def test_ready_when_all_is_well() -> None:
    response = await Sidecar().client().get("/_whyrank/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "parts": {name: {"state": "ok", "reason": ""} for name in ("engine", "model", "policies", "redis")},
    }


@pytest.mark.parametrize("part", ["redis", "policies"])
async def test_without_a_part_that_only_betters_answers_it_is_degraded(part: str) -> None:
    sidecar = Sidecar()
    sidecar.states[part] = PartState("down", "gone")
    response = await sidecar.client().get("/_whyrank/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["parts"][part] == {"state": "down", "reason": "gone"}


async def test_a_model_that_is_not_ready_is_named_with_its_reason() -> None:
    sidecar = Sidecar()
    sidecar.model.info = ModelInfo(ready=False, revision="", weights=FusionWeights(), reason="loading")
    response = await sidecar.client().get("/_whyrank/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["parts"]["model"] == {"state": "degraded", "reason": "loading"}


async def test_without_the_engine_it_is_not_ready() -> None:
    sidecar = Sidecar()
    sidecar.states["engine"] = PartState("down", "connection refused")
    response = await sidecar.client().get("/_whyrank/ready")
    assert (response.status_code, response.json()["status"]) == (503, "unready")


@pytest.mark.parametrize("fault", ["raises", "hangs"])
async def test_a_check_that_fails_or_hangs_is_a_part_that_is_down(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> PartState:
        if fault == "hangs":
            await asyncio.Event().wait()
        raise EngineUnavailableError("connection refused")

    monkeypatch.setattr("plugin_service.api.health._CHECK_S", 0.01)
    sidecar = Sidecar()
    sidecar.parts.checks["engine"] = check  # type: ignore[index]
    response = await sidecar.client().get("/_whyrank/ready")
    assert response.status_code == 503
    reason = response.json()["parts"]["engine"]["reason"]
    assert ("no answer" if fault == "hangs" else "refused") in reason


async def test_policies_are_listed() -> None:
    sidecar = Sidecar()
    weights = FusionWeights(0.25, 0.5, 0.25)
    sidecar.policies.policies["a"] = Policy(index="a", fields=("x",), weights=weights, similarity=False)
    listed = (await sidecar.client().get("/_whyrank/policies")).json()["policies"]
    assert [policy["index"] for policy in listed] == ["a", "docs"]
    assert listed[0]["weights"] == {"engine": 0.25, "relevance": 0.5, "similarity": 0.25}
    assert [policy["similarity"] for policy in listed] == [False, True]
    assert listed[1] == {
        "index": "docs",
        "enabled": True,
        "fields": ["title", "body"],
        "window": 10,
        "deadline_ms": 300,
        "mode": "reason",
        "passage_tokens": 256,
        "weights": None,
        "similarity": True,
    }


async def scrape(sidecar: Sidecar) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = (await sidecar.client().get("/_whyrank/metrics")).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


async def test_figures_of_a_search() -> None:
    sidecar = Sidecar()
    for _ in range(2):
        await sidecar.client().post("/v2/rerank", json={"query": "q", "documents": ["a", "b", "c"]})
    sidecar.metrics.outcome(judge(Pair("k", "q", Passage("q"))))
    sidecar.metrics.outcome(VerdictFailure(FailureKind.TOO_LONG))
    figures = await scrape(sidecar)
    searches = (("door", "cohere"), ("reason", "all_judged"), ("status", "complete"))
    assert figures["whyrank_searches_total", searches] == 2
    assert figures["whyrank_verdict_lookups_total", (("result", "hit"),)] == 3
    assert figures["whyrank_verdict_lookups_total", (("result", "miss"),)] == 3
    assert figures["whyrank_stage_seconds_count", (("stage", "rank"),)] == 2
    assert figures["whyrank_queue_pairs", (("queue", "interactive"),)] == 3
    assert figures["whyrank_outcomes_total", (("outcome", "verdict"),)] == 1
    assert figures["whyrank_outcomes_total", (("outcome", "too_long"),)] == 1
    assert figures["whyrank_model_ready", ()] == 1
    assert figures["whyrank_policies", ()] == 1


async def test_a_queue_depth_that_cannot_be_known_is_absent_and_not_zero() -> None:
    sidecar = Sidecar()
    await scrape(sidecar)
    sidecar.depths = StoreUnavailableError("down")
    assert not [name for name, _ in await scrape(sidecar) if name == "whyrank_queue_pairs"]


async def test_open_metrics_is_served_to_who_asks_for_it() -> None:
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    response = await Sidecar().client().get("/_whyrank/metrics", headers=headers)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert list(parse_openmetrics(response.text))


def test_reasons_cannot_make_time_series_without_bound() -> None:
    sidecar = Sidecar()
    for reason in ["Uncoded text", "", "x" * 41, "drop table;", *(f"code_{i}: {i}" for i in range(500))]:
        sidecar.metrics.search("proxy", "complete", reason)
    series = {
        sample.labels["reason"]
        for family in sidecar.metrics.registry.collect()
        if family.name == "whyrank_searches"
        for sample in family.samples
    }
    assert len(series) == 65
    assert "other" in series


def test_every_metric_is_in_the_docs_and_no_other() -> None:
    lines = (ROOT / "docs" / "metrics.md").read_text().splitlines()
    documented = {line.split("`")[1] for line in lines if line.startswith("| `whyrank_")}
    registered = {
        family.name + ("_total" if family.type == "counter" else "")
        for registry in (Sidecar().metrics.registry, WorkerMetrics().registry)
        for family in registry.collect()
        if family.name.startswith("whyrank_")
    }
    assert documented == registered


def test_the_committed_openapi_is_the_live_one() -> None:
    committed = json.loads((ROOT / "docs" / "api" / "openapi.json").read_text())
    assert committed == json.loads(json.dumps(own_routes().openapi())), "run: make docs"


async def test_the_openapi_names_every_route_and_is_served() -> None:
    document = (await Sidecar().client().get("/_whyrank/openapi.json")).json()
    assert set(document["paths"]) == {
        "/v1/rescore",
        "/v2/rerank",
        "/v1/rerank",
        "/rerank",
        "/v1/rankings/{ranking_id}",
        "/v1/rankings/{ranking_id}/events",
        "/_whyrank/policies",
        "/_whyrank/health",
        "/_whyrank/ready",
        "/_whyrank/metrics",
    }


async def test_pages_are_served_and_not_sent_again_while_unchanged(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>Search</title>")
    client = Sidecar(static=tmp_path).client()
    page = await client.get("/_whyrank/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    again = await client.get("/_whyrank/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    bare = await client.get("/_whyrank")
    assert bare.status_code == 307
    assert bare.headers["location"].endswith("/_whyrank/")


async def run_lifespan(app: Any) -> list[str]:
    inbox = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        return next(inbox)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return sent


async def test_parts_start_and_stop_with_the_server() -> None:
    sidecar = Sidecar()
    assert await run_lifespan(sidecar.app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert sidecar.lifespan == ["start", "stop"]


async def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await Sidecar().app({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert sent == ["websocket.close"]
