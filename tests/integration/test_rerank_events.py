"""Event streams over a real socket: events as they land, readers that leave, servers that stop."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.sidecar import Sidecar
from tests.integration.serving import Server, serving

TEXTS = ["Nothing here. At all.", "You sort a list by list.sort. It is stable.", "A list holds items."]


@pytest.fixture
def sidecar() -> Sidecar:
    waiting = Sidecar()
    waiting.jobs.idle = True
    return waiting


def ranked(sidecar: Sidecar, server: Server) -> str:
    body = {"query": "sort a list", "documents": TEXTS, "deadline_ms": 0}
    ranking_id: str = httpx.post(f"{server.url}/v2/rerank", json=body).json()["ranking_id"]
    server.until(lambda: bool(sidecar.jobs.requests))
    return ranking_id


def settle(sidecar: Sidecar, server: Server, *texts: str) -> None:
    pairs = {pair.passage.text: pair for pair in sidecar.jobs.requests[0].pairs}
    for text in texts:
        server.do(sidecar.jobs.settle, pairs[text])


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name:
            event[name] = value
        elif "event" in event:
            yield {**event, "data": json.loads(event["data"])}
            event = {}


def test_each_verdict_is_sent_when_it_lands(sidecar: Sidecar) -> None:
    with serving(sidecar) as server:
        url = f"{server.url}/v1/rankings/{ranked(sidecar, server)}/events"
        with httpx.stream("GET", url, timeout=20) as response:
            stream = events(response)
            for position in (2, 0):
                server.until(lambda: bool(sidecar.announcements.subscriptions))
                settle(sidecar, server, TEXTS[position])
                # read before the next one lands: a stream that is held back would wait for ever here
                assert next(stream)["data"]["id"] == str(position)
            settle(sidecar, server, TEXTS[1])
            assert [event["event"] for event in stream] == ["verdict", "order", "end"]


def test_a_reader_that_comes_back_gets_what_it_missed_and_nothing_twice(sidecar: Sidecar) -> None:
    with serving(sidecar) as server:
        url = f"{server.url}/v1/rankings/{ranked(sidecar, server)}/events"
        with httpx.stream("GET", url, timeout=20) as response:
            server.until(lambda: bool(sidecar.announcements.subscriptions))
            settle(sidecar, server, TEXTS[0])
            first = next(events(response))
        server.until(lambda: not sidecar.announcements.subscriptions)
        settle(sidecar, server, TEXTS[1], TEXTS[2])
        with httpx.stream("GET", url, timeout=20, headers={"Last-Event-ID": first["id"]}) as response:
            rest = list(events(response))
    assert [event["event"] for event in rest] == ["verdict", "verdict", "order", "end"]
    assert {first["data"]["id"], *(event["data"]["id"] for event in rest[:2])} == {"0", "1", "2"}


def test_a_reader_that_leaves_ends_the_work(sidecar: Sidecar) -> None:
    with serving(sidecar) as server:
        url = f"{server.url}/v1/rankings/{ranked(sidecar, server)}/events"
        with httpx.stream("GET", url, timeout=20):
            server.until(lambda: bool(sidecar.announcements.subscriptions))
            assert sidecar.metrics.registry.get_sample_value("whyrank_event_streams") == 1
        server.until(lambda: not sidecar.announcements.subscriptions)
        server.until(lambda: sidecar.metrics.registry.get_sample_value("whyrank_event_streams") == 0)


def test_a_silent_stream_is_kept_alive_by_pings(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin_service.api.rankings._PING_S", 0.05)
    with serving(sidecar) as server:
        url = f"{server.url}/v1/rankings/{ranked(sidecar, server)}/events"
        with httpx.stream("GET", url, timeout=20) as response:
            assert next(line for line in response.iter_lines() if line).startswith(": ping")


def test_streams_of_two_servers_in_one_process_do_not_disturb_each_other(sidecar: Sidecar) -> None:
    """The library under the streams watches for the server's end per thread: one that has ended ends no other."""
    with serving(sidecar) as server:
        ranking_id = ranked(sidecar, server)
        with httpx.stream("GET", f"{server.url}/v1/rankings/{ranking_id}/events", timeout=20) as response:
            server.until(lambda: bool(sidecar.announcements.subscriptions))
            with serving(Sidecar()) as other:
                assert httpx.get(f"{other.url}/_whyrank/health").status_code == 200
            settle(sidecar, server, *TEXTS)
            assert [event["event"] for event in events(response)][-2:] == ["order", "end"]


STOPPING = """
import sys, uvicorn
from tests.fakes.sidecar import Sidecar
sidecar = Sidecar()
sidecar.jobs.idle = True
uvicorn.run(sidecar.app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=60)
"""


def test_a_server_that_is_told_to_stop_ends_its_streams_in_good_form() -> None:
    """Streams that wait must not hold the server up, nor be cut: their readers reconnect, elsewhere."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", STOPPING, str(port)]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=10), timeout=20
            ) as client:
                body = {"query": "q", "documents": TEXTS, "deadline_ms": 0}
                ranking_id = client.post("/v2/rerank", json=body).json()["ranking_id"]
                with client.stream("GET", f"/v1/rankings/{ranking_id}/events") as response:
                    assert response.status_code == 200
                    process.send_signal(signal.SIGTERM)
                    assert list(events(response)) == []
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGTERM
    assert b"without completing" not in errors
