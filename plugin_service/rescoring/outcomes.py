"""Outcomes of one search's pairs: what is there, what is awaited, and a future that wakes the search."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from plugin_service.rescoring.ports import Announcements, Outcome, Subscription
from whyrank.types import Verdict


class Outcomes:
    """Collects the outcomes of some pair keys; a context manager, so that interest always ends.

    Enter it before asking the cache: an announcement between the two is then not lost.
    """

    def __init__(self, announcements: Announcements, keys: Iterable[str]) -> None:
        self._announcements = announcements
        self.keys: tuple[str, ...] = tuple(dict.fromkeys(keys))
        self._known: dict[str, Outcome] = {}
        self._arrivals: asyncio.Queue[str] = asyncio.Queue()
        self._all = asyncio.Event()
        self._subscription: Subscription | None = None

    def __enter__(self) -> Outcomes:
        self._subscription = self._announcements.subscribe(self.keys, self._landed)
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._subscription is not None:
            self._subscription.close()

    @property
    def known(self) -> Mapping[str, Outcome]:
        """What has landed so far."""
        return self._known

    @property
    def missing(self) -> list[str]:
        """Keys without an outcome, in the order given."""
        return [key for key in self.keys if key not in self._known]

    def fill(self, verdicts: Sequence[Verdict | None]) -> int:
        """Take the cache's answer, aligned with `keys`; gives the number of hits."""
        hits = 0
        for key, verdict in zip(self.keys, verdicts, strict=True):
            if verdict is not None:
                hits += 1
                self._landed(key, verdict)
        return hits

    async def wait_all(self, timeout_s: float) -> bool:
        """Wait until every key has an outcome; whether that came to be within `timeout_s`."""
        if not self._all.is_set() and timeout_s > 0:
            try:
                await asyncio.wait_for(self._all.wait(), timeout_s)
            except TimeoutError:
                return False
        return self._all.is_set()

    async def next(self, timeout_s: float) -> str | None:
        """The next key that lands, each key once; None when all have, or `timeout_s` is over."""
        if self._all.is_set() and self._arrivals.empty():
            return None
        try:
            return await asyncio.wait_for(self._arrivals.get(), timeout_s)
        except TimeoutError:
            return None

    def _landed(self, key: str, outcome: Outcome) -> None:
        first = key not in self._known
        # a verdict is final; a failure may still be followed by a verdict from a retry
        if first or not isinstance(self._known[key], Verdict):
            self._known[key] = outcome
        if first:
            self._arrivals.put_nowait(key)
            self._check()

    def _check(self) -> None:
        if len(self._known) == len(self.keys):
            self._all.set()
