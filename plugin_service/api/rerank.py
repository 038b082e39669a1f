"""What the three rerank APIs share: the fields we add to their requests and results, and the way in between.

Each API's own shape is in `rerank_cohere.py`, `rerank_jina.py` and `rerank_tei.py`.

None of them fails because of WhyRank. While the model is warming, the queue is full or the deadline passes,
the answer is 200 with every document, in the caller's order as far as it is unjudged, and says so in
`status` and `reason` and in the headers X-WhyRank-Status and X-WhyRank-Reason. Only who asks for it by
`incomplete: "error"` gets a 503 instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote as percent

import structlog
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from plugin_service.api.parts import Parts
from plugin_service.api.views import HitStatus, explanation_of, label_of, quotes_of, status_of
from plugin_service.rescoring.texts import TextsRanking, TextsRequest, rank_texts
from whyrank.errors import BadRequestError
from whyrank.ranking import scores_for_callers
from whyrank.types import Mode, RankedHit, Status

log = structlog.get_logger(__name__)

MOST_DOCUMENTS = 10_000
DECIMALS = 9
"""Of every score: finer than the step between two of them, and short. ml-commons reads numbers by json-smart, which
makes a BigDecimal of more than 18 characters, and then casts it to Double: such a score would fail the caller."""
_LEAST_TOKENS = 16
_QUEUE_SHARE = 2
"""One request may hold a half of the interactive queue."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text


def mended(text: object) -> object:
    """JSON can carry half a surrogate pair, as of an emoji cut in two; that must not cost the caller the answer."""
    if not isinstance(text, str) or text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def joined(document: object) -> object:
    """The lines of a field with several values, which ml-commons' `ml_inference` sends as an array."""
    if isinstance(document, list) and document and all(isinstance(value, str) for value in document):
        return "\n".join(document)
    return document


def chosen(document: dict[str, Any], rank_fields: Sequence[str] | None) -> dict[str, str]:
    """The fields of an object that are to be read, in the order asked for, other values than texts as JSON.

    Raises PydanticCustomError where it has none of them.
    """
    names = document if rank_fields is None else [name for name in rank_fields if name in document]
    if not names:
        raise PydanticCustomError("no_field", "has none of the fields to be read")
    return {
        name: value if isinstance(value := document[name], str) else json.dumps(value, ensure_ascii=False)
        for name in names
    }


Text = Annotated[StrictStr, BeforeValidator(mended)]
Query = Annotated[Text, AfterValidator(_not_blank)]
Count = Annotated[StrictInt, Field(ge=1)]
RankFields = Annotated[list[StrictStr], Field(min_length=1, max_length=32)]


class AsciiResponse(JSONResponse):
    """JSON in ASCII alone: ml-commons decodes what it receives piece by piece, and a letter of several bytes that is
    cut in two would reach the user as two signs of replacement."""

    def render(self, content: Any) -> bytes:
        """The content as compact JSON."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Additions(BaseModel):
    """Fields that WhyRank adds to every rerank request; all are optional."""

    model_config = ConfigDict(extra="ignore")

    explain: StrictBool = Field(True, description="Give explanations and quotes.")
    deadline_ms: StrictInt | None = Field(None, ge=0, description="Answer within this, judged or not; milliseconds.")
    order: Literal["relevance", "input"] = Field(
        "relevance", description="`input`: one result per document, in the order sent."
    )
    mode: Mode | None = Field(None, description="`reason` explains, then labels; `label` is faster and weaker.")
    incomplete: Literal["order", "error"] = Field(
        "order",
        description="`error`: 503 while verdicts are missing, for a caller that then keeps an order of its own which "
        "is not the order sent. A single document is always answered.",
    )


class QuoteSpan(BaseModel):
    """Words of the document that the explanation cites; `start` and `end` are character offsets into it."""

    text: str
    start: int | None
    end: int | None


class Judgement(BaseModel):
    """Fields that WhyRank adds to every result. `explanation` and `quotes` are there unless `explain` is false."""

    status: HitStatus
    label: int | None
    truncated: bool = Field(description="The model read only a part of the document.")
    explanation: str | None = Field(None, description="Null without a verdict, or where its quotes do not hold.")
    quotes: list[QuoteSpan] = Field([])


@dataclass(frozen=True)
class Result:
    """One document in the answer's order."""

    index: int
    score: float
    text: str
    hit: RankedHit


