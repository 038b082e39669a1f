"""Fake of the port ModelStatus."""

from __future__ import annotations

from plugin_service.rescoring.ports import ModelInfo
from whyrank.types import FusionWeights


class FakeModelStatus:
    """Says what `info` says; ready unless told otherwise."""

    def __init__(
        self, *, ready: bool = True, revision: str = "rev-1", weights: FusionWeights | None = None, reason: str = ""
    ) -> None:
        self.info = ModelInfo(ready=ready, revision=revision, weights=weights or FusionWeights(), reason=reason)

    def current(self) -> ModelInfo:
        return self.info
