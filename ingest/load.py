"""Documents into an index of the engine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ingest.documents import Document
from whyrank.engines import BulkFailure, Engine

MAPPINGS: dict[str, Any] = {
    "dynamic": False,
    "properties": {
        "title": {"type": "text", "analyzer": "english"},
        "body": {"type": "text", "analyzer": "english"},
        "headings": {"type": "text", "analyzer": "english"},
        "url": {"type": "keyword", "ignore_above": 4096},
        "site": {"type": "keyword", "ignore_above": 256},
        "language": {"type": "keyword", "ignore_above": 64},
        "content_hash": {"type": "keyword", "ignore_above": 64},
        # Kept for whoever reads pages back (training pairs from links), searched by nobody.
        "links": {"type": "object", "enabled": False},
        "fragments": {"type": "object", "enabled": False},
        "post": {
            "properties": {
                "kind": {"type": "keyword"},
                "score": {"type": "integer"},
                "accepted": {"type": "boolean"},
                "tags": {"type": "keyword", "ignore_above": 256},
                "parent": {"type": "keyword", "ignore_above": 512},
            }
        },
    },
}
SETTINGS: dict[str, Any] = {"number_of_shards": 1, "auto_expand_replicas": "0-1"}


class LoadResult(msgspec.Struct, frozen=True):
    """What became of a load: documents written, and those that the engine refused."""

    indexed: int
    failures: tuple[BulkFailure, ...]
    seconds: float


async def load(
    engine: Engine, index: str, documents: Iterable[Document], *, total: int | None, console: Console
) -> LoadResult:
    """Write all documents, making the index where it is not there, and make them visible to searches.

    Ids decide: loading the same source again replaces. A progress bar with rate and time left (where `total` is
    known) goes to `console` when that is a terminal. Raises EngineError and its kin.
    """
    start = time.monotonic()
    await engine.ensure_index(index, MAPPINGS, SETTINGS)
    with _progress(console) as progress:
        task = progress.add_task(f"indexing into {index}", total=total)

        def read() -> Iterator[tuple[str, dict[str, Any]]]:
            for document in documents:
                yield document.id, _source(document)
                progress.advance(task)

        result = await engine.bulk(index, read())
        progress.update(task, total=result.indexed + len(result.failures))
    await engine.refresh(index)
    return LoadResult(indexed=result.indexed, failures=result.failures, seconds=time.monotonic() - start)


def _source(document: Document) -> dict[str, Any]:
    source: dict[str, Any] = msgspec.to_builtins(document)
    del source["id"]
    return source


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} pages/s" if speed else "", style="progress.data.speed")


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def error_console() -> Console:
    """The console for people; standard output is left to results."""
    return Console(file=sys.stderr)
