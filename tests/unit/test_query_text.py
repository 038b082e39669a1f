"""The user's words in every clause of the query DSL that holds some."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin_service.rescoring.query_text import extract, from_query_string

RED_SHOES = {"match": {"title": "red shoes"}}


@pytest.mark.parametrize(
    "query",
    [
        {"match": {"title": "red shoes"}},
        {"match": {"title": {"query": "red shoes", "operator": "and"}}},
        {"match_phrase": {"title": {"query": "red shoes", "slop": 2}}},
        {"match_phrase_prefix": {"title": "red shoes"}},
        {"match_bool_prefix": {"title": {"query": "red shoes"}}},
        {"multi_match": {"query": "red  shoes ", "fields": ["title^3", "body"]}},
        {"combined_fields": {"query": "red shoes", "fields": ["title"]}},
        {"query_string": {"query": "red shoes", "default_field": "title"}},
        {"simple_query_string": {"query": "red shoes"}},
        {"dis_max": {"queries": [RED_SHOES, {"match": {"body": "red shoes"}}]}},
        {"function_score": {"query": RED_SHOES, "functions": []}},
        {"script_score": {"query": RED_SHOES, "script": {"source": "_score"}}},
        {"constant_score": {"filter": RED_SHOES}},
        {"nested": {"path": "comments", "query": RED_SHOES}},
        {"has_child": {"type": "answer", "query": RED_SHOES}},
        {"has_parent": {"parent_type": "question", "query": RED_SHOES}},
        {"boosting": {"positive": RED_SHOES, "negative": {"match": {"title": "green"}}}},
        {"bool": {"must": RED_SHOES}},
        {"bool": {"must": [RED_SHOES], "must_not": [{"match": {"title": "green"}}]}},
        {"bool": {"should": [RED_SHOES, {"match_phrase": {"title": "Red Shoes"}}]}},
        {"bool": {"must": [RED_SHOES], "filter": [{"match": {"category": "clothes"}}]}},
        {"bool": {"filter": [RED_SHOES]}},
        {"bool": {"must": [{"match_all": {}}], "filter": RED_SHOES}},
        {"bool": {"must": [RED_SHOES, {"term": {"brand": "acme"}}, {"terms": {"size": ["l", "m"]}}]}},
        {"bool": {"must": [RED_SHOES], "should": [{"prefix": {"title": "re"}}, {"wildcard": {"title": "sh*"}}]}},
        {"bool": {"must": [RED_SHOES], "should": [{"constant_score": {"filter": {"match": {"brand": "acme"}}}}]}},
        {"hybrid": {"queries": [RED_SHOES, {"neural": {"embedding": {"query_text": "red shoes", "k": 5}}}]}},
        {"neural": {"embedding": {"query_text": "red shoes", "model_id": "m"}}},
        {"neural_sparse": {"tokens": {"query_text": "red shoes"}}},
        {"semantic": {"field": "body", "query": "red shoes"}},
        {"sparse_vector": {"field": "tokens", "inference_id": "elser", "query": "red shoes"}},
        {"text_expansion": {"tokens": {"model_id": "elser", "model_text": "red shoes"}}},
        {
            "knn": {
                "field": "v",
                "query_vector_builder": {"text_embedding": {"model_id": "m", "model_text": "red shoes"}},
            }
        },
        {"more_like_this": {"fields": ["title"], "like": ["red shoes", {"_id": "1"}]}},
        {"pinned": {"ids": ["1"], "organic": RED_SHOES}},
        {"rule": {"organic": RED_SHOES, "match_criteria": {"user": "x"}}},
        {"span_near": {"clauses": [{"span_term": {"title": "red"}}, {"span_term": {"title": {"value": "shoes"}}}]}},
        {"span_first": {"match": {"span_term": {"title": "red shoes"}}, "end": 3}},
        {"intervals": {"title": {"match": {"query": "red shoes", "max_gaps": 0}}}},
        {
            "intervals": {
                "title": {"all_of": {"intervals": [{"match": {"query": "red"}}, {"match": {"query": "shoes"}}]}}
            }
        },
    ],
)
def test_every_clause_with_words(query: Any) -> None:
    assert extract(query) == "red shoes"


@pytest.mark.parametrize(
    ("retriever", "words"),
    [
        ({"standard": {"query": RED_SHOES, "filter": {"match": {"category": "clothes"}}}}, "red shoes"),
        (
            {"rrf": {"retrievers": [{"standard": {"query": RED_SHOES}}, {"knn": {"query_vector": [1], "k": 1}}]}},
            "red shoes",
        ),
        ({"rrf": {"query": "red shoes", "fields": ["title", "body"]}}, "red shoes"),
        ({"linear": {"retrievers": [{"retriever": {"standard": {"query": RED_SHOES}}, "weight": 2}]}}, "red shoes"),
        ({"rescorer": {"retriever": {"standard": {"query": RED_SHOES}}, "rescore": {"window_size": 50}}}, "red shoes"),
        (
            {
                "text_similarity_reranker": {
                    "retriever": {"standard": {"query": RED_SHOES}},
                    "inference_text": "shoes that are red",
                }
            },
            "shoes that are red",
        ),
        ({"text_similarity_reranker": {"retriever": {"standard": {"query": RED_SHOES}}}}, "red shoes"),
    ],
)
def test_retrievers(retriever: Any, words: str) -> None:
    assert extract({"retriever": retriever}) == words
    assert extract(retriever) == words


@pytest.mark.parametrize(
    "query",
    [
        {"match_all": {}},
        {"bool": {"must_not": [RED_SHOES]}},
        {"boosting": {"negative": RED_SHOES}},
        {"term": {"title": "red"}},
        {"ids": {"values": ["1"]}},
        {"range": {"price": {"gte": 1}}},
        {"knn": {"field": "v", "query_vector": [0.1, 0.2], "k": 10}},
        {"match": {"title": "   "}},
        {"query_string": {"query": "*"}},
        {"bool": {}},
        {},
        None,
        [],
        7,
    ],
)
def test_no_words(query: Any) -> None:
    assert extract(query) is None


def test_different_texts_are_joined_in_order() -> None:
    query = {
        "bool": {"should": [{"match": {"brand": "acme"}}], "must": [RED_SHOES, {"match": {"title": "for a wedding"}}]}
    }
    assert extract(query) == "red shoes for a wedding acme"


def test_words_within_a_longer_text_count_once() -> None:
    assert extract([{"match": {"a": "Shoes"}}, {"match": {"a": "red shoes"}}, {"match": {"a": "hoes"}}]) == (
        "red shoes hoes"
    )


def test_a_whole_search_body() -> None:
    builder = {"text_embedding": {"model_id": "m", "model_text": "red shoes"}}
    knn = [{"field": "v", "query_vector_builder": builder, "filter": {"match": {"lang": "english"}}}]
    assert extract({"query": RED_SHOES, "knn": knn}) == "red shoes"
    assert extract({"knn": knn}) == "red shoes"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quick fox", "quick fox"),
        ('title:quick AND (body:"brown fox"~2^3 OR jumps^2)', "quick brown fox jumps"),
        ("+quick -slow fox", "quick fox"),
        ("quick NOT slow fox", "quick fox"),
        ("quick NOT (slow OR (very lazy)) fox", "quick fox"),
        ("quick !slow && fox || dog", "quick fox dog"),
        ('quick -"slow fox" -title:lazy dog', "quick dog"),
        ("quick~1 fo* brown~", "quick fo brown"),
        ("price:[10 TO 20] shoes date:{* TO 2020-01-01} age:>=10", "shoes"),
        ("_exists_:title shoes", "shoes"),
        ("name:/joh?n(ath[oa]n)/ smith", "smith"),
        (r"C\+\+ 1\:2 e-mail rock'n'roll C++", "C++ 1:2 e-mail rock'n'roll C++"),
        ("mission TO mars - the ANDROID", "mission TO mars the ANDROID"),
        ("grüße 東京 *:*", "grüße 東京"),
        ('unclosed (quick "brown fox', "unclosed quick brown fox"),
        ("NOT slow", None),
        ("*:*", None),
        ("( ) AND OR ++ ~ ^", None),
    ],
)
def test_query_string_syntax(text: str, words: str | None) -> None:
    assert from_query_string(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"quick fox"~2 + (brown | jum*) -slow dog~1', "quick fox brown jum dog"),
        ("quick -(slow lazy) fox", "quick fox"),
        ("time: 10:30 [note] what/ever AND", "time: 10:30 [note] what/ever AND"),
        ("e-mail foo - bar", "e-mail foo bar"),
    ],
)
def test_simple_query_string_syntax(text: str, words: str) -> None:
    assert extract({"simple_query_string": {"query": text}}) == words


def test_deep_queries_are_read() -> None:
    query: Any = RED_SHOES
    for _ in range(5_000):
        query = {"bool": {"must": [query]}}
    assert extract(query) == "red shoes"


NAMES = st.sampled_from(
    [
        *("bool", "must", "should", "filter", "queries", "query", "match", "multi_match", "knn", "retriever", "rrf"),
        *("intervals", "all_of", "any_of", "like", "query_string", "simple_query_string", "span_near", "clauses"),
        *("neural", "query_text", "text_similarity_reranker", "title"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner, max_size=4),
    max_leaves=40,
)


@given(JSON)
def test_total_on_any_json(query: Any) -> None:
    words = extract(query)
    assert words is None or (words.strip() == words and words)


@given(st.text(alphabet='ab \\"()[]{}:/~^*?+-!&|<>ANDORT_', max_size=60))
def test_total_on_any_syntax(text: str) -> None:
    for name in ("query_string", "simple_query_string"):
        words = extract({name: {"query": text}})
        assert words is None or any(character.isalnum() for character in words)
