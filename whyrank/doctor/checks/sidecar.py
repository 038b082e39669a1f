"""The sidecar, as it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

import whyrank
from whyrank.client import ClientError
from whyrank.connect.wish import is_loopback
from whyrank.doctor.context import Context
from whyrank.doctor.findings import Finding, Level, broken, ok, unknown, warning
from whyrank.doctor.registry import check

_REMEDIES = {
    "engine": "set the sidecar's WHYRANK_ENGINE_URL, user and password",
    "redis": "see the findings on redis; the sidecar's WHYRANK_REDIS_URL may be another",
    "policies": "see the sidecar's log: its user needs to read the index .whyrank",
    "model": "see the findings on the model; until it is ready, searches keep the engine's order",
}


@check("sidecar.reachable")
async def reachable(context: Context) -> Sequence[Finding]:
    """A sidecar answers, of the version of this command."""
    try:
        health = await context.sidecar.health()
    except ClientError as error:
        return [broken(str(error), "start it (python -m plugin_service, or whyrank up), or give --sidecar-url")]
    if health.version != whyrank.__version__:
        what = f"it is version {health.version}, this command {whyrank.__version__}"
        return [warning(what, "run the same version on both sides")]
    return [ok(f"version {health.version} at {context.places.sidecar_url}")]


@check("sidecar.parts", needs=["sidecar.reachable"])
async def parts(context: Context) -> Sequence[Finding]:
    """Every part that the sidecar stands on is well, as the sidecar sees it."""
    found: list[Finding] = []
    for name, part in (await context.ready()).parts.items():
        if part.state == "ok":
            found.append(ok(part.reason or "well", name))
        else:
            level = Level.BROKEN if part.state == "down" else Level.WARNING
            found.append(Finding(level, f"{part.state}: {part.reason}", _REMEDIES.get(name, "see its log"), name))
    return found


@check("sidecar.engine", needs=["sidecar.reachable", "engine.reachable"])
async def engine(context: Context) -> Sequence[Finding]:
    """The sidecar stands before the very engine that is looked at."""
    try:
        answer = await context.http.get(f"{context.places.sidecar_url}/", auth=context.auth)
        uuid = str(answer.json().get("cluster_uuid", "")) if answer.is_success else ""
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        return [broken(f"the engine behind the sidecar does not answer: {error}", _REMEDIES["engine"])]
    here = (await context.survey()).uuid
    if not uuid or not here:
        return [unknown(f"the engine does not say who it is ({answer.status_code})")]
    if uuid != here:
        return [broken("the sidecar stands before another engine", "set its WHYRANK_ENGINE_URL, or --engine-url here")]
    return [ok("it stands before this engine")]


@check("sidecar.policies", needs=["sidecar.reachable", "engine.policies"])
async def policies(context: Context) -> Sequence[Finding]:
    """The sidecar knows the policies as the engine has them, within WHYRANK_POLICY_REFRESH_S."""
    wanted = await context.policies()
    for _ in range(2):
        known = await context.sidecar.policies()
        stale = sorted(name for name in wanted.keys() | known.keys() if wanted.get(name) != known.get(name))
        if not stale:
            return [ok(f"it knows all {len(known)}")]
        await asyncio.sleep(context.settings.policy_refresh_s + 0.5)
    names = ", ".join(stale)
    return [broken(f"it rescores by policies that the engine does not have: {names}", "see sidecar.parts and its log")]


@check("sidecar.exposed", needs=["sidecar.reachable"])
async def exposed(context: Context) -> Sequence[Finding]:
    """The sidecar is not reached without TLS from elsewhere: it asks nobody who they are."""
    url = context.places.sidecar_url
    if is_loopback(url) or url.startswith("https://"):
        return [ok("reached over loopback or TLS")]
    return [
        warning(
            f"{url} is reached without TLS, and the sidecar has no authentication of its own",
            "put it behind something that authenticates and encrypts, or into a network of its own",
        )
    ]
