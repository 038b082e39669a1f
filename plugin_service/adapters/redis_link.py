"""One way to Redis: a connection pool, a circuit breaker, and the mapping of errors.

redis-py retries and reconnects by itself, but a Redis that accepts and does not answer would still cost
every search a full timeout; redis-py's own breaker is only for several databases. Hence `Breaker`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from whyrank.errors import StoreUnavailableError

VERDICT = "whyrank:v1:verdict:"
LEASE = "whyrank:v1:lease:"
OUTCOMES = "whyrank:v1:outcomes"
RANKING = "whyrank:v1:ranking:"
PIN = "whyrank:v1:pin:"
INTERACTIVE_QUEUE = "whyrank.interactive"
BACKGROUND_QUEUE = "whyrank.background"

_UNREACHABLE = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)
_log = structlog.get_logger(__name__)


class Breaker:
    """Opens after `threshold` failures in a row; open, it lets one probe through every `pause_s`."""

    def __init__(self, threshold: int = 2, pause_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._threshold = threshold
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._next_probe = 0.0

    def admit(self) -> bool:
        """Whether a call may go; an admitted probe postpones the next one."""
        if self._failures < self._threshold:
            return True
        now = self._clock()
        if now < self._next_probe:
            return False
        self._next_probe = now + self._pause_s
        return True

    def succeeded(self) -> None:
        """A call was answered, be it by a refusal."""
        if self._failures >= self._threshold:
            _log.info("redis_back")
        self._failures = 0

    def failed(self) -> None:
        """A call was not answered."""
        self._failures += 1
        self._next_probe = self._clock() + self._pause_s
        if self._failures == self._threshold:
            _log.warning("redis_unreachable", retry_every_s=self._pause_s)


class _Guard:
    """Maps what Redis raises to StoreUnavailableError, and keeps the breaker informed."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def __enter__(self) -> None:
        if not self._breaker.admit():
            raise StoreUnavailableError("Redis does not answer; it is tried again within a second")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> Literal[False]:
        if error is None:
            self._breaker.succeeded()
        elif isinstance(error, _UNREACHABLE):
            self._breaker.failed()
            raise StoreUnavailableError(f"Redis cannot be reached: {_words(error)}") from error
        elif isinstance(error, RedisError):
            # OOM, READONLY, NOPERM ...: it answers, so reads may still work and the breaker stays closed.
            self._breaker.succeeded()
            raise StoreUnavailableError(f"Redis refuses: {_words(error)}") from error
        return False


class RedisLink:
    """The connection pool of one process and event loop.

    `timeout_s` bounds connecting and every single answer. Use: `with link.guard(): await link.client.get(key)`;
    the block raises StoreUnavailableError and nothing of redis-py.
    """

    def __init__(self, url: str, timeout_s: float, breaker: Breaker | None = None) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.client: Redis = connect(url, timeout_s)
        self._guard = _Guard(breaker or Breaker())

    def guard(self) -> _Guard:
        """Context for calls on `client`. Raises StoreUnavailableError."""
        return self._guard

    def script(self, source: str) -> Callable[..., Any]:
        """A Lua script, called as `await script(keys=[...], args=[...])`; sent again should Redis forget it."""
        return self.client.register_script(source)

    async def ping(self) -> None:
        """Raises StoreUnavailableError."""
        with self.guard():
            await self.client.ping()

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()


def connect(url: str, timeout_s: float | None, connect_timeout_s: float | None = None) -> Redis:
    """An asyncio client; bytes in, bytes out. A connection that broke while idle is replaced once, silently."""
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=connect_timeout_s or timeout_s,
        # A timeout is not retried: the caller waits at most once for it.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
