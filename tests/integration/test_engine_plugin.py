"""Our plugin in the real OpenSearch, before a scripted sidecar: orders, pages, and everything else of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from plugin_service.api.rescore import RescoreRequest
from tests.integration.engine_plugin_rig import (
    DOCS,
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
    without_ours,
)

REVERSED = [str(n) for n in reversed(range(WINDOW))]


@pytest.fixture(scope="module")
def module_engine(opensearch_url: str) -> Iterator[Engine]:
    with rescored_engine(opensearch_url) as rig:
        yield rig


@pytest.fixture
def engine(module_engine: Engine) -> Engine:
    module_engine.sidecar.reset()
    return module_engine


def test_hits_come_in_the_sidecars_order_with_their_explanations(engine: Engine) -> None:
    found = engine.search({"query": QUERY, "size": 3})
    assert ids(found) == REVERSED[:3]
    first = found["hits"]["hits"][0]
    assert first["fields"] == {
        "whyrank.engine_rank": [WINDOW],
        "whyrank.score": [0.5],
        "whyrank.relevance": [0.25],
        "whyrank.label": [1],
        "whyrank.grounded": [True],
        "whyrank.explanation": [f"judged {WINDOW - 1}"],
        "whyrank.quotes": [{"text": f"judged {WINDOW - 1}", "start": 0, "end": 9}],
    }
    took = said(found).pop("took_ms")
    assert isinstance(took, int)
    assert said(found) == {
        "status": "complete",
        "reason": "all_judged",
        "ranking_id": "r-1",
        "mode": "reason",
        "model_revision": "m-1",
        "window": WINDOW,
        "judged": WINDOW,
        "missing": 0,
        "failed": 0,
        "truncated": 0,
        "query": "alpha beta",
    }


def test_the_sidecar_is_asked_as_its_door_says(engine: Engine) -> None:
    options = {"window": 5, "deadline_ms": 70, "mode": "label", "explain": False, "tenant": "acme", "user": "u1"}
    wanted = {**options, "query": "said outright", "ranking": "r-9"}
    engine.search({"query": QUERY, "size": 2, "from": 1, "ext": {"whyrank": wanted}}, headers={"X-Opaque-Id": "app-7"})
    (asked,) = engine.sidecar.asked
    assert {name: value for name, value in asked.items() if name != "hits"} == {
        "index": engine.index,
        "query": "said outright",
        "window": 5,
        "deadline_ms": 70,
        "mode": "label",
        "fields": FIELDS,
        "tenant": "acme",
        "user": "u1",
        "explain": False,
        "ranking": "r-9",
        "from": 1,
    }
    plain = engine.plain({"query": QUERY, "size": 5})["hits"]["hits"]
    assert asked["hits"] == [
        {
            "id": hit["_id"],
            "index": engine.index,
            "score": hit["_score"],
            "fields": {name: hit["_source"][name] for name in FIELDS},
        }
        for hit in plain
    ]
    read = msgspec.json.decode(json.dumps(asked), type=RescoreRequest)
    assert read.from_ == 1
    assert engine.sidecar.headers[0]["x-opaque-id"] == "app-7"


def test_pages_are_cut_from_one_ranking(engine: Engine) -> None:
    pages = [engine.search({"query": QUERY, "from": start, "size": 7}) for start in (0, 7, 14 - 1)]
    assert [ids(page) for page in pages] == [REVERSED[:7], REVERSED[7:14], REVERSED[13:]]
    assert [asked["from"] for asked in engine.sidecar.asked] == [0, 7, 13]
    hits = [asked["hits"] for asked in engine.sidecar.asked]
    assert hits[0] == hits[1] == hits[2], "the sidecar knows a page by the hits of the whole window"


def test_fewer_hits_than_the_page_or_the_window(engine: Engine) -> None:
    query = {"ids": {"values": ["3", "5"]}}
    found = engine.search({"query": query, "size": 10, "ext": {"whyrank": {"query": "words"}}})
    assert sorted(ids(found)) == ["3", "5"]
    beyond = engine.search({"query": query, "from": 5, "size": 5, "ext": {"whyrank": {"query": "words"}}})
    assert ids(beyond) == []
    none = engine.search({"query": {"match": {"body": "nowhere"}}})
    assert (said(none)["status"], said(none)["reason"], ids(none)) == ("complete", "no_hits", [])
    assert len(engine.sidecar.asked) == 2, "nobody is asked about nothing"


BODIES: dict[str, Json] = {
    "plain": {},
    "aggregations": {"aggs": {"groups": {"terms": {"field": "group"}, "aggs": {"p": {"avg": {"field": "price"}}}}}},
    "highlight": {"highlight": {"fields": {"body": {"number_of_fragments": 1}}}},
    "suggest": {"suggest": {"s": {"text": "alpa", "term": {"field": "body"}}}},
    "explain": {"explain": True},
    "versions": {"version": True, "seq_no_primary_term": True},
    "sorted by score": {"sort": ["_score"], "track_scores": True},
    "total": {"track_total_hits": 5},
    "no total": {"track_total_hits": False},
    "min score": {"min_score": 0.0001},
    "post filter": {"post_filter": {"term": {"group": "g1"}}},
    "rescore": {"rescore": {"window_size": 5, "query": {"rescore_query": {"match": {"title": "3"}}}}},
    "named queries": {"query": {"match": {"body": {"query": "alpha beta", "_name": "words"}}}},
    "inner hits": {
        "query": {
            "bool": {
                "must": [{"match": {"body": "alpha"}}],
                "should": [{"nested": {"path": "comments", "query": {"match_all": {}}, "inner_hits": {}}}],
            }
        }
    },
    "terminate after": {"terminate_after": 1000},
    "script fields": {"_source": True, "script_fields": {"double": {"script": "doc['price'].value * 2"}}},
    "only script fields": {"script_fields": {"double": {"script": "doc['price'].value * 2"}}},
    "docvalues": {"docvalue_fields": ["price"]},
    "stored fields": {"stored_fields": ["title"]},
    "stored fields, all": {"stored_fields": ["title", "_source"]},
    "fields": {"fields": ["title", "comments.text"]},
    "no source": {"_source": False},
    "no source, all fields": {"_source": False, "fields": ["*"]},
    "source includes": {"_source": ["price"]},
    "source includes one": {"_source": "t*"},
    "source excludes": {"_source": {"excludes": ["body", "comments"]}},
    "source includes and excludes": {"_source": {"includes": ["*"], "excludes": ["b*"]}},
    "source with nothing": {"_source": ["none"]},
    "index boost": {"indices_boost": [{"*": 2.0}]},
    "timeout": {"timeout": "10s"},
    "stats": {"stats": ["group"]},
}


@pytest.mark.parametrize("name", BODIES)
def test_everything_else_of_an_answer_stays(engine: Engine, name: str) -> None:
    body: Json = {"query": QUERY, "size": 4, **BODIES[name]}
    alone = engine.plain(body)
    alone.pop("took")
    engine.sidecar.script = keep
    assert without_ours(engine.search(body)) == alone, "in the engine's order, it is the engine's answer"
    engine.sidecar.reset()
    found = without_ours(engine.search(body))
    hits = engine.plain({**body, "size": WINDOW})["hits"]["hits"]
    by_id = {hit["_id"]: hit for hit in hits}
    order = [hit["id"] for hit in engine.sidecar.asked[-1]["hits"]][::-1][:4]
    assert found["hits"]["hits"] == [by_id[hit] for hit in order], "in another order, its hits are the engine's"
    assert {**found, "hits": 0} == {**alone, "hits": 0}
    assert {**found["hits"], "hits": 0} == {**alone["hits"], "hits": 0}
    texts = [hit["fields"] for hit in engine.sidecar.asked[-1]["hits"]]
    assert all(set(text) == set(FIELDS) for text in texts), "whatever the caller sees, the sidecar reads all of it"


def test_collapsed_hits_keep_their_groups(engine: Engine) -> None:
    body = {"query": QUERY, "size": 2, "collapse": {"field": "group", "inner_hits": {"name": "more", "size": 2}}}
    found = engine.search(body)
    assert ids(found) == ["2", "1"]
    alone = {hit["_id"]: hit for hit in engine.plain({**body, "size": 3})["hits"]["hits"]}
    assert without_ours(found)["hits"]["hits"] == [alone["2"], alone["1"]]
    assert [hit["fields"]["group"] for hit in found["hits"]["hits"]] == [["g2"], ["g1"]]


def test_a_profile_stays(engine: Engine) -> None:
    found = engine.search({"query": QUERY, "size": 2, "profile": True})
    (shard,) = found["profile"]["shards"]
    assert shard["searches"][0]["query"]
    assert ids(found) == REVERSED[:2]


def test_phase_took_stays(engine: Engine) -> None:
    found = engine.search({"query": QUERY, "size": 2}, params={"phase_took": "true"})
    assert {"query", "fetch"} <= set(found["phase_took"])


def test_a_point_in_time_stays(engine: Engine) -> None:
    path = f"/{engine.index}/_search/point_in_time"
    pit = engine.ok("POST", path, params={"keep_alive": "1m"})["pit_id"]
    try:
        body = {"query": QUERY, "size": 2, "pit": {"id": pit, "keep_alive": "1m"}, "_source": False}
        found = engine.ok("POST", "/_search", body, params={"search_pipeline": engine.pipeline()})
        assert found["pit_id"] == pit
        assert ids(found) == REVERSED[:2]
        assert "_source" not in found["hits"]["hits"][0]
        assert engine.sidecar.asked[-1]["index"] == engine.index, "a point in time names no index: its hits do"
    finally:
        engine.ok("DELETE", "/_search/point_in_time", {"pit_id": [pit]})


def test_failed_shards_are_told(engine: Engine) -> None:
    other = engine.new_index([document(0)], mappings={"properties": {"price": {"type": "keyword"}}})
    body = {"query": QUERY, "size": 2, "aggs": {"p": {"avg": {"field": "price"}}}}
    name = engine.pipeline()
    found = engine.search(body, f"{engine.index},{other}", params={"search_pipeline": name})
    assert found["_shards"]["failed"] == 1
    assert found["_shards"]["failures"][0]["index"] == other
    assert ids(found) == REVERSED[:2]
    assert engine.sidecar.asked[-1]["index"] == f"{engine.index},{other}"


def test_a_document_that_many_indices_have_is_told_apart(engine: Engine) -> None:
    other = engine.new_index([document(0)])
    engine.ok("POST", "/_aliases", {"actions": [{"add": {"index": i, "alias": "both"}} for i in (engine.index, other)]})
    found = engine.search({"query": QUERY, "size": 20}, "both", params={"search_pipeline": engine.pipeline()})
    assert engine.sidecar.asked[-1]["index"] == "both"
    named = [(hit["index"], hit["id"]) for hit in engine.sidecar.asked[-1]["hits"]]
    assert [(hit["_index"], hit["_id"]) for hit in found["hits"]["hits"]] == named[::-1]


def test_many_searches_in_one_request(engine: Engine) -> None:
    lines: list[Any] = [{}, {"query": QUERY, "size": 2}, {}, {"query": QUERY, "size": 2, "sort": "price"}]
    found = engine.ok("POST", f"/{engine.index}/_msearch", "".join(json.dumps(line) + "\n" for line in lines))
    first, second = found["responses"]
    assert ids(first) == REVERSED[:2]
    assert ids(second) == ["0", "1"]
    assert said(second)["reason"].startswith("sorted_by_field: ")


def test_a_pipeline_within_the_search(engine: Engine) -> None:
    ours_ = {"request_processors": [{"whyrank": {}}], "response_processors": [engine.processor(window=6)]}
    found = engine.search({"query": QUERY, "size": 2, "search_pipeline": ours_})
    assert ids(found) == ["5", "4"]


def test_verbose_pipelines_tell_of_our_processors(engine: Engine) -> None:
    found = engine.search({"query": QUERY, "size": 2}, params={"verbose_pipeline": "true"})
    assert [step["processor_name"] for step in found["processor_results"]] == ["whyrank", "whyrank"]
    assert {step["status"] for step in found["processor_results"]} == {"success"}
    assert ids(found) == REVERSED[:2]


def test_without_the_request_processor_each_page_is_its_own_window(engine: Engine) -> None:
    name = engine.pipeline(response_processors=[engine.processor()])
    first, second = (
        engine.search({"query": QUERY, "from": start, "size": 5}, params={"search_pipeline": name}) for start in (0, 5)
    )
    assert ids(first) == ["4", "3", "2", "1", "0"]
    assert ids(second) == ["9", "8", "7", "6", "5"]
    assert [asked["from"] for asked in engine.sidecar.asked] == [0, 0]


def test_without_the_response_processor_nothing_is_widened(engine: Engine) -> None:
    name = engine.pipeline(request_processors=[{"whyrank": {}}])
    found = engine.search({"query": QUERY, "from": 2, "size": 3}, params={"search_pipeline": name})
    assert ids(found) == ["2", "3", "4"]
    assert engine.sidecar.asked == []


def test_an_index_that_gives_fewer_hits_than_the_window(engine: Engine) -> None:
    few = engine.new_index([document(n) for n in range(DOCS)], settings={"index.max_result_window": 8})
    name = engine.pipeline()
    found = engine.search({"query": QUERY, "size": 3}, few, params={"search_pipeline": name})
    assert (ids(found), said(found)["window"]) == (["7", "6", "5"], 8)
    beyond = engine.call("POST", f"/{few}/_search", {"query": QUERY, "size": 9}, params={"search_pipeline": name})
    assert beyond.status_code == 400, "what the engine refuses, it refuses as ever"


def test_a_search_that_only_our_window_makes_wrong_is_the_users_own(engine: Engine) -> None:
    """A document of place 15 is too long to be highlighted; the user asks for three."""
    docs = [{**document(n), "title": "x " * (200 if n == 15 else 1)} for n in range(DOCS)]
    index = engine.new_index(docs, settings={"index.highlight.max_analyzed_offset": 100})
    body = {
        "query": {"bool": {"must": QUERY, "should": {"match": {"title": "x"}}}},
        "highlight": {"fields": {"title": {}}},
    }
    params = {"search_pipeline": engine.pipeline()}
    few: Json = {**body, "size": 3, "sort": ["_score"]}
    order = ids(engine.plain({**few, "size": WINDOW, "highlight": {"fields": {}}}, index))
    page = order.index("15")
    assert page < WINDOW
    few["from"], few["size"] = (0, min(3, page)) if page else (1, 3)
    wide = engine.call(
        "POST", f"/{index}/_search", {**few, "from": 0, "size": WINDOW}, params={"search_pipeline": "_none"}
    )
    assert wide.status_code == 400, "it is wrong when it is widened"
    found = engine.search(few, index, params=params)
    assert said(found) == {"status": "bypassed", "reason": "engine_refused: The engine refused the widened search."}
    assert found["hits"] == engine.plain(few, index)["hits"]
    wrong = engine.call("POST", f"/{index}/_search", {**few, "from": 0, "size": WINDOW}, params=params)
    assert wrong.status_code == 400, "and a request that is wrong is refused as ever"
    assert wrong.json()["error"]["root_cause"] == wide.json()["error"]["root_cause"]


@pytest.mark.parametrize("body", [{"_source": False}, {}, {"_source": False, "stored_fields": ["title"]}])
def test_an_index_that_keeps_no_source(engine: Engine, body: Json) -> None:
    mappings = {**{"_source": {"enabled": False}}, "properties": {"title": {"type": "text", "store": True}}}
    sourceless = engine.new_index([document(n) for n in range(3)], mappings=mappings)
    asked: Json = {"query": QUERY, "size": 2, **body}
    found = engine.search(asked, sourceless, params={"search_pipeline": engine.pipeline()})
    assert found["_shards"]["failed"] == 0
    assert ids(found) == ["2", "1"]
    with_text = "stored_fields" in body
    assert [hit["fields"] != {} for hit in engine.sidecar.asked[-1]["hits"]] == [with_text] * 3


def test_an_application_that_says_nothing_of_us_gets_nothing_new_but_ours(engine: Engine) -> None:
    found = engine.search({"query": QUERY, "size": 1})
    assert set(found) == {"took", "timed_out", "_shards", "hits", "ext"}
    assert set(found["ext"]) == {"whyrank"}
    assert set(ours(found["hits"]["hits"][0])) == set(found["hits"]["hits"][0]["fields"])
