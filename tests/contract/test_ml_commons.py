"""The sidecar's real answers, read as OpenSearch's ml-commons and neural-search read them (`ml_commons.py` ports them).

Each trap is a case, named after the file it was found in. The configuration is that of `whyrank connect opensearch
--door ml-commons`, with `--explanations` for `ml_inference`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from plugin_service.rescoring.ports import ModelInfo, Outcome
from tests.contract.java import CallerError, Json
from tests.contract.ml_commons import Connector, Pipeline
from tests.fakes.sidecar import Sidecar, judge
from whyrank.connect.doors import ml_commons
from whyrank.connect.steps import replaced
from whyrank.connect.wish import Wish
from whyrank.settings import Settings
from whyrank.types import FailureKind, FusionWeights, Pair, VerdictFailure

URL = "http://whyrank:8080"
WISH = Wish(sidecar_url=URL, fields=("title", "body"))
EXPLAINED = Wish(sidecar_url=URL, fields=("body",), explanations=True)
QUERY = "sort a list"
HITS: list[Json] = [
    {"_id": "0", "_score": 3.0, "_source": {"title": "None. ", "body": "Nothing here. At all."}},
    {"_id": "1", "_score": 2.0, "_source": {"title": "Sorting. ", "body": "You sort a list by list.sort."}},
    {"_id": "2", "_score": 1.0, "_source": {"title": "Lists. ", "body": "A list holds items."}},
]
ENGINES_ORDER = ["0", "1", "2"]
BEST_FIRST = ["1", "2", "0"]


def documented(name: str) -> Json:
    """A block of docs/api/callers.md."""
    page = (Path(__file__).parents[2] / "docs" / "api" / "callers.md").read_text()
    block = re.search(rf"<!-- {name} -->\n```json\n(.*?)```", page, re.DOTALL)
    assert block is not None
    found: Json = json.loads(block[1])
    return found


class Cluster:
    """A pipeline of `whyrank connect`, its connector reaching `sidecar`."""

    def __init__(self, sidecar: Sidecar | None = None, *, explained: bool = False, pieces: int = 1_000) -> None:
        self.sidecar = sidecar or Sidecar()
        wish = EXPLAINED if explained else WISH
        filled = replaced(ml_commons.connector(wish), lambda _: "the-key")
        self.connector = Connector(filled, self.sidecar.client(), pieces)
        self.pipeline = ml_commons.pipeline(wish, wish.fields)

    async def search(
        self, query: str | None = QUERY, hits: list[Json] | None = None, *, strict: bool = False, **body: Any
    ) -> Json:
        """`strict`: nothing is ignored, as if the pipeline did not say so."""
        definition = json.loads(json.dumps(replaced(self.pipeline, lambda _: "model")))
        if strict:
            for processor in definition["response_processors"]:
                next(iter(processor.values())).pop("ignore_failure", None)
        if query is not None:
            body["ext"] = {"rerank": {"query_context": {"query_text": query}}}
        answer = await Pipeline(definition, self.connector).search(body, HITS if hits is None else hits)
        await self.sidecar.rescorer.close()
        return answer

    @property
    def judged(self) -> list[Pair]:
        return [pair for request in self.sidecar.jobs.requests for pair in request.pairs]


def ids(answer: Json) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]


async def test_hits_come_back_in_our_order_with_our_scores() -> None:
    cluster = Cluster()
    answer = await cluster.search(strict=True)
    assert ids(answer) == BEST_FIRST
    scores = [hit["_score"] for hit in answer["hits"]["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["hits"]["max_score"] == scores[0]
    assert cluster.connector.sent[0]["top_n"] == 3


async def test_the_window_is_asked_for_and_the_page_is_given() -> None:
    cluster = Cluster()
    hits = [{"_id": str(n), "_score": 1.0, "_source": {"body": f"document {n}."}} for n in range(60)]
    hits[47]["_source"]["body"] = "sort a list."
    answer = await cluster.search(hits=hits, strict=True)
    assert len(cluster.judged) == 50
    assert ids(answer)[0] == "47"
    assert len(ids(answer)) == 10


# Traps 1 to 7


@pytest.mark.parametrize("relevance", [0.0, 1.0, 1 / 3, 0.1 + 0.2, 1e-5 / 3, 0.9999999999999999])
async def test_trap_1_scores_are_cast_to_double_and_places_to_integer(relevance: float) -> None:
    """CohereRerankPostProcessFunction.java: `(Double) relevance_score`, `(Integer) index`; JSONParserBase.java of
    json-smart: a number of more than 18 characters is a BigDecimal, which is no Double."""
    cluster = Cluster()

    def judged(pair: Pair) -> Outcome:
        return replace(judge(pair), relevance=relevance)

    cluster.sidecar.jobs.judge = judged
    assert sorted(ids(await cluster.search(strict=True))) == ENGINES_ORDER


@pytest.mark.parametrize("fault", ["slow", "down", "full", "cold", "unjudgeable", "blank", "alike"])
async def test_trap_2_there_is_a_score_for_every_hit(fault: str) -> None:
    """RescoringRerankProcessor.java: "scores and hits are not the same length"; and they fall along the order that
    they came in, so that sorting by them keeps it."""
    sidecar = Sidecar(Settings(secret="test", rerank_deadline_ms=20 if fault == "slow" else 5_000))
    sidecar.jobs.idle = fault == "slow"
    sidecar.cache.down = fault == "down"
    sidecar.jobs.full = fault == "full"
    if fault == "cold":
        sidecar.model.info = ModelInfo(ready=False, revision="", weights=FusionWeights(), reason="loading")
    if fault == "unjudgeable":
        sidecar.jobs.judge = lambda _: VerdictFailure(FailureKind.NO_LABEL)
    source = {"blank": {"title": "", "body": " "}, "alike": {"title": "", "body": "sort a list"}}.get(fault)
    hits = [{**hit, "_source": source or hit["_source"]} for hit in HITS * 20]
    assert ids(await Cluster(sidecar).search(hits=hits, strict=True)) == ENGINES_ORDER * 3 + ["0"]


async def test_trap_3_a_search_without_ext_rerank_keeps_the_engines_order() -> None:
    """QueryContextSourceFetcher.java: `fromExtBuilderList(exts).getParams()` of null."""
    cluster = Cluster()
    assert ids(await cluster.search(None)) == ENGINES_ORDER
    assert cluster.connector.sent == []
    with pytest.raises(CallerError, match="NullPointerException"):
        await cluster.search(None, strict=True)


async def test_trap_4_a_search_with_size_0_keeps_its_total() -> None:
    """RescoringRerankProcessor.java: `hits[0]`, looked at whenever the total is not 0."""
    cluster = Cluster()
    answer = await cluster.search(size=0)
    assert answer["hits"] == {"total": {"value": 3}, "hits": []}
    with pytest.raises(CallerError):
        await cluster.search(size=0, strict=True)


async def test_trap_5_a_query_that_is_json_is_not_escaped() -> None:
    """ConnectorUtils.java, escapeRemoteInferenceInputData: the payload is broken, so it never comes to us."""
    cluster = Cluster()
    for query in ('{"a": "b"}', '["a"]'):
        assert ids(await cluster.search(query)) == ENGINES_ORDER
        with pytest.raises(CallerError, match="Invalid payload"):
            await cluster.search(query, strict=True)
    assert cluster.connector.sent == []


@pytest.mark.parametrize(
    "query",
    [
        'say "hi" and {bye}',
        "C:\\temp\\new",
        "a\nb\tc\u2028d",
        "größe サイズ \N{GRINNING FACE}",
        "a/b </script>",
        "$100 or $${200}",
        "[a] or {b}",
    ],
)
async def test_trap_5_every_other_query_arrives_as_it_was_typed(query: str) -> None:
    """escapeJson, StringSubstitutor and Gson between the user and us."""
    cluster = Cluster()
    body = f"{query} in a document."
    await cluster.search(query, [{"_id": "1", "_score": 1.0, "_source": {"body": body}}], strict=True)
    assert (cluster.judged[0].query, cluster.judged[0].passage.text) == (query, body)


async def test_trap_5_placeholders_in_a_document_keep_the_engines_order() -> None:
    """Connector.java, validatePayload: whatever looks like a parameter has to be one."""
    cluster = Cluster()
    hits = [*HITS, {"_id": "3", "_score": 0.5, "_source": {"body": "Write ${parameters.foo} here."}}]
    assert ids(await cluster.search(hits=hits)) == [*ENGINES_ORDER, "3"]
    with pytest.raises(CallerError, match="placeholder not filled: foo"):
        await cluster.search(hits=hits, strict=True)


@pytest.mark.parametrize("fault", ["slow", "down", "full", "cold", "bug"])
async def test_trap_6_what_is_wrong_with_us_is_nothing_to_try_again_for(fault: str) -> None:
    """RemoteConnectorExecutor.java: 429 and 5xx are tried again where `max_retry_times` is not 0. `strict` raises for
    any status that is not 2xx."""
    sidecar = Sidecar(Settings(secret="test", rerank_deadline_ms=20 if fault == "slow" else 5_000))
    sidecar.jobs.idle = fault == "slow"
    sidecar.cache.down = fault == "down"
    sidecar.jobs.full = fault == "full"
    if fault == "cold":
        sidecar.model.info = ModelInfo(ready=False, revision="", weights=FusionWeights(), reason="loading")
    if fault == "bug":
        sidecar.rescorer._judge = None  # type: ignore[assignment,method-assign]
    assert ids(await Cluster(sidecar).search(strict=True)) == ENGINES_ORDER


@pytest.mark.parametrize("deadline_ms", [0, 999, 1_000, 1_500, 59_999])
def test_trap_6_the_connector_waits_longer_than_we_take(deadline_ms: int) -> None:
    """`read_timeout` is in whole seconds."""
    config = ml_commons.connector(replace(WISH, rerank_deadline_ms=deadline_ms))["client_config"]
    assert config["read_timeout"] * 1_000 > deadline_ms
    assert config["max_retry_times"] == 0


async def test_trap_7_only_texts_are_sent() -> None:
    """DocumentContextSourceFetcher.java: no id, no index, no score, no user: hits with one text have one verdict, and
    the order sent says nothing."""
    cluster = Cluster()
    twins = [{**hit, "_id": f"{hit['_id']}-twin"} for hit in HITS]
    answer = await cluster.search(hits=[*HITS[::-1], *twins], strict=True)
    assert len(cluster.judged) == 3
    assert [name[0] for name in ids(answer)] == [name for name in BEST_FIRST for _ in (1, 2)]
    assert set(cluster.connector.sent[0]) == {"documents", "query", "model", "top_n"}


async def test_trap_7_fields_come_with_nothing_between_them_and_absent_ones_as_nothing() -> None:
    """DocumentContextSourceFetcher.java, contextFromSearchHit."""
    cluster = Cluster()
    hits = [
        {"_id": "1", "_score": 1.0, "_source": {"title": "A title", "body": ["one", "two"]}},
        {**HITS[0], "_source": {}},
    ]
    assert sorted(ids(await cluster.search(hits=hits, strict=True))) == ["0", "1"]
    assert [pair.passage.text for pair in cluster.judged] == ["A title[one, two]"]


# Explanations by `ml_inference`


def test_the_documented_configuration_is_the_one_that_is_connected() -> None:
    connector = replaced(ml_commons.connector(EXPLAINED), lambda _: "...")
    pipeline = replaced(ml_commons.pipeline(EXPLAINED, EXPLAINED.fields), lambda _: "...")
    assert (documented("connector"), documented("pipeline")) == (connector, pipeline)


async def test_ml_inference_writes_score_and_explanation_into_each_hit_by_its_place() -> None:
    """MLInferenceSearchResponseProcessor.java with `one_to_one` false, then ByFieldRerankProcessor.java."""
    cluster = Cluster(explained=True)
    answer = await cluster.search(strict=True)
    assert ids(answer) == BEST_FIRST
    for hit in answer["hits"]["hits"]:
        assert hit["_source"]["why"] == f'The document states "{hit["_source"]["body"].split(".")[0]}".'
        assert "why_score" not in hit["_source"]
    assert cluster.connector.sent[0]["order"] == "input"


async def test_ml_inference_gets_one_value_for_every_hit_even_without_a_verdict() -> None:
    """ModelExecutor.java reads `results[*].explanation` by JsonPath, which leaves out what is not there; one value too
    few, and every hit gets the whole list."""
    cluster = Cluster(explained=True)

    def fails_on_first(pair: Pair) -> Outcome:
        return VerdictFailure(FailureKind.NO_LABEL) if pair.passage.text.startswith("Nothing") else judge(pair)

    cluster.sidecar.jobs.judge = fails_on_first
    answer = await cluster.search(strict=True)
    why = {hit["_id"]: hit["_source"]["why"] for hit in answer["hits"]["hits"]}
    assert why["0"] is None
    assert why["1"] == 'The document states "You sort a list by list".'


@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
async def test_ml_inference_shows_every_letter_however_the_answer_arrives(pieces: int) -> None:
    """MLSdkAsyncHttpResponseHandler.java: `responseBody.append(UTF_8.decode(byteBuffer))` for each buffer."""
    cluster = Cluster(explained=True, pieces=pieces)
    hits = [{"_id": "1", "_score": 1.0, "_source": {"body": "Größe: サイズ \N{GRINNING FACE}. Mehr."}}]
    (hit,) = (await cluster.search("größe", hits, strict=True))["hits"]["hits"]
    assert hit["_source"]["why"] == 'The document states "Größe: サイズ \N{GRINNING FACE}".'


async def test_ml_inference_sends_a_field_with_several_values_as_an_array() -> None:
    """MLInferenceSearchResponseProcessor.java, updateModelInputParameters."""
    cluster = Cluster(explained=True)
    hits = [{"_id": "1", "_score": 1.0, "_source": {"body": ["You sort.", "A list."]}}, *HITS]
    answer = await cluster.search(hits=hits, strict=True)
    assert len(ids(answer)) == 4
    assert cluster.judged[0].passage.text == "You sort.\nA list."


async def test_ml_inference_on_a_single_hit() -> None:
    cluster = Cluster(explained=True)
    (hit,) = (await cluster.search(hits=HITS[1:2], strict=True))["hits"]["hits"]
    assert hit["_source"]["why"] == 'The document states "You sort a list by list".'


async def test_ml_inference_without_the_field_keeps_the_engines_order() -> None:
    """Both processors fail, and both may: the hits come back as they were."""
    cluster = Cluster(explained=True)
    hits = [*HITS, {"_id": "3", "_score": 0.5, "_source": {"title": "no body"}}]
    answer = await cluster.search(hits=hits)
    assert ids(answer) == [*ENGINES_ORDER, "3"]
    assert all("why" not in hit["_source"] for hit in answer["hits"]["hits"])


async def test_ml_inference_escapes_the_query() -> None:
    """RemoteConnectorExecutor.java, preparePayloadAndInvoke: once, although two places do it."""
    cluster = Cluster(explained=True)
    await cluster.search('say "größe"\n', strict=True)
    assert cluster.judged[0].query == 'say "größe"\n'


async def test_bad_input_is_told_in_coheres_form() -> None:
    """MLSdkAsyncHttpResponseHandler.java puts the body of an error into its own message."""
    cluster = Cluster()
    with pytest.raises(CallerError, match=r'400: \{"message":"query: must not be blank"\}'):
        await cluster.search("  ", strict=True)
    assert ids(await cluster.search("  ")) == ENGINES_ORDER
