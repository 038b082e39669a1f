"""A ranking by its id, and its verdicts as they land. Who was not given the id cannot read it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from plugin_service.api.errors import ErrorBody, own_error, problem_of
from plugin_service.api.parts import Parts, PartsDep
from plugin_service.api.policies import Weights
from plugin_service.api.views import HitStatus, explanation_of, label_of, quotes_of, status_of
from whyrank.errors import NotFoundError, WhyRankError
from whyrank.types import Mode, RankedHit, Ranking, Status

_FOLLOW_S = 120.0
"""Longest time one stream follows a ranking; then it ends with what has landed."""
_PING_S = 15.0
_SEND_S = 30.0
"""A reader that takes nothing for this long is gone."""
_RETRY_MS = 1_000
_NEWLINE = "\n"
_PRIVATE = {"Cache-Control": "private, no-store"}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody}, 503: {"model": ErrorBody}}

router = APIRouter(prefix="/v1/rankings", tags=["rankings"])


class QuoteView(BaseModel):
    """Words of the document. `start` and `end` are character offsets into the passage that the model read."""

    text: str
    start: int | None
    end: int | None


class HitView(BaseModel):
    """One hit. Positions count from 0; `move` is how many places it rose (negative: fell)."""

    id: str
    index: str
    position: int
    engine_position: int
    move: int
    engine_score: float | None
    score: float | None
    status: HitStatus
    failure: str | None
    relevance: float | None
    similarity: float | None
    """Cosine of query and passage by the bi-encoder; null where it is not known."""
    label: int | None
    label_probabilities: tuple[float, float, float] | None
    grounded: bool
    """Whether the explanation's quotes stand in the document; if not, it is withheld."""
    explanation: str | None
    quotes: list[QuoteView]
    truncated: bool


class RankingView(BaseModel):
    """The order given to one search. `created` is in seconds since the epoch."""

    id: str
    query: str
    mode: Mode
    model_revision: str
    status: Status
    reason: str
    created: float
    weights: Weights
    judged: int
    missing: int
    hits: list[HitView]


def view_hit(hit: RankedHit, position: int) -> HitView:
    """The hit as callers see it, at this position of its ranking."""
    verdict = hit.verdict
    return HitView(
        id=hit.id,
        index=hit.index,
        position=position,
        engine_position=hit.engine_position,
        move=hit.engine_position - position,
        engine_score=hit.engine_score,
        score=hit.score,
        status=status_of(hit),
        failure=None if hit.failure is None else hit.failure.kind.value,
        relevance=None if verdict is None else verdict.relevance,
        similarity=None if verdict is None else verdict.similarity,
        label=label_of(hit),
        label_probabilities=None if verdict is None else verdict.label_probabilities,
        grounded=verdict is not None and verdict.grounded,
        explanation=explanation_of(hit),
        quotes=[QuoteView(text=quote.text, start=quote.start, end=quote.end) for quote in quotes_of(hit)],
        truncated=hit.truncated,
    )


def view_ranking(ranking: Ranking) -> RankingView:
    """The ranking as callers see it."""
    return RankingView(
        id=ranking.id,
        query=ranking.query,
        mode=ranking.mode,
        model_revision=ranking.model_revision,
        status=ranking.status,
        reason=ranking.reason,
        created=ranking.created,
        weights=Weights.model_validate(ranking.weights, from_attributes=True),
        judged=ranking.judged,
        missing=ranking.missing,
        hits=[view_hit(hit, position) for position, hit in enumerate(ranking.hits)],
    )


@dataclass
class Cursor:
    """What a reader of a stream has: the hits sent (a bit for each engine position) and whether the order was.

    It travels as the id of each event, so that any sidecar can resume a stream from `Last-Event-ID` alone.
    """

    sent: int = 0
    ordered: bool = False

    END = "end"
    _FORM = re.compile(r"([0-9a-f]{1,64})(-order)?")

    @classmethod
    def parse(cls, event_id: str) -> Cursor:
        """The cursor behind an event's id; anything else starts from the beginning."""
        found = cls._FORM.fullmatch(event_id)
        return cls(int(found[1], 16), found[2] is not None) if found else cls()

    def take(self, hit: RankedHit) -> bool:
        """Mark the hit as sent; False if it was already."""
        bit = 1 << hit.engine_position
        new = not self.sent & bit
        self.sent |= bit
        return new

    def __str__(self) -> str:
        return f"{self.sent:x}{'-order' if self.ordered else ''}"


@router.get("/{ranking_id}", responses=_UNKNOWN)
async def ranking(ranking_id: str, parts: PartsDep, response: Response) -> RankingView:
    """The ranking in the order that was answered, with every verdict that has landed since."""
    response.headers.update(_PRIVATE)
    return view_ranking(await _find(parts, ranking_id))


@router.get(
    "/{ranking_id}/events",
    response_class=EventSourceResponse,
    responses={**_UNKNOWN, 200: {"content": {"text/event-stream": {}}}, 204: {"description": "All has been sent."}},
)
async def events(
    ranking_id: str, parts: PartsDep, last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = ""
) -> Response:
    """Server-sent events of a ranking.

    `verdict`: a hit whose verdict or failure landed (a HitView; `position` is the one it was answered at).
    `order`: the final RankingView, under a new id if its order differs from the one answered.
    `end`: nothing follows; the reader closes (a reconnecting one is told so by 204).
    `fault`: the stream broke (an ErrorBody); a reader that reconnects goes on where it was.

    Every event has an id; with `Last-Event-ID` no event is lost or repeated.
    """
    found = await _find(parts, ranking_id)
    if last_event_id == Cursor.END:
        return Response(status_code=204)
    return _Events(
        _stream(parts, found, Cursor.parse(last_event_id)),
        headers=_PRIVATE,
        ping=_PING_S,
        sep=_NEWLINE,
        send_timeout=_SEND_S,
    )


class _Events(EventSourceResponse):
    """A stream that the server's end cuts short is ended in good form: its reader reconnects, elsewhere."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        if self.active:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _find(parts: Parts, ranking_id: str) -> Ranking:
    found = await parts.rescorer.load(ranking_id) if parts.ids.check(ranking_id) else None
    if found is None:
        raise NotFoundError("ranking_id", "there is no such ranking, or it has expired")
    return found


async def _stream(parts: Parts, ranking: Ranking, cursor: Cursor) -> AsyncIterator[ServerSentEvent]:
    positions = {hit.engine_position: position for position, hit in enumerate(ranking.hits)}
    following = parts.rescorer.follow(ranking, _FOLLOW_S)
    parts.metrics.stream(+1)
    try:
        if not cursor.ordered:
            async for news in following:
                if isinstance(news, Ranking):
                    cursor.ordered = True
                    yield _event("order", str(cursor), view_ranking(news))
                elif cursor.take(news):
                    yield _event("verdict", str(cursor), view_hit(news, positions[news.engine_position]))
        yield ServerSentEvent("{}", event="end", id=Cursor.END, sep=_NEWLINE)
    except WhyRankError as error:
        # the status line is long gone: the stream itself has to say it
        yield ServerSentEvent(
            bytes(own_error(problem_of(error)).body).decode(), event="fault", retry=_RETRY_MS, sep=_NEWLINE
        )
    finally:
        parts.metrics.stream(-1)
        # a reader that left while an event was being sent leaves the generator suspended: end it now
        if isinstance(following, AsyncGenerator):
            await following.aclose()


def _event(name: str, event_id: str, data: BaseModel) -> ServerSentEvent:
    return ServerSentEvent(data.model_dump_json(), event=name, id=event_id, retry=_RETRY_MS, sep=_NEWLINE)
