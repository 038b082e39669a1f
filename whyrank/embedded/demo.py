"""`whyrank demo`: from nothing to three explained searches, in front of the user's eyes."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.live import Live
from rich.markup import escape
from rich.rule import Rule

from whyrank import console
from whyrank.connect.doors import plugin
from whyrank.connect.survey import expect
from whyrank.connect.wish import Wish
from whyrank.console import err, out
from whyrank.embedded import stack
from whyrank.embedded import state as states
from whyrank.embedded.model_host import manifest_path
from whyrank.embedded.parts import PartError, tail
from whyrank.embedded.state import State
from whyrank.engines import connect
from whyrank.engines.policies import PolicyStore
from whyrank.errors import WhyRankError
from whyrank.records import load_manifest
from whyrank.settings import Settings
from whyrank.sidecar import Sidecar
from whyrank.types import FusionWeights, Policy

PYTHON_INDEX = "whyrank-demo"
FIELDS = ("title", "body")
JUDGING_MS = 60_000
SHOWN = 5
LONGEST_QUERY = 8
PYTHON_QUERIES = (
    "copy a directory tree",
    "run a function when the interpreter exits",
    "how to compare floating point numbers for closeness",
)


class DemoError(WhyRankError):
    """A step of the demo failed; the message says which, and why."""


def bring_up(home: Path, *, with_model: bool, sidecar_port: int, patience_s: float = 600.0) -> State:
    """A stack that answers searches (its model may still warm), started in the background unless it is up.

    Shows the parts as they come. Raises PartError when the supervisor ends or time is up.
    """
    running = states.running(home)
    if running is not None and running.searchable():
        return running
    supervisor = (
        None if states.is_held(home) else stack.up_detached(home, with_model=with_model, sidecar_port=sidecar_port)
    )

    def ready() -> State | None:
        if supervisor is not None and supervisor.poll() is not None and not states.is_held(home):
            raise PartError(f"the supervisor ended:\n{tail(home / 'logs' / 'supervisor.log')}")
        state = states.running(home)
        return state if state is not None and state.searchable() else None

    return watch(home, ready, patience_s)


def run(home: Path, pages: Path | None, *, with_model: bool, sidecar_port: int) -> None:
    """Bring the stack up, index, enable, search three times. Raises WhyRankError with the step that failed."""
    begun = time.monotonic()
    out.print("[bold]1. Bringing everything up[/] (the first time downloads about 2 GB)")
    state = bring_up(home, with_model=with_model, sidecar_port=sidecar_port)
    out.print("[bold]2. Indexing[/] " + (escape(str(pages)) if pages else "the documentation of this Python"))
    engine_url = state.urls[states.ENGINE]
    index = index_name(pages)
    source = ["--pages", str(pages)] if pages else ["--python-docs"]
    command = [sys.executable, "-m", "ingest", *source, "--index", index, "--engine-url", engine_url]
    if subprocess.run(command, check=False).returncode != 0:
        raise DemoError("indexing failed; what it printed above says why")
    titles = asyncio.run(_enable(engine_url, index))
    if states.MODEL in state.parts:
        out.print("[bold]3. Waiting for the model[/] (searches work meanwhile, in the engine's order)")
        state = watch(home, lambda: _if(states.running(home), lambda s: s.ready), 900.0)
    out.print("[bold]4. Searching[/]")
    sidecar = Sidecar(state.urls[states.SIDECAR])
    _wait(lambda: index in sidecar.policies(), "the sidecar does not see the policy that was just written")
    if states.MODEL in state.parts:
        _wait(sidecar.model_ready, "the sidecar does not see the model server")
    queries = PYTHON_QUERIES if pages is None else tuple(titles)
    for query in queries:
        out.print(Rule(f"[bold]{escape(query)}[/]", align="left"))
        with err.status("the model reads the top hits"):
            found = sidecar.search(index, query, JUDGING_MS)
        console.show_search(found.ranking, found.titles, SHOWN)
    if queries:
        out.print(Rule("[bold]The first one again, through the engine's own door[/]", align="left"))
        out.print(asyncio.run(_through_the_plugin(state, index, queries[0])))
    page = state.urls["page"]
    out.print(Rule())
    if states.MODEL in state.parts:
        out.print(_weights(load_manifest(manifest_path(home)).weights), style="dim")
    out.print(f"From start to here: {console.duration(time.monotonic() - begun)}. It stays up:")
    out.print(f"  search page   [link={page}]{page}[/link]")
    out.print(f"  once more     whyrank search {index} 'your words' --wait 30")
    out.print("  stop          whyrank down   (or: make down)")


async def _through_the_plugin(state: State, index: str, query: str) -> str:
    """Search the engine itself, by a pipeline with our plugin's processors; what became of it, in a sentence.

    The pipeline is not made the index's default: searches through the proxy would be rescored twice. Raises
    EngineError, DemoError when the answer does not say what the plugin did.
    """
    wish = Wish(sidecar_url=state.urls[states.SIDECAR], index=index, fields=FIELDS, deadline_ms=JUDGING_MS)
    name = plugin.pipeline_name(index)
    engine = await connect(Settings(engine_url=state.urls[states.ENGINE]))
    try:
        written = await engine.request("PUT", f"/_search/pipeline/{name}", plugin.pipeline(wish, {}))
        expect(written, "the search pipeline cannot be written")
        words = {"multi_match": {"query": query, "fields": list(FIELDS)}}
        body = {"size": SHOWN, "query": words, "_source": False}
        found = await engine.request("POST", f"/{index}/_search", body, {"search_pipeline": name})
        answer = expect(found, "the search through the pipeline failed")
    finally:
        await engine.close()
    told = answer.get("ext", {}).get("whyrank")
    if told is None:
        raise DemoError("the engine's answer does not say what its plugin did")
    first = answer["hits"]["hits"][0].get("fields", {}) if answer["hits"]["hits"] else {}
    why = "".join(first.get("whyrank.explanation", [])[:1])
    return (
        f"POST {state.urls[states.ENGINE]}/{index}/_search?search_pipeline={name}: status [bold]{told['status']}[/], "
        f"{told['judged']} hits judged" + (f"; its first hit: {escape(why)}" if why else "")
    )


def _weights(weights: FusionWeights) -> str:
    shares = (weights.engine, weights.relevance, weights.similarity)
    engine, relevance, similarity = (f"{share / (sum(shares) or 1.0):.0%}" for share in shares)
    return (
        f"The order is {engine} the engine's score, {relevance} the language model's judgement and {similarity} the "
        "bi-encoder's similarity: shares chosen on pages that no figure of ours is about (bench/LOG.md)."
    )


def watch(home: Path, done: Callable[[], State | None], patience_s: float) -> State:
    """Show the parts until `done` gives a state. Raises PartError, with what the parts say, when time is up."""
    deadline = time.monotonic() + patience_s
    with Live(console=out, refresh_per_second=4, transient=True) as live:
        while (state := done()) is None:
            shown = states.running(home)
            if shown is not None:
                live.update(console.parts_table(shown))
            if time.monotonic() > deadline:
                waiting = [p for p in shown.parts.values() if not p.ready] if shown else []
                raise PartError("; ".join(f"{p.name}: {p.phase.value} {p.detail}" for p in waiting) or "nothing is up")
            time.sleep(0.2)
    return state


def index_name(pages: Path | None) -> str:
    """The demo's index: one for each folder of pages, so that one demo's pages are not among another's."""
    if pages is None:
        return PYTHON_INDEX
    word = re.sub(r"[^a-z0-9]+", "-", pages.resolve().name.lower()).strip("-")
    return f"{PYTHON_INDEX}-{word or 'pages'}"


async def _enable(engine_url: str, index: str) -> list[str]:
    """Write the policy; gives three of the pages' titles, which are as good as queries on pages we do not know."""
    engine = await connect(Settings(engine_url=engine_url))
    try:
        await PolicyStore(engine).put(Policy(index=index, fields=FIELDS))
        answer = await engine.search(index, {"size": 300, "_source": ["title"], "query": {"match_all": {}}})
    finally:
        await engine.close()
    titles = sorted({hit["_source"]["title"] for hit in answer["hits"]["hits"]}, key=lambda t: (-len(t.split()), t))
    several = [title for title in titles if len(title.split()) <= LONGEST_QUERY]
    return several[:3]


def _wait(seen: Callable[[], bool], problem: str, patience_s: float = 30.0) -> None:
    """The sidecar sees changes within a second or two. Raises DemoError with the problem when it does not."""
    deadline = time.monotonic() + patience_s
    while not seen():
        if time.monotonic() > deadline:
            raise DemoError(problem)
        time.sleep(0.2)


def _if(state: State | None, condition: Callable[[State], bool]) -> State | None:
    return state if state is not None and condition(state) else None
