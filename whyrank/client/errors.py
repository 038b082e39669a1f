"""What calls of the client raise, and nothing else.

ClientError                  the root; a WhyRankError
├── UnreachableError         no sidecar answers at the address
│   └── TimedOutError        not within the time given
├── RefusedError             it answered 4xx: `status_code`, `type`, and `field` where it names one
│   ├── ForbiddenError       401 or 403
│   ├── MissingError         404: no such ranking, index or policy; or no sidecar's address
│   └── BusyError            429; `retry_after_s` where it says when to come back
├── FailedError              it answered 5xx; `status_code`
└── ProtocolError            what answers there is no sidecar of a version that this client knows

A search that could not be rescored is none of these: it is an answer with the order given, a status and a reason.
What is wrong before anything is sent (a document without text) is a BadRequestError, which names it.
"""

from __future__ import annotations

from whyrank.errors import WhyRankError


class ClientError(WhyRankError):
    """The call failed."""

    status = 502


class UnreachableError(ClientError):
    """No sidecar answers at the address."""

    status = 503


class TimedOutError(UnreachableError):
    """No answer within the time given."""

    status = 504


class RefusedError(ClientError):
    """The sidecar, or the engine behind it, refused this very request. `type` is its stable word for why."""

    def __init__(self, message: str, *, status_code: int, type: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.type = type
        self.field = field


class ForbiddenError(RefusedError):
    """The credentials are missing, wrong or not enough."""


class MissingError(RefusedError):
    """What was asked for is not there, or no longer."""


class BusyError(RefusedError):
    """Too many requests, and waiting as long as was asked would take longer than the call may."""

    retry_after_s: float | None = None
    """Seconds, as of the answer; None where it did not say."""


class FailedError(ClientError):
    """The sidecar, or what stands before it, failed."""

    def __init__(self, message: str, *, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


class ProtocolError(ClientError):
    """What was answered is not what a sidecar answers."""
