"""Elasticsearch's `custom` inference service as the door."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from whyrank.connect.doors import custom as door
from whyrank.connect.steps import Door
from whyrank.connect.survey import refusal
from whyrank.doctor.context import Context, once
from whyrank.doctor.findings import Finding, broken, ok, warning
from whyrank.doctor.registry import check
from whyrank.engines import EngineKind

_CONNECT = "whyrank connect elasticsearch --door custom --apply"
_WHOLE = re.compile(r'"incomplete"\s*:\s*"error"')
_WAITS_MS = 30_000
"""How long the retriever waits for us."""
_PATHS = ("/v1/rerank", "/v2/rerank")


@check("custom.used", needs=["engine.reachable"])
async def used(context: Context) -> Sequence[Finding]:
    """Some inference endpoint asks WhyRank, under a licence that allows its use."""
    endpoints = await _endpoints(context)
    if context.door is not Door.CUSTOM and not endpoints:
        return []
    unfit = door.unfit(await context.survey())
    if unfit is not None:
        return [broken(unfit, "use the proxy: whyrank connect elasticsearch --door proxy")]
    if not endpoints:
        return [broken("no inference endpoint asks WhyRank", _CONNECT)]
    return [ok(f"it asks {_settings(endpoint).get('url')}", endpoint["inference_id"]) for endpoint in endpoints]


@check("custom.request", needs=["custom.used"])
async def request(context: Context) -> Sequence[Finding]:
    """The request template is one that the retriever can fill (unquoted, no ${top_n}), and asks for all or nothing."""
    found: list[Finding] = []
    for endpoint in await _endpoints(context):
        name, template = endpoint["inference_id"], str(_settings(endpoint).get("request", ""))
        remedy = f"delete it, and create it anew: {_CONNECT}"
        if "${top_n}" in template:
            found.append(broken("its template has ${top_n}: the retriever gives none, and fails", remedy, name))
        elif '"${query}"' in template or '"${input}"' in template:
            found.append(broken("its template quotes ${query} or ${input}, which come as JSON already", remedy, name))
        elif "${query}" not in template or "${input}" not in template:
            found.append(broken("its template does not send ${query} and ${input}", remedy, name))
        elif not _WHOLE.search(template):
            what = 'its template has no "incomplete":"error": documents without verdicts keep the order of shards'
            found.append(warning(what, remedy, name))
        else:
            found.append(ok("its template can be filled", name))
    return found


@check("custom.response", needs=["custom.used"])
async def response(context: Context) -> Sequence[Finding]:
    """The endpoint reads scores and places of our answers; without places it takes them for the order sent."""
    found: list[Finding] = []
    for endpoint in await _endpoints(context):
        name, parser = endpoint["inference_id"], _settings(endpoint).get("response", {}).get("json_parser", {})
        remedy = f"delete it, and create it anew: {_CONNECT}"
        if parser.get("relevance_score") != "$.results[*].relevance_score":
            found.append(broken("its json_parser does not read $.results[*].relevance_score", remedy, name))
        elif parser.get("reranked_index") != "$.results[*].index":
            found.append(broken("its json_parser does not read $.results[*].index", remedy, name))
        else:
            found.append(ok("it reads scores and places", name))
    return found


@check("custom.deadline", needs=["custom.used"])
async def deadline(context: Context) -> Sequence[Finding]:
    """The sidecar answers before the retriever gives up, after 30 s."""
    deadline_ms = context.settings.rerank_deadline_ms
    if not await _endpoints(context):
        return []
    if deadline_ms >= _WAITS_MS:
        what = f"the sidecar answers after {deadline_ms} ms, the retriever waits 30 s"
        return [broken(what, "lower WHYRANK_RERANK_DEADLINE_MS")]
    return [ok(f"the sidecar answers after {deadline_ms} ms at most")]


@check("custom.live", needs=["custom.used"], active=True)
async def live(context: Context) -> Sequence[Finding]:
    """The engine gets an order from WhyRank through the endpoint."""
    engine = await context.engine()
    found: list[Finding] = []
    for endpoint in await _endpoints(context):
        name = endpoint["inference_id"]
        body = {"query": "whyrank doctor", "input": ["whyrank doctor", "something else"]}
        answer = await engine.request("POST", f"/_inference/rerank/{quote(name, safe='')}", body)
        if "503" in refusal(answer):
            what = f"no order while verdicts are missing, so the engine's stays: {refusal(answer)}"
            found.append(warning(what, "see the findings on model and workers", name))
        elif not answer.ok:
            what = f"the engine got no order: {refusal(answer)}"
            found.append(broken(what, "see custom.request and sidecar.parts", name))
        elif len(answer.body.get("rerank", ())) != len(body["input"]):
            found.append(warning("the engine got fewer documents than it sent", "see custom.response", name))
        else:
            found.append(ok("the engine gets an order", name))
    return found


@once
async def _endpoints(context: Context) -> list[Mapping[str, Any]]:
    """Those of the `custom` service that ask a sidecar."""
    if (await context.survey()).kind is not EngineKind.ELASTICSEARCH or context.door not in (None, Door.CUSTOM):
        return []
    answer = await context.ask("/_inference/rerank/_all")
    if not answer.ok:
        return []
    return [
        endpoint
        for endpoint in answer.body.get("endpoints", ())
        if endpoint.get("service") == "custom"
        and urlsplit(str(_settings(endpoint).get("url", ""))).path.endswith(_PATHS)
    ]


def _settings(endpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(endpoint.get("service_settings") or {})
