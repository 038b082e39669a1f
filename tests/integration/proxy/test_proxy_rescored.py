"""Searches of an index with a policy, through the proxy, on both engines."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.proxy.conftest import DOCS, QUERY, Answer, Rig, proxy_before, serving
from whyrank.types import Policy


def ids(answer: Answer | dict[str, Any]) -> list[str]:
    body = answer.json() if isinstance(answer, Answer) else answer
    return [hit["_id"] for hit in body["hits"]["hits"]]


async def test_hits_are_reordered_and_explained(rig: Rig) -> None:
    engine = await rig.direct("POST", f"/{rig.ranked}/_search", {"query": QUERY, "size": 5})
    answer = await rig.search({"query": QUERY, "size": 5})
    assert ids(engine)[0] == "short"
    assert ids(answer)[:2] == ["all", "both"]
    first = answer.json()["hits"]["hits"][0]
    assert first["fields"]["whyrank.explanation"][0].startswith("The document states")
    assert first["fields"]["whyrank.label"] == [2]
    assert first["fields"]["whyrank.relevance"] == [1.0]
    assert first["_source"] == dict(zip(("title", "body"), DOCS["all"], strict=True))
    assert answer.json()["ext"]["whyrank"]["status"] == "complete"
    assert answer.header("x-whyrank-status") == "complete"
    assert answer.header("x-whyrank-ranking") == answer.json()["ext"]["whyrank"]["ranking_id"]
    assert answer.json()["hits"]["total"] == engine.json()["hits"]["total"]


async def test_pages_are_of_one_order(rig: Rig) -> None:
    pages = [await rig.search({"query": QUERY, "from": start, "size": 3}) for start in (0, 3, 6)]
    found = [name for page in pages for name in ids(page)]
    assert len(found) == len(set(found)) == 9
    assert len({page.header("x-whyrank-ranking") for page in pages}) == 1


async def test_get_with_a_body_and_get_with_a_query_string(rig: Rig) -> None:
    body = await rig.proxied("GET", f"/{rig.ranked}/_search", {"query": QUERY})
    uri = await rig.proxied("GET", f"/{rig.ranked}/_search?q=body:alpha+body:beta+body:zeta&size=2")
    assert ids(body)[0] == "all"
    assert uri.header("x-whyrank-status") == "complete", uri.body
    assert len(ids(uri)) == 2


async def test_a_percent_encoded_index_is_the_same_index(rig: Rig) -> None:
    coded = "".join(f"%{byte:02x}" for byte in rig.ranked.encode())
    assert (await rig.search({"query": QUERY}, coded)).header("x-whyrank-status") == "complete"


async def test_an_alias_may_have_the_policy(rig: Rig) -> None:
    alias = f"{rig.ranked}-alias"
    await rig.direct("PUT", f"/{rig.ranked}/_alias/{alias}")
    rig.sidecar.policies.policies[alias] = Policy(index=alias, fields=("body",), deadline_ms=5000)
    try:
        assert ids(await rig.search({"query": QUERY}, alias))[0] == "all"
    finally:
        del rig.sidecar.policies.policies[alias]
        await rig.direct("DELETE", f"/{rig.ranked}/_alias/{alias}")


@pytest.mark.parametrize(
    "media", ["application/json; charset=UTF-8", "application/vnd.elasticsearch+json; compatible-with=9"]
)
async def test_media_types_of_the_clients(rig: Rig, media: str) -> None:
    if rig.kind == "opensearch" and "vnd.elasticsearch" in media:
        pytest.skip("OpenSearch does not take this type from anybody")
    answer = await rig.search({"query": QUERY}, **{"content-type": media, "accept": media})
    direct = await rig.direct(
        "POST", f"/{rig.ranked}/_search", {"query": QUERY}, **{"content-type": media, "accept": media}
    )
    assert answer.header("x-whyrank-status") == "complete"
    assert answer.header("content-type") == direct.header("content-type")
    assert answer.header("x-elastic-product") == direct.header("x-elastic-product")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_compressed_requests_and_answers(rig: Rig, coding: str) -> None:
    raw = json.dumps({"query": QUERY, "size": 8}).encode()
    data = gzip.compress(raw) if coding == "gzip" else zlib.compress(raw)
    answer = await rig.search(data, **{"content-encoding": coding, "accept-encoding": "gzip"})
    assert answer.header("content-encoding") == "gzip"
    body = json.loads(gzip.decompress(answer.body))
    assert body["ext"]["whyrank"]["status"] == "complete"
    assert ids(body)[0] == "all"


async def test_x_opaque_id_comes_back(rig: Rig) -> None:
    answer = await rig.search({"query": QUERY}, **{"x-opaque-id": "an id of mine"})
    direct = await rig.direct("POST", f"/{rig.ranked}/_search", {"query": QUERY}, **{"x-opaque-id": "an id of mine"})
    assert answer.header("x-opaque-id") == direct.header("x-opaque-id")


@pytest.mark.parametrize(
    ("body", "query", "reason"),
    [
        ({"query": QUERY, "size": 0}, "", "size_zero"),
        ({"query": QUERY, "sort": ["title.keyword"]}, "", "sorted_by_field"),
        ({"query": QUERY, "from": 20}, "", "beyond_window"),
        ({"query": QUERY}, "?scroll=1m", "scroll"),
        ({"query": QUERY}, "?filter_path=hits.hits._id", "filter_path"),
        ({"query": {"match_all": {}}}, "", "no_query_text"),
        ({"query": QUERY, "ext": {"whyrank": {"enabled": False}}}, "", "disabled_by_request"),
    ],
)
async def test_what_cannot_be_rescored_is_bypassed_unharmed(rig: Rig, body: Any, query: str, reason: str) -> None:
    answer = await rig.search(body, query=query)
    plain = {name: value for name, value in body.items() if name != "ext"}
    direct = await rig.direct("POST", f"/{rig.ranked}/_search{query}", plain)
    assert answer.status == direct.status == 200, answer.body
    assert answer.header("x-whyrank-status") == "bypassed"
    assert (answer.header("x-whyrank-reason") or "").startswith(reason)
    assert answer.json().get("hits") == direct.json().get("hits")
    assert "ext" not in answer.json()


async def test_bodies_that_are_not_json_are_the_engines(rig: Rig) -> None:
    answer = await rig.search(b"query:\n  match_all: {}\n", **{"content-type": "application/yaml"})
    direct = await rig.direct(
        "POST", f"/{rig.ranked}/_search", b"query:\n  match_all: {}\n", **{"content-type": "application/yaml"}
    )
    assert answer.status == direct.status
    assert (answer.header("x-whyrank-reason") or "").startswith("not_json")
    yaml = await rig.search({"query": QUERY}, accept="application/yaml")
    assert (yaml.header("x-whyrank-reason") or "").startswith("response_format")


async def test_engine_errors_are_the_engines(rig: Rig) -> None:
    wrong = {"query": {"match": {"body": {"query": "alpha", "no_such_option": 1}}}}
    answer = await rig.search(wrong)
    direct = await rig.direct("POST", f"/{rig.ranked}/_search", wrong)
    assert (answer.status, answer.body) == (400, direct.body)
    assert answer.header("x-whyrank-status") == "bypassed"


async def test_a_window_that_the_index_forbids_does_not_fail_the_search(rig: Rig) -> None:
    small = f"{rig.ranked}-small"
    await rig.direct("PUT", f"/{small}", {"settings": {"index.max_result_window": 5}})
    rig.sidecar.policies.policies[small] = Policy(index=small, fields=("body",))
    try:
        answer = await rig.search({"query": QUERY, "size": 3, "ext": {"whyrank": {"mode": "reason"}}}, small)
        assert answer.status == 200, answer.body
        assert (answer.header("x-whyrank-reason") or "").startswith("engine_refused")
    finally:
        del rig.sidecar.policies.policies[small]
        await rig.direct("DELETE", f"/{small}")


async def test_wrong_options_are_named(rig: Rig) -> None:
    answer = await rig.search({"query": QUERY, "ext": {"whyrank": {"window": 0}}})
    assert answer.status == 400
    assert answer.json()["error"]["root_cause"][0]["field"] == "ext.whyrank.window"


async def test_several_indices_pass_with_the_reason(rig: Rig) -> None:
    for target in (f"{rig.ranked},{rig.plain}", rig.ranked[:-2] + "*", "_all"):
        answer = await rig.search({"query": QUERY}, quote(target))
        assert answer.header("x-whyrank-reason") == "several_indices"
        assert "ext" not in answer.json()
    silent = await rig.search({"query": QUERY}, rig.plain + "*")
    assert silent.header("x-whyrank-status") is None


@pytest.mark.parametrize(
    ("index", "query", "headers", "reason"),
    [
        ("{i},{i}", "", {}, "several_indices"),
        ("{i}*", "", {}, "several_indices"),
        ("{i}", "?size=3&size=3", {}, "ambiguous_parameters"),
        ("{i}", "", {"accept": "application/yaml"}, "response_format"),
    ],
)
async def test_our_section_reaches_no_engine(
    rig: Rig, index: str, query: str, headers: dict[str, str], reason: str
) -> None:
    """Elasticsearch refuses it: who may say it must not be failed by where or how they search."""
    target = f"/{quote(index.replace('{i}', rig.ranked))}/_search{query}"
    section = {"ext": {"whyrank": {"mode": "label"}}}
    answer = await rig.proxied("POST", target, {"query": QUERY, **section}, **headers)
    direct = await rig.direct("POST", target, {"query": QUERY}, **headers)
    assert (answer.status, len(answer.body) > 0) == (direct.status, True)
    assert (answer.header("x-whyrank-reason") or "").startswith(reason)
    lines = [{"index": index.replace("{i}", rig.ranked)}, {"query": QUERY, **section}]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    many = await rig.proxied("POST", f"/_msearch{query}", body, **{"content-type": "application/x-ndjson", **headers})
    assert (many.header("x-whyrank-reason") or "").startswith(reason)
    assert b"whyrank" not in many.body
    if not query and not headers:
        assert [response["status"] for response in many.json()["responses"]] == [200]


async def test_a_body_that_is_empty_may_be_called_anything(rig: Rig) -> None:
    headers = {"content-type": "application/octet-stream"}
    answer = await rig.proxied("POST", f"/{rig.ranked}/_search?q=body:zeta&size=2", b"", **headers)
    assert (answer.status, answer.header("x-whyrank-status")) == (200, "complete"), answer.body


async def test_a_window_that_the_engine_breaks_on(rig: Rig) -> None:
    """What fails only because it is ours runs again as it was sent; what would fail anyway does not."""
    asked: list[bytes] = []
    status = 500

    async def engine_app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        asked.append(body)
        wide = b'"from"' in body
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status if wide else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error":1}' if wide else b'{"as":"sent"}'})

    async with serving(engine_app) as engine, proxy_before(engine) as (url, sidecar):
        sidecar.policies.policies = {"docs": Policy(index="docs", fields=("body",))}
        search = json.dumps({"query": QUERY}).encode()
        answer = await rig.send(url, "POST", "/docs/_search", search)
        assert (answer.status, answer.body, asked[1:]) == (200, b'{"as":"sent"}', [search])
        assert (answer.header("x-whyrank-reason") or "").startswith("engine_refused")
        asked.clear()
        status = 429
        busy = await rig.send(url, "POST", "/docs/_search", search)
        assert (busy.status, len(asked)) == (429, 1)


async def test_a_policy_switched_off_still_takes_our_section_out(rig: Rig) -> None:
    with rig.policy(enabled=False):
        answer = await rig.search({"query": QUERY, "ext": {"whyrank": {"mode": "label"}}})
    assert answer.status == 200, answer.body
    assert (answer.header("x-whyrank-reason") or "").startswith("policy_disabled")


@pytest.mark.parametrize("step", ["rank", "render", "parse", "plan"])
async def test_no_fault_of_ours_fails_a_search(rig: Rig, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault of ours")

    module = {"plan": "search_request", "parse": "search_response", "render": "search_response"}.get(step)
    if module is None:
        monkeypatch.setattr(rig.sidecar.rescorer, step, broken)
    else:
        monkeypatch.setattr(f"plugin_service.rescoring.{module}.{step}", broken)
    search = {"query": QUERY, "from": 1, "size": 3}
    answer = await rig.search({**search, "ext": {"whyrank": {"mode": "reason"}}})
    direct = await rig.direct("POST", f"/{rig.ranked}/_search", search)
    assert answer.status == 200, answer.body
    assert answer.header("x-whyrank-status") == "failed"
    assert ids(answer) == ids(direct)


async def test_fragments_come_from_the_engines_highlighter(rig: Rig) -> None:
    index = f"{rig.ranked}-long"
    body = (
        "nothing of interest here. " * 200 + "At last, alpha meets zeta in this sentence. " + "and nothing more. " * 200
    )
    await rig.direct("PUT", f"/{index}/_doc/1?refresh=true", {"title": "long", "body": body})
    rig.sidecar.policies.policies[index] = Policy(index=index, fields=("title", "body"), deadline_ms=5000)
    try:
        answer = await rig.search({"query": {"match": {"body": "alpha zeta"}}}, index)
        assert answer.header("x-whyrank-status") == "complete"
        (request,) = [
            r for r in rig.sidecar.jobs.requests if any("alpha meets zeta" in p.passage.text for p in r.pairs)
        ]
        assert request.pairs[0].passage.truncated
    finally:
        del rig.sidecar.policies.policies[index]
        await rig.direct("DELETE", f"/{index}")
