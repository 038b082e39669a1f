"""What each door costs: the engine alone, its plugin and the proxy, with every verdict cached.

`python -m bench.doors`: one index, the same searches, one connection each, asked in turn (A B C D A B C D ...), so
that a drifting machine moves all of them.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from bench.fill import fill
from bench.http_load import Target, in_turn, machine, percentile, throughput
from bench.searches import INDEX, POLICY, WINDOW, bodies, serving
from whyrank.settings import Settings

PIPELINE = "bench-doors"
SIZE = 10
SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
CONNECTIONS = 4


def install_pipeline(engine_url: str, sidecar_url: str, deadline_ms: int = POLICY.deadline_ms) -> None:
    """The plugin's two processors, with the settings of the proxy's policy, as a pipeline that searches may name."""
    processor = {"url": sidecar_url, "fields": list(POLICY.fields), "window": WINDOW, "deadline_ms": deadline_ms}
    pipeline = {"request_processors": [{"whyrank": {}}], "response_processors": [{"whyrank": processor}]}
    httpx.put(f"{engine_url}/_search/pipeline/{PIPELINE}", json=pipeline).raise_for_status()


def targets(settings: Settings) -> list[Target]:
    """The engine alone as wide as a page and as wide as the window, then the two doors, which answer a page."""
    engine, proxy = settings.engine_url, f"http://127.0.0.1:{settings.port}"
    return [
        Target(f"engine, size {SIZE}", f"{engine}/{INDEX}/_search", bodies(SIZE)),
        Target(f"engine, size {WINDOW}", f"{engine}/{INDEX}/_search", bodies(WINDOW)),
        Target("plugin", f"{engine}/{INDEX}/_search?search_pipeline={PIPELINE}", bodies(SIZE)),
        Target("proxy", f"{proxy}/{INDEX}/_search", bodies(SIZE)),
    ]


def check(doors: Sequence[Target]) -> None:
    """All verdicts are cached, and the doors give one order. Raises RuntimeError otherwise."""
    for number in range(len(bodies(SIZE))):
        answers = [_answer(door, number) for door in doors]
        statuses = [answer["ext"]["whyrank"]["status"] for answer in answers]
        if set(statuses) != {"complete"}:
            raise RuntimeError(f"not all verdicts are cached: {statuses}")
        orders = [[hit["_id"] for hit in answer["hits"]["hits"]] for answer in answers]
        if any(order != orders[0] for order in orders):
            raise RuntimeError(f"the doors do not give one order: {orders}")


def _answer(target: Target, number: int) -> Any:
    headers = {"Content-Type": "application/json"}
    return httpx.post(target.url, content=target.bodies[number], headers=headers).raise_for_status().json()


def table(names: Sequence[str], rows: Sequence[tuple[str, Sequence[float], str]], bases: int) -> str:
    """Figures by name, with the ratios of those after the first `bases` to each of these."""
    ratios = [f"{name} / {base}" for name in names[bases:] for base in names[:bases]]
    lines = ["| figure | " + " | ".join([*names, *ratios]) + " |", "| --- " * (1 + len(names) + len(ratios)) + "|"]
    for figure, values, form in rows:
        shown = [format(value, form) for value in values]
        shown += [f"{value / base:.2f}" for value in values[bases:] for base in values[:bases]]
        lines.append(f"| {figure} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def measure(asked: Sequence[Target], rounds: int, seconds: float) -> str:
    """Latencies one at a time, then answers a second at several at once; all in turn."""
    for target in asked:  # Java compiles what is hot only after some thousand calls
        throughput(target, seconds / 2, CONNECTIONS)
    taken = in_turn(asked, rounds)
    rows: list[tuple[str, Sequence[float], str]] = [
        (f"{name}, ms", [percentile(times, share) * 1000 for times in taken], ".2f") for name, share in SHARES
    ]
    rates: list[list[float]] = [[] for _ in asked]
    for _ in range(3):
        for target, found in zip(asked, rates, strict=True):
            found.append(throughput(target, seconds / 3, CONNECTIONS))
    rows.append((f"answers/s, {CONNECTIONS} at once", [percentile(found, 0.5) for found in rates], ".0f"))
    return table([target.name for target in asked], rows, bases=2)


def main(
    rounds: Annotated[int, typer.Option(min=10, help="Searches of each kind for the latencies.")] = 1000,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each throughput run.")] = 9.0,
) -> None:
    """Measure both doors beside the engine alone, and print a report in Markdown."""
    print(f"## {datetime.now(UTC):%Y-%m-%d}, `python -m bench.doors --rounds {rounds}`\n\n{machine()}\n")
    with tempfile.TemporaryDirectory(prefix="whyrank-bench-") as folder, serving(Path(folder)) as settings:
        install_pipeline(settings.engine_url, f"http://127.0.0.1:{settings.port}")
        written = asyncio.run(fill(settings, POLICY, bodies(WINDOW)))
        asked = targets(settings)
        check(asked[2:])
        print(f"All {written} verdicts cached, window {WINDOW}, {SIZE} hits answered by the doors.\n")
        print(measure(asked, rounds, seconds))


if __name__ == "__main__":
    typer.run(main)
