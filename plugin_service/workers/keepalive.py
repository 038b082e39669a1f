"""Signs of life for what a worker is on, so that only a dead worker's jobs go to another."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator

import structlog

from plugin_service.adapters.redis_link import LEASE, RedisLink
from whyrank.errors import StoreUnavailableError

_UNACKED_INDEX = "unacked_index"
"""kombu's sorted set of delivered messages by time of delivery; those older than its visibility timeout come back."""
_log = structlog.get_logger(__name__)


class Keepalive:
    """Every `interval_s`: held messages count as just delivered, held leases last `lease_s` more.

    Without it kombu would redeliver a job that takes longer than the visibility timeout, while it is worked on.
    """

    def __init__(self, link: RedisLink, interval_s: float, lease_s: float) -> None:
        self._link = link
        self._interval_s = interval_s
        self._lease_ms = int(lease_s * 1000)
        self._held: dict[object, tuple[str | None, Collection[str]]] = {}

    @contextlib.contextmanager
    def holding(self, delivery_tag: str | None, keys: Collection[str]) -> Iterator[None]:
        """Keep the message and the leases of `keys` (a live collection: what is taken out is let go) meanwhile."""
        mark = object()
        self._held[mark] = (delivery_tag, keys)
        try:
            yield
        finally:
            del self._held[mark]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            if self._held:
                try:
                    await self._beat()
                except StoreUnavailableError as error:
                    _log.debug("keepalive_failed", error=str(error))

    async def _beat(self) -> None:
        now = time.time()
        with self._link.guard():
            async with self._link.client.pipeline(transaction=False) as pipeline:
                for tag, keys in self._held.values():
                    if tag is not None:
                        pipeline.zadd(_UNACKED_INDEX, {tag: now}, xx=True)
                    for key in keys:
                        pipeline.pexpire(LEASE + key, self._lease_ms)
                await pipeline.execute()
