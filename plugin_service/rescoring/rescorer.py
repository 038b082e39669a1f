"""The one use case behind all doors: a query and candidates in, a ranking out, whatever happens.

The way of a search is drawn in docs/architecture.md. `rank` never raises and never waits longer than
the deadline (plus one bounded round trip to the stores): if anything is missing, late or broken, the
engine's order stands and the ranking says why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec
import structlog
from msgspec.structs import replace

from plugin_service.rescoring.assemble import engine_hits, fused, order, settled, with_outcome
from plugin_service.rescoring.background import Background
from plugin_service.rescoring.keeper import RankingKeeper
from plugin_service.rescoring.observer import NullObserver, Observer
from plugin_service.rescoring.outcomes import Outcomes
from plugin_service.rescoring.ports import (
    Admission,
    Announcements,
    FragmentSource,
    JobQueue,
    JobRequest,
    ModelInfo,
    ModelStatus,
    RankingStore,
    VerdictCache,
)
from plugin_service.rescoring.shadow import Shadow
from whyrank.errors import EngineError, StoreUnavailableError
from whyrank.keys import PairKeys
from whyrank.passages import fit, needs_fragments
from whyrank.types import Candidate, FusionWeights, Mode, Pair, Policy, Priority, RankedHit, Ranking, Status

log = structlog.get_logger(__name__)

FRAGMENT_CHARS = 300
"""Size of one highlighter fragment: about two sentences, the unit in which evidence is cited."""


class RankRequest(msgspec.Struct, frozen=True):
    """One search to be ranked. `candidates` are in engine order, at most the policy's window."""

    query: str
    candidates: tuple[Candidate, ...]
    policy: Policy
    search_id: str
    deadline_ms: int | None = None
    """None: the policy's."""
    mode: Mode | None = None
    """None: the policy's."""
    tenant: str = "default"
    ranking_id: str | None = None
    """Set for a page of a known ranking: its order is kept."""
    pin: str | None = None
    """Names a paging session, so that later pages find this ranking without its id."""
    follow_pin: bool = False
    """True for pages after the first: keep the order of the session's newest ranking, if there is one."""
    ordered: bool = True
    """False: the candidates' order says nothing, so that the engine's signal has no weight."""
    awaited: bool = True
    """False: nobody waits for the verdicts, so that missing ones go to the background queue."""

    def weights(self, of_model: FusionWeights) -> FusionWeights:
        """What the signals weigh here: the policy's weights, else the model's, without what is switched off."""
        given = self.policy.weights or of_model
        return replace(
            given,
            engine=given.engine if self.ordered else 0.0,
            similarity=given.similarity if self.policy.similarity else 0.0,
        )


class _Work(msgspec.Struct, frozen=True):
    """A request resolved against the served model."""

    request: RankRequest
    mode: Mode
    model: ModelInfo
    keys: tuple[str | None, ...]
    """Aligned with the candidates; None where there is no text to judge."""
    deadline_s: float
    started: float

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.deadline_s - (time.monotonic() - self.started))


