"""Our plugin in OpenSearch as the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from whyrank.connect.doors import plugin as door
from whyrank.connect.doors.plugin import (
    ALLOWED,
    ENABLED,
    ENDPOINT,
    NONE,
    PROCESSOR,
    default_pipelines,
    is_allowed,
)
from whyrank.connect.steps import Door
from whyrank.connect.survey import cluster_setting, is_true, refusal
from whyrank.connect.wish import is_loopback
from whyrank.doctor.checks.indices import response_processors
from whyrank.doctor.context import Context, once
from whyrank.doctor.findings import Finding, broken, ok, unknown, warning
from whyrank.doctor.registry import check
from whyrank.engines import EngineKind
from whyrank.types import Status

_CONNECT = "whyrank connect opensearch --door plugin --index {index} --apply"
_WORDS = "whyrank doctor"
_SHARED = ("fields", "window", "deadline_ms", "mode")
_DEFAULTS = {"window": 10, "deadline_ms": 300}
"""The plugin's own; without a mode, the policy's holds."""


class _Use(msgspec.Struct, frozen=True):
    """A pipeline with our processor, and the indices whose default it is."""

    pipeline: str
    processor: Mapping[str, Any]
    widens: bool
    """It has our request processor, too."""
    indices: tuple[str, ...]

    @property
    def url(self) -> str:
        """The sidecar that it asks."""
        return str(self.processor.get("url", "")).rstrip("/").removesuffix(ENDPOINT)


@check("plugin.used", needs=["engine.policies"])
async def used(context: Context) -> Sequence[Finding]:
    """Our processor is on every node, and in the default pipeline of the index."""
    uses = await _uses(context)
    if context.door is not Door.PLUGIN and not uses:
        return []
    unfit = door.unfit(await context.survey())
    if unfit is not None:
        return [broken(unfit, "install it, or take another door: whyrank connect opensearch")]
    found: list[Finding] = []
    for use in uses:
        if use.indices:
            found.append(ok(f"default of {', '.join(use.indices)}", use.pipeline))
        else:
            remedy = f"searches name it (search_pipeline={use.pipeline}), or make it the default of an index"
            found.append(ok(f"no index looked at has it by default; {remedy}", use.pipeline))
    if context.index is not None and not any(use.indices for use in uses):
        remedy = _CONNECT.format(index=context.index)
        found.append(broken("our processor is not in its default pipeline", remedy, context.index))
    elif not uses:
        found.append(broken("no search pipeline has our processor", _CONNECT.format(index="INDEX")))
    return found


@check("plugin.address", needs=["plugin.used"])
async def address(context: Context) -> Sequence[Finding]:
    """The nodes allow the processor's address, and a sidecar answers there, as far as this machine can tell."""
    found: list[Finding] = []
    for use in await _uses(context):
        if await is_allowed(await context.engine(), use.url) is False:
            remedy = f"add it to {ALLOWED} in opensearch.yml of every node, and restart them"
            found.append(broken(f"the nodes do not let searches be sent to {use.url}", remedy, use.pipeline))
            continue
        if is_loopback(use.url) and not is_loopback(context.settings.engine_url):
            found.append(
                unknown(f"{use.url} is the engine's own machine, which cannot be asked from here", use.pipeline)
            )
            continue
        try:
            answer = await context.http.get(f"{use.url.rstrip('/')}/_whyrank/health")
            well = answer.is_success and "version" in answer.json()
        except (httpx.HTTPError, ValueError):
            well = False
        if well:
            found.append(ok(f"a sidecar answers at {use.url}", use.pipeline))
        else:
            what = f"no sidecar answers at {use.url} from here; the engine may see another network"
            found.append(warning(what, f"set the url of the processor in {use.pipeline!r}", use.pipeline))
    return found


