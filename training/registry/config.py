"""The section `promote` of a recipe."""

from __future__ import annotations

import msgspec


class PromoteConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a version must show, and what is done with one that does. Shares and measures are in [0, 1]."""

    min_queries: int = 30
    """Held-out judged queries that the comparison must rest on."""
    engine_tolerance: float = 0.0
    """How far the mean of nDCG@10 may lie below the engine's own order."""
    parse_floor: float = 0.99
    """Answers that can be read; a model that replaces one below it must reach that one's share."""
    verbatim_floor: float = 0.97
    """Quotes that stand in their passage; likewise."""
    share_tolerance: float = 0.005
    """How far those two may lie below the current model's, where that is below the floor."""
    agreement_tolerance: float = 0.02
    """How far the labels' agreement with the judgements (weighted kappa) may lie below the current model's."""
    consistency_tolerance: float = 0.02
    """How far the share of labels that stay under a paraphrase may lie below the current model's."""
    shadow_first: bool = False
    """An accepted version runs in shadow, and a person promotes it (`whyrank train models promote`)."""
    force: str = ""
    """A written reason to promote what the gate refuses."""
    wait_s: float = 900.0
    """How long to wait until a model server that is up serves the new version, seconds."""
