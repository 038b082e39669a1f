"""The real proxy in a real server, before a real engine; verdicts come from a judge in place of workers."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
import uvicorn
from yarl import URL

from plugin_service.api.app import create_app, is_ours
from plugin_service.api.proxy import Proxy
from plugin_service.api.proxy_lane import lane_protocol
from plugin_service.api.upstream import Upstream
from tests.fakes.sidecar import Sidecar
from whyrank.settings import Settings
from whyrank.types import Policy

DOCS = {
    # the engine likes short documents that repeat a rare word; the judge counts how many of the words are there
    "short": ("short", "zeta zeta zeta"),
    "both": ("both", "alpha and zeta stand in this document, which is longer. It has more to say about other things."),
    "all": ("all", "all of alpha and beta and zeta are in it. " + "It is the longest of them all. " * 9),
    **{f"filler-{n}": (f"filler {n}", f"alpha number {n}, beta too. " + "and so on " * n) for n in range(9)},
}
QUERY = {"match": {"body": "alpha beta zeta"}}


@dataclass
class Answer:
    """An answer as it stood on the wire (content coding and all)."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass
class Rig:
    """`plain` has no policy, `ranked` has one; the same documents are in both."""

    kind: str
    engine_url: str
    url: str
    sidecar: Sidecar
    plain: str
    ranked: str
    session: aiohttp.ClientSession

    async def send(self, base: str, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """Send a request; JSON objects get a Content-Type."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None and "content-type" not in sent:
            sent["content-type"] = "application/json"
        url = URL(base + target, encoded=True)
        async with self.session.request(method, url, data=data, headers=sent, allow_redirects=False) as response:
            read = await response.read()
            raw = [(name.decode(), value.decode("latin-1")) for name, value in response.raw_headers]
            return Answer(response.status, raw, read)

    async def proxied(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        return await self.send(self.url, method, target, body, **headers)

    async def direct(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        return await self.send(self.engine_url, method, target, body, **headers)

    async def search(self, body: Any, index: str | None = None, query: str = "", **headers: str) -> Answer:
        return await self.proxied("POST", f"/{index or self.ranked}/_search{query}", body, **headers)

    @contextmanager
    def policy(self, **changes: Any) -> Iterator[None]:
        """Another policy of `ranked` for a while."""
        policies = self.sidecar.policies.policies
        before = policies[self.ranked]
        policies[self.ranked] = Policy(**({name: getattr(before, name) for name in before.__struct_fields__} | changes))
        try:
            yield
        finally:
            policies[self.ranked] = before


@asynccontextmanager
async def serving(app: Any, http: Any = "httptools") -> AsyncIterator[str]:
    """A server of `app` as production has it; gives its URL."""
    config = uvicorn.Config(
        app, port=0, ws="none", http=http, access_log=False, log_config=None, server_header=False,
        date_header=False, lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        server.force_exit = True
        await task


@asynccontextmanager
async def proxy_before(engine_url: str, timeout_s: float = 20.0, **settings: Any) -> AsyncIterator[tuple[str, Sidecar]]:
    """A sidecar before this engine, served as production does it; gives its URL and its parts."""
    sidecar = Sidecar(Settings(secret="test", **settings))
    upstream = Upstream(engine_url, timeout_s)
    proxy = Proxy(upstream, sidecar.rescorer, sidecar.policies, sidecar.settings, sidecar.metrics)
    try:
        app = create_app(replace(sidecar.parts, proxy=proxy))
        async with serving(app, lane_protocol(proxy, upstream, is_ours)) as url:
            yield url, sidecar
    finally:
        await upstream.close()
        await sidecar.rescorer.close()


@pytest.fixture(params=["opensearch", "elasticsearch"], scope="session")
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    engine_url = request.getfixturevalue(f"{request.param}_url")
    name = f"proxy-{uuid.uuid4().hex[:8]}"
    async with (
        aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding", "User-Agent"]) as session,
        proxy_before(engine_url) as (url, sidecar),
    ):
        rig = Rig(request.param, engine_url, url, sidecar, f"{name}-plain", f"{name}-ranked", session)
        sidecar.policies.policies = {rig.ranked: Policy(index=rig.ranked, fields=("title", "body"), deadline_ms=5000)}
        for index in (rig.plain, rig.ranked):
            lines = [
                f'{{"index":{{"_index":"{index}","_id":"{key}"}}}}\n'
                + json.dumps({"title": title, "body": body})
                + "\n"
                for key, (title, body) in DOCS.items()
            ]
            settings = {"settings": {"number_of_shards": 1, "number_of_replicas": 0}}
            made = await rig.direct("PUT", f"/{index}", settings)
            assert made.status == 200, made.body
            loaded = await rig.direct(
                "POST", "/_bulk?refresh=true", "".join(lines).encode(), **{"content-type": "application/x-ndjson"}
            )
            assert loaded.json()["errors"] is False
        yield rig
        for index in (rig.plain, rig.ranked):
            await rig.direct("DELETE", f"/{index}")
