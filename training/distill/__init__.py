"""Stage distill: the student learns the teacher's explanations, labels and order (InteRank, stage 1).

Supervised fine-tuning on explanation and label, with the loss on the answer alone, as in the paper; to it come the
teacher's soft labels at the label token, and a listwise term over each group (ListNet: Cao et al., "Learning to Rank:
From Pairwise Approach to Listwise Approach", 2007), because a reranker is judged by orders, not by labels.
The work itself is `training.distill.job`, run by the model environment's Python.
"""

from __future__ import annotations

from training.distill import start
from training.distill.config import DistillConfig
from training.model_job import run_job
from training.progress import Stopwatch
from training.recipe import Recipe
from training.records import check, file_hash
from training.stages import Progress, Report, RunFolder, Stage, config_hash
from whyrank.settings import Settings

__all__ = ["DistillConfig", "run"]

RECORDS = ("groups.jsonl", "judgements.jsonl", "primer_groups.jsonl", "primer_judgements.jsonl")


def run(run: RunFolder, config: DistillConfig, settings: Settings, recipe: Recipe, progress: Progress) -> Report:
    """Train the adapter `distill/adapter` on the run's judged groups of the split `train`.

    Killed and called again, it goes on from its newest checkpoint that is whole. Raises StageError when the job
    fails, RecordsError when the records are not what their manifests say, RegistryError when
    it is to go on from a current version that is damaged.
    """
    records = run.folder(Stage.SYNTHESIZE)
    inputs = {name: check(records / name).sha256 for name in RECORDS}
    inputs["config"] = config_hash(config)
    folder = run.folder(Stage.DISTILL)
    begins = start.adapter_of(config, settings, recipe, folder)
    if begins is not None:
        inputs |= {f"{start.FOLDER}/{each.name}": file_hash(each) for each in sorted(begins.iterdir())}
    with Stopwatch(folder) as watch:
        figures = run_job(
            "training.distill.job",
            {
                "config": config,
                "records": records,
                "base": recipe.base,
                "constraint": recipe.constraint,
                "start": begins,
            },
            folder,
            settings,
            watch.saving(progress),
        )
    return run.finish(Report.of(Stage.DISTILL, folder, ["adapter"], inputs, figures, round(watch.seconds, 3)))
