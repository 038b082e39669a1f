"""Search answers as they stood on the wire: without what differs from call to call, and taken apart to their hits."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import msgspec
from msgspec import Raw

from tests.integration.proxy.conftest import Answer

_NUMBER = rb"\d+(?:\.\d+)?"
_CHANGING: tuple[tuple[bytes, bytes], ...] = (
    # how long it took: JSON, YAML, CBOR and Smile write it in their own ways
    (rb'"took" ?: ?\d+', rb'"took":0'),
    (rb"took: \d+", rb"took: 0"),
    (rb"dtook(?:[\x00-\x17]|\x18.|\x19..)", b"dtook"),
    (rb"\x83took(?:[\xc0-\xdf]|\x24[\x00-\x7f]{0,4}[\x80-\xff])", b"\x83took"),
    # the id of a scroll names a context that was made for this one search
    (rb'"_scroll_id":"[^"]*"', rb'"_scroll_id":""'),
)
_TIMES = re.compile(rb'("(?:time_in_nanos|\w*time\w*|[a-z_]+)":)' + _NUMBER)
_PHASES = re.compile(rb'("phase_took":)\{[^}]*\}')


def settled(answer: Answer) -> bytes:
    """The body without what differs between two calls of the engine itself."""
    body = gzip.decompress(answer.body) if answer.header("content-encoding") == "gzip" else answer.body
    for pattern, rest in _CHANGING:
        body = re.sub(pattern, rest, body, flags=re.DOTALL)
    if b'"profile":{' in body:
        # numbers of a profile are times, or counts that stand beside them
        head, profile = body.split(b'"profile":{', 1)
        body = head + b'"profile":{' + _TIMES.sub(rb"\g<1>0", profile)
    return _PHASES.sub(rb"\1{}", body)


_OWN = {"x-whyrank-status", "x-whyrank-reason", "x-whyrank-ranking"}
_VARYING = {
    "content-length",  # with `took`
    "transfer-encoding",
    "x-elasticsearch-search-metrics",  # with what is in the engine's caches
    "warning",  # OpenSearch tells a client but once that something is deprecated
}


def comparable(answer: Answer) -> list[tuple[str, str]]:
    """Headers as HTTP compares them, without ours and those that differ between two calls of the engine itself."""
    headers = [(name.lower(), value) for name, value in answer.headers]
    return sorted(pair for pair in headers if pair[0] not in _OWN | _VARYING)


def members(data: bytes | Raw) -> dict[str, bytes]:
    """The members of an object as they are written."""
    return {name: bytes(raw) for name, raw in msgspec.json.decode(data, type=dict[str, Raw]).items()}


def whole(body: bytes) -> dict[str, bytes]:
    """The members of an answer. A lone surrogate (document 13 has one) is no text for msgspec: it gets a name."""
    return members(re.sub(rb"(?<!\\)\\u[dD]800", b"LONE", body))


def section(answer: dict[str, bytes]) -> dict[str, bytes]:
    """The members of `hits` but its hits."""
    return {name: raw for name, raw in members(answer["hits"]).items() if name != "hits"}


def hits(answer: dict[str, bytes]) -> list[dict[str, bytes]]:
    """The hits' members, without our entries in `fields`."""
    found = [members(raw) for raw in msgspec.json.decode(members(answer["hits"])["hits"], type=list[Raw])]
    for hit in found:
        if "fields" in hit:
            fields = members(hit["fields"])
            kept = {name: Raw(raw) for name, raw in fields.items() if not name.startswith("whyrank.")}
            if len(kept) < len(fields):
                hit.pop("fields")
                if kept:
                    hit["fields"] = msgspec.json.encode(kept)
    return found


def value(hit: dict[str, bytes]) -> dict[str, Any]:
    """A hit by its values: what is written anew is written in other blanks and digits."""
    return {name: json.loads(raw) for name, raw in hit.items()}


def name(hit: dict[str, bytes]) -> tuple[str, str]:
    return json.loads(hit["_index"]), json.loads(hit["_id"])
