"""Ranking ids: who has not been given one cannot guess or make one."""

from __future__ import annotations

import hashlib
import secrets

from itsdangerous import Signer

_RANDOM_BYTES = 18
"""144 random bits, 24 characters."""
_LONGEST = 128


class RankingIds:
    """Makes and checks ids of 144 random bits with an HMAC-SHA256 signature (`random.signature`, URL-safe).

    The random part alone is unguessable; the signature lets any sidecar that shares `secret` refuse a made-up
    id without asking Redis. Sidecars with different secrets refuse each other's ids.
    """

    def __init__(self, secret: str) -> None:
        self._signer = Signer(secret, salt="whyrank.ranking", digest_method=hashlib.sha256)

    def new(self) -> str:
        """A fresh id: 68 URL-safe ASCII characters."""
        return self._signer.sign(secrets.token_urlsafe(_RANDOM_BYTES)).decode("ascii")

    def check(self, ranking_id: str) -> bool:
        """Whether `ranking_id` was made with this secret; any string is safe to pass."""
        return len(ranking_id) <= _LONGEST and ranking_id.isascii() and self._signer.validate(ranking_id)
