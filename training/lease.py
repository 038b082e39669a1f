"""One training run at a time: over the fleet by a lease in Redis, in one home by a locked file.

The lease is redis-py's lock, whose token says who holds it. A thread extends it; when its holder dies it expires, and
a runner in the same home need not even wait for that: who has the home's file locked knows that the holder is gone.
Should Redis lose the lease (it was away for long, or short of memory), the holder takes it again if nobody else has.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import structlog
from redis import Redis
from redis.exceptions import LockNotOwnedError, RedisError
from redis.lock import Lock

from whyrank.errors import StoreUnavailableError, WhyRankError

LEASE = "whyrank:v1:training:lease"
STOP = "whyrank:v1:training:stop"
TTL_S = 30.0
_STOP_TTL_S = 600
_SOCKET_TIMEOUT_S = 5.0
_GLANCE_S = 1.0
"""`current` looks at the file by locking it for a moment, which must not pass for a run."""
_log = structlog.get_logger(__name__)


class Holder(msgspec.Struct, frozen=True):
    """Who trains now."""

    run: str
    host: str
    pid: int
    since: float
    """Seconds since the epoch."""
    home: str
    """Random name of the home, the same for all who share its folder."""
    nonce: str

    def told(self) -> str:
        """Who and since when, for a person."""
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(self.since))
        return f"run {self.run} is training on {self.host} (process {self.pid}) since {since}"


class HeldError(WhyRankError):
    """Another run is training."""

    status = 409

    def __init__(self, holder: Holder | None) -> None:
        who = holder.told() if holder is not None else "another run is training"
        super().__init__(f"{who}; whyrank train status shows it, whyrank train stop ends it")
        self.holder = holder


class Stop:
    """Set once, by whoever first wants the run to end; `reason` says why."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason: str | None = None
        self.by_person = False

    def __call__(self, reason: str, *, by_person: bool = False) -> None:
        """Ask the run to end."""
        if not self._event.is_set():
            self.reason = reason
            self.by_person = by_person
            self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait for it; whether it is set."""
        return self._event.wait(seconds)

    def is_set(self) -> bool:
        """Whether the run is to end."""
        return self._event.is_set()


@contextmanager
def holding(
    home: Path, run: str, redis_url: str | None, stop: Stop, *, patience_s: float = 0.0, ttl_s: float = TTL_S
) -> Iterator[None]:
    """Be the one who trains. `stop` is called when the lease is lost or somebody asks for it by `request_stop`.

    Without a `redis_url` only this home is locked. Waits up to `patience_s` seconds for a holder that is about to
    end. Raises HeldError, and StoreUnavailableError when Redis cannot be reached.
    """
    deadline = time.monotonic() + patience_s
    with _file_lock(home, run, deadline) as holder:
        if redis_url is None:
            yield
            return
        lease = _Lease(redis_url, holder, ttl_s)
        lease.take(deadline)
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(lease, stop, ended), name="training-lease", daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            lease.give_back()


def current(home: Path, redis_url: str | None) -> Holder | None:
    """Who trains now, in this home or, where Redis is given and answers, in the fleet."""
    if (local := here(home)) is not None:
        return local
    if redis_url is None:
        return None
    try:
        with contextlib.closing(_connect(redis_url)) as client:
            return _decode(client.get(LEASE))
    except RedisError as error:
        _log.debug("lease_unknown", error=str(error))
        return None


def request_stop(redis_url: str, holder: Holder) -> None:
    """Ask a holder anywhere in the fleet to end; it sees this within a few seconds. Raises StoreUnavailableError."""
    with _answered(), contextlib.closing(_connect(redis_url)) as client:
        client.set(STOP, holder.nonce, ex=_STOP_TTL_S)


class _Lease:
    """The lease of one holder. Methods raise redis-py's errors unless they say otherwise."""

    def __init__(self, redis_url: str, holder: Holder, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        self._holder = holder
        self._token = msgspec.json.encode(holder).decode()
        self._client = _connect(redis_url)
        self._lock = Lock(self._client, LEASE, timeout=ttl_s, thread_local=False)

    def take(self, deadline: float) -> None:
        """Raises HeldError, StoreUnavailableError."""
        with _answered():
            while not self._lock.acquire(blocking=False, token=self._token):
                value = self._client.get(LEASE)
                other = _decode(value)
                if isinstance(value, bytes) and other is not None and other.home == self._holder.home:
                    # We hold the home's file, so the process that took the lease from this home is dead.
                    with contextlib.suppress(LockNotOwnedError):
                        self._lock.do_release(value)  # type: ignore[arg-type]
                elif time.monotonic() > deadline:
                    raise HeldError(other)
                else:
                    time.sleep(0.2)

    def keep(self) -> bool:
        """Hold it for another `ttl_s`; False when it is somebody else's now."""
        try:
            return self._lock.extend(self.ttl_s, replace_ttl=True)
        except LockNotOwnedError:
            return bool(self._lock.acquire(blocking=False, token=self._token))

    def asked_to_stop(self) -> bool:
        return bool(self._client.get(STOP) == self._holder.nonce.encode())

    def give_back(self) -> None:
        """At the end. Never raises: what cannot be given back expires."""
        try:
            self._lock.release()
        except (LockNotOwnedError, RedisError) as error:
            _log.warning("lease_not_given_back", error=str(error))
        self._client.close()


def _beat(lease: _Lease, stop: Stop, ended: threading.Event) -> None:
    while not ended.wait(lease.ttl_s / 6):
        try:
            if not lease.keep():
                stop("another run has taken the lease while Redis was away")
                return
            if lease.asked_to_stop():
                stop("stopped by whyrank train stop", by_person=True)
                return
        except RedisError as error:
            # Nobody else can take it while Redis is away; when it is back, `keep` tells.
            _log.warning("lease_not_extended", error=str(error))


@contextmanager
def _file_lock(home: Path, run: str, deadline: float) -> Iterator[Holder]:
    path = _lock_file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    glance = max(deadline, time.monotonic() + _GLANCE_S)
    with path.open("a+b") as file:
        while not _locked(file):
            other = here(home)
            if time.monotonic() > (deadline if other is not None else glance):
                raise HeldError(other)
            time.sleep(0.1)
        holder = Holder(run, socket.gethostname(), os.getpid(), time.time(), _home_name(home), secrets.token_hex(8))
        file.truncate(0)
        file.write(msgspec.json.encode(holder))
        file.flush()
        try:
            yield holder
        finally:
            file.truncate(0)


def here(home: Path) -> Holder | None:
    """Who trains in this home, and so on this machine or one that shares its disk.

    None, too, in the moment between locking the file and writing it.
    """
    try:
        with _lock_file(home).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _decode(file.read())
    except FileNotFoundError:
        pass
    return None


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_file(home: Path) -> Path:
    return home / "training" / "lock"


def _home_name(home: Path) -> str:
    """Made once; only who has the file locked comes here."""
    path = _lock_file(home).with_name("id")
    if not path.exists():
        draft = path.with_suffix(".draft")
        draft.write_text(secrets.token_hex(8))
        draft.replace(path)
    return path.read_text()


def _decode(value: object) -> Holder | None:
    if not isinstance(value, bytes):
        return None
    try:
        return msgspec.json.decode(value, type=Holder)
    except msgspec.DecodeError:
        return None


def _connect(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=_SOCKET_TIMEOUT_S, socket_connect_timeout=_SOCKET_TIMEOUT_S)


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise StoreUnavailableError(f"Redis cannot be reached: {error}") from error
