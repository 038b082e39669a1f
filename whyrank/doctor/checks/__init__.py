"""All checks, by name, in the order in which they are carried out."""

from whyrank.doctor.checks import (
    clocks,
    custom,
    engine,
    indices,
    ml_commons,
    model,
    plugin,
    proxy,
    sidecar,
    store,
    workers,
)
from whyrank.doctor.registry import Check

_PARTS = (engine, store, sidecar, workers, model, clocks, indices, plugin, ml_commons, custom, proxy)

CHECKS = {one.name: one for part in _PARTS for one in vars(part).values() if isinstance(one, Check)}
"""What a check needs comes before it."""
