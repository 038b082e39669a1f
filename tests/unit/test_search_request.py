"""Search bodies on their way in: plans, bypasses, and bytes that are not ours left alone."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin_service.rescoring.search_request import Bypass, Plan, plan, strip
from whyrank.errors import BadRequestError
from whyrank.types import Mode, Policy

POLICY = Policy(index="docs", fields=("title", "body", "author.name"), window=50, deadline_ms=300)
RED = {"match": {"title": "red shoes"}}


def body_of(**members: Any) -> bytes:
    return json.dumps(members).encode()


def planned(body: bytes, policy: Policy = POLICY, **params: str) -> Plan:
    outcome = plan(body, params, policy)
    assert isinstance(outcome, Plan), outcome
    return outcome


def bypassed(body: bytes, policy: Policy = POLICY, **params: str) -> str:
    outcome = plan(body, params, policy)
    assert isinstance(outcome, Bypass), outcome
    assert outcome.detail
    return outcome.reason


def sent(outcome: Plan) -> Any:
    return json.loads(outcome.body)


def test_the_engine_is_asked_for_the_window_from_0() -> None:
    outcome = planned(body_of(query=RED, size=10, **{"from": 20}))
    assert (outcome.offset, outcome.size, outcome.window) == (20, 10, 50)
    assert sent(outcome) == {"query": RED, "from": 0, "size": 50}
    assert (outcome.query, outcome.mode, outcome.deadline_ms) == ("red shoes", Mode.REASON, 300)
    assert (outcome.ranking_id, outcome.explain, outcome.borrowed_fields) == (None, True, ())


def test_defaults_of_the_engines() -> None:
    outcome = planned(body_of(query=RED))
    assert (outcome.offset, outcome.size) == (0, 10)


def test_bytes_of_other_members_are_kept() -> None:
    body = rb'{ "post_filter" : {"term":{"price":1.10,"n":1180591620717411303424, "x":1e400}}, "query":' + (
        rb'{"match" : {"title":"caf\u00e9"}} ,"size":5}'
    )
    outcome = planned(body)
    assert outcome.body == (
        rb'{"post_filter":{"term":{"price":1.10,"n":1180591620717411303424, "x":1e400}},"query":'
        rb'{"match" : {"title":"caf\u00e9"}},"size":50,"from":0}'
    )
    assert outcome.query == "café"


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_no_body_but_q(body: bytes) -> None:
    outcome = planned(body, q="title:red AND shoes", size="5", pretty="")
    assert outcome.query == "red shoes"
    assert sent(outcome) == {"from": 0, "size": 50}
    assert outcome.params == {"q": "title:red AND shoes", "pretty": ""}


def test_the_urls_numbers_win() -> None:
    outcome = planned(body_of(query=RED, size=1, **{"from": 1}), size="7", **{"from": "3"})
    assert (outcome.offset, outcome.size, outcome.params) == (3, 7, {})


def test_the_urls_query_wins() -> None:
    assert planned(body_of(query=RED), q="green").query == "green"


def test_digits_in_quotes_are_numbers_to_the_engines() -> None:
    assert planned(body_of(query=RED, size="7")).size == 7


def test_body_in_the_url() -> None:
    outcome = planned(b"", source='{"query":{"match":{"t":"red"}}}', source_content_type="application/json")
    assert (outcome.query, outcome.params) == ("red", {})
    assert bypassed(b"", source="query: {}", source_content_type="application/yaml") == "not_json"


OPTIONS = {"query": "red", "window": 20, "deadline_ms": 0, "mode": "label", "explain": False, "ranking": "r1"}


def test_options_of_the_request() -> None:
    outcome = planned(body_of(query=RED, ext={"whyrank": OPTIONS, "ubi": {"query_id": "7"}}))
    assert (outcome.query, outcome.window, outcome.deadline_ms) == ("red", 20, 0)
    assert (outcome.mode, outcome.explain, outcome.ranking_id) == (Mode.LABEL, False, "r1")
    assert sent(outcome)["ext"] == {"ubi": {"query_id": "7"}}
    assert sent(outcome)["size"] == 20


def test_an_ext_that_is_ours_alone_goes_whole() -> None:
    assert "ext" not in sent(planned(body_of(query=RED, ext={"whyrank": {}})))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"window": 0}, "ext.whyrank.window"),
        ({"window": 201}, "ext.whyrank.window"),
        ({"window": "many"}, "ext.whyrank.window"),
        ({"deadline_ms": -1}, "ext.whyrank.deadline_ms"),
        ({"deadline_ms": 60_001}, "ext.whyrank.deadline_ms"),
        ({"mode": "think"}, "ext.whyrank.mode"),
        ({"enabled": "no"}, "ext.whyrank.enabled"),
        ({"explain": 1}, "ext.whyrank.explain"),
        ({"query": ["red"]}, "ext.whyrank.query"),
        ({"ranking": ""}, "ext.whyrank.ranking"),
        ({"ranking": "r" * 513}, "ext.whyrank.ranking"),
        ({"windows": 10}, "ext.whyrank.windows"),
        ("on", "ext.whyrank"),
        (None, "ext.whyrank"),
    ],
)
def test_bad_options_name_the_field(options: Any, field: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        plan(body_of(query=RED, ext={"whyrank": options}), {}, POLICY)
    assert raised.value.field == field


def test_bad_options_are_told_even_of_a_search_that_is_not_rescored() -> None:
    with pytest.raises(BadRequestError):
        plan(body_of(size=0, ext={"whyrank": {"window": 0}}), {}, POLICY)


@pytest.mark.parametrize(
    ("ext", "query"),
    [
        ({"rerank": {"query_context": {"query_text": "said"}}}, "said"),
        ({"rerank": {"query_context": {"query_text_path": "query.match.title"}}}, "red shoes"),
        ({"rerank": {"query_context": {"query_text_path": "suggest.a.b.texts.1.text"}}}, "deep"),
        ({"rerank": {"query_context": {"query_text": "said"}}, "whyrank": {"query": " ours "}}, "ours"),
        ({"rerank": {"query_context": {"query_text": "said"}}, "whyrank": {"query": " "}}, "said"),
        ({"rerank": {"query_context": {"query_text_path": "query.match"}}}, "red shoes"),
        ({"rerank": {"query_context": {"query_text_path": "no.such" + ".path" * 100}}}, "red shoes"),
        ({"rerank": {"query_context": 7}}, "red shoes"),
        ({"rerank": []}, "red shoes"),
    ],
)
def test_where_the_query_comes_from(ext: Any, query: str) -> None:
    suggest = {"a.b": {"texts": [{"text": "first"}, {"text": "deep"}]}}
    outcome = planned(body_of(query=RED, suggest=suggest, ext=ext))
    assert outcome.query == query
    assert sent(outcome).get("ext", {}) == {name: value for name, value in ext.items() if name != "whyrank"}


def test_retriever_and_knn() -> None:
    assert planned(body_of(retriever={"standard": {"query": RED}})).query == "red shoes"
    builder = {"text_embedding": {"model_text": "red shoes"}}
    assert planned(body_of(knn={"field": "v", "query_vector_builder": builder})).query == "red shoes"


@pytest.mark.parametrize(
    ("members", "window"),
    [
        ({"retriever": {"standard": {"query": RED}}}, 50),
        ({"retriever": {"rrf": {"query": "red"}}}, 10),
        ({"retriever": {"linear": {"query": "red", "rank_window_size": 30}}}, 30),
        ({"retriever": {"rrf": {"query": "red", "rank_window_size": 100}}}, 50),
        (
            {
                "retriever": {
                    "rescorer": {
                        "retriever": {"standard": {"query": RED}},
                        "rescore": [{"window_size": 40}, {"window_size": 25}],
                    }
                }
            },
            25,
        ),
        ({"query": RED, "rank": {"rrf": {"window_size": 20}}}, 20),
    ],
)
def test_compound_retrievers_keep_their_own_window(members: Any, window: int) -> None:
    outcome = planned(body_of(**members))
    assert outcome.window == window
    assert sent(outcome)["size"] == window


@pytest.mark.parametrize(
    ("members", "params", "reason"),
    [
        ({"query": RED, "size": 0}, {}, "size_zero"),
        ({"query": RED, "size": 0, "aggs": {}}, {}, "aggregations_only"),
        ({"query": RED, "aggregations": {}}, {"size": "0"}, "aggregations_only"),
        ({"query": RED, "size": 51}, {}, "beyond_window"),
        ({"query": RED, "from": 41}, {}, "beyond_window"),
        ({"query": RED, "from": 10**30}, {}, "beyond_window"),
        ({"retriever": {"rrf": {"query": "red"}}, "size": 11}, {}, "beyond_window"),
        ({"query": RED, "search_after": [1]}, {}, "search_after"),
        ({"query": RED, "pit": {"id": "x"}, "sort": "_score"}, {}, "search_after"),
        ({"query": RED, "sort": "date"}, {}, "sorted_by_field"),
        ({"query": RED, "sort": [{"date": "desc"}]}, {}, "sorted_by_field"),
        ({"query": RED, "sort": ["_score", {"id": "asc"}]}, {}, "sorted_by_field"),
        ({"query": RED, "sort": {"_score": "asc"}}, {}, "sorted_by_field"),
        ({"query": RED, "sort": "_score"}, {"sort": "date:asc"}, "sorted_by_field"),
        ({"query": RED}, {"sort": "_score:asc"}, "sorted_by_field"),
        ({"query": RED}, {"sort": "_doc"}, "sorted_by_field"),
        ({"query": RED}, {"scroll": "1m"}, "scroll"),
        ({"query": RED}, {"filter_path": "hits.hits._id"}, "filter_path"),
        ({"query": RED}, {"format": "yaml"}, "response_format"),
        ({"query": RED, "stored_fields": "_none_"}, {}, "without_ids"),
        ({"query": RED}, {"stored_fields": "_none_"}, "without_ids"),
        ({"query": {"match_all": {}}}, {}, "no_query_text"),
        ({}, {}, "no_query_text"),
        ({"suggest": {"text": "red", "s": {"term": {"field": "title"}}}}, {}, "no_query_text"),
        ({"query": RED}, {"q": "*"}, "no_query_text"),
        ({"query": {"knn": {"v": {"vector": [1.5], "k": 3}}}}, {}, "no_query_text"),
        ({"query": RED, "ext": {"whyrank": {"enabled": False}}}, {}, "disabled_by_request"),
        ({"query": RED, "size": None}, {}, "not_json"),
        ({"query": RED, "size": -1}, {}, "not_json"),
        ({"query": RED, "size": 1.5}, {}, "not_json"),
        ({"query": RED, "size": True}, {}, "not_json"),
        ({"query": RED, "from": "x"}, {}, "not_json"),
        ({"query": RED}, {"size": "ten"}, "not_json"),
        ({"query": RED}, {"from": "-1"}, "not_json"),
        ({"query": RED, "ext": []}, {}, "not_json"),
        ({"query": RED, "_source": False, "fields": "title"}, {}, "not_json"),
    ],
)
def test_bypasses(members: Any, params: dict[str, str], reason: str) -> None:
    assert bypassed(body_of(**members), **params) == reason


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"7",
        b'{"query":}',
        b"{} x",
        b"\xff",
        b"/* c */ {}",
        b'{"size":"\xff"}',
        b'{"size":"\\ud800"}',
        b'{"query":"\xff"}',
        b"[" * 9000,
    ],
)
def test_what_is_not_json_is_the_engines(body: bytes) -> None:
    assert bypassed(body) == "not_json"


def test_a_policy_that_is_off() -> None:
    policy = msgspec.structs.replace(POLICY, enabled=False)
    assert bypassed(body_of(query=RED, ext={"whyrank": {"enabled": True}}), policy) == "policy_disabled"


@pytest.mark.parametrize(
    "sort", ["_score", ["_score"], {"_score": "desc"}, [{"_score": {"order": "DESC"}}], [{"_score": {}}], []]
)
def test_sorted_by_score_is_relevance(sort: Any) -> None:
    assert planned(body_of(query=RED, sort=sort)).window == 50


@pytest.mark.parametrize("sort", ["_score", "_score:desc", ""])
def test_sorted_by_score_in_the_url(sort: str) -> None:
    assert planned(body_of(query=RED), sort=sort).params == {"sort": sort}


def test_other_parameters_pass() -> None:
    params = {
        "typed_keys": "true",
        "rest_total_hits_as_int": "true",
        "routing": "a",
        "search_type": "x",
        "format": "json",
    }
    assert planned(body_of(query=RED, pit={"id": "x"}, collapse={"field": "f"}), **params).params == params


@pytest.mark.parametrize(
    ("source", "params", "borrowed"),
    [
        ({}, {}, ()),
        ({"_source": True}, {}, ()),
        ({"_source": []}, {}, ()),
        ({"_source": "*"}, {}, ()),
        ({"_source": False}, {}, ("title", "body", "author.name")),
        ({"_source": ""}, {}, ("title", "body", "author.name")),
        ({"_source": "title,body"}, {}, ("title", "body", "author.name")),
        ({"_source": ["title", "author"]}, {}, ("body",)),
        ({"_source": ["ti*", "*name"]}, {}, ("body",)),
        ({"_source": ["title", "body", "author.*"]}, {}, ()),
        ({"_source": ["body.x", "author.name.first", "title"]}, {}, ("body", "author.name")),
        ({"_source": {"excludes": ["body"]}}, {}, ("body",)),
        ({"_source": {"includes": ["*"], "excludes": ["author"]}}, {}, ("author.name",)),
        ({"_source": {"include": ["title"], "exclude": "x"}}, {}, ("body", "author.name")),
        ({"_source": {"exclude_vectors": True}}, {}, ()),
        ({"_source": False}, {"_source": "true"}, ()),
        ({}, {"_source": "false"}, ("title", "body", "author.name")),
        ({}, {"_source": "title, body"}, ("author.name",)),
        ({"_source": False}, {"_source_excludes": "title"}, ("title",)),
        ({}, {"_source_includes": "title,body"}, ("author.name",)),
        ({}, {"_source": "true", "_source_includes": "body"}, ("title", "author.name")),
        ({"stored_fields": ["x"]}, {}, ("title", "body", "author.name")),
        ({"stored_fields": ["x"], "_source": True}, {}, ()),
        ({}, {"stored_fields": "title,x"}, ("body", "author.name")),
        ({"_source": False, "fields": ["title", {"field": "auth*", "format": "x"}]}, {}, ("body",)),
        ({"_source": False, "fields": ["*"]}, {}, ()),
        ({"_source": False, "docvalue_fields": [{"field": "title"}]}, {}, ("body", "author.name")),
    ],
)
def test_fields_that_the_source_filter_leaves_out_are_borrowed(
    source: Any, params: dict[str, str], borrowed: tuple[str, ...]
) -> None:
    outcome = planned(body_of(query=RED, **source), **params)
    assert outcome.borrowed_fields == borrowed
    expected = {"query": RED, **source, "from": 0, "size": 50}
    if borrowed:
        expected["fields"] = [*source.get("fields", []), *borrowed]
    assert sent(outcome) == expected
    assert outcome.params == params


def test_the_fingerprint_is_the_same_on_all_pages() -> None:
    first = planned(body_of(query=RED, aggs={"a": {"terms": {"field": "b"}}}, ext={"ubi": {"query_id": "1"}}))
    second = planned(body_of(size=10, query=RED, **{"from": 10}, ext={"ubi": {"query_id": "2"}}), pretty="")
    third = planned(body_of(query=RED, ext={"whyrank": {"ranking": "r1"}}), **{"from": "20"})
    assert first.fingerprint == second.fingerprint == third.fingerprint


@pytest.mark.parametrize(
    ("members", "params"),
    [
        ({"query": {"match": {"body": "red shoes"}}}, {}),
        ({"query": RED, "post_filter": {"term": {"a": "b"}}}, {}),
        ({"query": RED, "min_score": 1.0}, {}),
        ({"query": RED}, {"routing": "a"}),
        ({"query": RED, "ext": {"whyrank": {"mode": "label"}}}, {}),
        ({"query": RED, "ext": {"whyrank": {"window": 20}}}, {}),
        ({"query": RED, "ext": {"whyrank": {"query": "blue"}}}, {}),
    ],
)
def test_another_search_has_another_fingerprint(members: Any, params: dict[str, str]) -> None:
    assert planned(body_of(**members), **params).fingerprint != planned(body_of(query=RED)).fingerprint


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"not json",
        b'{"query":{"match":{"t":"whyrank"}}}',
        b'{"ext":{"ubi":{}},"x":"\\u0077"}',
        b'{"ext":7,"x":"whyrank"}',
    ],
)
def test_strip_returns_the_same_object_where_there_is_nothing_of_ours(body: bytes) -> None:
    assert strip(body) is body


def test_strip_takes_out_ours_alone() -> None:
    body = rb'{"a":1.10,"ext":{"x":{"y" : 1e400},"whyrank":{"window":-3}},"b":"\u00e9"}'
    assert strip(body) == rb'{"a":1.10,"ext":{"x":{"y" : 1e400}},"b":"\u00e9"}'
    assert strip(b'{"size":0,"ext":{"whyrank":7}}') == b'{"size":0}'
    assert strip(b'{"size":0,"ext":{"\\u0077hyrank":7}}') == b'{"size":0}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
MEMBERS = st.sampled_from(
    ["query", "from", "size", "sort", "ext", "_source", "fields", "stored_fields", "retriever", "rank", "knn", "aggs"]
)


@given(st.dictionaries(MEMBERS, JSON), st.dictionaries(MEMBERS, st.text(max_size=5)))
def test_total_on_any_body(members: dict[str, Any], params: dict[str, str]) -> None:
    """Nothing but a bad option of ours is ever an error."""
    members["query"] = {"bool": {"must": [RED, members.get("query")]}}
    body = json.dumps(members).encode()
    try:
        outcome = plan(body, params, POLICY)
    except BadRequestError:
        assert "whyrank" in members["ext"]
        return
    if isinstance(outcome, Plan):
        asked = sent(outcome)
        assert (asked["from"], asked["size"]) == (0, outcome.window)
        assert outcome.offset >= 0
        assert outcome.size >= 1
        assert outcome.offset + outcome.size <= outcome.window
        for name, value in members.items():
            if name not in {"from", "size", "fields"}:
                assert asked[name] == value


@given(st.binary(max_size=60))
def test_total_on_any_bytes(body: bytes) -> None:
    assert isinstance(plan(body, {}, POLICY), Bypass)
    assert strip(body) is body
