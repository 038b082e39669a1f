"""Which of a document's fields a search request lets us see in the answer, and which we have to ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from plugin_service.rescoring.field_paths import matches, splits
from plugin_service.rescoring.json_parts import JsonObject, value_of


class SourceFilter(msgspec.Struct, frozen=True):
    """What a search leaves of `_source`, as the engines understand it."""

    enabled: bool = True
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    def keeps(self, path: str) -> bool:
        """Whether the field at `path` is in the answer's `_source` if the document has it."""
        if not self.enabled:
            return False
        if self.includes and not _names(self.includes, path):
            return False
        return not _names(self.excludes, path)


def _names(patterns: Iterable[str], path: str) -> bool:
    """Whether a pattern names the path or an object that holds it."""
    holders = [path] + [head for head, rest in splits(path) if rest]
    return any(matches(pattern, holder) for pattern in patterns for holder in holders)


def borrowed_fields(search: JsonObject, params: Mapping[str, str], paths: Sequence[str]) -> tuple[str, ...]:
    """Those of the paths that would be missing from the answer. Raises NotJsonError."""
    source = _source_filter(search, params)
    missing = [path for path in paths if not source.keeps(path)]
    if not missing:
        return ()
    shown = [*_field_names(search, "fields"), *_field_names(search, "docvalue_fields"), *stored_fields(search, params)]
    return tuple(path for path in missing if not any(matches(pattern, path) for pattern in shown))


def _source_filter(search: JsonObject, params: Mapping[str, str]) -> SourceFilter:
    """The URL's filter in place of the body's; with `stored_fields` alone there is no source."""
    if any(name in params for name in ("_source", "_source_includes", "_source_excludes")):
        source = params.get("_source", "true")
        includes = () if source in {"true", "false", ""} else split(source)
        return SourceFilter(
            enabled=source != "false",
            includes=split(params.get("_source_includes", "")) or includes,
            excludes=split(params.get("_source_excludes", "")),
        )
    if "_source" not in search:
        return SourceFilter(enabled=not stored_fields(search, params))
    value = value_of(search["_source"])
    if isinstance(value, bool):
        return SourceFilter(enabled=value)
    if isinstance(value, dict):
        return SourceFilter(
            includes=_strings(value.get("includes", value.get("include", []))),
            excludes=_strings(value.get("excludes", value.get("exclude", []))),
        )
    return SourceFilter(includes=_strings(value))


def stored_fields(search: JsonObject, params: Mapping[str, str]) -> tuple[str, ...]:
    """The stored fields asked for, the URL's before the body's. Raises NotJsonError."""
    if "stored_fields" in params:
        return split(params["stored_fields"])
    return _strings(listed(search, "stored_fields"))


def _field_names(search: JsonObject, member: str) -> tuple[str, ...]:
    """The names in a list of "name" and {"field": "name", ...}."""
    entries = listed(search, member)
    return _strings([entry.get("field") if isinstance(entry, dict) else entry for entry in entries])


def _strings(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(item for item in values if isinstance(item, str))


def split(text: str) -> tuple[str, ...]:
    """The items of a URL parameter that is a list."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def listed(search: JsonObject, name: str) -> list[object]:
    """A member that may be one value or an array of them, as Python values. Raises NotJsonError."""
    value = value_of(search[name]) if name in search else []
    return value if isinstance(value, list) else [value]
