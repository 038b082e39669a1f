"""The key of a pair's verdict: equal only where query, document text, model and tenant are (pure)."""

from __future__ import annotations

import unicodedata
from hashlib import blake2b

from whyrank.folding import visible
from whyrank.types import Mode


def normalise_query(text: str) -> str:
    """The query as it is judged and keyed: NFKC, without invisible characters, white space folded.

    Case stays: to a model, `US` is not `us`.
    """
    return " ".join(visible(unicodedata.normalize("NFKC", text)).split())


class PairKeys:
    """The keys of one search's pairs: they differ only in the document, so the rest is hashed once.

    A key is 128 bits in hex of all that a verdict depends on; `query` is normalised here, `budget` is in tokens.
    Each part is hashed with its length, so that no two lists of parts run together into the same bytes.
    """

    __slots__ = ("_shared",)

    def __init__(self, *, tenant: str, model_revision: str, mode: Mode, query: str, budget: int) -> None:
        parts = (tenant, model_revision, mode.value, normalise_query(query), str(budget))
        self._shared = blake2b(b"".join(_framed(part) for part in parts), digest_size=16)

    def key(self, content_hash: str) -> str:
        """The key of the document with this content hash."""
        state = self._shared.copy()
        state.update(_framed(content_hash))
        return state.hexdigest()


def _framed(part: str) -> bytes:
    encoded = part.encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(encoded), encoded)
