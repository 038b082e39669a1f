"""Redis or Valkey: verdicts, rankings, leases and the job queues."""

from __future__ import annotations

import time
from collections.abc import Sequence

from whyrank.doctor.context import Context, asked
from whyrank.doctor.findings import Finding, broken, ok, warning
from whyrank.doctor.registry import check
from whyrank.errors import StoreUnavailableError

_FULL = 0.9


@check("redis.reachable")
async def reachable(context: Context) -> Sequence[Finding]:
    """Redis answers, and within WHYRANK_REDIS_TIMEOUT_S: a search waits no longer for it."""
    try:
        redis = await context.redis()
        began = time.monotonic()
        await asked(redis.ping)
        took_s = time.monotonic() - began
        info = await context.redis_info()
    except StoreUnavailableError as error:
        return [broken(str(error), "start Redis or Valkey, or set WHYRANK_REDIS_URL to it")]
    limit_s = context.settings.redis_timeout_s
    name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info.get('redis_version', ''))}"
    if took_s > limit_s:
        remedy = "bring Redis nearer, or raise WHYRANK_REDIS_TIMEOUT_S"
        return [broken(f"{name} took {took_s * 1000:.0f} ms, searches wait {limit_s * 1000:.0f}", remedy)]
    return [ok(f"{name}, {took_s * 1000:.1f} ms away")]


@check("redis.role", needs=["redis.reachable"])
async def role(context: Context) -> Sequence[Finding]:
    """WHYRANK_REDIS_URL names a primary: a replica refuses to write."""
    info = await context.redis_info()
    if info.get("role") in ("slave", "replica"):
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        return [broken(f"it is a replica of {primary}: nothing can be written", "set WHYRANK_REDIS_URL to the primary")]
    return [ok("it is a primary")]


@check("redis.eviction", needs=["redis.reachable"])
async def eviction(context: Context) -> Sequence[Finding]:
    """What Redis does when it is full: it may drop verdicts, and must not drop queues."""
    info = await context.redis_info()
    policy, limit = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory", 0))
    advice = "CONFIG SET maxmemory-policy volatile-lru: verdicts and rankings expire, queues do not"
    if policy.startswith("allkeys"):
        what = f"maxmemory-policy is {policy}: a full Redis drops queued jobs as it drops verdicts"
        return [broken(what, advice) if limit else warning(what, advice)]
    if policy == "noeviction" and limit:
        return [warning("maxmemory-policy is noeviction: once full, every search is answered `failed`", advice)]
    return [ok(f"maxmemory-policy is {policy}{'' if limit else ', memory is not limited'}")]


@check("redis.memory", needs=["redis.reachable"])
async def memory(context: Context) -> Sequence[Finding]:
    """Redis is not nearly full."""
    info = await context.redis_info()
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if limit and used > _FULL * limit:
        share = f"{used / limit:.0%} of {limit >> 20} MB"
        return [warning(f"memory is used up to {share}", "raise maxmemory, or lower WHYRANK_VERDICT_TTL_S")]
    return [ok(f"{used >> 20} MB in use")]
