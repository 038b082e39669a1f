"""The indices that are rescored: their fields, their windows, and the search pipelines that they have by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from whyrank.connect.doors.plugin import DEFAULT_PIPELINE, NONE, PROCESSOR, default_pipelines
from whyrank.doctor.context import Context
from whyrank.doctor.findings import Finding, broken, ok, unknown, warning
from whyrank.doctor.registry import check
from whyrank.engines import EngineKind

_WITHOUT_TEXT = frozenset(
    {
        *("object", "nested", "binary", "geo_point", "geo_shape", "point", "shape", "percolator", "join"),
        *("dense_vector", "sparse_vector", "knn_vector", "rank_feature", "rank_features", "histogram"),
    }
)
_DEFAULT_RESULT_WINDOW = 10_000
_PAGE = 10
"""Hits of a page where a search does not say how many."""


@check("index.exists", needs=["engine.policies"])
async def exists(context: Context) -> Sequence[Finding]:
    """Every index with a policy is there."""
    engine = await context.engine()
    found: list[Finding] = []
    for name, policy in (await context.indices()).items():
        if not await engine.index_exists(name):
            remedy = f"create it, or: whyrank disable {name} --forget"
            found.append(warning("there is no such index", remedy, name))
        elif policy is None:
            remedy = f"whyrank enable {name} --fields title,body"
            found.append(warning("it has no policy: the proxy does not rescore it", remedy, name))
        elif not policy.enabled:
            found.append(warning("its policy is switched off", f"whyrank enable {name}", name))
        else:
            found.append(ok(f"rescored: {', '.join(policy.fields)}, window {policy.window}", name))
    return found


@check("index.fields", needs=["engine.policies"])
async def fields(context: Context) -> Sequence[Finding]:
    """The policy's fields are in the mapping and hold text, and `_source` is kept: there the text is read."""
    found: list[Finding] = []
    for name, policy in (await context.indices()).items():
        answer = await context.ask(f"/{quote(name, safe='')}/_mapping")
        if policy is None or answer.status == 404:
            continue
        if not answer.ok:
            found.append(unknown(f"its mapping may not be read ({answer.status})", name))
            continue
        for concrete, about in answer.body.items():
            mapping = about.get("mappings", {})
            problems = [said for field in policy.fields if (said := _problem(mapping, field)) is not None]
            if mapping.get("_source", {}).get("enabled") is False:
                problems.append("_source is not kept, so there is no text to read")
            if problems:
                what, remedy = "; ".join(problems), f"whyrank enable {name} --fields ..., with fields that hold text"
                all_wrong = len(problems) >= len(policy.fields)
                found.append(broken(what, remedy, concrete) if all_wrong else warning(what, remedy, concrete))
            else:
                found.append(ok(f"has text in {', '.join(policy.fields)}", concrete))
    return found


@check("index.window", needs=["engine.policies"])
async def window(context: Context) -> Sequence[Finding]:
    """The window holds a page of 10, the engines' default, and fits into `index.max_result_window`."""
    found: list[Finding] = []
    for name, policy in (await context.indices()).items():
        answer = await context.ask(f"/{quote(name, safe='')}/_settings", flat_settings="true")
        if policy is None or not answer.ok:
            continue
        for concrete, about in answer.body.items():
            limit = int(about.get("settings", {}).get("index.max_result_window", _DEFAULT_RESULT_WINDOW))
            if policy.window > limit:
                what = f"the window is {policy.window}, index.max_result_window {limit}: searches stay as they are"
                found.append(broken(what, f"whyrank enable {name} --window {limit}", concrete))
            elif policy.window < _PAGE:
                what = f"the window is {policy.window}: a search for {_PAGE} hits, the default, is not rescored"
                found.append(warning(what, f"whyrank enable {name} --window {_PAGE}", concrete))
            else:
                found.append(ok(f"window {policy.window} of {limit}", concrete))
    return found


