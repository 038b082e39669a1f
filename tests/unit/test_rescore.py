"""The hook's door: hits in, their order and verdicts out; what is wrong with a request; what we never let fail."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from plugin_service.rescoring import search_request, search_response
from plugin_service.rescoring.ports import ModelInfo, Outcome
from plugin_service.rescoring.rescorer import RankRequest
from plugin_service.rescoring.search_request import Plan
from tests.fakes.sidecar import Sidecar, judge
from whyrank.settings import Settings
from whyrank.types import FailureKind, FusionWeights, Mode, Pair, Policy, Priority, Quote, VerdictFailure

QUERY = "sort a list"
BODIES = ["Nothing here. At all.", "You sort a list by list.sort. It is stable.", "A list holds items."]
HITS = [
    {"id": str(place), "score": 3.0 - place, "fields": {"title": f"page {place}", "body": body}}
    for place, body in enumerate(BODIES)
]
BEST_FIRST = [1, 2, 0]

Json = dict[str, Any]


async def post(sidecar: Sidecar, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"index": "docs", "query": QUERY, "hits": HITS, "deadline_ms": 5_000, **fields}
    return await sidecar.client().post("/v1/rescore", json=body, headers=headers)


async def rescored(sidecar: Sidecar, headers: dict[str, str] | None = None, **fields: Any) -> Json:
    response = await post(sidecar, headers, **fields)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    assert sorted(answer["order"]) == list(range(len(answer["hits"])))
    return answer


def passages(sidecar: Sidecar) -> list[str]:
    return [pair.passage.text for request in sidecar.jobs.requests for pair in request.pairs]


def idle(sidecar: Sidecar) -> Sidecar:
    sidecar.jobs.idle = True
    return sidecar


async def test_the_answer() -> None:
    sidecar = Sidecar()
    answer = await rescored(sidecar)
    assert answer["order"] == BEST_FIRST
    assert answer["hits"][1] == {
        "score": 1.0,
        "relevance": 1.0,
        "label": 2,
        "grounded": True,
        "explanation": 'The document states "page 1\nYou sort a list by list".',
        "quotes": [{"text": "page 1\nYou sort a list by list", "start": 0, "end": 30}],
    }
    del answer["hits"], answer["order"]
    assert answer.pop("took_ms") > 0
    assert sidecar.ids.check(answer.pop("ranking_id"))
    assert answer == {
        "status": "complete",
        "reason": "all_judged",
        "model_revision": "rev-1",
        "mode": "reason",
        "window": 3,
        "judged": 3,
        "missing": 0,
        "failed": 0,
        "truncated": 0,
    }


async def test_floats_are_floats() -> None:
    text = (await post(Sidecar())).text
    hit = json.loads(text, parse_float=lambda number: ("float", number))["hits"][1]
    assert hit["score"][0] == hit["relevance"][0] == "float"


async def test_the_engines_scores_weigh_what_the_model_says() -> None:
    sidecar = Sidecar()
    sidecar.model.info = ModelInfo(ready=True, revision="r", weights=FusionWeights(engine=1.0, relevance=0.0))
    assert (await rescored(sidecar))["order"] == [0, 1, 2]
    upside_down = [{**hit, "score": float(place)} for place, hit in enumerate(HITS)]
    assert (await rescored(sidecar, hits=upside_down))["order"] == [2, 1, 0]
    without = [{**hit, "score": None} for hit in HITS]
    assert (await rescored(sidecar, hits=without))["order"] == [0, 1, 2]


# One cache for all doors

PLAN = Plan(
    query=QUERY,
    offset=0,
    size=3,
    window=10,
    mode=Mode.REASON,
    deadline_ms=5_000,
    ranking_id=None,
    explain=True,
    body=b"{}",
    params={},
    borrowed_fields=(),
    fingerprint="f",
)
SOURCES: list[Json] = [
    {"title": "page", "body": "You sort a list."},
    {"title": "  ", "body": ["several", "values", None]},
    {"title": None, "body": {"en": "nested"}, "number": 1.10},
    {"title": 3, "body": [["deep"], {"x": 1}], "number": [True, 2e5]},
    {"body.en": "with a dot", "title": "é\ud83d"},
    {},
]


@pytest.mark.parametrize("first", ["proxy", "rescore"])
async def test_a_search_judged_at_one_door_is_a_cache_hit_at_the_other(first: str) -> None:
    """The same documents through the proxy's own parser and through this door: not one pair is judged twice."""
    policy = Policy(index="docs", fields=("title", "body", "body.en", "number"), deadline_ms=5_000)
    sidecar = Sidecar()
    sidecar.policies.policies["docs"] = policy
    found = [
        {"_index": "docs", "_id": str(place), "_score": 1.0, "_source": source} for place, source in enumerate(SOURCES)
    ]

    async def by_proxy() -> None:
        parsed = search_response.parse(json.dumps({"hits": {"hits": found}}).encode(), PLAN, policy)
        await sidecar.rescorer.rank(RankRequest(QUERY, parsed.candidates, policy, "s"))

    async def by_hook() -> None:
        hits = [{"id": hit["_id"], "score": hit["_score"], "fields": hit["_source"]} for hit in found]
        body = json.dumps({"index": "docs", "query": QUERY, "hits": hits}).encode()
        response = await sidecar.client().post(
            "/v1/rescore", content=body, headers={"Content-Type": "application/json"}
        )
        assert response.json()["status"] == "complete"

    one, other = (by_proxy, by_hook) if first == "proxy" else (by_hook, by_proxy)
    await one()
    assert len(passages(sidecar)) == 5
    await other()
    assert len(passages(sidecar)) == 5
    assert sidecar.metrics.registry.get_sample_value("whyrank_verdict_lookups_total", {"result": "hit"}) == 5


