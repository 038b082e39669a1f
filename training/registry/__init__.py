"""Model versions: through the gate, into service, and back."""

from training.registry.config import PromoteConfig
from training.registry.gate import Check, Decision, decide
from training.registry.promotion import Promotion, promote, registry_of, roll_back, set_shadow
from training.registry.shadow_status import ShadowStatus, shadow_status
from training.registry.stage import run

__all__ = [
    "Check",
    "Decision",
    "PromoteConfig",
    "Promotion",
    "ShadowStatus",
    "decide",
    "promote",
    "registry_of",
    "roll_back",
    "run",
    "set_shadow",
    "shadow_status",
]
