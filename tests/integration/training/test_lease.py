"""One training run at a time: the lease in a real Valkey."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from training import lease
from training.lease import LEASE, STOP, HeldError, Holder, Stop
from whyrank.embedded.parts import free_port
from whyrank.errors import StoreUnavailableError

DB = 11
PATIENCE_S = 60


@pytest.fixture
def url(redis_url: str) -> Iterator[str]:
    address = f"{redis_url}/{DB}"
    with Redis.from_url(address) as client:
        client.delete(LEASE, STOP)
        yield address
        client.delete(LEASE, STOP)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def test_one_holder_over_two_homes(url: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with lease.holding(one, "first", url, Stop()):
        seen = lease.current(two, url)
        assert seen is not None
        assert (seen.run, seen.host) == ("first", socket.gethostname())
        with pytest.raises(HeldError, match=r"run first is training on .* since \d{4}-") as raised:
            lease.holding(two, "second", url, Stop()).__enter__()
        assert raised.value.holder == seen
    assert lease.current(two, url) is None
    with lease.holding(two, "second", url, Stop()):
        assert lease.current(one, url).run == "second"  # type: ignore[union-attr]


def test_many_who_want_it_at_once_get_it_one_by_one(url: str, tmp_path: Path) -> None:
    inside: list[str] = []
    most: list[int] = []

    def go(name: str) -> None:
        with lease.holding(tmp_path / name, name, url, Stop(), patience_s=PATIENCE_S):
            inside.append(name)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(name)

    threads = [threading.Thread(target=go, args=(f"run{i}",)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_it_is_kept_for_longer_than_it_lasts(url: str, tmp_path: Path) -> None:
    stop = Stop()
    with lease.holding(tmp_path, "run", url, stop, ttl_s=0.6):
        time.sleep(2.0)
        assert lease.current(tmp_path / "other", url) is not None
        assert not stop.is_set()


def test_a_dead_holders_lease_expires(url: str, tmp_path: Path) -> None:
    _left_behind(url, home="elsewhere", ttl_ms=400)
    with pytest.raises(HeldError, match="run dead is training on gone"):
        lease.holding(tmp_path, "run", url, Stop()).__enter__()
    with lease.holding(tmp_path, "run", url, Stop(), patience_s=PATIENCE_S):
        pass


def test_who_has_the_homes_file_need_not_wait_for_the_dead(url: str, tmp_path: Path) -> None:
    with lease.holding(tmp_path, "run", url, Stop()):
        home = lease.current(tmp_path, url).home  # type: ignore[union-attr]
    _left_behind(url, home=home, ttl_ms=600_000)
    with lease.holding(tmp_path, "run", url, Stop()):
        assert lease.current(tmp_path / "other", url).run == "run"  # type: ignore[union-attr]


def test_who_loses_it_to_another_stops(url: str, tmp_path: Path) -> None:
    stop = Stop()
    with lease.holding(tmp_path, "run", url, stop, ttl_s=0.6):
        other = _left_behind(url, home="elsewhere", ttl_ms=60_000)
        assert stop.wait(PATIENCE_S)
        assert stop.reason == "another run has taken the lease while Redis was away"
        assert not stop.by_person
    # It is not ours to give back
    assert lease.current(tmp_path, url) == other


def test_a_lease_that_redis_has_lost_is_taken_again(url: str, tmp_path: Path) -> None:
    stop = Stop()
    with Redis.from_url(url) as client, lease.holding(tmp_path, "run", url, stop, ttl_s=0.6):
        client.delete(LEASE)
        until(lambda: client.exists(LEASE))
        assert not stop.is_set()


def test_a_stop_from_anywhere_reaches_the_holder_alone(url: str, tmp_path: Path) -> None:
    stop = Stop()
    with lease.holding(tmp_path, "run", url, stop, ttl_s=0.6):
        holder = lease.current(tmp_path / "other", url)
        assert holder is not None
        lease.request_stop(url, msgspec.structs.replace(holder, nonce="of another time"))
        assert not stop.wait(0.5)
        lease.request_stop(url, holder)
        assert stop.wait(PATIENCE_S)
        assert stop.by_person


def test_without_redis_it_is_an_error_or_a_matter_of_this_home(tmp_path: Path) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises(StoreUnavailableError, match="Redis cannot be reached"):
        lease.holding(tmp_path, "run", nowhere, Stop()).__enter__()
    assert lease.current(tmp_path, nowhere) is None
    with lease.holding(tmp_path, "run", None, Stop()), pytest.raises(HeldError, match="run run is training"):
        lease.holding(tmp_path, "second", None, Stop()).__enter__()


def _left_behind(url: str, home: str, ttl_ms: int) -> Holder:
    """A lease whose holder is dead."""
    holder = Holder("dead", "gone", 1, time.time(), home, "nonce")
    with Redis.from_url(url) as client:
        client.set(LEASE, msgspec.json.encode(holder), px=ttl_ms)
    return holder