async def test_a_bare_text_shares_its_verdict_with_the_rerank_apis() -> None:
    sidecar = Sidecar()
    await sidecar.client().post("/v2/rerank", json={"query": QUERY, "documents": BODIES})
    hits = [{"id": str(place), "text": text} for place, text in enumerate(BODIES)]
    assert (await rescored(sidecar, hits=hits, index="unknown"))["order"] == BEST_FIRST
    assert len(sidecar.jobs.requests) == 1


# Policies


async def test_what_the_request_does_not_say_is_the_policys() -> None:
    sidecar = idle(Sidecar())
    sidecar.policies.policies["docs"] = Policy(
        index="docs", fields=("body",), window=2, deadline_ms=1, mode=Mode.LABEL, passage_tokens=16
    )
    answer = await rescored(sidecar, deadline_ms=None)
    assert (answer["window"], answer["mode"], answer["reason"]) == (2, "label", "deadline: 0 of 2 judged within 1 ms")
    await sidecar.rescorer.close()
    assert passages(sidecar) == BODIES[:2]
    assert sidecar.jobs.requests[0].mode is Mode.LABEL


async def test_what_the_request_says_comes_first() -> None:
    sidecar = idle(Sidecar())
    answer = await rescored(sidecar, deadline_ms=2, mode="label", window=1, fields=["title"])
    assert (answer["window"], answer["mode"], answer["reason"]) == (1, "label", "deadline: 0 of 1 judged within 2 ms")
    await sidecar.rescorer.close()
    assert passages(sidecar) == ["page 0"]


async def test_without_a_policy_all_fields_given_are_read() -> None:
    sidecar = Sidecar()
    answer = await rescored(sidecar, index="unknown,*")
    assert (answer["status"], answer["order"]) == ("complete", BEST_FIRST)
    assert passages(sidecar) == [f"page {place}\n{body}" for place, body in enumerate(BODIES)]


async def test_a_policy_that_is_switched_off_is_off_here_too() -> None:
    sidecar = Sidecar()
    sidecar.policies.policies["docs"] = Policy(index="docs", fields=("body",), enabled=False)
    answer = await rescored(sidecar)
    assert (answer["status"], answer["reason"].partition(":")[0]) == ("bypassed", "policy_disabled")
    assert (answer["order"], answer["hits"], answer["ranking_id"]) == ([0, 1, 2], [None] * 3, None)
    assert sidecar.jobs.requests == []


