"""`_msearch` through the proxy: each search on its own, on both engines."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.integration.proxy.conftest import QUERY, Answer, Rig

SEARCH = {"query": QUERY, "size": 3}


async def ask(
    rig: Rig, *pairs: tuple[Any, Any], path: str = "/_msearch", direct: bool = False, **headers: str
) -> Answer:
    body = b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for pair in pairs for line in pair
    )
    send = rig.direct if direct else rig.proxied
    return await send("POST", path, body, **{"content-type": "application/x-ndjson"} | headers)


def ids(response: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in response["hits"]["hits"]]


async def test_each_search_gets_what_it_would_get_alone(rig: Rig) -> None:
    pairs = (
        ({"index": rig.ranked}, SEARCH),
        ({"index": rig.plain}, SEARCH),
        ({"index": [rig.ranked], "preference": "_local"}, {**SEARCH, "from": 1}),
        ({"index": "no-such-index"}, {}),
        ({"index": rig.ranked}, {**SEARCH, "sort": ["_doc"]}),
        ({"index": f"{rig.ranked},{rig.plain}"}, SEARCH),
        ({"index": rig.ranked}, {**SEARCH, "ext": {"whyrank": {"mode": "nonsense"}}}),
        ({"index": rig.ranked}, {"query": {"match": {"body": {"query": "alpha", "analyzer": "none-such"}}}}),
    )
    answer = await ask(rig, *pairs)
    assert answer.status == 200, answer.body
    ranked, plain, second, missing, sorted_, several, wrong, refused = answer.json()["responses"]
    engine = (await ask(rig, pairs[1], direct=True)).json()["responses"][0]
    assert ids(ranked)[:2] == ["all", "both"]
    assert ranked["ext"]["whyrank"]["status"] == "complete"
    assert ranked["status"] == second["status"] == plain["status"] == 200
    assert ids(second)[0] == "both"
    assert ids(plain) == ids(engine)
    assert "ext" not in plain
    assert missing["status"] == 404
    assert "ext" not in sorted_
    assert sorted_["hits"]["hits"][0]["sort"]
    assert "ext" not in several
    assert wrong["status"] == 400
    assert wrong["error"]["root_cause"][0]["field"] == "ext.whyrank.mode"
    assert refused["status"] == 400
    assert "none-such" in refused["error"]["root_cause"][0]["reason"]
    assert answer.header("x-whyrank-status") == "complete, bypassed"
    assert "sorted_by_field" in (answer.header("x-whyrank-reason") or "")


async def test_the_index_may_stand_in_the_path(rig: Rig) -> None:
    answer = await ask(rig, ({}, SEARCH), (b"", SEARCH), ({"index": rig.plain}, SEARCH), path=f"/{rig.ranked}/_msearch")
    first, second, third = answer.json()["responses"]
    assert ids(first)[0] == ids(second)[0] == "all"
    assert ids(third)[0] == "short"


async def test_nothing_of_ours_passes_through(rig: Rig) -> None:
    pairs = (({"index": rig.plain}, SEARCH), ({}, {"size": 0}))
    answer, direct = await ask(rig, *pairs), await ask(rig, *pairs, direct=True)
    assert answer.header("x-whyrank-status") is None
    assert [r["hits"] for r in answer.json()["responses"]] == [r["hits"] for r in direct.json()["responses"]]


async def test_all_bypassed_passes_through_with_the_reason(rig: Rig) -> None:
    section = {"ext": {"whyrank": {"enabled": False}}}
    answer = await ask(rig, ({"index": rig.ranked}, {**SEARCH, **section}), ({"index": rig.plain}, SEARCH))
    assert [r["status"] for r in answer.json()["responses"]] == [200, 200], answer.body
    assert answer.header("x-whyrank-reason") == "disabled_by_request"


async def test_only_wrong_options(rig: Rig) -> None:
    answer = await ask(rig, ({"index": rig.ranked}, {"ext": {"whyrank": {"window": "x"}}}))
    assert [r["status"] for r in answer.json()["responses"]] == [400]


async def test_url_parameters_are_kept(rig: Rig) -> None:
    answer = await ask(rig, ({"index": rig.ranked}, SEARCH), path="/_msearch?rest_total_hits_as_int=true")
    (response,) = answer.json()["responses"]
    assert response["hits"]["total"] == 12
    assert response["ext"]["whyrank"]["status"] == "complete"
    named = await ask(rig, ({"index": rig.ranked}, SEARCH), path="/_msearch?filter_path=responses.hits.hits._id")
    assert named.header("x-whyrank-reason") == "filter_path"


async def test_compressed_both_ways(rig: Rig) -> None:
    body = gzip.compress(f"{json.dumps({'index': rig.ranked})}\n{json.dumps(SEARCH)}\n".encode())
    headers = {"content-type": "application/x-ndjson", "content-encoding": "gzip", "accept-encoding": "gzip"}
    answer = await rig.proxied("POST", "/_msearch", body, **headers)
    assert ids(json.loads(gzip.decompress(answer.body))["responses"][0])[0] == "all"


@pytest.mark.parametrize("step", ["parse", "render", "plan"])
async def test_no_fault_of_ours_fails_a_search(rig: Rig, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault of ours")

    module = "search_request" if step == "plan" else "search_response"
    monkeypatch.setattr(f"plugin_service.rescoring.{module}.{step}", broken)
    answer = await ask(rig, ({"index": rig.ranked}, SEARCH), ({"index": rig.plain}, SEARCH))
    ranked, plain = answer.json()["responses"]
    assert ids(ranked) == ids(plain)
    assert answer.header("x-whyrank-status") == "failed"


async def test_a_window_that_the_index_forbids_does_not_fail_the_search(rig: Rig) -> None:
    with rig.policy(window=200):
        await rig.direct("PUT", f"/{rig.ranked}/_settings", {"index.max_result_window": 100})
        try:
            answer = await ask(rig, ({"index": rig.ranked}, SEARCH), ({"index": rig.plain}, SEARCH))
        finally:
            await rig.direct("PUT", f"/{rig.ranked}/_settings", {"index.max_result_window": None})
    ranked, plain = answer.json()["responses"]
    assert ranked["status"] == 200
    assert ids(ranked) == ids(plain)
    assert answer.header("x-whyrank-reason") == "engine_refused"
