"""Cohere's rerank API, version 2: `POST /v2/rerank`. Their SDK works against it unchanged."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, Field, StrictBool, StrictInt, StrictStr, ValidationInfo

from plugin_service.api.errors import Problem, shaped_route
from plugin_service.api.parts import PartsDep
from plugin_service.api.rerank import (
    MOST_DOCUMENTS,
    Additions,
    AsciiResponse,
    Count,
    Judgement,
    Query,
    RankFields,
    Result,
    Text,
    chosen,
    joined,
    judgement,
    rerank,
    spans,
)
from whyrank.types import Status

_DOCUMENTS_PER_UNIT = 100


def _document_text(document: object, info: ValidationInfo) -> object:
    """An object as YAML-like lines, which is how Cohere asks for structured data; a lone `text` as itself."""
    if not isinstance(document, dict):
        return joined(document)
    fields = chosen(document, info.data.get("rank_fields"))
    if set(fields) == {"text"}:
        return fields["text"]
    return "\n".join(f"{name}: {text}" for name, text in fields.items())


Document = Annotated[Text, BeforeValidator(_document_text, json_schema_input_type=str | list[str] | dict[str, Any])]


class RelevantSpans(BaseModel):
    """Whether and which spans of each document are wanted."""

    mode: Literal["enabled", "disabled"]
    threshold: float | None = Field(None, ge=0, le=1)
    max_spans: Count | None = None


class CohereRequest(Additions):
    """Cohere's request. `model` and `priority` are accepted and not used: one model is served."""

    model: StrictStr | None = None
    query: Query
    rank_fields: RankFields | None = Field(None, description="Fields of object documents to read, in this order.")
    documents: list[Document] = Field(min_length=1, max_length=MOST_DOCUMENTS)
    top_n: Count | None = None
    max_tokens_per_doc: Count | None = None
    return_documents: StrictBool | None = None
    relevant_spans: RelevantSpans | None = None
    priority: StrictInt | None = None


class CohereDocument(BaseModel):
    """The text of a document."""

    text: str


class CohereSpan(BaseModel):
    """A cited stretch of a document; the score is the document's."""

    start: int
    end: int
    score: float


class CohereRank(BaseModel):
    """One document as Cohere has it; `index` is its place in the request."""

    index: int
    relevance_score: float
    document: CohereDocument | None = None
    relevant_spans: list[CohereSpan] | None = None


class CohereResult(Judgement, CohereRank):
    """One document, with what we add."""


class CohereResponse(BaseModel):
    """Cohere's answer, with what was done to this request."""

    id: str
    results: list[CohereResult]
    meta: dict[str, Any]
    status: Status
    reason: str
    ranking_id: str | None


class CohereError(BaseModel):
    """Cohere's error."""

    message: str


def _render(problem: Problem) -> Response:
    # Cohere answers 400 to what does not validate
    return AsciiResponse({"message": problem.message}, 400 if problem.status == 422 else problem.status)


router = APIRouter(tags=["rerank"], route_class=shaped_route(_render))


@router.post(
    "/v2/rerank",
    response_class=AsciiResponse,
    response_model_exclude_unset=True,
    responses={
        400: {"model": CohereError},
        413: {"model": CohereError},
        422: {"model": CohereError},
        503: {"model": CohereError},
    },
)
async def cohere_rerank(body: CohereRequest, request: Request, response: Response, parts: PartsDep) -> CohereResponse:
    """Rerank documents, in the shape of Cohere's API (v2).

    Results are ordered by relevance (or as sent, with `order: "input"`), all of them unless `top_n` says
    otherwise. `relevant_spans` gives the stretches that the explanation cites.
    """
    answer = await rerank(
        parts,
        request,
        body,
        door="cohere",
        query=body.query,
        texts=body.documents,
        top_n=body.top_n,
        max_tokens=body.max_tokens_per_doc,
    )
    response.headers.update(answer.headers)
    return CohereResponse(
        id=answer.id,
        results=[_result(result, body) for result in answer.results],
        meta={
            "api_version": {"version": "2", "is_experimental": False},
            "billed_units": {"search_units": math.ceil(len(body.documents) / _DOCUMENTS_PER_UNIT)},
        },
        status=answer.ranking.status,
        reason=answer.ranking.reason,
        ranking_id=answer.ranking.ranking_id,
    )


def _result(result: Result, body: CohereRequest) -> CohereResult:
    fields = judgement(result, explain=body.explain)
    if body.return_documents:
        fields["document"] = CohereDocument(text=result.text)
    if body.relevant_spans is not None and body.relevant_spans.mode == "enabled":
        fields["relevant_spans"] = _spans(result, body.relevant_spans)
    return CohereResult.model_validate({"index": result.index, "relevance_score": result.score, **fields})


def _spans(result: Result, wanted: RelevantSpans) -> list[CohereSpan]:
    threshold = 0.1 if wanted.threshold is None else wanted.threshold
    if result.score <= threshold:
        return []
    found = [
        CohereSpan(start=span.start, end=span.end, score=result.score)
        for span in spans(result)
        if span.start is not None and span.end is not None
    ]
    return found[: wanted.max_spans]
