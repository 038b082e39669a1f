"""Searches through the engine's plugin while its sidecar is killed and started again, at random: none may fail.

`python -m bench.kills`. A search fails if it is not answered with 200, if a shard of it fails, or if its hits are not
what they have to be: the engine's page where nothing was judged, as many hits as that where something was.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer

from bench.doors import PIPELINE, SIZE, install_pipeline
from bench.fill import fill
from bench.http_load import machine, percentile
from bench.leaks import Footprint, footprint, leaks
from bench.searches import INDEX, POLICY, WINDOW, Loaded, bodies, enable, loaded
from whyrank.embedded.cache import silent
from whyrank.embedded.parts import Part, launch
from whyrank.embedded.process import Child

CALLERS = 8
UP_S = (0.1, 8.0)
"""How long a sidecar answers before it is killed."""
UNBORN = 0.2
"""The share of those that are killed while they start, at most EARLY_S seconds after they began."""
EARLY_S = 2.0
DOWN_S = (0.0, 3.0)
PROBE_S = 0.1
PATIENCE_S = 120.0


class Sidecar:
    """A sidecar that can be killed; `outages` are from when it was killed until it answered again (monotonic)."""

    def __init__(self, part: Part, log: Path) -> None:
        self._part = part
        self._log = log
        self._child: Child | None = None
        self.kills = 0
        self.unborn = 0
        """Killed before they answered."""
        self.outages: list[tuple[float, float]] = []
        self._down_since: float | None = time.monotonic()

    def start(self) -> None:
        """Start the process, and do not wait for it."""
        self._child = launch(self._part, self._part.prepare(silent), self._log)

    def look(self) -> bool:
        """Whether it answers; ends the outage if it does."""
        up = self._part.ready()
        if up and self._down_since is not None:
            self.outages.append((self._down_since, time.monotonic()))
            self._down_since = None
        return up

    def wait(self) -> None:
        """Until it answers. Raises RuntimeError when it does not."""
        ends = time.monotonic() + PATIENCE_S
        while not self.look():
            if time.monotonic() > ends:
                raise RuntimeError(f"the sidecar is not ready:\n{self._log.read_text()[-2000:]}")
            time.sleep(PROBE_S)

    def kill(self) -> None:
        """SIGKILL, as the kernel does it when memory is short."""
        if self._child is None:
            return
        self.kills += 1
        self.unborn += self._down_since is not None
        if self._down_since is None:
            self._down_since = time.monotonic()
        os.killpg(self._child.pid, signal.SIGKILL)
        self._child.stop()
        self._child = None

    def come_and_go(self, chance: random.Random, over: threading.Event) -> None:
        """Kill it and start it again until it is over; it runs then."""
        while not over.is_set():
            if chance.random() < UNBORN:
                over.wait(chance.uniform(0.0, EARLY_S))
            else:
                while not self.look() and not over.wait(PROBE_S):
                    pass
                over.wait(chance.uniform(*UP_S))
            self.look()
            self.kill()
            over.wait(chance.uniform(*DOWN_S))
            self.start()


@dataclass(frozen=True)
class Search:
    """One search: when (monotonic), how long, and what became of it."""

    began: float
    ended: float
    status: str
    reason: str
    fault: str | None


@dataclass
class Load:
    """Callers that search at random moments until `wanted` searches are done."""

    url: str
    wanted: int
    per_second: float
    pages: Sequence[list[str]]
    """The engine's own page for each of the bodies."""
    done: list[Search] = field(default_factory=list)
    _started: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, seed: int) -> list[threading.Thread]:
        """The callers, running."""
        callers = [threading.Thread(target=self._call, args=(random.Random(f"{seed}/{n}"),)) for n in range(CALLERS)]
        for caller in callers:
            caller.start()
        return callers

    def _call(self, chance: random.Random) -> None:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
        while self._next():
            time.sleep(chance.expovariate(self.per_second / CALLERS))
            self.done.append(self._search(connection, f"{parts.path}?{parts.query}", chance.randrange(len(self.pages))))
        connection.close()

    def _next(self) -> bool:
        with self._lock:
            self._started += 1
            return self._started <= self.wanted

    def _search(self, connection: http.client.HTTPConnection, path: str, number: int) -> Search:
        began = time.monotonic()
        try:
            connection.request("POST", path, bodies(SIZE)[number], {"Content-Type": "application/json"})
            answer = connection.getresponse()
            found = json.loads(answer.read())
            said = found.get("ext", {}).get("whyrank", {})
            fault = fault_of(answer.status, found, self.pages[number])
        except (OSError, ValueError, http.client.HTTPException) as error:
            connection.close()
            return Search(began, time.monotonic(), "", "", repr(error))
        reason = str(said.get("reason")).partition(":")[0]
        return Search(began, time.monotonic(), str(said.get("status")), reason, fault)


