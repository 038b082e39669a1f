"""From jobs to verdicts: all pairs of all jobs of a worker at the model server at once, on one event loop."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol, TypeVar

import msgspec
import structlog

from plugin_service.adapters.broker import Job
from plugin_service.adapters.leases import Claim, Leases
from plugin_service.adapters.manifest import ServedModel
from plugin_service.adapters.similarity import Similarity
from plugin_service.rescoring.ports import Outcome
from plugin_service.workers.gate import Gate
from plugin_service.workers.keepalive import Keepalive
from plugin_service.workers.metrics import WorkerMetrics
from whyrank import verdict
from whyrank.errors import (
    ModelError,
    ModelRefusedError,
    ModelUnavailableError,
    ModelUnknownError,
    StoreUnavailableError,
)
from whyrank.model_client import ModelClient
from whyrank.types import FailureKind, Pair, Priority, Verdict, VerdictFailure

_T = TypeVar("_T")
_SUSPECT_ATTEMPTS = 4
"""A prompt whose answers time out or are 500 so often is given up, so that it cannot hold the others for ever."""
_STORE_PAUSE_S = (0.1, 5.0)
_INCOMPLETE_TTL_S = 3600
"""A verdict that should carry a similarity and does not is kept no longer: it costs its window that signal."""
_DETAIL_CHARS = 300
_log = structlog.get_logger(__name__)


class GivenBackError(Exception):
    """The worker stops: the job's message must go back to its queue."""


class _End(StrEnum):
    """How a pair left its job, where the model gave no outcome."""

    DEMOTED = "demoted"
    SKIPPED = "skipped"
    OBSOLETE = "obsolete"
    ERROR = "error"


class _ObsoleteError(Exception):
    """The model of the job is served no more."""


class ServedModels(Protocol):
    """What the model server serves, as the manifests say."""

    def of(self, revision: str) -> ServedModel | None:
        """The model of this revision; None where it is not served, or can no longer be told from another."""
        ...

    def wanted(self, revision: str) -> bool:
        """Whether the server has this model, or will have it again."""
        ...


