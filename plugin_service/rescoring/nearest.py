"""Vector searches of Elasticsearch that leave `k` to the search's size: `k` said outright, so that ours may be wider.

Without it a search for a whole window would look for so many neighbours, and these would raise the scores and the
total of a search for a page.
"""

from __future__ import annotations

from msgspec import Raw

from plugin_service.rescoring.json_parts import JsonObject, first_byte, items_of, object_of, unambiguous

_NAME = b'"knn"'
_MAX_DEPTH = 64
_OBJECT, _ARRAY = b"{["


def with_k(search: JsonObject, k: int) -> dict[str, object]:
    """The search with `k` in each vector search that has none. Raises NotJsonError."""
    if "knn" not in search and not any(_NAME in raw for raw in map(bytes, search.values())):
        return dict(search)
    return {name: _member(name, raw, k, _MAX_DEPTH) for name, raw in search.items()}


def _member(name: str, raw: Raw, k: int, depth: int) -> object:
    if name == "knn":
        return _clause(raw, k, depth)
    if name == "retriever" and object_of(raw).keys() != {"standard"}:
        return raw  # the others search as wide as they say themselves
    return _within(raw, k, depth)


def _within(raw: Raw, k: int, depth: int) -> object:
    if depth == 0 or _NAME not in bytes(raw):
        return raw
    kind = first_byte(raw)
    if kind == _ARRAY:
        return [_within(item, k, depth - 1) for item in items_of(raw)]
    if kind == _OBJECT:
        return {name: _member(name, value, k, depth - 1) for name, value in unambiguous(raw).items()}
    return raw


def _clause(raw: Raw, k: int, depth: int) -> object:
    """A vector search, or a list of them."""
    if depth == 0 or first_byte(raw) not in (_OBJECT, _ARRAY):
        return raw
    if first_byte(raw) == _ARRAY:
        return [_clause(item, k, depth - 1) for item in items_of(raw)]
    clause = unambiguous(raw)
    if "k" not in clause and not clause.keys().isdisjoint(("query_vector", "query_vector_builder")):
        return {**{name: _member(name, value, k, depth - 1) for name, value in clause.items()}, "k": k}
    return _within(raw, k, depth)
