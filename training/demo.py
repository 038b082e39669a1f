"""`whyrank train demo` (`make train-demo`): from pages to a model of their own that searches use, if it is better."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from rich.markup import escape
from rich.rule import Rule

from training import console, history, watching
from training.recipe import assign, configs, load
from training.runs import carry_out
from training.stages import STAGES, RunFolder, Stage
from whyrank.console import duration, err, out, show_search
from whyrank.embedded import state as states
from whyrank.embedded.demo import PYTHON_QUERIES, DemoError, bring_up, watch
from whyrank.embedded.state import State
from whyrank.engines import connect
from whyrank.engines.policies import PolicyStore
from whyrank.settings import Settings
from whyrank.sidecar import Sidecar
from whyrank.types import Policy

INDEX = "whyrank-train-demo"
FIELDS = ("title", "body")
JUDGING_MS = 60_000
READY_S = 900.0
SHOWN = 5
_SIGHT_S = 30.0
"""Within which a sidecar sees a policy or a model."""


def run(home: Path, recipe: str, port: int) -> None:
    """All of it, in front of whoever looks; what is up stays up. Raises WhyRankError with the step that failed."""
    begun = time.monotonic()
    loaded = assign(load(recipe), [f'mine.index="{INDEX}"'])
    configs(loaded)
    out.print("[bold]1. Bringing everything up[/] (the first time downloads about 2 GB)")
    state = bring_up(home, with_model=True, sidecar_port=port)
    out.print("[bold]2. Indexing[/] the documentation of this Python")
    _index(state)
    out.print("[bold]3. Waiting for the model[/] that serves until a better one is there")
    state = watch(home, lambda: _ready(home), READY_S)
    sidecar = Sidecar(state.urls[states.SIDECAR])
    before = _search(sidecar)
    out.print(f"searches are judged by revision {before}")
    out.print("[bold]4. Training[/]: " + escape(", ".join(stage.value for stage in STAGES if stage not in loaded.skip)))
    folder, _ = history.new_run(home, loaded, STAGES, history.Cause.COMMAND)
    with history.gone_unless_started(folder):
        record = watching.watched(folder, partial(carry_out, folder), None, quiet=False)
    out.print(console.run_view(record, history.told(folder), alive=False))
    if record.status is not history.Status.DONE:
        raise DemoError(f"the run has not come to its end: {record.error}")
    out.print("[bold]5. The gate[/]")
    out.print(console.decision(folder.report(Stage.PROMOTE)))
    _show_after(sidecar, folder, before)
    out.print(Rule())
    out.print(f"From start to here: {duration(time.monotonic() - begun)}. It stays up:")
    out.print(f"  the evaluation    {escape(str(folder.folder(Stage.EVALUATE) / 'report.html'))}")
    out.print("  all versions      whyrank train models list")
    out.print(f"  search page       {state.urls['page']}")
    out.print("  stop              whyrank down")


def _index(state: State) -> None:
    engine_url = state.urls[states.ENGINE]
    command = [sys.executable, "-m", "ingest", "--python-docs", "--index", INDEX, "--engine-url", engine_url]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - ourselves
        raise DemoError("indexing failed; what it printed above says why")
    asyncio.run(_enable(engine_url))


async def _enable(engine_url: str) -> None:
    engine = await connect(Settings(engine_url=engine_url))
    try:
        await PolicyStore(engine).put(Policy(index=INDEX, fields=FIELDS))
    finally:
        await engine.close()


def _ready(home: Path) -> State | None:
    """The stack, once the sidecar sees both the model and the policy."""
    state = states.running(home)
    if state is None or not state.ready:
        return None
    sidecar = Sidecar(state.urls[states.SIDECAR])
    return state if sidecar.model_ready() and INDEX in sidecar.policies() else None


def _search(sidecar: Sidecar, *, show: bool = False) -> str:
    """Search once; the revision of the model that judged it."""
    with err.status("the model reads the top hits"):
        found = sidecar.search(INDEX, PYTHON_QUERIES[0], JUDGING_MS)
    if show:
        out.print(Rule(f"[bold]{escape(PYTHON_QUERIES[0])}[/]", align="left"))
        show_search(found.ranking, found.titles, SHOWN)
    return str(found.ranking["model_revision"])


def _show_after(sidecar: Sidecar, folder: RunFolder, before: str) -> None:
    """A search as it is served after the decision. Raises DemoError when a promoted version does not serve it."""
    report = folder.report(Stage.PROMOTE)
    promoted = report is not None and report.figures["action"] in ("promoted", "forced")
    out.print("[bold]6. The same search[/], " + ("by the new version" if promoted else "by the model as it was"))
    deadline = time.monotonic() + _SIGHT_S
    while promoted and _search(sidecar) == before:
        if time.monotonic() > deadline:
            raise DemoError(f"the sidecar still serves revision {before}")
        time.sleep(1.0)
    after = _search(sidecar, show=True)
    out.print(f"revision [bold]{after}[/]" + (f", before it {before}" if after != before else ", as before"))
