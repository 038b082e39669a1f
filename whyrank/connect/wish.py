"""What an admin wants connected, as the command line says it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import msgspec

from whyrank.errors import BadRequestError
from whyrank.types import Mode, Policy


class Wish(msgspec.Struct, frozen=True):
    """`sidecar_url` is the sidecar's address as the engine reaches it (the application, for the proxy)."""

    sidecar_url: str
    index: str | None = None
    policy: Policy | None = None
    """Of the index, where it has one."""
    fields: tuple[str, ...] = ()
    window: int | None = None
    deadline_ms: int | None = None
    mode: Mode | None = None
    name: str | None = None
    """Of the pipeline or the inference endpoint; None: the door's own."""
    explanations: bool = False
    """On hits, where the door has to be asked for them (ml-commons)."""
    key_variable: str = "WHYRANK_KEY"
    """The environment's variable that holds what the engine sends as a bearer token."""
    engine_url: str = ""
    rerank_deadline_ms: int = 1_500
    """The sidecar's own deadline for callers that name none."""

    def needed_fields(self) -> tuple[str, ...]:
        """The fields given, else the policy's. Raises BadRequestError where there are neither."""
        fields = self.fields or (self.policy.fields if self.policy else ())
        if not fields:
            raise BadRequestError("fields", "name the fields that the model reads: --fields title,body")
        return fields

    def needed_index(self) -> str:
        """Raises BadRequestError where none is named."""
        if self.index is None:
            raise BadRequestError("index", "name the index whose searches are to be rescored: --index NAME")
        return self.index

    def known_window(self, default: int) -> int:
        """The window given, else the policy's, else the default."""
        return self.window or (self.policy.window if self.policy else default)


def read_url(url: str) -> str:
    """The address without a slash at its end. Raises BadRequestError for one that the engine could not use."""
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise BadRequestError("sidecar_url", f"an http:// or https:// address is needed, not {url!r}")
    if parts.username or parts.password:
        raise BadRequestError("sidecar_url", "no credentials in the address: it is printed and kept")
    return url.rstrip("/")


def is_public(url: str) -> bool:
    """Whether the address is a public IP: names may lead anywhere, so they count as private."""
    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_global
    except ValueError:
        return False


def is_loopback(url: str) -> bool:
    """Whether the address means whatever machine asks for it."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
