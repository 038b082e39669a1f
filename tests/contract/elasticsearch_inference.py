"""Elasticsearch's side of the rerank API: the `custom` inference service and the `text_similarity_reranker` retriever.

Neither can run here (their licence forbids it), so what they do to requests and answers is ported, step by step, from
these files of elastic/elasticsearch (9.x; under x-pack/plugin/inference/.../inference unless another place is named):

    services/custom/request/{CustomRequest,RequestParameters,RerankParameters}.java, common/ValidatingSubstitutor.java,
    common/JsonUtils.java, common/MapPathExtractor.java, services/custom/CustomResponseHandler.java,
    services/custom/response/{BaseCustomResponseParser,RerankResponseParser,ErrorResponseParser}.java,
    rank/textsimilarity/{TextSimilarityRankFeaturePhaseRankCoordinatorContext,TextSimilarityRankRetrieverBuilder}.java,
    server/.../action/search/RankFeaturePhase.java
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.contract.java import CallerError, Json, substitute, to_float


@dataclass
class RankedDoc:
    """One entry of `RankedDocsResults`."""

    index: int
    score: float
    text: str | None


class Endpoint:
    """An inference endpoint of the `custom` service, its URL reaching the sidecar. `sent` are the bodies that left."""

    def __init__(self, definition: Json, secrets: Json, client: httpx.AsyncClient) -> None:
        self._settings: Json = definition["service_settings"]
        self._secrets = secrets
        self._client = client
        self.sent: list[Json] = []
        self.headers: dict[str, str] = {}

    async def rerank(self, query: str, documents: Sequence[str]) -> list[RankedDoc]:
        """The documents as the answer has them, in its order. Raises CallerError."""
        strings = {name: str(value) for name, value in self._secrets.items()}
        values = {name: _to_json(value) for name, value in self._secrets.items()}
        values |= {"query": _to_json(query), "input": _to_json(list(documents))}
        payload = _replaced(self._settings["request"], values)
        self.headers = {name: _replaced(value, strings) for name, value in self._settings["headers"].items()}
        self.sent.append(json.loads(payload))
        response = await self._client.post(self._settings["url"], content=payload.encode(), headers=self.headers)
        if not 200 <= response.status_code < 300:
            raise CallerError(f"{response.status_code}: {self._error_of(response)}")
        return self._ranked(response.json())

    def _error_of(self, response: httpx.Response) -> str:
        path = self._settings["response"].get("error_parser", {}).get("path")
        return str(extract(response.json(), path)) if path else "undefined error"

    def _ranked(self, answer: Json) -> list[RankedDoc]:
        parser = self._settings["response"]["json_parser"]
        scores = _listed(extract(answer, parser["relevance_score"]), lambda value: to_float(_number(value)))
        places, texts = range(len(scores)), None
        if "reranked_index" in parser:
            places = _listed(extract(answer, parser["reranked_index"]), lambda value: int(_number(value)))
        if "document_text" in parser:
            texts = _listed(extract(answer, parser["document_text"]), _text)
        for name, found in (("index", places), ("document", texts)):
            if found is not None and len(found) != len(scores):
                raise CallerError(f"IllegalStateException: The number of {name} fields was not that of scores")
        return [RankedDoc(place, scores[i], texts[i] if texts else None) for i, place in enumerate(places)]


@dataclass
class Doc:
    """A document that the inner retriever has found; `chunks` where a `chunk_rescorer` cuts it."""

    id: str
    score: float
    text: str | None
    shard: int = 0
    doc: int = 0
    chunks: list[str] = field(default_factory=list)


class Retriever:
    """`text_similarity_reranker` over what the inner retriever has found."""

    def __init__(self, definition: Json, endpoint: Endpoint) -> None:
        self._definition = definition["text_similarity_reranker"]
        self._endpoint = endpoint

    async def search(self, found: Sequence[Doc]) -> list[tuple[str, float]]:
        """(id, score) of each hit. Raises CallerError unless failures are allowed."""
        top = sorted(found, key=lambda doc: -doc.score)[: self._definition["rank_window_size"]]
        # by shard, and in a shard by document: RankFeaturePhase joins what the shards give, score or no score
        docs = sorted((doc for doc in top if doc.text is not None), key=lambda doc: (doc.shard, doc.doc))
        try:
            scores = await self._scores(docs)
        except CallerError:
            if not self._definition.get("allow_rerank_failures"):
                raise
            return [(doc.id, doc.score) for doc in top]
        least = self._definition.get("min_score")
        ranked = [
            (doc, _normalised(score))
            for doc, score in zip(docs, scores, strict=True)
            if least is None or score >= least
        ]
        ranked.sort(key=lambda pair: (-pair[1], pair[0].shard, pair[0].doc))
        return [(doc.id, score) for doc, score in ranked]

    async def _scores(self, docs: Sequence[Doc]) -> list[float]:
        if any(doc.chunks for doc in docs):
            return await self._best_of_chunks(docs)
        ranked = await self._endpoint.rerank(self._definition["inference_text"], [doc.text or "" for doc in docs])
        scores = [0.0] * len(ranked)
        for one in ranked:
            if not 0 <= one.index < len(scores):
                raise CallerError(f"ArrayIndexOutOfBoundsException: {one.index}")
            scores[one.index] = one.score
        if len(scores) != len(docs):
            raise CallerError("IllegalStateException: Reranker input document count and returned score count mismatch")
        return scores

    async def _best_of_chunks(self, docs: Sequence[Doc]) -> list[float]:
        """extractScoresFromRankedSnippets: the n-th result is taken for the n-th chunk, whatever its index."""
        owners = [place for place, doc in enumerate(docs) for _ in doc.chunks]
        chunks = [chunk for doc in docs for chunk in doc.chunks]
        ranked = await self._endpoint.rerank(self._definition["inference_text"], chunks)
        best: dict[int, float] = {}
        for place, one in enumerate(ranked):
            best[owners[place]] = max(one.score, best.get(owners[place], -math.inf))
        return [_normalised(best[place]) if place in best else 0.0 for place in range(len(docs))]


def extract(value: Any, path: str) -> Any:
    """MapPathExtractor: `$.a[*].b`; a member that is absent or null is an error, an item that is null is left out."""
    if not path.startswith("$"):
        raise CallerError(f"IllegalArgumentException: Path [{path}] must start with a dollar sign ($)")
    return _navigate(value, path[1:])


def _navigate(value: Any, path: str) -> Any:
    if not path or value is None:
        return value
    if named := re.match(r"\.([^.\[]+)(.*)", path):
        if not isinstance(value, dict) or value.get(named[1]) is None:
            raise CallerError(f"IllegalArgumentException: Unable to find field [{named[1]}] in map")
        return _navigate(value[named[1]], named[2])
    if not path.startswith("[*]") or not isinstance(value, list):
        raise CallerError(f"IllegalArgumentException: Invalid path received [{path}]")
    found = (_navigate(item, path[3:]) for item in value)
    return [item for item in found if item is not None]


def _replaced(template: str, values: dict[str, str]) -> str:
    """ValidatingSubstitutor: whatever still looks like a placeholder is an error, in a document too."""
    done = substitute(template, values, "${")
    if left := re.search(r"\$\{.*?\}", done):
        raise CallerError(f"IllegalArgumentException: Found placeholder [{left[0]}] after replacement call")
    return done


def _to_json(value: object) -> str:
    """XContentBuilder.value: Jackson's compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _listed(value: Any, convert: Callable[[Any], Any]) -> list[Any]:
    if not isinstance(value, list):
        raise CallerError("IllegalArgumentException: Extracted field is an invalid type, expected a list")
    return [convert(item) for item in value]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CallerError(f"IllegalStateException: Unable to convert {value!r} to Number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CallerError(f"IllegalStateException: Unable to convert {value!r} to String")
    return value


def _normalised(score: float) -> float:
    """normalizeScore, in 32 bits."""
    return to_float(max(score, 0) + min(to_float(math.exp(score)), 1))
