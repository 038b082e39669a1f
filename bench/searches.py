"""What the proxy costs: searches with every verdict cached, and requests that only pass through."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from bench.fill import fill
from bench.http_load import Target, compare
from whyrank.embedded import stack
from whyrank.embedded.cache import Cache
from whyrank.embedded.parts import Part, running
from whyrank.embedded.process import Child
from whyrank.engines import connect
from whyrank.engines.policies import PolicyStore
from whyrank.settings import Settings
from whyrank.types import Policy

INDEX = "bench"
PLAIN = "bench-plain"
WINDOW = 50
POLICY = Policy(index=INDEX, fields=("title", "body"), window=WINDOW, deadline_ms=5_000)
QUERIES = (
    "read a file line by line",
    "parse a date from a string",
    "open a socket and listen",
    "sort a list of tuples",
    "compress data with a dictionary",
    "parse command line arguments",
    "run a function in another process",
    "encode binary data as text",
    "match a regular expression",
    "copy a directory tree",
    "send an email message",
    "measure the time that code takes",
    "walk a folder and its subfolders",
    "format a floating point number",
    "create a temporary file",
    "lock shared between threads",
    "iterate over a mapping",
    "raise an exception with a message",
    "convert a string to bytes",
    "log a warning to a file",
)


def bodies(size: int) -> list[bytes]:
    """One search for each query."""
    return [
        msgspec.json.encode({"size": size, "query": {"multi_match": {"query": words, "fields": ["title^2", "body"]}}})
        for words in QUERIES
    ]


@dataclass(frozen=True)
class Loaded:
    """Engine and Valkey, running, with the index; and the sidecar, which is not."""

    settings: Settings
    engine: Child
    sidecar: Part


@contextmanager
def serving(home: Path) -> Iterator[Settings]:
    """Engine, Valkey and sidecar over this Python's documentation; no model, for none is asked."""
    with loaded(home) as found, running(found.sidecar, home / "sidecar.log"):
        asyncio.run(enable(found.settings))
        yield found.settings


@contextmanager
def loaded(home: Path) -> Iterator[Loaded]:
    """All of it but the sidecar."""
    laid_out = stack.build(home, with_model=False, sidecar_port=8080, cache=Cache())
    wanted = {part.name: part for part in laid_out.parts}
    with (
        running(wanted["engine"], home / "engine.log") as engine,
        running(wanted["valkey"], home / "valkey.log"),
    ):
        settings = Settings(
            engine_url=laid_out.urls["engine"],
            redis_url=laid_out.urls["valkey"],
            port=wanted["sidecar"].port,
        )
        load = [sys.executable, "-m", "ingest", "--python-docs", "--index", INDEX]
        subprocess.run([*load, "--engine-url", settings.engine_url], check=True, capture_output=True)
        alias = {"actions": [{"add": {"index": INDEX, "alias": PLAIN}}]}
        httpx.post(f"{settings.engine_url}/_aliases", json=alias).raise_for_status()
        yield Loaded(settings, engine, wanted["sidecar"])


async def enable(settings: Settings) -> None:
    """Give the index its policy, and wait until the running sidecar sees it."""
    engine = await connect(settings)
    await PolicyStore(engine).put(POLICY)
    await engine.close()
    for _ in range(100):
        if INDEX in httpx.get(f"http://127.0.0.1:{settings.port}/_whyrank/policies").text:
            return
        await asyncio.sleep(0.1)
    raise RuntimeError("the sidecar does not see the policy")


def _statuses(url: str, searches: list[bytes]) -> set[str]:
    headers = {"Content-Type": "application/json"}
    return {httpx.post(url, content=body, headers=headers).headers["x-whyrank-status"] for body in searches}


def run(home: Path, *, rounds: int, seconds: float) -> list[str]:
    """The report's sections."""
    sections = []
    with serving(home) as settings:
        sidecar = f"http://127.0.0.1:{settings.port}"
        written = asyncio.run(fill(settings, POLICY, bodies(WINDOW)))
        for size in (WINDOW, 10):
            url = f"{sidecar}/{INDEX}/_search"
            if (statuses := _statuses(url, bodies(size))) != {"complete"}:
                raise RuntimeError(f"not all cached: {statuses}")
            sections.append(
                compare(
                    f"Rescored, all {written} verdicts cached, window {WINDOW}, {size} hits answered, "
                    f"against the engine alone with size {WINDOW}",
                    Target("rescored", url, bodies(size)),
                    Target("engine", f"{settings.engine_url}/{INDEX}/_search", bodies(WINDOW)),
                    rounds=rounds,
                    seconds=seconds,
                    connections=4,
                )
            )
        for size in (10, WINDOW):
            sections.append(
                compare(
                    f"Passed through, size {size}",
                    Target("through the sidecar", f"{sidecar}/{PLAIN}/_search", bodies(size)),
                    Target("engine", f"{settings.engine_url}/{PLAIN}/_search", bodies(size)),
                    rounds=rounds,
                    seconds=seconds,
                    connections=4,
                )
            )
    return sections
