"""One HTTP/1.1 connection to the engine: a request out, its answer in, both with back pressure.

The parser is llhttp (httptools), the one that the server side uses too. A client library would be less
code to own, but costs more per request than the engine takes for a small search (bench/LOG.md), and it
normalises what a transparent proxy has to leave alone: paths, queries, repeated headers, content codings.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from whyrank.errors import EngineError, EngineTimeoutError, EngineUnavailableError

RawHeaders = list[tuple[bytes, bytes]]

HIGH_WATER = 256 * 1024
"""Bytes of an answer that wait for a slow client before the engine is no longer read."""


class AbandonedError(Exception):
    """The client has gone; nobody is waiting for this answer."""


class Answer:
    """The engine's answer to one request, as it comes in.

    `status` and `headers` are set once `head()` has returned. All waiting raises EngineUnavailableError
    (lost connection), EngineTimeoutError (silence) or EngineError (what came is not HTTP).
    """

    __slots__ = ("_buffered", "_chunks", "_connection", "_waiter", "complete", "error", "headers", "started", "status")

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: RawHeaders = []
        self.started = False
        self.complete = False
        self.error: Exception | None = None
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self.started:
            await self._wait()

    async def chunk(self) -> bytes:
        """The next bytes of the body, everything at hand in one piece; b"" at its end."""
        while not self._chunks:
            if self.complete:
                return b""
            await self._wait()
        return self._take()

    async def read(self) -> bytes:
        """The whole body."""
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def abandon(self, error: Exception | None = None) -> None:
        """Give up: whoever waits gets `error`, and the connection is closed, unless the exchange has ended well."""
        if self._connection.carries(self):
            self.fail(error or AbandonedError())
            self._connection.close()

    def fail(self, error: Exception) -> None:
        """Set the first error and wake the waiter."""
        self.error = self.error or error
        self.wake()

    def feed(self, data: bytes) -> None:
        """Bytes of the body have come; `wake` follows."""
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > HIGH_WATER:
            self._connection.pause_reading()

    def wake(self) -> None:
        """Let the waiter look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self) -> bytes:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if not self.complete:  # a complete answer's connection may carry another one by now
            self._connection.resume_reading()
        return data

    async def _wait(self) -> None:
        self._raise_error()
        connection = self._connection
        self._waiter = connection.loop.create_future()
        timer = connection.loop.call_later(connection.timeout_s, self._expire)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
        if not self._chunks:
            self._raise_error()

    def _raise_error(self) -> None:
        if self.error is not None:
            raise self.error

    def _expire(self) -> None:
        silent_s = self._connection.loop.time() - self._connection.last_write
        if silent_s + 0.01 >= self._connection.timeout_s:
            self.abandon(EngineTimeoutError(f"the engine was silent for {self._connection.timeout_s:g} s"))
        else:  # an upload is going on: look again when it could have been silent for long enough
            self.wake()


class Connection(asyncio.Protocol):
    """Carries one exchange at a time. `on_free` gets it back when one ended well, `on_lost` when it is gone.

    `loop.time()` of the last write is in `last_write`, of the last exchange's end in `free_since`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        on_free: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self.timeout_s = timeout_s
        self.last_write = 0.0
        self.free_since = 0.0
        self.closed = False
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._head_only = False
        self._request_written = False
        self._until_close = False
        self._keep_alive = False
        self._reading_paused = False
        self._writable: asyncio.Future[None] | None = None

    # The request

    def begin(self, data: bytes, *, head_only: bool, last: bool, answer: Answer | None = None) -> Answer:
        """Write a request's head and the first (or, with `last`, all) bytes of its body."""
        self._answer = answer = answer or Answer(self)
        self._head_only = head_only
        self._until_close = False
        self._request_written = last
        self.last_write = self.loop.time()
        self._transport.write(data)
        return answer

    async def write(self, data: bytes) -> None:
        """Write more of the body; waits while the engine does not take it."""
        if self.closed:
            return
        self.last_write = self.loop.time()
        self._transport.write(data)
        if self._writable is not None:
            await self._writable
            self.last_write = self.loop.time()

    def finish(self, answer: Answer) -> None:
        """The whole request of `answer` is written."""
        if self._answer is answer:
            self._request_written = True
            if answer.complete:
                self._release()

    def carries(self, answer: Answer) -> bool:
        """Whether this exchange still holds the connection."""
        return self._answer is answer

    def close(self) -> None:
        """Close at once."""
        self.closed = True
        self._transport.abort()

    def pause_reading(self) -> None:
        """Take no more of the answer for now."""
        if not self._reading_paused and not self.closed:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more of the answer."""
        if self._reading_paused and not self.closed:
            self._reading_paused = False
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        answer = self._answer
        if answer is None:  # nothing was asked, so this cannot be an answer
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not answer.complete:
                answer.fail(EngineError(f"the engine's answer is not HTTP: {error}"))
            self.close()
        answer.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.closed = True
        self._on_lost(self)
        self._wake_writer()
        answer = self._answer
        if answer is None or answer.complete:
            return
        if answer.started and self._until_close and exc is None:
            answer.complete = True
            answer.wake()
        else:
            detail = f": {exc}" if exc else ""
            answer.fail(EngineUnavailableError(f"the engine closed the connection before its answer's end{detail}"))

    def pause_writing(self) -> None:
        """The engine is slower than the client."""
        if self._writable is None:
            self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        """The engine takes more."""
        self._wake_writer()

    # httptools

    def on_message_begin(self) -> None:
        """Bytes of a message."""
        if self._answer is None or self._answer.complete:  # two answers to one request: nothing is to be trusted
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, in the order and the spelling of the engine."""
        if self._answer is not None:
            self._answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Status and headers are known."""
        answer = self._answer
        if answer is None:
            return
        answer.status = self._parser.get_status_code()
        if answer.status < 200:  # 1xx: the real answer follows
            answer.headers = []
            return
        answer.started = True
        self._keep_alive = self._parser.should_keep_alive()
        if not self._keep_alive:
            framing = (b"content-length", b"transfer-encoding")
            self._until_close = not any(name.lower() in framing for name, _ in answer.headers)
        if self._head_only:
            self._complete(answer)
            # the parser waits for the body that Content-Length announces; HEAD has none
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        """Bytes of the body, transfer coding taken off."""
        if self._answer is not None and not self._answer.complete:
            self._answer.feed(body)

    def on_message_complete(self) -> None:
        """The answer has ended."""
        answer = self._answer
        if answer is not None and answer.started and not answer.complete:
            self._complete(answer)

    def _complete(self, answer: Answer) -> None:
        answer.complete = True
        if not self._keep_alive:
            self.closed = True
            self._transport.close()
        elif self._request_written:
            self._release()

    def _release(self) -> None:
        if self.closed:
            return
        self._answer = None
        self.resume_reading()
        self.free_since = self.loop.time()
        self._on_free(self)

    def _wake_writer(self) -> None:
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None
