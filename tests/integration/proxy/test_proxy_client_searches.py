"""What the official clients ask in their own words: through the proxy, the engine's answer in another order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import elasticsearch
import opensearchpy
import pytest

from tests.integration.proxy.conftest import Rig
from tests.integration.proxy.corpus import COUNT, VECTOR, Corpus, filled
from whyrank.types import Policy

WINDOW = 40
QUERY = {"match": {"body": "alpha zeta"}}
NEAREST = {"field": "vector", "query_vector": json.loads(VECTOR), "k": 30, "num_candidates": 30}
RESCORE = {"window_size": WINDOW, "query": {"rescore_query": {"match": {"body": "beta"}}}}


@pytest.fixture(scope="module")
async def corpus(rig: Rig) -> AsyncIterator[Corpus]:
    async with filled(rig) as corpus:
        policy = Policy(index=corpus.index, fields=("title", "body"), window=WINDOW, deadline_ms=60_000)
        rig.sidecar.policies.policies[corpus.index] = policy
        yield corpus
        del rig.sidecar.policies.policies[corpus.index]


class Client:
    """The official client of an engine, at one address."""

    def __init__(self, kind: str, url: str) -> None:
        self.opensearch = kind == "opensearch"
        self.own: Any = opensearchpy.AsyncOpenSearch(url) if self.opensearch else elasticsearch.AsyncElasticsearch(url)

    async def search(self, index: str | None = None, **search: Any) -> dict[str, Any]:
        asked = {"body": search} if self.opensearch else search
        found = await self.own.search(**({"index": index} if index else {}), **asked)
        return found if self.opensearch else found.body

    async def open_pit(self, index: str) -> str:
        if self.opensearch:
            return (await self.own.create_pit(index=index, keep_alive="1m"))["pit_id"]
        return (await self.own.open_point_in_time(index=index, keep_alive="1m"))["id"]

    async def close_pit(self, pit: str) -> None:
        if self.opensearch:
            await self.own.delete_pit(body={"pit_id": [pit]})
        else:
            await self.own.close_point_in_time(id=pit)


@pytest.fixture
async def clients(rig: Rig) -> AsyncIterator[tuple[Client, Client]]:
    """Of the proxy, and of the engine itself."""
    both = Client(rig.kind, rig.url), Client(rig.kind, rig.engine_url)
    yield both
    for client in both:
        await client.own.close()


def without_ours(found: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An answer's other parts, and its hits by name, both as the engine gave them."""
    rest = {name: part for name, part in found.items() if name not in ("took", "ext", "pit_id")}
    rest["hits"] = {name: part for name, part in rest["hits"].items() if name != "hits"}
    hits = []
    for hit in found["hits"]["hits"]:
        fields = {name: entry for name, entry in hit.get("fields", {}).items() if not name.startswith("whyrank.")}
        kept = {name: part for name, part in hit.items() if name != "fields"}
        hits.append({**kept, "fields": fields} if fields else kept)
    return rest, sorted(hits, key=lambda hit: hit["_id"])


def ids(found: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in found["hits"]["hits"]]


BOTH: dict[str, dict[str, Any]] = {
    "highlight": {"query": QUERY, "highlight": {"fields": {"body": {}}}},
    "collapse": {"query": QUERY, "collapse": {"field": "twin", "inner_hits": {"name": "twins", "size": 2}}},
    "aggregations": {
        "query": QUERY,
        "aggs": {"group": {"terms": {"field": "group"}, "aggs": {"best": {"top_hits": {"size": 1}}}}},
    },
    "filtered, explained, from a source filter": {
        "query": {"bool": {"must": QUERY, "filter": {"range": {"n": {"gte": 9}}}}},
        "explain": True,
        "source": {"excludes": ["raw"]},
    },
}
ELASTICSEARCH: dict[str, dict[str, Any]] = {
    "standard retriever": {"retriever": {"standard": {"query": QUERY, "filter": {"term": {"group": "g1"}}}}},
    "knn retriever": {"retriever": {"knn": {**NEAREST, "filter": {"match": {"body": "alpha zeta"}}}}},
    "rescorer": {"retriever": {"rescorer": {"retriever": {"standard": {"query": QUERY}}, "rescore": RESCORE}}},
    "knn beside a query": {"query": QUERY, "knn": NEAREST},
}


