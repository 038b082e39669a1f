"""The port Policies on the engine's index `.whyrank`, read again and again in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import structlog

from whyrank.engines import Engine
from whyrank.engines.policies import PolicyStore
from whyrank.errors import WhyRankError
from whyrank.types import Policy

log = structlog.get_logger(__name__)


class EnginePolicies:
    """Policies as of the last time that the engine answered.

    `connect` is called in the background until it gives an engine, so that a sidecar can start before its engine;
    the engine is closed by `stop`. A change is seen `refresh_s` seconds after it was written at the latest, while
    the engine answers.
    """

    def __init__(self, connect: Callable[[], Awaitable[Engine]], refresh_s: float) -> None:
        self._connect = connect
        self._refresh_s = refresh_s
        self._engine: Engine | None = None
        self._store: PolicyStore | None = None
        self._policies: Mapping[str, Policy] = MappingProxyType({})
        self._ready = False
        self._problem = "policies have not been read yet"
        self._failing: bool | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the policies were read at least once: before that, "no policy" means nothing."""
        return self._ready

    @property
    def problem(self) -> str:
        """Why the last reading failed, in words; empty when it did not."""
        return self._problem

    def lookup(self, index: str) -> Policy | None:
        """The policy of this index or alias name, as last read."""
        return self._policies.get(index)

    def all(self) -> Mapping[str, Policy]:
        """All policies by index name, as last read; not to be changed."""
        return self._policies

    async def start(self) -> None:
        """Begin to read in the background; returns at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="policies")

    async def stop(self) -> None:
        """Stop reading and close the engine. Known policies stay; `start` may follow."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._engine is not None:
            engine, self._engine, self._store = self._engine, None, None
            await engine.close()

    async def refresh(self) -> None:
        """Read the policies now. Raises EngineError and its kin; what was known before is then kept."""
        if self._store is None:
            self._engine = await self._connect()
            self._store = PolicyStore(self._engine)
        self._policies = MappingProxyType(await self._store.list())
        self._ready = True

    async def _run(self) -> None:
        while True:
            try:
                await self.refresh()
            except WhyRankError as error:
                self._failed(str(error), None)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not freeze the policies for good
                self._failed(f"{type(error).__name__}: {error}", error)
            else:
                if self._failing is not False:
                    log.info("policies_read", known=len(self._policies))
                self._failing, self._problem = False, ""
            await asyncio.sleep(self._refresh_s)

    def _failed(self, problem: str, fault: Exception | None) -> None:
        # Logged when reading begins to fail, not each time: that may be every second for hours.
        if not self._failing:
            log.warning("policies_not_read", reason=problem, known=len(self._policies), exc_info=fault)
        self._failing, self._problem = True, problem