async def test_no_deadline_is_longer_than_the_setting() -> None:
    sidecar = idle(Sidecar(Settings(secret="test", max_deadline_ms=5)))
    assert (await rescored(sidecar, deadline_ms=60_000))["reason"].endswith("within 5 ms")
    await sidecar.rescorer.close()


# Hits of all kinds


async def test_hits_beyond_the_window_stay_behind_it() -> None:
    answer = await rescored(Sidecar(), window=2)
    assert answer["order"] == [1, 0, 2]
    assert answer["hits"][2] is None


async def test_a_hit_without_text_keeps_its_place_and_has_no_verdict() -> None:
    hits = [{"id": "0"}, {"id": "1", "fields": {"other": "x"}}, {"id": "2", "text": "  "}, *HITS]
    answer = await rescored(Sidecar(), hits=hits)
    assert answer["order"] == [0, 1, 2, *(3 + place for place in BEST_FIRST)]
    assert answer["hits"][:3] == [None] * 3
    assert answer["reason"].startswith("no_text: 3 of 6")


async def test_no_hits_are_an_answer() -> None:
    answer = await rescored(Sidecar(), hits=[])
    assert (answer["status"], answer["reason"], answer["order"]) == ("complete", "no_hits", [])


async def test_one_id_in_several_indices() -> None:
    hits = [{**hit, "id": "same"} for hit in HITS]
    assert (await rescored(Sidecar(), hits=hits))["order"] == BEST_FIRST
    hits = [{**hit, "id": "same", "index": f"docs-{place}"} for place, hit in enumerate(HITS)]
    sidecar = Sidecar()
    answer = await rescored(sidecar, hits=hits)
    assert answer["order"] == BEST_FIRST
    await sidecar.rescorer.close()
    assert {hit.index for hit in sidecar.rankings.rankings[answer["ranking_id"]].hits} == {
        "docs-0",
        "docs-1",
        "docs-2",
    }


async def test_half_an_emoji_is_mended() -> None:
    sidecar = Sidecar()
    hits = b'[{"id":"1","fields":{"body":"a \\udc00 b"}},{"id":"2","text":"\\ud83d"}]'
    raw = b'{"index":"docs","query":"sort \\ud83d","hits":%b}' % hits
    response = await sidecar.client().post("/v1/rescore", content=raw)
    assert response.json()["judged"] == 2
    assert passages(sidecar) == ["a \N{REPLACEMENT CHARACTER} b", "\N{REPLACEMENT CHARACTER}"]
    assert sidecar.jobs.requests[0].pairs[0].query == "sort \N{REPLACEMENT CHARACTER}"


async def test_a_long_documents_passage_is_where_the_querys_words_are() -> None:
    sidecar = Sidecar()
    filler = "Nothing of the kind is written in this sentence. " * 60
    text = f"{filler}A list is sorted by sort. {filler}"
    await rescored(sidecar, hits=[{"id": "1", "fields": {"body": text}}, {"id": "2", "text": text}])
    assert len(passages(sidecar)) == 2
    assert all("A list is sorted by sort." in passage for passage in passages(sidecar))


# What is shown


async def test_explain_false_leaves_explanations_and_quotes_out() -> None:
    hit = (await rescored(Sidecar(), explain=False))["hits"][1]
    assert set(hit) == {"score", "relevance", "label", "grounded"}


async def test_only_what_stands_in_the_document_is_shown() -> None:
    sidecar = Sidecar()

    def ungrounded(pair: Pair) -> Outcome:
        return replace(judge(pair), grounded=False, quotes=(Quote("invented"), Quote("page", 0, 4)), similarity=1.0)

    sidecar.jobs.judge = ungrounded
    for hit in (await rescored(sidecar))["hits"]:
        assert (hit["grounded"], hit["similarity"]) == (False, 1.0)
        assert hit["quotes"] == [{"text": "page", "start": 0, "end": 4}]
        assert "explanation" not in hit


