"""The embedded parts for real: data survives, what dies comes back, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from tests import embedded_elasticsearch
from whyrank.embedded import engine, model_server, valkey
from whyrank.embedded import state as states
from whyrank.embedded.parts import PartError, free_port

PATIENCE_S = 240.0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("start", [engine.start, embedded_elasticsearch.start], ids=["opensearch", "elasticsearch"])
def test_an_engine_keeps_its_documents_from_start_to_start(tmp_path: Path, start: Callable[..., Any]) -> None:
    mapping = {"mappings": {"properties": {"text": {"type": "text", "analyzer": "english"}}}}
    with start(tmp_path) as url:
        httpx.put(f"{url}/kept", json=mapping, timeout=60).raise_for_status()
        httpx.put(f"{url}/kept/_doc/1", json={"text": "running dogs"}, timeout=60).raise_for_status()
    with start(tmp_path) as url:
        answer = httpx.get(f"{url}/kept/_search?q=text:dog", timeout=60).json()
        assert [hit["_id"] for hit in answer["hits"]["hits"]] == ["1"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, timeout=5)


def test_two_engines_do_not_take_each_other_for_themselves(tmp_path: Path) -> None:
    """The launcher moves to the next port when its own is taken; whoever answers at ours is another's engine."""
    with engine.start(tmp_path / "first") as url:
        port = int(url.rpartition(":")[2])
        assert engine.usable(url, json.loads(httpx.get(url, timeout=60).text)["cluster_name"])
        assert not engine.usable(url, "whyrank-another")
        assert free_port(*engine.PORTS, preferred=port) != port


def test_valkey_keeps_what_it_acknowledged_even_when_killed(tmp_path: Path) -> None:
    with valkey.start(tmp_path) as url, redis.Redis.from_url(url) as client:
        client.set("queue", "job")
        client.execute_command("WAITAOF", 1, 0, 10_000)
        os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
    with valkey.start(tmp_path) as url, redis.Redis.from_url(url) as client:
        assert client.get("queue") == b"job"


def test_another_programs_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with valkey.start(tmp_path / "one") as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        assert valkey.pings(port)
        with pytest.raises(PartError, match=f"port {port} is taken"), valkey.start(tmp_path / "two", port):
            pass


@pytest.mark.real_model
def test_the_model_server_answers_with_probabilities(tmp_path: Path) -> None:
    with model_server.start(tmp_path) as url:
        body = {
            "model": model_server.SERVED_NAME,
            "messages": [{"role": "user", "content": "Say a number."}],
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": 3,
        }
        answer = httpx.post(f"{url}/chat/completions", json=body, timeout=120).raise_for_status().json()
        assert len(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 3


def whyrank(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "whyrank.cli", *words, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A stack that is up, without a model server."""
    folder = tmp_path / "home"
    up = whyrank(folder, "up", "--detach", "--no-model")
    try:
        assert up.returncode == 0, up.stderr
        yield folder
    finally:
        whyrank(folder, "down")


def parts(home: Path) -> dict[str, dict[str, Any]]:
    told = json.loads(whyrank(home, "status", "--json").stdout)
    return {part["name"]: part for part in told["parts"]}


def test_the_stack_searches_restarts_what_dies_and_leaves_nothing(home: Path) -> None:
    status = whyrank(home, "status", "--json")
    assert status.returncode == 0, status.stdout
    urls = json.loads(status.stdout)["urls"]
    assert httpx.get(f"{urls['sidecar']}/_cluster/health", timeout=60).status_code == 200, (
        "the proxy reaches the engine"
    )
    assert whyrank(home, "enable", "kept", "--fields", "text").returncode == 0
    [policy] = json.loads(whyrank(home, "policies", "--json").stdout)
    assert policy["index"] == "kept"

    before = parts(home)
    for name in ("sidecar", "worker", "valkey"):
        os.kill(before[name]["pid"], signal.SIGKILL)
    until(lambda: all(part["restarts"] >= 1 for name, part in parts(home).items() if name != "engine"))
    until(lambda: whyrank(home, "status").returncode == 0)
    after = parts(home)
    assert {name: part["port"] for name, part in after.items()} == {name: part["port"] for name, part in before.items()}
    assert after["engine"]["pid"] == before["engine"]["pid"]

    assert whyrank(home, "down").returncode == 0
    assert not any(alive(part["pid"]) for part in after.values())
    assert whyrank(home, "status").returncode == 1


def test_a_killed_supervisor_takes_the_stack_with_it_and_the_next_one_finds_the_data(home: Path) -> None:
    assert whyrank(home, "enable", "kept", "--fields", "text").returncode == 0
    state = states.running(home)
    assert state is not None
    family = [part.pid for part in state.parts.values() if part.pid is not None]
    os.kill(state.pid, signal.SIGKILL)
    until(lambda: not any(map(alive, family)))
    assert whyrank(home, "status").returncode == 1
    assert whyrank(home, "up", "--detach", "--no-model").returncode == 0
    [policy] = json.loads(whyrank(home, "policies", "--json").stdout)
    assert policy["index"] == "kept"
