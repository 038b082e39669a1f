"""The search engine."""

from __future__ import annotations

from collections.abc import Sequence

from whyrank.doctor.context import Context
from whyrank.doctor.findings import Finding, broken, ok, unknown, warning
from whyrank.doctor.registry import check
from whyrank.engines.policies import POLICY_INDEX
from whyrank.errors import EngineError


@check("engine.reachable")
async def reachable(context: Context) -> Sequence[Finding]:
    """The engine answers at WHYRANK_ENGINE_URL, and is OpenSearch or Elasticsearch."""
    try:
        survey = await context.survey()
    except EngineError as error:
        return [broken(str(error), "start the engine, or set WHYRANK_ENGINE_URL (and user, password, CA) to it")]
    nodes = "one node" if survey.nodes == 1 else f"{survey.nodes} nodes"
    return [ok(f"{survey.name}, {nodes}")]


@check("engine.health", needs=["engine.reachable"])
async def health(context: Context) -> Sequence[Finding]:
    """No shard of the engine is missing (cluster health red)."""
    answer = await context.ask("/_cluster/health")
    if not answer.ok:
        return [unknown(f"the cluster's health may not be read ({answer.status})")]
    status = answer.body["status"]
    if status == "red":
        return [broken("the cluster is red: some indices cannot be searched", "see GET _cluster/allocation/explain")]
    return [ok(f"the cluster is {status}")]


@check("engine.policies", needs=["engine.reachable"])
async def policies(context: Context) -> Sequence[Finding]:
    """Every policy in the engine can be read."""
    known = await context.policies()
    engine = await context.engine()
    if not await engine.index_exists(POLICY_INDEX):
        return [warning("no index has a policy", "whyrank enable INDEX --fields title,body")]
    every = {"size": 10_000, "query": {"term": {"kind": "policy"}}, "_source": False}
    answer = await engine.search(POLICY_INDEX, every)
    unreadable = sorted({hit["_id"] for hit in answer["hits"]["hits"]} - known.keys())
    if unreadable:
        names = ", ".join(unreadable)
        return [
            broken(
                f"policies that cannot be read, so that their indices are not rescored: {names}",
                "write each anew (whyrank disable INDEX --forget, whyrank enable INDEX --fields ...)",
            )
        ]
    on = sum(policy.enabled for policy in known.values())
    if not on:
        return [warning("no index is rescored: every policy is switched off", "whyrank enable INDEX")]
    return [ok(f"{on} of {len(known)} policies switched on")]
