"""What the proxy does to headers, bodies and paths, without a socket."""

from __future__ import annotations

import gzip
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin_service.api import proxy_messages as messages
from plugin_service.api import targets
from plugin_service.api.proxy_call import engine_trouble
from plugin_service.api.targets import MultiSearchTarget, SearchTarget, classify, policy_of
from plugin_service.api.upstream import Upstream
from tests.fakes.policies import FakePolicies
from whyrank.errors import EngineError, EngineTimeoutError, EngineUnavailableError
from whyrank.types import Policy

POLICIES = FakePolicies(Policy(index="docs", fields=("t",)), Policy(index="off", fields=("t",), enabled=False))


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", b"/docs/_search", SearchTarget("docs")),
        ("GET", b"/docs/_search/", SearchTarget("docs")),
        ("POST", b"/d%6fcs/_search", SearchTarget("docs")),
        ("POST", b"/a+b%2B%c3%a9/_search", SearchTarget("a+b+\u00e9")),
        ("POST", b"/a%2Fb/_search", SearchTarget("a/b")),
        ("POST", b"/a,b*/_search", SearchTarget("a,b*")),
        ("POST", b"/_msearch", MultiSearchTarget(None)),
        ("GET", b"/docs/_msearch", MultiSearchTarget("docs")),
        ("PUT", b"/docs/_search", None),
        ("HEAD", b"/docs/_search", None),
        ("POST", b"/_search", None),
        ("POST", b"//docs/_search", None),
        ("POST", b"/docs//_search", None),
        ("POST", b"/docs/%5fsearch", None),
        ("POST", b"/docs/_search/template", None),
        ("POST", b"/docs/x_search", None),
        ("POST", b"/docs/_doc/_search", None),
        ("POST", b"/%ff/_search", None),
        ("POST", b"/_search/_search/", SearchTarget("_search")),
    ],
)
def test_paths_are_read_as_the_engines_read_them(method: str, path: bytes, target: object) -> None:
    assert classify(method, path) == target


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("docs", "docs"),
        ("off", "off"),
        ("other", None),
        ("docs,other", targets.SEVERAL_INDICES),
        ("do*", targets.SEVERAL_INDICES),
        ("_all", targets.SEVERAL_INDICES),
        ("*,-docs", targets.SEVERAL_INDICES),
        ("other,more", None),
        ("of*", None),
        ("[d]ocs*", None),
        ("<docs-{now}>", None),
        ("_search", None),
    ],
)
def test_policies_by_index_expression(index: str, expected: str | None) -> None:
    found = policy_of(index, POLICIES)
    assert (found.index if isinstance(found, Policy) else found) == expected


@given(st.binary(max_size=40))
def test_any_path_and_query_can_be_looked_at(raw: bytes) -> None:
    classify("POST", b"/" + raw + b"/_search")
    targets.parse_query(raw)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4))
def test_parameters_survive_the_way_there_and_back(params: dict[str, str]) -> None:
    path, _, query = targets.target(b"/i/_search", params).partition(b"?")
    assert path == b"/i/_search"
    assert targets.parse_query(query) == params


def test_a_parameter_given_twice_is_nobodys_guess() -> None:
    assert targets.parse_query(b"size=1&size=2") is None
    assert targets.parse_query(b"q=%ff") is None
    assert targets.parse_query(b"pretty&q=a+b%2B&") == {"pretty": "", "q": "a b+"}


def test_hop_by_hop_headers_and_those_that_connection_names_are_dropped() -> None:
    sent = [
        (b"host", b"x"), (b"connection", b"Keep-Alive, X-Mine"), (b"x-mine", b"1"), (b"te", b"trailers"),
        (b"content-length", b"3"), (b"expect", b"100-continue"), (b"authorization", b"Basic a"),
        (b"a", b"1"), (b"a", b"2"),
    ]  # fmt: skip
    assert messages.request_headers(sent) == [(b"authorization", b"Basic a"), (b"a", b"1"), (b"a", b"2")]
    answered = [
        (b"Connection", b"close"), (b"Transfer-Encoding", b"chunked"), (b"Warning", b"1"), (b"warning", b"2"),
        (b"Content-Length", b"5"),
    ]  # fmt: skip
    assert messages.response_headers(answered) == [(b"warning", b"1"), (b"warning", b"2"), (b"content-length", b"5")]
    named = [(b"Connection", b"X-Hop"), (b"X-Hop", b"1"), (b"X-Stay", b"1")]
    assert messages.response_headers(named) == [(b"x-stay", b"1")]


