"""The stages of a training run, the folder they work in, and what each leaves there.

A stage is a function `run(run: RunFolder, config: <Stage>Config, settings: Settings, progress: Progress) -> Report`
in `training/<stage>/__init__.py`. It writes only into its own folder, may be killed at any time, and goes on from
what it finds there when it is called again with the same config. `finish` writes its report last: a stage with a
report is done and is not run again.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from whyrank.embedded.cache import Progress
from whyrank.errors import WhyRankError

__all__ = ["Progress", "Report", "RunFolder", "Stage", "StageError"]


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


class RunFolder:
    """One training run on disk.

    mine/groups.jsonl (Group), synthesize/groups.jsonl (Group, the teacher's own queries among them) and
    synthesize/judgements.jsonl (Judgement), distill/adapter/, refine/adapter/ (peft's form),
    evaluate/metrics.json and evaluate/report.html; beside them each stage's report.json.
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


def config_hash(config: msgspec.Struct) -> str:
    """16 hex digits of a stage's configuration."""
    return hashlib.sha256(msgspec.json.encode(config, order="sorted")).hexdigest()[:16]