@check("plugin.switch", needs=["plugin.used"])
async def switch(context: Context) -> Sequence[Finding]:
    """The plugin is switched on, in the cluster and in the pipeline."""
    uses = await _uses(context)
    if not uses:
        return []
    on, _, _ = await cluster_setting(await context.engine(), ENABLED)
    found: list[Finding] = []
    if on is not None and not is_true(on):
        found.append(
            broken(f"{ENABLED} is false: nothing is rescored", f"set {ENABLED} to true in the cluster's settings")
        )
    off = [use.pipeline for use in uses if not is_true(use.processor.get("enabled", True))]
    for name in off:
        found.append(warning("its processor is switched off", f"set enabled: true in {name!r}", name))
    return found or [ok("it is switched on")]


@check("plugin.window", needs=["plugin.used"])
async def window(context: Context) -> Sequence[Finding]:
    """The pipeline has our request processor, too, which has the whole window fetched."""
    return [
        ok("it fetches the whole window", use.pipeline)
        if use.widens
        else broken(
            "it has no request processor of ours: each page is reranked by itself, and hits may come twice or never",
            f'add {{"{PROCESSOR}": {{"ignore_failure": true}}}} to the request_processors of {use.pipeline!r}',
            use.pipeline,
        )
        for use in await _uses(context)
    ]


@check("plugin.settings", needs=["plugin.used"])
async def settings(context: Context) -> Sequence[Finding]:
    """The processor's fields, window and deadline are those of the policy: what it says is in the policy's place."""
    policies = await context.policies()
    found: list[Finding] = []
    for use in await _uses(context):
        for name in use.indices:
            policy = policies.get(name)
            if policy is None:
                continue
            given = {**_DEFAULTS, **use.processor}
            theirs = {key: tuple(given[key]) if key == "fields" else given[key] for key in _SHARED if key in given}
            other = [key for key, value in theirs.items() if value != getattr(policy, key)]
            if other:
                what = f"{', '.join(other)} of the processor in {use.pipeline!r} differ from the policy, and prevail"
                found.append(warning(what, "set them alike, in the pipeline or by whyrank enable", name))
            else:
                found.append(ok("the policy's settings hold", name))
    return found


@check("plugin.search", needs=["plugin.used"], active=True)
async def search(context: Context) -> Sequence[Finding]:
    """A search of the engine itself is rescored."""
    engine = await context.engine()
    found: list[Finding] = []
    for use in await _uses(context):
        for name in use.indices:
            body = {"query": {"match_all": {}}, "size": 1, "ext": {"whyrank": {"query": _WORDS, "deadline_ms": 0}}}
            answer = await engine.request("POST", f"/{quote(name, safe='')}/_search", body)
            if not answer.ok:
                found.append(broken(f"a search failed: {refusal(answer)}", f"see the pipeline {use.pipeline!r}", name))
                continue
            told = answer.body.get("ext", {}).get("whyrank")
            if told is None:
                found.append(broken("a search was not rescored", f"see the pipeline {use.pipeline!r}", name))
            elif told.get("status") == Status.FAILED:
                remedy = "see plugin.address, sidecar.parts and the engine's log"
                found.append(broken(f"searches are not rescored: {told.get('reason')}", remedy, name))
            else:
                found.append(ok(f"searches are rescored (now: {told.get('status')})", name))
    return found


@once
async def _uses(context: Context) -> list[_Use]:
    if (await context.survey()).kind is not EngineKind.OPENSEARCH or context.door not in (None, Door.PLUGIN):
        return []
    engine = await context.engine()
    by_default: dict[str, list[str]] = {}
    for name in await context.indices():
        if await engine.index_exists(name):
            for default in set((await default_pipelines(engine, name)).values()) - {NONE}:
                by_default.setdefault(default, []).append(name)
    return [
        _Use(
            name,
            processor[PROCESSOR],
            any(PROCESSOR in one for one in body.get("request_processors", ())),
            tuple(sorted(by_default.get(name, ()))),
        )
        for name, body in (await context.pipelines()).items()
        for processor in response_processors(body)
        if PROCESSOR in processor
    ]
