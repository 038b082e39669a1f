"""Back-off from a model server that is away, shared by all pairs of a worker."""

from __future__ import annotations

import asyncio
import random
import time

import structlog

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_log = structlog.get_logger(__name__)


class Gate:
    """Closed for a while after each failure, twice as long as the time before, up to five seconds."""

    def __init__(self) -> None:
        self._closed_until = 0.0
        self._failures = 0

    async def wait(self, expires_at: float | None) -> bool:
        """Wait until the model server may be asked. False when that is after `expires_at` (epoch seconds)."""
        while (left := self._closed_until - time.monotonic()) > 0:
            if expires_at is not None and time.time() + left > expires_at:
                return False
            await asyncio.sleep(left)
        return True

    def failed(self, error: Exception) -> None:
        """The model server was away. Many pairs in flight that fail together count once."""
        if time.monotonic() < self._closed_until:
            return
        pause = min(_FIRST_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
        self._failures = min(self._failures + 1, 10)
        self._closed_until = time.monotonic() + pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads the workers
        _log.warning("model_server_away", error=str(error), retry_in_s=round(pause, 1))

    def succeeded(self) -> None:
        """The model server answered."""
        if self._failures:
            _log.info("model_server_back")
        self._failures = 0
        self._closed_until = 0.0
