"""Our plugin when its sidecar is slow, down or wrong: no search fails, none waits for long, each says why."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.integration.engine_plugin_rig import (
    PATIENCE_S,
    QUERY,
    WINDOW,
    Answer,
    Engine,
    Json,
    ScriptedSidecar,
    answer,
    ids,
    keep,
    ours,
    rescored_engine,
    said,
)

ENGINES_ORDER = ["0", "1", "2"]
BODY: Json = {"query": QUERY, "size": 3}


@pytest.fixture(scope="module")
def module_engine(opensearch_url: str) -> Iterator[Engine]:
    with rescored_engine(opensearch_url) as rig:
        yield rig


@pytest.fixture
def engine(module_engine: Engine) -> Iterator[Engine]:
    """With a sidecar of its own for each test, as each sidecar has a breaker of its own."""
    everyone = module_engine.sidecar
    module_engine.sidecar = ScriptedSidecar()
    try:
        yield module_engine
    finally:
        module_engine.sidecar.release()
        module_engine.sidecar.stop()
        module_engine.sidecar = everyone


def in_engines_order(found: Json, status: str, reason: str) -> None:
    assert ids(found) == ENGINES_ORDER
    assert (said(found)["status"], said(found)["ranking_id"], said(found)["judged"]) == (status, None, 0)
    assert said(found)["reason"].startswith(reason), said(found)["reason"]
    for place, hit in enumerate(found["hits"]["hits"], start=1):
        assert ours(hit) == {"whyrank.engine_rank": [place]}
    assert found["hits"]["total"]["value"] == 40


def count(asked: Json) -> int:
    return len(asked["hits"])


WRONG: dict[str, Callable[[Json], Answer]] = {
    "not JSON": lambda asked: (200, b"<html>"),
    "nothing": lambda asked: (200, b""),
    "another object": lambda asked: (200, b'{"detail": "x"}'),
    "cut off": lambda asked: (200, keep(asked)[1][:-20]),
    "too few places": lambda asked: answer(asked, list(range(count(asked) - 1))),
    "too many places": lambda asked: answer(asked, list(range(count(asked) + 1))),
    "a place twice": lambda asked: answer(asked, [0] * count(asked)),
    "a place that is not there": lambda asked: answer(asked, list(range(1, count(asked) + 1))),
    "half a place": lambda asked: (200, keep(asked)[1].replace(b"[0,", b"[0.5,")),
    "too few hits": lambda asked: answer(asked, list(range(count(asked))), hits=[]),
    "no objects for hits": lambda asked: answer(asked, list(range(count(asked))), hits=["x"] * count(asked)),
    "an unknown status": lambda asked: answer(asked, list(range(count(asked))), status="splendid"),
    "too large": lambda asked: (200, keep(asked)[1] + b" " * 5_000_000),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer(engine: Engine, wrong: str) -> None:
    engine.sidecar.script = WRONG[wrong]
    in_engines_order(engine.search(BODY, params={"search_pipeline": engine.pipeline()}), "failed", "bad_answer: ")


def test_an_answer_that_the_engine_could_not_write(engine: Engine) -> None:
    """Half a character in it would break the engine's own answer."""

    def script(asked: Json) -> Answer:
        half = [{"explanation": "half \ud800", "quotes": [{"text": "\udc00"}]} for _ in asked["hits"]]
        body = json.loads(keep(asked)[1]) | {"hits": half, "reason": "r \ud800"}
        return 200, json.dumps(body).encode()

    engine.sidecar.script = script
    found = engine.search(BODY, params={"search_pipeline": engine.pipeline()})
    assert ours(found["hits"]["hits"][0])["whyrank.explanation"] == ["half \ufffd"]
    assert said(found)["reason"] == "r \ufffd"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (500, "sidecar_error: HTTP 500: oh no"),
        (429, "sidecar_error: HTTP 429: oh no"),
        (400, "sidecar_refused: HTTP 400: oh no"),
        (413, "sidecar_refused: HTTP 413: oh no"),
        (404, "sidecar_error: HTTP 404: oh no"),
        (302, "sidecar_error: HTTP 302: oh no"),
    ],
)
def test_an_error(engine: Engine, status: int, reason: str) -> None:
    engine.sidecar.script = lambda asked: (status, b"oh no")
    in_engines_order(engine.search(BODY, params={"search_pipeline": engine.pipeline()}), "failed", reason)


def test_the_sidecars_own_troubles_are_passed_on(engine: Engine) -> None:
    reason = "store_unavailable: the store is away"
    engine.sidecar.script = lambda asked: answer(
        asked, list(range(count(asked))), status="failed", reason=reason, hits=[None] * count(asked)
    )
    found = engine.search(BODY, params={"search_pipeline": engine.pipeline()})
    assert (ids(found), said(found)["status"], said(found)["reason"]) == (ENGINES_ORDER, "failed", reason)


def test_nobody_there(engine: Engine) -> None:
    name = engine.pipeline()
    engine.sidecar.stop()
    in_engines_order(engine.search(BODY, params={"search_pipeline": name}), "failed", "sidecar_unreachable: ")


def test_an_answer_that_comes_too_late(engine: Engine) -> None:
    name = engine.pipeline(engine.processor(deadline_ms=20, grace_ms=30))
    engine.sidecar.hold()
    late = engine.search(BODY, params={"search_pipeline": name})
    in_engines_order(late, "failed", "sidecar_late: no answer within 50 ms")
    asked = {**BODY, "ext": {"whyrank": {"deadline_ms": 0}}}
    later = engine.search(asked, params={"search_pipeline": name})
    in_engines_order(later, "failed", "sidecar_late: no answer within 30 ms")


