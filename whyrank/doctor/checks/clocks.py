"""Clocks: deadlines travel from sidecar to worker as times of day."""

from __future__ import annotations

import time
from collections.abc import Sequence

from whyrank.doctor.context import Context, asked
from whyrank.doctor.findings import Finding, ok, unknown, warning
from whyrank.doctor.registry import check

_SKEW_S = 5.0
_WORDS = "whyrank doctor"
_NTP = "set both machines' clocks by NTP: with clocks apart, jobs count as stale too early or too late"


@check("clocks.redis", needs=["redis.reachable"])
async def redis(context: Context) -> Sequence[Finding]:
    """Redis' machine and this one agree on the time."""
    seconds, microseconds = await asked((await context.redis()).time)
    return [_compared("Redis", seconds + microseconds / 1e6)]


@check("clocks.sidecar", needs=["sidecar.reachable", "redis.reachable"], active=True)
async def sidecar(context: Context) -> Sequence[Finding]:
    """The sidecar's machine and this one agree on the time."""
    # a ranking says when it was made
    answer = await context.sidecar.rerank(_WORDS, [_WORDS], deadline_ms=0, explain=False)
    if answer.ranking_id is None:
        return [unknown(f"it made no ranking: {answer.reason}")]
    return [_compared("the sidecar", (await context.sidecar.ranking(answer.ranking_id)).created)]


@check("clocks.engine", needs=["engine.reachable"])
async def engine(context: Context) -> Sequence[Finding]:
    """The engine's machines and this one agree on the time."""
    answer = await context.ask("/_nodes/stats/os", filter_path="nodes.*.timestamp")
    if not answer.ok or not answer.body:
        return [unknown(f"the nodes' statistics may not be read ({answer.status})")]
    times = [node["timestamp"] / 1000 for node in answer.body["nodes"].values()]
    worst = max(times, key=lambda at: abs(at - time.time()))
    return [_compared("the engine", worst)]


def _compared(whose: str, then: float) -> Finding:
    skew = then - time.time()
    if abs(skew) > _SKEW_S:
        return warning(f"the clock of {whose} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}", _NTP)
    return ok(f"the clock of {whose} agrees")