async def test_a_label_alone_has_nothing_to_explain() -> None:
    sidecar = Sidecar()

    def label_only(pair: Pair) -> Outcome:
        return replace(judge(pair), mode=Mode.LABEL, explanation="", quotes=(), grounded=False)

    sidecar.jobs.judge = label_only
    assert all(set(hit) == {"score", "relevance", "label"} for hit in (await rescored(sidecar, mode="label"))["hits"])


async def test_a_pair_that_the_model_cannot_judge_is_null_and_not_label_0() -> None:
    sidecar = Sidecar()

    def fails_on_first(pair: Pair) -> Outcome:
        return VerdictFailure(FailureKind.NO_LABEL) if pair.passage.text.startswith("page 0") else judge(pair)

    sidecar.jobs.judge = fails_on_first
    answer = await rescored(sidecar)
    assert (answer["status"], answer["judged"], answer["failed"], answer["missing"]) == ("partial", 2, 1, 0)
    assert answer["hits"][0] is None


# What goes wrong with us


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("slow", "pending", "deadline"),
        ("down", "failed", "store_unavailable"),
        ("full", "shed", "queue_full"),
        ("cold", "warming", "model_not_ready"),
    ],
)
async def test_no_fault_of_ours_fails_the_search(fault: str, status: str, code: str) -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = fault == "slow"
    sidecar.cache.down = fault == "down"
    sidecar.jobs.full = fault == "full"
    if fault == "cold":
        sidecar.model.info = ModelInfo(ready=False, revision="", weights=FusionWeights(), reason="loading")
    answer = await rescored(sidecar, deadline_ms=1 if fault == "slow" else 5_000)
    assert (answer["status"], answer["reason"].partition(":")[0]) == (status, code)
    assert (answer["order"], answer["hits"]) == ([0, 1, 2], [None] * 3)
    await sidecar.rescorer.close()