def of(rig: Rig, name: str) -> dict[str, Any]:
    search = dict({**BOTH, **ELASTICSEARCH}[name])
    if rig.kind == "opensearch" and name in ELASTICSEARCH:
        pytest.skip("retrievers and this form of vector search are Elasticsearch's")
    if rig.kind == "opensearch" and "source" in search:
        search["_source"] = search.pop("source")
    return search


@pytest.mark.parametrize("name", [*BOTH, *ELASTICSEARCH])
async def test_a_search_of_the_whole_window(corpus: Corpus, clients: tuple[Client, Client], name: str) -> None:
    search = of(corpus.rig, name)
    proxied, direct = [await client.search(corpus.index, size=WINDOW, **search) for client in clients]
    assert proxied["ext"]["whyrank"]["status"] == "complete"
    assert without_ours(proxied) == without_ours(direct)
    assert len(ids(direct)) > 5
    assert all(hit["fields"]["whyrank.engine_rank"] for hit in proxied["hits"]["hits"])
    ranks = [hit["fields"]["whyrank.engine_rank"][0] for hit in proxied["hits"]["hits"]]
    assert [ids(direct)[rank - 1] for rank in ranks] == ids(proxied)


UNKNOWN: dict[str, dict[str, Any]] = {
    "rrf": {"retrievers": [{"standard": {"query": QUERY}}, {"knn": NEAREST}], "rank_window_size": 30},
    "linear": {"retrievers": [{"retriever": {"standard": {"query": QUERY}}, "weight": 1.0}], "rank_window_size": 30},
    "text_similarity_reranker": {
        "retriever": {"standard": {"query": QUERY}},
        "field": "body",
        "inference_id": "none",
        "inference_text": "alpha zeta",
        "rank_window_size": 30,
    },
    "of_tomorrow": {"retriever": {"standard": {"query": QUERY}}},
}


@pytest.mark.parametrize("name", UNKNOWN)
async def test_retrievers_that_the_engine_does_not_know(
    corpus: Corpus, clients: tuple[Client, Client], name: str
) -> None:
    """Asked with the window that they say themselves, and refused in the engine's own words."""
    if corpus.rig.kind == "opensearch":
        pytest.skip("retrievers are Elasticsearch's")
    errors = []
    for client in clients:
        with pytest.raises(elasticsearch.BadRequestError) as raised:
            await client.search(corpus.index, retriever={name: UNKNOWN[name]})
        errors.append((raised.value.status_code, raised.value.body))
    assert errors[0] == errors[1]


async def test_a_point_in_time_read_to_its_end(corpus: Corpus, clients: tuple[Client, Client]) -> None:
    pages: list[list[list[str]]] = []
    for client in clients:
        pit, after, found = await client.open_pit(corpus.index), None, []
        while True:
            more = {} if after is None else {"search_after": after}
            page = await client.search(query={"match_all": {}}, pit={"id": pit}, sort=[{"n": "desc"}], size=7, **more)
            if not ids(page):
                break
            found.append(ids(page))
            pit, after = page["pit_id"], page["hits"]["hits"][-1]["sort"]
        await client.close_pit(pit)
        pages.append(found)
    assert pages[0] == pages[1]
    assert sum(map(len, pages[0])) == COUNT


async def test_many_searches_at_once(corpus: Corpus, clients: tuple[Client, Client]) -> None:
    """One that is rescored, one that is sorted, one that has no hits, one that is wrong."""
    highlighted = {"query": QUERY, "size": WINDOW, "highlight": {"fields": {"body": {}}}}
    others = [
        {"query": QUERY, "sort": ["n"], "size": 3},
        {"query": QUERY, "size": 0, "aggs": {"group": {"terms": {"field": "group"}}}},
        {"query": {"match": {"body": {"query": "alpha", "analyzer": "none-such"}}}},
    ]
    lines: list[dict[str, Any]] = []
    for search in (highlighted, *others):
        lines += [{"index": corpus.index}, search]
    asked = {"body": lines} if clients[0].opensearch else {"searches": lines}
    proxied, direct = [(await client.own.msearch(**asked))["responses"] for client in clients]
    assert proxied[0]["ext"]["whyrank"]["status"] == "complete"
    assert all(hit["fields"]["whyrank.label"] for hit in proxied[0]["hits"]["hits"])
    assert without_ours(proxied[0]) == without_ours(direct[0])
    for ours, theirs in zip(proxied[1:], direct[1:], strict=True):
        assert {**ours, "took": 0} == {**theirs, "took": 0}
