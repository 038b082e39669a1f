"""Our own processor in OpenSearch, in the default search pipeline of an index: no application changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

from whyrank.connect.steps import Door, Look, Plan, Request, Step, Undo
from whyrank.connect.survey import Asks, Survey, as_list, expect
from whyrank.connect.wish import Wish
from whyrank.engines import EngineKind
from whyrank.errors import BadRequestError, EngineError

PROCESSOR = "whyrank"
DEFAULT_PIPELINE = "index.search.default_pipeline"
NONE = "_none"
"""What the engine calls no pipeline."""
ALLOWED = "whyrank.allowed_urls"
"""The node's setting that says which sidecars a pipeline may name."""
LOOPBACK = ("http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*")
"""What is allowed where it is not set."""
ENABLED = "whyrank.enabled"
"""The cluster's switch for the whole plugin."""
ENDPOINT = "/v1/rescore"
_PORTS = {"http": 80, "https": 443}


def unfit(survey: Survey) -> str | None:
    """OpenSearch with our plugin on every node."""
    if survey.kind is not EngineKind.OPENSEARCH:
        return f"the plugin is for OpenSearch; this is {survey.name}"
    if survey.processors is not None and PROCESSOR not in survey.processors:
        return (
            f"the plugin is not installed on every node of this {survey.name} "
            "(opensearch-plugin install whyrank.zip on each, then restart it)"
        )
    return None


async def plan(engine: Asks, survey: Survey, wish: Wish) -> Plan:
    """A search pipeline with our processor, made the default of the index."""
    del survey
    index = wish.needed_index()
    if await is_allowed(engine, wish.sidecar_url) is False:
        raise EngineError(
            f"the nodes do not let searches be sent to {wish.sidecar_url}: add it to {ALLOWED} in opensearch.yml of "
            "every node, and restart them"
        )
    name = wish.name or pipeline_name(index)
    before = await default_pipelines(engine, index)
    if set(before.values()) == {name}:
        raise BadRequestError("index", f"{index!r} has the default pipeline {name!r} already")
    pipeline_path = f"/_search/pipeline/{quote(name, safe='')}"
    if (await engine.request("GET", pipeline_path)).ok:
        raise BadRequestError("name", f"there is a search pipeline {name!r} already; choose another name")
    kept = await _pipeline_before(engine, index, before)
    create = Step(
        "Create the search pipeline",
        Request("PUT", pipeline_path, pipeline(wish, kept)),
        undo=(Undo("Delete the search pipeline", Request("DELETE", pipeline_path)),),
    )
    use = Step(
        f"Make it the default of {index}",
        Request("PUT", f"/{quote(index, safe='')}/_settings", {DEFAULT_PIPELINE: name}),
        undo=tuple(_back(concrete, value, name) for concrete, value in before.items()),
    )
    notes = [
        "Every search of the index is rescored now, whoever sends it; search_pipeline=_none leaves one out.",
        "ignore_failure is set: whatever goes wrong, searches keep the engine's order.",
    ]
    if kept:
        old = next(iter(before.values()))
        notes.append(f"It holds the processors of {old!r}, the default so far, but will not follow changes of that.")
    words = {"query": {"match": {wish.needed_fields()[0]: "words of a user"}}}
    return Plan(Door.PLUGIN, (create, use), tuple(notes), Request("POST", f"/{index}/_search", words))


def pipeline_name(index: str) -> str:
    """Of the index's own pipeline."""
    return f"whyrank-{index}"