@dataclass(frozen=True)
class Answer:
    """What the shapes make their answers of. `status` and `reason` cover all documents, whatever `top_n`."""

    id: str
    results: list[Result]
    ranking: TextsRanking

    @property
    def headers(self) -> dict[str, str]:
        """Status and reason for callers whose shape has no room for them."""
        said = self.ranking
        headers = {"X-WhyRank-Status": said.status.value, "X-WhyRank-Reason": percent(said.reason, " :,()")}
        if said.ranking_id is not None:
            headers["X-WhyRank-Ranking"] = said.ranking_id
        return headers


async def rerank(
    parts: Parts,
    request: Request,
    asked: Additions,
    *,
    door: str,
    query: str,
    texts: Sequence[str],
    top_n: int | None = None,
    max_tokens: int | None = None,
) -> Answer:
    """Rank `texts`. `max_tokens` can lower the budget of tokens per text, not raise it above the setting.

    Raises BadRequestError if the deadline asked for is longer than the setting allows, and HTTPException (503) if the
    caller would rather have that than an order that is not complete.
    """
    settings = parts.settings
    if asked.deadline_ms is not None and asked.deadline_ms > settings.max_deadline_ms:
        raise BadRequestError("deadline_ms", f"must be at most {settings.max_deadline_ms}")
    budget = settings.rerank_passage_tokens
    search_id: str = request.scope["whyrank.request_id"]
    ranking = await rank_texts(
        parts.rescorer,
        TextsRequest(
            query=query,
            texts=tuple(texts),
            search_id=search_id,
            mode=asked.mode or Mode(settings.rerank_mode),
            deadline_ms=settings.rerank_deadline_ms if asked.deadline_ms is None else asked.deadline_ms,
            passage_tokens=budget if max_tokens is None else max(_LEAST_TOKENS, min(budget, max_tokens)),
            tenant=_tenant(parts, request),
            most_queued=max(1, settings.queue_limit // _QUEUE_SHARE),
        ),
    )
    parts.metrics.search(door, ranking.status.value, ranking.reason)
    log.info("reranked", door=door, documents=len(texts), status=ranking.status.value, reason=ranking.reason)
    if asked.incomplete == "error" and len(texts) > 1 and not _settled(ranking):
        raise HTTPException(503, ranking.reason)
    results = [
        Result(hit.engine_position, round(score, DECIMALS), texts[hit.engine_position], hit)
        for hit, score in zip(ranking.hits, scores_for_callers(ranking.hits), strict=True)
    ][:top_n]
    if asked.order == "input":
        results.sort(key=lambda result: result.index)
    return Answer(search_id, results, ranking)


def judgement(result: Result, *, explain: bool) -> dict[str, object]:
    """The fields of `Judgement` of one result."""
    hit = result.hit
    fields: dict[str, object] = {"status": status_of(hit), "label": label_of(hit), "truncated": hit.truncated}
    if explain:
        # always present: callers that read `results[*].explanation` by position must not lose one
        fields["explanation"] = explanation_of(hit)
        fields["quotes"] = spans(result)
    return fields


def spans(result: Result) -> list[QuoteSpan]:
    """The quotes of a shown explanation, found again in the document itself (offsets null if it is not there)."""
    found = []
    for cited in quotes_of(result.hit):
        start = result.text.find(cited.text)
        known = start >= 0
        found.append(
            QuoteSpan(text=cited.text, start=start if known else None, end=start + len(cited.text) if known else None)
        )
    return found


def _settled(ranking: TextsRanking) -> bool:
    """Whether everything that can be judged has been."""
    missing = any(hit.key is not None and hit.verdict is None and hit.failure is None for hit in ranking.hits)
    return not missing and ranking.status in (Status.COMPLETE, Status.PARTIAL)


def _tenant(parts: Parts, request: Request) -> str:
    header = parts.settings.tenant_header
    return request.headers.get(header, "default") if header else "default"
