"""The rerank API of Hugging Face's Text Embeddings Inference: `POST /rerank`."""

from __future__ import annotations

import math

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, StrictBool

from plugin_service.api.errors import Problem, shaped_route
from plugin_service.api.parts import PartsDep
from plugin_service.api.rerank import (
    DECIMALS,
    MOST_DOCUMENTS,
    Additions,
    AsciiResponse,
    Judgement,
    Query,
    Text,
    judgement,
    rerank,
)

_CLIP = 1e-9
_ERROR_TYPES = {429: "overloaded", 503: "unhealthy", 500: "backend", 502: "backend"}


class TeiRequest(Additions):
    """TEI's request. `truncate` is accepted and not used: long texts are always cut, and the result says so."""

    query: Query
    texts: list[Text] = Field(min_length=1, max_length=MOST_DOCUMENTS)
    raw_scores: StrictBool = Field(False, description="Scores as log-odds, whose sigmoid is the score in [0, 1].")
    return_text: StrictBool = False
    truncate: StrictBool | None = None


class TeiRank(BaseModel):
    """One text as TEI has it; `index` is its place in the request."""

    index: int
    score: float
    text: str | None = None


class TeiResult(Judgement, TeiRank):
    """One text, with what we add."""


class TeiError(BaseModel):
    """TEI's error."""

    error: str
    error_type: str


def _render(problem: Problem) -> Response:
    """413 for a batch that is too large in texts or bytes, 422 for what does not validate."""
    too_large = problem.type == "too_long" or problem.status == 413
    status = 413 if too_large else 422 if problem.status == 400 else problem.status
    error_type = _ERROR_TYPES.get(status, "validation")
    return AsciiResponse({"error": problem.message, "error_type": error_type}, status)


router = APIRouter(tags=["rerank"], route_class=shaped_route(_render))


@router.post(
    "/rerank",
    response_class=AsciiResponse,
    response_model_exclude_unset=True,
    responses={413: {"model": TeiError}, 422: {"model": TeiError}, 503: {"model": TeiError}},
)
async def tei_rerank(body: TeiRequest, request: Request, response: Response, parts: PartsDep) -> list[TeiResult]:
    """Rerank texts, in the shape of Text Embeddings Inference.

    The answer is a bare list, so its status and reason are in the headers X-WhyRank-Status and
    X-WhyRank-Reason. TEI's 429 `overloaded` is never answered: a full queue gives the texts in their order
    with status `shed`, because a caller that gets an order can go on, and one that gets 429 can only retry
    into the same queue.
    """
    answer = await rerank(parts, request, body, door="tei", query=body.query, texts=body.texts)
    response.headers.update(answer.headers)
    results = []
    for result in answer.results:
        fields = judgement(result, explain=body.explain)
        if body.return_text:
            fields["text"] = result.text
        score = _log_odds(result.score) if body.raw_scores else result.score
        results.append(TeiResult.model_validate({"index": result.index, "score": score, **fields}))
    return results


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, _CLIP), 1 - _CLIP)
    return round(math.log(clipped / (1 - clipped)), DECIMALS)
