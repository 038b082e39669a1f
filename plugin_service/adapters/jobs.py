"""Judging jobs in Celery, each pair in flight at most once over the fleet."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import structlog
from celery import Celery

from plugin_service.adapters.broker import Job, create_app, publish, split
from plugin_service.adapters.leases import Leases
from plugin_service.adapters.redis_link import RedisLink
from plugin_service.rescoring.ports import Admission, JobRequest
from whyrank.errors import StoreUnavailableError
from whyrank.settings import Settings
from whyrank.types import Priority

_PUBLISHERS = 2
_PUBLISH_TIMEOUT_S = 2.0
_BACKGROUND_FACTOR = 10
"""The background queue takes so many times `queue_limit`: nobody waits for it, but memory is finite."""
_log = structlog.get_logger(__name__)


class CeleryJobQueue:
    """Port JobQueue, between `start` and `close`."""

    def __init__(self, link: RedisLink, settings: Settings, app: Celery | None = None) -> None:
        self._app = app or create_app(settings)
        self._leases = Leases(link)
        self._settings = settings
        # Celery publishes by blocking calls.
        self._threads = ThreadPoolExecutor(_PUBLISHERS, thread_name_prefix="publish")

    async def start(self) -> None:
        """Open the publishers' connection, which takes a tenth of a second, before the first search needs it.

        Without Redis it is opened by the first `submit` that finds it.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, publish, self._app, [])
        except Exception as error:  # noqa: BLE001 - whatever it was, `submit` meets and maps it
            _log.warning("publisher_not_connected", error=str(error))

    async def submit(self, request: JobRequest) -> Admission:
        """Lease and enqueue, one round trip for the leases of all pairs. See the port.

        Raises StoreUnavailableError; the leases are given back then.
        """
        pairs = tuple({pair.key: pair for pair in request.pairs}.values())
        if not pairs:
            return Admission.ACCEPTED
        owner = secrets.token_hex(8)
        settings = self._settings
        factor = 1 if request.priority is Priority.INTERACTIVE else _BACKGROUND_FACTOR
        positions = await self._leases.acquire(
            [pair.key for pair in pairs],
            request.priority,
            owner,
            ttl_s=settings.lease_s,
            until=request.expires_at,
            limit=settings.queue_limit * factor,
            job_pairs=settings.job_pairs,
        )
        if positions is None:
            return Admission.SHED
        leased = tuple(pairs[i] for i in positions)
        whole = Job(
            id=owner,
            pairs=leased,
            mode=request.mode,
            model_revision=request.model_revision,
            priority=request.priority,
            expires_at=request.expires_at,
            search_id=request.search_id,
            enqueued_at=time.time(),
        )
        if leased:
            await self._publish(split(whole, settings.job_pairs), whole)
        _log.debug("jobs_enqueued", search_id=request.search_id, pairs=len(leased))
        return Admission.ACCEPTED

    async def _publish(self, jobs: list[Job], whole: Job) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                await loop.run_in_executor(self._threads, publish, self._app, jobs)
        except Exception as error:
            with contextlib.suppress(StoreUnavailableError):
                await self._leases.release([pair.key for pair in whole.pairs], whole.priority, whole.id)
            raise StoreUnavailableError(f"jobs could not be enqueued: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Close the publishers' connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._app.close)
