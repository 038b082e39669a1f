"""Outcomes as workers announce them, received over one Redis pub/sub connection a process."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import msgspec
import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from plugin_service.adapters.leases import FAILED
from plugin_service.adapters.redis_link import LEASE, OUTCOMES, VERDICT, RedisLink, connect
from plugin_service.rescoring.ports import Outcome
from whyrank.errors import StoreUnavailableError
from whyrank.types import Verdict, VerdictFailure

_PING_S = 5.0
_LONGEST_PAUSE_S = 1.0
_CHUNK = 500
_log = structlog.get_logger(__name__)


class Announcement(msgspec.Struct, frozen=True):
    """A message of the channel. The outcome stays undecoded until it is known that somebody waits for it."""

    key: str
    verdict: msgspec.Raw = msgspec.Raw()
    failure: msgspec.Raw = msgspec.Raw()

    def outcome(self) -> Outcome:
        """Raises msgspec.DecodeError."""
        if self.verdict:
            return msgspec.json.decode(self.verdict, type=Verdict)
        if self.failure:
            return msgspec.json.decode(self.failure, type=VerdictFailure)
        raise msgspec.DecodeError("neither verdict nor failure")


class _Subscription:
    """Port Subscription."""

    __slots__ = ("_owner", "keys", "on_outcome")

    def __init__(
        self, owner: RedisAnnouncements, keys: frozenset[str], on_outcome: Callable[[str, Outcome], None]
    ) -> None:
        self._owner: RedisAnnouncements | None = owner
        self.keys = keys
        self.on_outcome = on_outcome

    def close(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.forget(self)


class RedisAnnouncements:
    """Port Announcements.

    After every (re)connection it asks the cache, in one round trip, for all keys that somebody waits for,
    because outcomes may have been announced while nobody listened. `observe` is told every outcome of the
    fleet, whoever waits for it.
    """

    def __init__(self, link: RedisLink, observe: Callable[[Outcome], None] | None = None) -> None:
        self._link = link
        self._observe = observe
        self._waiting: dict[str, set[_Subscription]] = {}
        self._decode = msgspec.json.Decoder(Announcement).decode
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, timeout_s: float = 1.0) -> None:
        """Listen in the background. Waits up to `timeout_s` for the channel, and goes on without it."""
        self._task = asyncio.create_task(self._run(), name="announcements")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listening.wait(), timeout_s)

    async def stop(self) -> None:
        """Stop listening; waiting subscriptions hear nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def subscribe(self, keys: Sequence[str], on_outcome: Callable[[str, Outcome], None]) -> _Subscription:
        """Local and immediate; see the port."""
        subscription = _Subscription(self, frozenset(keys), on_outcome)
        for key in subscription.keys:
            self._waiting.setdefault(key, set()).add(subscription)
        return subscription

    def forget(self, subscription: _Subscription) -> None:
        """Called by `Subscription.close`."""
        for key in subscription.keys:
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.discard(subscription)
                if not waiting:
                    del self._waiting[key]

    async def _run(self) -> None:
        pause = 0.05
        while True:
            client = connect(self._link.url, _PING_S, self._link.timeout_s)
            pubsub = client.pubsub()
            try:
                await pubsub.subscribe(OUTCOMES)
                await self._resync()
                self._listening.set()
                pause = 0.05
                await self._listen(pubsub)
            except (RedisError, OSError, StoreUnavailableError) as error:
                _log.warning("announcements_lost", error=str(error), waiting=len(self._waiting), retry_in_s=pause)
            finally:
                self._listening.clear()
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
                    await client.aclose()
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the sidecars' reconnections
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _listen(self, pubsub: PubSub) -> None:
        """Dispatch messages for ever. Raises RedisError when a ping stays unanswered."""
        pinged = False
        while True:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=_PING_S)
            if message is not None:
                pinged = False
                if message["type"] == "message":
                    self._receive(message["data"])
            elif pinged:
                raise RedisError("no answer on the announcements' connection")
            else:
                # A connection cut without a word (a firewall, a power failure) shows by no other sign.
                await pubsub.ping()
                pinged = True

    async def _resync(self) -> None:
        keys = list(self._waiting)
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            with self._link.guard():
                names = [VERDICT + key for key in chunk] + [LEASE + key for key in chunk]
                values = cast("list[bytes | None]", await self._link.client.mget(names))
            for key, verdict, lease in zip(chunk, values[: len(chunk)], values[len(chunk) :], strict=True):
                if verdict is not None:
                    self._dispatch(Announcement(key, verdict=msgspec.Raw(verdict)))
                elif lease is not None and lease.startswith(FAILED):
                    self._receive(lease[len(FAILED) :])

    def _receive(self, data: bytes) -> None:
        try:
            announcement = self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("announcement_unreadable", error=str(error))
            return
        self._dispatch(announcement)

    def _dispatch(self, announcement: Announcement) -> None:
        waiting: Iterable[_Subscription] = tuple(self._waiting.get(announcement.key, ()))
        if not waiting and self._observe is None:
            return
        try:
            outcome = announcement.outcome()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("announcement_unreadable", key=announcement.key, error=str(error))
            return
        if self._observe is not None:
            self._observe(outcome)
        for subscription in waiting:
            try:
                subscription.on_outcome(announcement.key, outcome)
            except Exception:  # noqa: BLE001
                # One search's fault must not keep the others from hearing.
                _log.exception("outcome_handler_failed", key=announcement.key)
