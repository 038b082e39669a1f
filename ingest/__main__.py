"""`python -m ingest`: pages into the engine.

Exit codes: 0 all pages are indexed; 1 the engine cannot be used, or the source is empty; 2 wrong usage; 3 indexed,
but the engine refused some pages (named on standard error). Files that cannot be read are named and do not count.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import msgspec
import structlog
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from ingest.debian import DebianPackages
from ingest.documents import Document, Skipped
from ingest.html import HtmlFolder
from ingest.load import LoadResult, error_console, load
from ingest.python_docs import PythonDocs
from ingest.stackexchange import StackExchange
from whyrank.engines import connect
from whyrank.errors import BadRequestError, WhyRankError
from whyrank.settings import Settings

_NAMED = 20
"""Skipped or refused pages named one by one on the terminal; the summary has them all."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

IndexOption = Annotated[str, typer.Option("--index", help="Index to write to; made where it is not there.")]
EngineOption = Annotated[str | None, typer.Option(help="Address of the engine, over WHYRANK_ENGINE_URL.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as JSON on standard output.")]


class Source(Protocol):
    """Where documents come from. `skipped` is whole once they have been read."""

    skipped: list[Skipped]

    def documents(self) -> Iterator[Document]:
        """Read them, once."""
        ...


AnySource = TypeVar("AnySource", bound=Source)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    *,
    index: Annotated[str | None, typer.Option(help="Index to write to; made where it is not there.")] = None,
    pages: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A folder of HTML, with its subfolders.")
    ] = None,
    python_docs: Annotated[bool, typer.Option("--python-docs", help="The documentation of this Python.")] = False,
    base_url: Annotated[
        str | None, typer.Option(help="Where the folder is published; without it, file: links.")
    ] = None,
    engine_url: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index pages into OpenSearch or Elasticsearch. Running it again replaces what it wrote."""
    if context.invoked_subcommand is not None:
        if index is not None or pages is not None or python_docs or engine_url is not None or as_json:
            raise typer.BadParameter(f"options of {context.invoked_subcommand} stand behind its name")
        return
    if index is None:
        raise typer.BadParameter("give the index", param_hint="--index")
    if (pages is None) == (not python_docs):
        raise typer.BadParameter("give one of --pages and --python-docs")
    if pages is None:
        _index(index, PythonDocs, _read_python_docs, engine_url, as_json=as_json)
    else:
        folder = pages
        _index(index, lambda: HtmlFolder(folder, base_url), _count_html, engine_url, as_json=as_json)


@app.command()
def stackexchange(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the dump's XML files.")],
    *,
    index: IndexOption,
    site: Annotated[str | None, typer.Option(help="Host of the site; by default the folder's name.")] = None,
    engine_url: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index the questions and answers of a Stack Exchange dump."""

    def read(source: StackExchange, console: Console) -> tuple[Iterable[Document], int]:
        with console.status("counting posts"):
            return source.documents(), source.total()

    _index(index, lambda: StackExchange(folder, site), read, engine_url, as_json=as_json)


@app.command()
def debian(
    packages: Annotated[list[str], typer.Argument(help="Documentation packages, as sqlite3-doc.")],
    *,
    index: IndexOption,
    into: Annotated[Path, typer.Option(file_okay=False, help="Folder that packages are unpacked in, each once.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Pages of each package at most, evenly spread.")] = None,
    seed: Annotated[int, typer.Option(help="Moves where the spreading begins.")] = 0,
    engine_url: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index the English pages of Debian documentation packages, downloaded as this machine's sources are set."""

    def read(source: DebianPackages, console: Console) -> tuple[Iterable[Document], int]:
        with console.status("getting packages"):
            source.fetch()
            return source.documents(), source.total()

    _index(index, lambda: DebianPackages(packages, into, limit=limit, seed=seed), read, engine_url, as_json=as_json)


def _count_html(source: HtmlFolder, _: Console) -> tuple[Iterable[Document], int]:
    return source.documents(), len(source.paths())


def _read_python_docs(source: PythonDocs, console: Console) -> tuple[Iterable[Document], int]:
    with console.status("reading the documentation of this Python"):
        documents = list(source.documents())
    return documents, len(documents)


def _index(
    index: str,
    make: Callable[[], AnySource],
    read: Callable[[AnySource, Console], tuple[Iterable[Document], int]],
    engine_url: str | None,
    *,
    as_json: bool,
) -> None:
    """Load what `read` gives of the source, with its number of documents, and report."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    console = error_console()
    try:
        settings = Settings() if engine_url is None else Settings(engine_url=engine_url)
        source = make()
    except (ValidationError, BadRequestError) as error:
        raise typer.BadParameter(str(error)) from error
    try:
        result = asyncio.run(_load(settings, index, lambda: read(source, console), console))
    except WhyRankError as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error
    _report(index, result, source.skipped, console, as_json=as_json)
    if result.failures:
        raise typer.Exit(3)
    if not result.indexed:
        console.print("[red]error:[/red] the source has no pages")
        raise typer.Exit(1)


async def _load(
    settings: Settings, index: str, read: Callable[[], tuple[Iterable[Document], int]], console: Console
) -> LoadResult:
    engine = await connect(settings)
    try:
        documents, total = read()
        return await load(engine, index, documents, total=total, console=console)
    finally:
        await engine.close()


def _report(index: str, result: LoadResult, skipped: list[Skipped], console: Console, *, as_json: bool) -> None:
    refused = [Skipped(name=failure.id, reason=failure.reason) for failure in result.failures]
    for what, items in (("skipped", skipped), ("refused by the engine", refused)):
        for item in items[:_NAMED]:
            console.print(f"{what}: {escape(item.name)}: {escape(item.reason)}", soft_wrap=True, highlight=False)
        if len(items) > _NAMED:
            console.print(f"{what}: {len(items) - _NAMED} more")
    if as_json:
        summary = {
            "index": index,
            "indexed": result.indexed,
            "seconds": round(result.seconds, 3),
            "skipped": skipped,
            "refused": refused,
        }
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
    else:
        rate = result.indexed / result.seconds if result.seconds else 0.0
        console.print(
            f"{result.indexed} pages in {index}, {result.seconds:.1f} s, {rate:,.0f} pages/s", highlight=False
        )


if __name__ == "__main__":
    app()
