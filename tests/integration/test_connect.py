"""`whyrank connect` on real engines: what they say of themselves, and real changes applied and taken back."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from whyrank.connect.applying import ApplyError, Outcome, apply, take_back
from whyrank.connect.doors import DOORS, best, ml_commons, plugin
from whyrank.connect.records import Records
from whyrank.connect.steps import Door, Plan, Request, Step
from whyrank.connect.survey import as_list, cluster_setting, survey
from whyrank.connect.wish import Wish
from whyrank.engines import Engine, EngineKind, connect
from whyrank.engines.policies import POLICY_INDEX
from whyrank.errors import EngineError
from whyrank.settings import Settings

NOWHERE = "http://127.0.0.1:1"
AUTO_CREATE = "action.auto_create_index"


@pytest.fixture(params=["opensearch", "elasticsearch"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    engine = await connect(Settings(engine_url=request.getfixturevalue(f"{request.param}_url")))
    yield engine
    await engine.delete_index(POLICY_INDEX)
    await engine.close()


@pytest.fixture
async def opensearch(opensearch_url: str) -> AsyncIterator[Engine]:
    engine = await connect(Settings(engine_url=opensearch_url))
    yield engine
    await engine.delete_index(POLICY_INDEX)
    await engine.close()


@pytest.fixture
async def index(opensearch: Engine) -> AsyncIterator[str]:
    name = f"connect-{uuid.uuid4().hex[:8]}"
    await opensearch.ensure_index(name, {"properties": {"title": {"type": "text"}}}, {"number_of_replicas": 0})
    yield name
    await opensearch.delete_index(name)


def command(engine_url: str, *arguments: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    whyrank = [sys.executable, "-m", "whyrank.cli", "connect", *arguments]
    places = ["--engine-url", engine_url, "--home", str(home), "--sidecar-url", "http://127.0.0.1:8080"]
    return subprocess.run([*whyrank, *places], capture_output=True, text=True, check=False, env=env or None)


async def test_real_engines_say_what_they_have(engine: Engine) -> None:
    known = await survey(engine)
    assert known.kind is (await engine.info()).kind
    assert known.uuid
    assert known.nodes == 1
    assert known.plugins is not None
    assert known.version >= (3, 0)
    if known.kind is EngineKind.OPENSEARCH:
        assert known.processors is not None
        assert plugin.PROCESSOR in known.processors
        assert best(known) is Door.PLUGIN
        assert DOORS[Door.ML_COMMONS].unfit(known) == "the plugin opensearch-ml is not installed on every node"
    else:
        assert (known.processors, known.licence) == (None, None)
        assert "no licensing" in str(DOORS[Door.CUSTOM].unfit(known))
        assert best(known) is Door.PROXY


async def test_a_name_for_several_indices_has_each_ones_default(opensearch: Engine, index: str) -> None:
    other = f"{index}-2"
    await opensearch.ensure_index(other, {}, {"number_of_replicas": 0})
    alias = f"{index}-alias"
    actions = [{"add": {"index": name, "alias": alias}} for name in (index, other)]
    try:
        assert (await opensearch.request("POST", "/_aliases", {"actions": actions})).ok
        assert (await opensearch.request("PUT", f"/_search/pipeline/{index}", {"response_processors": []})).ok
        changed = await opensearch.request("PUT", f"/{other}/_settings", {plugin.DEFAULT_PIPELINE: index})
        assert changed.ok
        assert await plugin.default_pipelines(opensearch, alias) == {index: plugin.NONE, other: index}
    finally:
        await opensearch.delete_index(other)
        await opensearch.request("DELETE", f"/_search/pipeline/{index}")


async def test_cluster_settings_are_read_with_where_they_come_from(engine: Engine) -> None:
    value, persistent, place = await cluster_setting(engine, AUTO_CREATE)
    assert (value, persistent, place) == ("true", None, "defaults")
    try:
        assert (await engine.request("PUT", "/_cluster/settings", {"persistent": {AUTO_CREATE: False}})).ok
        assert await cluster_setting(engine, AUTO_CREATE) == ("false", "false", "persistent")
        listed = {"cluster.routing.allocation.awareness.attributes": ["rack", "zone"]}
        assert (await engine.request("PUT", "/_cluster/settings", {"persistent": listed})).ok
        (name,) = listed
        assert as_list((await cluster_setting(engine, name))[0]) == ["rack", "zone"]
    finally:
        off = {AUTO_CREATE: None, "cluster.routing.allocation.awareness.attributes": None}
        await engine.request("PUT", "/_cluster/settings", {"persistent": off})


async def plugin_plan(engine: Engine, index: str) -> Plan:
    """The plugin's door, with a sidecar that is not there."""
    wish = Wish(NOWHERE, index, fields=("title",), window=20)
    return await plugin.plan(engine, await survey(engine), wish)


async def told_by(engine: Engine, index: str) -> dict[str, Any] | None:
    """What a search of the index says of WhyRank; its hits are the engine's."""
    answer = await engine.search(index, {"query": {"match": {"title": "a"}}})
    assert [hit["_id"] for hit in answer["hits"]["hits"]] == ["1"]
    told: dict[str, Any] | None = answer.get("ext", {}).get("whyrank")
    return told


