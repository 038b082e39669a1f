"""A sidecar that is killed while searches wait for it: `python -m bench.kills` in the small, without its chances."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.engine_plugin_rig import PATIENCE_S, QUERY, Engine, Json, ids, rescored_engine, said
from whyrank.embedded.parts import free_port

MANY = 12
BODY: Json = {"query": QUERY, "size": 3}
SILENT = """
import os, socket, sys, threading
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
kept = []
os.write(1, b"listening\\n")
while True:
    connection, _ = listening.accept()
    kept.append(connection)
    threading.Thread(target=lambda each: each.recv(1) and os.write(1, b"asked\\n"), args=(connection,)).start()
"""
"""Takes requests and never answers."""


@pytest.fixture(scope="module")
def engine(opensearch_url: str) -> Iterator[Engine]:
    with rescored_engine(opensearch_url) as rig:
        yield rig


def test_searches_that_wait_for_a_sidecar_that_is_killed(engine: Engine) -> None:
    """Each has the engine's page; those that come later too; and what comes back on the same port is found."""
    port = free_port()
    settings = engine.processor(url=f"http://127.0.0.1:{port}", deadline_ms=60_000)
    asking = {"search_pipeline": engine.pipeline(settings)}
    sidecar = subprocess.Popen([sys.executable, "-c", SILENT, str(port)], stdout=subprocess.PIPE, text=True)
    with sidecar, ThreadPoolExecutor(MANY) as pool:
        try:
            assert sidecar.stdout is not None
            assert sidecar.stdout.readline() == "listening\n"
            waiting = [pool.submit(engine.search, BODY, params=asking) for _ in range(MANY)]
            for _ in range(MANY):
                assert sidecar.stdout.readline() == "asked\n"
            assert not any(search.done() for search in waiting)
        finally:
            sidecar.kill()
        found = [search.result(PATIENCE_S) for search in waiting]
    later = [engine.search(BODY, params=asking) for _ in range(MANY)]
    for answer in (*found, *later):
        assert ids(answer) == ["0", "1", "2"]
        assert said(answer)["status"] == "failed"
        assert said(answer)["reason"].partition(":")[0] in ("sidecar_unreachable", "circuit_open")
    breaker = engine.stats()["breakers"][f"http://127.0.0.1:{port}"]
    assert (breaker["state"], engine.stats()["in_flight"]) == ("open", 0)
    engine.sidecar.stop()
    engine.sidecar.port = port
    engine.sidecar.start()
    ends = time.monotonic() + PATIENCE_S
    while said(answer := engine.search(BODY, params=asking))["status"] != "complete":
        assert time.monotonic() < ends, answer
    assert ids(answer) == ["19", "18", "17"]
    assert engine.stats()["breakers"][f"http://127.0.0.1:{port}"]["state"] == "closed"
