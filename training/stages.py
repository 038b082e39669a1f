"""The stages of a training run, the folder they work in, and what each leaves there.

A stage is a function
`run(run: RunFolder, config: <Stage>Config, settings: Settings, recipe: Recipe, progress: Progress) -> Report`
in `training/<stage>/__init__.py`. It writes only into its own folder, may be killed at any time, and goes on from
what it finds there when it is called again with the same config. `finish` writes its report last: a stage with a
report is done and is not run again. `training.runs` runs the stages one after another, each in a process of its own.
"""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from training.records import file_hash
from whyrank.embedded.cache import Progress
from whyrank.errors import WhyRankError

__all__ = ["OURS", "STAGES", "Progress", "Report", "RunFolder", "Stage", "StageCode", "StageError", "config_hash"]


class Stage(StrEnum):
    """In the order in which they run."""

    MINE = "mine"
    SYNTHESIZE = "synthesize"
    DISTILL = "distill"
    REFINE = "refine"
    EVALUATE = "evaluate"
    PROMOTE = "promote"


class StageError(WhyRankError):
    """A stage cannot go on; the message says what to do. What it has done so far is kept."""


class Report(msgspec.Struct, frozen=True):
    """What a stage did: `<stage>/report.json`."""

    stage: Stage
    inputs: dict[str, str]
    """Hashes of config and input files, by name."""
    outputs: dict[str, str]
    """sha256 of each file it made for others, by its path inside the stage's folder."""
    figures: dict[str, Any]
    """What it measured: counts, losses, tokens, seconds, metrics."""
    seconds: float
    """Over all its attempts."""

    @classmethod
    def of(  # noqa: PLR0917 - a report's fields
        cls,
        stage: Stage,
        folder: Path,
        made: Sequence[str],
        inputs: dict[str, str],
        figures: dict[str, Any],
        seconds: float,
    ) -> Report:
        """The report of a stage whose files (or folders of files) `made` are for others."""
        files = [path for name in made for path in _files(folder / name)]
        outputs = {str(path.relative_to(folder)): file_hash(path) for path in files}
        return cls(stage, inputs, outputs, figures, seconds)


class RunFolder:
    """One training run on disk.

    mine/groups.jsonl (Group), synthesize/groups.jsonl (Group, the teacher's own queries among them) and
    synthesize/judgements.jsonl (Judgement), with synthesize/primer_groups.jsonl and primer_judgements.jsonl of what is
    learnt first, distill/adapter/, refine/adapter/ (peft's form), evaluate/metrics.json and evaluate/report.html;
    beside them each stage's report.json.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self, stage: Stage) -> Path:
        """The stage's own folder, made when it is not there."""
        folder = self.path / stage.value
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def report(self, stage: Stage) -> Report | None:
        """The stage's report, None while it is not done. Raises StageError for one that cannot be read."""
        path = self.path / stage.value / "report.json"
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=Report)
        except msgspec.DecodeError as error:
            raise StageError(f"{path}: {error}; delete it to run the stage again") from error

    def finish(self, report: Report) -> Report:
        """Write the stage's report, whole or not at all: the stage is done."""
        path = self.folder(report.stage) / "report.json"
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        draft.replace(path)
        return report

    def adapter(self) -> Path:
        """The newest adapter of the run: refined, else distilled. Raises StageError when there is none."""
        for stage in (Stage.REFINE, Stage.DISTILL):
            if (found := self.path / stage.value / "adapter").is_dir():
                return found
        raise StageError(f"{self.path} holds no adapter: run the stage distill first")


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def config_hash(config: msgspec.Struct) -> str:
    """16 hex digits of a stage's configuration."""
    return hashlib.sha256(msgspec.json.encode(config, order="sorted")).hexdigest()[:16]


class StageCode(msgspec.Struct, frozen=True):
    """Where the code of a stage is, as `module:name`: it is imported when the stage runs, not before."""

    run: str
    config: str
    keeps: bool = False
    """Its folder stays when its config or inputs change: the stage itself knows what in it can be used again."""
    paid: tuple[str, ...] = ()
    """Files of its folder that hold what was paid for: a new run on the same index begins with the last one's."""

    def function(self) -> Callable[..., Report]:
        """The stage's function. Raises StageError when it cannot be imported."""
        found: Callable[..., Report] = _resolve(self.run)
        return found

    def config_type(self) -> type[msgspec.Struct]:
        """The struct of its section of a recipe. Raises StageError when it cannot be imported."""
        found: type[msgspec.Struct] = _resolve(self.config)
        return found


def _resolve(name: str) -> Any:
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise StageError(
            f"{name} cannot be imported: {error} (training needs the packages of whyrank[training])"
        ) from error


STAGES = {
    Stage.MINE: StageCode("training.mine:run", "training.mine:MineConfig"),
    Stage.SYNTHESIZE: StageCode(
        "training.synthesize:run", "training.synthesize:SynthesizeConfig", True, ("answers.jsonl",)
    ),
    Stage.DISTILL: StageCode("training.distill:run", "training.distill:DistillConfig"),
    Stage.REFINE: StageCode("training.refine:run", "training.refine:RefineConfig"),
    Stage.EVALUATE: StageCode("training.evaluate:run", "training.evaluate:EvaluateConfig"),
    Stage.PROMOTE: StageCode("training.registry:run", "training.registry:PromoteConfig"),
}
"""Ours, in the order in which they run."""
OURS = f"{__name__}:STAGES"
"""As the programs take it, which import no stage before its turn."""
