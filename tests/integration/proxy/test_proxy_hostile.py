"""Requests made to lead the proxy astray: none reaches another host, none is read in two ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.integration.proxy.conftest import proxy_before


class Engine:
    """Keeps the heads of all requests that reach it."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.url = ""
        self.proxy = ("", 0)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                if b"content-length: " in head:
                    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nconnection: keep-alive, X-Secret\r\nx-secret: 1\r\nkeep-alive: timeout=5\r\n"
                    b"warning: 299 one\r\nWarning: 299 two\r\ncontent-length: 2\r\n\r\nok"
                )
        except asyncio.IncompleteReadError:
            writer.close()

    async def ask(self, request: bytes) -> bytes:
        """Send these very bytes to the proxy; everything that comes back until it closes or goes quiet."""
        reader, writer = await asyncio.open_connection(*self.proxy)
        writer.write(request)
        answer = b""
        try:
            async with asyncio.timeout(0.5):
                while data := await reader.read(65536):
                    answer += data
        except TimeoutError:
            pass
        writer.close()
        return answer


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    server = await asyncio.start_server(engine.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, proxy_before(f"http://user:pass@127.0.0.1:{port}") as (url, _):
        engine.url = f"127.0.0.1:{port}"
        engine.proxy = ("127.0.0.1", int(url.rpartition(":")[2]))
        yield engine


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("http://evil.example/x?y", "/x?y"),
        ("http://user:pass@evil.example:99/_search", "/_search"),
        ("//evil.example/x", "//evil.example/x"),
        ("/../../etc/passwd", "/../../etc/passwd"),
        ("/a/%2e%2e/%2F..%2f/b", "/a/%2e%2e/%2F..%2f/b"),
        ("/%0d%0aHost:%20evil/x", "/%0d%0aHost:%20evil/x"),
        ("/@evil.example/", "/@evil.example/"),
        ("/a?b=http://evil.example/&c=%26&&d", "/a?b=http://evil.example/&c=%26&&d"),
        ("/a;b=c,d/*/<e>", "/a;b=c,d/*/<e>"),
    ],
)
async def test_only_path_and_query_of_a_target_count(engine: Engine, target: str, sent: str) -> None:
    answer = await engine.ask(f"GET {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200")
    (head,) = engine.heads
    assert head.startswith(f"GET {sent} HTTP/1.1\r\nhost: {engine.url}\r\n".encode())
    assert b"evil.example\r\n" not in head.split(b"\r\n", 1)[1]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET http://evil.example HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\rX-C: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n",
    ],
)
async def test_what_could_be_read_in_two_ways_never_reaches_the_engine(engine: Engine, request_: bytes) -> None:
    answer = await engine.ask(request_)
    assert engine.heads == []
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), answer


async def test_hop_by_hop_headers_end_here(engine: Engine) -> None:
    answer = await engine.ask(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Proxy-Authorization: secret\r\nUpgrade: h2c\r\nAuthorization: Basic abc\r\nCookie: a=b\r\nX-Twice: 1\r\n"
        b"X-Twice: 2\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
    )
    lines = engine.heads[0].split(b"\r\n")[2:-2]
    assert lines == [
        b"authorization: Basic abc", b"cookie: a=b", b"x-twice: 1", b"x-twice: 2", b"x-forwarded-for: 1.2.3.4",
    ]  # fmt: skip
    head = answer.split(b"\r\n\r\n")[0].lower()
    assert b"x-secret" not in head
    assert b"keep-alive" not in head
    assert head.count(b"warning: ") == 2


async def test_bodies_are_framed_anew(engine: Engine) -> None:
    await engine.ask(
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    assert b"content-length: 5\r\n" in engine.heads[0]
    assert b"transfer-encoding" not in engine.heads[0]
    assert b"trailer" not in engine.heads[0].lower()


async def test_pipelined_requests_are_answered_in_order(engine: Engine) -> None:
    answer = await engine.ask(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 2
    assert [head.split()[1] for head in engine.heads] == [b"/1", b"/2"]


async def test_offers_to_upgrade_are_ignored_and_the_connection_lives_on(engine: Engine) -> None:
    """Java's HTTP client offers HTTP/2 with its first request."""
    reader, writer = await asyncio.open_connection(*engine.proxy)
    for body in (b"", b"hello", b""):
        writer.write(
            b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAEAAEAAAAIAAAAB\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(2) == b"ok"
    writer.close()
    assert len(engine.heads) == 3
    assert b"upgrade" not in engine.heads[1].lower()
    assert b"http2-settings" not in engine.heads[1].lower()