def fault_of(status: int, found: Any, page: list[str]) -> str | None:
    """What is wrong with an answer; None: nothing."""
    if status != 200:
        return f"HTTP {status}: {str(found)[:200]}"
    if found["timed_out"] or found["_shards"]["failed"]:
        return f"shards: {found['_shards']}"
    ids = [hit["_id"] for hit in found["hits"]["hits"]]
    said = found.get("ext", {}).get("whyrank")
    if said is None:
        return "it says nothing of WhyRank"
    if len(set(ids)) != len(page) or (said["judged"] == 0 and ids != page):
        return f"{said['status']}: hits {ids} where the engine has {page}"
    return None


def pages(url: str) -> list[list[str]]:
    """The engine's own answers."""
    headers = {"Content-Type": "application/json"}
    answers = [httpx.post(url, content=body, headers=headers).raise_for_status().json() for body in bodies(SIZE)]
    return [[hit["_id"] for hit in answer["hits"]["hits"]] for answer in answers]


def breaker(engine_url: str) -> tuple[str, int, int]:
    """Of the one sidecar: the breaker's state, how often it opened; and the calls in flight."""
    (node,) = httpx.get(f"{engine_url}/_plugins/_whyrank/stats").raise_for_status().json()["nodes"].values()
    states = list(node["breakers"].values()) or [{"state": "closed", "opened": 0}]
    return states[0]["state"], states[0]["opened"], node["in_flight"]


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    searches: list[Search]
    sidecar: Sidecar
    states: Counter[str]
    """The breaker's, as often as it was looked at."""
    opened: int
    recovered: bool
    before: Footprint
    after: Footprint

    @property
    def failed(self) -> list[Search]:
        return [search for search in self.searches if search.fault]


