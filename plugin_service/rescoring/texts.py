"""Ranking bare texts, as the rerank APIs send them: any number, split into windows and rejoined."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from plugin_service.rescoring.rescorer import RankRequest, Rescorer
from whyrank.passages import content_hash
from whyrank.ranking import fuse
from whyrank.types import Candidate, Fragment, Mode, Policy, RankedHit, Ranking, Status

WINDOW = 100
"""Texts per ranking: bounds what one round trip to the stores carries."""

FIELD = "text"
_SEVERITY = (Status.COMPLETE, Status.PENDING, Status.PARTIAL, Status.WARMING, Status.SHED, Status.FAILED)


class TextsRequest(msgspec.Struct, frozen=True):
    """Texts to be ranked for a query. `passage_tokens` is the budget of each text, `deadline_ms` that of all."""

    query: str
    texts: tuple[str, ...]
    search_id: str
    mode: Mode
    deadline_ms: int
    passage_tokens: int
    tenant: str = "default"


class TextsRanking(msgspec.Struct, frozen=True):
    """The order of the texts: a hit's `engine_position` is the text's position in the request."""

    hits: tuple[RankedHit, ...]
    status: Status
    reason: str
    ranking_id: str | None
    """None when the texts were more than one window: there is then no single ranking to follow."""


async def rank_texts(rescorer: Rescorer, request: TextsRequest) -> TextsRanking:
    """Rank the texts within the deadline; like `Rescorer.rank`, it never raises.

    These callers send no engine score, and any order: the model's other signals alone decide. Windows are ranked side
    by side, and rejoined by the same rule that orders one: judged texts among the places that judged texts hold, every
    other text where it was.
    """
    policy = Policy(
        index="texts",
        fields=(FIELD,),
        window=WINDOW,
        deadline_ms=request.deadline_ms,
        mode=request.mode,
        passage_tokens=request.passage_tokens,
    )
    rankings = await asyncio.gather(
        *(
            rescorer.rank(
                RankRequest(
                    query=request.query,
                    candidates=_candidates(request.texts[start : start + WINDOW], start),
                    policy=policy,
                    search_id=request.search_id,
                    tenant=request.tenant,
                    ordered=False,
                )
            )
            for start in range(0, len(request.texts), WINDOW)
        )
    )
    if len(rankings) == 1:
        only = rankings[0]
        return TextsRanking(only.hits, only.status, only.reason, only.id)
    status, reason = _joined_status(rankings)
    return TextsRanking(_joined_hits(rankings), status, reason, None)


def _candidates(texts: Sequence[str], start: int) -> tuple[Candidate, ...]:
    candidates = []
    for position, text in enumerate(texts, start):
        fields = (Fragment(FIELD, text),) if text.strip() else ()
        candidates.append(Candidate(id=str(position), index="", fields=fields, content_hash=content_hash(fields)))
    return tuple(candidates)


def _joined_hits(rankings: Sequence[Ranking]) -> tuple[RankedHit, ...]:
    hits = [replace(hit, engine_position=int(hit.id)) for ranking in rankings for hit in ranking.hits]
    return fuse(sorted(hits, key=lambda hit: hit.engine_position), rankings[0].weights)


def _joined_status(rankings: Sequence[Ranking]) -> tuple[Status, str]:
    worst = max(rankings, key=lambda ranking: _SEVERITY.index(ranking.status))
    unordered = worst.status in (Status.PENDING, Status.FAILED)
    if unordered and any(ranking.judged for ranking in rankings):
        return Status.PARTIAL, worst.reason
    return worst.status, worst.reason
