"""What counts as a document at the rerank doors, and how the answers are written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from plugin_service.rescoring.ports import Outcome
from tests.fakes.sidecar import Sidecar, judge
from whyrank.types import Pair

BOOK = {"title": "Lists", "author": "Ada", "text": "How to sort a list.", "year": 1843}


async def passages(path: str, **fields: Any) -> list[str]:
    """What the model would read of the documents."""
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    response = await sidecar.client().post(path, json={"query": "sort", "deadline_ms": 0, **fields})
    assert response.status_code == 200, response.text
    await sidecar.rescorer.close()
    (request,) = sidecar.jobs.requests
    return [pair.passage.text for pair in request.pairs]


async def test_objects_are_read_as_each_api_says() -> None:
    whole = "title: Lists\nauthor: Ada\ntext: How to sort a list.\nyear: 1843"
    assert await passages("/v2/rerank", documents=[BOOK]) == [whole]
    assert await passages("/v1/rerank", documents=[BOOK]) == ["How to sort a list."]


async def test_rank_fields_choose_what_is_read_and_in_which_order() -> None:
    chosen = {"documents": [BOOK, {"author": "Grace"}], "rank_fields": ["author", "title"]}
    assert await passages("/v2/rerank", **chosen) == ["author: Ada\ntitle: Lists", "author: Grace"]
    assert await passages("/v1/rerank", **chosen) == ["Ada\nLists", "Grace"]


async def test_rank_fields_leave_plain_texts_alone() -> None:
    assert await passages("/v2/rerank", documents=["plain"], rank_fields=["title"]) == ["plain"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"documents": [BOOK, {"x": "y"}], "rank_fields": ["title"]}, "documents[1]"),
        ({"documents": [{}], "rank_fields": ["title"]}, "documents[0]"),
        ({"documents": [BOOK], "rank_fields": []}, "rank_fields"),
        ({"documents": [BOOK], "rank_fields": "title"}, "rank_fields"),
        ({"documents": [BOOK], "rank_fields": [1]}, "rank_fields[0]"),
    ],
)
@pytest.mark.parametrize(("path", "key"), [("/v2/rerank", "message"), ("/v1/rerank", "detail")])
async def test_wrong_rank_fields_are_named(path: str, key: str, wrong: dict[str, Any], named: str) -> None:
    response = await Sidecar().client().post(path, json={"query": "sort", **wrong})
    assert response.status_code in (400, 422)
    assert response.json()[key].startswith(f"{named}: ")


@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank"])
async def test_a_field_with_several_values_is_one_document(path: str) -> None:
    assert await passages(path, documents=[["How to sort.", "A list."], "other"]) == ["How to sort.\nA list.", "other"]


async def test_a_long_documents_passage_is_where_the_querys_words_are() -> None:
    filler = "Nothing of the kind is written in this sentence. " * 60
    (passage,) = await passages("/v1/rerank", documents=[f"{filler}A list is sorted by sort. {filler}"])
    assert "A list is sorted by sort." in passage


@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank", "/rerank"])
async def test_answers_and_errors_are_ascii(path: str) -> None:
    """Whoever decodes an answer piece by piece, as ml-commons does, cannot cut a letter in two."""
    texts = ["Größe ändern: サイズ \N{GRINNING FACE}. Mehr."]
    body = {"query": "größe", "documents": texts, "texts": texts, "return_documents": True, "return_text": True}
    good = await Sidecar().client().post(path, json=body)
    assert good.content.isascii()
    assert texts[0] in json.dumps(good.json(), ensure_ascii=False)
    bad = await Sidecar().client().post(path, json={**body, "mode": "größe"})
    assert bad.status_code in (400, 422)
    assert bad.content.isascii()


@pytest.mark.parametrize("relevance", [1 / 3, 0.1 + 0.2, 1e-7 / 3, 1.0, 0.0, 0.9999999999999999])
@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank", "/rerank"])
async def test_no_score_is_longer_than_a_double_is_for_json_smart(path: str, relevance: float) -> None:
    sidecar = Sidecar()

    def judged(pair: Pair) -> Outcome:
        return replace(judge(pair), relevance=relevance)

    sidecar.jobs.judge = judged
    texts = ["a", "b", "   "]
    body = {"query": "q", "documents": texts, "texts": texts, "raw_scores": True}
    written: list[str] = []
    json.loads((await sidecar.client().post(path, json=body)).text, parse_float=written.append)
    assert len(written) >= len(texts)
    assert max(map(len, written)) <= 18
