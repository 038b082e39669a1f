"""What the doors are made of: ports and objects that bootstrap joins, or a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

from fastapi import Depends, Request
from starlette.types import ASGIApp

from plugin_service.api.metrics import Metrics
from plugin_service.rescoring.ids import RankingIds
from plugin_service.rescoring.ports import ModelStatus, Policies
from plugin_service.rescoring.rescorer import Rescorer
from whyrank.settings import Settings

STATIC = Path(__file__).parent.parent / "web" / "static"


@dataclass(frozen=True)
class PartState:
    """How a part fares. `degraded` works with less; `down` does not work. `reason` is for a person to read."""

    state: Literal["ok", "degraded", "down"]
    reason: str = ""


Check = Callable[[], Awaitable[PartState]]
"""Looks at one part; may take a round trip, may raise WhyRankError (then the part is down)."""


async def _nothing() -> None:
    """Neither start nor stop anything."""


async def _no_queues() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True)
class Parts:
    """Everything `create_app` needs.

    `checks` are by part name; a sidecar whose `engine` is down is not ready, all others only degrade it.
    `queue_depths` gives pairs waiting by queue name, and may raise StoreUnavailableError.
    `start` and `stop` run inside the server's event loop, before the first and after the last request.
    """

    settings: Settings
    rescorer: Rescorer
    policies: Policies
    model: ModelStatus
    ids: RankingIds
    metrics: Metrics
    proxy: ASGIApp
    checks: Mapping[str, Check]
    queue_depths: Callable[[], Awaitable[Mapping[str, int]]] = _no_queues
    start: Callable[[], Awaitable[None]] = _nothing
    stop: Callable[[], Awaitable[None]] = _nothing
    static: Path = STATIC


async def _parts(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


PartsDep = Annotated[Parts, Depends(_parts)]
