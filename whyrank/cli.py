"""`whyrank ...`: the stack on this machine, policies, and searches to look at.

Exit codes: 0 done; 1 something is down or refuses (a sentence on stderr says what); 2 the command line is wrong.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape

from whyrank import console
from whyrank.commands import Commands
from whyrank.console import err, out
from whyrank.embedded import state as states
from whyrank.embedded.state import Phase, State
from whyrank.errors import BadRequestError, WhyRankError
from whyrank.types import Mode, Policy

if TYPE_CHECKING:
    from whyrank.embedded.supervisor import Supervisor
    from whyrank.engines import Engine
    from whyrank.registry import Serving

T = TypeVar("T")

app = typer.Typer(
    cls=Commands,
    help="Explainable reranking for OpenSearch and Elasticsearch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Home = Annotated[Path, typer.Option(help="Folder for all state of `whyrank up`.", envvar="WHYRANK_HOME")]
EngineUrl = Annotated[
    str | None, typer.Option(help="Address of the engine [default: WHYRANK_ENGINE_URL, else the one that is up].")
]
SidecarUrl = Annotated[str | None, typer.Option(help="Address of the sidecar [default: the one that is up].")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Index = Annotated[str, typer.Argument(help="Index or alias, as searches name it.", show_default=False)]
NoModel = Annotated[bool, typer.Option("--no-model", help="Start no model server; WHYRANK_MODEL_URL names yours.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the sidecar; the next free one if it is taken.")]
DEFAULT_HOME = Path(".whyrank")


@app.command()
def up(
    home: Home = DEFAULT_HOME,
    port: Port = 8080,
    detach: Annotated[bool, typer.Option("--detach", help="Return when searches are answered; keep it up.")] = False,
    no_model: NoModel = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no table of the parts.")] = False,
) -> None:
    """Start OpenSearch, Valkey, the model server, a worker and the sidecar; Ctrl-C stops them all."""
    from whyrank.embedded import demo as demo_run
    from whyrank.embedded import stack

    with reported():
        if detach:
            state = demo_run.bring_up(home.resolve(), with_model=not no_model, sidecar_port=port)
            out.print(console.parts_table(state))
            _say_where(state)
            return
        shown: list[Supervisor] = []
        if quiet:
            stack.up(home.resolve(), with_model=not no_model, sidecar_port=port, on_start=shown.append)
        else:
            with Live(
                console=out,
                refresh_per_second=2,
                get_renderable=lambda: _running_view(shown),
                vertical_overflow="visible",
            ):
                stack.up(home.resolve(), with_model=not no_model, sidecar_port=port, on_start=shown.append)
    # An installation under way runs in threads that nobody can interrupt; its programs end with this process.
    sys.stdout.flush()
    os._exit(0)


@app.command()
def status(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show each part; the exit code is 0 only if all are ready."""
    state = states.running(home.resolve())
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(_as_told(state))).decode() + "\n")
    elif state is None:
        err.print(f"nothing is up in {escape(str(home))}")
    else:
        out.print(console.parts_table(state))
        _say_model(state)
        _say_where(state)
    raise typer.Exit(0 if state is not None and state.ready else 1)


@app.command()
def down(home: Home = DEFAULT_HOME) -> None:
    """Stop everything that `whyrank up` started in this home; data stays."""
    from whyrank.embedded import stack

    with reported():
        stack.down(home.resolve())
        out.print("stopped")


