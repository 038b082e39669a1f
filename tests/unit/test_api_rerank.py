"""The three rerank APIs: their shapes, our additions, and what they answer when verdicts are missing."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from plugin_service.rescoring.ports import ModelInfo, Outcome
from tests.fakes.sidecar import Sidecar, judge
from whyrank.settings import Settings
from whyrank.types import FailureKind, FusionWeights, Mode, Pair, VerdictFailure

QUERY = "sort a list"
TEXTS = ["Nothing here. At all.", "You sort a list by list.sort. It is stable.", "A list holds items."]
BEST_FIRST = [1, 2, 0]

Json = dict[str, Any]


async def cohere(sidecar: Sidecar, **fields: Any) -> httpx.Response:
    body = {"model": "whyrank", "query": QUERY, "documents": TEXTS, **fields}
    return await sidecar.client().post("/v2/rerank", json=body)


async def jina(sidecar: Sidecar, **fields: Any) -> httpx.Response:
    return await sidecar.client().post("/v1/rerank", json={"query": QUERY, "documents": TEXTS, **fields})


async def tei(sidecar: Sidecar, **fields: Any) -> httpx.Response:
    return await sidecar.client().post("/rerank", json={"query": QUERY, "texts": TEXTS, **fields})


ALL = pytest.mark.parametrize("post", [cohere, jina, tei])


def results(response: httpx.Response) -> list[Json]:
    assert response.status_code == 200, response.text
    body = response.json()
    found: list[Json] = body if isinstance(body, list) else body["results"]
    return found


def indices(response: httpx.Response) -> list[int]:
    return [result["index"] for result in results(response)]


def score(result: Json) -> float:
    value: float = result["relevance_score"] if "relevance_score" in result else result["score"]
    return value


async def test_cohere_shape() -> None:
    response = await cohere(Sidecar())
    body = response.json()
    assert [result["index"] for result in body["results"]] == BEST_FIRST
    assert body["meta"] == {
        "api_version": {"version": "2", "is_experimental": False},
        "billed_units": {"search_units": 1},
    }
    assert body["id"] == response.headers["x-request-id"]
    assert (body["status"], body["reason"]) == ("complete", "all_judged")
    assert body["results"][0] | {"relevance_score": 0} == {
        "index": 1,
        "relevance_score": 0,
        "status": "judged",
        "label": 2,
        "truncated": False,
        "explanation": 'The document states "You sort a list by list".',
        "quotes": [{"text": "You sort a list by list", "start": 0, "end": 23}],
    }


async def test_jina_shape() -> None:
    body = (await jina(Sidecar(), documents=[{"text": TEXTS[0]}, *TEXTS[1:]])).json()
    assert [(result["index"], result["document"]) for result in body["results"]] == [
        (index, {"text": TEXTS[index]}) for index in BEST_FIRST
    ]
    assert body["model"] == "whyrank"
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
    assert set(body) == {"id", "model", "results", "usage", "status", "reason", "ranking_id"}


async def test_tei_shape() -> None:
    response = await tei(Sidecar(), return_text=True)
    assert [(rank["index"], rank["text"]) for rank in response.json()] == [
        (index, TEXTS[index]) for index in BEST_FIRST
    ]
    assert response.headers["x-whyrank-status"] == "complete"
    assert response.headers["x-whyrank-reason"] == "all_judged"
    assert all("text" not in rank for rank in (await tei(Sidecar())).json())


async def test_tei_raw_scores_are_log_odds() -> None:
    sidecar = Sidecar()
    plain, raw = await tei(sidecar), await tei(sidecar, raw_scores=True)
    assert indices(plain) == indices(raw)
    assert [score(r) for r in results(raw)] == sorted([score(r) for r in results(raw)], reverse=True)
    assert score(results(raw)[0]) > 1


@ALL
async def test_numbers_are_what_ml_commons_casts_them_to(post: Any) -> None:
    response = await post(Sidecar(), documents=["sort a list", "x"], texts=["sort a list", "x"])
    # json.loads tells 1 from 1.0, as does Java's cast to Double
    for result in json.loads(response.text, parse_float=lambda text: ("float", text))[
        slice(None) if post is tei else "results"
    ]:
        assert isinstance(result["index"], int)
        assert (result["score"] if post is tei else result["relevance_score"])[0] == "float"


@ALL
async def test_scores_are_in_the_unit_interval_and_never_rise_along_the_order(post: Any) -> None:
    scores = [score(result) for result in results(await post(Sidecar()))]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= value <= 1 for value in scores)


@ALL
async def test_input_order_gives_one_result_per_document_in_its_place(post: Any) -> None:
    ranked, placed = await post(Sidecar()), await post(Sidecar(), order="input")
    assert indices(placed) == [0, 1, 2]
    by_index = {result["index"]: score(result) for result in results(ranked)}
    assert [score(result) for result in results(placed)] == [by_index[index] for index in range(3)]


@ALL
async def test_explain_false_leaves_explanations_out(post: Any) -> None:
    for result in results(await post(Sidecar(), explain=False)):
        assert {"explanation", "quotes"}.isdisjoint(result)
        assert result["status"] == "judged"


async def test_top_n_limits_the_results() -> None:
    assert indices(await cohere(Sidecar(), top_n=2)) == BEST_FIRST[:2]
    assert indices(await jina(Sidecar(), top_n=1)) == BEST_FIRST[:1]
    assert indices(await jina(Sidecar(), top_n=99)) == BEST_FIRST
    assert indices(await cohere(Sidecar(), top_n=2, order="input")) == [1, 2]


async def test_documents_can_be_left_out_of_jinas_answer_and_put_into_coheres() -> None:
    assert all("document" not in result for result in results(await jina(Sidecar(), return_documents=False)))
    assert results(await cohere(Sidecar(), return_documents=True))[0]["document"] == {"text": TEXTS[1]}
    assert "document" not in results(await cohere(Sidecar()))[0]


async def test_an_ungrounded_explanation_is_withheld_and_its_key_stays() -> None:
    sidecar = Sidecar()

    def ungrounded(pair: Pair) -> Outcome:
        return replace(judge(pair), grounded=False)

    sidecar.jobs.judge = ungrounded
    for result in results(await cohere(sidecar)):
        assert result["explanation"] is None
        assert result["quotes"] == []
        assert result["label"] is not None


async def test_quotes_have_offsets_into_the_document() -> None:
    sidecar = Sidecar()
    document = "  \n" + TEXTS[1]
    (result,) = results(await cohere(sidecar, documents=[document]))
    (quote,) = result["quotes"]
    assert document[quote["start"] : quote["end"]] == quote["text"]


async def test_relevant_spans_are_the_quotes() -> None:
    wanted = {"mode": "enabled", "max_spans": 1}
    best, *_, worst = results(await cohere(Sidecar(), relevant_spans=wanted))
    assert best["relevant_spans"] == [{"start": 0, "end": 23, "score": best["relevance_score"]}]
    assert worst["relevant_spans"] == []


async def test_objects_are_read_as_yaml_like_lines() -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    await cohere(sidecar, documents=[{"text": "alone"}, {"title": "T", "tags": ["a", "ü"], "n": 1}], deadline_ms=0)
    await sidecar.rescorer.close()
    (request,) = sidecar.jobs.requests
    assert [pair.passage.text for pair in request.pairs] == ["alone", 'title: T\ntags: ["a", "ü"]\nn: 1']


@ALL
async def test_without_verdicts_the_order_stays_and_the_answer_says_why(post: Any) -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    response = await post(sidecar, deadline_ms=1)
    assert indices(response) == [0, 1, 2]
    assert {result["status"] for result in results(response)} == {"unjudged"}
    assert response.headers["x-whyrank-status"] == "pending"
    await sidecar.rescorer.close()


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("down", "failed", "store_unavailable"), ("full", "shed", "queue_full"), ("cold", "warming", "model_not_ready")],
)
@ALL
async def test_no_fault_of_ours_fails_the_caller(post: Any, fault: str, status: str, code: str) -> None:
    sidecar = Sidecar()
    sidecar.cache.down = fault == "down"
    sidecar.jobs.full = fault == "full"
    if fault == "cold":
        sidecar.model.info = ModelInfo(ready=False, revision="", weights=FusionWeights(), reason="loading")
    response = await post(sidecar)
    assert indices(response) == [0, 1, 2]
    assert response.headers["x-whyrank-status"] == status
    assert response.headers["x-whyrank-reason"].startswith(code)
    await sidecar.rescorer.close()


async def test_a_pair_that_the_model_cannot_judge_is_failed_and_not_label_0() -> None:
    sidecar = Sidecar()

    def fails_on_first(pair: Pair) -> Outcome:
        return VerdictFailure(FailureKind.NO_LABEL) if pair.passage.text == TEXTS[0] else judge(pair)

    sidecar.jobs.judge = fails_on_first
    response = await cohere(sidecar)
    failed = next(result for result in results(response) if result["index"] == 0)
    assert (failed["status"], failed["label"], failed["explanation"]) == ("failed", None, None)
    assert response.json()["status"] == "partial"


async def test_blank_documents_keep_their_place() -> None:
    response = await cohere(Sidecar(), documents=["   ", "x", "sort a list"])
    assert indices(response) == [0, 2, 1]
    assert results(response)[0]["status"] == "unjudged"
    assert response.json()["reason"].startswith("no_text")


async def test_a_half_emoji_is_mended() -> None:
    raw = b'{"query": "sort \\ud83d", "documents": ["sort \\ud83d a", "x"]}'
    response = await Sidecar().client().post("/v1/rerank", content=raw, headers={"Content-Type": "application/json"})
    assert results(response)[0]["document"] == {"text": "sort \N{REPLACEMENT CHARACTER} a"}


@pytest.mark.parametrize("count", [101, 250])
async def test_many_documents_are_split_and_rejoined(count: int) -> None:
    """Every tenth document answers more of the query; they must come first, across all windows."""
    words = ["none", "sort", "sort a", "sort a list"]
    documents = [f"{words[3 if i % 10 == 0 else i % 3]} number{i}" for i in range(count)]
    sidecar = Sidecar()
    response = await cohere(sidecar, documents=documents)
    best = list(range(0, count, 10))
    assert indices(response)[: len(best)] == best
    assert sorted(indices(response)) == list(range(count))
    scores = [score(result) for result in results(response)]
    assert scores == sorted(scores, reverse=True)
    assert response.json()["status"] == "complete"
    assert response.json()["ranking_id"] is None
    assert response.json()["meta"]["billed_units"]["search_units"] == -(-count // 100)
    assert max(len(request.pairs) for request in sidecar.jobs.requests) <= 100


async def test_one_window_without_verdicts_makes_the_whole_partial_and_keeps_its_texts_in_place() -> None:
    documents = [f"x{i}" for i in range(100)] + ["a b", "sort a list"]
    sidecar = Sidecar()

    def only_second_window(pair: Pair) -> Outcome:
        return VerdictFailure(FailureKind.NO_LABEL) if pair.passage.text.startswith("x") else judge(pair)

    sidecar.jobs.judge = only_second_window
    response = await cohere(sidecar, documents=documents)
    assert indices(response) == [*range(100), 101, 100]
    assert response.json()["status"] == "partial"


async def test_request_options_reach_the_job() -> None:
    sidecar = Sidecar(Settings(secret="test", rerank_passage_tokens=64))
    long = "word " * 2_000
    await cohere(sidecar, documents=[long], mode="label", max_tokens_per_doc=32)
    await cohere(sidecar, documents=[long], max_tokens_per_doc=8_000)
    await cohere(sidecar, documents=[long], max_tokens_per_doc=1)
    modes = [request.mode for request in sidecar.jobs.requests]
    lengths = [len(request.pairs[0].passage.text) for request in sidecar.jobs.requests]
    assert modes == [Mode.LABEL, Mode.REASON, Mode.REASON]
    assert 16 * 4 < lengths[0] <= 32 * 4 < lengths[1] <= 64 * 4
    assert lengths[2] <= 16 * 4


async def test_truncation_is_reported() -> None:
    sidecar = Sidecar()

    def truncated(pair: Pair) -> Outcome:
        return replace(judge(pair), truncated=pair.passage.truncated)

    sidecar.jobs.judge = truncated
    by_index = {r["index"]: r["truncated"] for r in results(await cohere(sidecar, documents=["word " * 2_000, "x"]))}
    assert by_index == {0: True, 1: False}


async def test_tenants_do_not_share_verdicts() -> None:
    sidecar = Sidecar(Settings(secret="test", tenant_header="X-Tenant"))
    body = {"query": QUERY, "documents": TEXTS}
    for tenant in ("a", "b", "a"):
        await sidecar.client().post("/v1/rerank", json=body, headers={"X-Tenant": tenant})
    assert len(sidecar.jobs.requests) == 2


@ALL
async def test_the_request_id_is_the_search_id_of_the_job(post: Any) -> None:
    sidecar = Sidecar()
    response = await post(sidecar)
    assert sidecar.jobs.requests[0].search_id == response.headers["x-request-id"]


@ALL
async def test_searches_are_counted(post: Any) -> None:
    sidecar = Sidecar()
    await post(sidecar)
    labels = {"door": post.__name__, "status": "complete", "reason": "all_judged"}
    assert sidecar.metrics.registry.get_sample_value("whyrank_searches_total", labels) == 1


@ALL
async def test_a_bug_is_a_500_in_the_apis_shape(post: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = Sidecar()

    def broken(*_: Any) -> Any:
        raise RuntimeError("an observer must not raise")

    monkeypatch.setattr(sidecar.metrics, "search", broken)
    response = await post(sidecar)
    assert response.status_code == 500
    assert set(response.json()) == ERROR_KEYS[post]


ERROR_KEYS = {cohere: {"message"}, jina: {"detail"}, tei: {"error", "error_type"}}

WRONG: list[tuple[Json, str]] = [
    ({"query": ""}, "query"),
    ({"query": "  \n"}, "query"),
    ({"query": None}, "query"),
    ({"query": 3}, "query"),
    ({"query": ["a"]}, "query"),
    ({"documents": []}, "documents"),
    ({"documents": None}, "documents"),
    ({"documents": "text"}, "documents"),
    ({"documents": {"0": "a"}}, "documents"),
    ({"documents": ["a", 3]}, "documents[1]"),
    ({"documents": ["a", None]}, "documents[1]"),
    ({"documents": [["a", 3]]}, "documents[0]"),
    ({"documents": [[]]}, "documents[0]"),
    ({"documents": ["x"] * 10_001}, "documents"),
    ({"deadline_ms": -1}, "deadline_ms"),
    ({"deadline_ms": 10**9}, "deadline_ms"),
    ({"deadline_ms": "1"}, "deadline_ms"),
    ({"mode": "magic"}, "mode"),
    ({"order": "random"}, "order"),
    ({"incomplete": "maybe"}, "incomplete"),
    ({"explain": "yes"}, "explain"),
]
WRONG_TOP: list[tuple[Json, str]] = [
    ({"top_n": 0}, "top_n"),
    ({"top_n": -1}, "top_n"),
    ({"top_n": "2"}, "top_n"),
    ({"top_n": 1.5}, "top_n"),
    ({"top_n": True}, "top_n"),
]


@pytest.mark.parametrize(("wrong", "field"), [*WRONG, *WRONG_TOP, ({"max_tokens_per_doc": 0}, "max_tokens_per_doc")])
async def test_cohere_names_the_wrong_field(wrong: Json, field: str) -> None:
    response = await cohere(Sidecar(), **wrong)
    assert response.status_code == 400
    assert list(response.json()) == ["message"]
    assert response.json()["message"].startswith(f"{field}: ")


@pytest.mark.parametrize(("wrong", "field"), [*WRONG, *WRONG_TOP, ({"documents": [{"image": "x"}]}, "documents[0]")])
async def test_jina_names_the_wrong_field(wrong: Json, field: str) -> None:
    response = await jina(Sidecar(), **wrong)
    assert response.status_code in (400, 422)
    assert list(response.json()) == ["detail"]
    assert response.json()["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize(("wrong", "field"), WRONG)
async def test_tei_names_the_wrong_field(wrong: Json, field: str) -> None:
    texts = {"texts": wrong["documents"]} if "documents" in wrong else wrong
    response = await tei(Sidecar(), **texts)
    too_large = wrong.get("documents") == ["x"] * 10_001
    assert response.status_code == (413 if too_large else 422)
    assert set(response.json()) == {"error", "error_type"}
    assert response.json()["error_type"] == "validation"
    assert response.json()["error"].startswith(field.replace("documents", "texts") + ": ")


@pytest.mark.parametrize(
    ("content", "type_", "status"),
    [
        (b"{", "application/json", {400, 422}),
        (b"", "application/json", {400, 422}),
        (b"[]", "application/json", {400, 422}),
        (b"null", "application/json", {400, 422}),
        (b"\xff\xfe", "application/json", {400, 422}),
        (b"[" * 100_000, "application/json", {400, 422}),
        (b'{"query": "a", "documents": ["b"]}', "text/plain", {400, 422}),
        (b"x" * 3_000, "application/json", {413}),
    ],
)
@pytest.mark.parametrize(("path", "keys"), [("/v2/rerank", "cohere"), ("/v1/rerank", "jina"), ("/rerank", "tei")])
async def test_what_is_no_json_object_is_refused_in_the_apis_shape(
    content: bytes, type_: str, status: set[int], path: str, keys: str
) -> None:
    limit = 2_048 if status == {413} else 10_000_000
    sidecar = Sidecar(Settings(secret="test", max_body_bytes=limit))
    response = await sidecar.client().post(path, content=content, headers={"Content-Type": type_})
    assert response.status_code in status
    assert set(response.json()) == {"cohere": {"message"}, "jina": {"detail"}, "tei": {"error", "error_type"}}[keys]


async def test_a_body_without_length_is_cut_off_at_the_limit() -> None:
    sidecar = Sidecar(Settings(secret="test", max_body_bytes=2_048))
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 1_000
            yield b" " * 1_000

    response = await sidecar.client().post("/v2/rerank", content=endless())
    assert response.status_code == 413
    assert "2048 bytes" in response.json()["message"]
    assert sent <= 4_000
