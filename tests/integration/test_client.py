"""The Python client over real sockets: streams of events, and policies through the real proxy to real engines."""

from __future__ import annotations

import asyncio
import socket
import threading
import uuid

import pytest

from tests.fakes.sidecar import Sidecar, judge
from tests.integration.proxy.conftest import proxy_before
from tests.integration.serving import serving
from whyrank import AsyncClient, Client
from whyrank.client import MissingError, OrderEvent, RefusedError, TimedOutError, UnreachableError, VerdictEvent
from whyrank.engines import connect
from whyrank.engines.policies import POLICY_INDEX, PolicyStore
from whyrank.settings import Settings
from whyrank.types import Mode, Policy

TEXTS = ["Nothing here. At all.", "You sort a list by list.sort. It is stable.", "A list holds items."]


def test_many_threads_share_one_client() -> None:
    found: list[list[int]] = []
    with serving(Sidecar()) as server, Client(server.url) as client:

        def ask() -> None:
            found.append([result.index for result in client.rerank("sort a list", TEXTS).results])

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [[1, 2, 0]] * 16


def test_verdicts_stream_in_as_they_land() -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    with serving(sidecar) as server, Client(server.url) as client:
        answer = client.rerank("sort a list", TEXTS, deadline_ms=0)
        assert answer.status == "pending"
        assert answer.ranking_id is not None
        events = client.events(answer.ranking_id)
        pairs = sidecar.jobs.requests[0].pairs
        server.do(sidecar.jobs.settle, pairs[1])
        first = next(events)
        assert isinstance(first, VerdictEvent)
        assert (first.hit.engine_position, first.hit.label) == (1, judge(pairs[1]).label)
        for pair in (pairs[0], pairs[2]):
            server.do(sidecar.jobs.settle, pair)
        rest = list(events)
        assert [type(event) for event in rest] == [VerdictEvent, VerdictEvent, OrderEvent]
        final = rest[-1]
        assert isinstance(final, OrderEvent)
        assert [hit.engine_position for hit in final.ranking.hits] == [1, 2, 0]
        assert client.ranking(final.ranking.id).status == "complete"


async def test_a_reader_that_leaves_early_lets_go_of_the_stream() -> None:
    sidecar = Sidecar()
    with serving(sidecar) as server:
        async with AsyncClient(server.url) as client:
            answer = await client.rerank("sort a list", TEXTS)
            assert answer.ranking_id is not None
            events = client.events(answer.ranking_id)
            await anext(events)
            await events.aclose()  # type: ignore[attr-defined]
        registry = sidecar.metrics.registry
        await asyncio.to_thread(server.until, lambda: registry.get_sample_value("whyrank_event_streams") == 0)


def test_where_nothing_answers_or_nobody_says_anything() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:1"):
        client.health()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout_s=0.2) as client, pytest.raises(TimedOutError, match="in time"):
            client.health()


@pytest.mark.parametrize("kind", ["opensearch", "elasticsearch"])
async def test_policies_reach_the_engine_through_the_proxy(kind: str, request: pytest.FixtureRequest) -> None:
    engine_url = request.getfixturevalue(f"{kind}_url")
    engine = await connect(Settings(engine_url=engine_url))
    index = f"client-{uuid.uuid4().hex[:8]}"
    try:
        await engine.delete_index(POLICY_INDEX)
        async with proxy_before(engine_url) as (url, _), AsyncClient(url) as client:
            assert await client.policy(index) is None
            enabled = await client.enable(index, fields=("title",), window=20, mode=Mode.LABEL)
            assert enabled == Policy(index, ("title",), window=20, mode=Mode.LABEL)
            assert await PolicyStore(engine).list() == {index: enabled}
            assert await client.enable(index, deadline_ms=5) == await client.policy(index)
            assert await client.disable(index)
            assert (await PolicyStore(engine).list())[index].enabled is False
            assert await client.delete_policy(index)
            assert not await client.delete_policy(index)
            assert await PolicyStore(engine).list() == {}
            with pytest.raises(MissingError):
                await client.ranking("nobody-knows")
            with pytest.raises(RefusedError):
                await client.rerank("", TEXTS)
    finally:
        await engine.delete_index(POLICY_INDEX)
        await engine.close()
