"""Calls to a sidecar as the command line makes them: the same doors that applications use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from whyrank.errors import BadRequestError, IndexMissingError, WhyRankError

_TITLE_CHARS = 100


class SidecarError(WhyRankError):
    """The sidecar cannot be reached, or does not answer as one."""

    status = 503


@dataclass(frozen=True)
class Found:
    """A search's ranking (the body of `GET /v1/rankings/{id}`), and its hits' titles by (index, id)."""

    ranking: Mapping[str, Any]
    titles: Mapping[tuple[str, str], str]


class Sidecar:
    """One sidecar, by its address. Every call raises SidecarError when it does not answer as it should."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._last_reason = ""

    def policies(self) -> dict[str, dict[str, Any]]:
        """The policies that the sidecar knows, by index name."""
        return {policy["index"]: policy for policy in self._json("GET", "/_whyrank/policies")["policies"]}

    def model_ready(self) -> bool:
        """Whether the sidecar has seen the model server ready: until then its answers say `warming`."""
        return bool(self._json("GET", "/_whyrank/ready")["parts"]["model"]["state"] == "ok")

    def search(self, index: str, query: str, deadline_ms: int | None = None) -> Found:
        """Search the fields of the index's policy through the proxy, over the policy's whole window.

        `deadline_ms` None: the policy's. Raises BadRequestError where the index has no policy, IndexMissingError
        where it is not there.
        """
        policy = self.policies().get(index)
        if policy is None:
            raise BadRequestError("index", f"{index!r} has no policy (whyrank enable {index} --fields ...)")
        options: dict[str, Any] = {"query": query}
        if deadline_ms is not None:
            options["deadline_ms"] = deadline_ms
        body = {
            "size": policy["window"],
            "query": {"multi_match": {"query": query, "fields": policy["fields"]}},
            "ext": {"whyrank": options},
        }
        patience = 30.0 + (deadline_ms if deadline_ms is not None else policy["deadline_ms"]) / 1000
        answer = self._json("POST", f"/{index}/_search", body, patience)
        told = answer.get("ext", {}).get("whyrank")
        if told is None:
            raise SidecarError(f"the search was not rescored: {self._last_reason or 'no reason given'}")
        hits = answer["hits"]["hits"]
        titles = {(h["_index"], h["_id"]): _title(h.get("_source") or {}, policy["fields"]) for h in hits}
        return Found(self._json("GET", f"/v1/rankings/{told['ranking_id']}"), titles)

    def _json(self, method: str, path: str, body: object = None, timeout_s: float = 10.0) -> Any:
        try:
            answer = httpx.request(method, f"{self._url}{path}", json=body, timeout=timeout_s)
            self._last_reason = answer.headers.get("x-whyrank-reason", "")
            content = answer.json()
        except httpx.HTTPError as error:
            raise SidecarError(f"no sidecar answers at {self._url}: {error}") from error
        except ValueError as error:
            raise SidecarError(f"{self._url}{path} did not answer with JSON") from error
        if answer.status_code == 404 and path.endswith("/_search"):
            raise IndexMissingError(f"no such index: {path.split('/')[1]}")
        if answer.is_error:
            raise SidecarError(f"{self._url}{path} answered {answer.status_code}: {_reason(content)}")
        return content


def _reason(content: Any) -> str:
    """What an error answer says, ours or the engine's."""
    error = content.get("error", content) if isinstance(content, dict) else content
    if isinstance(error, dict):
        return str(error.get("message") or error.get("reason") or error)
    return str(error)


def _title(source: Mapping[str, Any], fields: list[str]) -> str:
    """The beginning of the first of the policy's fields that the document has."""
    for path in fields:
        value: Any = source
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())[:_TITLE_CHARS]
    return ""
