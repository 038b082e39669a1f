"""Generated docs, and checks that docs are true: `python -m tools.docs [--check]`.

Generated: docs/settings.md (from the settings), docs/cli.md (from the command line) and docs/api/openapi.json
(from the routes). Checked: every relative
link and every image of every page resolves, and every path in the README's map exists.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import typer.main
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from whyrank.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def settings_page() -> str:
    """The table of all settings."""
    rows = ["| variable | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        if field.default is PydanticUndefined:
            default = "random"
        elif isinstance(field.default, SecretStr):
            default = f"`{field.default.get_secret_value()}`"
        else:
            default = "none" if field.default is None else f"`{field.default}`"
        kind = str(field.annotation) if "[" in str(field.annotation) else getattr(field.annotation, "__name__", "")
        kind = kind.replace("typing.", "").replace("pathlib.", "").replace("pydantic.types.", "").replace("|", "\\|")
        rows.append(f"| `WHYRANK_{name.upper()}` | `{kind}` | {default} | {field.description} |")
    return (
        "# Settings\n\nGenerated from `whyrank/settings.py` by `make docs`; do not edit.\n"
        "Settings are read once, at start, from the environment.\n\n" + "\n".join(rows) + "\n"
    )


def cli_page() -> str:
    """Help of every command, as the terminal shows it."""
    from whyrank.cli import app  # noqa: PLC0415 - the settings page does not need it

    root = typer.main.get_command(app)
    parts = ["# Command line\n\nGenerated from `whyrank --help` by `make docs`; do not edit.\n"]
    for path, command in _commands("whyrank", root):
        parts.append(f"## `{path}`\n\n{_describe(command, path)}\n")
    return "\n".join(parts)


def _commands(path: str, command: Any) -> list[tuple[str, Any]]:
    # typer carries a click of its own, whose classes have no public name
    if not hasattr(command, "list_commands"):
        return [(path, command)]
    context = command.context_class(command, info_name=path)
    subs = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [pair for name, sub in subs for pair in _commands(f"{path} {name}", sub)]


def _describe(command: Any, path: str) -> str:
    context = command.context_class(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [(command.help or "").strip(), "", f"    {path} {usage}", ""]
    for parameter in command.get_params(context):
        names = ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts])
        text = (getattr(parameter, "help", None) or "").replace("\n", " ")
        lines.append(f"- {names}: {text}" if text else f"- {names}")
    return "\n".join(lines)


def openapi() -> str:
    """Our HTTP routes, as OpenAPI."""
    from plugin_service.api.app import own_routes  # noqa: PLC0415 - the other pages do not need it

    return json.dumps(own_routes().openapi(), indent=1) + "\n"


def broken_links() -> list[str]:
    """Relative links and images of README and docs that lead nowhere."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = []
    for page in pages:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            path = target.split("#")[0]
            if path and "://" not in path and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    return broken


def missing_in_map() -> list[str]:
    """Paths of the README's map (the first code block under 'Map') that do not exist."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## Map.*?```\n(.*?)```", text, re.DOTALL)
    if block is None:
        return ["README.md has no map"]
    missing, folders = [], [""]
    for line in block.group(1).splitlines():
        found = re.match(r"( *)([\w./-]+)(?:  |$)", line)
        if not found:
            continue
        depth = len(found.group(1)) // 2
        folders = [*folders[: depth + 1], found.group(2)]
        path = "".join(folders[1:]) if depth else found.group(2)
        if not (ROOT / path).exists():
            missing.append(f"README.md map: {path}")
    return missing


def main() -> int:
    """Write the generated pages, or with --check say what is not true and give 1."""
    check = "--check" in sys.argv[1:]
    problems = []
    for name, text in {"settings.md": settings_page(), "cli.md": cli_page(), "api/openapi.json": openapi()}.items():
        page = ROOT / "docs" / name
        if not check:
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            problems.append(f"docs/{name} is not what `make docs` writes")
    problems += broken_links() + missing_in_map()
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
