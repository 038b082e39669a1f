"""Our plugin's rules: which searches are rescored, by which words and texts (the proxy's own), and who may say what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from plugin_service.rescoring.hits import fields_at
from plugin_service.rescoring.json_parts import SurrogateShield, object_of
from plugin_service.rescoring.search_request import Bypass, Plan, plan
from tests.integration.engine_plugin_rig import (
    FIELDS,
    QUERY,
    WINDOW,
    Engine,
    Json,
    document,
    ids,
    keep,
    ours,
    rescored_engine,
    said,
)
from whyrank.types import Policy

POLICY = Policy(index="docs", fields=tuple(FIELDS), window=WINDOW)


@pytest.fixture(scope="module")
def module_engine(opensearch_url: str) -> Iterator[Engine]:
    with rescored_engine(opensearch_url) as rig:
        yield rig


@pytest.fixture
def engine(module_engine: Engine) -> Engine:
    module_engine.sidecar.reset()
    return module_engine


def match(text: str) -> Json:
    return {"match": {"body": text}}


REQUESTS: dict[str, tuple[Json, dict[str, str]]] = {
    "switched off": ({"query": QUERY, "ext": {"whyrank": {"enabled": False}}}, {}),
    "scroll": ({"query": QUERY}, {"scroll": "1m"}),
    "search after": ({"query": QUERY, "sort": ["_score", "price"], "search_after": [1.0, 3]}, {}),
    "sorted": ({"query": QUERY, "sort": "price"}, {}),
    "sorted in the URL": ({"query": QUERY}, {"sort": "price:desc"}),
    "sorted, ties by a field": ({"query": QUERY, "sort": ["_score", {"price": "asc"}]}, {}),
    "sorted by the worst score": ({"query": QUERY, "sort": [{"_score": "asc"}]}, {}),
    "sorted by the best score": ({"query": QUERY, "sort": [{"_score": {"order": "desc"}}]}, {}),
    "no ids": ({"query": QUERY, "stored_fields": "_none_"}, {}),
    "aggregations only": ({"query": QUERY, "size": 0, "aggs": {"g": {"terms": {"field": "group"}}}}, {}),
    "no hits": ({"query": QUERY, "size": 0}, {}),
    "beyond the window": ({"query": QUERY, "from": 15, "size": 6}, {}),
    "to the window's end": ({"query": QUERY, "from": 15, "size": 5}, {}),
    "beyond its own window": ({"query": QUERY, "ext": {"whyrank": {"window": 9}}}, {}),
    "no query": ({}, {}),
    "an application's query": ({"query": {"term": {"group": "g1"}}}, {}),
    "words in the URL": ({}, {"q": "body:alpha"}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_proxys_rules_hold(engine: Engine, name: str) -> None:
    body, params = REQUESTS[name]
    expected = plan(json.dumps(body).encode(), params, POLICY)
    found = engine.search(body, params=params)
    if isinstance(expected, Bypass):
        assert said(found) == {"status": "bypassed", "reason": said(found)["reason"]}
        assert said(found)["reason"].split(":")[0] == expected.reason.value
        assert said(found)["reason"].endswith(expected.detail)
        alone = engine.search(
            {k: v for k, v in body.items() if k != "ext"}, params={**params, "search_pipeline": "_none"}
        )
        assert found["hits"] == alone["hits"], "left alone, down to the last member"
        assert engine.sidecar.asked == []
    else:
        assert said(found)["status"] == "complete"
        assert said(found)["query"] == expected.query
        assert said(found)["window"] == expected.window
    if "_scroll_id" in found:
        engine.ok("DELETE", "/_search/scroll", {"scroll_id": [found["_scroll_id"]]})


QUERIES: dict[str, Json] = {
    "match": {"match": {"body": {"query": "alpha  beta", "operator": "and"}}},
    "match phrase": {"match_phrase": {"body": "alpha alpha"}},
    "match phrase prefix": {"match_phrase_prefix": {"body": "alpha alp"}},
    "match bool prefix": {"match_bool_prefix": {"body": "alpha bet"}},
    "multi match": {"multi_match": {"query": "alpha beta", "fields": ["title^2", "body"], "type": "best_fields"}},
    "combined fields": {"combined_fields": {"query": "alpha beta", "fields": ["title", "body"]}},
    "bool": {
        "bool": {
            "must": [match("alpha")],
            "should": [match("beta stands"), {"match_phrase": {"title": "title"}}],
            "filter": [match("here"), {"term": {"group": "g1"}}],
            "must_not": [match("never")],
        }
    },
    "bool, words only in its filter": {"bool": {"must": {"match_all": {}}, "filter": match("alpha")}},
    "the same words in two fields": {
        "bool": {"should": [{"match": {"title": "Alpha"}}, match("alpha"), match("alpha beta")]}
    },
    "dis max": {"dis_max": {"queries": [match("alpha"), match("beta")]}},
    "function score": {"function_score": {"query": match("alpha"), "field_value_factor": {"field": "price"}}},
    "script score": {"script_score": {"query": match("alpha"), "script": {"source": "1 + _score"}}},
    "constant score": {"constant_score": {"filter": match("alpha")}},
    "boosting": {"boosting": {"positive": match("alpha"), "negative": match("beta"), "negative_boost": 0.5}},
    "nested": {"nested": {"path": "comments", "query": {"match": {"comments.text": "alpha"}}}},
    "more like this": {
        "more_like_this": {
            "fields": ["body"],
            "like": ["alpha beta", {"_id": "1"}],
            "min_term_freq": 1,
            "min_doc_freq": 1,
        }
    },
    "intervals": {
        "intervals": {
            "body": {
                "all_of": {
                    "intervals": [
                        {"match": {"query": "alpha"}},
                        {"any_of": {"intervals": [{"match": {"query": "beta"}}, {"prefix": {"prefix": "sta"}}]}},
                    ]
                }
            }
        }
    },
    "spans": {
        "span_near": {
            "clauses": [{"span_term": {"body": "alpha"}}, {"span_term": {"body": {"value": "words"}}}],
            "slop": 90,
            "in_order": True,
        }
    },
    "span not": {
        "span_not": {"include": {"span_term": {"body": "alpha"}}, "exclude": {"span_term": {"body": "never"}}}
    },
    "query string": {
        "query_string": {"query": 'body:(alpha OR "beta stands"~2) -never title*', "default_field": "body"}
    },
    "simple query string": {"simple_query_string": {"query": 'alpha + "beta stands" -never', "fields": ["body"]}},
    "terms and prefixes": {
        "bool": {"should": [{"terms": {"group": ["g1"]}}, {"prefix": {"title": "ti"}}, {"match_all": {}}]}
    },
    "folding": {"bool": {"should": [match("STRASSE alpha"), match("straße alpha"), match("alpha")]}},
}


@pytest.mark.parametrize("name", QUERIES)
def test_the_users_words_are_the_proxys(engine: Engine, name: str) -> None:
    body: Json = {"query": QUERIES[name]}
    expected = plan(json.dumps(body).encode(), {}, POLICY)
    found = engine.search(body)
    if isinstance(expected, Plan):
        assert said(found)["query"] == expected.query
    else:
        assert said(found)["reason"].split(":")[0] == expected.reason.value


SYNTAX = [
    "alpha beta",
    "alpha AND (beta OR gamma) NOT delta",
    "+alpha -beta !gamma",
    '"alpha beta"~2^3 gamma^2 delta~1',
    "-(alpha beta (gamma)) delta",
    "NOT (alpha OR beta) gamma",
    "title:alpha body:(beta gamma) _exists_:title delta",
    "price:[1 TO 5} price:>=3 alpha price:{* TO 4]^2",
    "/al.*a/ beta",
    "alph* b?ta *",
    r"alpha\:beta \(gamma\) \"delta\"",
    "well-known alpha&beta",
    "ANDY ORAL NOTE",
    "alpha && beta || gamma",
    "日本語 straße ÉTÉ",
    "alpha 3.5 2021-01-01",
]


@pytest.mark.parametrize("kind", ["query_string", "simple_query_string"])
def test_the_words_of_both_syntaxes_are_the_proxys(engine: Engine, kind: str) -> None:
    for text in SYNTAX:
        if kind == "simple_query_string" and text.startswith("/"):
            continue
        body: Json = {"query": {kind: {"query": text, "default_field": "body"}}}
        if kind == "simple_query_string":
            body["query"][kind] = {"query": text, "fields": ["body"]}
        expected = plan(json.dumps(body).encode(), {}, POLICY)
        assert isinstance(expected, Plan)
        assert said(engine.search(body))["query"] == expected.query, text


def test_a_pipeline_says_where_the_words_are(engine: Engine) -> None:
    name = engine.pipeline(engine.processor(query_path="query.term.group.value"))
    found = engine.search({"query": {"term": {"group": "g1"}}}, params={"search_pipeline": name})
    assert said(found)["query"] == "g1"
    fallen_back = engine.search({"query": QUERY}, params={"search_pipeline": name})
    assert said(fallen_back)["query"] == "alpha beta"


DOCUMENTS: list[Json] = [
    {"title": "alpha", "body": ["one", "two", ["three", None, ""]]},
    {"title": "alpha", "author": {"name": "a name"}, "body": "x"},
    {"title": "alpha", "author.name": "a dotted name"},
    {"title": "alpha", "comments": [{"text": "first"}, {"text": ["second", "third"]}, {"by": "nobody"}]},
    {"title": "alpha café 👟 \u2028", "body": " \n "},
    {"title": ["alpha", 2], "body": True},
]


def test_texts_are_the_proxys(engine: Engine) -> None:
    """The sidecar takes the hook's fields for the proxy's, so that one verdict serves both doors."""
    paths = ["title", "body", "author.name", "comments.text"]
    numbers = b'{"title":"alpha numbers","body":[1.10,1e400,-0.0E-7,2.50,18446744073709551616]}'
    sources = [*(json.dumps(each).encode() for each in DOCUMENTS), numbers, rb'{"title":"alpha half \ud800"}']
    name = engine.pipeline(engine.processor(fields=paths))
    not_indexed = {"properties": {"body": {"type": "object", "enabled": False}}}
    made = engine.new_index([{"title": "the first"}], mappings=not_indexed)
    lines = b"".join(b'{"index":{"_id":"s%d"}}\n%b\n' % (n, source) for n, source in enumerate(sources))
    assert engine.ok("POST", f"/{made}/_bulk", lines, params={"refresh": "true"})["errors"] is False
    everything = {"query": {"match_all": {}}, "ext": {"whyrank": {"query": "alpha"}}}
    engine.search(everything, made, params={"search_pipeline": name})
    texts = {hit["id"]: hit["fields"] for hit in engine.sidecar.asked[0]["hits"]}
    assert texts.pop("0") == {"title": "the first"}
    assert set(texts) == {f"s{n}" for n in range(len(sources))}
    for name, fields in texts.items():
        source = sources[int(name.removeprefix("s"))]
        shield = SurrogateShield(source)
        expected = fields_at(paths, [object_of(shield.body)], shield)
        sent = object_of(json.dumps(fields).encode())
        assert fields_at(paths, [sent], None) == expected


OPTIONS: list[tuple[Any, str]] = [
    ({"windw": 5}, "windw"),
    ({"window": 0}, "window"),
    ({"window": 201}, "window"),
    ({"deadline_ms": 60_001}, "deadline_ms"),
    ({"mode": "guess"}, "mode"),
    ({"query": 7.5}, "query"),
    ({"enabled": "perhaps"}, "enabled"),
    ({"tenant": ""}, "tenant"),
    ({"ranking": "x" * 513}, "ranking"),
    ([], "whyrank"),
]


@pytest.mark.parametrize(("options", "name"), OPTIONS)
def test_a_wrong_option_is_refused_by_its_name(engine: Engine, options: Any, name: str) -> None:
    refused = engine.call("POST", f"/{engine.index}/_search", {"query": QUERY, "ext": {"whyrank": options}})
    assert refused.status_code == 400
    assert name in refused.text


def test_options_are_understood_where_nothing_is_rescored(engine: Engine) -> None:
    found = engine.plain({"query": QUERY, "size": 1, "ext": {"whyrank": {"query": "x"}}})
    assert ids(found) == ["0"]
    assert "ext" not in found


SETTINGS: list[tuple[Json, str, str]] = [
    ({"url": "http://169.254.169.254/"}, "url", "whyrank.allowed_urls"),
    ({"url": "http://user:secret@127.0.0.1:1"}, "url", "a user in it"),
    ({"url": "whyrank:8080"}, "url", "such as http://"),
    ({"fields": []}, "fields", "1 to 32"),
    ({"window": 1000}, "window", "from 1 to 200"),
    ({"mode": "guess"}, "mode", "reason, label"),
    ({"deadline_ms": "soon"}, "deadline_ms", "int"),
    ({"windw": 5}, "windw", "doesn't support"),
]


@pytest.mark.parametrize(("settings", "name", "why"), SETTINGS)
def test_a_wrong_setting_is_refused_by_its_name(engine: Engine, settings: Json, name: str, why: str) -> None:
    body = {"response_processors": [engine.processor(**settings)]}
    refused = engine.call("PUT", "/_search/pipeline/whyrank-test-refused", body)
    assert refused.status_code == 400
    assert name in refused.json()["error"]["reason"]
    assert why in refused.json()["error"]["reason"]
    inline = engine.call("POST", f"/{engine.index}/_search", {"query": QUERY, "search_pipeline": body})
    assert inline.status_code == 400, "nor may a search bring it along"


def test_what_the_processor_says_holds_unless_the_search_says_otherwise(engine: Engine) -> None:
    settings = {"window": 5, "deadline_ms": 77, "mode": "label", "tenant": "acme", "fields": ["title"]}
    params = {"search_pipeline": engine.pipeline(engine.processor(**settings))}
    engine.search({"query": QUERY, "size": 1}, params=params)
    asked = engine.sidecar.asked[-1]
    assert {name: asked[name] for name in settings} == settings
    other = {"window": 6, "deadline_ms": 78, "mode": "reason"}
    engine.search({"query": QUERY, "size": 1, "ext": {"whyrank": other}}, params=params)
    assert {name: engine.sidecar.asked[-1][name] for name in other} == other
    stranger = engine.search({"query": QUERY, "size": 1, "ext": {"whyrank": {"tenant": "other"}}}, params=params)
    assert said(stranger)["reason"].startswith("tenant_fixed: ")
    off = {"search_pipeline": engine.pipeline(engine.processor(enabled=False))}
    assert said(engine.search({"query": QUERY}, params=off))["reason"].startswith("policy_disabled: ")


def test_the_cluster_is_switched_off_and_on_at_once(engine: Engine) -> None:
    try:
        engine.ok("PUT", "/_cluster/settings", {"transient": {"whyrank.enabled": False}})
        found = engine.search({"query": QUERY, "from": 1, "size": 2})
        assert (ids(found), said(found)["status"]) == (["1", "2"], "bypassed")
        assert said(found)["reason"] == "policy_disabled: The cluster setting whyrank.enabled is false."
    finally:
        engine.ok("PUT", "/_cluster/settings", {"transient": {"whyrank.enabled": None}})
    assert said(engine.search({"query": QUERY}))["status"] == "complete"


def test_where_documents_are_sent_is_not_a_matter_of_cluster_settings(engine: Engine) -> None:
    wish = {"transient": {"whyrank.allowed_urls": ["http://*:*"]}}
    assert engine.call("PUT", "/_cluster/settings", wish).status_code == 400


def test_what_a_node_has_done_is_counted(engine: Engine) -> None:
    before = engine.stats()
    engine.search({"query": QUERY})
    engine.search({"query": QUERY, "sort": "price"})
    engine.sidecar.script = lambda asked: (500, b"")
    engine.search({"query": QUERY})
    after = engine.stats()
    grown = {name: after[name] - before[name] for name in ("searches", "rescored")}
    assert grown == {"searches": 3, "rescored": 1}
    assert after["sidecar"]["calls"] - before["sidecar"]["calls"] == 2
    for reason in ("all_judged", "sorted_by_field", "sidecar_error"):
        assert after["by_reason"][reason] - before["by_reason"].get(reason, 0) == 1
    for status in ("complete", "bypassed", "failed"):
        assert after["by_status"][status] - before["by_status"].get(status, 0) == 1
    assert after["breakers"][engine.sidecar.url] == {"state": "closed", "failures_in_a_row": 1, "opened": 0}
    assert engine.ok("GET", "/_plugins/_whyrank/_local/stats")["_nodes"]["total"] == 1


def test_the_engines_rank_is_told_and_explanations_are_left_out_when_asked(engine: Engine) -> None:
    engine.sidecar.script = keep
    found = engine.search({"query": QUERY, "size": 2, "from": 3, "ext": {"whyrank": {"explain": False}}})
    assert [ours(hit)["whyrank.engine_rank"] for hit in found["hits"]["hits"]] == [[4], [5]]
    assert engine.sidecar.asked[-1]["explain"] is False
    assert document(3)["title"] == found["hits"]["hits"][0]["_source"]["title"]
