"""Rankings by id and their events. Live streams over a socket are in tests/integration/test_rerank_events.py."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from plugin_service.api.rankings import Cursor
from tests.fakes.sidecar import Sidecar, judge
from whyrank.types import FailureKind, FusionWeights, Pair, Passage, RankedHit, Ranking, VerdictFailure

TEXTS = ["Nothing here. At all.", "You sort a list by list.sort. It is stable.", "A list holds items."]


async def ranked(sidecar: Sidecar, **fields: Any) -> str:
    body = {"query": "sort a list", "documents": TEXTS, **fields}
    response = await sidecar.client().post("/v2/rerank", json=body)
    await sidecar.rescorer.close()
    ranking_id: str = response.json()["ranking_id"]
    return ranking_id


async def events(sidecar: Sidecar, ranking_id: str, last: str = "") -> list[dict[str, Any]]:
    headers = {"Last-Event-ID": last} if last else {}
    response = await sidecar.client().get(f"/v1/rankings/{ranking_id}/events", headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.strip().split("\n\n"):
        lines = [line.partition(": ")[::2] for line in block.split("\n") if not line.startswith(":")]
        event = dict(lines)
        found.append({**event, "data": json.loads(event["data"])})
    return found


async def test_a_ranking_is_read_in_the_order_that_was_answered() -> None:
    sidecar = Sidecar()
    ranking_id = await ranked(sidecar)
    response = await sidecar.client().get(f"/v1/rankings/{ranking_id}")
    body = response.json()
    assert [hit["engine_position"] for hit in body["hits"]] == [1, 2, 0]
    assert [(hit["position"], hit["move"]) for hit in body["hits"]] == [(0, 1), (1, 1), (2, -2)]
    assert (body["id"], body["status"], body["judged"], body["missing"]) == (ranking_id, "complete", 3, 0)
    best = body["hits"][0]
    assert best["grounded"]
    assert best["explanation"] == 'The document states "You sort a list by list".'
    assert best["quotes"] == [{"text": "You sort a list by list", "start": 0, "end": 23}]
    assert best["label_probabilities"] == [0.0, 0.0, 1.0]
    assert "no-store" in response.headers["cache-control"]


async def test_the_bi_encoder_has_its_say_and_is_shown() -> None:
    """Texts have no engine's order, so that its weight counts for nothing; more similar is higher."""
    sidecar = Sidecar()
    sidecar.model.info = replace(sidecar.model.info, weights=FusionWeights(engine=0.5, relevance=0.0, similarity=0.5))
    similarities = dict(zip(TEXTS, (0.4, 0.2, 0.6), strict=True))
    sidecar.jobs.judge = lambda pair: replace(judge(pair), similarity=similarities[pair.passage.text])
    body = (await sidecar.client().get(f"/v1/rankings/{await ranked(sidecar)}")).json()
    assert body["weights"] == {"engine": 0.0, "relevance": 0.0, "similarity": 0.5}
    assert [(hit["similarity"], hit["score"]) for hit in body["hits"]] == [
        (0.6, 1.0),
        (0.4, pytest.approx(0.5)),
        (0.2, 0.0),
    ]
    assert [hit["relevance"] for hit in body["hits"]] == [
        judge(Pair("", "sort a list", Passage(TEXTS[i]))).relevance for i in (2, 0, 1)
    ]


async def test_verdicts_that_land_later_are_in_the_ranking() -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    ranking_id = await ranked(sidecar, deadline_ms=0)
    before = (await sidecar.client().get(f"/v1/rankings/{ranking_id}")).json()
    for pair in sidecar.jobs.requests[0].pairs:
        sidecar.jobs.settle(pair)
    after = (await sidecar.client().get(f"/v1/rankings/{ranking_id}")).json()
    assert [hit["status"] for hit in before["hits"]] == ["unjudged"] * 3
    assert [hit["status"] for hit in after["hits"]] == ["judged"] * 3
    assert [hit["id"] for hit in before["hits"]] == [hit["id"] for hit in after["hits"]]


async def test_an_ungrounded_explanation_is_withheld() -> None:
    sidecar = Sidecar()
    sidecar.jobs.judge = lambda pair: replace(judge(pair), grounded=False)
    body = (await sidecar.client().get(f"/v1/rankings/{await ranked(sidecar)}")).json()
    for hit in body["hits"]:
        assert (hit["grounded"], hit["explanation"], hit["quotes"]) == (False, None, [])
        assert hit["label"] is not None
    assert "The document states" not in json.dumps(body)


@pytest.mark.parametrize("path", ["/v1/rankings/{}", "/v1/rankings/{}/events"])
async def test_ids_that_are_unknown_forged_or_malformed_are_the_same_404(path: str) -> None:
    sidecar, other = Sidecar(), Sidecar()
    known = await ranked(sidecar)
    forged = known[:-1] + ("A" if known[-1] != "A" else "B")
    answers = []
    for ranking_id in (sidecar.ids.new(), forged, await ranked(other), "x", "é" * 30, known + "x"):
        response = await sidecar.client().get(path.format(ranking_id))
        answers.append((response.status_code, response.text))
    assert set(answers) == {(404, answers[0][1])}
    assert json.loads(answers[0][1])["error"]["type"] == "not_found"


