"""Jina's rerank API: `POST /v1/rerank`. vLLM, Infinity and Elasticsearch's `custom` service speak it too."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, Field, StrictBool, StrictStr, ValidationInfo
from pydantic_core import PydanticCustomError

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
    Text,
    chosen,
    joined,
    judgement,
    rerank,
)
from whyrank.passages import estimate_tokens
from whyrank.types import Status


class JinaDocument(BaseModel):
    """A document as an object."""

    text: StrictStr


def _document_text(document: object, info: ValidationInfo) -> object:
    """An object's `text`; with `rank_fields` (Cohere's first API, which is sent here), the values of those."""
    if not isinstance(document, dict):
        return joined(document)
    rank_fields = info.data.get("rank_fields")
    if rank_fields is not None:
        return "\n".join(chosen(document, rank_fields).values())
    if "text" not in document:
        raise PydanticCustomError("text_missing", "a document must be a string or an object with `text`")
    return document["text"]


Document = Annotated[
    Text, BeforeValidator(_document_text, json_schema_input_type=str | list[str] | JinaDocument | dict[str, Any])
]


class JinaRequest(Additions):
    """Jina's request. `model` is accepted and not used: one model is served."""

    model: StrictStr | None = None
    query: Query
    rank_fields: RankFields | None = Field(None, description="Fields of object documents to read, in this order.")
    documents: list[Document] = Field(min_length=1, max_length=MOST_DOCUMENTS)
    top_n: Count | None = None
    return_documents: StrictBool | None = Field(None, description="Documents are returned unless it is false.")


class JinaRank(BaseModel):
    """One document as Jina has it; `index` is its place in the request."""

    index: int
    relevance_score: float
    document: JinaDocument | None = None


class JinaResult(Judgement, JinaRank):
    """One document, with what we add."""


class JinaUsage(BaseModel):
    """Tokens of the query and the documents, estimated from their length."""

    prompt_tokens: int
    total_tokens: int


class JinaResponse(BaseModel):
    """Jina's answer, with what was done to this request."""

    id: str
    model: str
    results: list[JinaResult]
    usage: JinaUsage
    status: Status
    reason: str
    ranking_id: str | None


class JinaError(BaseModel):
    """Jina's error."""

    detail: str


def _render(problem: Problem) -> Response:
    return AsciiResponse({"detail": problem.message}, problem.status)


router = APIRouter(tags=["rerank"], route_class=shaped_route(_render))


@router.post(
    "/v1/rerank",
    response_class=AsciiResponse,
    response_model_exclude_unset=True,
    responses={
        400: {"model": JinaError},
        413: {"model": JinaError},
        422: {"model": JinaError},
        503: {"model": JinaError},
    },
)
async def jina_rerank(body: JinaRequest, request: Request, response: Response, parts: PartsDep) -> JinaResponse:
    """Rerank documents, in the shape of Jina's API.

    Results are ordered by relevance (or as sent, with `order: "input"`), all of them unless `top_n` says
    otherwise.
    """
    answer = await rerank(parts, request, body, door="jina", query=body.query, texts=body.documents, top_n=body.top_n)
    response.headers.update(answer.headers)
    results = []
    for result in answer.results:
        fields = judgement(result, explain=body.explain)
        if body.return_documents is not False:
            fields["document"] = JinaDocument(text=result.text)
        results.append(JinaResult.model_validate({"index": result.index, "relevance_score": result.score, **fields}))
    tokens = sum(map(estimate_tokens, (body.query, *body.documents)))
    return JinaResponse(
        id=answer.id,
        model=parts.settings.model_name,
        results=results,
        usage=JinaUsage(prompt_tokens=tokens, total_tokens=tokens),
        status=answer.ranking.status,
        reason=answer.ranking.reason,
        ranking_id=answer.ranking.ranking_id,
    )
