"""What the two adapters share: the engines' error answers and bulk items are of one form."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from whyrank.engines._scan import PointInTimeGoneError
from whyrank.engines.base import BulkFailure, Documents
from whyrank.errors import EngineError, EngineUnavailableError, IndexMissingError

BULK_CHUNK = 500
"""Documents in one bulk request at most."""
BULK_BYTES = 10 * 1024 * 1024
"""Bytes in one bulk request at most: a tenth of what engines accept by default."""
BULK_RETRIES = 5
BULK_PAUSE_S = 0.5
"""Pause before the first retry of documents refused for load, seconds; doubled each time."""

_OVERLOADED = frozenset({429, 502, 503, 504})
_ALREADY_THERE = frozenset({"resource_already_exists_exception", "index_already_exists_exception"})


def basic_auth(user: str, password: str | None) -> dict[str, str]:
    """The header of HTTP basic authentication, in UTF-8: both clients fail on a password beyond ASCII."""
    token = base64.b64encode(f"{user}:{password or ''}".encode()).decode("ascii")
    return {"authorization": f"Basic {token}"}


def error_type(body: object) -> str:
    """The engine's name for an error, such as `index_not_found_exception`; empty when it gives none."""
    error = body.get("error") if isinstance(body, Mapping) else None
    kind = error.get("type") if isinstance(error, Mapping) else None
    return kind if isinstance(kind, str) else ""


def already_there(body: object) -> bool:
    """Whether this refusal to make an index says that somebody else has made it."""
    return error_type(body) in _ALREADY_THERE


def error_of(status: int, body: object) -> EngineError:
    """The error of ours for an answer of the engine with this status (400 and above) and decoded body."""
    message = f"engine answered {status}: {_reason(body)}"
    if _lost_context(body):
        return PointInTimeGoneError(message)
    if error_type(body) == "index_not_found_exception":
        return IndexMissingError(message)
    if status in _OVERLOADED:
        return EngineUnavailableError(message)
    return EngineError(message)


def searches_of(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answers of an `_msearch`. Raises the error of the first that was refused."""
    for item in answer["responses"]:
        if "error" in item:
            raise error_of(int(item.get("status") or 500), item)
    return list(answer["responses"])


def search_lines(bodies: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The searches as `_msearch` takes them: a header before each body, empty where the path names the index."""
    return [line for body in bodies for line in ({}, body)]


def _lost_context(body: object) -> bool:
    error = body.get("error") if isinstance(body, Mapping) else None
    causes = error.get("root_cause") if isinstance(error, Mapping) else None
    return isinstance(causes, list) and any(
        isinstance(cause, Mapping) and cause.get("type") == "search_context_missing_exception" for cause in causes
    )


def bulk_failure(item: Mapping[str, Any]) -> BulkFailure:
    """A failed item, as both clients' `async_streaming_bulk` yields it: `{"index": {"_id", "status", "error"}}`.

    Where the whole request was refused for a reason that holds for its documents (too large, overloaded after
    all retries), the clients put that status on each item. Any other refusal of the whole request is raised.
    """
    (info,) = item.values()
    status, error = info.get("status"), info.get("error")
    if "exception" in info and status not in {413, 429}:
        raise info["exception"]
    reason = error if isinstance(error, str) else _reason({"error": error})
    return BulkFailure(id=str(info.get("_id")), status=int(status or 500), reason=reason)


async def index_actions(index: str, documents: Documents) -> AsyncIterator[dict[str, Any]]:
    """The documents as the clients' bulk helpers take them."""
    if isinstance(documents, AsyncIterator) or hasattr(documents, "__aiter__"):
        async for id_, document in documents:
            yield _action(index, id_, document)
    else:
        for id_, document in documents:
            yield _action(index, id_, document)


WRITES = "indices.*.uuid,indices.*.shards.*.routing.primary,indices.*.shards.*.seq_no.max_seq_no"
"""What `writes_of` reads of an index's statistics, for `filter_path`."""


def writes_of(answer: Mapping[str, Any]) -> dict[str, int]:
    """Sequence numbers given out so far, over an index's primary shards: they count from 0, and are -1 when none is."""
    return {
        index["uuid"]: sum(
            copy["seq_no"]["max_seq_no"] + 1
            for copies in index["shards"].values()
            for copy in copies
            if copy["routing"]["primary"]
        )
        for index in answer.get("indices", {}).values()
    }


def _action(index: str, id_: str, document: Mapping[str, Any]) -> dict[str, Any]:
    # With an explicit _source, a document that has a field such as "_id" or "_index" of its own stays whole.
    return {"_op_type": "index", "_index": index, "_id": id_, "_source": document}


def _root_cause(error: Mapping[str, Any]) -> object:
    """What Elasticsearch gives beside "all shards failed", where OpenSearch gives it as the cause."""
    causes = error.get("root_cause")
    first = causes[0] if isinstance(causes, list) and causes else None
    return first if isinstance(first, Mapping) and first.get("type") != error.get("type") else None


def _reason(body: object) -> str:
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return str(error or body)[:500]
    parts = [f"{error.get('type')}: {error.get('reason')}"]
    cause = error.get("caused_by") or _root_cause(error)
    # Three levels say what the admin can act upon ("failed to parse" ... "For input string: ...").
    while isinstance(cause, Mapping) and len(parts) < 3:
        parts.append(str(cause.get("reason")))
        cause = cause.get("caused_by")
    return "; ".join(parts)[:500]
