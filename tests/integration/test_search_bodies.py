"""Planned searches on both real engines: what the caller gets is its own page, byte for byte, and our entries."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import Raw

from plugin_service.rescoring.search_request import Bypass, Plan, plan, strip
from plugin_service.rescoring.search_response import ParsedResponse, parse, render
from whyrank.types import FusionWeights, Policy, RankedHit, Ranking, Status

PATHS = ("title", "body", "comments.text", "author.name")
MAPPINGS = {
    "properties": {
        "title": {"type": "text", "store": True},
        "body": {"type": "text"},
        "comments": {"type": "nested", "properties": {"text": {"type": "text"}, "by": {"type": "keyword"}}},
        "author": {"properties": {"name": {"type": "keyword", "ignore_above": 12}}},
        "group": {"type": "keyword"},
        "price": {"type": "double"},
        "raw": {"type": "object", "enabled": False},
    }
}


def document(n: int) -> tuple[bytes, dict[str, str]]:
    """A document's bytes, with much that a decode to Python values would not keep, and its texts."""
    body = "red shoes " * (n % 7) + f"number {n} for a wedding"
    comments = [f"comment {k} on {n}" for k in range(n % 4)]
    name = f"author {n}" if n % 5 else "an author whose name is too long for the index"
    written = [
        b'"raw":{"price":1.10,"big":%d,"inf":1e400,"tiny":-0.0E-7 , "deep":[[],[{"a":null}]]}' % (2**70 + n),
        b'"price":%d.50,"group":"g%d"' % (n, n % 3),
        rb'"title":"Caf\u00e9 \/ \ud83d\udc5f' + (rb" \ud800" if n == 13 else b"") + b' %d"' % n,
        b'"comments":' + json.dumps([{"by": f"u{n}", "text": text} for text in comments]).encode(),
        b'"author":{"name":"%b"}' % name.encode() if n % 2 else b'"author.name":"%b"' % name.encode(),
    ]
    if n % 6:
        written.append(b'"body" : "%b"' % body.encode())
    title = "Café / 👟" + (" \ufffd" if n == 13 else "") + f" {n}"
    texts = {"title": title, "body": body if n % 6 else ""}
    texts |= {"comments.text": "\n".join(comments), "author.name": name}
    return b"{" + b",".join(written) + b"}", {path: text for path, text in texts.items() if text}