async def test_the_plugin_rescores_every_search_once_it_is_connected(opensearch: Engine, index: str) -> None:
    told: list[tuple[str, Outcome]] = []
    await opensearch.put_document(index, "1", {"title": "a"}, refresh=True)
    assert await told_by(opensearch, index) is None
    plan = await plugin_plan(opensearch, index)
    await apply(opensearch, plan, index, {}, lambda title, outcome, _: told.append((title, outcome)))
    summary = await told_by(opensearch, index)
    assert summary is not None, "the processor takes our settings, and the index has the pipeline by default"
    assert (summary["status"], summary["reason"].split(":")[0]) == ("failed", "sidecar_unreachable")
    record = await Records(opensearch).load(Door.PLUGIN, index)
    assert record is not None
    assert await take_back(opensearch, record.undo, lambda title, outcome, _: told.append((title, outcome))) == []
    assert await told_by(opensearch, index) is None
    assert [outcome for _, outcome in told] == [Outcome.DONE, Outcome.DONE, Outcome.UNDONE, Outcome.UNDONE]
    await Records(opensearch).forget(record)
    assert await Records(opensearch).load(Door.PLUGIN, index) is None


async def test_what_somebody_else_changed_stays(opensearch: Engine, index: str) -> None:
    theirs = f"theirs-{index}"
    outcomes: list[Outcome] = []
    record = await apply(opensearch, await plugin_plan(opensearch, index), index, {}, lambda *_: None)
    assert (await opensearch.request("PUT", f"/_search/pipeline/{theirs}", {"response_processors": []})).ok
    assert (await opensearch.request("PUT", f"/{index}/_settings", {plugin.DEFAULT_PIPELINE: theirs})).ok
    try:
        await take_back(opensearch, record.undo, lambda _t, outcome, _d: outcomes.append(outcome))
        assert outcomes == [Outcome.LEFT, Outcome.UNDONE]
        assert await plugin.default_pipelines(opensearch, index) == {index: theirs}
    finally:
        await opensearch.request("PUT", f"/{index}/_settings", {plugin.DEFAULT_PIPELINE: None})
        await opensearch.request("DELETE", f"/_search/pipeline/{theirs}")


async def test_a_step_that_the_engine_refuses_takes_the_others_back(opensearch: Engine, index: str) -> None:
    plan = await plugin_plan(opensearch, index)
    bad = Step("Ask too much", Request("PUT", f"/{index}/_settings", {"index.number_of_shards": 7}))
    with pytest.raises(ApplyError, match="number_of_shards") as failed:
        await apply(opensearch, Plan(plan.door, (*plan.steps, bad)), index, {}, lambda *_: None)
    assert failed.value.left == ()
    assert await plugin.default_pipelines(opensearch, index) == {index: plugin.NONE}
    assert (await opensearch.request("GET", f"/_search/pipeline/{plugin.pipeline_name(index)}")).status == 404
    assert await Records(opensearch).load(Door.PLUGIN, index) is None


async def test_the_nodes_say_which_sidecars_they_allow(opensearch: Engine, index: str) -> None:
    assert await plugin.is_allowed(opensearch, NOWHERE) is True
    assert await plugin.is_allowed(opensearch, "http://whyrank:8080") is False
    with pytest.raises(EngineError, match=r"whyrank\.allowed_urls"):
        await plugin.plan(opensearch, await survey(opensearch), Wish("http://whyrank:8080", index, fields=("title",)))
    assert (await cluster_setting(opensearch, plugin.ENABLED))[0] == "true"


async def test_ml_commons_cluster_settings_are_unknown_to_an_engine_without_it(opensearch: Engine) -> None:
    """Its plan is made all the same, and its first step is refused: nothing is left behind."""
    plan = await ml_commons.plan(opensearch, await survey(opensearch), Wish("http://whyrank:8080", fields=("title",)))
    with pytest.raises(ApplyError, match=r"plugins\.ml_commons"):
        await apply(opensearch, plan, "whyrank", {"WHYRANK_KEY": "k"}, lambda *_: None)
    persistent = (await opensearch.request("GET", "/_cluster/settings")).body["persistent"]
    assert "plugins" not in persistent


def test_the_command_on_a_real_engine_takes_the_best_door_and_refuses_the_others(
    opensearch_url: str, elasticsearch_url: str, tmp_path: Path
) -> None:
    shown = command(elasticsearch_url, "elasticsearch", "--index", "docs", "--json", home=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["door"] == "proxy"
    refused = command(elasticsearch_url, "elasticsearch", "--door", "custom", home=tmp_path)
    assert refused.returncode == 1
    assert "What can: proxy" in refused.stderr
    other = command(opensearch_url, "elasticsearch", home=tmp_path)
    assert other.returncode == 1
    assert "whyrank connect opensearch" in other.stderr
    without = command(opensearch_url, "opensearch", "--door", "ml-commons", "--fields", "title", home=tmp_path)
    assert without.returncode == 1
    assert "opensearch-ml is not installed" in without.stderr
