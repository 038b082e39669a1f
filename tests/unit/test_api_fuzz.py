"""Whatever JSON is sent to a rerank door, the answer is an answer or the caller's error: never a 5xx."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.sidecar import Sidecar

SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def or_any(plausible: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return plausible | JSON


TEXT = st.text(max_size=30)
DOCUMENT = TEXT | st.lists(TEXT, max_size=3) | st.fixed_dictionaries({}, optional={"text": TEXT, "title": JSON})
DOCUMENTS = or_any(st.lists(DOCUMENT | JSON, max_size=5))
BODIES = JSON | st.fixed_dictionaries(
    {},
    optional={
        "query": or_any(TEXT),
        "documents": DOCUMENTS,
        "texts": DOCUMENTS,
        "rank_fields": or_any(st.lists(st.sampled_from(["text", "title"]), max_size=3)),
        "top_n": or_any(st.integers(1, 5)),
        "max_tokens_per_doc": or_any(st.integers(1, 5_000)),
        "return_documents": or_any(st.booleans()),
        "return_text": or_any(st.booleans()),
        "raw_scores": or_any(st.booleans()),
        "relevant_spans": or_any(st.fixed_dictionaries({"mode": st.just("enabled")})),
        "explain": or_any(st.booleans()),
        "deadline_ms": or_any(st.just(0)),
        "order": or_any(st.sampled_from(["input", "relevance"])),
        "mode": or_any(st.sampled_from(["label", "reason"])),
        "model": or_any(TEXT),
    },
)


SIDECAR = Sidecar()


def post(path: str, body: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        content = json.dumps(body)  # NaN, infinities and lone surrogates included
        response = await SIDECAR.client().post(path, content=content, headers={"Content-Type": "application/json"})
        await SIDECAR.rescorer.close()
        return response

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("path", "keys"),
    [("/v2/rerank", {"message"}), ("/v1/rerank", {"detail"}), ("/rerank", {"error", "error_type"})],
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=BODIES)
def test_no_json_makes_a_5xx(path: str, keys: set[str], body: Any) -> None:
    response = post(path, body)
    assert response.status_code < 500, response.text
    if response.status_code == 200:
        answer = response.json()
        texts = body["texts"] if path == "/rerank" else body["documents"]
        found = answer if path == "/rerank" else answer["results"]
        expected = min(len(texts), body.get("top_n") or len(texts)) if path != "/rerank" else len(texts)
        assert len({result["index"] for result in found}) == len(found) == expected
    else:
        assert set(response.json()) == keys
