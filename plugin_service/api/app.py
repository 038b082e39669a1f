"""The sidecar as one ASGI application: our own routes, and the engine behind everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from plugin_service.api import errors, health, policies, rankings, rerank_cohere, rerank_jina, rerank_tei, rescore
from plugin_service.api.envelope import Envelope
from plugin_service.api.parts import Parts

_POSTS = frozenset(("/rerank", "/v1/rerank", "/v2/rerank", "/v1/rescore"))


def create_app(parts: Parts) -> ASGIApp:
    """The application made of `parts`; they are started and stopped with the server's lifespan."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.start()
        try:
            yield
        finally:
            await parts.stop()

    own = own_routes(lifespan)
    own.state.parts = parts
    own.mount("/_whyrank", _Pages(directory=parts.static, html=True))
    return Dispatcher(own, Envelope(own, parts.settings.max_body_bytes), parts.proxy)


def own_routes(lifespan: Any = None) -> FastAPI:
    """Our routes, which take their parts from `app.state.parts` at the time of a request."""
    app = _OwnRoutes(
        title="WhyRank",
        summary="Explainable reranking for OpenSearch and Elasticsearch",
        version=version("whyrank"),
        openapi_url="/_whyrank/openapi.json",
        docs_url=None,  # its pages load scripts from a CDN
        redoc_url=None,
        lifespan=lifespan,
    )
    errors.install(app)
    for door in (rescore, rerank_cohere, rerank_jina, rerank_tei, rankings, policies, health):
        app.include_router(door.router)
    return app


def is_ours(method: str, path: str) -> bool:
    """Whether a request is for one of our routes; every other belongs to the engine.

    No index name may begin with `_`, and no route of the engines has the other names with these methods.
    """
    if path.startswith("/_whyrank"):
        return len(path) == 9 or path[9] == "/"
    if method == "POST":
        return path in _POSTS
    return method == "GET" and path.startswith("/v1/rankings/")


class Dispatcher:
    """Sends each request one of two ways. What passes through to the engine meets no middleware of ours."""

    def __init__(self, own: ASGIApp, own_http: ASGIApp, proxy: ASGIApp) -> None:
        self._own = own
        self._own_http = own_http
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of any kind."""
        if scope["type"] == "http":
            app = self._own_http if is_ours(scope["method"], scope["path"]) else self._proxy
            await app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._own(scope, receive, send)
        else:  # the engines speak no websocket
            await send({"type": "websocket.close", "code": 1000})


class _OwnRoutes(FastAPI):
    """Describes the route that pydantic knows nothing of, too."""

    def openapi(self) -> dict[str, Any]:
        described = super().openapi()
        schemas = described["components"]["schemas"]
        described["components"]["schemas"] = {**rescore.components(), **schemas}
        return described


class _Pages(StaticFiles):
    """The search page: always asked for anew, answered by 304 while its etag holds."""

    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response
