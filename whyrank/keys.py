"""The key of a pair's verdict: equal only where query, document text, model and tenant are (pure)."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from hashlib import blake2b

from whyrank.folding import visible
from whyrank.types import Mode


@lru_cache(maxsize=256)  # asked for every candidate of a search
def normalise_query(text: str) -> str:
    """The query as it is judged and keyed: NFKC, without invisible characters, white space folded.

    Case stays: to a model, `US` is not `us`.
    """
    return " ".join(visible(unicodedata.normalize("NFKC", text)).split())


def pair_key(*, tenant: str, model_revision: str, mode: Mode, query: str, content_hash: str, budget: int) -> str:
    """128 bits in hex of all that a verdict depends on; `query` is normalised here, `budget` is in tokens.

    Each part is hashed with its length, so that no two lists of parts run together into the same bytes.
    """
    parts = (tenant, model_revision, mode.value, normalise_query(query), content_hash, str(budget))
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return blake2b(b"".join(b"%d:%b" % (len(part), part) for part in encoded), digest_size=16).hexdigest()
