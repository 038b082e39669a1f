"""What adapting to an index brings: `python -m bench.adaptation DUMP`, DUMP a folder of a Stack Exchange dump's XML.

The dump's questions are indexed in a real engine, the recipe `adapt` trains on them, and its own evaluation says how
the adapted version ranks questions that were held out, beside engine, bi-encoder and the version that was current.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bench.http_load import machine
from training import console, history, watching
from training.evaluate import metrics as metrics_of
from training.evaluate.metrics import PRIMARY
from training.recipe import assign, configs, load
from training.registry.stage import METRICS
from training.runs import carry_out
from training.stages import STAGES, Stage, StageError
from whyrank.console import err, out
from whyrank.embedded import engine
from whyrank.errors import WhyRankError

INDEX = "bench-adaptation"


def measure(dump: Path, home: Path, recipe_name: str) -> list[str]:
    """Index, train, evaluate; rows of the report. Raises WhyRankError with the step that failed."""
    recipe = assign(load(recipe_name), [f'mine.index="{INDEX}"'])
    configs(recipe)
    with engine.start(home / "engine") as address:
        command = [sys.executable, "-m", "ingest", "stackexchange", str(dump), "--index", INDEX]
        if subprocess.run([*command, "--engine-url", address], check=False).returncode != 0:
            raise StageError("the dump cannot be indexed; what is printed above says why")
        run, _ = history.new_run(home, recipe, tuple(STAGES), history.Cause.COMMAND)
        record = watching.watched(run, partial(carry_out, run, alone=True), address, quiet=False)
    out.print(console.run_view(record, history.told(run), alive=False))
    if record.status is not history.Status.DONE:
        raise StageError(record.error or "the run was stopped")
    out.print(console.decision(run.report(Stage.PROMOTE)))
    metrics = metrics_of.load(run.path / Stage.EVALUATE.value / METRICS)
    rows = [f"{machine()}", "", f"| order | {PRIMARY} |", "| --- | --- |"]
    rows += [f"| {system.value} | {means[PRIMARY]:.3f} |" for system, means in metrics.means.items()]
    rows += ["", "| comparison | difference | 95% interval |", "| --- | --- | --- |"]
    rows += [
        f"| {each.system.value} against {each.baseline.value} | {each.difference:+.3f} "
        f"| {each.low:+.3f} to {each.high:+.3f} |"
        for each in metrics.comparisons
    ]
    return rows


def main(
    dump: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the dump's XML files.")],
    home: Annotated[Path | None, typer.Option(help="Keep everything here; unset: kept nowhere.")] = None,
    recipe: Annotated[str, typer.Option(help="Recipe: a name of ours, or a file.")] = "adapt",
) -> None:
    """Print the figures of one adaptation."""
    with tempfile.TemporaryDirectory(prefix="whyrank-bench-") as scratch:
        try:
            rows = measure(dump.resolve(), (home or Path(scratch)).resolve(), recipe)
        except WhyRankError as error:
            err.print(f"[red]{error}[/]")
            raise typer.Exit(1) from error
    print("\n".join(rows))


if __name__ == "__main__":
    typer.run(main)
