"""One call from request to result, without I/O: what to send, when to try again, what an answer means.

A `Flow` is a generator that the synchronous and the asynchronous client drive alike: it yields what is to be done (an
`Attempt` to send, a `Pause` to wait out) and is sent the answer; its return value is the call's result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from whyrank.client.errors import (
    BusyError,
    ClientError,
    FailedError,
    ForbiddenError,
    MissingError,
    ProtocolError,
    RefusedError,
    TimedOutError,
    UnreachableError,
)

T = TypeVar("T")
MOST_RETRIES = 3
"""A server that still asks for patience after so many pauses gets its answer to the caller."""
_PATIENCE = frozenset({429, 503})
_MESSAGE_CHARS = 500


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read. `wait_s` is added to the client's time limit.

    `accepts` are statuses beyond 2xx that `read` understands.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    body: object = None
    params: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    accepts: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Attempt:
    """Send this call's request once."""

    call: Call[Any]


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


Flow = Generator[Attempt | Pause, httpx.Response | None, T]


def single(call: Call[T], timeout_s: float, clock: Callable[[], float] = time.monotonic) -> Flow[T]:
    """One call. Raises ClientError.

    It is sent again only where the server asks for that: 429 or 503 with Retry-After, while the pause fits into the
    call's time. Everything the client sends may safely be sent twice.
    """
    ends = clock() + timeout_s + call.wait_s
    for retry in range(MOST_RETRIES + 1):
        answer = yield Attempt(call)
        if answer is None:
            raise RuntimeError("an attempt is answered by a response")
        if answer.is_success or answer.status_code in call.accepts:
            return _read(call, answer)
        pause = retry_after_s(answer) if answer.status_code in _PATIENCE else None
        if pause is None or retry == MOST_RETRIES or clock() + pause > ends:
            raise error_of(answer)
        yield Pause(pause)
    raise RuntimeError("unreachable")


def retry_after_s(answer: httpx.Response) -> float | None:
    """Seconds from now that `Retry-After` asks for, as a count or a date; None where there is none to be understood."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def error_of(answer: httpx.Response) -> ClientError:
    """The error behind an answer of 3xx, 4xx or 5xx, in the words of whoever answered."""
    status = answer.status_code
    type_, field_, said = _told(answer)
    message = f"{answer.request.method} {answer.request.url.path} was answered {status}: {said}"
    if status >= 500:
        return FailedError(message, status_code=status)
    if status < 400:
        return ProtocolError(message)
    if status == 429:
        busy = BusyError(message, status_code=status, type=type_, field=field_)
        busy.retry_after_s = retry_after_s(answer)
        return busy
    kinds = {401: ForbiddenError, 403: ForbiddenError, 404: MissingError}
    return kinds.get(status, RefusedError)(message, status_code=status, type=type_, field=field_)


@contextmanager
def mapped(url: str) -> Generator[None, None, None]:
    """Everything that httpx raises, as ClientError."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise TimedOutError(f"no answer from {url} in time") from error
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL, httpx.CookieConflict) as error:
        raise ClientError(f"{url} cannot be asked: {error}") from error
    except httpx.TransportError as error:
        raise UnreachableError(f"no sidecar answers at {url}: {error or type(error).__name__}") from error
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise ProtocolError(f"the answer from {url} cannot be read: {error or type(error).__name__}") from error


def decoded(type_: type[T]) -> Callable[[httpx.Response], T]:
    """A reader of JSON of this type."""
    decoder = msgspec.json.Decoder(type_)
    return lambda answer: decoder.decode(answer.content)


def _read(call: Call[T], answer: httpx.Response) -> T:
    try:
        return call.read(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"{call.method} {call.path} was not answered by a sidecar: {error}") from error


def _told(answer: httpx.Response) -> tuple[str, str | None, str]:
    """Type, field and message of an error answer: ours, those of the rerank APIs, or the engine's."""
    try:
        body = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", None, answer.text[:_MESSAGE_CHARS].strip() or answer.reason_phrase
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return "", None, str(error)[:_MESSAGE_CHARS]
    said = error.get("message") or error.get("detail") or error.get("reason") or error
    type_, field_ = error.get("type"), error.get("field")
    return (
        type_ if isinstance(type_, str) else "",
        field_ if isinstance(field_, str) else None,
        str(said)[:_MESSAGE_CHARS],
    )
