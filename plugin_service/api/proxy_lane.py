"""The short way through the proxy: small requests that are none of our business, without a task or an ASGI call.

A search may take the engine half a millisecond. uvicorn's way to an ASGI application and back (a task, its
events, messages as dictionaries, headers checked one by one) costs a third of that, on both ways together
with ours. So the protocol of the server hands a request that has arrived whole, and that only passes
through, straight to a pooled connection of the engine, and an answer that has arrived whole straight back.
Everything else takes the long way of `Proxy`: the first request of a connection, uploads, large or chunked
answers, and whatever goes wrong. Both ways give the same bytes; the tests run on both.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from plugin_service.api.proxy import Proxy
from plugin_service.api.proxy_messages import request_headers, response_headers
from plugin_service.api.upstream import Upstream
from plugin_service.api.upstream_connection import AbandonedError, Answer, Connection
from whyrank.errors import EngineTimeoutError, EngineUnavailableError

_STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode() if status in set(HTTPStatus) else b"")
    for status in range(200, 600)
}
_BODILESS = frozenset((204, 304))


def lane_protocol(proxy: Proxy, upstream: Upstream, is_ours: Callable[[str, str], bool]) -> type[HttpToolsProtocol]:
    """uvicorn's `http` option for an application in which `proxy` answers what is not `is_ours(method, path)`."""

    class LaneProtocol(_LaneProtocol):
        lane = Lane(proxy, upstream, is_ours)

    return LaneProtocol


class Lane:
    """Decides who may take the short way, and starts them on it."""

    def __init__(self, proxy: Proxy, upstream: Upstream, is_ours: Callable[[str, str], bool]) -> None:
        self.proxy = proxy
        self._upstream = upstream
        self._is_ours = is_ours

    def start(self, protocol: _LaneProtocol, cycle: RequestResponseCycle) -> DirectAnswer | None:
        """Send the request to the engine at once; None if it has to take the long way."""
        scope = cycle.scope
        method, raw_path = scope["method"], scope["raw_path"]
        if self._is_ours(method, scope["path"]) or not self.proxy.only_passes(method, raw_path):
            return None
        for name, _ in scope["headers"]:
            if name == b"transfer-encoding":
                return None
        connection = self._upstream.take()
        if connection is None:
            return None
        query = scope["query_string"]
        target = raw_path + b"?" + query if query else raw_path
        data = self._upstream.message(method, target, request_headers(scope["headers"]), cycle.body)
        answer = DirectAnswer(connection, protocol, cycle)
        connection.begin(data, head_only=method == "HEAD", last=True, answer=answer)
        return answer


class DirectAnswer(Answer):
    """An answer that is written to the client as soon as it is whole; any other is handed to the long way."""

    __slots__ = ("_cycle", "_direct", "_protocol", "_timer")

    def __init__(self, connection: Connection, protocol: _LaneProtocol, cycle: RequestResponseCycle) -> None:
        super().__init__(connection)
        self._protocol = protocol
        self._cycle = cycle
        self._direct = True
        self._timer = connection.loop.call_later(connection.timeout_s, self._silent)

    def wake(self) -> None:
        """Something has come: act on it, while there is nobody yet to do so."""
        if not self._direct:
            super().wake()
        elif self.error is not None:
            self._leave_lane()
            self._protocol.failed(self._cycle, self.error)
        elif self.complete and (message := self._message()) is not None:
            self._leave_lane()
            self._write(message)
        elif self.started:
            self._leave_lane()
            self._protocol.stream(self._cycle, self)

    def _leave_lane(self) -> None:
        self._direct = False
        self._timer.cancel()
        self._protocol.direct = None

    def _silent(self) -> None:
        self.abandon(EngineTimeoutError(f"the engine was silent for {self._connection.timeout_s:g} s"))

    def _message(self) -> bytes | None:
        """The whole answer, if the engine's own headers frame it for the client, too."""
        cycle = self._cycle
        framed = self.status in _BODILESS or cycle.scope["method"] == "HEAD"
        parts = [_STATUS_LINES.get(self.status) or b"HTTP/1.1 %d \r\n" % self.status]
        for name, value in (*cycle.default_headers, *response_headers(self.headers)):
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                framed = True
        if not framed:
            return None
        parts.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        parts += self._chunks
        return b"".join(parts)

    def _write(self, message: bytes) -> None:
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(message)
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


class _LaneProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but for the lane, and for trailers and upgrades (see the methods)."""

    lane: Lane

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.direct: DirectAnswer | None = None
        self._feeding = False
        self._begun: tuple[RequestResponseCycle, Any] | None = None

    def data_received(self, data: bytes) -> None:
        """Parse; then start what has begun: by now it is known whether the request is whole."""
        self._feeding = True
        super().data_received(data)
        self._feeding = False
        if self._begun is None:
            return
        (cycle, app), self._begun = self._begun, None
        if not cycle.more_body and app is self.app and not self.access_log:
            self.direct = self.lane.start(self, cycle)
            if self.direct is not None:
                return
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, and with it the need for an answer."""
        if self.direct is not None:
            self.direct.abandon()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Headers end here: a chunked body's trailers, which come by the same callback, do not join them."""
        super().on_headers_complete()
        self.headers = []

    def failed(self, cycle: RequestResponseCycle, error: Exception) -> None:
        """The engine did not answer: ask again on the long way where that is safe, else tell the client."""
        if isinstance(error, AbandonedError):
            return
        app: Any = self.app
        if not self.lane.proxy.may_repeat(cycle.scope["method"]) or not isinstance(error, EngineUnavailableError):
            app = self.lane.proxy.failing(error)
        super()._start_asgi_task(cycle, app)

    def stream(self, cycle: RequestResponseCycle, answer: Answer) -> None:
        """The answer is long or chunked: hand it over."""
        app: Any = self.lane.proxy.relaying(answer)
        super()._start_asgi_task(cycle, app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._feeding and self._begun is None:
            self._begun = (cycle, app)
        else:
            super()._start_asgi_task(cycle, app)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing to warn of: a request to upgrade may be ignored, and Java's HTTP client makes one each time.

        The parser takes what follows for another protocol, so there has to be a new one.
        """
        self.parser = httptools.HttpRequestParser(self)
