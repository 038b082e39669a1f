"""Whether the model server is ready, asked in the background."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
import structlog

from plugin_service.adapters.manifest import ManifestFile
from plugin_service.rescoring.ports import ModelInfo
from whyrank.errors import BadRequestError
from whyrank.settings import Settings
from whyrank.types import FusionWeights

_READY_S = 5.0
_NOT_READY_S = 1.0
_TIMEOUT_S = 2.0
_MISSES = 2
"""A busy server may be late once: so many polls in a row must fail before a ready server counts as away."""
_log = structlog.get_logger(__name__)


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class PolledModelStatus:
    """Port ModelStatus, between `start` and `stop`: GET {model_url}/models every second, when ready every five.

    The manifests are looked at every second in any case: a new version's searches need not wait for a poll.
    """

    def __init__(self, settings: Settings, *, ready_s: float = _READY_S, not_ready_s: float = _NOT_READY_S) -> None:
        self._url = settings.model_url.rstrip("/") + "/models"
        key = settings.model_api_key
        self._headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._ready_s = ready_s
        self._not_ready_s = not_ready_s
        self._manifest = ManifestFile(settings)
        self._info = ModelInfo(ready=False, revision="", weights=FusionWeights(), reason="not asked yet")
        self._misses = 0
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    def current(self) -> ModelInfo:
        """The last answer; the revision and the weights are the manifest's."""
        return self._info

    def shadow(self) -> ModelInfo | None:
        """The model that is tried in shadow, if any. Immediate."""
        served = self._manifest.shadow()
        return ModelInfo(ready=True, revision=served.revision, weights=served.weights) if served is not None else None

    async def start(self) -> None:
        """Ask once, then go on in the background. Never fails."""
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        await self._update(self._session)
        self._task = asyncio.create_task(self._run(self._session), name="model-status")

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _run(self, session: aiohttp.ClientSession) -> None:
        while True:
            interval = self._ready_s if self._info.ready and not self._misses else self._not_ready_s
            for _ in range(max(1, round(interval / self._not_ready_s))):
                if self._manifest_changed():
                    break
                await asyncio.sleep(self._not_ready_s)
            await self._update(session)

    def _manifest_changed(self) -> bool:
        try:
            return self._manifest.current().revision != self._info.revision
        except BadRequestError:
            return False  # as `_update` found it

    async def _update(self, session: aiohttp.ClientSession) -> None:
        before = self._info
        try:
            served = self._manifest.current()
        except BadRequestError as error:
            self._settle(ModelInfo(ready=False, revision="", weights=FusionWeights(), reason=str(error)))
            return
        reason = await self._ask(session, served.name)
        self._misses = self._misses + 1 if reason else 0
        if reason and before.ready and self._misses < _MISSES:
            reason = ""
        self._settle(ModelInfo(ready=not reason, revision=served.revision, weights=served.weights, reason=reason))

    def _settle(self, info: ModelInfo) -> None:
        before, self._info = self._info, info
        if (info.ready, info.reason) != (before.ready, before.reason):
            _log.info("model_status", ready=info.ready, reason=info.reason)

    async def _ask(self, session: aiohttp.ClientSession, name: str) -> str:
        """Why the model server is not ready to be asked for the model `name`; empty when it is."""
        try:
            async with session.get(self._url) as response:
                body = await response.read()
                if response.status != 200:
                    return f"the model server answered {response.status}"
            served = [model.id for model in msgspec.json.decode(body, type=_Models).data]
        except TimeoutError:
            return "the model server does not answer"
        except (aiohttp.ClientError, OSError) as error:
            unheard = isinstance(error, aiohttp.ClientConnectorError)
            return f"the model server cannot be reached: {f'nothing answers at {self._url}' if unheard else error}"
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "what answers at the model server's address is none"
        if name not in served:
            return f"the model server serves {', '.join(served) or 'no model'}, not {name}"
        return ""
