"""Stage `refine`: the student is rewarded for its own best answers, in rounds (docs/training/refine.md).

InteRank's second stage (Samarinas and Zamani, 2025, arXiv 2504.03947v3): sample answers, reward them, learn the
good ones in proportion to their reward, and begin again with the better student.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.refine.config import Keep, Objective, RefineConfig, RewardWeights, Scale

if TYPE_CHECKING:
    from training.recipe import Recipe
    from training.stages import Progress, Report, RunFolder
    from whyrank.settings import Settings

__all__ = ["Keep", "Objective", "RefineConfig", "RewardWeights", "Scale", "run"]


def run(run: RunFolder, config: RefineConfig, settings: Settings, recipe: Recipe, progress: Progress) -> Report:
    """Refine the distilled adapter into `refine/adapter/`; none is left where no round made it better.

    Raises StageError when it cannot go on; what is sampled, scored and trained so far is kept.
    """
    # The jobs of this package run in the model's environment, which has no HTTP client of ours
    from training.refine.loop import refine  # noqa: PLC0415

    return refine(run, config, settings, recipe, progress)
