"""The relay before real HTTP servers: nothing fails while servers come and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.integration.stand_in import StandIn
from whyrank.embedded.relay import Relay

BODY = {"messages": [{"role": "user", "content": "doc-a"}]}


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    subject = Relay()
    await subject.start()
    yield subject
    await subject.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def server(name: str) -> StandIn:
    backend = StandIn()
    backend.models = [name]
    return await backend.start()


def root(backend: StandIn) -> str:
    return f"http://127.0.0.1:{backend.port}"


async def ask(session: aiohttp.ClientSession, relay: Relay, model: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{relay.port}/v1/chat/completions"
    async with session.post(url, json={**BODY, "model": model}) as answer:
        return answer.status, await answer.json()


async def get(session: aiohttp.ClientSession, relay: Relay, path: str) -> tuple[int, Any]:
    async with session.get(f"http://127.0.0.1:{relay.port}{path}") as answer:
        return answer.status, json.loads(await answer.read() or b"null")


async def test_each_model_is_answered_by_its_own_server_and_no_other(
    relay: Relay, session: aiohttp.ClientSession
) -> None:
    one, two = await server("one"), await server("two")
    assert (await get(session, relay, "/health"))[0] == 503
    assert (await get(session, relay, "/v1/models"))[0] == 503
    for name, backend in (("one", one), ("two", two)):
        relay.add(name, root(backend))
    relay.lead("one")
    assert (await get(session, relay, "/health"))[0] == 200
    models = (await get(session, relay, "/v1/models"))[1]["data"]
    assert [model["id"] for model in models] == ["one", "two"]
    for name in ("one", "two", "one"):
        status, answer = await ask(session, relay, name)
        assert (status, answer["model"]) == (200, name)
    status, answer = await ask(session, relay, "three")
    assert status == 404
    assert "three" in answer["error"]["message"]
    await one.stop()
    assert (await ask(session, relay, "one"))[0] == 503
    assert [m["id"] for m in (await get(session, relay, "/v1/models"))[1]["data"]] == ["two"]
    assert (await ask(session, relay, "two"))[0] == 200
    await two.stop()


async def test_no_request_fails_while_servers_are_changed_under_load(
    relay: Relay, session: aiohttp.ClientSession
) -> None:
    """Sixteen callers ask for whatever leads; ten servers take the lead in turn and the one before goes."""
    first = await server("v0")
    first.latency_s = 0.01
    relay.add("v0", root(first))
    current, stop = "v0", False
    answered: list[tuple[int, str, str]] = []

    async def call() -> None:
        while not stop:
            name = current
            status, answer = await ask(session, relay, name)
            answered.append((status, name, answer.get("model", "")))

    callers = [asyncio.create_task(call()) for _ in range(16)]
    before = first
    for number in range(1, 11):
        name = f"v{number}"
        fresh = await server(name)
        fresh.latency_s = 0.01
        relay.add(name, root(fresh))
        relay.lead(name)
        old, current = current, name
        while not any(asked == name for _, asked, _ in answered):
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)  # every caller has turned to the new one; what is in flight ends
        await relay.remove(old, 10)
        assert before.in_flight == 0
        await before.stop()
        before = fresh
    stop = True
    await asyncio.gather(*callers)
    await before.stop()
    assert {status for status, _, _ in answered} == {200}
    assert all(asked == model for _, asked, model in answered)
    assert len({asked for _, asked, _ in answered}) == 11


async def test_a_server_that_goes_is_waited_for_and_asked_no_more(relay: Relay, session: aiohttp.ClientSession) -> None:
    one = await server("one")
    one.hold = asyncio.Event()
    relay.add("one", root(one))
    asking = asyncio.create_task(ask(session, relay, "one"))
    while not one.in_flight:
        await asyncio.sleep(0.01)
    removing = asyncio.create_task(relay.remove("one", 30))
    await asyncio.sleep(0)
    assert (await ask(session, relay, "one"))[0] == 404
    assert not removing.done()
    one.hold.set()
    await removing
    assert (await asking)[0] == 200
    await one.stop()


async def test_a_caller_that_hangs_up_frees_the_server(relay: Relay, session: aiohttp.ClientSession) -> None:
    one = await server("one")
    one.hold = asyncio.Event()
    relay.add("one", root(one))
    asking = asyncio.create_task(ask(session, relay, "one"))
    while not one.in_flight:
        await asyncio.sleep(0.01)
    asking.cancel()
    await relay.remove("one", 30)  # would be the whole patience, were the request still held
    one.hold.set()
    await one.stop()


async def test_answers_pass_as_they_are(relay: Relay, session: aiohttp.ClientSession) -> None:
    """Path, query, headers and body one way; status, headers and a streamed body the other."""
    seen: dict[str, Any] = {}

    async def echo(request: web.Request) -> web.StreamResponse:
        seen.update(path=request.raw_path, key=request.headers.get("Authorization"), body=await request.read())
        answer = web.StreamResponse(status=418, headers={"X-Told": "yes", "Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for chunk in (b"data: 1\n\n", b"data: 2\n\n"):
            await answer.write(chunk)
        return answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    relay.add("m", f"http://127.0.0.1:{runner.addresses[0][1]}")
    body = json.dumps({"model": "m", "stream": True}).encode()
    url = f"http://127.0.0.1:{relay.port}/v1/anything%2F?a=1%202"
    async with session.post(url, data=body, headers={"Authorization": "Bearer k"}) as answer:
        assert (answer.status, answer.headers["X-Told"]) == (418, "yes")
        assert await answer.read() == b"data: 1\n\ndata: 2\n\n"
    assert seen["key"] == "Bearer k"
    assert seen["body"] == body
    assert seen["path"].endswith("?a=1%202")
    await runner.cleanup()
