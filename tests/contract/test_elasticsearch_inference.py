"""The sidecar's real answers, read as Elasticsearch's `custom` service and retriever read them.

`elasticsearch_inference.py` ports both. Each trap is a case, named after the file it was found in. The configuration is
that of `whyrank connect elasticsearch --door custom`.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from plugin_service.rescoring.ports import ModelInfo, Outcome
from tests.contract.elasticsearch_inference import Doc, Endpoint, Retriever
from tests.contract.java import CallerError, Json
from tests.fakes.sidecar import Sidecar, judge
from whyrank.connect.doors import custom
from whyrank.connect.steps import replaced
from whyrank.connect.wish import Wish
from whyrank.settings import Settings
from whyrank.types import FailureKind, FusionWeights, Pair, VerdictFailure

QUERY = "sort a list"
# the engine's best stands on the last shard, as it may
FOUND = [
    Doc("a", 3.0, "Nothing here. At all.", shard=2),
    Doc("b", 2.0, "You sort a list by list.sort. It is stable.", shard=1),
    Doc("c", 1.0, "A list holds items.", shard=0),
]
ENGINES_ORDER = ["a", "b", "c"]
BEST_FIRST = ["b", "c", "a"]


class Cluster:
    """An endpoint of `whyrank connect` that reaches `sidecar`, and a retriever that uses it."""

    def __init__(self, sidecar: Sidecar | None = None, **changes: Any) -> None:
        self.sidecar = sidecar or Sidecar()
        definition: Json = replaced(custom.endpoint(Wish(sidecar_url="http://whyrank:8080")), lambda _: "the-key")
        definition["service_settings"] |= changes
        secrets = definition["service_settings"]["secret_parameters"]
        self.endpoint = Endpoint(definition, secrets, self.sidecar.client())

    async def search(
        self, found: list[Doc] | None = None, query: str = QUERY, *, lenient: bool = False, **options: Any
    ) -> list[tuple[str, float]]:
        options = {"inference_text": query, "rank_window_size": 50, "allow_rerank_failures": lenient, **options}
        retriever = Retriever({"text_similarity_reranker": options}, self.endpoint)
        try:
            return await retriever.search(FOUND if found is None else found)
        finally:
            await self.sidecar.rescorer.close()

    @property
    def judged(self) -> list[Pair]:
        return [pair for request in self.sidecar.jobs.requests for pair in request.pairs]


def ids(hits: list[tuple[str, float]]) -> list[str]:
    return [name for name, _ in hits]


async def test_hits_come_back_in_our_order() -> None:
    cluster = Cluster()
    assert ids(await cluster.search()) == BEST_FIRST
    assert cluster.endpoint.headers == {"Authorization": "Bearer the-key", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    "query",
    ['say "hi"', '{"a": "b"}', '["a"]', "C:\\temp\\new", "a\nb\u2028c", "größe サイズ \N{GRINNING FACE}", "$100 {x}"],
)
async def test_queries_and_documents_arrive_as_they_are(query: str) -> None:
    """RerankParameters.java, JsonUtils.java: what the template gets is JSON already."""
    cluster = Cluster()
    await cluster.search([Doc("a", 1.0, f"{query} in a document.")], query)
    assert (cluster.judged[0].query, cluster.judged[0].passage.text) == (query, f"{query} in a document.")


@pytest.mark.parametrize("relevance", [0.0, 1.0, 1 / 3, 1e-7])
async def test_scores_survive_what_is_made_of_them(relevance: float) -> None:
    """TextSimilarityRankFeaturePhaseRankCoordinatorContext.java: max(s, 0) + min(exp(s), 1) as a 32-bit float; scores
    that are alike for us still fall along our order."""
    cluster = Cluster()

    def judged(pair: Pair) -> Outcome:
        return replace(judge(pair), relevance=relevance)

    cluster.sidecar.jobs.judge = judged
    found = [Doc(str(n), 1.0, f"document {n}", doc=n) for n in range(50)]
    scores = [score for _, score in await cluster.search(found)]
    assert len(set(scores)) == 50
    assert all(1 <= score <= 2 for score in scores)


async def test_there_is_a_score_for_every_document() -> None:
    """TextSimilarityRankFeaturePhaseRankCoordinatorContext.java: "Reranker input document count and returned score
    count mismatch"; one that the model cannot judge or has no text is there, too."""
    cluster = Cluster()

    def fails_on_first(pair: Pair) -> Outcome:
        return VerdictFailure(FailureKind.NO_LABEL) if pair.passage.text.startswith("Nothing") else judge(pair)

    cluster.sidecar.jobs.judge = fails_on_first
    found = [*FOUND, Doc("blank", 0.5, " \n", shard=3), Doc("twin", 0.4, FOUND[1].text, shard=4)]
    assert sorted(ids(await cluster.search(found))) == ["a", "b", "blank", "c", "twin"]


async def test_no_top_n_is_sent() -> None:
    """ValidatingSubstitutor.java: the retriever gives none, and a placeholder that is left over is a failure."""
    cluster = Cluster()
    await cluster.search()
    assert "top_n" not in cluster.endpoint.sent[0]
    template = '{"query":${query},"documents":${input},"top_n":${top_n}}'
    with pytest.raises(CallerError, match=r"Found placeholder \[\$\{top_n\}\]"):
        await Cluster(request=template).search()


