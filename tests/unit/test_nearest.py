"""Vector searches that leave `k` to the size of the search."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugin_service.rescoring.search_request import Plan, plan
from whyrank.types import Policy

POLICY = Policy(index="docs", fields=("title", "body"), window=50)
RED = {"match": {"title": "red shoes"}}


def sent(**search: Any) -> Any:
    outcome = plan(json.dumps(search).encode(), {}, POLICY)
    assert isinstance(outcome, Plan), outcome
    return json.loads(outcome.body)


NEAREST = {"field": "v", "query_vector": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({"knn": NEAREST}, {"knn": {**NEAREST, "k": 7}}),
        ({"knn": [NEAREST, {**NEAREST, "k": 3}]}, {"knn": [{**NEAREST, "k": 7}, {**NEAREST, "k": 3}]}),
        ({"post_filter": {"knn": NEAREST}}, {"post_filter": {"knn": {**NEAREST, "k": 7}}}),
        (
            {"rescore": [{"query": {"rescore_query": {"bool": {"should": [{"knn": NEAREST}]}}}}]},
            {"rescore": [{"query": {"rescore_query": {"bool": {"should": [{"knn": {**NEAREST, "k": 7}}]}}}}]},
        ),
        (
            {"knn": {**NEAREST, "filter": {"knn": NEAREST}}},
            {"knn": {**NEAREST, "filter": {"knn": {**NEAREST, "k": 7}}, "k": 7}},
        ),
        ({"aggs": {"knn": {"terms": {"field": "g"}}}}, {"aggs": {"knn": {"terms": {"field": "g"}}}}),
        ({"post_filter": {"knn": {"v": {"vector": [1]}}}}, {"post_filter": {"knn": {"v": {"vector": [1]}}}}),
    ],
)
def test_vector_searches_stay_as_wide_as_the_page_made_them(search: Any, expected: Any) -> None:
    assert sent(query=RED, size=7, **search) == {"query": RED, "from": 0, "size": 50, **expected}


def test_vector_searches_within_retrievers() -> None:
    standard = sent(retriever={"standard": {"query": {"bool": {"should": [RED, {"knn": NEAREST}]}}}})
    assert standard["retriever"]["standard"]["query"]["bool"]["should"][1]["knn"]["k"] == 10
    merging = {"rrf": {"retrievers": [{"standard": {"query": RED}}, {"knn": NEAREST}], "rank_window_size": 30}}
    assert sent(retriever=merging)["retriever"] == merging, "these have a window of their own"
