"""The id of a request: taken from the caller if it sent one, in every log line, in the answer, in the jobs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

_ACCEPTED = re.compile(rb"[!-~]{1,128}")
_NAMES = (b"x-request-id", b"x-opaque-id")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """`X-Request-Id`, else the engine's own `X-Opaque-Id`, else a fresh one (32 hexadecimal characters).

    `headers` are ASGI's (lower-case names). A value that is longer than 128 characters or not plain visible
    ASCII could forge log lines, and is replaced.
    """
    found = {name: value for name, value in headers if name in _NAMES}
    for name in _NAMES:
        value = found.get(name, b"")
        if _ACCEPTED.fullmatch(value):
            return value.decode("ascii")
    return secrets.token_hex(16)
