"""An engine that cannot be asked from here: as the admin says it is, with nothing in it yet."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from whyrank.connect.survey import Survey
from whyrank.engines import EngineAnswer, EngineKind, Json


def assumed_survey(kind: EngineKind, number: str) -> Survey:
    """One that has all that a door may need: whether it does is for the admin to see."""
    licence = "enterprise" if kind is EngineKind.ELASTICSEARCH else None
    return Survey(kind=kind, number=number, licence=licence)


class AssumedEngine:
    """Answers a plan's questions as an engine without pipelines, endpoints and settings of ours."""

    async def request(
        self, method: str, path: str, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> EngineAnswer:
        """See `Engine.request`."""
        del body, params
        if (method, path) == ("GET", "/_cluster/settings"):
            return EngineAnswer(200, {"persistent": {}, "transient": {}, "defaults": {}})
        index, slash, rest = path[1:].partition("/")
        if method == "GET" and slash and rest == "_settings":
            return EngineAnswer(200, {unquote(index): {"settings": {}}})
        return EngineAnswer(404, {})
