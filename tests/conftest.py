"""The real components that the tests run against: started once a session, when a test first asks for them.

An address in WHYRANK_TEST_OPENSEARCH, _ELASTICSEARCH, _REDIS or _MODEL is used instead of starting one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from msgspec.structs import replace

from tests import embedded_elasticsearch
from whyrank.embedded import engine, model_server, state, valkey
from whyrank.records import save_manifest
from whyrank.registry import Registry, Version

ROOT = Path(__file__).resolve().parent.parent
ORDER = ("unit", "contract", "integration", "browser")
INDEX = "python-docs"
READY_S = 600.0

T = TypeVar("T")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first; the model server, which takes a minute to load, gets that minute beside them."""
    rooms = {room: number for number, room in enumerate(ORDER)}
    items.sort(key=lambda item: rooms.get(item.path.relative_to(ROOT / "tests").parts[0], len(rooms)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to start the model server if a test will want it."""
    wanted = {"model_url", "stack_url"}
    starts = any(wanted & set(getattr(item, "fixturenames", ())) for item in session.items)
    if starts and not session.config.option.collectonly and "WHYRANK_TEST_MODEL" not in os.environ:
        factory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        MODEL.begin(factory.mktemp("model"))


def shipped() -> Version:
    """The version that comes with the package: what the tests judge with."""
    return Registry.load_folder(model_server.SHIPPED)


class EarlyModel:
    """The model server, started in a thread while other tests run."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._starting: Future[str] | None = None

    def begin(self, folder: Path) -> None:
        pool = ThreadPoolExecutor(1)
        self._starting = pool.submit(self._stack.enter_context, model_server.start(folder, adapter=shipped().adapter))
        pool.shutdown(wait=False)

    def address(self) -> str:
        assert self._starting is not None
        return self._starting.result(READY_S)

    def end(self) -> None:
        if self._starting is not None:
            self._starting.exception(READY_S)
            self._stack.close()


MODEL = EarlyModel()


def pytest_sessionfinish() -> None:
    MODEL.end()


def _address(variable: str, starting: AbstractContextManager[str]) -> Iterator[str]:
    given = os.environ.get(f"WHYRANK_TEST_{variable}")
    if given:
        yield given
        return
    with starting as address:
        yield address


@pytest.fixture(scope="session")
def opensearch_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _address("OPENSEARCH", engine.start(tmp_path_factory.mktemp("opensearch")))


@pytest.fixture(scope="session")
def elasticsearch_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _address("ELASTICSEARCH", embedded_elasticsearch.start(tmp_path_factory.mktemp("elasticsearch")))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Without a database number: tests add one of their own."""
    for address in _address("REDIS", valkey.start(tmp_path_factory.mktemp("valkey"))):
        yield address.removesuffix("/0")


@pytest.fixture(scope="session")
def model_url() -> str:
    return os.environ.get("WHYRANK_TEST_MODEL") or MODEL.address()


@pytest.fixture(scope="session")
def model_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of the model behind `model_url`."""
    path = tmp_path_factory.mktemp("manifest") / "manifest.json"
    save_manifest(replace(model_server.describe(shipped()), served_name=model_server.SERVED_NAME), path)
    return path


@pytest.fixture(scope="session")
def stack_url(model_url: str, model_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A sidecar as `whyrank up` runs it, over this Python's documentation, with the session's model server."""
    home = tmp_path_factory.mktemp("stack")
    whyrank = [sys.executable, "-m", "whyrank.cli"]
    model = {"WHYRANK_MODEL_URL": model_url, "WHYRANK_MODEL_MANIFEST": str(model_manifest)}
    up = subprocess.Popen([*whyrank, "up", "--home", str(home), "--no-model", "--quiet"], env={**os.environ, **model})
    try:
        running = _searchable(home, up)
        engine_url, sidecar = running.urls[state.ENGINE], running.urls[state.SIDECAR]
        load = [sys.executable, "-m", "ingest", "--python-docs", "--index", INDEX, "--engine-url", engine_url]
        subprocess.run(load, check=True, capture_output=True)
        enable = [*whyrank, "enable", INDEX, "--fields", "title,body", "--engine-url", engine_url]
        subprocess.run(enable, check=True, capture_output=True)
        _until(lambda: INDEX in httpx.get(f"{sidecar}/_whyrank/policies").text)
        yield sidecar
    finally:
        up.terminate()
        up.wait(60)


def _searchable(home: Path, up: subprocess.Popen[bytes]) -> state.State:
    def ready() -> state.State | None:
        assert up.poll() is None, "the supervisor ended"
        running = state.running(home)
        return running if running is not None and running.searchable() else None

    return _until(ready)


def _until(found: Callable[[], T]) -> T:
    """What `found` gives, as soon as that is something. Raises AssertionError after READY_S."""
    ends = time.monotonic() + READY_S
    while not (value := found()):
        assert time.monotonic() < ends, "not ready in time"
        time.sleep(0.2)
    return value
