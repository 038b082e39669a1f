"""Commands of the programs, found by the entry points of the group `whyrank.commands`.

The kernel's command line knows their names alone: a program is imported when one of its commands is asked for, and
one that cannot be imported takes no other command with it.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from whyrank.console import err

GROUP = "whyrank.commands"


class Commands(TyperGroup):
    """A group whose own commands come first; then those that are installed, by their names."""

    # typer carries a click of its own, whose Context and Command have no public name: hence Any
    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands."""
        own = super().list_commands(ctx)
        return [*own, *sorted(installed().keys() - set(own))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; None when there is none of this name."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        point = installed().get(cmd_name)
        return None if point is None else _command(point)


def installed() -> dict[str, EntryPoint]:
    """Where the programs' commands are, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _command(point: EntryPoint) -> Any:
    try:
        command = typer.main.get_command(point.load())
    except Exception as error:  # noqa: BLE001 - whatever a program raises when it is imported
        command = typer.main.get_command(_broken(point, error))
    command.name = point.name
    return command


def _broken(point: EntryPoint, error: Exception) -> typer.Typer:
    """A command that says what is wrong, whatever it is called with."""
    says = f"cannot be loaded ({point.value}): {type(error).__name__}: {error}"
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    app = typer.Typer(add_completion=False)

    @app.command(help=says, context_settings=anything, add_help_option=False)
    def broken() -> None:
        err.print(f"[red]error:[/] whyrank {point.name} {escape(says)}", soft_wrap=True)
        raise typer.Exit(1)

    return app
