"""`make embedded-model`: the shipped model, from Debian's documentation packages to its folder in this package.

Everything is kept below `--home` (pages, index, run), so that a killed build goes on where it was.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from training import console, embedded_check, history, records, watching
from training.embedded_check import COLLECTION, EVIDENCE
from training.evaluate import metrics as metrics_of
from training.evaluate.evaluation import QueryValues
from training.evaluate.stage import QUERIES
from training.recipe import Recipe, assign, configs, load
from training.records import Group, Split
from training.registry.stage import METRICS, manifest_of
from training.runs import carry_out
from training.stages import STAGES, RunFolder, Stage, StageError
from whyrank.console import err, out
from whyrank.embedded import engine, model_server
from whyrank.errors import WhyRankError
from whyrank.registry import Registry

PACKAGES = (
    "python3.11-doc",
    "postgresql-doc-15",
    "sqlite3-doc",
    "python-django-doc",
    "apache2-doc",
    "libreoffice-help-en-us",
    "gimp-help-en",
    "python-sklearn-doc",
    "python-scipy-doc",
    "python-astropy-doc",
    "python-biopython-doc",
    "octave-doc",
    "maxima-doc",
    "debian-handbook",
    "r-doc-html",
    "python-dipy-doc",
    "python-skimage-doc",
    "calculix-ccx-doc",
    "python-statsmodels-doc",
    "python-sympy-doc",
    "python-nibabel-doc",
    "apophenia-doc",
    "gmsh-doc",
)
"""Of many fields (programming, databases, statistics, astronomy, medicine, mechanics), so that it learns to judge,
and not one subject. Names are those of Debian 12."""
PAGES_EACH = 300
INDEX = "whyrank-embedded-docs"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    home: Annotated[Path, typer.Option(help="Folder of all that is made on the way.")] = Path(".whyrank-embedded"),
    collections: Annotated[
        list[Path] | None, typer.Option(exists=True, file_okay=False, help="Judged collections to report on.")
    ] = None,
    into: Annotated[Path, typer.Option(help="Where the model goes.")] = model_server.SHIPPED,
) -> None:
    """Index the pages, train by the recipe `embedded`, evaluate, and put the model where the package has it."""
    try:
        name = build(home.resolve(), [folder.resolve() for folder in collections or ()], into)
    except WhyRankError as error:
        err.print(f"[red]{error}[/]")
        raise typer.Exit(1) from error
    out.print(f"{into} holds {name}; `git diff --stat` shows what changed")


def build(home: Path, collections: list[Path], into: Path) -> str:
    """All of it; gives the version's name. Raises WhyRankError with the step that failed."""
    values = [f'mine.index="{INDEX}"', f"evaluate.collections={[str(folder) for folder in collections]}"]
    recipe = assign(load("embedded"), [*values, 'skip=["promote"]'])
    configs(recipe)
    with engine.start(home / "engine") as address:
        index(home, address)
        run = _run_of(home, recipe)
        record = watching.watched(run, partial(carry_out, run, alone=True), address, quiet=False)
    if record.status is not history.Status.DONE:
        raise StageError(record.error or "the run was stopped; the same command goes on")
    out.print(console.run_view(record, history.told(run), alive=False))
    keep_evidence(run)
    return ship(run, recipe, into)


def index(home: Path, engine_url: str) -> None:
    """Put the packages' pages into the engine. Raises StageError."""
    source = ["debian", *PACKAGES, "--into", str(home / "pages"), "--limit", str(PAGES_EACH)]
    command = [sys.executable, "-m", "ingest", *source, "--index", INDEX, "--engine-url", engine_url]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - ourselves
        raise StageError("the documentation packages cannot be indexed; what is printed above says why")


def ship(run: RunFolder, recipe: Recipe, into: Path) -> str:
    """Replace the folder `into` by the run's adapter as a version, with manifest, evaluation and checksums."""
    evaluation = run.path / Stage.EVALUATE.value / METRICS
    metrics = metrics_of.load(evaluation)
    with tempfile.TemporaryDirectory() as scratch:
        registry = Registry(Path(scratch))
        name = registry.add(run.adapter(), manifest_of(run, recipe, metrics, None), evaluation)
        made = Path(scratch) / "shipped"
        registry.export(name, made)
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(made, into)
    return name


def keep_evidence(run: RunFolder) -> None:
    """Keep the held-out groups that were measured, and the figures, for `training.embedded_check` and the tests."""
    groups = run.path / Stage.MINE.value / "groups.jsonl"
    measured = run.path / Stage.EVALUATE.value / QUERIES
    made_of = {f"mine/{groups.name}": records.file_hash(groups), f"evaluate/{QUERIES}": records.file_hash(measured)}
    values = [each for each in records.read(measured, QueryValues) if each.collection == COLLECTION]
    asked = {each.query for each in values}
    held_out = (group for group in records.read(groups, Group) if group.split is Split.TEST and group.id in asked)
    records.write(EVIDENCE / embedded_check.GROUPS, held_out, made_of)
    records.write(EVIDENCE / embedded_check.QUERIES, values, made_of)


def _run_of(home: Path, recipe: Recipe) -> RunFolder:
    """The run that a killed build left, else a new one."""
    for record in history.all_runs(home):
        if record.recipe == recipe and record.status is not history.Status.DONE:
            return history.find(home, record.id)
    run, _ = history.new_run(home, recipe, tuple(STAGES), history.Cause.COMMAND)
    return run


if __name__ == "__main__":
    app()
