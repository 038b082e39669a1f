"""Work that outlives the search that began it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from whyrank.errors import WhyRankError

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Background:
    """Tasks that are kept referenced until they end; a failure nobody awaits is logged, never lost."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `work`; the caller may await the task or leave it."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Wait for all of it; bounded by the time-outs of the stores it talks to."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, WhyRankError):
            log.warning("background_failed", work=task.get_name(), error=str(error))
        elif error is not None:
            log.error("background_failed", work=task.get_name(), exc_info=error)
