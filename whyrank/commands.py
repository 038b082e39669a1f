"""Commands that are imported when they are asked for; those of the programs are found by entry points.

The kernel's command line knows the programs' commands by name alone, from the entry points of the group
`whyrank.commands`: one that cannot be imported takes no other command with it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from whyrank.console import err

GROUP = "whyrank.commands"
OURS = {"connect": "whyrank.connect.cli:app", "doctor": "whyrank.doctor.cli:app"}
"""Commands of the kernel that are imported when they are asked for."""


class LazyCommands(TyperGroup):
    """A group whose own commands come first; then those that are `elsewhere`, by their names."""

    def elsewhere(self) -> Mapping[str, str]:
        """Where other commands are, by name: `module:attribute` of a typer application."""
        return {}

    # typer carries a click of its own, whose Context and Command have no public name: hence Any
    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands."""
        own = super().list_commands(ctx)
        return [*own, *sorted(self.elsewhere().keys() - set(own))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; None when there is none of this name."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        place = self.elsewhere().get(cmd_name)
        return None if place is None else _command(cmd_name, place)


class Commands(LazyCommands):
    """The commands of all programs that are installed."""

    def elsewhere(self) -> Mapping[str, str]:
        """The kernel's own, and those of the entry points."""
        return {**OURS, **{point.name: point.value for point in entry_points(group=GROUP)}}


def _command(name: str, place: str) -> Any:
    try:
        command = typer.main.get_command(pkgutil.resolve_name(place))
    except Exception as error:  # noqa: BLE001 - whatever a program raises when it is imported
        command = typer.main.get_command(_broken(name, place, error))
    command.name = name
    return command


def _broken(name: str, place: str, error: Exception) -> typer.Typer:
    """A command that says what is wrong, whatever it is called with."""
    says = f"cannot be loaded ({place}): {type(error).__name__}: {error}"
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    app = typer.Typer(add_completion=False)

    @app.command(help=says, context_settings=anything, add_help_option=False)
    def broken() -> None:
        err.print(f"[red]error:[/] {name} {escape(says)}", soft_wrap=True)
        raise typer.Exit(1)

    return app