async def test_a_forged_id_never_reaches_the_store() -> None:
    sidecar = Sidecar()
    sidecar.rankings.down = True
    assert (await sidecar.client().get("/v1/rankings/forged")).status_code == 404
    unknown = await sidecar.client().get(f"/v1/rankings/{sidecar.ids.new()}")
    assert unknown.status_code == 503
    assert unknown.json()["error"]["type"] == "store_unavailable"


async def test_the_stream_of_a_judged_ranking_gives_all_at_once() -> None:
    sidecar = Sidecar()
    ranking_id = await ranked(sidecar)
    stream = await events(sidecar, ranking_id)
    assert [event["event"] for event in stream] == ["verdict"] * 3 + ["order", "end"]
    assert [event["data"]["id"] for event in stream[:3]] == ["1", "2", "0"]
    assert stream[0]["data"]["explanation"] == 'The document states "You sort a list by list".'
    assert stream[3]["data"]["id"] == ranking_id
    assert sidecar.metrics.registry.get_sample_value("whyrank_event_streams") == 0


async def test_late_verdicts_stream_and_end_in_a_new_order_with_a_new_id() -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    ranking_id = await ranked(sidecar, deadline_ms=0)
    stream = asyncio.create_task(events(sidecar, ranking_id))
    while not sidecar.announcements.subscriptions:
        await asyncio.sleep(0)
    pairs = {pair.passage.text: pair for pair in sidecar.jobs.requests[0].pairs}
    for text in (TEXTS[2], TEXTS[0], TEXTS[1]):
        sidecar.jobs.settle(pairs[text])
    *verdicts, order, end = await stream
    assert [event["data"]["id"] for event in verdicts] == ["2", "0", "1"]
    assert [event["data"]["position"] for event in verdicts] == [2, 0, 1]
    assert [hit["id"] for hit in order["data"]["hits"]] == ["1", "2", "0"]
    assert order["data"]["status"] == "complete"
    assert order["data"]["id"] != ranking_id
    assert end["event"] == "end"
    await sidecar.rescorer.close()
    again = await sidecar.client().get(f"/v1/rankings/{order['data']['id']}")
    assert again.json() == order["data"]
    assert not sidecar.announcements.subscriptions


async def test_a_failed_pair_is_an_event_too() -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    ranking_id = await ranked(sidecar, deadline_ms=0, documents=TEXTS[:1])
    stream = asyncio.create_task(events(sidecar, ranking_id))
    while not sidecar.announcements.subscriptions:
        await asyncio.sleep(0)
    sidecar.announcements.announce(sidecar.jobs.requests[0].pairs[0].key, VerdictFailure(FailureKind.EMPTY))
    verdict, order, _ = await stream
    assert (verdict["data"]["status"], verdict["data"]["failure"]) == ("failed", "empty")
    assert order["data"]["status"] == "failed"


@pytest.mark.parametrize("seen", range(5))
async def test_a_reconnecting_reader_loses_and_repeats_nothing(seen: int) -> None:
    sidecar = Sidecar()
    ranking_id = await ranked(sidecar)
    whole = await events(sidecar, ranking_id)
    if seen:
        rest = await events(sidecar, ranking_id, last=whole[seen - 1]["id"])
        assert rest == whole[seen:]
    assert len({event["id"] for event in whole}) == len(whole) == 5


async def test_a_reader_that_has_the_end_is_told_to_stop() -> None:
    sidecar = Sidecar()
    ranking_id = await ranked(sidecar)
    last = (await events(sidecar, ranking_id))[-1]["id"]
    response = await sidecar.client().get(f"/v1/rankings/{ranking_id}/events", headers={"Last-Event-ID": last})
    assert response.status_code == 204


async def test_a_store_that_fails_during_a_stream_is_said_in_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    ranking_id = await ranked(sidecar, deadline_ms=0)
    load = sidecar.rescorer.load

    async def then_down(wanted: str) -> Ranking | None:
        found = await load(wanted)
        sidecar.cache.down = True
        return found

    monkeypatch.setattr(sidecar.rescorer, "load", then_down)
    (fault,) = await events(sidecar, ranking_id)
    assert fault["event"] == "fault"
    assert fault["data"]["error"]["type"] == "store_unavailable"
    assert "id" not in fault


@given(st.text(max_size=80))
def test_any_last_event_id_is_a_cursor(text: str) -> None:
    assert Cursor.parse(str(Cursor.parse(text))) == Cursor.parse(text)


@given(st.sets(st.integers(0, 199)), st.booleans())
def test_a_cursor_survives_its_way_through_a_reader(sent: set[int], ordered: bool) -> None:
    cursor = Cursor(ordered=ordered)
    for position in sent:
        assert cursor.take(RankedHit(id=str(position), index="i", engine_position=position))
    back = Cursor.parse(str(cursor))
    assert back == cursor
    assert all(back.take(RankedHit("x", "i", position)) is (position not in sent) for position in range(200))
