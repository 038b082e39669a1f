"""A search body on its way in: what can be rescored becomes a plan, everything else a named bypass.

The engine is asked for the whole window from 0, in one search; paging is done on the answer. Nothing
else of the request is changed, except that `ext.whyrank` is taken out (the engines refuse sections of
`ext` that they do not know), that vector searches get the `k` that they would have had, and, where the
request filters `_source`, that the policy's missing fields are asked for through `fields` and taken out
of the answer again.

The planned body is JSON, and is there even where the caller sent none: it needs a JSON content type.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from plugin_service.rescoring import query_text
from plugin_service.rescoring.json_parts import (
    JsonObject,
    NotJsonError,
    decoded,
    encode,
    items_of,
    object_of,
    unambiguous,
    value_of,
)
from plugin_service.rescoring.nearest import with_k
from plugin_service.rescoring.source_filter import borrowed_fields, listed, split, stored_fields
from whyrank.errors import BadRequestError
from whyrank.types import Mode, Policy

DEFAULT_SIZE = 10
"""Of both engines."""
DEFAULT_RANK_WINDOW = 10
"""Of Elasticsearch's compound retrievers and rescorers."""
MAX_WINDOW = 200
MAX_RANKING_ID = 512

_SIMPLE_RETRIEVERS = frozenset({"standard", "knn"})
# Of the body and the URL: what changes neither which hits there are nor their order. A page may ask
# for aggregations where the next one does not, and a point in time gets a new id with every answer.
_PRESENTATION = frozenset(
    {
        *("_source", "_source_excludes", "_source_includes", "aggregations", "aggs", "docvalue_fields", "error_trace"),
        *("explain", "ext", "fields", "from", "highlight", "human", "pit", "pretty", "profile", "script_fields"),
        *("rest_total_hits_as_int", "seq_no_primary_term", "size", "sort", "stats", "stored_fields", "suggest"),
        *("timeout", "track_scores", "track_total_hits", "typed_keys", "version"),
    }
)


class BypassReason(StrEnum):
    """Why a search is not rescored: stable codes, for headers and counters."""

    NOT_JSON = "not_json"
    DISABLED_BY_REQUEST = "disabled_by_request"
    POLICY_DISABLED = "policy_disabled"
    SCROLL = "scroll"
    SEARCH_AFTER = "search_after"
    SORTED_BY_FIELD = "sorted_by_field"
    FILTER_PATH = "filter_path"
    RESPONSE_FORMAT = "response_format"
    WITHOUT_IDS = "without_ids"
    AGGREGATIONS_ONLY = "aggregations_only"
    SIZE_ZERO = "size_zero"
    BEYOND_WINDOW = "beyond_window"
    NO_QUERY_TEXT = "no_query_text"


class Bypass(msgspec.Struct, frozen=True):
    """A search that goes to the engine as it is."""

    reason: BypassReason
    detail: str
    """A sentence for a person."""


class Plan(msgspec.Struct, frozen=True):
    """How one search is rescored."""

    query: str
    offset: int
    """The caller's `from`, 0 or more; offset + size <= window."""
    size: int
    """The caller's `size`, 1 or more."""
    window: int
    """How many hits the engine is asked for."""
    mode: Mode
    deadline_ms: int
    ranking_id: str | None
    """The ranking whose order the caller wants, of an earlier answer."""
    explain: bool
    """Whether explanations and quotes go into the hits."""
    body: bytes
    """JSON for the engine."""
    params: dict[str, str]
    """URL parameters for the engine."""
    borrowed_fields: tuple[str, ...]
    """Asked for through `fields` on our own account; they are not for the caller."""
    fingerprint: str
    """The same for all pages of one search, whatever their index: hex."""


