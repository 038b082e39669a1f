"""The stage `synthesize`: a teacher judges each passage of the mined groups, and says why.

`teacher = "offline"` judges by similarity, on any machine (offline.py); `teacher = "openai"` asks a language model
behind the OpenAI protocol, which also writes queries (openai_teacher.py). docs/training/synthesize.md.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from training.progress import Stopwatch
from training.recipe import Recipe
from training.records import Group, Judgement, check, read, write
from training.stages import Progress, Report, RunFolder, Stage, config_hash
from training.synthesize import offline, openai_teacher
from training.synthesize.config import OfflineConfig, SynthesizeConfig
from training.synthesize.openai_teacher import Taught
from whyrank.errors import BadRequestError
from whyrank.passages import estimate_tokens
from whyrank.settings import Settings

__all__ = ["OfflineConfig", "SynthesizeConfig", "run"]


def run(
    run: RunFolder,
    config: SynthesizeConfig,
    settings: Settings,
    recipe: Recipe,  # noqa: ARG001
    progress: Progress,
) -> Report:
    """Judge the groups of mine/groups.jsonl; a dry run gives its estimate as a report that is not written.

    Raises RecordsError for groups that are not as they were mined, BadRequestError for a config that names no
    teacher, StageError for a teacher that cannot be used.
    """
    if config.teacher == "offline" and config.queries_per_origin:
        raise BadRequestError("synthesize.queries_per_origin", "the offline teacher writes no queries")
    mined = run.path / Stage.MINE / "groups.jsonl"
    made_of = {"config": config_hash(config), "mine/groups.jsonl": check(mined).sha256}
    groups = sorted(read(mined, Group, verify=False), key=lambda group: group.id)
    chosen = [group for group in groups if group.split in config.splits]
    figures: dict[str, Any] = {
        "groups": {split.value: sum(group.split is split for group in groups) for split in config.splits},
        "pairs": sum(len(group.passages) for group in chosen),
    }
    if config.dry_run:
        figures["dry_run"] = _estimate(chosen, config, run.path / Stage.SYNTHESIZE)
        return Report(Stage.SYNTHESIZE, made_of, {}, figures, 0.0)
    folder = run.folder(Stage.SYNTHESIZE)
    with Stopwatch(folder) as watch:
        taught = _teach(chosen, config, settings, folder=folder, watch=watch, progress=progress)
        every = sorted([*groups, *taught.synthetic], key=lambda group: group.id)
        outputs = {
            name: write(folder / name, records, made_of).sha256
            for name, records in (
                ("groups.jsonl", every),
                ("judgements.jsonl", _in_order(taught.judgements)),
                ("rejected.jsonl", _in_order(taught.rejections)),
                ("primer_groups.jsonl", taught.primer_groups),
                ("primer_judgements.jsonl", taught.primer_judgements),
            )
        }
    figures |= {
        "synthetic_groups": len(taught.synthetic),
        "judgements": len(taught.judgements),
        "primer_groups": len(taught.primer_groups),
        "labels": _shares(taught.judgements),
        "rejected": dict(sorted(Counter(rejection.reason for rejection in taught.rejections).items())),
        **taught.figures,
    }
    return run.finish(Report(Stage.SYNTHESIZE, made_of, outputs, figures, round(watch.seconds, 3)))


def _teach(
    groups: Sequence[Group],
    config: SynthesizeConfig,
    settings: Settings,
    *,
    folder: Path,
    watch: Stopwatch,
    progress: Progress,
) -> Taught:
    if config.teacher == "openai":
        teaching = openai_teacher.teach(groups, config, settings, folder=folder, watch=watch, progress=progress)
        taught = asyncio.run(teaching)
        return taught._replace(figures={"teacher": openai_teacher.name(config), **taught.figures})
    teacher = offline.OfflineTeacher(offline.load_encoders(config.offline, progress), config.offline, folder)
    judged = teacher.judge(groups, watch.saving(progress))
    figures = {"teacher": teacher.name, **judged.figures}
    return Taught([], judged.judgements, judged.rejections, figures, judged.primer_groups, judged.primer_judgements)


def _estimate(groups: Sequence[Group], config: SynthesizeConfig, folder: Path) -> dict[str, Any]:
    if config.teacher == "openai":
        return openai_teacher.estimate(groups, config, folder)
    texts = {passage.text for group in groups for passage in group.passages}
    return {
        "passages": len(texts),
        "tokens": sum(map(estimate_tokens, texts)),
        "encoders": len(config.offline.encoders),
    }


def _in_order(records: Iterable[Any]) -> list[Any]:
    """By group and passage, whichever was judged first."""
    return sorted(records, key=lambda record: (record.group, record.passage))


def _shares(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Share of each label among the judgements."""
    found = Counter(judgement.label for judgement in judgements)
    return {str(label): round(found[label] / max(1, len(judgements)), 4) for label in (0, 1, 2)}
