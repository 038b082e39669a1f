"""OpenSearch's ml-commons as the door: the traps of connector, model and pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from whyrank.connect.doors import ml_commons
from whyrank.connect.doors.ml_commons import PRIVATE, TRUSTED
from whyrank.connect.steps import Door
from whyrank.connect.survey import as_list, cluster_setting, is_true
from whyrank.connect.wish import is_public
from whyrank.doctor.checks.indices import field_of, response_processors
from whyrank.doctor.context import Context, once
from whyrank.doctor.findings import Finding, broken, ok, unknown, warning
from whyrank.doctor.registry import check
from whyrank.engines import EngineKind

_CONNECT = "whyrank connect opensearch --door ml-commons --apply"
_PATHS = ("/v1/rerank", "/v2/rerank")
_TOP_N = re.compile(r'"top_n"\s*:\s*(?P<value>[^,}\s]+)')
_IN_ORDER = re.compile(r'"order"\s*:\s*"input"')
_DEFAULT_TIMEOUT_S = 30


class _Use(msgspec.Struct, frozen=True):
    """A processor that asks a model of ours, and the connector behind it."""

    pipeline: str
    kind: str
    """`rerank`, or `ml_inference`, which hands our answer out by place."""
    processor: Mapping[str, Any]
    model_id: str
    model: Mapping[str, Any]
    connector: Mapping[str, Any]

    @property
    def action(self) -> Mapping[str, Any]:
        """How the connector asks us."""
        actions = [action for action in self.connector.get("actions", ()) if action.get("action_type") == "predict"]
        return actions[0] if actions else {}

    @property
    def url(self) -> str:
        """Where it asks us."""
        return str(self.action.get("url", ""))


@check("ml-commons.used", needs=["engine.reachable"])
async def used(context: Context) -> Sequence[Finding]:
    """Some search pipeline reranks by a model of WhyRank's."""
    if not await _concerned(context):
        return []
    unfit = ml_commons.unfit(await context.survey())
    if unfit is not None:
        return [broken(unfit, "install it, or take another door: whyrank connect opensearch")]
    uses = await _uses(context)
    if uses:
        return [ok(f"model at {use.url}", use.pipeline) for use in uses]
    return [broken("no search pipeline reranks by a model of WhyRank's", _CONNECT)]


@check("ml-commons.address", needs=["ml-commons.used"])
async def address(context: Context) -> Sequence[Finding]:
    """The connector's address is trusted, and reachable where it is a private one."""
    found: list[Finding] = []
    for use in await _uses(context):
        engine = await context.engine()
        trusted, _, _ = await cluster_setting(engine, TRUSTED)
        private, _, _ = await cluster_setting(engine, PRIVATE)
        if not any(_matches(pattern, use.url) for pattern in as_list(trusted)):
            pattern = ml_commons.trusted_pattern(use.url.rpartition("/v")[0])
            found.append(broken(f"{TRUSTED} does not allow {use.url}", f"add {pattern} to it", use.pipeline))
        elif not is_public(use.url) and not is_true(private):
            remedy = f"set {PRIVATE} to true: names and addresses of a private network are refused without it"
            found.append(broken(f"{PRIVATE} is false, and {use.url} is no public address", remedy, use.pipeline))
        else:
            found.append(ok("the address is allowed", use.pipeline))
    return found


@check("ml-commons.timeouts", needs=["ml-commons.used"])
async def timeouts(context: Context) -> Sequence[Finding]:
    """The connector waits longer than the sidecar's deadline, but not much, and does not try again."""
    deadline_ms = context.settings.rerank_deadline_ms
    found: list[Finding] = []
    for use in await _uses(context):
        client = use.connector.get("client_config") or {}
        waits_s = int(client.get("read_timeout", _DEFAULT_TIMEOUT_S))
        connects_s = int(client.get("connection_timeout", _DEFAULT_TIMEOUT_S))
        wanted_s = deadline_ms // 1000 + 1
        if waits_s * 1000 <= deadline_ms:
            what = f"read_timeout is {waits_s} s, the sidecar answers after {deadline_ms} ms: the engine gives up first"
            remedy = f"set the connector's read_timeout to {wanted_s}, or lower WHYRANK_RERANK_DEADLINE_MS"
            found.append(broken(what, remedy, use.pipeline))
        elif waits_s > wanted_s + _DEFAULT_TIMEOUT_S // 3 or connects_s > wanted_s:
            what = f"a sidecar that hangs holds a search up for {connects_s} s (connection) and {waits_s} s (answer)"
            remedy = f"set the connector's connection_timeout to 1 and read_timeout to {wanted_s} (whole seconds)"
            found.append(warning(what, remedy, use.pipeline))
        elif int(client.get("max_retry_times", 0)) != 0:
            what = "max_retry_times is not 0: a full queue is asked again and again"
            found.append(warning(what, "set the connector's max_retry_times to 0", use.pipeline))
        else:
            found.append(ok(f"it waits {waits_s} s, the sidecar answers after {deadline_ms} ms", use.pipeline))
    return found


