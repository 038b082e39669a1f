"""Verdicts in the cache for every hit of some searches, so that the cost of a cached search can be measured alone.

They are written by the workers' own code under the keys that the sidecar will look up. What they say is made up:
the words of a typical explanation, with a sentence of the passage as its quote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import httpx

from plugin_service.adapters.announcements import RedisAnnouncements
from plugin_service.adapters.leases import Leases
from plugin_service.adapters.model_status import PolledModelStatus
from plugin_service.adapters.redis_link import RedisLink
from plugin_service.adapters.redis_store import RedisRankingStore, RedisVerdictCache
from plugin_service.rescoring.ports import Admission, JobRequest
from plugin_service.rescoring.rescorer import RankRequest, Rescorer
from plugin_service.rescoring.search_request import Plan, plan
from plugin_service.rescoring.search_response import parse
from whyrank.settings import Settings
from whyrank.types import Mode, Pair, Policy, Quote, Verdict


class Writer:
    """Port JobQueue: a verdict for each pair, at once."""

    def __init__(self, link: RedisLink, ttl_s: int) -> None:
        self._leases = Leases(link)
        self._ttl_s = ttl_s
        self.written = 0

    async def submit(self, request: JobRequest) -> Admission:
        for pair in request.pairs:
            await self._leases.land(pair.key, made_up(pair, request.mode, request.model_revision), self._ttl_s)
            self.written += 1
        return Admission.ACCEPTED


def made_up(pair: Pair, mode: Mode, revision: str) -> Verdict:
    """A verdict whose relevance is the key's hash, so that every window is reordered."""
    share = int.from_bytes(hashlib.blake2b(pair.key.encode(), digest_size=2).digest()) / 65535
    text = pair.passage.text
    quote = text[: max(40, text.find(". "))][:160]
    return Verdict(
        label=round(share * 2),
        label_probabilities=(1 - share, 0.0, share),
        relevance=share,
        explanation=f'The document states "{quote}".',
        quotes=(Quote(quote, 0, len(quote)),),
        grounded=True,
        mode=mode,
        model_revision=revision,
    )


async def fill(settings: Settings, policy: Policy, bodies: Iterable[bytes]) -> int:
    """Write the verdicts of all hits that these searches find; gives how many."""
    link = RedisLink(settings.redis_url.get_secret_value(), 5.0)
    writer = Writer(link, settings.verdict_ttl_s)
    model = PolledModelStatus(settings)
    await model.start()
    rescorer = Rescorer(
        cache=RedisVerdictCache(link),
        announcements=RedisAnnouncements(link),  # not started: nobody waits for what is written here
        jobs=writer,
        rankings=RedisRankingStore(link, settings.ranking_ttl_s),
        model=model,
        new_id=lambda: "filling",
    )
    async with httpx.AsyncClient(base_url=settings.engine_url) as engine:
        for body in bodies:
            planned = plan(body, {}, policy)
            if not isinstance(planned, Plan):
                raise TypeError(f"not rescorable: {planned.reason}: {body!r}")
            headers = {"Content-Type": "application/json"}
            answer = await engine.post(f"/{policy.index}/_search", content=planned.body, headers=headers)
            found = parse(answer.content, planned, policy)
            await rescorer.rank(RankRequest(planned.query, found.candidates, policy, "fill", deadline_ms=0))
    await rescorer.close()
    await model.stop()
    await link.close()
    return writer.written
