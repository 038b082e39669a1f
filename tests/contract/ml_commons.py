"""OpenSearch's side of the rerank API: ml-commons' connector, neural-search's processors, a pipeline of them.

None of these can run here (their jars are not published), so what they do to requests and answers is ported, step by
step and cast by cast, from these files:

opensearch-project/ml-commons (main, August 2026)
    CohereRerankPreProcessFunction.java, CohereRerankPostProcessFunction.java, MLPostProcessFunction.java,
    ConnectorUtils.java (escapeRemoteInferenceInputData, processOutput), HttpConnector.java (createPayload),
    Connector.java (validatePayload), RemoteConnectorExecutor.java (preparePayloadAndInvoke),
    MLSdkAsyncHttpResponseHandler.java, StringUtils.java (isJson, getParameterMap),
    MLInferenceSearchResponseProcessor.java, ModelExecutor.java
opensearch-project/neural-search (main, August 2026)
    QueryContextSourceFetcher.java, DocumentContextSourceFetcher.java, RescoringRerankProcessor.java,
    MLOpenSearchRerankProcessor.java, ByFieldRerankProcessor.java, RerankSearchExtBuilder.java, ProcessorUtils.java
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.contract.java import (
    CallerError,
    Json,
    cast_double,
    cast_integer,
    decoded_in_pieces,
    escape_json,
    gson,
    json_smart,
    substitute,
    to_float,
)

_PARAMETERS = "${parameters."
DEFAULT_SIZE = 10


class Connector:
    """A remote model: the connector's definition, and a client that reaches the sidecar.

    `pieces` is how many bytes arrive at once. `sent` are the payloads that left the engine.
    """

    def __init__(self, definition: Json, client: httpx.AsyncClient, pieces: int = 1_000) -> None:
        self._definition = definition
        self._client = client
        self._pieces = pieces
        self.sent: list[Json] = []

    @property
    def _action(self) -> Json:
        action: Json = self._definition["actions"][0]
        return action

    async def similarity(self, query: str, documents: Sequence[str]) -> list[float]:
        """TextSimilarityInputDataSet in, the scores by document out. Raises CallerError."""
        assert self._action["pre_process_function"] == "connector.pre_process.cohere.rerank"
        assert self._action["post_process_function"] == "connector.post_process.cohere.rerank"
        given = {"query": query, "documents": gson(list(documents)), "top_n": gson(len(documents))}
        body = await self._invoke(_escaped(given))
        return _post_process_cohere(json_smart(body)["results"])

    async def predict(self, parameters: Mapping[str, str]) -> Json:
        """RemoteInferenceInputDataSet in, `dataAsMap` out. Raises CallerError."""
        assert "post_process_function" not in self._action
        body = await self._invoke(_escaped(parameters))
        answer: Json = json.loads(body)
        return answer

    async def _invoke(self, given: Mapping[str, str]) -> str:
        parameters = {**self._definition["parameters"], **given}
        payload = substitute(self._action["request_body"], parameters, _PARAMETERS)
        try:
            sent = json.loads(payload)
        except ValueError as error:
            raise CallerError(f"IllegalArgumentException: Invalid payload: {payload}") from error
        if missing := re.search(r"\$\{parameters\.([^}]+)}", payload):
            raise CallerError(f"IllegalArgumentException: Some parameter placeholder not filled: {missing[1]}")
        self.sent.append(sent)
        credential = self._definition["credential"]
        headers = {
            name: substitute(value, credential, "${credential.") for name, value in self._action["headers"].items()
        }
        headers.setdefault("Content-Type", "application/json")
        response = await self._client.post(self._action["url"], content=payload.encode(), headers=headers)
        body = decoded_in_pieces(response.content, self._pieces)
        if not 200 <= response.status_code <= 300:
            raise CallerError(f"OpenSearchStatusException {response.status_code}: {body}")
        return body


class MlOpenSearch:
    """`rerank` with `ml_opensearch`: scores by the connector, hits sorted by them."""

    def __init__(self, definition: Json, connector: Connector) -> None:
        self._fields: list[str] = definition["context"]["document_fields"]
        self._connector = connector

    async def process(self, request: Json, response: Json) -> Json:
        ext = request.get("ext", {})
        if "rerank" not in ext:  # fromExtBuilderList gives null
            raise CallerError("NullPointerException: RerankSearchExtBuilder.getParams()")
        context = ext["rerank"].get("query_context")
        if not isinstance(context, dict) or "query_text" not in context:
            raise CallerError("IllegalArgumentException: must specify query_context")
        documents = [self._context(hit) for hit in response["hits"]["hits"]]
        if response["hits"]["total"]["value"] == 0:
            return response
        return _resorted(response, await self._connector.similarity(context["query_text"], documents))

    def _context(self, hit: Json) -> str:
        """The fields' texts one after the other, with nothing between."""
        found = []
        for field in self._fields:
            value = hit["_source"].get(field)
            if isinstance(value, list):  # a list of a list, whose parts are joined
                value = f"[{', '.join(map(str, value))}]"
            found.append("" if value is None else str(value))
        return "".join(found)


class ByField:
    """`rerank` with `by_field`: the hit's own field becomes its score."""

    def __init__(self, definition: Json) -> None:
        self._target: str = definition["by_field"]["target_field"]
        self._remove: bool = definition["by_field"].get("remove_target_field", False)

    async def process(self, _: Json, response: Json) -> Json:
        hits = response["hits"]["hits"]
        for hit in hits:
            if not isinstance(hit["_source"].get(self._target), int | float):
                raise CallerError(f"IllegalArgumentException: The field to rerank by is not found at hit {hit['_id']}")
        scores = [to_float(hit["_source"][self._target]) for hit in hits]
        if self._remove:
            for hit in hits:
                del hit["_source"][self._target]
        return _resorted(response, scores)


