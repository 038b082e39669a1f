"""`whyrank train models ...`: the versions of a home, what they were measured to do, and which one serves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from training.registry import PromoteConfig, promote, registry_of, roll_back, set_shadow, shadow_status
from training.runs import settings_of, surroundings
from whyrank.cli import AsJson, Home, reported
from whyrank.console import err, out
from whyrank.errors import BadRequestError
from whyrank.registry import Registry, Version
from whyrank.settings import Settings

app = typer.Typer(
    help="Model versions: list, compare, promote, roll back, run one in shadow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_HOME = Path(".whyrank")
DEFAULT_WAIT_S = PromoteConfig().wait_s
Base = Annotated[str, typer.Option(help="Base model of the versions: `embedded`, or as recipes name it.")]
Name = Annotated[str, typer.Argument(metavar="VERSION", show_default=False)]
Reason = Annotated[str, typer.Option(help="For the history.")]
Wait = Annotated[float, typer.Option(min=0, help="Wait so long until it is served, seconds.")]


@app.command("list")
def list_command(base: Base = "embedded", home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List all versions, the newest last, with what they were measured to do when they were made."""
    with reported():
        registry = _registry(home, base)
        current, shadow, serving = registry.current(), registry.shadowed(), registry.serving()
        versions = [registry.read(name) for name in registry.names()]
    served = serving.version if serving is not None else None
    if as_json:
        _print_json(
            {"current": current, "shadow": shadow, "served": served, "versions": [v.manifest for v in versions]}
        )
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("version", "", "made", "recipe", "base"):
        table.add_column(name, no_wrap=True)
    table.add_column("measured", ratio=1)
    for version in versions:
        marks = [
            word
            for word, name in (("current", current), ("served", served), ("shadow", shadow))
            if name == version.name
        ]
        history = version.manifest.history
        table.add_row(
            escape(version.name),
            Text(", ".join(marks), style="green"),
            f"{version.manifest.created:%Y-%m-%d %H:%M}",
            escape(history.recipe if history is not None else ""),
            escape(version.manifest.base),
            Text(", ".join(f"{name} {value:.3f}" for name, value in _headline(version).items()), style="dim"),
        )
    out.print(table)


@app.command()
def compare(
    first: Name, second: Name, base: Base = "embedded", home: Home = DEFAULT_HOME, as_json: AsJson = False
) -> None:
    """Show two versions side by side: what they are made of, and all that was measured of them."""
    with reported():
        registry = _registry(home, base)
        pair = [registry.read(first), registry.read(second)]
    if as_json:
        _print_json([version.manifest for version in pair])
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for version in pair:
        table.add_column(escape(version.name), justify="right")
    table.add_column("change", justify="right")
    facts = [_facts(version) for version in pair]
    for name in dict.fromkeys(name for told in facts for name in told):
        table.add_row(name, *(escape(told.get(name, "")) for told in facts), "")
    measured = [_metrics(version) for version in pair]
    for name in dict.fromkeys(name for found in measured for name in found):
        values = [found.get(name) for found in measured]
        told = [f"{value:.4f}" if value is not None else "" for value in values]
        change = f"{values[1] - values[0]:+.4f}" if values[0] is not None and values[1] is not None else ""
        table.add_row(escape(name), *told, change)
    out.print(table)
    out.print("Each version was measured on its own held-out queries; only the gate compares on the same.", style="dim")


@app.command("promote")
def promote_command(
    name: Name,
    force: Annotated[str, typer.Option(help="A reason to promote what the gate refuses; kept in the history.")] = "",
    wait: Wait = DEFAULT_WAIT_S,
    base: Base = "embedded",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Make a version current if its evaluation passes the gate; the exit code is 1 when it is refused."""
    with reported():
        settings = _settings(home)
        config = PromoteConfig(force=force, wait_s=wait)
        with err.status("") as status:
            outcome = promote(
                registry_of(settings, base), name, config, settings, lambda what, _share: status.update(what)
            )
    if as_json:
        _print_json(outcome)
    else:
        out.print(outcome.words, markup=False)
    raise typer.Exit(1 if outcome.action == "refused" else 0)


@app.command()
def rollback(
    reason: Reason = "by hand", wait: Wait = DEFAULT_WAIT_S, base: Base = "embedded", home: Home = DEFAULT_HOME
) -> None:
    """Make the version before the current one current again."""
    with reported():
        settings = _settings(home)
        with err.status("") as status:
            words = roll_back(
                registry_of(settings, base), reason, settings, lambda what, _share: status.update(what), wait
            )
        out.print(words, markup=False)


@app.command()
def shadow(
    name: Annotated[str | None, typer.Argument(metavar="VERSION", show_default=False)] = None,
    off: Annotated[bool, typer.Option("--off", help="Run none.")] = False,
    reason: Reason = "by hand",
    base: Base = "embedded",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Run a version beside the current one: it judges a share of searches (WHYRANK_SHADOW_SHARE), which nobody sees.

    Without a version: show how the one that runs would change their order.
    """
    with reported():
        settings = _settings(home)
        if name is None and not off:
            found = shadow_status(registry_of(settings, base), settings)
            if as_json:
                _print_json(found)
            else:
                out.print(found.words, markup=False)
            return
        if name is not None and off:
            raise BadRequestError("off", "name a version, or --off for none")
        with err.status("") as status:
            words = set_shadow(
                registry_of(settings, base), name, reason, settings, lambda what, _share: status.update(what)
            )
        out.print(words, markup=False)


@app.command()
def history(base: Base = "embedded", home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show every promotion, refusal and rollback: when, by whom, and why."""
    with reported():
        events = _registry(home, base).history()
    if as_json:
        _print_json(events)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("at", "by", "what", "version", "before"):
        table.add_column(column, no_wrap=True)
    table.add_column("why", ratio=1)
    for event in events:
        told = (event.by, event.action.value, event.version or "none", event.before or "", event.reason)
        table.add_row(f"{event.at:%Y-%m-%d %H:%M}", *map(escape, told))
    out.print(table)


def _settings(home: Path) -> Settings:
    return settings_of(surroundings(home.resolve()))


def _registry(home: Path, base: str) -> Registry:
    return registry_of(_settings(home), base)


def _metrics(version: Version) -> dict[str, float]:
    return version.manifest.history.metrics if version.manifest.history is not None else {}


def _headline(version: Version) -> dict[str, float]:
    """The first two figures: the measure that the gate reads, of the whole and of the engine."""
    return dict(list(_metrics(version).items())[:2])


def _facts(version: Version) -> dict[str, str]:
    manifest = version.manifest
    told = {
        "made": f"{manifest.created:%Y-%m-%d %H:%M}",
        "base": manifest.base,
        "constraint": manifest.constraint.value,
        "weights": ", ".join(f"{name} {value:.2f}" for name, value in msgspec.to_builtins(manifest.weights).items()),
    }
    if (made := manifest.history) is not None:
        told |= {"recipe": made.recipe, "commit": made.commit[:12], "parent": made.parent or ""}
    return told


def _print_json(what: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(what)).decode() + "\n")


if __name__ == "__main__":
    app()
