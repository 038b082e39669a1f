"""Closed-loop HTTP load with as little of its own cost as Python allows: http.client on kept connections.

Targets are always measured in turn (A B A B ...), so that a drifting machine moves all of them.
"""

from __future__ import annotations

import http.client
import platform
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Target:
    """One kind of request: the bodies are sent in turn."""

    name: str
    url: str
    bodies: Sequence[bytes]


class Caller:
    """One kept connection."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self._connection.connect()
        self._bodies = target.bodies
        self._next = 0

    def call(self) -> float:
        """Send the next request, read the whole answer; seconds it took. Raises RuntimeError unless 200."""
        body = self._bodies[self._next % len(self._bodies)]
        self._next += 1
        began = time.perf_counter()
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        text = response.read()
        took = time.perf_counter() - began
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {text[:300]!r}")
        return took

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def in_turn(targets: Sequence[Target], rounds: int, warm_up: int = 50) -> list[list[float]]:
    """Seconds of each call, all targets in turn on one connection each."""
    callers = [Caller(target) for target in targets]
    for _ in range(warm_up):
        for caller in callers:
            caller.call()
    taken: list[list[float]] = [[] for _ in targets]
    for _ in range(rounds):
        for caller, times in zip(callers, taken, strict=True):
            times.append(caller.call())
    for caller in callers:
        caller.close()
    return taken


def throughput(target: Target, seconds: float, connections: int) -> float:
    """Answers a second with so many callers at once."""
    ends = time.perf_counter() + seconds
    counts = [0] * connections

    def run(slot: int) -> None:
        caller = Caller(target)
        while time.perf_counter() < ends:
            caller.call()
            counts[slot] += 1
        caller.close()

    threads = [threading.Thread(target=run, args=(slot,)) for slot in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def compare(title: str, subject: Target, base: Target, *, rounds: int, seconds: float, connections: int) -> str:
    """Measure both and describe the ratios in one Markdown table row each.

    Both are run for a while first: Java compiles what is hot only after some thousand calls.
    """
    for target in (base, subject):
        throughput(target, seconds / 2, connections)
    ours, theirs = in_turn((subject, base), rounds)
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):
        rates[0].append(throughput(subject, seconds / 3, connections))
        rates[1].append(throughput(base, seconds / 3, connections))
    lines = [f"### {title}", "", "| figure | " + f"{subject.name} | {base.name} | ratio |", "| --- | --- | --- | --- |"]
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        a, b = percentile(ours, share), percentile(theirs, share)
        lines.append(f"| {name}, ms | {a * 1000:.2f} | {b * 1000:.2f} | {a / b:.2f} |")
    a, b = statistics.median(rates[0]), statistics.median(rates[1])
    lines.append(f"| answers/s, {connections} at once | {a:.0f} | {b:.0f} | {a / b:.2f} |")
    return "\n".join(lines)


def machine() -> str:
    """What this ran on, in one line."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    cores = len(_processors(cpuinfo)) or 1
    return f"{cores} cores, {model}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def _processors(cpuinfo: Path) -> list[str]:
    if not cpuinfo.exists():
        return []
    return [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("processor")]