class MlInference:
    """`ml_inference` of an answer, `one_to_one` false: one call for all hits, what it gives is handed out by place."""

    def __init__(self, definition: Json, connector: Connector) -> None:
        assert definition["one_to_one"] is False
        (self._inputs,) = definition["input_map"]
        (self._outputs,) = definition["output_map"]
        self._ignore_missing: bool = definition.get("ignore_missing", False)
        self._connector = connector

    async def process(self, request: Json, response: Json) -> Json:
        hits = response["hits"]["hits"]
        if not hits:
            return response
        query = _as_query_string(request)
        by_request = {name: path for name, path in self._inputs.items() if path.startswith("_request.")}
        by_document = {name: path for name, path in self._inputs.items() if name not in by_request}
        parameters: dict[str, Any] = {}
        for name, path in by_request.items():
            parameters[name] = _at(query, path.removeprefix("_request."))
            if parameters[name] is None:
                raise CallerError(f"IllegalArgumentException: Missing required input field in query body: {path}")
        having = [hit for hit in hits if all(hit["_source"].get(path) is not None for path in by_document.values())]
        if len(having) < len(hits) and not self._ignore_missing:
            raise CallerError("IllegalArgumentException: cannot find all required input fields")
        for hit in having:
            for name, path in by_document.items():
                parameters.setdefault(name, []).append(hit["_source"][path])
        as_texts = {name: value if isinstance(value, str) else gson(value) for name, value in parameters.items()}
        answer = await self._connector.predict(as_texts)
        for field, path in self._outputs.items():
            values = _read(answer, path)
            for place, hit in enumerate(having):
                hit["_source"].setdefault(field, values[place] if len(values) == len(having) else values)
        return response


class Pipeline:
    """A search pipeline over an engine that has found `hits`."""

    def __init__(self, definition: Json, connector: Connector) -> None:
        self._definition = definition
        self._connector = connector

    async def search(self, body: Json, hits: Sequence[Json]) -> Json:
        """The answer to a search. Raises CallerError where a processor fails that may not."""
        size = asked = body.get("size", DEFAULT_SIZE)
        for processor in self._definition["request_processors"]:
            size = math.ceil(size * processor["oversample"]["sample_factor"])
        found = copy.deepcopy(list(hits[:size]))
        response: Json = {"hits": {"total": {"value": len(hits)}, "hits": found}}
        for processor in self._definition["response_processors"]:
            ((kind, definition),) = processor.items()
            if kind == "truncate_hits":
                response["hits"]["hits"] = response["hits"]["hits"][:asked]
                continue
            before = copy.deepcopy(response)
            try:
                response = await self._processor(kind, definition).process(body, response)
            except CallerError:
                if not definition.get("ignore_failure"):
                    raise
                response = before
        return response

    def _processor(self, kind: str, definition: Json) -> MlOpenSearch | ByField | MlInference:
        if kind == "ml_inference":
            return MlInference(definition, self._connector)
        return ByField(definition) if "by_field" in definition else MlOpenSearch(definition, self._connector)


def _escaped(parameters: Mapping[str, str]) -> dict[str, str]:
    """escapeRemoteInferenceInputData: what looks like JSON is taken to be it."""
    return {name: value if _is_json(value) else escape_json(value) for name, value in parameters.items()}


def _is_json(value: str) -> bool:
    """Whether it is an object or an array (org.json would also take some that are not quite)."""
    try:
        return isinstance(json.loads(value), dict | list)
    except ValueError:
        return False


def _post_process_cohere(results: Sequence[Json]) -> list[float]:
    if not results or "index" not in results[0] or "relevance_score" not in results[0]:
        raise CallerError("IllegalArgumentException: The rerank result should contain index and relevance_score.")
    scores: list[float | None] = [None] * len(results)
    for result in results:
        place = cast_integer(result["index"])
        if not 0 <= place < len(scores):
            raise CallerError(f"ArrayIndexOutOfBoundsException: {place}")
        scores[place] = cast_double(result["relevance_score"])
    if None in scores:
        raise CallerError("NullPointerException: Number.floatValue()")
    return [to_float(score) for score in scores if score is not None]


def _resorted(response: Json, scores: Sequence[float]) -> Json:
    hits = response["hits"]["hits"]
    if len(hits) != len(scores):
        raise CallerError("IllegalStateException: scores and hits are not the same length")
    for hit, score in zip(hits, scores, strict=True):
        hit["_score"] = score
    hits.sort(key=lambda hit: -hit["_score"])
    if not hits:
        raise CallerError("ArrayIndexOutOfBoundsException: hits[0]")
    response["hits"]["max_score"] = hits[0]["_score"]
    return response


def _as_query_string(request: Json) -> Json:
    """The request as the engine writes it again: RerankSearchExtBuilder leaves its own name out of `ext`."""
    ext = request.get("ext", {})
    return {**request, "ext": {**{name: ext[name] for name in ext if name != "rerank"}, **ext.get("rerank", {})}}


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _read(answer: Json, path: str) -> list[Any]:
    """JsonPath of the form `name[*].key`: items without the key are left out, a null is kept."""
    name, _, key = path.partition("[*].")
    return [item[key] for item in answer[name] if key in item]
