"""Our plugin in a cluster of two nodes: hits, options and statistics travel between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.integration.engine_plugin_rig import DOCS, QUERY, WINDOW, Engine, Json, document, ids, rescored_engine, said
from whyrank.embedded import engine, engine_plugin, jars
from whyrank.embedded.cache import Cache
from whyrank.embedded.parts import Part, free_port, get_json, running
from whyrank.embedded.process import Launch

NODES = 2
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    """One rig for each node, all of them on the same index; shards are on both nodes."""
    folder = tmp_path_factory.mktemp("nodes")
    port = free_port(*engine.PORTS)
    urls = [engine.url(port + n) for n in range(NODES)]

    def both() -> bool:
        status, health = get_json(f"{urls[-1]}/_cluster/health")
        return status == 200 and health["number_of_nodes"] == NODES

    part = Part("nodes", port, lambda _: two_nodes(folder, port), both, stop_grace_s=15.0)
    with ExitStack() as stack:
        stack.enter_context(running(part, folder / "nodes.log"))
        first = stack.enter_context(rescored_engine(urls[0]))
        clients = [first.http, stack.enter_context(httpx.Client(base_url=urls[1], timeout=60))]
        spread = {"number_of_shards": 4, "number_of_replicas": 0, "index.search.default_pipeline": first.pipeline()}
        index = first.new_index([document(n) for n in range(DOCS)], settings=spread)
        shards = first.call("GET", f"/_cat/shards/{index}", params={"format": "json"}).json()
        holders = {shard["node"] for shard in shards}
        assert len(holders) == NODES
        yield [Engine(client, first.sidecar, index) for client in clients]


def two_nodes(folder: Path, port: int) -> Launch:
    """The embedded engine's command, with another node in the same process."""
    cache = Cache()
    installed = jars.install(engine.LOCK, cache)
    launch = engine._launch(folder, port, "two-nodes", installed, plugin=engine_plugin.classes(installed, cache))
    command = list(launch.command)
    command[command.index("-numOfNode") + 1] = str(NODES)
    return Launch(command)


@pytest.mark.parametrize("node", range(NODES))
def test_hits_of_other_nodes_are_rescored(cluster: list[Engine], node: int) -> None:
    rig = cluster[node]
    rig.sidecar.reset()
    for body in ({}, {"fields": ["title"], "_source": False}, {"_source": ["price"]}, {"docvalue_fields": ["price"]}):
        asked: Json = {"query": QUERY, "size": WINDOW, "ext": {"whyrank": {"user": "u"}}, **body}
        found = rig.search(asked)
        plain = rig.plain({**asked, "ext": {}})
        assert ids(found) == ids(plain)[::-1]
        assert found["_shards"] == plain["_shards"]
        assert all(len(hit["fields"]) == 2 for hit in rig.sidecar.asked[-1]["hits"])


def test_options_travel_to_the_shards_where_no_request_processor_takes_them(cluster: list[Engine]) -> None:
    rig = cluster[0]
    rig.sidecar.reset()
    name = rig.pipeline(response_processors=[rig.processor()])
    options = {"query": "q", "enabled": True, "explain": True, "window": 7, "deadline_ms": 50, "mode": "label"}
    more = {"ranking": "r", "tenant": "t", "user": "u"}
    found = rig.search(
        {"query": QUERY, "size": 5, "ext": {"whyrank": {**options, **more}}}, params={"search_pipeline": name}
    )
    assert said(found)["status"] == "complete"
    assert rig.plain({"query": QUERY, "ext": {"whyrank": {**options, **more}}})["_shards"]["failed"] == 0


def test_statistics_are_gathered_from_all_nodes(cluster: list[Engine]) -> None:
    for rig in cluster:
        rig.search({"query": QUERY})
    told = cluster[1].ok("GET", "/_plugins/_whyrank/stats")
    assert told["_nodes"] == {"total": NODES, "successful": NODES, "failed": 0}
    assert [node["searches"] > 0 for node in told["nodes"].values()] == [True] * NODES
    assert {node["name"] for node in told["nodes"].values()} == {"Node 1", "Node 2"}
    named = next(iter(told["nodes"]))
    assert list(cluster[0].ok("GET", f"/_plugins/_whyrank/{named}/stats")["nodes"]) == [named]


def test_every_node_has_the_pipeline_that_one_was_told_of(cluster: list[Engine]) -> None:
    params = {"search_pipeline": cluster[0].pipeline(cluster[0].processor(window=5))}
    for rig in cluster:
        ends = time.monotonic() + PATIENCE_S
        while rig.call("GET", f"/_search/pipeline/{params['search_pipeline']}").status_code != 200:
            assert time.monotonic() < ends
        assert said(rig.search({"query": QUERY, "size": 2}, params=params))["window"] == 5
