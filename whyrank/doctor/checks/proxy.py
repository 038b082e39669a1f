"""The proxy as the door: a search through the sidecar against the same search of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx

from whyrank.connect.steps import Door
from whyrank.doctor.context import Context
from whyrank.doctor.findings import Finding, broken, ok, unknown, warning
from whyrank.doctor.registry import check
from whyrank.types import Status

_WORDS = "whyrank doctor"


@check("proxy.search", needs=["sidecar.reachable", "engine.policies", "sidecar.engine"], active=True)
async def search(context: Context) -> Sequence[Finding]:
    """A search of each rescored index passes the proxy, is rescored, and brings the engine's hits."""
    if context.door not in (None, Door.PROXY):
        return []
    engine = await context.engine()
    found: list[Finding] = []
    for name, policy in (await context.indices()).items():
        if policy is None or not policy.enabled or not await engine.index_exists(name):
            continue
        # no deadline: what is wanted is whether it is rescored, not to wait for verdicts
        body = {"query": {"match_all": {}}, "size": 1, "ext": {"whyrank": {"query": _WORDS, "deadline_ms": 0}}}
        try:
            url = f"{context.places.sidecar_url}/{quote(name, safe='')}/_search"
            answer = await context.http.post(url, json=body, auth=context.auth)
            content: Any = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            found.append(broken(f"a search through the proxy failed: {error}", "see the sidecar's log", name))
            continue
        found.append(_judged(name, answer, content))
    return found


def _judged(name: str, answer: httpx.Response, content: Any) -> Finding:
    reason = answer.headers.get("x-whyrank-reason", "no reason given")
    if not answer.is_success:
        return broken(f"a search through the proxy was answered {answer.status_code}", f"the reason: {reason}", name)
    told = content.get("ext", {}).get("whyrank") if isinstance(content, dict) else None
    if told is None:
        return broken("a search through the proxy was not rescored", f"the reason: {reason}", name)
    if told["status"] == Status.FAILED:
        return broken(f"searches are not rescored: {told['reason']}", "see the findings on redis and the sidecar", name)
    if not content["hits"]["hits"]:
        return unknown("the index holds no document to try with", name)
    if told["status"] in (Status.WARMING, Status.SHED):
        return warning(f"{told['status']}: {told['reason']}", "see the findings on model and workers", name)
    return ok(f"searches are rescored (now: {told['status']})", name)
