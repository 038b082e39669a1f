"""A version through the gate and into service: what the stage `promote` and `whyrank train models promote` both do."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from training.evaluate import metrics as metrics_of
from training.model_job import EMBEDDED
from training.registry import lora, service
from training.registry.config import PromoteConfig
from training.registry.gate import Check, Decision, decide
from training.stages import Progress
from whyrank.embedded import model_server
from whyrank.embedded import state as states
from whyrank.errors import ModelError
from whyrank.registry import Action, Registry, Version
from whyrank.settings import Settings


class Promotion(msgspec.Struct, frozen=True):
    """What became of a version."""

    version: str
    action: str
    """`promoted`, `forced`, `shadow`, `refused`, or `current` where it was the current one already."""
    checks: tuple[Check, ...]
    before: str | None
    served: bool
    words: str
    """What to tell a person, in full."""


def registry_of(settings: Settings, base: str = EMBEDDED) -> Registry:
    """This home's versions; those of the embedded base have the shipped one and the base itself among them."""
    home = settings.home.resolve()
    return model_server.registry(home) if base == EMBEDDED else Registry(home / "models")


def promote(registry: Registry, name: str, config: PromoteConfig, settings: Settings, progress: Progress) -> Promotion:
    """Take a version through the gate by its own evaluation. A refusal is an answer, not an error.

    Raises RegistryError for a version that is not there or damaged, BadRequestError for settings that cannot serve.
    """
    version = registry.load(name)
    service.check(settings)
    before = registry.current()
    if name == before:
        # Of a stage that was killed after it had promoted, or of a second command.
        found = service.bring(registry, name, settings, progress, config.wait_s)
        return Promotion(name, "current", (), before, found.served, f"{name} is the current version. {found.words}")
    decision = _decision(version, config, before)
    if not decision.accepted and not config.force:
        reasons = sentences(decision.reasons)
        if not _refused_last(registry, name, reasons):
            registry.note(Action.REFUSE, name, reasons, before)
        words = f"{name} is not promoted, {before or 'nothing'} stays current: {reasons}"
        return Promotion(name, "refused", decision.checks, before, False, words)
    if config.shadow_first and decision.accepted:
        return _to_shadow(registry, version, decision, settings, progress)
    action = "promoted" if decision.accepted else "forced"
    reason = "passed the gate" if decision.accepted else f"forced: {config.force} ({sentences(decision.reasons)})"
    registry.promote(name, reason)
    found = service.bring(registry, name, settings, progress, config.wait_s)
    words = f"{name} is current now ({reason}), in place of {before or 'none'}. {found.words}"
    return Promotion(name, action, decision.checks, before, found.served, words)


def roll_back(registry: Registry, reason: str, settings: Settings, progress: Progress, wait_s: float) -> str:
    """The version before becomes current again, and is brought into service; gives what to tell.

    Raises RegistryError when there is none.
    """
    service.check(settings)
    event = registry.rollback(reason)
    name = str(event.version)
    return f"{name} is current again. {service.bring(registry, name, settings, progress, wait_s).words}"


def set_shadow(registry: Registry, name: str | None, reason: str, settings: Settings, progress: Progress) -> str:
    """Run a version in shadow, or none; gives what to tell. Raises RegistryError, ModelError, BadRequestError."""
    version = registry.load(name) if name is not None else None
    if settings.model_swap == "lora":
        lora.activate_shadow(version, settings, progress)
    registry.shadow(name, reason)
    if name is None:
        return "no version runs in shadow"
    if settings.model_swap == "host" and states.running(settings.home.resolve()) is None:
        return f"{name} runs in shadow at the next `whyrank up` with WHYRANK_SHADOW_SHARE above 0"
    return f"{name} runs in shadow where WHYRANK_SHADOW_SHARE is above 0; see whyrank train models shadow"


def _to_shadow(
    registry: Registry, version: Version, decision: Decision, settings: Settings, progress: Progress
) -> Promotion:
    before = registry.current()
    try:
        told = set_shadow(registry, version.name, "passed the gate", settings, progress)
    except ModelError as error:
        told = f"it could not be loaded: {error}"
    words = f"{version.name} passed the gate, and {before} stays current until a person promotes it. {told}"
    return Promotion(version.name, "shadow", decision.checks, before, False, words)


def _decision(version: Version, config: PromoteConfig, current: str | None) -> Decision:
    if version.evaluation is None:
        return Decision((Check(False, "it has no evaluation"),))
    return decide(metrics_of.load(version.evaluation), config, current)


def _refused_last(registry: Registry, name: str, reasons: str) -> bool:
    """Whether the history ends with this very refusal: the stage was killed after it, and runs again."""
    events = registry.history()
    return bool(events) and (events[-1].action, events[-1].version, events[-1].reason) == (Action.REFUSE, name, reasons)


def sentences(reasons: Sequence[str]) -> str:
    """Reasons as one line."""
    return "; ".join(reasons)