class _Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`ext.whyrank` of a request."""

    query: str | None = None
    window: Annotated[int, Meta(ge=1, le=MAX_WINDOW)] | None = None
    deadline_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None
    mode: Mode | None = None
    enabled: bool | None = None
    explain: bool | None = None
    ranking: Annotated[str, Meta(min_length=1, max_length=MAX_RANKING_ID)] | None = None


def strip(body: bytes) -> bytes:
    """The body without `ext.whyrank`; the same object where there is none or it is not JSON."""
    if b"whyrank" not in body and b"\\u" not in body:
        return body
    try:
        search = unambiguous(body)
        ext = object_of(search["ext"]) if "ext" in search else {}
    except NotJsonError:
        return body
    return encode(_without_options(search, ext)) if "whyrank" in ext else body


def plan(body: bytes, params: Mapping[str, str], policy: Policy) -> Plan | Bypass:
    """How to rescore a search with this body and these URL parameters, or why not to.

    Raises BadRequestError for a bad value in `ext.whyrank`. Whatever else is wrong with the request
    is the engine's to say: it is bypassed as `not_json`.
    """
    try:
        return _plan(body, dict(params), policy)
    except NotJsonError as error:
        return Bypass(BypassReason.NOT_JSON, f"The engine has to judge this request; to us it is not readable: {error}")


def _plan(body: bytes, params: dict[str, str], policy: Policy) -> Plan | Bypass:
    search = _read(body, params)
    ext = object_of(search["ext"]) if "ext" in search else {}
    options = _options(ext)
    if bypass := _switched_off(options, policy) or _unsuited(search, params):
        return bypass
    offset = _count("from", search, params, 0)
    size = _count("size", search, params, DEFAULT_SIZE)
    if size == 0:
        return _without_hits(search)
    window = min(options.window or policy.window, _engine_window(search))
    if offset + size > window:
        detail = f"Hits {offset} to {offset + size} were asked for; the window holds the first {window}."
        return Bypass(BypassReason.BEYOND_WINDOW, detail)
    query = _query(options, ext, search, params)
    if query is None:
        return Bypass(BypassReason.NO_QUERY_TEXT, "No words of a user are in this request.")
    mode = options.mode or policy.mode
    fingerprint = _fingerprint(search, params, query, mode, window)
    borrowed = borrowed_fields(search, params, policy.fields)
    planned: dict[str, object] = {**_without_options(with_k(search, size), ext), "from": 0, "size": window}
    if borrowed:
        planned["fields"] = [*(items_of(search["fields"]) if "fields" in search else ()), *borrowed]
    return Plan(
        query=query,
        offset=offset,
        size=size,
        window=window,
        mode=mode,
        deadline_ms=policy.deadline_ms if options.deadline_ms is None else options.deadline_ms,
        ranking_id=options.ranking,
        explain=options.explain is not False,
        body=encode(planned),
        params={name: value for name, value in params.items() if name not in {"from", "size"}},
        borrowed_fields=borrowed,
        fingerprint=fingerprint,
    )


def _read(body: bytes, params: dict[str, str]) -> JsonObject:
    """The search body, which may be in the parameter `source` (taken out of `params`) or absent."""
    if not body.strip() and "source" in params:
        if "json" not in params.pop("source_content_type", ""):
            raise NotJsonError("source_content_type is not JSON")
        body = params.pop("source").encode()
    return unambiguous(body) if body.strip() else {}


def _without_options(search: Mapping[str, object], ext: JsonObject) -> dict[str, object]:
    """The search without `ext.whyrank`, and without an `ext` that held nothing else."""
    kept: dict[str, object] = dict(search)
    if "whyrank" in ext:
        if len(ext) == 1:
            del kept["ext"]
        else:
            kept["ext"] = {name: raw for name, raw in ext.items() if name != "whyrank"}
    return kept


_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<at>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<name>.*)`", re.DOTALL)


def _options(ext: JsonObject) -> _Options:
    if "whyrank" not in ext:
        return _Options()
    try:
        return msgspec.json.decode(ext["whyrank"], type=_Options)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        place = _AT.match(str(error))
        what, name = (place["what"], place["at"]) if place else (str(error), None)
        if unknown := _UNKNOWN.search(what):
            what, name = "unknown option", unknown["name"]
        raise BadRequestError(f"ext.whyrank.{name}" if name else "ext.whyrank", what) from error


def _switched_off(options: _Options, policy: Policy) -> Bypass | None:
    if options.enabled is False:
        return Bypass(BypassReason.DISABLED_BY_REQUEST, "The request says ext.whyrank.enabled: false.")
    if not policy.enabled:
        return Bypass(BypassReason.POLICY_DISABLED, f"The policy of {policy.index} is switched off.")
    return None


def _unsuited(search: JsonObject, params: Mapping[str, str]) -> Bypass | None:
    """What forbids another order, or keeps us from reading the answer."""
    sorts = _sorts(search, params)
    found: tuple[BypassReason, str] | None = None
    if "scroll" in params:
        found = BypassReason.SCROLL, "A scroll is an export, not a page of results."
    elif "search_after" in search:
        found = BypassReason.SEARCH_AFTER, "search_after goes on where another page ended in the engine's order."
    elif sorts and not (len(sorts) == 1 and _is_by_score(sorts[0])):
        found = BypassReason.SORTED_BY_FIELD, "The caller chose the order; ties broken by a field count as such."
    elif sorts and "pit" in search:
        found = BypassReason.SEARCH_AFTER, "A sorted point in time is paged with search_after."
    elif params.get("filter_path"):
        found = BypassReason.FILTER_PATH, "filter_path may leave out what identifies the hits."
    elif params.get("format", "json") != "json":
        found = BypassReason.RESPONSE_FORMAT, f"The answer is wanted as {params['format']}."
    elif "_none_" in stored_fields(search, params):
        found = BypassReason.WITHOUT_IDS, "stored_fields: _none_ leaves the hits without ids."
    return Bypass(*found) if found else None


def _without_hits(search: JsonObject) -> Bypass:
    if "aggs" in search or "aggregations" in search:
        return Bypass(BypassReason.AGGREGATIONS_ONLY, "Only aggregations were asked for: size is 0.")
    return Bypass(BypassReason.SIZE_ZERO, "No hits were asked for: size is 0.")


def _sorts(search: JsonObject, params: Mapping[str, str]) -> list[object]:
    """All sort keys: the engines add the URL's to the body's."""
    sorts = listed(search, "sort")
    for key in split(params.get("sort", "")):
        field, colon, order = key.rpartition(":")
        sorts.append({field: order} if colon else key)
    return sorts


def _is_by_score(sort: object) -> bool:
    """Whether a sort key is `_score`, highest first."""
    if not isinstance(sort, dict):
        return sort == "_score"
    order = sort.get("_score") if len(sort) == 1 else None
    if isinstance(order, dict):
        order = order.get("order", "desc")
    return isinstance(order, str) and order.lower() == "desc"


_COUNT = msgspec.json.Decoder(int, strict=False)


def _count(name: str, search: JsonObject, params: Mapping[str, str], default: int) -> int:
    """`from` or `size`: the URL's before the body's; the engines take digits in quotes as well."""
    if name in params:
        if not (params[name].isascii() and params[name].isdigit()):
            raise NotJsonError(f"{name} is not a count")
        return int(params[name])
    if name not in search:
        return default
    count = decoded(_COUNT, search[name])
    if count < 0:
        raise NotJsonError(f"{name} is negative")
    return count


def _engine_window(search: JsonObject) -> int:
    """How many hits the engine can be asked for without changing what it finds.

    Elasticsearch's compound retrievers refuse a `size` beyond their own window, and the width of that
    decides which hits they merge and what they cost: it stays as the caller chose it.
    """
    limits = [MAX_WINDOW]
    for name in ("retriever", "rank"):
        value = value_of(search[name]) if name in search else None
        if isinstance(value, dict):
            limits.extend(_rank_window(kind, body) for kind, body in value.items() if isinstance(body, dict))
    return min(limits)


def _rank_window(kind: str, body: dict[str, object]) -> int:
    if kind in _SIMPLE_RETRIEVERS:
        return MAX_WINDOW
    rescores = body.get("rescore") if kind == "rescorer" else body
    windows = [
        rescore.get("rank_window_size", rescore.get("window_size", DEFAULT_RANK_WINDOW))
        for rescore in (rescores if isinstance(rescores, list) else [rescores])
        if isinstance(rescore, dict)
    ]
    return min((window for window in windows if isinstance(window, int)), default=DEFAULT_RANK_WINDOW)


def _query(options: _Options, ext: JsonObject, search: JsonObject, params: Mapping[str, str]) -> str | None:
    """The user's words: said outright, said to OpenSearch's rerank processor, or found in the query."""
    if options.query and options.query.strip():
        return options.query.strip()
    if "rerank" in ext and (said := _rerank_query(value_of(ext["rerank"]), search)):
        return said
    parts = {name: value_of(search[name]) for name in ("query", "retriever", "knn") if name in search}
    if "q" in params:  # the engines run it in place of the body's query
        parts["query"] = {"query_string": {"query": params["q"]}}
    return query_text.extract(parts)


def _rerank_query(rerank: object, search: JsonObject) -> str | None:
    """`ext.rerank.query_context`: `query_text`, or the text at `query_text_path` of the body."""
    context = rerank.get("query_context") if isinstance(rerank, dict) else None
    if not isinstance(context, dict):
        return None
    text = context.get("query_text")
    path = context.get("query_text_path")
    if not isinstance(text, str) and isinstance(path, str):
        head, _, rest = path.partition(".")
        text = _at(value_of(search[head]), rest) if head in search else None
    return text.strip() or None if isinstance(text, str) else None


def _at(value: object, path: str) -> object:
    """What stands at a dotted path; keys may hold dots, numbers count the items of arrays."""
    if not path:
        return value
    if (parts := path.split("."))[64:]:
        return None
    for n in range(1, len(parts) + 1):
        key, rest = ".".join(parts[:n]), ".".join(parts[n:])
        if isinstance(value, dict) and key in value:
            found = _at(value[key], rest)
        elif isinstance(value, list) and n == 1 and key.isdecimal() and len(key) < 6 and int(key) < len(value):
            found = _at(value[int(key)], rest)
        else:
            continue
        if found is not None:
            return found
    return None


def _fingerprint(search: JsonObject, params: Mapping[str, str], query: str, mode: Mode, window: int) -> str:
    """A hash of all that decides which hits there are and in which order."""
    asked = (
        {name: search[name] for name in sorted(search.keys() - _PRESENTATION)},
        {name: params[name] for name in sorted(params.keys() - _PRESENTATION)},
        (query, mode, window),
    )
    return hashlib.blake2b(encode(asked), digest_size=16).hexdigest()