class Judge:
    """All methods run on one event loop.

    `served` tells what the model server serves. `verdict_ttl_s`, `running_s` and `lease_s` are how long verdicts,
    leases of pairs being judged, and leases of enqueued pairs last, in seconds. Without `similarity` verdicts carry
    none.
    """

    def __init__(
        self,
        leases: Leases,
        model: ModelClient,
        served: ServedModels,
        keepalive: Keepalive,
        metrics: WorkerMetrics,
        *,
        verdict_ttl_s: int,
        running_s: float,
        lease_s: float,
        similarity: Similarity | None = None,
    ) -> None:
        self._leases = leases
        self._model = model
        self._served = served
        self._keepalive = keepalive
        self._metrics = metrics
        self._verdict_ttl_s = verdict_ttl_s
        self._running_s = running_s
        self._lease_s = lease_s
        self._similarity = similarity
        self._gate = Gate()
        self._running: dict[str, asyncio.Task[Job | None]] = {}
        self._stopping = False

    async def run(self, job: Job, delivery_tag: str | None = None) -> Job | None:
        """Judge the job's pairs; the answer is what is to be enqueued in the background instead, if anything.

        Ends only when every pair has an outcome that is kept in Redis, is in other hands, or is in the answer.
        Raises GivenBackError when the worker stops meanwhile.
        """
        if self._stopping:
            raise GivenBackError
        task = self._running.get(job.id)
        if task is None:
            task = asyncio.create_task(self._run(job, delivery_tag))
            self._running[job.id] = task
            task.add_done_callback(lambda _: self._running.pop(job.id, None))
        # Otherwise the broker's connection broke and it delivered the job again: both deliveries end together.
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._stopping:
                raise GivenBackError from None
            raise

    async def stop(self) -> None:
        """Give back all jobs at once."""
        self._stopping = True
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: Job, delivery_tag: str | None) -> Job | None:
        started = time.time()
        self._metrics.queue_seconds.labels(job.priority.value).observe(max(0.0, started - job.enqueued_at))
        with structlog.contextvars.bound_contextvars(search_id=job.search_id, job_id=job.id):
            served = self._served.of(job.model_revision)
            if served is None:
                # Its verdicts would be kept under a model that did not give them.
                await self._store(lambda: self._leases.drop([pair.key for pair in job.pairs]))
                self._finish(job, "obsolete", started, Counter(skipped=len(job.pairs)), revision=job.model_revision)
                return None
            background = secrets.token_hex(8)
            mine, demoted = await self._claim(job, background, started)
            ends = Counter(str(_End.SKIPPED) for _ in range(len(job.pairs) - len(mine) - len(demoted)))
            held = {pair.key for pair in mine}
            with self._keepalive.holding(delivery_tag, held):
                for pair, end in zip(
                    mine, await asyncio.gather(*(self._pair(job, pair, served, held) for pair in mine)), strict=True
                ):
                    ends[end] += 1
                    if end == _End.DEMOTED:
                        demoted.append(pair)
                if late := [pair.key for pair in demoted if pair.key in held]:
                    held.difference_update(late)
                    await self._store(lambda: self._leases.demote(late, background, self._lease_s))
            ends[_End.DEMOTED] = len(demoted)
            self._finish(job, "demoted" if demoted else "done", started, ends)
            if not demoted:
                return None
            return msgspec.structs.replace(job, id=background, pairs=tuple(demoted), priority=Priority.BACKGROUND)

    async def _claim(self, job: Job, background: str, now: float) -> tuple[list[Pair], list[Pair]]:
        """The pairs to judge, and those that are stale."""
        stale = job.priority is Priority.INTERACTIVE and job.expires_at < now
        claims = await self._store(
            lambda: self._leases.claim(
                [pair.key for pair in job.pairs],
                job.id,
                running_s=self._running_s,
                demote_to=background if stale else None,
                ttl_s=self._lease_s,
                now=now,
            )
        )
        claimed = list(zip(job.pairs, claims, strict=True))
        return [p for p, claim in claimed if claim is Claim.JUDGE], [p for p, claim in claimed if claim is Claim.DEMOTE]

    async def _pair(self, job: Job, pair: Pair, served: ServedModel, held: set[str]) -> str:
        """Judge one pair and keep the outcome. Its fault must not touch the job's other pairs."""
        try:
            outcome, ttl_s = await self._outcome(job, pair, served)
            if outcome is None:
                return _End.DEMOTED
            await self._store(lambda: self._leases.land(pair.key, outcome, ttl_s))
            held.discard(pair.key)
        except _ObsoleteError:
            held.discard(pair.key)
            await self._store(lambda: self._leases.drop([pair.key]))
            return _End.OBSOLETE
        except Exception:  # noqa: BLE001
            _log.exception("pair_failed", key=pair.key)
            held.discard(pair.key)
            await self._store(lambda: self._leases.drop([pair.key]))
            return _End.ERROR
        if isinstance(outcome, Verdict):
            return "judged"
        _log.info("pair_not_judged", key=pair.key, kind=outcome.kind.value, detail=outcome.detail)
        return outcome.kind.value

    async def _outcome(self, job: Job, pair: Pair, served: ServedModel) -> tuple[Outcome | None, int]:
        """What `_ask` gives, a verdict with the similarity that was computed meanwhile; and how long it is kept."""
        if self._similarity is None or served.bi_encoder is None:
            return await self._ask(job, pair, served), self._verdict_ttl_s
        cosines = asyncio.create_task(self._similarity.of(served.bi_encoder, pair.query, [pair.passage.text]))
        try:
            outcome = await self._ask(job, pair, served)
            if not isinstance(outcome, Verdict):
                return outcome, self._verdict_ttl_s
            found = await cosines
        finally:
            cosines.cancel()
        if found is None:
            return outcome, min(self._verdict_ttl_s, _INCOMPLETE_TTL_S)
        return msgspec.structs.replace(outcome, similarity=found[0]), self._verdict_ttl_s

    async def _ask(self, job: Job, pair: Pair, served: ServedModel) -> Outcome | None:
        """The model's outcome, for as long as it takes; None when no search waits for it any more meanwhile.

        Raises _ObsoleteError when another model took its place meanwhile: the job's is asked by its own name, so
        no other can answer for it, and where there is no such name, nobody is asked.
        """
        expires_at = job.expires_at if job.priority is Priority.INTERACTIVE else None
        suspicions = 0
        while await self._gate.wait(expires_at):
            if self._served.of(job.model_revision) is None:
                raise _ObsoleteError
            started = time.perf_counter()
            try:
                with self._metrics.in_flight.track_inprogress():
                    answer = await self._model.ask(pair.query, pair.passage, job.mode, served.constraint, served.name)
            except ModelRefusedError as error:
                self._gate.succeeded()
                kind = FailureKind.TOO_LONG if error.too_long else FailureKind.REFUSED
                return VerdictFailure(kind, str(error)[:_DETAIL_CHARS])
            except ModelError as error:
                if isinstance(error, ModelUnknownError) and not self._served.wanted(job.model_revision):
                    raise _ObsoleteError from error
                self._metrics.retries.labels("model").inc()
                self._gate.failed(error)
                suspicions += not isinstance(error, ModelUnavailableError) or error.suspect
                if suspicions >= _SUSPECT_ATTEMPTS:
                    return VerdictFailure(FailureKind.UNAVAILABLE, str(error)[:_DETAIL_CHARS])
                continue
            self._gate.succeeded()
            self._metrics.model_seconds.labels(job.mode.value).observe(time.perf_counter() - started)
            return verdict.parse(
                answer.text, answer.tokens, passage=answer.passage, mode=job.mode, model_revision=job.model_revision
            )
        return None

    async def _store(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """The call's answer, tried for as long as Redis is away: what the model said is not thrown away."""
        pause, longest = _STORE_PAUSE_S
        while True:
            try:
                return await call()
            except StoreUnavailableError as error:
                self._metrics.retries.labels("store").inc()
                _log.warning("store_away", error=str(error), retry_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    def _finish(self, job: Job, result: str, started: float, ends: Counter[str], **more: str) -> None:
        self._metrics.jobs.labels(job.priority.value, result).inc()
        for end, count in ends.items():
            if count:
                self._metrics.pairs.labels(job.mode.value, str(end)).inc(count)
        _log.info(
            "job",
            result=result,
            priority=job.priority.value,
            mode=job.mode.value,
            pairs=len(job.pairs),
            queued_ms=round((started - job.enqueued_at) * 1000),
            ms=round((time.time() - started) * 1000),
            **{str(end): count for end, count in ends.items() if count},
            **more,
        )
