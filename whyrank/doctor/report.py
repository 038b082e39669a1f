"""What was found, as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from whyrank.doctor.findings import Finding, Level
from whyrank.doctor.registry import NOT_LOOKED_AT

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.BROKEN: "bold red", Level.UNKNOWN: "dim"}


def table(findings: Sequence[Finding], *, whole: bool) -> RenderableType:
    """The findings by part, each with its remedy; without `whole` those that are well are only counted."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    shown.add_column("check", no_wrap=True, style="dim")
    shown.add_column("", no_wrap=True)
    shown.add_column("found", ratio=1, overflow="fold")
    lacking = [finding for finding in findings if finding.what.startswith(NOT_LOOKED_AT)]
    for finding in findings:
        if finding in lacking or (finding.level is Level.OK and not whole):
            continue
        what = Text(f"{finding.about}: " if finding.about else "", style="bold").append(finding.what, style="none")
        if finding.remedy:
            what.append("\n-> ", style="dim").append(finding.remedy, style="cyan")
        shown.add_row(finding.check, Text(finding.level.value, style=_STYLES[finding.level]), what)
    parts: list[RenderableType] = [shown] if shown.row_count else []
    if lacking:
        reasons = sorted({finding.what.removeprefix(NOT_LOOKED_AT) for finding in lacking})
        parts.append(Text(f"not looked at, for {', '.join(reasons)}: {len(lacking)} checks", style="dim"))
    return Group(*parts, summary(findings))


def summary(findings: Sequence[Finding]) -> Text:
    """One line of counts."""
    counts = Counter(finding.level for finding in findings)
    line = Text()
    for level in (Level.BROKEN, Level.WARNING, Level.UNKNOWN, Level.OK):
        if counts[level]:
            line.append(f"{', ' if line else ''}{counts[level]} ").append(level.value, style=_STYLES[level])
    return line


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """`{"healthy", "counts", "findings"}`: healthy is that nothing is broken."""
    counts = Counter(finding.level.value for finding in findings)
    return {
        "healthy": not counts[Level.BROKEN.value],
        "counts": {level.value: counts[level.value] for level in Level},
        "findings": [msgspec.to_builtins(finding) for finding in findings],
    }


def exit_code(findings: Sequence[Finding], *, strict: bool) -> int:
    """1 where something is broken; with `strict`, also for warnings and for what could not be looked at."""
    bad = {Level.BROKEN, Level.WARNING, Level.UNKNOWN} if strict else {Level.BROKEN}
    return int(any(finding.level in bad for finding in findings))
