"""What training costs: tokens per second beside TRL's SFTTrainer, and mining beside the engine's own scroll."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer

from bench.http_load import machine
from training import mine, synthesize
from training.model_job import REPOSITORY
from training.recipe import Recipe
from training.stages import RunFolder, Stage
from whyrank.embedded import engine, model_server
from whyrank.embedded.cache import Cache, silent
from whyrank.settings import Settings

INDEX = "bench-training"
PAGE = 500


def scroll_rate(address: str) -> tuple[int, float]:
    """(documents, documents per second) of the engine's scroll, in pages as large as mining's."""
    with httpx.Client(base_url=address, timeout=60.0) as client:
        started = time.perf_counter()
        found = client.post(f"/{INDEX}/_search?scroll=1m", json={"size": PAGE, "query": {"match_all": {}}}).json()
        count = 0
        while hits := found["hits"]["hits"]:
            count += len(hits)
            found = client.post("/_search/scroll", json={"scroll": "1m", "scroll_id": found["_scroll_id"]}).json()
        return count, count / (time.perf_counter() - started)


def mined(home: Path, address: str, groups: int) -> tuple[RunFolder, dict[str, object], float]:
    """A run whose stage mine is done; its figures and seconds."""
    run = RunFolder(home / "run")
    config = mine.MineConfig(
        index=INDEX, groups_per_source=groups, passage_tokens=112, validation_share=0, test_share=0
    )
    report = mine.run(run, config, Settings(engine_url=address), Recipe("bench", "embedded"), silent)
    return run, report.figures, report.seconds


def measure(home: Path, groups: int) -> list[str]:
    """Rows of the report."""
    with engine.start(home / "engine") as address:
        command = [sys.executable, "-m", "ingest", "--python-docs", "--index", INDEX, "--engine-url", address]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        count, scroll = scroll_rate(address)
        count, scroll = scroll_rate(address)  # what was read once is in memory for both
        run, figures, seconds = mined(home, address, groups)
    reading = figures["pages_read_per_second"]
    assert isinstance(reading, float)
    synthesize.run(run, synthesize.SynthesizeConfig(), Settings(), Recipe("bench", "embedded"), silent)
    python = model_server.install_environment(Cache()) / "bin" / "python"
    base = model_server.install_model(Cache())
    records = run.folder(Stage.SYNTHESIZE)
    words = [str(python), "-m", "bench.training_job", str(base), str(records), str(groups)]
    printed = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    found = json.loads(printed.splitlines()[-1])
    sequences = found["tokens_unshared"]
    rates = [sequences / each for each in found["ours_s"]]
    theirs = sequences / found["trl_s"]
    return [
        "| reading the index | documents/s | ratio |",
        "| --- | --- | --- |",
        f"| the engine's scroll, {count} documents | {scroll:.0f} | 1 |",
        f"| mining's scan | {reading:.0f} | {reading / scroll:.2f} |",
        f"| all of mining (cut, compared, {figures['queries']} searches) | {count / seconds:.0f} | "
        f"{count / seconds / scroll:.2f} |\n",
        f"| training on {found['groups']} groups, {found['pairs']} pairs | tokens of the pairs' sequences/s | ratio |",
        "| --- | --- | --- |",
        f"| TRL's SFTTrainer | {theirs:.0f} | 1 |",
        *(
            f"| ours, {when} | {rate:.0f} | {rate / theirs:.2f} |"
            for when, rate in zip(("before", "after"), rates, strict=True)
        ),
        f"\nOurs computes {found['tokens'] / sequences:.0%} of those tokens: instruction and query once a group.",
    ]


def main(
    groups: Annotated[int, typer.Option(help="Groups of each source that are mined and trained on.")] = 16,
) -> None:
    """Measure."""
    print(f"## `python -m bench.training`\n\n{machine()}\n")
    with tempfile.TemporaryDirectory(prefix="whyrank-bench-") as home:
        print("\n".join(measure(Path(home), groups)))


if __name__ == "__main__":
    typer.run(main)
