"""Runs the stage `mine` in a process of its own, which dies by SIGKILL at a commit that it is told.

`python -m tests.integration.training.mine_run FOLDER CONFIG ENGINE COMMITS` (0: it is let be). It dies after the
records were written and before they are committed, as a kill at the worst time would leave them.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from training.mine import MineConfig, run
from training.mine.spool import Spool
from training.recipe import Recipe
from training.stages import RunFolder
from whyrank.settings import Settings


def main(folder: str, config: str, engine: str, commits: int) -> None:
    left = commits
    commit = Spool.commit

    def counted(self: Spool, mark: Any, *, done: bool = False) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            self._file.write(b'{"half a record')
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, mark, done=done)

    Spool.commit = counted  # type: ignore[method-assign]
    settings = Settings(engine_url=engine)
    kind = msgspec.json.decode(config, type=MineConfig)
    run(RunFolder(Path(folder)), kind, settings, Recipe("test", "embedded"), lambda *_: None)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