class Engine:
    """One real engine with our documents in two indices."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)
        self.kind = self.http.get("/").json()["version"].get("distribution", "elasticsearch")
        self.index = f"whyrank-test-bodies-{uuid.uuid4().hex[:8]}"
        self.indices = (self.index, f"{self.index}-b")

    def fill(self) -> None:
        settings = {"number_of_shards": 1, "number_of_replicas": 0}
        for index, count in zip(self.indices, (30, 5), strict=True):
            self.call("PUT", f"/{index}", json.dumps({"settings": settings, "mappings": MAPPINGS}).encode())
            lines = [b'{"index":{"_id":"%d"}}\n%b\n' % (n, document(n)[0]) for n in range(count)]
            assert b'"errors":false' in self.call("POST", f"/{index}/_bulk", b"".join(lines), {"refresh": "true"})

    def call(self, method: str, path: str, body: bytes, params: Mapping[str, str] | None = None) -> bytes:
        answer = self.http.request(
            method, path, content=body, params=dict(params or {}), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        return answer.content

    def search(self, body: bytes, params: Mapping[str, str], index: str | None = None) -> bytes:
        return self.call("POST", f"/{index or self.index}/_search", body, params)


@pytest.fixture(scope="module", params=["opensearch_url", "elasticsearch_url"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine(request.getfixturevalue(request.param))
    try:
        engine.fill()
        yield engine
    finally:
        engine.http.delete("/" + ",".join(engine.indices), params={"ignore_unavailable": "true"})
        engine.http.close()


POLICY = Policy(index="docs", fields=PATHS, window=25)
Q = '"query":{"match":{"body":"red shoes"}}'
"""Stands where a body below has @."""

BODIES: dict[str, tuple[str, dict[str, str]]] = {
    "plain": ("{@}", {}),
    "page two": ('{"from":10,"size":10,@}', {}),
    "the window's end": ('{"from":20,"size":5,@}', {}),
    "numbers in the URL": ('{"from":1,@}', {"from": "3", "size": "4"}),
    "numbers in quotes": ('{"from":"2","size":"3",@}', {}),
    "q alone": ("", {"q": "body:(red AND shoes)", "size": "7"}),
    "q before the body's query": ('{"query":{"match":{"title":"x"}}}', {"q": "body:wedding"}),
    "body in the URL": ("", {"source": "{@}", "source_content_type": "application/json"}),
    "bool": ('{"query":{"bool":{"must":{"match":{"body":"red"}},"filter":[{"range":{"price":{"gte":3}}}]}}}', {}),
    "dis_max": ('{"query":{"dis_max":{"queries":[{"match":{"body":"red"}},{"match":{"title":"7"}}]}}}', {}),
    "function_score": ('{"query":{"function_score":{"query":{"match":{"body":"red"}},"weight":2}}}', {}),
    "nested with inner hits": (
        '{"query":{"nested":{"path":"comments","query":{"match":{"comments.text":"comment"}},"inner_hits":{}}}}',
        {},
    ),
    "multi_match": ('{"query":{"multi_match":{"query":"red shoes","fields":["title","body^2"]}},"min_score":0.01}', {}),
    "query_string": ('{"query":{"query_string":{"query":"body:red AND NOT title:7"}}}', {}),
    "aggregations and suggestions": (
        '{@,"aggs":{"g":{"terms":{"field":"group"},"aggs":{"p":{"avg":{"field":"price"}}}}},'
        '"suggest":{"s":{"text":"shoos","term":{"field":"body"}}}}',
        {"typed_keys": "true"},
    ),
    "highlight": ('{@,"highlight":{"fields":{"body":{}}},"size":3}', {}),
    "collapse": ('{@,"collapse":{"field":"group","inner_hits":{"name":"more","size":2}}}', {}),
    "post_filter": ('{@,"post_filter":{"term":{"group":"g1"}},"track_total_hits":false}', {}),
    "explain and versions": ('{@,"explain":true,"version":true,"seq_no_primary_term":true,"size":2}', {}),
    "profile": ('{@,"profile":true}', {}),
    "rescore": (
        '{@,"rescore":{"window_size":25,"query":{"rescore_query":{"match":{"title":"7"}}}},"size":5}',
        {},
    ),
    "sorted by score": ('{@,"sort":[{"_score":{"order":"desc"}}],"track_scores":true}', {}),
    "total as a number, pretty": ("{@}", {"rest_total_hits_as_int": "true", "pretty": "", "human": "true"}),
    "no source": ('{"_source":false,@}', {}),
    "no source in the URL": ("{@}", {"_source": "false"}),
    "some source": ('{"_source":["title","comm*"],@}', {}),
    "source without": ('{"_source":{"excludes":["body","author","author.name"]},@}', {}),
    "source without comments' texts": ("{@}", {"_source_excludes": "comments.text"}),
    "own fields": ('{"_source":false,"fields":["title",{"field":"price"},"comments.by"],@}', {}),
    "own fields by pattern": ('{"_source":false,"fields":["*"],@}', {}),
    "source and fields": ('{"fields":["title","group"],"docvalue_fields":["price"],@}', {}),
    "stored fields": ('{"stored_fields":["title"],@}', {}),
    "options of ours": ('{"ext":{"whyrank":{"query":"shoes","window":30,"explain":true}},@}', {}),
}
ELASTICSEARCH_BODIES: dict[str, tuple[str, dict[str, str]]] = {
    "standard retriever": ('{"retriever":{"standard":{@}},"size":4}', {}),
    "rescorer retriever": (
        '{"retriever":{"rescorer":{"retriever":{"standard":{@}},"rescore":{"window_size":15,"query":'
        '{"rescore_query":{"match":{"title":"7"}}}}}},"size":5,"from":5}',
        {},
    ),
}


def members(data: bytes | Raw) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in msgspec.json.decode(data, type=dict[str, Raw]).items()}


def hits_of(answer: bytes) -> list[dict[str, bytes]]:
    """The members of each hit, as the engine wrote them."""
    section = msgspec.json.decode(members(shielded(answer))["hits"], type=dict[str, Raw])
    return [members(raw) for raw in msgspec.json.decode(section["hits"], type=list[Raw])]


def shielded(answer: bytes) -> bytes:
    """msgspec reads no lone surrogates; the only one here is document 13's."""
    return re.sub(rb"(?<!\\)\\u[dD]800", b"LONE", answer)


def rank(parsed: ParsedResponse, planned: Plan) -> Ranking:
    hits = [RankedHit(c.id, c.index, n, c.engine_score) for n, c in enumerate(parsed.candidates)]
    return Ranking("id", planned.query, planned.mode, "r", Status.PENDING, "x", 0.0, FusionWeights(), tuple(hits))


def planned_search(engine: Engine, body: str, params: dict[str, str], index: str) -> tuple[Plan, ParsedResponse]:
    outcome = plan(body.encode(), params, POLICY)
    assert isinstance(outcome, Plan), outcome
    return outcome, parse(engine.search(outcome.body, outcome.params, index), outcome, POLICY)


