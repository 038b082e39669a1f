"""The circuit breaker and the mapping of errors in front of Redis."""

from __future__ import annotations

import pytest
from redis import exceptions

from plugin_service.adapters.redis_link import Breaker, RedisLink
from whyrank.errors import StoreUnavailableError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _leaves(root: type[BaseException]) -> list[type[BaseException]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _leaves(child))]


def test_it_opens_after_failures_in_a_row_and_probes_once_a_pause() -> None:
    clock = Clock()
    breaker = Breaker(threshold=2, pause_s=1.0, clock=clock)
    breaker.failed()
    assert breaker.admit()
    breaker.succeeded()
    breaker.failed()
    assert breaker.admit()
    breaker.failed()
    assert not breaker.admit()
    clock.now += 1.0
    assert breaker.admit()
    assert not breaker.admit(), "one probe at a time"
    breaker.failed()
    clock.now += 0.9
    assert not breaker.admit()
    clock.now += 0.2
    assert breaker.admit()
    breaker.succeeded()
    assert breaker.admit()
    assert breaker.admit()


@pytest.mark.parametrize("kind", [*_leaves(exceptions.RedisError), OSError, TimeoutError, ConnectionResetError])
async def test_no_exception_of_redis_is_unmapped(kind: type[Exception]) -> None:
    link = RedisLink("redis://nowhere", 1.0)
    error = kind.__new__(kind)
    with pytest.raises(StoreUnavailableError) as mapped, link.guard():
        raise error
    assert mapped.value.__cause__ is error


async def test_a_fault_of_ours_stays_one() -> None:
    link = RedisLink("redis://nowhere", 1.0)
    with pytest.raises(KeyError), link.guard():
        raise KeyError("ours")


@pytest.mark.parametrize(
    ("error", "admitted"),
    [
        (exceptions.ConnectionError(), False),
        (exceptions.TimeoutError(), False),
        (exceptions.BusyLoadingError(), False),
        (exceptions.OutOfMemoryError("OOM"), True),
        (exceptions.ReadOnlyError("READONLY"), True),
    ],
)
async def test_only_silence_opens_the_circuit(error: Exception, admitted: bool) -> None:
    link = RedisLink("redis://nowhere", 1.0, Breaker(threshold=1))
    with pytest.raises(StoreUnavailableError), link.guard():
        raise error
    if admitted:
        with link.guard():
            pass
    else:
        with pytest.raises(StoreUnavailableError, match="does not answer"), link.guard():
            pytest.fail("the circuit is closed")