@app.command()
def enable(
    index: Index,
    fields: Annotated[
        str | None, typer.Option(help="Fields whose text the model reads, in this order: title,body")
    ] = None,
    window: Annotated[int | None, typer.Option(min=1, max=200, help="How many top hits are reranked [10].")] = None,
    deadline_ms: Annotated[
        int | None, typer.Option(min=0, max=60_000, help="How long a search may be delayed, milliseconds [300].")
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="`reason`: explain, then label [reason]. `label`: label only, faster.")
    ] = None,
    passage_tokens: Annotated[
        int | None, typer.Option(min=16, max=8192, help="How much of a document the model reads, tokens [256].")
    ] = None,
    similarity: Annotated[
        bool | None,
        typer.Option("--similarity/--no-similarity", help="Whether the bi-encoder has a say in the order [yes]."),
    ] = None,
    home: Home = DEFAULT_HOME,
    engine_url: EngineUrl = None,
) -> None:
    """Rescore searches of an index: write its policy, which every sidecar sees within a second or two.

    What is not given stays as the index has it; an index that has had no policy needs --fields.
    """
    from whyrank.engines.policies import PolicyStore

    names = None if fields is None else tuple(name.strip() for name in fields.split(",") if name.strip())
    if names == ():
        raise typer.BadParameter("name at least one field", param_hint="--fields")
    given = {
        "fields": names,
        "window": window,
        "deadline_ms": deadline_ms,
        "mode": mode,
        "passage_tokens": passage_tokens,
        "similarity": similarity,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}

    async def put(engine: Engine) -> tuple[Policy, bool]:
        store = PolicyStore(engine)
        before = await store.get(index)
        if before is None and names is None:
            raise BadRequestError("fields", f"{index!r} has no policy yet; name the fields that the model reads")
        policy = msgspec.structs.replace(before or Policy(index, names or ()), **changes, enabled=True)
        await store.put(policy)
        return policy, await engine.index_exists(index)

    with reported():
        policy, exists = _with_engine(home, engine_url, put)
    out.print(f"[green]enabled[/] {escape(index)}: {escape(', '.join(policy.fields))}")
    if not exists:
        err.print(f"note: there is no index {escape(index)} yet; the policy waits for it", style="yellow")


@app.command()
def disable(
    index: Index,
    forget: Annotated[bool, typer.Option("--forget", help="Delete the policy, too.")] = False,
    home: Home = DEFAULT_HOME,
    engine_url: EngineUrl = None,
) -> None:
    """Stop rescoring an index; its policy is kept, switched off, for the next `whyrank enable INDEX`.

    While it is kept, searches that bring `ext.whyrank` are still freed of it; forgotten, they reach the engine as
    they are, and it refuses what it does not know.
    """
    from whyrank.engines.policies import PolicyStore

    async def off(engine: Engine) -> bool:
        store = PolicyStore(engine)
        if forget:
            return await store.delete(index)
        policy = await store.get(index)
        if policy is not None:
            await store.put(msgspec.structs.replace(policy, enabled=False))
        return policy is not None

    with reported():
        if not _with_engine(home, engine_url, off):
            raise BadRequestError("index", f"{index!r} has no policy")
    out.print(f"[green]disabled[/] {escape(index)}")


@app.command()
def policies(home: Home = DEFAULT_HOME, engine_url: EngineUrl = None, as_json: AsJson = False) -> None:
    """List the indices that are rescored, and how."""
    from whyrank.engines.policies import PolicyStore

    with reported():
        known = _with_engine(home, engine_url, lambda engine: PolicyStore(engine).list())
    found = [known[name] for name in sorted(known)]
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    elif found:
        out.print(console.policies_table(found))
    else:
        out.print("no index is rescored (whyrank enable INDEX --fields title,body)")


@app.command()
def search(
    index: Index,
    query: Annotated[str, typer.Argument(help="The words to search for.", show_default=False)],
    wait: Annotated[
        float | None, typer.Option(min=0, max=60, help="Wait this long for the model, seconds [default: the policy's].")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=200, help="How many hits to show.")] = 5,
    home: Home = DEFAULT_HOME,
    sidecar_url: SidecarUrl = None,
    as_json: AsJson = False,
) -> None:
    """Search through the sidecar, and show the engine's order beside the new one, with the reasons."""
    from whyrank import places
    from whyrank.sidecar import Sidecar

    with reported():
        sidecar = Sidecar(places.find(home, sidecar_url=sidecar_url).sidecar_url)
        with err.status("searching"):
            found = sidecar.search(index, query, None if wait is None else int(wait * 1000))
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found.ranking)).decode() + "\n")
        return
    console.show_search(found.ranking, found.titles, top)
    if found.ranking["missing"]:
        out.print("Some hits are still being judged; the same search will have them, as will --wait 30.", style="dim")


