"""The Python client of a sidecar: `whyrank.Client`, and `whyrank.AsyncClient` for asyncio.

    from whyrank import Client

    with Client("http://whyrank:8080") as client:
        for result in client.rerank("sort a list", texts).results:
            print(result.score, result.document, result.explanation)

Both classes are thin: what is sent and what an answer means is in `calls.py`, `policies.py` and `stream.py`, when to
try again in `exchange.py`, without I/O and once for both.
"""

from whyrank.client.asynchronous import AsyncClient
from whyrank.client.blocking import Client
from whyrank.client.errors import (
    BusyError,
    ClientError,
    FailedError,
    ForbiddenError,
    MissingError,
    ProtocolError,
    RefusedError,
    TimedOutError,
    UnreachableError,
)
from whyrank.client.results import (
    Document,
    Event,
    Health,
    OrderEvent,
    PartHealth,
    RankedDocument,
    RankingAnswer,
    Readiness,
    Reranked,
    RerankResult,
    Rescored,
    RescoredHit,
    VerdictEvent,
)

__all__ = [
    "AsyncClient",
    "BusyError",
    "Client",
    "ClientError",
    "Document",
    "Event",
    "FailedError",
    "ForbiddenError",
    "Health",
    "MissingError",
    "OrderEvent",
    "PartHealth",
    "ProtocolError",
    "RankedDocument",
    "RankingAnswer",
    "Readiness",
    "RefusedError",
    "RerankResult",
    "Reranked",
    "Rescored",
    "RescoredHit",
    "TimedOutError",
    "UnreachableError",
    "VerdictEvent",
]