@check("ml-commons.request", needs=["ml-commons.used"])
async def request(context: Context) -> Sequence[Finding]:
    """The connector asks for all documents, or the processor fails: "scores and hits are not the same length"."""
    found: list[Finding] = []
    for use in await _uses(context):
        template = str(use.action.get("request_body", ""))
        top_n = _TOP_N.search(template)
        post_process = str(use.action.get("post_process_function") or "")
        if top_n is not None and "parameters.top_n" not in top_n["value"]:
            remedy = 'leave top_n out of request_body, or write "top_n":${parameters.top_n}'
            found.append(broken(f"request_body asks for top_n {top_n['value']}", remedy, use.pipeline))
        elif "${parameters.documents}" not in template or "${parameters.query}" not in template:
            remedy = f"create the connector anew: {_CONNECT}"
            found.append(broken("request_body does not send ${parameters.query} and documents", remedy, use.pipeline))
        elif use.kind == "rerank" and "rerank" not in post_process:
            remedy = "set post_process_function to connector.post_process.cohere.rerank"
            found.append(broken("the connector has no post_process_function for rerank", remedy, use.pipeline))
        elif use.kind == "ml_inference" and (post_process or not _IN_ORDER.search(template)):
            remedy = f"create the connector anew: {_CONNECT} --explanations"
            what = 'ml_inference hands answers out by place: it needs "order":"input", and no post_process_function'
            found.append(broken(what, remedy, use.pipeline))
        else:
            found.append(ok("it asks for all documents", use.pipeline))
    return found


@check("ml-commons.model", needs=["ml-commons.used"])
async def model(context: Context) -> Sequence[Finding]:
    """The model is deployed."""
    return [
        ok("the model is deployed", use.pipeline)
        if use.model.get("model_state") == "DEPLOYED"
        else broken(
            f"the model is {use.model.get('model_state')}",
            f"POST _plugins/_ml/models/{use.model_id}/_deploy",
            use.pipeline,
        )
        for use in await _uses(context)
    ]


@check("ml-commons.pipeline", needs=["ml-commons.used"])
async def pipeline(context: Context) -> Sequence[Finding]:
    """The processor has `ignore_failure`: without it a search with size 0, or without ext.rerank, fails."""
    found: list[Finding] = []
    for use in await _uses(context):
        if not use.processor.get("ignore_failure"):
            what = f"the processor {use.kind} has no ignore_failure: a search with size 0 or without ext.rerank fails"
            found.append(broken(what, f"set ignore_failure: true in {use.pipeline!r}", use.pipeline))
        else:
            found.append(ok("failures keep the engine's order", use.pipeline))
        found += await _fields(context, use)
    return found


async def _fields(context: Context, use: _Use) -> list[Finding]:
    if context.index is None:
        return []
    answer = await context.ask(f"/{quote(context.index, safe='')}/_mapping")
    if not answer.ok:
        return [unknown(f"the mapping of {context.index} may not be read ({answer.status})", use.pipeline)]
    if use.kind == "rerank":
        wanted = list(use.processor.get("context", {}).get("document_fields", ()))
    else:
        wanted = [one["documents"] for one in use.processor.get("input_map", ()) if "documents" in one]
    return [
        warning(
            f"it reads {field}, which is not in the mapping of {concrete}",
            f"name fields that hold text in {use.pipeline!r}",
            use.pipeline,
        )
        for concrete, about in answer.body.items()
        for field in wanted
        if field_of(about.get("mappings", {}), field) is None
    ]


async def _concerned(context: Context) -> bool:
    """Whether this door is to be looked at: it was chosen, or it is there."""
    if context.door is not None:
        return context.door is Door.ML_COMMONS
    survey = await context.survey()
    return survey.kind is EngineKind.OPENSEARCH and ml_commons.unfit(survey) is None and bool(await _uses(context))


@once
async def _uses(context: Context) -> list[_Use]:
    if (await context.survey()).kind is not EngineKind.OPENSEARCH or context.door not in (None, Door.ML_COMMONS):
        return []
    found = []
    for name, body in (await context.pipelines()).items():
        for kind, processor in ((kind, one) for each in response_processors(body) for kind, one in each.items()):
            asks = processor.get("ml_opensearch", {}) if kind == "rerank" else processor
            if kind in ("rerank", "ml_inference") and "model_id" in asks:
                use = await _use(context, name, kind, processor, str(asks["model_id"]))
                if use is not None and urlsplit(use.url).path.endswith(_PATHS):
                    found.append(use)
    return found


async def _use(context: Context, pipeline: str, kind: str, processor: Mapping[str, Any], model_id: str) -> _Use | None:
    model = await context.ask(f"/_plugins/_ml/models/{quote(model_id, safe='')}")
    if not model.ok or "connector_id" not in model.body:
        return None
    path = f"/_plugins/_ml/connectors/{quote(str(model.body['connector_id']), safe='')}"
    connector = await context.ask(path)
    return _Use(pipeline, kind, processor, model_id, model.body, connector.body) if connector.ok else None


def _matches(pattern: str, url: str) -> bool:
    try:
        return re.fullmatch(pattern, url) is not None
    except re.error:  # written for Java
        return False
