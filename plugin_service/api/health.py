"""The operator's routes: alive, ready, figures."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from plugin_service.api.parts import Check, Parts, PartsDep, PartState
from whyrank.errors import StoreUnavailableError, WhyRankError

router = APIRouter(prefix="/_whyrank", tags=["operation"])

_CHECK_S = 2.0
"""A part that does not answer within this is down."""
_ENGINE = "engine"


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]
    version: str


class PartView(BaseModel):
    """One part and how it fares."""

    state: Literal["ok", "degraded", "down"]
    reason: str


class Readiness(BaseModel):
    """Whether searches can be answered, and how well."""

    status: Literal["ready", "degraded", "unready"]
    parts: dict[str, PartView]


@router.get("/health")
async def health() -> Health:
    """Alive: the process serves requests. Says nothing of its parts; restart it when this fails."""
    return Health(status="ok", version=version("whyrank"))


@router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
async def ready(parts: PartsDep) -> Response:
    """Ready: 200 while searches can be answered, 503 when they cannot because the engine is out of reach.

    Redis, the model server and the policies only make answers better: without them a search still gets the
    engine's order and says why. So they make the status `degraded` and never take the sidecar out of service,
    which would turn worse answers into none.
    """
    names = list(parts.checks)
    states = await asyncio.gather(*(_look(parts.checks[name]) for name in names))
    by_name = {**dict(zip(names, states, strict=True)), "model": _model(parts)}
    views = {name: PartView(state=part.state, reason=part.reason) for name, part in sorted(by_name.items())}
    down = _ENGINE in by_name and by_name[_ENGINE].state == "down"
    poorer = any(part.state != "ok" for part in by_name.values())
    readiness = Readiness(status="unready" if down else "degraded" if poorer else "ready", parts=views)
    return JSONResponse(readiness.model_dump(), 503 if down else 200)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(parts: PartsDep, accept: Annotated[str, Header()] = "") -> Response:
    """Figures for Prometheus (or OpenMetrics, by `Accept`); docs/metrics.md says what each one means."""
    parts.metrics.model(parts.model.current())
    parts.metrics.policies(len(parts.policies.all()))
    try:
        parts.metrics.queues(await parts.queue_depths())
    except StoreUnavailableError:
        parts.metrics.queues(None)
    encode, content_type = choose_encoder(accept)
    return Response(encode(parts.metrics.registry), headers={"Content-Type": content_type})


async def _look(check: Check) -> PartState:
    try:
        return await asyncio.wait_for(check(), _CHECK_S)
    except TimeoutError:
        return PartState("down", f"no answer within {_CHECK_S:g} s")
    except WhyRankError as error:
        return PartState("down", str(error))


def _model(parts: Parts) -> PartState:
    model = parts.model.current()
    return PartState("ok") if model.ready else PartState("degraded", model.reason or "the model server is not ready")
