"""`whyrank train ...`: runs, their history and their logs, single stages, and the schedule.

Exit codes are those of `whyrank`: 0 done; 1 something is down, refuses or failed (a sentence says what); 2 the
command line is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.markup import escape

from training.stages import OURS, RunFolder, Stage
from whyrank import logging
from whyrank.cli import AsJson, EngineUrl, Home, reported
from whyrank.commands import LazyCommands
from whyrank.console import err, out

if TYPE_CHECKING:
    from training.history import RunRecord
    from training.runner import Runner
    from training.runs import Change


class Elsewhere(LazyCommands):
    """Commands of stages that are used without a run, too."""

    def elsewhere(self) -> Mapping[str, str]:
        """Where they are."""
        return {"evaluate": "training.evaluate.__main__:app", "models": "training.cli_models:app"}


app = typer.Typer(
    cls=Elsewhere,
    help="From an index to a better model: mine, synthesize, distill, refine, evaluate, promote.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_HOME = Path(".whyrank")
RecipeName = Annotated[str, typer.Option("--recipe", help="Recipe: a name of ours (training/recipes), or a file.")]
IndexName = Annotated[str | None, typer.Option("--index", help="Index to learn from [default: the recipe's].")]
Values = Annotated[
    list[str] | None, typer.Option("--set", help="A value in place of the recipe's, as distill.epochs=1; repeatable.")
]
Alone = Annotated[bool, typer.Option("--alone", help="Without Redis: no other run is kept off but those of this home.")]
StagesName = Annotated[
    str, typer.Option("--stages", help="Stages of yours in place of ours: module:NAME of a mapping.")
]
RunId = Annotated[str | None, typer.Option("--run", help="Run, by its id or the beginning of it.")]


@app.callback()
def main() -> None:
    """Before every command: what the commands' own words do not say is logged from warnings on."""
    logging.configure("warning", "console")


@app.command()
def run(
    recipe: RecipeName = "embedded",
    index: IndexName = None,
    values: Values = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run where it was; changed values run their stage again.")
    ] = None,
    first: Annotated[
        Stage | None, typer.Option("--from-stage", help="With --resume: run this stage and all after it again.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it has begun; whyrank train status.")] = False,
    alone: Alone = False,
    stages: StagesName = OURS,
    home: Home = DEFAULT_HOME,
    engine_url: EngineUrl = None,
    as_json: AsJson = False,
) -> None:
    """Run all stages of a recipe, or go on with a run; Ctrl-C stops it, and --resume goes on."""
    from training import history, watching
    from training.runs import carry_out

    if first is not None and resume is None:
        raise typer.BadParameter("names a stage of a run that is continued: --resume RUN", param_hint="--from-stage")
    home = home.resolve()
    with reported():
        folder, change = _folder(home, recipe, index, values, resume, stages)
        change = msgspec.structs.replace(change, first=first)
        with history.gone_unless_started(folder):
            if detach:
                watching.detach(folder, change, alone=alone, stages=stages, engine_url=engine_url)
                out.print(f"run {escape(folder.path.name)} has begun; whyrank train status --follow shows it")
                return
            go = partial(carry_out, folder, alone=alone, stages=stages, change=change)
            record = watching.watched(folder, go, engine_url, quiet=as_json)
    _conclude(record, folder, as_json)


@app.command()
def stage(
    stage: Annotated[Stage, typer.Argument(show_default=False)],
    run_id: RunId = None,
    recipe: RecipeName = "embedded",
    index: IndexName = None,
    values: Values = None,
    again: Annotated[bool, typer.Option("--again", help="Even if it is done.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what it would ask and cost; synthesize alone can.")
    ] = False,
    alone: Alone = False,
    stages: StagesName = OURS,
    home: Home = DEFAULT_HOME,
    engine_url: EngineUrl = None,
    as_json: AsJson = False,
) -> None:
    """Run one stage alone, of the run that --run names or of a new one; those before it must be done."""
    from training import history, watching
    from training.runs import carry_out

    home = home.resolve()
    if dry_run:
        with reported():
            _estimate(home, stage, run_id, values)
        return

    def one(runner: Runner) -> RunRecord:
        return runner.go_one(stage, again=again)

    with reported():
        folder, change = _folder(home, recipe, index, values, run_id, stages)
        with history.gone_unless_started(folder):
            go = partial(carry_out, folder, alone=alone, stages=stages, change=change, go=one)
            record = watching.watched(folder, go, engine_url, quiet=as_json)
    _conclude(record, folder, as_json)


