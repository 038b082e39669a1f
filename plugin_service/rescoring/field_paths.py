"""Field paths with dots: matched against the engines' patterns, read from documents, taken out of answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Raw

from plugin_service.rescoring.json_parts import (
    JsonObject,
    NotJsonError,
    first_byte,
    items_of,
    object_of,
    text_of,
)

_MAX_DEPTH = 64
_QUOTE, _OBJECT, _ARRAY, _NULL = b'"{[n'


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern of the engines (`*` is any run of characters, dots too) matches the whole path."""
    head, *rest = pattern.split("*")
    if not rest:
        return pattern == path
    if not path.startswith(head):
        return False
    position = len(head)
    *middle, tail = rest
    for part in middle:
        found = path.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(path) - position >= len(tail) and path.endswith(tail)


@lru_cache(maxsize=1024)
def splits(path: str) -> tuple[tuple[str, str], ...]:
    """Every way to read the path's first key: "a.b" is ("a", "b"), or the one key ("a.b", "")."""
    parts = path.split(".")
    return tuple((".".join(parts[:n]), ".".join(parts[n:])) for n in range(1, len(parts) + 1))


def text_at(document: JsonObject, path: str) -> str:
    """The text at a path of a document, or of a hit's `fields`; "" where there is none.

    Arrays on the way are walked, keys with dots in them are found, several values are joined by
    newlines, numbers and booleans read as they are written, null and objects are no text.
    """
    if len(ways := splits(path)) == 1:
        raw = document.get(path)
        return "" if raw is None else _text(raw)
    found: list[str] = []
    for key, rest in ways:
        raw = document.get(key)
        if raw is not None:
            _collect(raw, rest, found, _MAX_DEPTH)
    return "\n".join(found)


def _text(raw: Raw) -> str:
    if first_byte(raw) == _QUOTE:
        return text_of(raw)
    found: list[str] = []
    _collect(raw, "", found, _MAX_DEPTH)
    return "\n".join(found)


def _collect(raw: Raw, path: str, found: list[str], depth: int) -> None:
    kind = first_byte(raw)
    if depth == 0 or kind == _NULL:
        return
    if kind == _ARRAY:
        for item in items_of(raw):
            _collect(item, path, found, depth - 1)
    elif kind == _OBJECT:
        if path:
            members = object_of(raw)
            for key, rest in splits(path):
                if key in members:
                    _collect(members[key], rest, found, depth - 1)
    elif not path:
        text = text_of(raw) if kind == _QUOTE else bytes(raw).decode("ascii")
        if text:
            found.append(text)


def without(fields: JsonObject, paths: Sequence[str]) -> dict[str, object]:
    """A hit's `fields` without these paths, in the flat form ("a.b") and in that of nested objects.

    Objects and arrays that end up empty go too, as the engines leave them out themselves.
    """
    kept: dict[str, object] = dict(fields)
    within: dict[str, list[str]] = {}
    for path in paths:
        for key, rest in splits(path):
            if rest and key in fields:
                within.setdefault(key, []).append(rest)
            else:
                kept.pop(key, None)
    for key, rests in within.items():
        if key in kept and (entries := _entries_without(fields[key], rests)) is not None:
            kept[key] = entries
            if not entries:
                del kept[key]
    return kept


def _entries_without(raw: Raw, paths: Sequence[str]) -> list[object] | None:
    """None where the value does not hold nested objects."""
    try:
        entries = [without(object_of(item), paths) for item in items_of(raw)]
    except NotJsonError:
        return None
    return [entry for entry in entries if entry]