def test_a_rewritten_request_asks_for_a_plain_answer_to_a_json_body() -> None:
    sent = [(b"accept-encoding", b"gzip"), (b"content-encoding", b"gzip"), (b"x-opaque-id", b"1")]
    assert messages.rewritten_headers(sent, has_body=True) == [
        (b"x-opaque-id", b"1"),
        (b"content-type", b"application/json"),
        (b"accept-encoding", b"identity"),
    ]
    typed = [(b"content-type", b"application/vnd.elasticsearch+json; compatible-with=9")]
    assert messages.rewritten_headers(typed, has_body=True)[0] == typed[0]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"*/*", b"application/json"),
        (
            b"application/vnd.elasticsearch+json; compatible-with=9",
            b"application/vnd.elasticsearch+json; compatible-with=9",
        ),
        (b"application/vnd.elasticsearch+json; compatible-with=9, */*", b"application/json"),
    ],
)
def test_what_a_client_called_its_empty_body_is_not_what_ours_is(accept: bytes, expected: bytes) -> None:
    """aiohttp and others send a type with no body; Elasticsearch refuses a version in one of the two types alone."""
    sent = [(b"content-type", b"application/octet-stream"), (b"accept", accept)]
    written = messages.rewritten_headers(sent, has_body=True)
    assert [value for name, value in written if name == b"content-type"] == [expected]
    untyped = messages.rewritten_headers(sent[1:], has_body=True)
    assert [value for name, value in untyped if name == b"content-type"] == [expected]


@pytest.mark.parametrize(
    ("kind", "json", "ndjson"),
    [
        ("", True, True),
        ("application/json", True, True),
        ("Application/JSON; charset=UTF-8", True, True),
        ("application/json; charset=latin-1", False, False),
        ("application/vnd.elasticsearch+json; compatible-with=9", True, True),
        ("application/vnd.elasticsearch+x-ndjson; compatible-with=9", False, True),
        ("application/x-ndjson", False, True),
        ("application/yaml", False, False),
        ("application/smile", False, False),
        ("application/jsonp", False, False),
        ("text/plain", False, False),
    ],
)
def test_media_types(kind: str, json: bool, ndjson: bool) -> None:
    assert (messages.is_json(kind), messages.is_ndjson(kind)) == (json, ndjson)


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("application/yaml", False),
        ("text/html, */*;q=0.1", True),
    ],
)
def test_accept(accept: str, json: bool) -> None:
    assert messages.accepts_json(accept) is json


@pytest.mark.parametrize(
    ("accept", "gzip_"),
    [("", False), ("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("br", False), ("*", True)],
)
def test_accept_encoding(accept: str, gzip_: bool) -> None:
    assert messages.accepts_gzip(accept) is gzip_


@pytest.mark.parametrize("coding", ["gzip", "deflate", "", "identity"])
def test_content_codings(coding: str) -> None:
    raw = b'{"query": {}}' * 10
    body = {"gzip": gzip.compress(raw), "deflate": zlib.compress(raw)}.get(coding, raw)
    assert messages.decoded(body, coding, 1000) == raw


def test_what_does_not_decode_to_few_bytes_is_not_decoded() -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    assert messages.decoded(bomb, "gzip", 1_000_000) is None
    assert messages.decoded(gzip.compress(b"a" * 100), "gzip", 100) == b"a" * 100
    assert messages.decoded(b"not gzip", "gzip", 100) is None
    assert messages.decoded(gzip.compress(b"a")[:-4], "gzip", 100) is None
    assert messages.decoded(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", 100) is None
    assert messages.decoded(b"", "br", 100) is None


def test_gzipped_answers_are_what_they_were() -> None:
    assert gzip.decompress(messages.gzipped(b"answer" * 1000)) == b"answer" * 1000


@pytest.mark.parametrize("reason", ["a: b\r\nSet-Cookie: x", "caf\u00e9 \u20ac", "x" * 1000])
def test_reasons_are_safe_in_a_header(reason: str) -> None:
    headers = dict(messages.status_headers("failed", reason, "id\n"))
    assert all(0x20 <= byte < 0x7F for value in headers.values() for byte in value)
    assert len(headers[b"x-whyrank-reason"]) <= 300


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (EngineUnavailableError("gone"), 503, "whyrank_engine_unavailable_exception"),
        (EngineTimeoutError("silent"), 504, "whyrank_engine_timeout_exception"),
        (EngineError("odd"), 502, "whyrank_engine_answer_exception"),
    ],
)
def test_the_engines_absence_in_its_own_words(error: EngineError, status: int, kind: str) -> None:
    reply = engine_trouble(error)
    body = msgspec.json.decode(reply.body)
    assert reply.status == body["status"] == status
    assert body["error"] == {
        "root_cause": [{"type": kind, "reason": str(error)}], "type": kind, "reason": str(error),
    }  # fmt: skip


def test_the_upstream_alone_says_where_a_request_goes() -> None:
    upstream = Upstream("http://user:secret@engine:9200/prefix/", 1.0)
    head = upstream.message("POST", b"//evil/%2e%2e?a=%20", [(b"a", b"1")], b"body")
    assert head == (
        b"POST /prefix//evil/%2e%2e?a=%20 HTTP/1.1\r\nhost: engine:9200\r\na: 1\r\ncontent-length: 4\r\n\r\nbody"
    )


@pytest.mark.parametrize("target", [b"http://evil/", b"evil", b"", b"/a b", b"/a\r\nb: c", b"/a\x00"])
def test_what_is_not_a_path_is_never_sent(target: bytes) -> None:
    with pytest.raises(ValueError, match="not a path"):
        Upstream("http://engine", 1.0).message("GET", target, [], b"")


@pytest.mark.parametrize("url", ["ftp://engine", "engine:9200", "http://", ""])
def test_only_addresses_of_engines(url: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        Upstream(url, 1.0)
