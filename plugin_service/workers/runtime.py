"""One event loop in a thread of its own, and the parts of a worker on it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack

import structlog

from plugin_service.adapters.broker import Job
from plugin_service.adapters.leases import Leases
from plugin_service.adapters.manifest import ManifestFile, ServedModel
from plugin_service.adapters.redis_link import RedisLink
from plugin_service.adapters.similarity import Similarity
from plugin_service.workers.judge import Judge
from plugin_service.workers.keepalive import Keepalive
from plugin_service.workers.metrics import WorkerMetrics
from whyrank.model_client import HttpTransport, ModelClient
from whyrank.settings import Settings

_REDIS_TIMEOUT_S = 2.0
"""Nobody waits in front of a worker: it is more patient with Redis than a search."""
_log = structlog.get_logger(__name__)


class Runtime:
    """Started once a process. `run` is called by Celery's threads."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics or WorkerMetrics()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge", daemon=True)
        self._stack = AsyncExitStack()
        self._judge: Judge | None = None

    def start(self) -> None:
        """Start the loop and open what the judge needs; no part has to be up for it."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def run(self, job: Job, delivery_tag: str | None) -> Job | None:
        """Blocking `Judge.run`, from any thread."""
        if self._judge is None:
            raise RuntimeError("the runtime is not started")
        return asyncio.run_coroutine_threadsafe(self._judge.run(job, delivery_tag), self._loop).result()

    def give_back(self) -> None:
        """All jobs end with GivenBackError, now and from now on."""
        if self._judge is not None:
            asyncio.run_coroutine_threadsafe(self._judge.stop(), self._loop).result()

    def stop(self) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        settings = self._settings
        manifest = ManifestFile(settings)
        served = manifest.current()  # Better no worker than one that does not know what it serves.
        link = RedisLink(settings.redis_url.get_secret_value(), _REDIS_TIMEOUT_S)
        self._stack.push_async_callback(link.close)
        key = settings.model_api_key
        transport = await self._stack.enter_async_context(
            HttpTransport(settings.model_url, key.get_secret_value() if key else None, settings.model_timeout_s)
        )
        model = ModelClient(transport, settings.model_name, settings.max_explanation_tokens)
        # A killed worker's leases end before its jobs come back, so that they do not stand in their way.
        running_s = min(settings.lease_s, 0.75 * settings.redelivery_s)
        keepalive = Keepalive(link, running_s / 3, running_s)
        beating = asyncio.create_task(keepalive.run(), name="keepalive")
        self._stack.callback(beating.cancel)
        self._judge = Judge(
            Leases(link),
            model,
            manifest,
            keepalive,
            self._metrics,
            verdict_ttl_s=settings.verdict_ttl_s,
            running_s=running_s,
            lease_s=settings.lease_s,
            similarity=self._open_similarity(served),
        )

    def _open_similarity(self, served: ServedModel) -> Similarity | None:
        folder = self._settings.bi_encoder
        if folder is None:
            if served.bi_encoder is not None:
                _log.warning("no_bi_encoder", named=served.bi_encoder, hint="set WHYRANK_BI_ENCODER to its folder")
            return None
        similarity = Similarity(folder, lambda result, pairs: self._metrics.similarities.labels(result).inc(pairs))
        self._stack.push_async_callback(similarity.close)
        return similarity