class Rescorer:
    """Ranks candidates by the model's verdicts.

    `new_id` makes unguessable, signed ranking ids. `stale_after_s` is how long after its deadline a job
    still counts as interactive: its explanations are being waited for on the search page by then.
    """

    def __init__(
        self,
        *,
        cache: VerdictCache,
        announcements: Announcements,
        jobs: JobQueue,
        rankings: RankingStore,
        model: ModelStatus,
        new_id: Callable[[], str],
        stale_after_s: float = 30.0,
        observer: Observer | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        self._cache = cache
        self._announcements = announcements
        self._jobs = jobs
        self._model = model
        self._new_id = new_id
        self._stale_after_s = stale_after_s
        self._observer = observer or NullObserver()
        self._shadow = shadow
        self._background = Background()
        self._keeper = RankingKeeper(rankings, cache, self._background)

    async def rank(self, request: RankRequest, source: FragmentSource | None = None) -> Ranking:
        """Rank the candidates within the deadline. Never raises (but for cancellation)."""
        started = time.perf_counter()
        try:
            known = await self._known_ranking(request)
            ranking = self._page_of(known, request) if known else await self._judge(request, source)
        except StoreUnavailableError as error:
            ranking = self.unranked(request, Status.FAILED, f"store_unavailable: {error}")
        except Exception as error:
            log.exception("rank_failed", search_id=request.search_id)
            ranking = self.unranked(request, Status.FAILED, f"internal_error: {type(error).__name__}")
        self._observer.stage("rank", time.perf_counter() - started)
        return ranking

    def unranked(self, request: RankRequest, status: Status, reason: str) -> Ranking:
        """The engine's order, with the reason; for what went wrong outside of `rank`, too."""
        return self._draft(request, self._model.current(), [None] * len(request.candidates), status, reason)

    async def load(self, ranking_id: str) -> Ranking | None:
        """A ranking with all verdicts that have landed since; its order stays. Raises StoreUnavailableError."""
        return await self._keeper.load(ranking_id)

    async def follow(self, ranking: Ranking, timeout_s: float) -> AsyncIterator[RankedHit | Ranking]:
        """Each judged (or failed) hit as it lands, those already there first; then the final ranking.

        The final ranking has a new id if its order differs from the one followed, because a ranking that
        has been answered never changes under its reader. Raises StoreUnavailableError.
        """
        ends = time.monotonic() + timeout_s
        awaited = [hit.key for hit in ranking.hits if hit.key is not None and hit.verdict is None]
        for hit in ranking.hits:
            if hit.verdict is not None:
                yield hit
        with Outcomes(self._announcements, awaited) as outcomes:
            if awaited:
                outcomes.fill(await self._cache.get_many(outcomes.keys))
            while (key := await outcomes.next(ends - time.monotonic())) is not None:
                for hit in ranking.hits:
                    if hit.key == key:
                        yield with_outcome(hit, outcomes.known[key])
            final = fused(ranking, outcomes.known)
        status, reason = settled(final, "so far")
        final = replace(final, status=status, reason=reason)
        if order(final) != order(ranking):
            final = replace(final, id=self._new_id())
        self._keeper.save(final)
        yield final

    async def close(self) -> None:
        """Let late jobs and rankings reach the stores; bounded by the stores' time-outs."""
        if self._shadow is not None:
            await self._shadow.close()
        await self._background.close()

    async def _known_ranking(self, request: RankRequest) -> Ranking | None:
        if request.ranking_id is not None:
            return await self._keeper.load(request.ranking_id)
        if request.follow_pin and request.pin is not None:
            return await self._keeper.pinned(request.pin)
        return None

    def _page_of(self, known: Ranking, request: RankRequest) -> Ranking:
        """The known order. A hit keeps its verdict only while this caller holds the very text judged."""
        work = self._resolve(request, revision=known.model_revision, mode=known.mode)
        held = {(c.index, c.id): key for c, key in zip(request.candidates, work.keys, strict=True)}
        hits = tuple(
            hit if held.get((hit.index, hit.id)) == hit.key else replace(hit, verdict=None, score=None)
            for hit in known.hits
        )
        return replace(known, hits=hits)

    def _draft(
        self, request: RankRequest, model: ModelInfo, keys: Sequence[str | None], status: Status, reason: str
    ) -> Ranking:
        """A new ranking in engine order; `keys` are aligned with the candidates."""
        return Ranking(
            id=self._new_id(),
            query=request.query,
            mode=request.mode or request.policy.mode,
            model_revision=model.revision,
            status=status,
            reason=reason,
            created=time.time(),
            weights=request.weights(model.weights),
            hits=engine_hits(request.candidates, keys),
        )

    def _resolve(
        self,
        request: RankRequest,
        *,
        revision: str | None = None,
        mode: Mode | None = None,
        model: ModelInfo | None = None,
    ) -> _Work:
        model = model or self._model.current()
        mode = mode or request.mode or request.policy.mode
        shared = PairKeys(
            tenant=request.tenant,
            model_revision=revision or model.revision,
            mode=mode,
            query=request.query,
            budget=request.policy.passage_tokens,
        )
        keys = tuple(shared.key(c.content_hash) if c.fields else None for c in request.candidates)
        deadline_ms = request.policy.deadline_ms if request.deadline_ms is None else request.deadline_ms
        return _Work(request, mode, model, keys, deadline_ms / 1000, time.monotonic())

    async def _judge(self, request: RankRequest, source: FragmentSource | None) -> Ranking:
        work = self._resolve(request)
        interrupted: tuple[Status, str] | None = None
        with Outcomes(self._announcements, (key for key in work.keys if key)) as outcomes:
            if outcomes.keys:
                hits = outcomes.fill(await self._cache.get_many(outcomes.keys))
                self._observer.cache(hits, len(outcomes.keys) - hits)
                self._observer.stage("cache", time.monotonic() - work.started)
            if outcomes.missing:
                interrupted = await self._await_missing(work, source, outcomes)
            known = dict(outcomes.known)
        unjudged = self._draft(request, work.model, work.keys, Status.PENDING, "")
        ranking = fused(unjudged, known)
        status, reason = interrupted or settled(ranking, f"within {work.deadline_s * 1000:.0f} ms")
        ranking = replace(ranking, status=status, reason=reason)
        self._keeper.save(ranking, request.pin)
        self._follow_shadow(request, source, ranking)
        return ranking

    def _follow_shadow(self, request: RankRequest, source: FragmentSource | None, shown: Ranking) -> None:
        """Have the shadow judge what was judged in full, where there is one and it is this search's turn."""
        if self._shadow is None or shown.status is not Status.COMPLETE:
            return
        if (model := self._shadow.wanted()) is not None:
            work = self._resolve(request, model=model)
            draft = self._draft(request, model, work.keys, Status.PENDING, "")
            self._shadow.follow(shown, draft, lambda keys: self._submit(work, source, keys, Priority.BACKGROUND))

    async def _await_missing(
        self, work: _Work, source: FragmentSource | None, outcomes: Outcomes
    ) -> tuple[Status, str] | None:
        """Enqueue what is missing and wait for it; gives a status if waiting would be in vain."""
        began = time.monotonic()
        ready = work.model.ready
        missing = frozenset(outcomes.missing)
        priority = Priority.INTERACTIVE if ready and work.request.awaited else Priority.BACKGROUND
        submitting = self._background.spawn("submit_jobs", self._submit(work, source, missing, priority))
        if not ready:
            return Status.WARMING, f"model_not_ready: {work.model.reason or 'the model server is not ready'}"
        done, _ = await asyncio.wait({submitting}, timeout=work.left_s)
        if done and submitting.result() is Admission.SHED:
            return Status.SHED, "queue_full: too many pairs are waiting to be judged"
        await outcomes.wait_all(work.left_s)
        self._observer.stage("wait", time.monotonic() - began)
        return None

    async def _submit(
        self, work: _Work, source: FragmentSource | None, missing: frozenset[str], priority: Priority
    ) -> Admission:
        """Fit the passages of the missing pairs and enqueue them; goes on after the deadline if need be."""
        request = work.request
        wanted = {
            key: candidate
            for key, candidate in zip(work.keys, request.candidates, strict=True)
            if key is not None and key in missing
        }
        fragments = await self._fragments(request, source, list(wanted.values()))
        budget = request.policy.passage_tokens
        pairs = tuple(
            Pair(key, request.query, fit(candidate, budget, fragments.get((candidate.index, candidate.id))))
            for key, candidate in wanted.items()
        )
        return await self._jobs.submit(
            JobRequest(
                pairs=pairs,
                mode=work.mode,
                model_revision=work.model.revision,
                priority=priority,
                expires_at=time.time() + work.left_s + self._stale_after_s,
                search_id=request.search_id,
            )
        )

    async def _fragments(
        self, request: RankRequest, source: FragmentSource | None, candidates: Sequence[Candidate]
    ) -> Mapping[tuple[str, str], Mapping[str, Sequence[str]]]:
        budget = request.policy.passage_tokens
        long = [candidate for candidate in candidates if needs_fragments(candidate, budget)]
        if source is None or not long:
            return {}
        began = time.monotonic()
        try:
            count = max(1, budget * 4 // FRAGMENT_CHARS)
            return await source.fragments(request.query, long, request.policy.fields, FRAGMENT_CHARS, count)
        except EngineError as error:
            # the head of the document is a worse passage, but a passage
            log.warning("fragments_failed", search_id=request.search_id, error=str(error))
            return {}
        finally:
            self._observer.stage("fragments", time.monotonic() - began)
