"""Which indices are rescored, and how. Read-only: an admin writes policies with the engine's own credentials."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from plugin_service.api.parts import PartsDep
from whyrank.types import Mode

router = APIRouter(prefix="/_whyrank", tags=["policies"])


class Weights(BaseModel):
    """Weights of the fused signals."""

    engine: float
    relevance: float
    similarity: float


class PolicyView(BaseModel):
    """What an admin has set for an index. `weights` null: those of the served model's manifest."""

    index: str
    enabled: bool
    fields: list[str]
    window: int
    deadline_ms: int
    mode: Mode
    passage_tokens: int
    weights: Weights | None
    similarity: bool
    """False: the bi-encoder's similarity has no weight."""


class PolicyList(BaseModel):
    """Every policy that this sidecar knows, by index name."""

    policies: list[PolicyView]


@router.get("/policies")
async def policies(parts: PartsDep) -> PolicyList:
    """Policies as this sidecar knows them; a change in the engine is seen within `WHYRANK_POLICY_REFRESH_S`."""
    known = sorted(parts.policies.all().items())
    return PolicyList(policies=[PolicyView.model_validate(policy, from_attributes=True) for _, policy in known])
