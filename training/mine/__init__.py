"""The stage `mine`: what the engine has indexed becomes query-passage groups.

1. The index is read onto disk through points in time, in slices, and cut into pages and passages (`reading`).
2. Near-duplicates are found and each page is given a split (`corpus`, `duplicates`, `splits`).
3. Sources give queries with the passages that answer them (`questions`, `clicks`, `anchors`, `sections`).
4. The engine is searched for each, which gives hard negatives; others are drawn (`grouping`).

Each step keeps what it has done in `mine/work`, which goes when the stage is done: a killed run goes on, and its
groups are byte for byte those of a run that was let be.
"""

from __future__ import annotations

from training.mine.config import MineConfig, SplitBy
from training.mine.mining import GROUPS, WATERMARK, Known, Mining
from training.progress import Stopwatch
from training.recipe import Recipe
from training.stages import Progress, Report, RunFolder, Stage
from whyrank.errors import BadRequestError
from whyrank.settings import Settings

__all__ = ["GROUPS", "WATERMARK", "Known", "MineConfig", "SplitBy", "run"]


def run(run: RunFolder, config: MineConfig, settings: Settings, recipe: Recipe, progress: Progress) -> Report:  # noqa: ARG001 - as all stages
    """Mine the index of `config`.

    Raises BadRequestError for a config that cannot be, EngineError and its kin when the engine does not do its part,
    StageError when the index has nothing to learn from. What was done until then is kept for the next try.
    """
    if not config.index:
        raise BadRequestError("mine.index", "name the index to learn from")
    folder = run.folder(Stage.MINE)
    with Stopwatch(folder) as watch:
        return run.finish(Mining(folder, config, settings, progress).go(watch))