@app.command()
def status(
    run_id: RunId = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show it until it ends.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the run that is training, or the newest one; the exit code is 1 when that one failed or died."""
    from training import console, history, watching

    home = home.resolve()
    with reported():
        holder = watching.holder_of(home)
        records = history.all_runs(home)
        wanted = run_id or (holder.run if holder is not None else records[0].id if records else None)
        if wanted is None:
            if as_json:
                _print_json({"training": False, "run": None})
            else:
                out.print("nothing has been trained here yet (whyrank train run)")
            return
        if holder is not None and holder.run == wanted and wanted not in {record.id for record in records}:
            out.print(f"{escape(holder.told())}, in a home that cannot be seen from here")
            return
        folder = history.find(home, wanted)
        if follow:
            watching.follow(home, folder)
        record = history.read(folder)
        alive = watching.alive(home, record)
    if as_json:
        _print_json({"training": alive, "run": record, "progress": history.told(folder) if alive else None})
    else:
        out.print(console.run_view(record, history.told(folder), alive=alive))
    word = console.state_word(record, alive=alive)
    raise typer.Exit(1 if word in ("failed", "died") else 0)


@app.command("history")
def history_command(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List all runs, the newest first."""
    from training import console, history, watching

    home = home.resolve()
    with reported():
        records = history.all_runs(home)
        holder = watching.holder_of(home)
    if as_json:
        _print_json(records)
    elif records:
        out.print(console.history_table(records, holder.run if holder is not None else None))
    else:
        out.print("nothing has been trained here yet (whyrank train run)")


@app.command()
def log(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Run, by its id or the beginning of it.")],
    stage: Annotated[Stage | None, typer.Option(help="Of this stage [default: the last that was begun].")] = None,
    lines: Annotated[int, typer.Option(min=0, help="How many lines from the end; 0 for all.")] = 100,
    home: Home = DEFAULT_HOME,
) -> None:
    """Print what a stage of a run has printed, of all attempts."""
    from training import history

    with reported():
        folder = history.find(home.resolve(), run_id)
        begun = [stage for stage, told in history.read(folder).stages.items() if told.attempts]
        wanted = stage or (begun[-1] if begun else Stage.MINE)
        path = history.log_path(folder, wanted)
        if not path.exists():
            raise history.RunError(f"{wanted.value} of run {folder.path.name} has not begun: there is no {path}")
        text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    sys.stdout.write("".join(f"{line}\n" for line in (text[-lines:] if lines else text)))


@app.command()
def stop(home: Home = DEFAULT_HOME) -> None:
    """Stop the run that is training, anywhere in the fleet; whyrank train run --resume goes on with it."""
    from training import watching

    with reported():
        with err.status("waiting for the run to end"):
            ended = watching.stop(home.resolve())
        out.print(f"stopped; whyrank train run --resume {escape(ended.run)} goes on with it")


@app.command()
def schedule(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show when training runs by itself, on what, and what a scheduled start would do now."""
    from training.schedule import forecast

    home = home.resolve()
    with reported():
        told = forecast.forecast(home)
    if as_json:
        _print_json(told)
    else:
        out.print(forecast.view(told))


@app.command()
def demo(
    home: Home = DEFAULT_HOME,
    recipe: RecipeName = "demo",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the sidecar; the next free one.")] = 8080,
) -> None:
    """Bring everything up, index pages, train on them, and search with the new version if it is better."""
    from training import demo as demo_run

    with reported():
        demo_run.run(home.resolve(), recipe, port)


def _folder(
    home: Path, recipe: str, index: str | None, values: list[str] | None, run_id: str | None, stages: str
) -> tuple[RunFolder, Change]:
    """The run's folder, made where no run is named, and what is to be changed in it."""
    from training import history, lease, watching
    from training.recipe import assign, configs, load
    from training.runner import stage_codes
    from training.runs import Change

    changes = [*(values or ()), *([f"mine.index={msgspec.json.encode(index).decode()}"] if index is not None else ())]
    if run_id is not None:
        return history.find(home, run_id), Change(tuple(changes))
    if (holder := watching.holder_of(home)) is not None:
        raise lease.HeldError(holder)
    loaded = assign(load(recipe), changes)
    code = stage_codes(stages)
    configs(loaded, code)  # a wrong key is known before there is a run of it
    return history.new_run(home, loaded, code, history.Cause.COMMAND)[0], Change()


def _estimate(home: Path, stage: Stage, run_id: str | None, values: list[str] | None) -> None:
    """Print what a stage says of itself before it does anything. The run stays as it is."""
    from training import history
    from training.recipe import assign, section
    from training.runs import settings_of, surroundings
    from training.stages import STAGES
    from whyrank.embedded.cache import silent

    if stage is not Stage.SYNTHESIZE or run_id is None:
        raise typer.BadParameter(
            "estimates synthesize, of a run that has been mined: --run RUN", param_hint="--dry-run"
        )
    folder = history.find(home, run_id)
    recipe = assign(history.read(folder).recipe, [*(values or ()), "synthesize.dry_run=true"])
    code = STAGES[stage]
    config = section(recipe, stage, code.config_type())
    report = code.function()(folder, config, settings_of(surroundings(home)), recipe, silent)
    _print_json(report.figures)


def _conclude(record: RunRecord, folder: RunFolder, as_json: bool) -> None:
    from training import console, history
    from training.history import Status

    if as_json:
        _print_json(record)
    else:
        out.print(console.run_view(record, history.told(folder), alive=False))
        out.print(console.decision(folder.report(Stage.PROMOTE)))
    raise typer.Exit(0 if record.status in (Status.DONE, Status.WAITING) else 1)


def _print_json(what: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(what)).decode() + "\n")


if __name__ == "__main__":
    app()
