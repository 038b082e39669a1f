"""Ranking bare texts, as the rerank APIs send them: any number, split into windows and rejoined."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from plugin_service.rescoring.assemble import settled
from plugin_service.rescoring.hits import TEXT_FIELD, text_fields
from plugin_service.rescoring.rescorer import RankRequest, Rescorer
from plugin_service.rescoring.word_fragments import WordFragments
from whyrank.passages import content_hash
from whyrank.ranking import fuse
from whyrank.types import Candidate, Mode, Policy, RankedHit, Ranking, Status

WINDOW = 100
"""Texts per ranking: bounds what one round trip to the stores carries."""

_SEVERITY = (Status.WARMING, Status.SHED, Status.FAILED)


class TextsRequest(msgspec.Struct, frozen=True):
    """Texts to be ranked for a query. `passage_tokens` is the budget of each text, `deadline_ms` that of all."""

    query: str
    texts: tuple[str, ...]
    search_id: str
    mode: Mode
    deadline_ms: int
    passage_tokens: int
    tenant: str = "default"
    most_queued: int = 1_000
    """Pairs of this request that may wait to be judged at once, 1 or more; further ones wait for their turn here."""


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
    by side, as many as `most_queued` has room for, so that a request of any size neither fills the queue for everyone
    else nor is shed for its own size. They are rejoined by the same rule that orders one: judged texts among the places
    that judged texts hold, every other text where it was.

    What has not had its turn by the deadline is left to the background queue, and is in the cache next time.
    """
    size = min(WINDOW, request.most_queued)
    policy = Policy(
        index="texts",
        fields=(TEXT_FIELD,),
        window=size,
        deadline_ms=request.deadline_ms,
        mode=request.mode,
        passage_tokens=request.passage_tokens,
    )
    ends = time.monotonic() + request.deadline_ms / 1000
    at_once = request.most_queued // size
    turns = asyncio.Semaphore(at_once)

    async def ranked(start: int) -> Ranking:
        async with turns:
            left_ms = max(0, round((ends - time.monotonic()) * 1000))
            window = RankRequest(
                query=request.query,
                candidates=_candidates(request.texts[start : start + size], start),
                policy=policy,
                search_id=request.search_id,
                deadline_ms=left_ms,
                tenant=request.tenant,
                ordered=False,
                awaited=left_ms > 0 or start < at_once * size,
            )
            return await rescorer.rank(window, WordFragments())

    rankings = await asyncio.gather(*(ranked(start) for start in range(0, len(request.texts), size)))
    if len(rankings) == 1:
        only = rankings[0]
        return TextsRanking(only.hits, only.status, only.reason, only.id)
    joined = replace(rankings[0], hits=_joined_hits(rankings))
    status, reason = _joined_status(rankings, joined, f"within {request.deadline_ms} ms")
    return TextsRanking(joined.hits, status, reason, None)


def _candidates(texts: Sequence[str], start: int) -> tuple[Candidate, ...]:
    candidates = []
    for position, text in enumerate(texts, start):
        fields = text_fields(text)
        candidates.append(Candidate(id=str(position), index="", fields=fields, content_hash=content_hash(fields)))
    return tuple(candidates)


def _joined_hits(rankings: Sequence[Ranking]) -> tuple[RankedHit, ...]:
    hits = [replace(hit, engine_position=int(hit.id)) for ranking in rankings for hit in ranking.hits]
    return fuse(sorted(hits, key=lambda hit: hit.engine_position), rankings[0].weights)


def _joined_status(rankings: Sequence[Ranking], joined: Ranking, late: str) -> tuple[Status, str]:
    """As if it had been one ranking; where some were cut short, the worst of what they say."""
    cut_short = [ranking for ranking in rankings if ranking.status is not settled(ranking, late)[0]]
    if not cut_short:
        return settled(joined, late)
    worst = max(cut_short, key=lambda ranking: _SEVERITY.index(ranking.status))
    if worst.status is Status.FAILED and joined.judged:
        return Status.PARTIAL, worst.reason
    return worst.status, worst.reason
