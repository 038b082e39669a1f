"""The stage `synthesize`: a teacher judges each passage of the mined groups, and says why.

`teacher = "offline"` judges by similarity, on any machine (offline.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from training.progress import Stopwatch
from training.recipe import Recipe
from training.records import Group, Judgement, check, read, write
from training.stages import Progress, Report, RunFolder, Stage, config_hash
from training.synthesize import offline
from training.synthesize.config import OfflineConfig, SynthesizeConfig
from whyrank.settings import Settings

__all__ = ["OfflineConfig", "SynthesizeConfig", "run"]


def run(run: RunFolder, config: SynthesizeConfig, settings: Settings, recipe: Recipe, progress: Progress) -> Report:  # noqa: ARG001
    """Judge the groups of mine/groups.jsonl. Raises RecordsError for groups that are not as mined, BadRequestError."""
    folder = run.folder(Stage.SYNTHESIZE)
    mined = run.folder(Stage.MINE) / "groups.jsonl"
    made_of = {"config": config_hash(config), "mine/groups.jsonl": check(mined).sha256}
    with Stopwatch(folder) as watch:
        groups = sorted(read(mined, Group, verify=False), key=lambda group: group.id)
        chosen = [group for group in groups if group.split in config.splits]

        def saving(what: str, share: float | None) -> None:
            watch.save()
            progress(what, share)

        encoders = offline.load_encoders(config.offline, progress)
        teacher = offline.OfflineTeacher(encoders, config.offline, folder)
        judged = teacher.judge(chosen, saving)
        figures = {
            "teacher": teacher.name,
            "groups": {split.value: sum(g.split is split for g in groups) for split in config.splits},
            "pairs": sum(len(group.passages) for group in chosen),
            "judgements": len(judged.judgements),
            "labels": _shares(judged.judgements),
            "rejected": dict(sorted(Counter(rejection.reason for rejection in judged.rejections).items())),
            **judged.figures,
        }
        outputs = {
            name: write(folder / name, records, made_of).sha256
            for name, records in (
                ("groups.jsonl", groups),
                ("judgements.jsonl", _in_order(judged.judgements)),
                ("rejected.jsonl", _in_order(judged.rejections)),
            )
        }
    return run.finish(Report(Stage.SYNTHESIZE, made_of, outputs, figures, watch.seconds))


def _in_order(records: Iterable[Any]) -> list[Any]:
    """By group and passage, whichever was judged first."""
    return sorted(records, key=lambda record: (record.group, record.passage))


def _shares(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Share of each label among the judgements."""
    found = Counter(judgement.label for judgement in judgements)
    return {str(label): round(found[label] / max(1, len(judgements)), 4) for label in (0, 1, 2)}
