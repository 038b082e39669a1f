"""Callers of the rerank APIs as they are, over a real socket: Cohere's SDK and plain HTTP."""

from __future__ import annotations

import cohere
import httpx
import pytest
from cohere.core import RequestOptions

from tests.fakes.sidecar import Sidecar
from tests.integration.serving import serving

TEXTS = ["Nothing here. At all.", "You sort a list by list.sort. It is stable.", "A list holds items."]


def test_coheres_sdk() -> None:
    with serving(Sidecar()) as server, cohere.ClientV2("any-key", base_url=server.url) as client:
        answer = client.rerank(model="whyrank", query="sort a list", documents=TEXTS, top_n=2)
    assert [result.index for result in answer.results] == [1, 2]
    assert answer.results[0].relevance_score > answer.results[1].relevance_score
    assert answer.id
    assert answer.meta is not None
    assert answer.meta.api_version is not None
    assert answer.meta.api_version.version == "2"
    # what we add is within reach of the SDK's users, and does not disturb those who do not look
    assert answer.results[0].explanation == 'The document states "You sort a list by list".'
    assert answer.status == "complete"


async def test_coheres_async_sdk_with_all_of_its_arguments() -> None:
    with serving(Sidecar()) as server:
        async with cohere.AsyncClientV2("any-key", base_url=server.url) as client:
            answer = await client.rerank(
                model="whyrank",
                query="sort a list",
                documents=TEXTS,
                top_n=3,
                max_tokens_per_doc=4096,
                priority=0,
                relevant_spans=cohere.RerankRelevantSpans(mode="enabled"),
            )
    assert [result.index for result in answer.results] == [1, 2, 0]
    (span,) = answer.results[0].relevant_spans or []
    assert TEXTS[1][span.start : span.end] == "You sort a list by list"


def test_coheres_sdk_raises_its_own_errors() -> None:
    with (
        serving(Sidecar()) as server,
        cohere.ClientV2("any-key", base_url=server.url) as client,
        pytest.raises(cohere.errors.BadRequestError) as refused,
    ):
        client.rerank(model="whyrank", query="", documents=TEXTS)
    assert refused.value.body == {"message": "query: must not be blank"}


def test_coheres_first_sdk_is_answered_in_jinas_shape_which_it_reads() -> None:
    with serving(Sidecar()) as server, cohere.Client("any-key", base_url=server.url) as client:
        answer = client.rerank(query="sort a list", documents=[{"text": text} for text in TEXTS], return_documents=True)
    assert [result.index for result in answer.results] == [1, 2, 0]
    assert answer.results[0].document is not None
    assert answer.results[0].document.text == TEXTS[1]


def test_coheres_first_sdk_chooses_the_fields_that_are_read() -> None:
    books = [{"title": "Sort a list", "text": "x"}, {"title": "Cook", "text": "sort a list"}]
    with serving(Sidecar()) as server, cohere.Client("any-key", base_url=server.url) as client:
        by_text = client.rerank(query="sort a list", documents=books)
        by_title = client.rerank(query="sort a list", documents=books, rank_fields=["title"])
    assert [result.index for result in by_text.results] == [1, 0]
    assert [result.index for result in by_title.results] == [0, 1]


def test_what_we_add_to_requests_goes_through_coheres_sdk() -> None:
    with serving(Sidecar()) as server, cohere.ClientV2("any-key", base_url=server.url) as client:
        options = RequestOptions(additional_body_parameters={"order": "input", "explain": False})
        answer = client.rerank(model="whyrank", query="sort a list", documents=TEXTS, request_options=options)
    assert [result.index for result in answer.results] == [0, 1, 2]
    assert not hasattr(answer.results[0], "explanation")


async def test_jinas_shape_as_elasticsearchs_custom_service_sends_and_reads_it() -> None:
    """Request and JSON paths of `_inference/rerank` in docs: `$.results[*].relevance_score` and `.index`."""
    with serving(Sidecar()) as server:
        async with httpx.AsyncClient() as client:
            body = {"model": "whyrank", "query": "sort a list", "documents": TEXTS}
            response = await client.post(f"{server.url}/v1/rerank", json=body, headers={"Authorization": "Bearer k"})
    found = response.json()["results"]
    assert sorted(result["index"] for result in found) == [0, 1, 2]
    assert all(isinstance(result["relevance_score"], float) for result in found)


async def test_ten_thousand_documents_come_back() -> None:
    sidecar = Sidecar()
    documents = [f"document {i}" for i in range(9_999)] + ["sort a list"]
    with serving(sidecar) as server:
        async with httpx.AsyncClient(timeout=60) as client:
            body = {"query": "sort a list", "documents": documents, "deadline_ms": 60_000, "explain": False}
            response = await client.post(f"{server.url}/v2/rerank", json=body)
    answer = response.json()
    assert answer["status"] == "complete"
    assert answer["results"][0]["index"] == 9_999
    assert len({result["index"] for result in answer["results"]}) == 10_000


async def test_a_body_above_the_limit_is_refused_before_it_is_read() -> None:
    sidecar = Sidecar()
    with serving(sidecar) as server:
        async with httpx.AsyncClient(timeout=30) as client:
            content = b'{"query": "' + b"x" * sidecar.settings.max_body_bytes + b'"}'
            response = await client.post(f"{server.url}/rerank", content=content)
    assert response.status_code == 413
    assert response.json()["error_type"] == "validation"
