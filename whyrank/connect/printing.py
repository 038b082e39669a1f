"""A plan as commands to paste: for a shell with curl, or for the console that both engines' dashboards call Dev Tools.

No secret is printed: the shell takes it from its variable, Dev Tools gets a placeholder.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from whyrank.connect.steps import SOME_INDEX, Given, Plan, Request, Secret, Step, replaced, secrets_of

_MARK = "\ufdd0"
"""A character that Unicode keeps for programs' own use: it stands around placeholders in JSON until they are named."""


class Address(msgspec.Struct, frozen=True):
    """How a shell reaches the engine. With a user, name and password are taken from the shell's variables."""

    url: str
    with_user: bool = False
    ca: Path | None = None


def as_curl(plan: Plan, address: Address) -> str:
    """Commands for a shell. They run in a shell of their own, which ends with the first that fails."""
    lines = [f': "${{{variable}:?holds the key that the engine sends}}"' for variable in sorted(secrets_of(plan))]
    for number, step in enumerate(plan.steps, start=1):
        lines += ["", f"# {number}. {step.title}", *_curl_step(step, address)]
    if plan.example is not None:
        named = f"/{SOME_INDEX}/" not in plan.example.path
        lines += ["", "# Try it", f"{'' if named else '# '}{_curl(plan.example, address)}"]
    return _script(address, [*lines, "", *_comments(plan)])


def as_dev_tools(plan: Plan) -> str:
    """Requests for Dev Tools."""
    lines = []
    for number, step in enumerate(plan.steps, start=1):
        lines += [f"# {number}. {step.title}", _console(step.request), ""]
        if step.until is not None:
            shows = f"{step.until.keys[-1]}: {step.until.value}"
            lines += [f"# then GET {_named(step.until.path)} until it shows {shows}", ""]
    if plan.example is not None:
        lines += ["# Try it", _console(plan.example), ""]
    return "\n".join([*lines, *_comments(plan)]) + "\n"


def as_json(plan: Plan) -> str:
    """The requests for a program; placeholders are `{"$given": name}` and `{"$secret": variable}`."""
    told = {
        "door": plan.door.value,
        "steps": [
            {
                "title": step.title,
                "request": _plain(step.request),
                "gives": dict(step.gives),
                "undo": [{"title": undo.title, "request": _plain(undo.request)} for undo in step.undo],
            }
            for step in plan.steps
        ],
        "notes": list(plan.notes),
        "example": None if plan.example is None else _plain(plan.example),
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def undo_as_curl(undo: Sequence[Request], address: Address) -> str:
    """Commands that take back what could not be taken back."""
    return _script(address, [_curl(request, address) for request in undo])


def without_user(url: str) -> str:
    """The address without credentials that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def _script(address: Address, lines: Sequence[str]) -> str:
    # pasted as it is, `set -e` would end the shell of who pastes, and some shells take no comments there
    head = ["sh <<'WHYRANK'", "set -e", f"ENGINE={shlex.quote(without_user(address.url))}"]
    return "\n".join([*head, *lines, "WHYRANK"]) + "\n"


def _curl_step(step: Step, address: Address) -> list[str]:
    command = _curl(step.request, address)
    if not step.gives:
        return [command]
    ((name, key),) = step.gives.items()
    variable = name.upper()
    pick = rf's/.*"{key}" *: *"\([^"]*\)".*/\1/p'
    return [
        f"ANSWER=$({command})",
        f"""{variable}=$(printf '%s\\n' "$ANSWER" | sed -n {shlex.quote(pick)})""",
        f'echo "{name}: ${{{variable}:?$ANSWER}}"',
    ]


def _curl(request: Request, address: Address) -> str:
    options = ["curl", "-sS", "--fail-with-body", "-X", request.method]
    if address.with_user:
        options += ["-u", '"$WHYRANK_ENGINE_USER:$WHYRANK_ENGINE_PASSWORD"']
    if address.ca is not None:
        options += ["--cacert", shlex.quote(str(address.ca))]
    options.append(f'"$ENGINE"{_path(request.path)}')
    if request.body is None:
        return " ".join(options)
    body = _filled_json(request.body, lambda given: f"{_MARK}{given}{_MARK}")
    return " ".join([*options, "-H", "'Content-Type: application/json'", "-d", _quoted(body)])


def _path(path: str) -> str:
    """A path as one word of a shell; it may name values of earlier answers."""
    pieces = []
    while "{" in path:
        before, _, rest = path.partition("{")
        name, _, path = rest.partition("}")
        pieces += [shlex.quote(before), f'"${name.upper()}"']
    return "".join([*pieces, shlex.quote(path)])


def _quoted(body: str) -> str:
    """JSON as one word of a shell, its placeholders as the shell's variables."""
    parts = body.split(_MARK)
    return "".join(f'"${part}"' if place % 2 else shlex.quote(part) for place, part in enumerate(parts))


def _console(request: Request) -> str:
    head = f"{request.method} {_named(request.path)}"
    if request.body is None:
        return head
    return f"{head}\n{_filled_json(request.body, lambda name: f'<{name}>', indent=2)}"


def _named(path: str) -> str:
    return path.lstrip("/").replace("{", "<").replace("}", ">")


def _filled_json(body: Any, name: Callable[[str], str], indent: int | None = None) -> str:
    def named(of: Given | Secret) -> str:
        return name(of.name.upper() if isinstance(of, Given) else of.variable)

    return json.dumps(replaced(body, named), indent=indent, ensure_ascii=False)


def _plain(request: Request) -> dict[str, Any]:
    def named(of: Given | Secret) -> dict[str, str]:
        return {"$given": of.name} if isinstance(of, Given) else {"$secret": of.variable}

    return {"method": request.method, "path": request.path, "body": replaced(request.body, named)}


def _comments(plan: Plan) -> list[str]:
    return [f"# {note}" for note in plan.notes]
