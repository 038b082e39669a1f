"""How both clients reach a sidecar."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import httpx

import whyrank
from whyrank.client.calls import encoded
from whyrank.client.exchange import Call
from whyrank.errors import BadRequestError

CONNECT_RETRIES = 1
"""A connection that was refused has sent nothing: it is tried once more, for a sidecar that is just restarting."""


class Connection:
    """Where the sidecar is, and what every request carries. Raises BadRequestError for an address that is none."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        auth: tuple[str, str] | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
        verify: ssl.SSLContext | bool,
    ) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise BadRequestError("url", f"an http:// or https:// address is needed, not {url!r}")
        if api_key is not None and auth is not None:
            raise BadRequestError("auth", "either api_key or auth, not both: they are one header")
        self.timeout_s = timeout_s
        # without TLS there is nothing to verify, and reading all certificates takes longer than most calls
        self.verify = verify if self.url.startswith("https://") else False
        own = {"User-Agent": f"whyrank-python/{whyrank.__version__}"}
        if api_key is not None:
            own["Authorization"] = f"Bearer {api_key}"
        self.options: dict[str, Any] = {"headers": {**own, **(headers or {})}, "auth": auth}

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """The arguments of httpx's `request` for this call."""
        arguments: dict[str, Any] = {
            "method": call.method,
            "url": f"{self.url}{call.path}",
            "params": dict(call.params),
            "timeout": httpx.Timeout(self.timeout_s + call.wait_s, connect=self.timeout_s),
        }
        if call.body is not None:
            arguments |= {"content": encoded(call.body), "headers": {"Content-Type": "application/json"}}
        return arguments