def run(found: Loaded, home: Path, searches: int, per_second: float, seed: int) -> Outcome:
    """Fill the cache, search in peace for a while, then in trouble, then in peace again."""
    engine = found.settings.engine_url
    url = f"{engine}/{INDEX}/_search"
    sidecar = Sidecar(found.sidecar, home / "sidecar.log")
    sidecar.start()
    over = threading.Event()
    try:
        sidecar.wait()
        asyncio.run(enable(found.settings))
        asyncio.run(fill(found.settings, POLICY, bodies(WINDOW)))
        install_pipeline(engine, f"http://127.0.0.1:{found.settings.port}", deadline_ms=300)
        target, own = f"{url}?search_pipeline={PIPELINE}", pages(url)
        in_peace(target, own, max(200, searches // 10), per_second, seed)
        sidecar.outages.clear()
        before = footprint(engine, found.engine.pid, found.settings.port)
        load = Load(target, searches, per_second, own)
        trouble = threading.Thread(target=sidecar.come_and_go, args=(random.Random(seed), over))
        trouble.start()
        states = watch(engine, load.run(seed))
        over.set()
        trouble.join()
        sidecar.wait()
        recovered = is_back(engine, target, own)
        in_peace(target, own, max(200, searches // 10), per_second, seed)
        opened, in_flight = breaker(engine)[1:]
        after = footprint(engine, found.engine.pid, found.settings.port)
        return Outcome(load.done, sidecar, states, opened, recovered and in_flight == 0, before, after)
    finally:
        over.set()
        sidecar.kill()


def in_peace(target: str, own: list[list[str]], searches: int, per_second: float, seed: int) -> None:
    """Searches with a sidecar that is up, so that both footprints are those of an engine at work."""
    for caller in Load(target, searches, per_second, own).run(seed):
        caller.join()


def watch(engine_url: str, callers: Sequence[threading.Thread]) -> Counter[str]:
    """Look at the breaker until the callers are done."""
    seen: Counter[str] = Counter()
    for caller in callers:
        while caller.is_alive():
            seen[breaker(engine_url)[0]] += 1
            caller.join(PROBE_S)
    return seen


def is_back(engine_url: str, target: str, own: list[list[str]]) -> bool:
    """Whether searches come to be rescored again, and the breaker closes."""
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        load = Load(target, 1, 1 / PROBE_S, own)
        for caller in load.run(0):
            caller.join()
        if load.done[0].status == "complete" and breaker(engine_url)[0] == "closed":
            return True
    return False


def report(outcome: Outcome) -> str:
    """What happened, in Markdown."""
    sidecar, away, there = outcome.sidecar, list[float](), list[float]()
    for search in outcome.searches:
        is_away = any(search.began < end and search.ended > start for start, end in sidecar.outages)
        (away if is_away else there).append((search.ended - search.began) * 1000)
    seconds = sum(end - start for start, end in sidecar.outages)
    statuses = Counter((search.status, search.reason) for search in outcome.searches)
    lines = [
        f"{len(outcome.searches)} searches, **{len(outcome.failed)} failed**; the sidecar was killed "
        f"{sidecar.kills} times ({sidecar.unborn} of these before it answered) and away for {seconds:.0f} s. "
        f"The breaker opened {outcome.opened} times; looked at, it was {dict(outcome.states)}; "
        f"at the end it {'was' if outcome.recovered else 'was NOT'} closed, with no call left in flight.",
        "",
        "| status | reason | searches |",
        "| --- | --- | --- |",
        *(f"| {status} | {reason} | {count} |" for (status, reason), count in statuses.most_common()),
        "",
        "| latency, ms | p50 | p95 | p99 | most |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, times in (("sidecar away", away), ("sidecar there", there)):
        if times:
            shown = [f"{percentile(times, share):.1f}" for share in (0.5, 0.95, 0.99)]
            lines.append(f"| {name}, {len(times)} searches | {' | '.join(shown)} | {max(times):.1f} |")
    faults = [f"- {search.status} {search.reason}: {search.fault}" for search in outcome.failed[:20]]
    return "\n".join([*lines, "", leaks(outcome.before, outcome.after), "", *faults])


def main(
    searches: Annotated[int, typer.Option(min=10, help="How many.")] = 10_000,
    per_second: Annotated[float, typer.Option(min=1, help="About how many each second.")] = 50.0,
    seed: Annotated[int, typer.Option(help="Of the moments at which the sidecar is killed and started.")] = 1,
) -> None:
    """Search while the sidecar is killed; exit with 1 if a search failed or the plugin did not recover."""
    print(
        f"## {datetime.now(UTC):%Y-%m-%d}, `python -m bench.kills --searches {searches} --seed {seed}`\n\n{machine()}\n"
    )
    with tempfile.TemporaryDirectory(prefix="whyrank-bench-") as folder, loaded(Path(folder)) as found:
        outcome = run(found, Path(folder), searches, per_second, seed)
    print(report(outcome))
    raise typer.Exit(1 if outcome.failed or not outcome.recovered else 0)


if __name__ == "__main__":
    typer.run(main)
