"""What the two adapters share: the engines' error answers and bulk items are of one form."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

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
    if error_type(body) == "index_not_found_exception":
        return IndexMissingError(message)
    if status in _OVERLOADED:
        return EngineUnavailableError(message)
    return EngineError(message)


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


def _action(index: str, id_: str, document: Mapping[str, Any]) -> dict[str, Any]:
    # With an explicit _source, a document that has a field such as "_id" or "_index" of its own stays whole.
    return {"_op_type": "index", "_index": index, "_id": id_, "_source": document}


def _reason(body: object) -> str:
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return str(error or body)[:500]
    parts = [f"{error.get('type')}: {error.get('reason')}"]
    cause = error.get("caused_by")
    # Three levels say what the admin can act upon ("failed to parse" ... "For input string: ...").
    while isinstance(cause, Mapping) and len(parts) < 3:
        parts.append(str(cause.get("reason")))
        cause = cause.get("caused_by")
    return "; ".join(parts)[:500]
