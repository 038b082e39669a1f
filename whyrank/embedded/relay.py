"""One address for the model servers of one machine: a request goes to the server that has the model it names.

So a new version is served beside the old one before anyone asks for it, and the old one goes when nobody asks for it
any more: at no moment does an address refuse, and never does one model answer for another (docs/decisions, 9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

_MAX_BODY_BYTES = 64_000_000
_KEEPALIVE_S = 2.0
"""Shorter than uvicorn's five seconds: no request meets a connection that the server is about to close."""
_ASK_S = 2.0
"""Longest wait for one server's list of models."""
_OURS_ALONE = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
)
"""Headers that are about one connection."""


class _Named(msgspec.Struct):
    model: str | None = None


class _Backend:
    """One model server, and how many requests it has of ours."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def __enter__(self) -> None:
        self.in_flight += 1
        self.idle.clear()

    def __exit__(self, *_raised: object) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self.idle.set()


class Relay:
    """Listens on `port` of the loopback interface (0: any, then `port` tells) between `start` and `stop`.

    What names no model, /health above all, goes to the server that leads.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._backends: dict[str, _Backend] = {}
        self._leader: _Backend | None = None
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),  # the caller's patience counts: when it hangs up, so do we
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_get("/v1/models", self._models)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listen no more, and break what is in flight."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def add(self, name: str, url: str) -> None:
        """Requests for the model `name` go to the server at `url` (without /v1) from now on."""
        self._backends[name] = _Backend(url.rstrip("/"))

    def lead(self, name: str) -> None:
        """What names no model goes to this one's server from now on."""
        self._leader = self._backends[name]

    async def remove(self, name: str, patience_s: float) -> None:
        """No more requests for `name`; returns when those in flight have ended, at most `patience_s` later."""
        backend = self._backends.pop(name)
        if self._leader is backend:
            self._leader = None
        try:
            async with asyncio.timeout(patience_s):
                await backend.idle.wait()
        except TimeoutError:
            return

    async def _models(self, _request: web.Request) -> web.Response:
        """All servers' models, of those that answer."""
        answers = await asyncio.gather(*(self._models_of(backend) for backend in list(self._backends.values())))
        data = [model for answer in answers for model in answer]
        if not data:
            return _refusal(503, "no model is served yet")
        return web.json_response({"object": "list", "data": data})

    async def _models_of(self, backend: _Backend) -> list[Any]:
        try:
            async with asyncio.timeout(_ASK_S), self._client().get(f"{backend.url}/v1/models") as answer:
                models = (await answer.json())["data"] if answer.status == 200 else []
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError):
            return []
        return list(models)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        name = _named(body) if request.method == "POST" else None
        if name is not None and name not in self._backends:
            return _refusal(404, f"the model {name!r} is not served; served are {', '.join(self._backends) or 'none'}")
        backend = self._backends[name] if name is not None else self._leader
        if backend is None:
            return _refusal(503, "no model is served yet")
        with backend:
            return await self._pass(request, body, backend)

    async def _pass(self, request: web.Request, body: bytes, backend: _Backend) -> web.StreamResponse:
        url = f"{backend.url}{request.raw_path}"
        headers = _handed_on(request.headers)
        try:
            answer = await self._client().request(request.method, url, data=body or None, headers=headers)
        except (aiohttp.ClientError, OSError) as error:
            return _refusal(503, f"the model's server does not answer: {error or type(error).__name__}")
        async with answer:
            passed = web.StreamResponse(status=answer.status, headers=_handed_on(answer.headers))
            if answer.content_length is not None:
                passed.content_length = answer.content_length
            await passed.prepare(request)
            async for chunk in answer.content.iter_any():
                await passed.write(chunk)
            await passed.write_eof()
        return passed

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the relay is not started")
        return self._session


def _named(body: bytes) -> str | None:
    """The model that a request names, None where it names none or is no JSON object."""
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _handed_on(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _OURS_ALONE]


def _refusal(status: int, message: str) -> web.Response:
    """An error in the form of the OpenAI protocol."""
    kind = "NotFoundError" if status == 404 else "ServiceUnavailableError"
    return web.json_response({"error": {"message": message, "type": kind, "code": status}}, status=status)
