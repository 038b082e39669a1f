"""One request of a client on its way through the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from plugin_service.api.proxy_messages import body_length, error_body, header
from plugin_service.api.upstream_connection import AbandonedError, RawHeaders
from whyrank.errors import EngineError, EngineTimeoutError, EngineUnavailableError
from whyrank.types import Status

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WATCH_AFTER_S = 0.05
"""Whether the client has gone is looked at only after this, because most answers are there by then."""

JSON_TYPE: tuple[bytes, bytes] = (b"content-type", b"application/json")


class Reply(msgspec.Struct, frozen=True):
    """A whole answer; `headers` have no framing."""

    status: int
    headers: RawHeaders
    body: bytes


class PassOn(msgspec.Struct, frozen=True):
    """The request shall go to the engine as it came, and the answer say what was (not) done.

    `body` replaces the client's where not even that can go as it came (`ext.whyrank` is only for us).
    """

    status: Status
    reason: str
    body: bytes | None = None


class RequestBody:
    """The client's body: read into memory up to a limit, or streamed, what was read before first."""

    def __init__(self, receive: Receive, headers: RawHeaders) -> None:
        self._receive = receive
        self.length = body_length(headers)
        """Bytes announced; None for chunks."""
        self.complete = self.length == 0
        """Whether all of it has been read."""
        self.data = b""
        """What has been read so far and not been streamed on."""

    async def read(self, limit: int) -> bool:
        """Read all of it, unless it is longer than `limit` bytes; whether it is complete. Raises AbandonedError."""
        if self.length is not None and self.length > limit:
            return False
        parts = [self.data]
        size = len(self.data)
        while not self.complete and size <= limit:
            parts.append(await self._next())
            size += len(parts[-1])
        self.data = b"".join(parts)
        return self.complete and size <= limit

    async def begin(self) -> None:
        """Read what is at hand; small bodies are complete after this. Raises AbandonedError."""
        if not self.complete:
            self.data += await self._next()

    async def stream(self) -> AsyncIterator[bytes]:
        """All of it, in pieces. Raises AbandonedError."""
        data, self.data = self.data, b""
        yield data
        while not self.complete:
            yield await self._next()

    async def gone(self) -> None:
        """Return when the client has disconnected; only for complete bodies."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise AbandonedError
        self.complete = not message.get("more_body", False)
        return message.get("body", b"")  # type: ignore[no-any-return]


class ClientWatch:
    """Cancels the task it is made in when the client disconnects, once the request has been read."""

    def __init__(self, body: RequestBody) -> None:
        self._body = body
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._look)
        self.gone = False

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _look(self) -> None:
        if self._body.complete:
            self._watcher = asyncio.create_task(self._watch())
        else:  # whoever reads the body will see it
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._look)

    async def _watch(self) -> None:
        await self._body.gone()
        self.gone = True
        if self._task is not None:
            self._task.cancel()


class Call:
    """What the client asked, as ASGI gives it, and the way back to it."""

    __slots__ = ("_send", "answered", "body", "headers", "method", "query_string", "raw_path")

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.query_string: bytes = scope["query_string"]
        self.headers: RawHeaders = scope["headers"]
        self.body = RequestBody(receive, self.headers)
        self.answered = False
        self._send = send

    @property
    def target(self) -> bytes:
        """Path and query as they came."""
        return self.raw_path + b"?" + self.query_string if self.query_string else self.raw_path

    def header(self, name: bytes) -> str:
        """The first header of this (lower case) name, "" when there is none."""
        return header(self.headers, name)

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send status and headers."""
        self.answered = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send bytes of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def reply(self, reply: Reply) -> None:
        """Send a whole answer."""
        await self.start(reply.status, [*reply.headers, (b"content-length", b"%d" % len(reply.body))])
        await self.send(reply.body, more=False)


def engine_trouble(error: EngineError) -> Reply:
    """The engine's absence in the engine's own words."""
    kind = "whyrank_engine_answer_exception"
    if isinstance(error, EngineUnavailableError):
        kind = "whyrank_engine_unavailable_exception"
    elif isinstance(error, EngineTimeoutError):
        kind = "whyrank_engine_timeout_exception"
    return Reply(error.status, [JSON_TYPE], error_body(error.status, kind, str(error)))