@pytest.mark.parametrize("place", ["_rank_request", "_answer"])
async def test_not_even_a_bug_of_ours_does(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(f"plugin_service.api.rescore.{place}", broken)
    answer = await rescored(Sidecar())
    assert (answer["status"], answer["reason"].partition(":")[0]) == ("failed", "internal_error")
    assert (answer["order"], answer["missing"]) == ([0, 1, 2], 3)


# Who asks


async def test_tenants_do_not_share_verdicts() -> None:
    sidecar = Sidecar()
    for tenant in ("a", "b", "a", None):
        await rescored(sidecar, tenant=tenant)
    assert len(sidecar.jobs.requests) == 3


async def test_the_tenants_header_comes_before_the_body() -> None:
    sidecar = Sidecar(Settings(secret="test", tenant_header="X-Tenant"))
    await rescored(sidecar, {"X-Tenant": "a"}, tenant="b")
    await rescored(sidecar, {"X-Tenant": "a"}, tenant="c")
    await rescored(sidecar, tenant="a")
    assert len(sidecar.jobs.requests) == 1
    await rescored(sidecar, tenant="b")
    assert len(sidecar.jobs.requests) == 2


async def test_the_figures_and_the_log() -> None:
    sidecar = Sidecar()
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = await rescored(sidecar, {"X-Opaque-Id": "from-the-engine"}, user="u1")
    (line,) = [line for line in lines if line["event"] == "search"]
    assert line["search_id"] == "from-the-engine" == sidecar.jobs.requests[0].search_id
    assert (line["door"], line["index"], line["user"], line["judged"]) == ("rescore", "docs", "u1", 3)
    assert (line["ranking"], line["status"]) == (answer["ranking_id"], "complete")
    labels = {"door": "rescore", "status": "complete", "reason": "all_judged"}
    assert sidecar.metrics.registry.get_sample_value("whyrank_searches_total", labels) == 1
    for stage in ("parse", "rank", "render"):
        assert sidecar.metrics.registry.get_sample_value("whyrank_stage_seconds_count", {"stage": stage}) == 1


# Pages, and the explanations that come later


async def late(sidecar: Sidecar) -> str:
    """A ranking that nothing was judged for in time; its verdicts have landed since."""
    answer = await rescored(idle(sidecar), deadline_ms=1)
    assert answer["status"] == "pending"
    await sidecar.rescorer.close()
    for pair in sidecar.jobs.requests[0].pairs:
        sidecar.jobs.settle(pair)
    ranking: str = answer["ranking_id"]
    return ranking


async def test_the_next_page_keeps_the_order_of_the_first() -> None:
    sidecar = Sidecar()
    first = await late(sidecar)
    second = await rescored(sidecar, **{"from": 10})
    assert (second["ranking_id"], second["order"], second["judged"]) == (first, [0, 1, 2], 3)
    assert second["hits"][1]["score"] is None
    anew = await rescored(sidecar)
    assert anew["ranking_id"] != first
    assert anew["order"] == BEST_FIRST


@pytest.mark.parametrize("other", [{"user": "u2"}, {"tenant": "t2"}, {"query": "sort"}, {"mode": "label"}])
async def test_another_search_has_pages_of_its_own(other: Json) -> None:
    sidecar = Sidecar()
    first = await late(sidecar)
    assert (await rescored(sidecar, **{"from": 10, "deadline_ms": 1}, **other))["ranking_id"] != first
    await sidecar.rescorer.close()


async def test_a_ranking_can_be_named() -> None:
    sidecar = Sidecar()
    first = await late(sidecar)
    hits = [HITS[2], {"id": "new", "text": "x"}, HITS[0]]
    named = await rescored(sidecar, ranking=first, hits=hits)
    assert (named["ranking_id"], named["order"]) == (first, [2, 0, 1])
    assert [hit is None for hit in named["hits"]] == [False, True, False]
    unknown = await rescored(sidecar, ranking="unknown")
    assert unknown["order"] == BEST_FIRST


async def test_its_explanations_are_followed_as_those_of_any_ranking() -> None:
    sidecar = Sidecar()
    ranking = await late(sidecar)
    seen = (await sidecar.client().get(f"/v1/rankings/{ranking}")).json()
    assert [hit["id"] for hit in seen["hits"]] == ["0", "1", "2"]
    assert all(hit["explanation"] for hit in seen["hits"])


async def test_the_queue_knows_that_someone_waits() -> None:
    sidecar = Sidecar()
    await rescored(sidecar)
    assert [request.priority for request in sidecar.jobs.requests] == [Priority.INTERACTIVE]


# Bad input

WRONG: list[tuple[Json, str]] = [
    ({"index": None}, "index"),
    ({"index": ""}, "index"),
    ({"query": ""}, "query"),
    ({"query": " \n"}, "query"),
    ({"query": 3}, "query"),
    ({"query": "x" * 100_001}, "query"),
    ({"hits": None}, "hits"),
    ({"hits": {}}, "hits"),
    ({"hits": [{"id": "x"}] * 1_001}, "hits"),
    ({"hits": [HITS[0], {"score": 1.0}]}, "hits[1].id"),
    ({"hits": [{"id": 1}]}, "hits[0].id"),
    ({"hits": [{"id": "x" * 513}]}, "hits[0].id"),
    ({"hits": [{"id": "1", "score": "1"}]}, "hits[0].score"),
    ({"hits": [{"id": "1", "fields": []}]}, "hits[0].fields"),
    ({"hits": [{"id": "1", "fields": {"body": "x" * 1_000_001}}]}, "hits[0].fields.body"),
    ({"hits": [HITS[0], {"id": "1", "text": "x" * 1_000_001}]}, "hits[1].text"),
    ({"deadline_ms": -1}, "deadline_ms"),
    ({"deadline_ms": 60_001}, "deadline_ms"),
    ({"deadline_ms": "1"}, "deadline_ms"),
    ({"mode": "magic"}, "mode"),
    ({"window": 0}, "window"),
    ({"window": 201}, "window"),
    ({"fields": []}, "fields"),
    ({"fields": ["body", ""]}, "fields[1]"),
    ({"fields": ["x"] * 33}, "fields"),
    ({"tenant": ""}, "tenant"),
    ({"user": "x" * 256}, "user"),
    ({"explain": "no"}, "explain"),
    ({"ranking": ""}, "ranking"),
    ({"from": -1}, "from"),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG)
async def test_the_wrong_field_is_named(wrong: Json, field: str) -> None:
    sidecar = Sidecar()
    response = await post(sidecar, **wrong)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["field"]) == (400, "bad_request", field)
    assert error["message"].startswith(f"{field}: ")
    assert sidecar.jobs.requests == []


