"""A module for each door: `unfit` says why an engine cannot have it, `plan` what is to be done for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from whyrank.connect.doors import custom, ml_commons, plugin, proxy
from whyrank.connect.steps import Door, Plan
from whyrank.connect.survey import Asks, Survey
from whyrank.connect.wish import Wish


@dataclass(frozen=True)
class DoorKind:
    """`unfit` gives a sentence, or None where the door can work. `plan` raises BadRequestError and EngineError."""

    unfit: Callable[[Survey], str | None]
    plan: Callable[[Asks, Survey, Wish], Awaitable[Plan]]


DOORS = {
    Door.PLUGIN: DoorKind(plugin.unfit, plugin.plan),
    Door.ML_COMMONS: DoorKind(ml_commons.unfit, ml_commons.plan),
    Door.CUSTOM: DoorKind(custom.unfit, custom.plan),
    Door.PROXY: DoorKind(proxy.unfit, proxy.plan),
}
"""Best first: the plugin changes no application, the proxy an address; the other two lose explanations."""

PREFERRED = (Door.PLUGIN, Door.PROXY, Door.ML_COMMONS, Door.CUSTOM)


def best(survey: Survey) -> Door:
    """The door to take where the admin names none: the proxy, unless our plugin is installed."""
    return next(door for door in PREFERRED if DOORS[door].unfit(survey) is None)


def fitting(survey: Survey) -> list[Door]:
    """Every door that can work, best first."""
    return [door for door in PREFERRED if DOORS[door].unfit(survey) is None]