def pipeline(wish: Wish, kept: dict[str, Any]) -> dict[str, Any]:
    """The processors there were, then ours."""
    ours: dict[str, Any] = {"ignore_failure": True, "url": wish.sidecar_url, "fields": list(wish.needed_fields())}
    policy = wish.policy
    window = wish.window or (policy.window if policy else None)
    if window is not None:
        ours["window"] = window
    deadline_ms = policy.deadline_ms if wish.deadline_ms is None and policy else wish.deadline_ms
    if deadline_ms is not None:
        ours["deadline_ms"] = deadline_ms
    if wish.mode is not None:  # the policy's mode holds where none is said
        ours["mode"] = wish.mode.value
    return {
        **kept,
        # It takes its settings from the other, and has the whole window fetched: without it, a page is its own window.
        "request_processors": [*kept.get("request_processors", ()), {PROCESSOR: {"ignore_failure": True}}],
        "response_processors": [*kept.get("response_processors", ()), {PROCESSOR: ours}],
    }


async def default_pipelines(engine: Asks, index: str) -> dict[str, str]:
    """The default pipeline of each index behind a name, NONE where it has none. Raises EngineError."""
    answer = await engine.request("GET", f"/{quote(index, safe='')}/_settings", params={"flat_settings": "true"})
    told = expect(answer, f"the settings of {index} cannot be read")
    return {name: str(about.get("settings", {}).get(DEFAULT_PIPELINE, NONE)) for name, about in told.items()}


async def is_allowed(engine: Asks, url: str) -> bool | None:
    """Whether every node lets searches be sent to this address; None where the nodes' settings may not be read."""
    answer = await engine.request("GET", "/_nodes/settings", params={"flat_settings": "true"})
    if not answer.ok or not isinstance(answer.body, dict) or not answer.body.get("nodes"):
        return None
    nodes = [node.get("settings", {}) for node in answer.body["nodes"].values()]
    return all(covers(as_list(settings.get(ALLOWED)) or LOOPBACK, url) for settings in nodes)


def covers(entries: Iterable[str], url: str) -> bool:
    """Whether the plugin takes the address for one of these: `scheme://host[:port]`, with `*` and `*.domain`."""
    asked = urlsplit(url)
    port = asked.port or _PORTS.get(asked.scheme)
    host = (asked.hostname or "").lower()
    for entry in entries:
        scheme, _, place = entry.strip().rstrip("/").partition("://")
        name, colon, wanted = place.rpartition(":")
        if not colon or name.count("[") > name.count("]"):  # a colon of an IPv6 address is none of a port
            name, wanted = place, ""
        name = name.strip("[]").lower()
        hosts = name == "*" or (host.endswith(name[1:]) if name.startswith("*.") else host == name)
        ports = wanted == "*" or port == (int(wanted) if wanted.isdigit() else _PORTS.get(scheme))
        if scheme == asked.scheme and hosts and ports:
            return True
    return False


def _back(concrete: str, before: str, name: str) -> Undo:
    path = f"/{quote(concrete, safe='')}/_settings"
    value = None if before == NONE else before
    return Undo(
        f"Give {concrete} its default pipeline back: {'none' if value is None else value}",
        Request("PUT", path, {DEFAULT_PIPELINE: value}),
        Look(f"{path}?flat_settings=true", (concrete, "settings", DEFAULT_PIPELINE), name),
    )


async def _pipeline_before(engine: Asks, index: str, before: dict[str, str]) -> dict[str, Any]:
    """The pipeline that the index has had so far. Raises EngineError where its indices have different ones."""
    names = set(before.values())
    if len(names) > 1:
        told = ", ".join(f"{concrete}: {name}" for concrete, name in sorted(before.items()))
        raise EngineError(f"the indices behind {index} have different default pipelines ({told}): connect each alone")
    name = names.pop() if names else NONE
    if name == NONE:
        return {}
    answer = await engine.request("GET", f"/_search/pipeline/{quote(name, safe='')}")
    pipelines = expect(answer, f"{index} has the default pipeline {name!r}, which cannot be read")
    found: dict[str, Any] = pipelines.get(name, {})
    if any(PROCESSOR in processor for processor in found.get("response_processors", ())):
        raise BadRequestError("index", f"{index!r} is connected: its default pipeline {name!r} has our processor")
    return found