@pytest.mark.parametrize("field", ["index", "query", "hits"])
async def test_a_missing_field_is_named(field: str) -> None:
    body = {name: value for name, value in {"index": "docs", "query": QUERY, "hits": HITS}.items() if name != field}
    error = (await Sidecar().client().post("/v1/rescore", json=body)).json()["error"]
    assert (error["field"], error["message"]) == (field, f"{field}: is missing")


@pytest.mark.parametrize(
    ("content", "type_", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"index":"i","query":"q","hits":[{"id":"1","fields":{"a":' + b"[" * 100_000, "application/json", 400),
        (b'{"index":"i","query":"\\ud800", "hits"', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_what_is_no_json_object_is_refused(content: bytes, type_: str, status: int) -> None:
    response = await Sidecar().client().post("/v1/rescore", content=content, headers={"Content-Type": type_})
    assert response.status_code == status
    assert set(response.json()["error"]) == {"type", "message", "field"}


async def test_a_body_above_the_limit_is_refused() -> None:
    sidecar = Sidecar(Settings(secret="test", max_body_bytes=2_048))
    response = await post(sidecar, query="x" * 3_000)
    assert response.status_code == 413
    assert "2048 bytes" in response.json()["error"]["message"]


def test_the_limits_are_those_of_the_proxy() -> None:
    """What an admin may set, and a user may ask of the proxy, the hook may pass on."""
    widest = msgspec.json.schema(search_request._Options)["$defs"]["_Options"]["properties"]
    asked = msgspec.json.schema(Policy)["$defs"]["Policy"]["properties"]
    assert widest["window"]["anyOf"][0]["maximum"] == asked["window"]["maximum"] == 200
    assert widest["deadline_ms"]["anyOf"][0]["maximum"] == asked["deadline_ms"]["maximum"] == 60_000


SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
HIT = st.fixed_dictionaries(
    {"id": st.text(max_size=5)},
    optional={"score": st.floats() | JSON, "fields": st.dictionaries(st.text(max_size=5), JSON), "text": st.text()},
)
ASKED = JSON | st.fixed_dictionaries(
    {"index": st.sampled_from(["docs", "other"]) | JSON, "query": st.text(max_size=20) | JSON},
    optional={
        "hits": st.lists(HIT, max_size=5) | JSON,
        "deadline_ms": st.just(0) | JSON,
        "window": st.integers(1, 5) | JSON,
        "fields": st.lists(st.text(max_size=5), max_size=3) | JSON,
        "mode": st.sampled_from(["label", "reason"]) | JSON,
        "from": st.integers() | JSON,
        "ranking": st.text(max_size=9) | JSON,
    },
)
SIDECAR = Sidecar()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=ASKED)
def test_no_json_makes_a_5xx(body: Any) -> None:
    async def call() -> httpx.Response:
        content = json.dumps(body)  # NaN, infinities and lone surrogates included
        response = await SIDECAR.client().post(
            "/v1/rescore", content=content, headers={"Content-Type": "application/json"}
        )
        await SIDECAR.rescorer.close()
        return response

    response = asyncio.run(call())
    assert response.status_code in (200, 400), response.text
    if response.status_code == 200:
        answer = response.json()
        assert sorted(answer["order"]) == list(range(len(body["hits"])))
        assert len(answer["hits"]) == len(body["hits"])
    else:
        assert response.json()["error"]["field"]