@check("index.deadline", needs=["engine.policies"])
async def deadline(context: Context) -> Sequence[Finding]:
    """The policy's deadline is not cut by WHYRANK_MAX_DEADLINE_MS."""
    most = context.settings.max_deadline_ms
    return [
        warning(
            f"its deadline of {policy.deadline_ms} ms is cut to WHYRANK_MAX_DEADLINE_MS, {most}",
            f"whyrank enable {name} --deadline-ms {most}",
            name,
        )
        for name, policy in (await context.indices()).items()
        if policy is not None and policy.deadline_ms > most
    ]


@check("index.pipeline", needs=["engine.policies"])
async def pipeline(context: Context) -> Sequence[Finding]:
    """A default search pipeline is there, and whatever reranks in it has `ignore_failure`."""
    if (await context.survey()).kind is not EngineKind.OPENSEARCH:
        return []
    engine, pipelines = await context.engine(), await context.pipelines()
    found: list[Finding] = []
    for name in await context.indices():
        if not await engine.index_exists(name):
            continue
        for concrete, default in (await default_pipelines(engine, name)).items():
            if default == NONE:
                continue
            if default not in pipelines:
                what = f"its default pipeline {default!r} does not exist: every search of it fails"
                remedy = f'PUT {concrete}/_settings {{"{DEFAULT_PIPELINE}": null}}, or create the pipeline'
                found.append(broken(what, remedy, concrete))
            else:
                found += _default(concrete, default, pipelines[default])
    return found


@check("index.twice", needs=["engine.policies"])
async def twice(context: Context) -> Sequence[Finding]:
    """No index is rescored by the proxy and by the plugin, one after the other."""
    if (await context.survey()).kind is not EngineKind.OPENSEARCH:
        return []
    engine, pipelines = await context.engine(), await context.pipelines()
    found: list[Finding] = []
    for name, policy in (await context.indices()).items():
        if policy is None or not policy.enabled or not await engine.index_exists(name):
            continue
        defaults = (await default_pipelines(engine, name)).values()
        if any(PROCESSOR in one for default in defaults for one in response_processors(pipelines.get(default, {}))):
            found.append(
                ok("the plugin rescores it; searches through the proxy should say search_pipeline=_none", name)
            )
    return found


def response_processors(pipeline: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The processors of a pipeline that see the answer, each as `{type: settings}`."""
    return list(pipeline.get("response_processors", ()))


def field_of(mapping: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    """What the mapping says of a field, by its dotted path; None where it does not know it.

    A multi-field gives `{"type": "multi-field"}`: its text is in `_source` under the field's own name alone.
    """
    here: Mapping[str, Any] = mapping
    names = path.split(".")
    for place, name in enumerate(names):
        properties = here.get("properties", {})
        # the name of a field may hold dots
        rest = ".".join(names[place:])
        if rest in properties:
            return dict(properties[rest])
        if name not in properties:
            return {"type": "multi-field"} if name in here.get("fields", {}) else None
        here = properties[name]
        if here.get("type") == "flattened":
            return here
    return here


def _problem(mapping: Mapping[str, Any], path: str) -> str | None:
    field = field_of(mapping, path)
    if field is None:
        return f"{path} is not in the mapping"
    kind = field.get("type", "object")
    if kind == "multi-field":
        return f"{path} is a multi-field: its text stands in _source under the field that it belongs to"
    if kind == "alias":
        return f"{path} is an alias: its text stands in _source as {field.get('path')}"
    return f"{path} holds no text, its type is {kind}" if kind in _WITHOUT_TEXT else None


def _default(concrete: str, default: str, pipeline: Mapping[str, Any]) -> list[Finding]:
    found = []
    for processor in response_processors(pipeline):
        for kind in ("rerank", "ml_inference", PROCESSOR):
            if kind in processor and not processor[kind].get("ignore_failure"):
                what = f"the processor {kind} of its default pipeline {default!r} has no ignore_failure"
                why = {"rerank": ": searches without ext.rerank, and those with size 0, fail"}.get(kind, "")
                found.append(broken(what + why, f"set ignore_failure: true in {default!r}", concrete))
    return found or [ok(f"default pipeline {default!r}", concrete)]