def test_an_answer_that_never_ends(engine: Engine) -> None:
    """Its headers are in time, its body is not."""
    with trickling() as port:
        settings = {"url": f"http://127.0.0.1:{port}", "deadline_ms": 100, "grace_ms": 1}
        name = engine.pipeline(engine.processor(**settings))
        in_engines_order(engine.search(BODY, params={"search_pipeline": name}), "failed", "sidecar_late: ")


@contextmanager
def trickling() -> Iterator[int]:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                over.wait(PATIENCE_S)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()


def test_no_thread_of_the_engine_waits_for_a_sidecar(engine: Engine) -> None:
    """More searches wait than the engine has threads for searches, and others are answered meanwhile."""
    name = engine.pipeline(engine.processor(deadline_ms=60_000))
    engine.sidecar.hold()
    many = 60
    with ThreadPoolExecutor(many) as pool:
        waiting = [pool.submit(engine.search, BODY, params={"search_pipeline": name}) for _ in range(many)]
        for _ in range(many):
            assert engine.sidecar.waiting.acquire(timeout=PATIENCE_S)
        assert ids(engine.plain(BODY)) == ENGINES_ORDER
        assert engine.stats()["in_flight"] == many
        assert not any(search.done() for search in waiting)
        engine.sidecar.release()
        assert {tuple(ids(search.result())) for search in waiting} == {("19", "18", "17")}
    assert engine.stats()["in_flight"] == 0


def test_the_breaker_spares_a_sidecar_that_fails_and_finds_out_when_it_is_back(engine: Engine) -> None:
    name = engine.pipeline()
    engine.sidecar.stop()
    reasons = [said(engine.search(BODY, params={"search_pipeline": name}))["reason"] for _ in range(7)]
    assert [reason.split(":")[0] for reason in reasons] == ["sidecar_unreachable"] * 5 + ["circuit_open"] * 2
    assert engine.stats()["breakers"][engine.sidecar.url]["state"] == "open"
    engine.sidecar.start()
    found = _until(lambda: engine.search(BODY, params={"search_pipeline": name}), lambda f: ids(f) != ENGINES_ORDER)
    assert said(found)["status"] == "complete"
    assert engine.stats()["breakers"][engine.sidecar.url]["state"] == "closed"


def test_one_sidecars_breaker_is_not_anothers(engine: Engine) -> None:
    name = engine.pipeline()
    other = ScriptedSidecar()
    try:
        broken = engine.pipeline(engine.processor(url=other.url))
        other.script = lambda asked: (500, b"")
        for _ in range(6):
            found = engine.search(BODY, params={"search_pipeline": broken})
        in_engines_order(found, "failed", "circuit_open: ")
        assert ids(engine.search(BODY, params={"search_pipeline": name})) == ["19", "18", "17"]
    finally:
        other.stop()


def test_documents_that_do_not_fit_one_request(engine: Engine) -> None:
    long = "alpha " + "a word or two. " * 60_000  # 900 kB, below the most that one text may have
    docs = [{"title": "long", "body": long, "n": n} for n in range(15)]
    index = engine.new_index(docs)
    body = {"query": QUERY, "size": 15, "_source": ["n"]}
    found = engine.search(body, index, params={"search_pipeline": engine.pipeline()})
    (asked,) = engine.sidecar.asked
    sent = count(asked)
    assert 0 < sent < 15
    assert len(json.dumps(asked)) < 10_000_000
    assert said(found)["status"] == "partial"
    assert said(found)["reason"].startswith(f"request_too_large: {sent} of 15 documents fit ")
    given = [hit["id"] for hit in asked["hits"]]
    assert ids(found)[:sent] == given[::-1], "those that fit are in the new order, before the others"
    assert sorted(ids(found)) == sorted(str(n) for n in range(15))


def test_a_text_that_is_longer_than_the_sidecar_takes(engine: Engine) -> None:
    index = engine.new_index([{"title": "long", "body": "alpha " + "x" * 3_000_000}])
    found = engine.search({"query": QUERY}, index, params={"search_pipeline": engine.pipeline()})
    assert said(found)["status"] == "complete"
    assert len(engine.sidecar.asked[0]["hits"][0]["fields"]["body"]) == 999_999


@pytest.mark.parametrize("seed", [1, 2])
def test_no_search_fails_while_the_sidecar_comes_and_goes(engine: Engine, seed: int) -> None:
    name = engine.pipeline(engine.processor(deadline_ms=50, grace_ms=50))
    chance = random.Random(seed)
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            engine.sidecar.stop()
            over.wait(chance.uniform(0, 0.05))
            engine.sidecar.script = chance.choice([keep, *WRONG.values()])
            engine.sidecar.start()
            (engine.sidecar.hold if chance.random() < 0.2 else engine.sidecar.release)()
            over.wait(chance.uniform(0, 0.1))

    trouble = threading.Thread(target=come_and_go)
    trouble.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            searches = [pool.submit(engine.search, BODY, params={"search_pipeline": name}) for _ in range(400)]
            found = [search.result() for search in searches]
    finally:
        over.set()
        trouble.join()
    assert all(ids(each) == ENGINES_ORDER for each in found)
    assert all(said(each)["window"] == WINDOW for each in found)
    assert len({said(each)["reason"].split(":")[0] for each in found}) > 1


def _until(found: Callable[[], Json], wanted: Callable[[Json], bool]) -> Json:
    ends = time.monotonic() + PATIENCE_S
    while not wanted(value := found()):
        assert time.monotonic() < ends, value
        time.sleep(0.05)
    return value
