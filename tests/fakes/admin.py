"""An engine as its administrators see it: settings, search pipelines, ml-commons and inference endpoints, in memory.

It plays what the engines document of these interfaces, and no more. `refuse` makes a request fail.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

from typing_extensions import override

from tests.fakes.engine import FakeEngine
from whyrank.engines import EngineAnswer, EngineInfo, EngineKind, Json

OK = {"acknowledged": True}


class AdminEngine(FakeEngine):
    """`processors` and `plugins` are those of every node; `sent` are all requests that change something."""

    def __init__(self, kind: EngineKind = EngineKind.OPENSEARCH, version: str = "3.8.0") -> None:
        super().__init__()
        self.kind, self.version = kind, version
        self.plugins: list[str] = []
        self.processors: list[str] = ["truncate_hits"]
        self.licence: str | None = None
        self.node_settings: dict[str, Any] = {}
        self.cluster: dict[str, dict[str, Any]] = {"persistent": {}, "transient": {}}
        self.defaults: dict[str, Any] = {}
        self.index_settings: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, list[str]] = {}
        self.pipelines: dict[str, Any] = {}
        self.connectors: dict[str, Any] = {}
        self.models: dict[str, Any] = {}
        self.endpoints: dict[str, Any] = {}
        self.mappings: dict[str, Any] = {}
        self.answers: dict[tuple[str, str], EngineAnswer] = {}
        """Answers to give in place of those of this fake, by method and path."""
        self.refuse: Callable[[str, str], EngineAnswer | None] = lambda _method, _path: None
        self.sent: list[tuple[str, str, Any]] = []
        self._ids = itertools.count(1)

    @override
    async def info(self) -> EngineInfo:
        self._answer()
        return EngineInfo(kind=self.kind, version=self.version)

    @override
    async def index_exists(self, name: str) -> bool:
        return name in self.index_settings or name in self.aliases or await super().index_exists(name)

    @override
    async def request(
        self, method: str, path: str, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> EngineAnswer:
        self._answer()
        body = json.loads(json.dumps(body))  # whatever is not JSON does not get out of the client
        if method != "GET":
            self.sent.append((method, path, body))
        refused = self.refuse(method, path) or self.answers.get((method, path))
        answer = refused or self._route(method, path, body, params or {})
        return EngineAnswer(answer.status, copy.deepcopy(answer.body))

    def _route(self, method: str, path: str, body: Any, params: Mapping[str, str]) -> EngineAnswer:
        parts = path.strip("/").split("/")
        match [method, *parts]:
            case ["GET", ""]:
                return _ok({"cluster_name": "test", "cluster_uuid": "u1", "version": {"number": self.version}})
            case ["GET", "_nodes", "plugins"]:
                plugins = [{"name": name} for name in self.plugins]
                return _ok({"nodes": {"n1": {"plugins": plugins}} if plugins else {}})
            case ["GET", "_nodes", "settings"]:
                return _ok({"nodes": {"n1": {"settings": self.node_settings}}})
            case ["GET", "_cluster", "health"]:
                return _ok({"number_of_nodes": 1, "status": "green"})
            case ["GET", "_nodes", "search_pipelines"]:
                known = [{"type": name} for name in self.processors]
                return _ok({"nodes": {"n1": {"search_pipelines": {"response_processors": known}}}})
            case ["GET", "_license"] if self.licence is not None:
                return _ok({"license": {"status": "active", "type": self.licence}})
            case [_, "_cluster", "settings"]:
                return self._cluster(method, body, params)
            case [_, "_search", "pipeline", *_]:
                return self._stored(method, self.pipelines, parts[2:], body)
            case [_, "_plugins", "_ml", *rest]:
                return self._ml(method, rest, body)
            case [_, "_inference", "rerank", *_]:
                return self._inference(method, parts[2], body)
            case [_, index, "_settings"]:
                return self._settings(method, index, body)
            case ["GET", index, "_mapping"] if index in self.mappings:
                return _ok({index: {"mappings": self.mappings[index]}})
        return _error(404 if len(parts) == 2 else 400, "no_handler_exception", f"no handler for {method} {path}")

    def _cluster(self, method: str, body: Any, params: Mapping[str, str]) -> EngineAnswer:
        if method == "PUT":
            for name, value in body["persistent"].items():
                self.cluster["persistent"].pop(name, None)
                if value is not None:
                    self.cluster["persistent"][name] = str(value).lower() if isinstance(value, bool) else value
            return _ok(OK)
        assert params["flat_settings"] == "true"
        hidden = {**self.cluster["persistent"], **self.cluster["transient"]}
        defaults = {name: value for name, value in self.defaults.items() if name not in hidden}
        return _ok({**self.cluster, **({"defaults": defaults} if "include_defaults" in params else {})})

    @staticmethod
    def _stored(method: str, kept: dict[str, Any], names: list[str], body: Any) -> EngineAnswer:
        if method == "GET" and not names:
            return _ok(kept)
        (name,) = names
        if method == "PUT":
            kept[name] = body
            return _ok(OK)
        if name not in kept:
            return _error(404, "resource_not_found_exception", f"{name} is missing")
        if method == "DELETE":
            del kept[name]
            return _ok(OK)
        return _ok({name: kept[name]})

    def _ml(self, method: str, rest: list[str], body: Any) -> EngineAnswer:
        match [method, *rest]:
            case ["POST", "connectors", "_create"]:
                connector_id = f"c{next(self._ids)}"
                self.connectors[connector_id] = {key: value for key, value in body.items() if key != "credential"}
                return _ok({"connector_id": connector_id})
            case ["POST", "models", "_register"]:
                model_id = f"m{next(self._ids)}"
                self.models[model_id] = {"model_state": "DEPLOYED", "connector_id": body["connector_id"]}
                return _ok({"task_id": "t", "status": "CREATED", "model_id": model_id})
            case ["POST", "models", model_id, "_undeploy"] if model_id in self.models:
                self.models[model_id]["model_state"] = "UNDEPLOYED"
                return _ok({})
            case ["GET", "models", model_id] if model_id in self.models:
                return _ok(self.models[model_id])
            case ["GET", "connectors", connector_id] if connector_id in self.connectors:
                return _ok(self.connectors[connector_id])
            case ["DELETE", "models", model_id] if model_id in self.models:
                if self.models[model_id]["model_state"] == "DEPLOYED":
                    return _error(400, "illegal_argument_exception", "Model cannot be deleted, it is deployed")
                del self.models[model_id]
                return _ok({"result": "deleted"})
            case ["DELETE", "connectors", connector_id] if connector_id in self.connectors:
                if any(model["connector_id"] == connector_id for model in self.models.values()):
                    return _error(400, "illegal_argument_exception", "models are still using this connector")
                del self.connectors[connector_id]
                return _ok({"result": "deleted"})
        return _error(404, "status_exception", "Failed to find it")

    def _inference(self, method: str, name: str, body: Any) -> EngineAnswer:
        if self.licence is None:
            return _error(400, "no_handler_exception", "no handler found")
        if name == "_all":
            return _ok({"endpoints": [{"inference_id": key, **value} for key, value in self.endpoints.items()]})
        if method == "PUT":
            service = body["service_settings"]
            kept = {key: value for key, value in service.items() if key != "secret_parameters"}
            self.endpoints[name] = {"task_type": "rerank", "service": body["service"], "service_settings": kept}
            return _ok({"inference_id": name})
        if method == "POST" and name in self.endpoints:
            return _ok({"rerank": [{"index": n, "relevance_score": 1.0} for n, _ in enumerate(body["input"])]})
        return self._stored(method, self.endpoints, [name], body)

    def _settings(self, method: str, index: str, body: Any) -> EngineAnswer:
        names = self.aliases.get(index, [index])
        if not all(name in self.index_settings for name in names):
            return _error(404, "index_not_found_exception", f"no such index [{index}]")
        if method == "PUT":
            for name in names:
                for key, value in body.items():
                    self.index_settings[name].pop(key, None)
                    if value is not None:
                        self.index_settings[name][key] = value
            return _ok(OK)
        return _ok({name: {"settings": self.index_settings[name]} for name in names})


def _ok(body: Any) -> EngineAnswer:
    return EngineAnswer(200, body)


def _error(status: int, kind: str, reason: str) -> EngineAnswer:
    cause = {"type": kind, "reason": reason}
    return EngineAnswer(status, {"error": {"root_cause": [cause], **cause}, "status": status})
