"""`whyrank doctor`: look at a running installation, and say what to do.

Exit codes: 0 nothing is broken (warnings are told; with --strict there are none); 1 something is; 2 the command line
is wrong.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from whyrank import logging, places
from whyrank.cli import AsJson, EngineUrl, Home, SidecarUrl, reported
from whyrank.connect.steps import Door
from whyrank.console import err, out
from whyrank.doctor import report
from whyrank.doctor.checks import CHECKS
from whyrank.doctor.context import Context
from whyrank.doctor.findings import Finding
from whyrank.doctor.registry import Check, examine
from whyrank.places import Places

DEFAULT_HOME = Path(".whyrank")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    index: Annotated[str | None, typer.Option(help="Look at this index alone [default: all with a policy].")] = None,
    door: Annotated[Door | None, typer.Option(help="Look at this door alone [default: all that are used].")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Checks to carry out, by name or part: redis, index.fields; repeatable.")
    ] = None,
    passive: Annotated[
        bool, typer.Option("--passive", help="Only read: send no search, and have no pair judged.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
    brief: Annotated[bool, typer.Option("--brief", help="Show only what is not well.")] = False,
    home: Home = DEFAULT_HOME,
    engine_url: EngineUrl = None,
    sidecar_url: SidecarUrl = None,
    as_json: AsJson = False,
) -> None:
    """Check engine, Redis, workers, model server, sidecar, indices and door; say what is wrong, and what to do."""
    logging.configure("error", "console")
    with reported():
        found = places.find(home, engine_url, sidecar_url)
        chosen = chosen_checks(only or [], passive=passive)
        with err.status("looking"):
            findings = asyncio.run(_examined(found, index, door, chosen))
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report.as_json(findings))).decode() + "\n")
    else:
        out.print(report.table(findings, whole=not brief))
    raise typer.Exit(report.exit_code(findings, strict=strict))


def chosen_checks(only: list[str], *, passive: bool) -> list[Check]:
    """The checks named (all when none is) and what those need. Raises BadParameter for an unknown name."""
    for name in only:
        if name not in CHECKS and not any(check.part == name for check in CHECKS.values()):
            known = ", ".join(sorted({check.part for check in CHECKS.values()}))
            raise typer.BadParameter(f"there is no check {name!r}; parts: {known}", param_hint="--only")
    wanted = {check.name for check in CHECKS.values() if not only or check.name in only or check.part in only}
    for check in reversed(CHECKS.values()):
        if check.name in wanted:
            wanted.update(check.needs)
    return [check for check in CHECKS.values() if check.name in wanted and not (passive and check.active)]


async def _examined(found: Places, index: str | None, door: Door | None, checks: list[Check]) -> list[Finding]:
    async with Context(found, index, door) as context:
        return await examine(context, checks)
