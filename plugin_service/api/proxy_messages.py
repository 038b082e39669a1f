"""Headers, bodies and errors on the proxy's wire: pure functions."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import msgspec

from plugin_service.api.upstream_connection import RawHeaders

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Headers that speak of one connection only (RFC 9110, 7.6.1)."""

_NOT_FORWARDED = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_BODY_HEADERS = frozenset((b"content-encoding", b"accept-encoding"))
_PLAIN_CONNECTION = frozenset((b"keep-alive", b"close", b"Keep-Alive", b"Close"))
_JSON = re.compile(r"application/(?:vnd\.(?:elasticsearch|opensearch)\+)?json")
_NDJSON = re.compile(r"application/(?:vnd\.(?:elasticsearch|opensearch)\+)?(?:x-nd)?json")
_VERSIONED = re.compile(r"application/vnd\.elasticsearch\+json\s*;\s*compatible-with\s*=\s*\d+")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_MOST_HEADER = 300


def request_headers(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The client's headers as the engine gets them; names are lower case, as ASGI has them.

    Host and framing are the upstream's own business; Expect has been answered by our server.
    """
    kept = []
    nominated: frozenset[bytes] = frozenset()
    for pair in headers:
        if pair[0] not in _NOT_FORWARDED:
            kept.append(pair)
        elif pair[0] == b"connection" and pair[1] not in _PLAIN_CONNECTION:
            nominated |= _tokens(pair[1])
    return [pair for pair in kept if pair[0] not in nominated] if nominated else kept


def rewritten_headers(headers: Iterable[tuple[bytes, bytes]], has_body: bool) -> RawHeaders:
    """`request_headers` for a request whose body is ours, and whose answer we have to read."""
    kept = [pair for pair in request_headers(headers) if pair[0] not in _BODY_HEADERS]
    if has_body and not ((kind := header(kept, b"content-type")) and is_ndjson(kind)):
        # the client had no body, and may have called that anything; Elasticsearch wants both types of one version
        accept = header(kept, b"accept")
        kind = accept if _VERSIONED.fullmatch(accept) else "application/json"
        kept = [*without(kept, b"content-type"), (b"content-type", kind.encode("latin-1"))]
    kept.append((b"accept-encoding", b"identity"))
    return kept


def without(headers: Iterable[tuple[bytes, bytes]], *names: bytes) -> RawHeaders:
    """The headers but for these (lower case)."""
    return [(name, value) for name, value in headers if name.lower() not in names]


def response_headers(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The engine's headers as the client gets them."""
    kept = []
    nominated: frozenset[bytes] = frozenset()
    for name, value in headers:
        lower = name.lower()
        if lower not in HOP_BY_HOP:
            kept.append((lower, value))
        elif lower == b"connection" and value not in _PLAIN_CONNECTION:
            nominated |= _tokens(value)
    return [pair for pair in kept if pair[0] not in nominated] if nominated else kept


def status_headers(status: str, reason: str, ranking_id: str | None = None) -> RawHeaders:
    """What was done to a search, for clients that do not read the body."""
    headers = [(b"x-whyrank-status", _header_text(status)), (b"x-whyrank-reason", _header_text(reason))]
    if ranking_id:
        headers.append((b"x-whyrank-ranking", _header_text(ranking_id)))
    return headers


def error_body(status: int, kind: str, reason: str, field: str | None = None) -> bytes:
    """An error in the engine's own shape, so that its clients raise what they always raise."""
    cause = {"type": kind, "reason": reason} | ({"field": field} if field else {})
    return msgspec.json.encode({"error": {"root_cause": [cause], **cause}, "status": status})


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """The first header of this (lower case) name, "" when there is none."""
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), "")


def body_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Bytes of the request's body: 0 when there is none, None when it comes in chunks."""
    length = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value)
    return length


def is_json(content_type: str) -> bool:
    """Whether a body of this type is one JSON value in UTF-8; no type at all counts as JSON."""
    return _is_media(content_type, _JSON)


def is_ndjson(content_type: str) -> bool:
    """Whether the engine would read lines of JSON from a body of this type (both take plain JSON's, too)."""
    return _is_media(content_type, _NDJSON)


def accepts_json(accept: str) -> bool:
    """Whether a JSON answer is among what the client accepts."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return accept == "" or any(kind in ("*/*", "application/*") or _JSON.fullmatch(kind) for kind in kinds)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the client takes gzip."""
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameters) is None
    return False


def decoded(body: bytes, coding: str, limit: int) -> bytes | None:
    """The body without its content coding; None for an unknown one, a broken one, or more than `limit` bytes."""
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        return None
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes
    try:
        data = inflater.decompress(body, limit + 1)
    except zlib.error:
        return None
    # what follows the first gzip member is for the engine to judge, not for us to drop
    return data if len(data) <= limit and inflater.eof and not inflater.unused_data else None


def gzipped(body: bytes) -> bytes:
    """The body as gzip, quickly rather than tightly: a search is waiting."""
    deflater = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16)
    return deflater.compress(body) + deflater.flush()


def tenant_of(headers: Iterable[tuple[bytes, bytes]], name: str | None) -> str:
    """The tenant that the header `name` gives; "default" without one."""
    return (header(headers, name.lower().encode("latin-1")) if name else "") or "default"


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip().lower() for token in value.split(b","))


def _is_media(content_type: str, kinds: re.Pattern[str]) -> bool:
    kind, _, parameters = content_type.lower().partition(";")
    if not kind.strip():
        return True
    charset = re.search(r"charset\s*=\s*\"?([\w-]+)", parameters)
    return bool(kinds.fullmatch(kind.strip())) and (charset is None or charset[1] in ("utf-8", "utf8"))


def _header_text(text: str) -> bytes:
    return _UNPRINTABLE.sub(" ", text)[:_MOST_HEADER].strip().encode("ascii")
