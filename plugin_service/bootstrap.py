"""The only place that joins ports to adapters. Tests and benches pass other parts in the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import structlog
from prometheus_client import CollectorRegistry

from plugin_service.adapters.announcements import RedisAnnouncements
from plugin_service.adapters.jobs import CeleryJobQueue
from plugin_service.adapters.model_status import PolledModelStatus
from plugin_service.adapters.policies import EnginePolicies
from plugin_service.adapters.recent import RecentVerdicts
from plugin_service.adapters.redis_link import BACKGROUND_QUEUE, INTERACTIVE_QUEUE, RedisLink
from plugin_service.adapters.redis_store import RedisRankingStore, RedisVerdictCache
from plugin_service.api.metrics import Metrics
from plugin_service.api.parts import Parts, PartState
from plugin_service.api.proxy import Proxy
from plugin_service.api.upstream import Upstream
from plugin_service.rescoring.ids import RankingIds
from plugin_service.rescoring.rescorer import Rescorer
from plugin_service.rescoring.shadow import Shadow
from whyrank.engines import connect
from whyrank.settings import Settings

log = structlog.get_logger(__name__)


class Sidecar:
    """Every part of one sidecar, started and stopped together inside the server's event loop.

    Nothing here needs any other part to be up: a sidecar that starts before the engine, Redis or the model
    server answers with the engine's order (or the engine's absence) until they are there.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(CollectorRegistry())
        self.ids = RankingIds(settings.secret.get_secret_value())
        self.link = RedisLink(settings.redis_url.get_secret_value(), settings.redis_timeout_s)
        self.announcements = RedisAnnouncements(self.link, self.metrics.outcome)
        self.jobs = CeleryJobQueue(self.link, settings)
        self.model = PolledModelStatus(settings)
        self.policies = EnginePolicies(lambda: connect(settings), settings.policy_refresh_s)
        self.cache = RecentVerdicts(RedisVerdictCache(self.link), settings.recent_verdicts)
        self.upstream = Upstream(settings.engine_url, settings.engine_timeout_s, settings.engine_ca)
        self.rescorer = Rescorer(
            cache=self.cache,
            announcements=self.announcements,
            jobs=self.jobs,
            rankings=RedisRankingStore(self.link, settings.ranking_ttl_s),
            model=self.model,
            new_id=self.ids.new,
            stale_after_s=settings.stale_after_s,
            observer=self.metrics,
            shadow=self._shadow(),
        )
        self.proxy = Proxy(self.upstream, self.rescorer, self.policies, settings, self.metrics)

    def _shadow(self) -> Shadow | None:
        share = self.settings.shadow_share
        if not share:
            return None
        return Shadow(self.model.shadow, self.cache, self.announcements, share, self.metrics.shadow)

    async def start(self) -> None:
        """Start what runs in the background. Never fails: what is not up yet is met later."""
        await self.policies.start()
        await self.announcements.start()
        await self.jobs.start()
        await self.model.start()
        if "secret" not in self.settings.model_fields_set:
            log.warning("random_secret", hint="set WHYRANK_SECRET: ranking ids end with this process")
        log.info("sidecar_started", engine=self.settings.engine_url, model=self.settings.model_url)

    async def stop(self) -> None:
        """Let late work reach the stores, then close everything."""
        await self.rescorer.close()
        await self.model.stop()
        await self.announcements.stop()
        await self.policies.stop()
        await self.jobs.close()
        await self.upstream.close()
        await self.link.close()

    async def engine_state(self) -> PartState:
        """Raises EngineError when it is out of reach."""
        async with contextlib.AsyncExitStack() as stack:
            engine = await connect(self.settings)
            stack.push_async_callback(engine.close)
            info = await engine.info()
        return PartState("ok", f"{info.kind} {info.version}")

    async def policies_state(self) -> PartState:
        """Degraded until policies have been read, and while they cannot be read anew."""
        if self.policies.problem or not self.policies.ready:
            return PartState("degraded", self.policies.problem or "not read yet")
        return PartState("ok")

    async def redis_state(self) -> PartState:
        """Raises StoreUnavailableError."""
        await self.link.ping()
        return PartState("ok")

    async def queue_depths(self) -> Mapping[str, int]:
        """Pairs waiting by queue, at most: a job counts as full. Raises StoreUnavailableError."""
        names = (INTERACTIVE_QUEUE, BACKGROUND_QUEUE)
        with self.link.guard():
            async with self.link.client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.llen(name)
                lengths = await pipeline.execute()
        return {
            name.removeprefix("whyrank."): length * self.settings.job_pairs
            for name, length in zip(names, lengths, strict=True)
        }

    def parts(self) -> Parts:
        """What the HTTP doors are made of."""
        return Parts(
            settings=self.settings,
            rescorer=self.rescorer,
            policies=self.policies,
            model=self.model,
            ids=self.ids,
            metrics=self.metrics,
            proxy=self.proxy,
            checks={"engine": self.engine_state, "redis": self.redis_state, "policies": self.policies_state},
            queue_depths=self.queue_depths,
            start=self.start,
            stop=self.stop,
        )