async def test_placeholders_in_a_document_keep_the_engines_order() -> None:
    """ValidatingSubstitutor.java looks for them after the documents have been put in."""
    cluster = Cluster()
    found = [*FOUND, Doc("d", 0.5, "Write ${HOME} here.")]
    assert ids(await cluster.search(found, lenient=True)) == [*ENGINES_ORDER, "d"]
    with pytest.raises(CallerError, match="Found placeholder"):
        await cluster.search(found)
    assert cluster.endpoint.sent == []


@pytest.mark.parametrize("fault", ["slow", "partial", "down", "full", "cold"])
async def test_while_verdicts_are_missing_the_engines_order_is_kept(fault: str) -> None:
    """RankFeaturePhase.java: documents are sent by shard and document, so that the order sent is not the engine's, and
    no scores of ours could give that back. A failure does, where `allow_rerank_failures` says so."""
    sidecar = Sidecar(Settings(secret="test", rerank_deadline_ms=5_000 if fault in ("down", "full", "cold") else 30))
    sidecar.jobs.idle = fault in ("slow", "cold")
    sidecar.cache.down = fault == "down"
    sidecar.jobs.full = fault == "full"
    if fault == "cold":
        sidecar.model.info = ModelInfo(ready=False, revision="", weights=FusionWeights(), reason="loading")
    if fault == "partial":
        settle = sidecar.jobs.settle
        sidecar.jobs.settle = lambda pair: settle(pair) if "sort" in pair.passage.text else None  # type: ignore[method-assign]
    cluster = Cluster(sidecar)
    assert ids(await cluster.search(lenient=True)) == ENGINES_ORDER
    with pytest.raises(CallerError, match="503"):
        await cluster.search()


async def test_what_was_late_is_there_the_next_time() -> None:
    sidecar = Sidecar(Settings(secret="test", rerank_deadline_ms=20))
    sidecar.jobs.idle = True
    cluster = Cluster(sidecar)
    assert ids(await cluster.search(lenient=True)) == ENGINES_ORDER
    for pair in cluster.judged:
        sidecar.jobs.settle(pair)
    assert ids(await cluster.search(lenient=True)) == BEST_FIRST


async def test_explanations_are_had_for_the_texts_afterwards() -> None:
    """The service keeps scores alone; whoever holds the texts asks again, and nothing is judged twice."""
    cluster = Cluster()
    await cluster.search()
    body = {"query": QUERY, "documents": [doc.text for doc in FOUND], "order": "input", "deadline_ms": 0}
    results = (await cluster.sidecar.client().post("/v1/rerank", json=body)).json()["results"]
    assert results[1]["explanation"] == 'The document states "You sort a list by list".'
    assert all(result["explanation"] for result in results)
    assert len(cluster.judged) == 3


async def test_an_endpoint_can_be_made_before_the_model_is_ready() -> None:
    """SimpleServiceIntegrationValidator.java: a new endpoint is tried with one document, and refused if that fails."""
    sidecar = Sidecar()
    sidecar.model.info = ModelInfo(ready=False, revision="", weights=FusionWeights(), reason="loading")
    (ranked,) = await Cluster(sidecar).endpoint.rerank("test query", ["how big"])
    assert ranked.index == 0
    await sidecar.rescorer.close()


async def test_scores_of_chunks_reach_their_documents() -> None:
    """TextSimilarityRankFeaturePhaseRankCoordinatorContext.java, extractScoresFromRankedSnippets (commit 0196a7c): by
    the place in the answer, not by its index."""
    found = [
        Doc("a", 3.0, "long", shard=0, chunks=["Nothing.", "Nor here."]),
        Doc("b", 2.0, "long", shard=1, chunks=["Nothing at all.", "You sort a list."]),
        Doc("c", 1.0, "long", shard=2, chunks=["A list."]),
    ]
    assert ids(await Cluster().search(found)) == ["b", "c", "a"]


async def test_places_need_not_be_read() -> None:
    """RerankResponseParser.java: without `reranked_index` results are taken in the order of the answer."""
    parser = {"json_parser": {"relevance_score": "$.results[*].relevance_score"}}
    assert ids(await Cluster(response=parser).search()) == BEST_FIRST


async def test_the_documents_texts_can_be_read() -> None:
    """RerankResponseParser.java, `document_text`: as many texts as scores, none of them null."""
    parser = {
        "json_parser": {
            "relevance_score": "$.results[*].relevance_score",
            "reranked_index": "$.results[*].index",
            "document_text": "$.results[*].document.text",
        }
    }
    ranked = await Cluster(response=parser).endpoint.rerank(QUERY, [doc.text or "" for doc in FOUND])
    assert [(one.index, one.text) for one in ranked] == [(place, doc.text) for place, doc in enumerate(FOUND)]


async def test_errors_can_be_read() -> None:
    """ErrorResponseParser.java: a text at `error_parser.path`."""
    settings = custom.endpoint(Wish(sidecar_url="http://whyrank:8080"))["service_settings"]
    assert isinstance(settings, dict)
    cluster = Cluster(response={**settings["response"], "error_parser": {"path": "$.detail"}})
    with pytest.raises(CallerError, match="422: query: must not be blank"):
        await cluster.search(query=" ")
    cluster.sidecar.jobs.full = True
    with pytest.raises(CallerError, match="503: queue_full: too many pairs are waiting to be judged"):
        await cluster.search()


async def test_a_least_score_is_compared_with_ours() -> None:
    """TextSimilarityRankFeaturePhaseRankCoordinatorContext.java, preprocess: before it makes another of it."""
    assert ids(await Cluster().search(min_score=0.5)) == ["b", "c"]
