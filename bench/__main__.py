"""`python -m bench [searches|pairs]`: measure, and print a report in Markdown (bench/LOG.md keeps them)."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bench import pairs as pairs_bench
from bench import searches as searches_bench
from bench.http_load import machine

app = typer.Typer(add_completion=False)


@app.command()
def main(
    what: Annotated[str, typer.Argument(help="`searches`, `pairs` or `all`.")] = "all",
    rounds: Annotated[int, typer.Option(min=10, help="Searches of each kind for the latencies.")] = 600,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each throughput run.")] = 9.0,
    pairs: Annotated[int, typer.Option(min=4, help="Pairs judged in each round.")] = 24,
) -> None:
    """Start what is needed, measure it beside what it is compared with, and print ratios."""
    if what not in ("all", "searches", "pairs"):
        raise typer.BadParameter("searches, pairs or all", param_hint="WHAT")
    print(f"## {datetime.now(UTC):%Y-%m-%d}, `python -m bench {what}`\n\n{machine()}\n")
    with tempfile.TemporaryDirectory(prefix="whyrank-bench-") as folder:
        home = Path(folder)
        if what in ("all", "searches"):
            for section in searches_bench.run(_made(home / "searches"), rounds=rounds, seconds=seconds):
                print(section + "\n", flush=True)
        if what in ("all", "pairs"):
            for section in pairs_bench.run(_made(home / "pairs"), pairs=pairs, rounds=3):
                print(section + "\n", flush=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    app()
