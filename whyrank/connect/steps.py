"""A configuration as requests to the engine, in order, each with what takes it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec


class Door(StrEnum):
    """Ways in which searches reach WhyRank."""

    PLUGIN = "plugin"
    """Our processor in OpenSearch: no application changes."""
    ML_COMMONS = "ml-commons"
    """OpenSearch's connector and rerank processor."""
    CUSTOM = "custom"
    """Elasticsearch's `custom` inference service and `text_similarity_reranker`."""
    PROXY = "proxy"
    """The application points at WhyRank instead of the engine."""


SOME_INDEX = "INDEX"
"""Stands in an example for the index, where none was named."""


class Given(msgspec.Struct, frozen=True):
    """A value that the answer of an earlier step gives."""

    name: str


class Secret(msgspec.Struct, frozen=True):
    """A value of the environment that is never printed nor kept."""

    variable: str


class Request(msgspec.Struct, frozen=True):
    """One request. `path` may hold `{name}` of a Given; `body` may hold Given and Secret anywhere."""

    method: str
    path: str
    body: Any = None


class Look(msgspec.Struct, frozen=True):
    """A value of the engine's: what stands at `keys` in the answer to `GET path`."""

    path: str
    keys: tuple[str, ...]
    value: Any


class Undo(msgspec.Struct, frozen=True):
    """What takes a step back. `only_while` holds, that is: nobody has changed the thing since."""

    title: str
    request: Request
    only_while: Look | None = None


class Step(msgspec.Struct, frozen=True):
    """One change of the engine. `gives` names values of its answer, by the key at which they stand.

    `until` is what the engine shows when the change has taken effect, where that is later than its answer.
    """

    title: str
    request: Request
    undo: tuple[Undo, ...] = ()
    gives: Mapping[str, str] = {}
    until: Look | None = None


class Plan(msgspec.Struct, frozen=True):
    """Everything to do for one door. `notes` are sentences; `example` is a search to try it with."""

    door: Door
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    example: Request | None = None


def replaced(value: Any, of: Callable[[Given | Secret], Any]) -> Any:
    """The value with `of(placeholder)` in place of each placeholder."""
    if isinstance(value, Given | Secret):
        return of(value)
    if isinstance(value, Mapping):
        return {key: replaced(item, of) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(item, of) for item in value]
    return value


def filled(request: Request, known: Mapping[str, str], secrets: Mapping[str, str]) -> Request:
    """The request as it is sent. Raises KeyError for a placeholder in the body that is not known."""

    def value(of: Given | Secret) -> str:
        return known[of.name] if isinstance(of, Given) else secrets[of.variable]

    return Request(request.method, filled_path(request.path, known), replaced(request.body, value))


def filled_path(path: str, known: Mapping[str, str]) -> str:
    """The path with every `{name}` that is known replaced."""
    for name, value in known.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def secrets_of(plan: Plan) -> set[str]:
    """Names of the variables whose values the plan needs."""
    found: set[str] = set()

    def note(placeholder: Given | Secret) -> None:
        if isinstance(placeholder, Secret):
            found.add(placeholder.variable)

    for step in plan.steps:
        replaced(step.request.body, note)
    return found


def at(body: Any, keys: tuple[str, ...]) -> Any:
    """What stands at these keys, None where there is nothing."""
    for key in keys:
        body = body.get(key) if isinstance(body, Mapping) else None
    return body
