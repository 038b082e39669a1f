"""The engine as the proxy sees it: a pool of connections to one address that no client can change."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from plugin_service.api.upstream_connection import Answer, Connection, RawHeaders
from whyrank.errors import EngineTimeoutError, EngineUnavailableError

CONNECT_TIMEOUT_S = 5.0
IDLE_LIMIT_S = 30.0
"""A pooled connection is not reused after this; a load balancer before the engine may have forgotten it."""

_NOT_IN_TARGET = re.compile(rb"[\x00-\x20\x7f]")


class Upstream:
    """Sends requests to the engine at `base_url` (http or https; a path in it is put before every target).

    `timeout_s` is the longest silence of the engine that is borne. `ca` is a CA bundle for https.
    """

    def __init__(self, base_url: str, timeout_s: float, ca: Path | None = None) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an address of an engine: {base_url}")
        self._hostname = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        self._host_line = b" HTTP/1.1\r\nhost: " + parts.netloc.rpartition("@")[2].encode("ascii") + b"\r\n"
        self._prefix = parts.path.rstrip("/").encode("ascii")
        self.timeout_s = timeout_s
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()

    async def close(self) -> None:
        """Close all connections; exchanges that are under way fail."""
        for connection in [*self._idle, *self._busy]:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    async def request(
        self, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"", *, retry: bool
    ) -> Answer:
        """Send a request whose body is at hand; gives its answer as soon as status and headers are there.

        `target` is path and query as they go on the wire, `headers` have neither Host nor framing. With
        `retry` (for requests that change nothing), it is sent once more on a new connection when a pooled one
        turns out to be dead. Raises EngineUnavailableError, EngineTimeoutError, EngineError.
        """
        data = self.message(method, target, headers, body)
        connection = self.take()
        if connection is not None:
            answer = connection.begin(data, head_only=method == "HEAD", last=True)
            try:
                await answer.head()
            except EngineUnavailableError:
                if answer.started or not retry:
                    raise
            except BaseException:
                answer.abandon()
                raise
            else:
                return answer
        connection = await self._connect()
        answer = connection.begin(data, head_only=method == "HEAD", last=True)
        try:
            await answer.head()
        except BaseException:
            answer.abandon()
            raise
        return answer

    async def stream(
        self,
        method: str,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        body: AsyncIterator[bytes],
        length: int | None,
    ) -> Answer:
        """Send a request whose body is still coming; `length` is None when nobody knows it (chunked then).

        The engine may answer before it has read everything; then the rest is not sent, and the connection not
        used again. Raises what `body` raises, and what `request` raises.
        """
        framing = b"transfer-encoding: chunked\r\n\r\n" if length is None else b"content-length: %d\r\n\r\n" % length
        connection = self.take() or await self._connect()
        head = self._head(method, target, headers) + framing
        answer = connection.begin(head, head_only=method == "HEAD", last=False)
        upload = asyncio.create_task(_upload(connection, answer, body, chunked=length is None))
        try:
            await answer.head()
            if not upload.done():  # most engines answer at the very end: let the last write return
                await asyncio.sleep(0)
        except BaseException:
            answer.abandon()
            raise
        finally:
            upload.cancel()
        return answer

    def take(self) -> Connection | None:
        """The connection that was used last, if there is a live one; nothing is waited for."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.loop.time() - connection.free_since < IDLE_LIMIT_S:
                self._busy.add(connection)
                return connection
            connection.close()
        return None

    def message(
        self, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes | bytearray
    ) -> bytes:
        """A whole request as it goes on the wire."""
        length = b"content-length: %d\r\n\r\n" % len(body) if body or method in ("POST", "PUT") else b"\r\n"
        return self._head(method, target, headers) + length + body

    def _head(self, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        if target[:1] != b"/" or _NOT_IN_TARGET.search(target):
            raise ValueError(f"not a path: {target!r}")
        parts = [method.encode("ascii"), b" ", self._prefix, target, self._host_line]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        return b"".join(parts)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(CONNECT_TIMEOUT_S, self.timeout_s)):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self.timeout_s, self._freed, self._lost),
                    self._hostname,
                    self._port,
                    ssl=self._ssl,
                )
        except TimeoutError as error:
            raise EngineTimeoutError("the engine does not take connections in time") from error
        except OSError as error:  # ssl.SSLError is one, too
            raise EngineUnavailableError(f"the engine cannot be reached: {error.strerror or error}") from error
        self._busy.add(connection)
        return connection

    def _freed(self, connection: Connection) -> None:
        self._busy.discard(connection)
        self._idle.append(connection)

    def _lost(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


async def _upload(connection: Connection, answer: Answer, body: AsyncIterator[bytes], *, chunked: bool) -> None:
    try:
        async for data in body:
            if data:
                await connection.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        if chunked:
            await connection.write(b"0\r\n\r\n")
    except Exception as error:  # noqa: BLE001 - handed to whoever waits for the answer
        answer.abandon(error)
    else:
        connection.finish(answer)


__all__ = ["Answer", "RawHeaders", "Upstream"]
