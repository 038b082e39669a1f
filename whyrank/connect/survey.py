"""Who an engine is and what it has, as far as it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from whyrank.engines import Engine, EngineAnswer, EngineKind, Json
from whyrank.errors import EngineError

_NUMBERS = re.compile(r"\d+")


class Asks(Protocol):
    """What a plan needs of an engine: the least part of `Engine`."""

    async def request(
        self, method: str, path: str, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> EngineAnswer:
        """See `Engine.request`."""
        ...


class Survey(msgspec.Struct, frozen=True):
    """An engine as it presents itself. What it does not say (or not to this user) is None."""

    kind: EngineKind
    number: str
    """Its version, as `3.8.0`."""
    cluster: str = ""
    uuid: str = ""
    plugins: frozenset[str] | None = None
    """Names of the plugins that every node has."""
    processors: frozenset[str] | None = None
    """Types of search-response processors that every node has; OpenSearch alone has such."""
    licence: str | None = None
    """Elasticsearch's: `basic`, `trial`, `enterprise` ...; None where there is no licensing at all."""
    nodes: int = 1

    @property
    def version(self) -> tuple[int, ...]:
        """Major, minor, patch."""
        return tuple(int(part) for part in _NUMBERS.findall(self.number)[:3])

    @property
    def name(self) -> str:
        """For a person."""
        return f"{'OpenSearch' if self.kind is EngineKind.OPENSEARCH else 'Elasticsearch'} {self.number}"


async def survey(engine: Engine) -> Survey:
    """Ask the engine. Raises EngineError when it does not answer as one."""
    info = await engine.info()
    root = (await engine.request("GET", "/")).body
    plugins, nodes = await _plugins(engine)
    opensearch = info.kind is EngineKind.OPENSEARCH
    return Survey(
        kind=info.kind,
        number=info.version,
        cluster=str(root.get("cluster_name", "")),
        uuid=str(root.get("cluster_uuid", "")),
        plugins=plugins,
        processors=await _processors(engine) if opensearch else None,
        licence=None if opensearch else await _licence(engine),
        nodes=nodes,
    )


def refusal(answer: EngineAnswer) -> str:
    """The engine's reason for not doing what was asked, on one line."""
    error: Any = answer.body.get("error") if isinstance(answer.body, dict) else answer.body
    if isinstance(error, dict):
        causes = error.get("root_cause") or [error]
        error = f"{causes[0].get('type')}: {causes[0].get('reason')}"
    return f"{answer.status} {' '.join(str(error or '').split())[:300]}".strip()


async def _plugins(engine: Asks) -> tuple[frozenset[str] | None, int]:
    """Plugins of every node (one that only some nodes have cannot be relied on), and how many nodes there are."""
    nodes = await engine.request("GET", "/_nodes/plugins", params={"filter_path": "nodes.*.plugins.name"})
    if not nodes.ok or not isinstance(nodes.body, dict):
        return None, 1
    by_node = [
        frozenset(str(plugin.get("name")) for plugin in node.get("plugins", []))
        for node in nodes.body.get("nodes", {}).values()
    ]
    # nodes without any plugin do not appear under this filter
    count = await engine.request("GET", "/_cluster/health", params={"filter_path": "number_of_nodes"})
    total = int(count.body.get("number_of_nodes", 1)) if count.ok and isinstance(count.body, dict) else len(by_node)
    if len(by_node) < total:
        return frozenset(), total
    return frozenset.intersection(*by_node) if by_node else frozenset(), total


async def _processors(engine: Asks) -> frozenset[str] | None:
    answer = await engine.request("GET", "/_nodes/search_pipelines")
    if not answer.ok or not isinstance(answer.body, dict):
        return None
    by_node = [
        frozenset(str(known.get("type")) for known in node.get("search_pipelines", {}).get("response_processors", []))
        for node in answer.body.get("nodes", {}).values()
    ]
    return frozenset.intersection(*by_node) if by_node else None


async def _licence(engine: Asks) -> str | None:
    answer = await engine.request("GET", "/_license")
    if not answer.ok or not isinstance(answer.body, dict):
        return None
    licence = answer.body.get("license", {})
    return str(licence["type"]) if licence.get("status") == "active" and "type" in licence else None


def expect(answer: EngineAnswer, what: str) -> Any:
    """The body of an answer that did what was asked. Raises EngineError saying what could not be done."""
    if not answer.ok:
        raise EngineError(f"{what}: {refusal(answer)}")
    return answer.body


async def cluster_setting(engine: Asks, name: str) -> tuple[Any, Any, str]:
    """A cluster setting: its effective value, the persistent one (None: unset), and where the former comes from.

    Raises EngineError when the settings may not be read.
    """
    answer = await engine.request(
        "GET", "/_cluster/settings", params={"flat_settings": "true", "include_defaults": "true"}
    )
    settings = expect(answer, "the cluster's settings cannot be read")
    persistent = settings.get("persistent", {}).get(name)
    for place in ("transient", "persistent", "defaults"):
        if name in settings.get(place, {}):
            return settings[place][name], persistent, place
    return None, persistent, "defaults"


def as_list(value: Any) -> list[str]:
    """A setting that is a list, as engines give it: an array, or one text with commas."""
    if isinstance(value, str):
        return [part for part in value.split(",") if part]
    return [str(item) for item in value or []]


def is_true(value: Any) -> bool:
    """A boolean setting, which engines give as text."""
    return str(value).lower() == "true"