@app.command()
def demo(
    pages: Annotated[
        Path | None,
        typer.Option(
            help="Folder of HTML pages [default: the documentation of this Python].", exists=True, file_okay=False
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    port: Port = 8080,
    no_model: NoModel = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop everything at the end.")] = False,
) -> None:
    """Bring everything up, index real pages, and show three searches in both orders, explained."""
    from whyrank.embedded import demo as demo_run
    from whyrank.embedded import stack

    with reported():
        demo_run.run(home.resolve(), pages, with_model=not no_model, sidecar_port=port)
        if stop:
            stack.down(home.resolve())
            out.print("stopped")


@contextmanager
def reported() -> Iterator[None]:
    """Turn our errors into a sentence on stderr and an exit code; a culprit is named as the command line spells it."""
    try:
        yield
    except BadRequestError as error:
        name = error.field.strip("$.").split("[")[0].replace("_", "-")
        hint = name.upper() if name in ("index", "query") else f"--{name}"
        raise typer.BadParameter(str(error).removeprefix(f"{error.field}: "), param_hint=hint) from error
    except ValueError as error:
        if not hasattr(error, "errors"):
            raise
        first = error.errors()[0]  # pydantic's: a variable of the environment
        raise typer.BadParameter(first["msg"], param_hint=f"WHYRANK_{str(first['loc'][0]).upper()}") from error
    except WhyRankError as error:
        err.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error


def _with_engine(home: Path, engine_url: str | None, use: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
    """Do something with the engine that the command line, the environment or a running stack names, in this order."""
    from whyrank import places
    from whyrank.engines import connect

    found = places.find(home, engine_url)

    async def run() -> T:
        engine = await connect(found.settings)
        try:
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def _as_told(state: State | None) -> dict[str, Any]:
    """The JSON of `status`."""
    if state is None:
        return {"up": False, "ready": False, "parts": []}
    parts = [{**msgspec.to_builtins(part), "ready": part.ready} for part in state.parts.values()]
    return {
        "up": True,
        "ready": state.ready,
        "pid": state.pid,
        "started": state.started,
        "urls": state.urls,
        "parts": parts,
        "model": msgspec.to_builtins(_serving(state)),
    }


def _running_view(shown: list[Supervisor]) -> RenderableType:
    if not shown:
        return ""
    state = shown[0].state
    table = console.parts_table(state)
    return Group(table, f"search page: {state.urls['page']}   (Ctrl-C stops everything)")


def _serving(state: State) -> Serving | None:
    """What the model host of this stack says; None where it has none."""
    from whyrank.registry import Registry

    return Registry(Path(state.home) / "models").serving() if states.MODEL in state.parts else None


def _say_model(state: State) -> None:
    """Which version answers, what is being prepared beside it, and what could not be served."""
    serving = _serving(state)
    if serving is None:
        return
    told = [serving.version or "none yet"]
    if serving.loading is not None:
        told.append(f"{serving.loading} is being prepared")
    if serving.shadow is not None:
        told.append(f"{serving.shadow} runs in shadow")
    out.print(f"model version: {escape(', '.join(told))}")
    if serving.failure:
        what = serving.failed or "what the pointer names"
        err.print(f"[red]{escape(what)} could not be served:[/] {escape(serving.failure)}", soft_wrap=True)


def _say_where(state: State) -> None:
    out.print(f"search page: [link={state.urls['page']}]{state.urls['page']}[/link]")
    model = state.parts.get(states.MODEL)
    if model is not None and not model.ready and model.phase is not Phase.STOPPED:
        waited = console.duration(time.time() - state.started)
        out.print(
            f"The model is still warming ({waited} so far): searches keep the engine's order until then.", style="dim"
        )


def main() -> None:
    """The entry point of the `whyrank` command."""
    app()


if __name__ == "__main__":
    main()
