"""What every answer of our own routes is wrapped in: an id, a limit on the body, protective headers."""

from __future__ import annotations

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plugin_service.api.ids import request_id

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Envelope:
    """Plain ASGI around the application of our own routes.

    The request's id goes into `scope["whyrank.request_id"]`, into each log line as `search_id`, and into
    `X-Request-Id`; the engine's `X-Opaque-Id` is sent back as the engine would. A body of more than
    `max_body_bytes` is a 413 as soon as it is known to be too long, in the shape of the route that reads it.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        headers = dict(scope["headers"])
        scope["whyrank.request_id"] = identity = request_id(scope["headers"])

        async def send_wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["X-Request-Id"] = identity
                if b"x-opaque-id" in headers:
                    answer["X-Opaque-Id"] = headers[b"x-opaque-id"].decode("latin-1")
                answer["X-Content-Type-Options"] = "nosniff"
                answer["Referrer-Policy"] = "no-referrer"
                answer["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
            await send(message)

        with structlog.contextvars.bound_contextvars(search_id=identity):
            await self._app(scope, self._limited(headers, receive), send_wrapped)

    def _limited(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        announced = headers.get(b"content-length", b"0")
        total = int(announced) if announced.isdigit() else 0
        counted = 0

        async def receive_limited() -> Message:
            nonlocal counted
            if total <= self._max_body_bytes:
                message = await receive()
                counted += len(message.get("body", b""))
                if counted <= self._max_body_bytes:
                    return message
            raise HTTPException(413, f"the body is longer than {self._max_body_bytes} bytes")

        return receive_limited
