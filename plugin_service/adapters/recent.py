"""Verdicts that this sidecar read a moment ago, so that a popular search costs no round trip for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from plugin_service.rescoring.ports import VerdictCache
from whyrank.types import Verdict

_KEPT_S = 60.0
"""Verdicts never change under their key; this only bounds how long one outlives its removal from Redis."""


class RecentVerdicts:
    """Port VerdictCache, over another one. At most `entries` verdicts (some 2 KB each), the oldest give way.

    Misses are not remembered: a verdict may land at any moment.
    """

    def __init__(self, inner: VerdictCache, entries: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._entries = entries
        self._clock = clock
        self._recent: dict[str, tuple[float, Verdict]] = {}

    async def get_many(self, keys: Sequence[str]) -> list[Verdict | None]:
        """Aligned with `keys`; at most one round trip, for those not at hand. Raises StoreUnavailableError."""
        now = self._clock()
        recent = self._recent
        found = [kept[1] if (kept := recent.get(key)) and kept[0] > now else None for key in keys]
        missing = [key for key, verdict in zip(keys, found, strict=True) if verdict is None]
        if not missing:
            return found
        fetched = dict(zip(missing, await self._inner.get_many(missing), strict=True))
        for key, verdict in fetched.items():
            if verdict is not None:
                recent.pop(key, None)  # to the end: the order of the dictionary is the order of reading
                recent[key] = (now + _KEPT_S, verdict)
        while len(recent) > self._entries:
            del recent[next(iter(recent))]
        return [verdict or fetched.get(key) for key, verdict in zip(keys, found, strict=True)]
