"""Single flight over the fleet: who may have a pair judged, kept in Redis by four Lua scripts.

A lease's value is a state and who holds it:

    i:<token>:<ms>   in the interactive queue; wanted by a search until that time
    b:<token>        in the background queue; an interactive search may take it over
    r:<job>          a worker is on it; the worker extends it until it is done
    f:<message>      the model could not judge it; the message is announced again to whoever asks

A redelivered job has the id of the first delivery, so it goes on under its own lease. Leases expire, and no
verdict depends on them: at worst a pair is judged twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from plugin_service.adapters.redis_link import (
    BACKGROUND_QUEUE,
    INTERACTIVE_QUEUE,
    LEASE,
    OUTCOMES,
    VERDICT,
    RedisLink,
)
from plugin_service.rescoring.ports import Outcome
from whyrank.types import Priority, Verdict

QUEUES = {Priority.INTERACTIVE: INTERACTIVE_QUEUE, Priority.BACKGROUND: BACKGROUND_QUEUE}
FAILED = b"f:"
FAILURE_TTL_S = 300
"""How long a pair that the model could not judge is not tried again."""

# KEYS: the queue, then leases. ARGV: token, lease ms, limit in jobs' worth of pairs, pairs a job, until ms, channel.
# Answers {1, position of each pair now ours ...}, or {0} when the queue is full (nothing was changed then).
_ACQUIRE = """
local free, wanted, failures = {}, {}, {}
local interactive = string.sub(ARGV[1], 1, 2) == 'i:'
for i = 2, #KEYS do
  local held = redis.call('GET', KEYS[i])
  local state = held and string.sub(held, 1, 2)
  if not held or (interactive and state == 'b:') then
    free[#free + 1] = i
  elseif interactive and state == 'i:' then
    local token, til = string.match(held, '^(i:[^:]*):(%d+)$')
    if til and tonumber(til) < tonumber(ARGV[5]) then wanted[#wanted + 1] = {KEYS[i], token} end
  elseif state == 'f:' then
    failures[#failures + 1] = string.sub(held, 3)
  end
end
if #free > 0 and redis.call('LLEN', KEYS[1]) * tonumber(ARGV[4]) + #free > tonumber(ARGV[3]) then
  return {0}
end
for _, failure in ipairs(failures) do redis.call('PUBLISH', ARGV[6], failure) end
for _, w in ipairs(wanted) do redis.call('SET', w[1], w[2] .. ':' .. ARGV[5], 'KEEPTTL') end
local value = interactive and (ARGV[1] .. ':' .. ARGV[5]) or ARGV[1]
local answer = {1}
for _, i in ipairs(free) do
  redis.call('SET', KEYS[i], value, 'PX', ARGV[2])
  answer[#answer + 1] = i - 2
end
return answer
"""

# KEYS: leases. ARGV: token. Gives back those that are still held under the token.
_RELEASE = """
for i = 1, #KEYS do
  local held = redis.call('GET', KEYS[i])
  if held == ARGV[1] or (held and string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. ':') then
    redis.call('DEL', KEYS[i])
  end
end
"""

# KEYS: lease and verdict of each pair. ARGV: running ms, 'r:'job, stale token or '', lease ms, now ms.
# Answers one Claim per pair.
_CLAIM = """
local answer = {}
for i = 1, #KEYS, 2 do
  local held = redis.call('GET', KEYS[i])
  local state = held and string.sub(held, 1, 2)
  local claim
  if redis.call('EXISTS', KEYS[i + 1]) == 1 then
    if state and state ~= 'r:' then redis.call('DEL', KEYS[i]) end
    claim = 0
  elseif state == 'f:' or (state == 'r:' and held ~= ARGV[2]) then
    claim = 0
  else
    local til = state == 'i:' and string.match(held, ':(%d+)$')
    if ARGV[3] ~= '' and not (til and tonumber(til) >= tonumber(ARGV[5])) then
      redis.call('SET', KEYS[i], ARGV[3], 'PX', ARGV[4])
      claim = 2
    else
      redis.call('SET', KEYS[i], ARGV[2], 'PX', ARGV[1])
      claim = 1
    end
  end
  answer[#answer + 1] = claim
end
return answer
"""

# KEYS: verdict, lease. ARGV: verdict, seconds, channel, message.
_LAND = """
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
"""

# KEYS: lease. ARGV: message, seconds, channel.
_FAIL = """
redis.call('SET', KEYS[1], 'f:' .. ARGV[1], 'EX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[1])
"""


class Claim(IntEnum):
    """What a worker is to do with a pair of its job."""

    SKIP = 0
    """It is judged already, or another worker is on it."""
    JUDGE = 1
    """Its lease is the worker's now."""
    DEMOTE = 2
    """No search waits for it any more; its lease stands for the background queue now."""


class Leases:
    """The scripts, by name. Every method is one round trip and raises StoreUnavailableError."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._acquire = link.script(_ACQUIRE)
        self._release = link.script(_RELEASE)
        self._claim = link.script(_CLAIM)
        self._land = link.script(_LAND)
        self._fail = link.script(_FAIL)

    async def acquire(
        self,
        keys: Sequence[str],
        priority: Priority,
        owner: str,
        *,
        ttl_s: float,
        until: float,
        limit: int,
        job_pairs: int,
    ) -> list[int] | None:
        """Positions of the keys that are `owner`'s to enqueue; None when their queue is full.

        `until` (epoch seconds) is how long a search waits; pairs waiting in the interactive queue already are
        marked as wanted until then. `limit` is in pairs, a waiting job counting as `job_pairs`.
        """
        token = _token(priority, owner)
        with self._link.guard():
            answer = await self._acquire(
                keys=[QUEUES[priority], *(LEASE + key for key in keys)],
                args=[token, _ms(ttl_s), limit, job_pairs, _ms(until), OUTCOMES],
            )
        return [int(i) for i in answer[1:]] if answer[0] else None

    async def release(self, keys: Sequence[str], priority: Priority, owner: str) -> None:
        """Give back those leases that `acquire` gave to this owner and nobody took over since."""
        with self._link.guard():
            await self._release(keys=[LEASE + key for key in keys], args=[_token(priority, owner)])

    async def claim(
        self, keys: Sequence[str], job_id: str, *, running_s: float, demote_to: str | None, ttl_s: float, now: float
    ) -> list[Claim]:
        """At the start of a job: which pairs to judge, under leases of `running_s` seconds.

        `demote_to` is given for a stale interactive job: the owner of the background leases, of `ttl_s`
        seconds, that its pairs get, but for those that a newer search wants.
        """
        interleaved = [name for key in keys for name in (LEASE + key, VERDICT + key)]
        stale = _token(Priority.BACKGROUND, demote_to) if demote_to else ""
        with self._link.guard():
            answer = await self._claim(
                keys=interleaved, args=[_ms(running_s), f"r:{job_id}", stale, _ms(ttl_s), _ms(now)]
            )
        return [Claim(code) for code in answer]

    async def demote(self, keys: Sequence[str], owner: str, ttl_s: float) -> None:
        """Pairs that the caller is on go to the background queue under `owner`."""
        with self._link.guard():
            async with self._link.client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.set(LEASE + key, _token(Priority.BACKGROUND, owner), px=_ms(ttl_s))
                await pipeline.execute()

    async def land(self, key: str, outcome: Outcome, verdict_ttl_s: int) -> None:
        """Keep and announce the outcome, and end the lease, atomically.

        A failure is remembered for FAILURE_TTL_S instead, so that searches do not wait for it again.
        """
        value = msgspec.json.encode(outcome)
        kind = b"verdict" if isinstance(outcome, Verdict) else b"failure"
        message = b'{"key":%b,"%b":%b}' % (msgspec.json.encode(key), kind, value)
        with self._link.guard():
            if isinstance(outcome, Verdict):
                await self._land(keys=[VERDICT + key, LEASE + key], args=[value, verdict_ttl_s, OUTCOMES, message])
            else:
                await self._fail(keys=[LEASE + key], args=[message, FAILURE_TTL_S, OUTCOMES])

    async def drop(self, keys: Sequence[str]) -> None:
        """End leases without an outcome: the pairs may be asked for again at once."""
        if keys:
            with self._link.guard():
                await self._link.client.delete(*(LEASE + key for key in keys))


def _token(priority: Priority, owner: str) -> str:
    return f"{'i' if priority is Priority.INTERACTIVE else 'b'}:{owner}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
