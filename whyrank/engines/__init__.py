"""OpenSearch and Elasticsearch behind one Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from whyrank.engines.base import (
    BulkFailure,
    BulkResult,
    Documents,
    Engine,
    EngineAnswer,
    EngineInfo,
    EngineKind,
    Json,
    ScanHit,
    ScanMark,
    ScanPage,
    ScanSlice,
)
from whyrank.errors import BadRequestError, EngineError, EngineUnavailableError
from whyrank.settings import Settings

if TYPE_CHECKING:
    from whyrank.engines.elasticsearch import ElasticsearchEngine
    from whyrank.engines.opensearch import OpenSearchEngine

__all__ = [
    "BulkFailure",
    "BulkResult",
    "Documents",
    "Engine",
    "EngineAnswer",
    "EngineInfo",
    "EngineKind",
    "Json",
    "ScanHit",
    "ScanMark",
    "ScanPage",
    "ScanSlice",
    "connect",
]


async def connect(settings: Settings) -> Engine:
    """The engine of the settings.

    With `engine_kind` auto it is asked who it is: raises EngineUnavailableError when nothing answers,
    EngineError when something else than an engine does. With a kind given no request is made, so that a program
    can start before its engine. Raises BadRequestError on an address or CA that cannot be used.
    """
    if settings.engine_kind != "auto":
        return _open(EngineKind(settings.engine_kind), settings)
    # opensearch-py asks any engine without checking the product; elasticsearch-py refuses all but its own.
    probe = _open(EngineKind.OPENSEARCH, settings)
    try:
        info = await probe.info()
    except EngineUnavailableError as error:
        await probe.close()
        raise EngineUnavailableError(f"no engine answers at {settings.engine_url}: {error}") from error
    except EngineError as error:
        await probe.close()
        raise EngineError(f"{settings.engine_url} does not answer as an engine: {error}") from error
    except BaseException:  # cancelled
        await probe.close()
        raise
    if info.kind is EngineKind.OPENSEARCH:
        return probe
    await probe.close()
    return _open(info.kind, settings)


def _open(kind: EngineKind, settings: Settings) -> Engine:
    ca = settings.engine_ca
    if ca is not None and not ca.exists():
        raise BadRequestError("engine_ca", f"no such file or folder: {ca}")
    try:
        return _adapter(kind)(
            _address(settings.engine_url),
            user=settings.engine_user,
            password=settings.engine_password.get_secret_value() if settings.engine_password else None,
            ca=str(ca) if ca is not None else None,
            timeout_s=settings.engine_timeout_s,
        )
    except (EngineError, ValueError, OSError) as error:  # ssl.SSLError, of a broken CA, is an OSError
        raise BadRequestError("engine_url", f"{settings.engine_url!r} cannot be used: {error}") from error


def _adapter(kind: EngineKind) -> type[OpenSearchEngine | ElasticsearchEngine]:
    """Imported when chosen: each client takes half a second to import, and one is enough."""
    if kind is EngineKind.OPENSEARCH:
        from whyrank.engines.opensearch import OpenSearchEngine  # noqa: PLC0415

        return OpenSearchEngine
    from whyrank.engines.elasticsearch import ElasticsearchEngine  # noqa: PLC0415

    return ElasticsearchEngine


def _address(url: str) -> str:
    """The address with its port spelled out: where there is none, the clients would choose different ones."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an http:// or https:// address is needed")
    if parts.port is not None:
        return url
    port = 443 if parts.scheme == "https" else 80
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{port}"))
