"""What checks ask of the world: everything once, however many checks want it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from redis.exceptions import RedisError

from whyrank.client import AsyncClient, Readiness
from whyrank.client.exchange import mapped
from whyrank.connect.steps import Door
from whyrank.connect.survey import Survey, expect, survey
from whyrank.engines import Engine, EngineAnswer, connect
from whyrank.engines.policies import PolicyStore
from whyrank.errors import StoreUnavailableError
from whyrank.places import Places
from whyrank.prompt import Constraint
from whyrank.records import ModelManifest, load_manifest, model_revision
from whyrank.types import Policy

T = TypeVar("T")
_PATIENCE_S = 5.0
_ENGINE_PATIENCE_S = 10.0
"""Shorter than a search may take: what is asked here is quick, or the engine is not well."""
NO_AUTH = httpx.Auth()


def once(ask: Callable[[Context], Awaitable[T]]) -> Callable[[Context], Awaitable[T]]:
    """`ask`, carried out once for each context; every call gives its result or raises its error."""

    @functools.wraps(ask)
    async def kept(context: Context) -> T:
        if ask not in context.known:
            context.known[ask] = asyncio.ensure_future(ask(context))
        # a check that is given up must not take from the others what they all wait for
        found: T = await asyncio.shield(context.known[ask])
        return found

    return kept


class Context:
    """One examination. `index` and `door` narrow it to those; use it as `async with`.

    Every method raises WhyRankError and its kin where what it asks does not answer.
    """

    def __init__(self, places: Places, index: str | None = None, door: Door | None = None) -> None:
        self.settings = places.settings
        self.places = places
        self.index = index
        self.door = door
        self.known: dict[object, asyncio.Future[Any]] = {}
        """What `once` has asked so far."""
        self._stack = AsyncExitStack()
        user, password = self.settings.engine_user, self.settings.engine_password
        self.auth = NO_AUTH if user is None else httpx.BasicAuth(user, password.get_secret_value() if password else "")
        """The engine's credentials, for what passes through the sidecar, and for nobody else."""
        self.sidecar = AsyncClient(places.sidecar_url, timeout_s=_PATIENCE_S)
        self.http = httpx.AsyncClient(timeout=_PATIENCE_S)

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self.sidecar.close)
        self._stack.push_async_callback(self.http.aclose)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for future in self.known.values():
            future.cancel()
        await asyncio.gather(*self.known.values(), return_exceptions=True)
        await self._stack.aclose()

    @once
    async def engine(self) -> Engine:
        """The engine, asked who it is."""
        engine = await connect(self.settings.model_copy(update={"engine_timeout_s": _ENGINE_PATIENCE_S}))
        self._stack.push_async_callback(engine.close)
        await engine.info()
        return engine

    @once
    async def survey(self) -> Survey:
        """What the engine has."""
        return await survey(await self.engine())

    async def ask(self, path: str, **params: str) -> EngineAnswer:
        """A GET of the engine, whatever it answers."""
        return await (await self.engine()).request("GET", path, params=params)

    async def read(self, path: str, what: str, **params: str) -> Any:
        """The body of a GET of the engine. Raises EngineError saying what cannot be read."""
        return expect(await self.ask(path, **params), what)

    @once
    async def policies(self) -> dict[str, Policy]:
        """The policies as the engine has them."""
        return await PolicyStore(await self.engine()).list()

    async def indices(self) -> Mapping[str, Policy | None]:
        """The indices to look at: the one named, or all with a policy."""
        policies = await self.policies()
        return policies if self.index is None else {self.index: policies.get(self.index)}

    @once
    async def pipelines(self) -> dict[str, dict[str, Any]]:
        """Search pipelines of the engine, by name."""
        answer = await self.ask("/_search/pipeline")
        return {} if answer.status == 404 else dict(expect(answer, "search pipelines cannot be read"))

    @once
    async def redis(self) -> Redis:
        """A connection to Redis that answers. Raises StoreUnavailableError."""
        client = Redis.from_url(
            self.settings.redis_url.get_secret_value(), socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S
        )
        self._stack.push_async_callback(client.aclose)
        await asked(client.ping)
        return client

    @once
    async def redis_info(self) -> dict[str, Any]:
        """What Redis says of itself."""
        return dict(await asked((await self.redis()).info))

    @once
    async def ready(self) -> Readiness:
        """The sidecar's view of its parts."""
        return await self.sidecar.ready()

    @once
    async def figures(self) -> dict[tuple[str, ...], float]:
        """The sidecar's figures: by name, then the values of its labels in the order of their names."""
        with mapped(self.places.sidecar_url):
            answer = await self.http.get(f"{self.places.sidecar_url}/_whyrank/metrics")
            answer.raise_for_status()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def manifest(self) -> ModelManifest | None:
        """The manifest that the settings name, None where they name none. Raises BadRequestError."""
        path = self.settings.model_manifest
        return None if path is None else load_manifest(path)

    def revision(self) -> str:
        """The model revision that the settings here make. Raises BadRequestError."""
        manifest = self.manifest()
        of_manifest = manifest.constraint if manifest else Constraint.NONE
        wanted = self.settings.model_constraint
        constraint = of_manifest if wanted == "auto" else Constraint(wanted)
        return model_revision(manifest, self.settings.model_name, constraint)


async def asked(call: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """A call of redis-py. Raises StoreUnavailableError for whatever it raises."""
    try:
        return await call(*arguments)
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailableError(f"Redis: {error or type(error).__name__}") from error
