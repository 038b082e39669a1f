"""What the use case and the doors tell whoever measures them."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Receives figures; must not raise and must not block."""

    def search(self, door: str, status: str, reason: str) -> None:
        """One search was answered; `reason` is the stable code before the colon."""
        ...

    def stage(self, name: str, seconds: float) -> None:
        """One stage of a search took this long."""
        ...

    def cache(self, hits: int, misses: int) -> None:
        """So many verdicts were in the cache, so many were not."""
        ...


class NullObserver:
    """Measures nothing."""

    def search(self, door: str, status: str, reason: str) -> None:
        """Ignore it."""

    def stage(self, name: str, seconds: float) -> None:
        """Ignore it."""

    def cache(self, hits: int, misses: int) -> None:
        """Ignore it."""
