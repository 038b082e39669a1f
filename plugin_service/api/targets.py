"""What a request's path asks for, read as the engines read it: segment by segment, then percent-decoded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes, urlencode

import msgspec

from plugin_service.rescoring.ports import Policies
from whyrank.types import Policy

SEVERAL_INDICES = "several_indices"

_SEVERAL = re.compile(r"[,*<>]|^[_-]")
"""Marks of lists, patterns, date math, `_all` and exclusions."""

_ENDS = (b"_search", b"_msearch", b"_search/", b"_msearch/")


class SearchTarget(msgspec.Struct, frozen=True):
    """`/{index}/_search`; `index` is decoded and may be a list, a pattern or date math."""

    index: str


class MultiSearchTarget(msgspec.Struct, frozen=True):
    """`/_msearch` or `/{index}/_msearch`."""

    index: str | None


def classify(method: str, raw_path: bytes) -> SearchTarget | MultiSearchTarget | None:
    """None for everything that only passes through; `/_search` does, too, for it names no index."""
    if not raw_path.endswith(_ENDS) or method not in ("GET", "POST"):
        return None
    return _search_target(raw_path)


@lru_cache(maxsize=1024)
def _search_target(raw_path: bytes) -> SearchTarget | MultiSearchTarget | None:
    segments = raw_path[1:].removesuffix(b"/").split(b"/")
    if segments == [b"_msearch"]:
        return MultiSearchTarget(None)
    if len(segments) != 2:
        return None
    index = _decode(segments[0])
    if not index:
        return None
    if segments[1] == b"_search":
        return SearchTarget(index)
    return MultiSearchTarget(index) if segments[1] == b"_msearch" else None


def policy_of(index: str, policies: Policies) -> Policy | str | None:
    """The policy of the one index that `index` names, also when it is switched off (requests may still carry
    `ext.whyrank`, which the engine would refuse).

    SEVERAL_INDICES when it names, or could match, more than one and one of those has an enabled policy.
    """
    if _names_one(index):
        return policies.lookup(index)
    enabled = [name for name, policy in policies.all().items() if policy.enabled]
    parts = [part for part in index.split(",") if part and not part.startswith("-")]
    patterns = ["*" if part == "_all" else part for part in parts]
    found = any(fnmatchcase(name, pattern.replace("[", "[[]")) for name in enabled for pattern in patterns)
    return SEVERAL_INDICES if found else None


def search_path(index: str) -> bytes:
    """The path of a search on this index."""
    return b"/" + quote(index, safe="").encode("ascii") + b"/_search"


def parse_query(query_string: bytes) -> dict[str, str] | None:
    """URL parameters; None if they are ambiguous (one given twice) or not text."""
    params: dict[str, str] = {}
    for part in query_string.split(b"&"):
        if not part:
            continue
        name, _, value = part.replace(b"+", b" ").partition(b"=")
        try:
            key, text = unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            return None
        if key in params:
            return None
        params[key] = text
    return params


def target(path: bytes, params: Mapping[str, str]) -> bytes:
    """Path and parameters as they go on the wire."""
    return path + b"?" + urlencode(params, quote_via=quote).encode("ascii") if params else path


def _decode(segment: bytes) -> str | None:
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None


def _names_one(index: str) -> bool:
    return _SEVERAL.search(index) is None
