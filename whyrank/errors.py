"""Every error of ours, in one tree, with the HTTP status each one maps to.

WhyRankError                     500
├── BadRequestError              400  the caller's input; `field` names the culprit
│   └── NotFoundError            404
├── EngineError                  502  the engine answered what we cannot use
│   ├── EngineUnavailableError   503  the engine cannot be reached
│   ├── EngineTimeoutError       504  the engine was silent for too long
│   └── IndexMissingError        404  no such index
├── StoreUnavailableError        503  Redis cannot be reached or refuses
├── RegistryError                500  a model version is missing, or is not what its checksums say
└── ModelError                   502
    ├── ModelUnavailableError    503  the model server cannot be reached, is warming or answers 5xx/429
    │   └── ModelUnknownError    503  the model server serves no model of that name, or no longer
    └── ModelRefusedError        502  the model server answered 4xx to this very prompt

Foreign exceptions (redis, aiohttp, opensearch-py ...) are mapped to these at the adapter that meets them.
"""

from __future__ import annotations


class WhyRankError(Exception):
    """The root; what is not further known is a 500."""

    status = 500


class BadRequestError(WhyRankError):
    """The caller's input is wrong; `field` names the part of it."""

    status = 400

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class NotFoundError(BadRequestError):
    """What the caller named is not there."""

    status = 404


class EngineError(WhyRankError):
    """The engine answered what we cannot use."""

    status = 502


class EngineUnavailableError(EngineError):
    """The engine cannot be reached."""

    status = 503


class EngineTimeoutError(EngineError):
    """The engine was silent for too long."""

    status = 504


class IndexMissingError(EngineError):
    """The engine has no such index."""

    status = 404


class StoreUnavailableError(WhyRankError):
    """Redis cannot be reached, or refuses to read or write."""

    status = 503


class RegistryError(WhyRankError):
    """A model version is missing, or is not what its checksums say; the message names the file."""


class ModelError(WhyRankError):
    """The model server answered what we cannot use."""

    status = 502


class ModelUnavailableError(ModelError):
    """The model server cannot be reached, is warming, or answers 5xx or 429: worth a retry.

    `suspect`: this very prompt may be the cause (a timeout, a 500), so retries of it should be counted.
    """

    status = 503

    def __init__(self, message: str, *, suspect: bool = False) -> None:
        super().__init__(message)
        self.suspect = suspect


class ModelUnknownError(ModelUnavailableError):
    """The model server serves no model of the name asked for: not yet, or no longer."""


class ModelRefusedError(ModelError):
    """The model server answered 4xx to this very prompt: a retry would not help."""

    def __init__(self, message: str, *, too_long: bool = False) -> None:
        super().__init__(message)
        self.too_long = too_long
