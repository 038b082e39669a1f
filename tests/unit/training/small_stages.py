"""Three stages that do next to nothing, for tests of who runs them.

Each writes a line into the run's `ledger` when it begins and when it is through, and does in between what its
config says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from training.recipe import Recipe
from training.stages import Progress, Report, RunFolder, Stage, StageCode, StageError
from whyrank.settings import Settings

NAME = f"{__name__}:STAGES"


class SmallConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: str = "small"
    value: int = 0
    fails: str = ""
    breaks: bool = False
    dies: bool = False
    waits_for: str = ""
    """Path of a file without which it does not go on."""
    child: bool = False
    """Start a process that nobody waits for."""


def _stage(stage: Stage) -> Callable[..., Report]:
    def run(run: RunFolder, config: SmallConfig, settings: Settings, recipe: Recipe, progress: Progress) -> Report:
        note(run, f"{stage.value} begins")
        folder = run.folder(stage)
        with (folder / "begun").open("a") as file:
            file.write("x")
        progress("half", 0.5)
        sys.stdout.write(f"{stage.value} says hello\n")
        if config.child:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            (run.path / "child").write_text(str(child.pid))
        while config.waits_for and not Path(config.waits_for).exists():
            time.sleep(0.05)
        if config.fails:
            raise StageError(config.fails)
        if config.breaks:
            raise LookupError("this was not foreseen")
        if config.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "out").write_text(f"{stage.value} {config.value}")
        report = run.finish(Report.of(stage, folder, ["out"], inputs={}, figures={"value": config.value}, seconds=0.1))
        note(run, f"{stage.value} is through")
        return report

    return run


def note(run: RunFolder, line: str) -> None:
    with (run.path / "ledger").open("a") as file:
        file.write(f"{line}\n")


def ledger(run: RunFolder) -> list[str]:
    path = run.path / "ledger"
    return path.read_text().splitlines() if path.exists() else []


mine, synthesize, promote = (_stage(stage) for stage in (Stage.MINE, Stage.SYNTHESIZE, Stage.PROMOTE))

STAGES = {
    Stage.MINE: StageCode(f"{__name__}:mine", f"{__name__}:SmallConfig"),
    Stage.SYNTHESIZE: StageCode(f"{__name__}:synthesize", f"{__name__}:SmallConfig", True, ("begun",)),
    Stage.PROMOTE: StageCode(f"{__name__}:promote", f"{__name__}:SmallConfig"),
}
BEGIN = [f"{stage.value} begins" for stage in STAGES]
THROUGH = [line for stage in STAGES for line in (f"{stage.value} begins", f"{stage.value} is through")]
