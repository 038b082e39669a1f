"""A judged hit as callers see it: explanations only with their evidence."""

from __future__ import annotations

from typing import Literal

from whyrank.types import Quote, RankedHit

HitStatus = Literal["judged", "unjudged", "failed"]


def status_of(hit: RankedHit) -> HitStatus:
    """`failed`: the model could not judge it. `unjudged`: not yet, or there is no text to judge."""
    if hit.verdict is not None:
        return "judged"
    return "failed" if hit.failure is not None else "unjudged"


def label_of(hit: RankedHit) -> int | None:
    """The model's label, None without a verdict."""
    return None if hit.verdict is None else hit.verdict.label


def explanation_of(hit: RankedHit) -> str | None:
    """The explanation if every quote in it stands in the passage; an ungrounded one is withheld."""
    verdict = hit.verdict
    return verdict.explanation or None if verdict is not None and verdict.grounded else None


def quotes_of(hit: RankedHit) -> list[Quote]:
    """The quotes of a shown explanation, in the document's own spelling."""
    if hit.verdict is None or explanation_of(hit) is None:
        return []
    return [quote for quote in hit.verdict.quotes if quote.grounded]
