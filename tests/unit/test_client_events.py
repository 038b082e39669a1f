"""A ranking's events over broken connections: none lost, none repeated, and an end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from whyrank.client import (
    AsyncClient,
    Client,
    FailedError,
    MissingError,
    OrderEvent,
    ProtocolError,
    UnreachableError,
    VerdictEvent,
    stream,
)

HIT = {"id": "a", "index": "docs", "position": 0, "engine_position": 1, "move": 1, "status": "judged", "label": 2}
ORDER = {
    "id": "r2",
    "query": "q",
    "mode": "reason",
    "model_revision": "m",
    "status": "complete",
    "reason": "all_judged",
    "created": 1.5,
    "weights": {"engine": 0.4, "relevance": 0.0, "similarity": 0.6},
    "judged": 1,
    "missing": 0,
    "hits": [HIT],
}
Follow = Callable[[Callable[[httpx.Request], httpx.Response]], Any]


def sent(event: str, data: Any, id_: str = "", retry: int = 1000) -> str:
    head = f"id: {id_}\n" if id_ else ""
    return f"{head}event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\nretry: {retry}\n\n"


END = sent("end", {}, "end")


def streamed(text: str) -> httpx.Response:
    return httpx.Response(200, content=text.encode(), headers={"Content-Type": "text/event-stream; charset=utf-8"})


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def follow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Follows a ranking to its end, without pauses."""
    monkeypatch.setattr(stream, "_PAUSE_S", 0.0)

    async def events(handler: Callable[[httpx.Request], httpx.Response]) -> list[Any]:
        transport = httpx.MockTransport(handler)
        if request.param is Client:
            with Client("http://sidecar", transport=transport) as client:
                found = client.events("r1")
                assert isinstance(found, Iterator)
                return list(found)
        async with AsyncClient("http://sidecar", transport=transport) as client:
            return [event async for event in client.events("r1")]

    return events


async def test_events_are_read_between_signs_of_life(follow: Follow) -> None:
    # a line separator of Unicode inside of a text ends no line of the stream
    hit = {**HIT, "explanation": "one\u2028line\u0085still"}
    text = (
        ": ping\n\n"
        + sent("verdict", hit, "1")
        + ": ping\n\n"
        + sent("news", {})
        + sent("order", ORDER, "1-order")
        + END
    )
    found = await follow(lambda _: streamed(text))
    assert [type(event) for event in found] == [VerdictEvent, OrderEvent]
    assert found[0].hit.explanation == hit["explanation"]
    assert (found[1].ranking.id, found[1].ranking.weights.similarity) == ("r2", 0.6)


async def test_a_stream_that_breaks_goes_on_where_it_was(follow: Follow) -> None:
    asked: list[str | None] = []
    fault = sent("fault", {"error": {"message": "Redis is away"}})
    answers = [sent("verdict", HIT, "1"), fault, sent("verdict", {**HIT, "id": "b"}, "3") + fault, END]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        return streamed(answers.pop(0))

    found = await follow(answer)
    assert [event.hit.id for event in found] == ["a", "b"]
    assert asked == [None, "1", "1", "3"]


async def test_a_stream_that_was_at_its_end_is_over(follow: Follow) -> None:
    answers = [streamed(sent("order", ORDER, "1-order")), httpx.Response(204)]
    found = await follow(lambda _: answers.pop(0))
    assert [type(event) for event in found] == [OrderEvent]


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (httpx.ConnectError("refused"), UnreachableError),
        (httpx.ReadError("reset"), UnreachableError),
        (None, FailedError),
    ],
)
async def test_one_that_breaks_again_and_again_is_given_up(
    follow: Follow, broken: Exception | None, kind: type[Exception]
) -> None:
    asked = []

    def fail(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if broken is not None:
            raise broken
        return httpx.Response(503, json={"error": {"message": "Redis is away"}})

    with pytest.raises(kind):
        await follow(fail)
    assert len(asked) == 4


async def test_what_is_no_stream_is_told_at_once(follow: Follow) -> None:
    with pytest.raises(MissingError, match="expired"):
        await follow(lambda _: httpx.Response(404, json={"error": {"message": "it has expired"}}))
    with pytest.raises(ProtocolError, match="text/html"):
        await follow(lambda _: httpx.Response(200, html="<p>welcome"))
    with pytest.raises(ProtocolError, match="event"):
        await follow(lambda _: streamed(sent("verdict", {"id": 3}, "1")))
