"""`python -m ingest`: pages into the engine.

Exit codes: 0 all pages are indexed; 1 the engine cannot be used, or the source is empty; 2 wrong usage; 3 indexed,
but the engine refused some pages (named on standard error). Files that cannot be read are named and do not count.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from ingest.documents import Document, Skipped
from ingest.html import HtmlFolder
from ingest.load import LoadResult, error_console, load
from ingest.python_docs import PythonDocs
from whyrank.engines import connect
from whyrank.errors import WhyRankError
from whyrank.settings import Settings

_NAMED = 20
"""Skipped or refused pages named one by one on the terminal; the summary has them all."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    index: Annotated[str, typer.Option(help="Index to write to; made where it is not there.")],
    pages: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A folder of HTML, with its subfolders.")
    ] = None,
    python_docs: Annotated[bool, typer.Option("--python-docs", help="The documentation of this Python.")] = False,
    base_url: Annotated[
        str | None, typer.Option(help="Where the folder is published; without it, file: links.")
    ] = None,
    engine_url: Annotated[str | None, typer.Option(help="Address of the engine, over WHYRANK_ENGINE_URL.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on standard output.")] = False,
) -> None:
    """Index pages into OpenSearch or Elasticsearch. Running it again replaces what it wrote."""
    if (pages is None) == (not python_docs):
        raise typer.BadParameter("give one of --pages and --python-docs")
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    console = error_console()
    try:
        settings = Settings() if engine_url is None else Settings(engine_url=engine_url)
    except ValidationError as error:
        raise typer.BadParameter(str(error)) from error
    source = PythonDocs() if pages is None else HtmlFolder(pages, base_url)
    try:
        result = asyncio.run(_run(settings, index, source, console))
    except WhyRankError as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error
    _report(index, result, source.skipped, console, as_json=as_json)
    if result.failures:
        raise typer.Exit(3)
    if not result.indexed:
        console.print("[red]error:[/red] the source has no pages")
        raise typer.Exit(1)


async def _run(settings: Settings, index: str, source: HtmlFolder | PythonDocs, console: Console) -> LoadResult:
    engine = await connect(settings)
    try:
        documents: Iterable[Document] = source.documents()
        if isinstance(source, HtmlFolder):
            total = len(source.paths())
        else:
            with console.status("reading the documentation of this Python"):
                documents = list(documents)
            total = len(documents)
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
