"""Verdicts and rankings in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec
import structlog

from plugin_service.adapters.redis_link import PIN, RANKING, VERDICT, RedisLink
from whyrank.types import Ranking, Verdict

_PINNED = """
local id = redis.call('GET', KEYS[1])
return id and redis.call('GET', ARGV[1] .. id)
"""
_log = structlog.get_logger(__name__)


class RedisVerdictCache:
    """Port VerdictCache. Workers write what it reads (`Leases.land`)."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._decode = msgspec.json.Decoder(Verdict).decode

    async def get_many(self, keys: Sequence[str]) -> list[Verdict | None]:
        """One MGET, aligned with `keys`; what cannot be decoded is a miss. Raises StoreUnavailableError."""
        if not keys:
            return []
        with self._link.guard():
            values = await self._link.client.mget([VERDICT + key for key in keys])
        return [
            None if value is None else self._read(key, value)
            for key, value in zip(keys, cast("list[bytes | None]", values), strict=True)
        ]

    def _read(self, key: str, value: bytes) -> Verdict | None:
        try:
            return self._decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # Of another version, or damaged: it is judged anew and overwritten.
            _log.warning("verdict_unreadable", key=key, error=str(error))
            return None


class RedisRankingStore:
    """Port RankingStore. Rankings expire `ttl_s` seconds after they were saved."""

    def __init__(self, link: RedisLink, ttl_s: int) -> None:
        self._link = link
        self._ttl_s = ttl_s
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Ranking).decode
        self._pinned = link.script(_PINNED)

    async def save(self, ranking: Ranking, pin: str | None = None) -> None:
        """Keep the ranking and its pin in one transaction. Raises StoreUnavailableError."""
        value = self._encode(ranking)
        with self._link.guard():
            if pin is None:
                await self._link.client.set(RANKING + ranking.id, value, ex=self._ttl_s)
                return
            async with self._link.client.pipeline(transaction=True) as pipeline:
                pipeline.set(RANKING + ranking.id, value, ex=self._ttl_s)
                pipeline.set(PIN + pin, ranking.id, ex=self._ttl_s)
                await pipeline.execute()

    async def load(self, ranking_id: str) -> Ranking | None:
        """None when unknown, expired or unreadable. Raises StoreUnavailableError."""
        with self._link.guard():
            value = await self._link.client.get(RANKING + ranking_id)
        return self._read(cast("bytes | None", value))

    async def pinned(self, pin: str) -> Ranking | None:
        """The ranking saved last with this pin, in one round trip. Raises StoreUnavailableError."""
        with self._link.guard():
            value = await self._pinned(keys=[PIN + pin], args=[RANKING])
        return self._read(value)

    def _read(self, value: bytes | None) -> Ranking | None:
        if value is None:
            return None
        try:
            return self._decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("ranking_unreadable", error=str(error))
            return None