def without_ours(fields: bytes) -> dict[str, bytes]:
    return {name: raw for name, raw in members(fields).items() if not name.startswith("whyrank.")}


def values_of(parts: dict[str, bytes]) -> dict[str, Any]:
    return {name: json.loads(raw) for name, raw in parts.items()}


def without_long_keywords(texts: dict[str, str]) -> dict[str, str]:
    """OpenSearch's `fields` leave out what `ignore_above` kept from the index."""
    return {path: text for path, text in texts.items() if not text.startswith("an author whose name")}


def assert_same_page(rendered: bytes, original: bytes, filtered: bool = False) -> None:
    """Byte for byte; where the source is filtered, Elasticsearch writes it and `fields` anew: value for value."""
    ours, theirs = members(shielded(rendered)), members(shielded(original))
    assert list(ours) == [*theirs, "ext"]
    assert set(members(ours["ext"])) == {"whyrank"}
    for name in theirs.keys() - {"took", "hits", "profile"}:
        assert ours[name] == theirs[name]
    section, their_section = members(ours["hits"]), members(theirs["hits"])
    assert section.keys() == their_section.keys()
    for name in section.keys() - {"hits"}:
        assert section[name] == their_section[name]
    hits, their_hits = hits_of(rendered), hits_of(original)
    assert len(hits) == len(their_hits) > 0
    for hit, their_hit in zip(hits, their_hits, strict=True):
        fields, their_fields = without_ours(hit.pop("fields")), members(their_hit.pop("fields", b"{}"))
        parts: list[tuple[dict[str, Any], dict[str, Any]]] = [(fields, their_fields), (hit, their_hit)]
        if filtered:
            parts = [(values_of(left), values_of(right)) for left, right in parts]
        for left, right in parts:
            assert left == right
        assert list(hit) == list(their_hit)


@pytest.mark.parametrize("name", [*BODIES, *ELASTICSEARCH_BODIES])
def test_the_page_is_the_callers_own(engine: Engine, name: str) -> None:
    if name in ELASTICSEARCH_BODIES and engine.kind != "elasticsearch":
        pytest.skip("retrievers are Elasticsearch's")
    body, params = {**BODIES, **ELASTICSEARCH_BODIES}[name]
    body, params = body.replace("@", Q), {key: value.replace("@", Q) for key, value in params.items()}
    original = engine.search(strip(body.encode()), params)
    planned, parsed = planned_search(engine, body, params, engine.index)
    assert len(parsed.candidates) > 0
    for candidate in parsed.candidates:
        texts = document(int(candidate.id))[1]
        if engine.kind == "opensearch" and ("author.name" in planned.borrowed_fields or '"*"' in body):
            texts = without_long_keywords(texts)
        assert {field.field: field.text for field in candidate.fields} == texts
    assert_same_page(render(parsed, rank(parsed, planned), planned), original, bool(planned.borrowed_fields))


def test_two_indices_with_the_same_ids(engine: Engine) -> None:
    index = ",".join(engine.indices)
    body = "{" + Q + "}"
    original = engine.search(body.encode(), {}, index)
    planned, parsed = planned_search(engine, body, {}, index)
    assert len({candidate.id for candidate in parsed.candidates}) < len(parsed.candidates)
    assert_same_page(render(parsed, rank(parsed, planned), planned), original)


def test_a_point_in_time(engine: Engine) -> None:
    opensearch = engine.kind == "opensearch"
    path = f"/{engine.index}/" + ("_search/point_in_time" if opensearch else "_pit")
    opened = json.loads(engine.call("POST", path, b"", {"keep_alive": "1m"}))
    pit = opened["pit_id" if opensearch else "id"]
    outcome = plan(f'{{"pit":{{"id":"{pit}"}},{Q}}}'.encode(), {}, POLICY)
    assert isinstance(outcome, Plan)
    parsed = parse(engine.call("POST", "/_search", outcome.body), outcome, POLICY)
    assert len(parsed.candidates) > outcome.size
    rendered: dict[str, Any] = json.loads(render(parsed, rank(parsed, outcome), outcome))
    assert "pit_id" in rendered
    assert not any("sort" in hit for hit in rendered["hits"]["hits"])


def test_bypassed_searches_are_accepted_without_our_options(engine: Engine) -> None:
    body = b'{"size":0,"aggs":{"g":{"terms":{"field":"group"}}},"ext":{"whyrank":{"window":5}}}'
    assert isinstance(plan(body, {}, POLICY), Bypass)
    assert json.loads(engine.search(strip(body), {}))["aggregations"]["g"]["buckets"]
