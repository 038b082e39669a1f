"""What a training begins with: the base model, or the adapter of the version that is current."""

from __future__ import annotations

import shutil
from pathlib import Path

from training.distill.config import DistillConfig
from training.model_job import EMBEDDED
from training.recipe import Recipe
from training.stages import StageError
from whyrank.settings import Settings

FOLDER = "start"


def adapter_of(config: DistillConfig, settings: Settings, recipe: Recipe, folder: Path) -> Path | None:
    """The adapter to go on from, copied below `folder` so that a killed training goes on from the same one.

    None where it begins with the base model: as configured, or because no version with an adapter is current.
    Raises StageError for a version of another base, RegistryError for one that is damaged.
    """
    from training.registry import registry_of  # noqa: PLC0415  jobs import this package where its packages are not
    from whyrank.embedded import model_server  # noqa: PLC0415

    kept = folder / FOLDER
    if config.start == "base" or kept.is_dir():
        return kept if kept.is_dir() else None
    registry = registry_of(settings, recipe.base)
    current = registry.current()
    version = registry.load(current) if current is not None else None
    if version is None or version.adapter is None:
        return None
    wanted = model_server.BASE if recipe.base == EMBEDDED else recipe.base
    if version.manifest.base != wanted:
        raise StageError(
            f"the current version {version.name} is an adapter of {version.manifest.base}, and the recipe's base is "
            f'{wanted}: distill.start = "base" begins anew'
        )
    draft = folder / f"{FOLDER}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(version.adapter, draft)
    draft.rename(kept)
    return kept
