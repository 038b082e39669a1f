"""The index onto disk: documents as they come, slice by slice, then cut into pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, aclosing, closing
from pathlib import Path
from typing import Any

import msgspec

from training.mine.config import MineConfig
from training.mine.pages import page_of, wanted_fields
from training.mine.spool import Spool
from training.progress import Counter
from whyrank.engines import Engine, ScanHit, ScanMark, ScanSlice

_COMMIT_EVERY = 200
"""Pages that a kill while cutting can cost."""

Keep = Callable[[ScanHit], Any]
"""What is kept of a document; None for nothing."""


async def read_index(engine: Engine, config: MineConfig, folder: Path, counter: Counter) -> None:
    """Bring the documents to `folder`, one spool for each slice. Goes on where it was left. Raises EngineError."""
    reads = [
        read_part(
            engine,
            config.index,
            spool_path(folder, number),
            counter,
            lambda hit: hit,
            by=config.key,
            fields=wanted_fields(config),
            query=config.filter or None,
            part=ScanSlice(number, config.slices),
            page=config.scan_page,
        )
        for number in range(config.slices)
    ]
    try:
        async with asyncio.TaskGroup() as group:
            for read in reads:
                group.create_task(read)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # the others fail for the same reason, or were cancelled


async def read_part(engine: Engine, index: str, path: Path, counter: Counter, keep: Keep, **options: Any) -> None:
    """Bring one slice of an index to a spool; `options` are those of `Engine.scan`."""
    with closing(Spool(path)) as spool:
        if spool.state.done:
            counter.advance(spool.state.counts.get("read", 0))
            return
        after = None if spool.state.mark is None else msgspec.convert(spool.state.mark, ScanMark)
        counter.advance(spool.state.counts.get("read", 0))
        async with aclosing(engine.scan(index, after=after, **options)) as pages:  # type: ignore[type-var]
            async for page in pages:
                spool.add(record for hit in page.hits if (record := keep(hit)) is not None)
                spool.state.counts["read"] = spool.state.counts.get("read", 0) + len(page.hits)
                spool.commit(page.after)
                counter.advance(len(page.hits))
        spool.commit(spool.state.mark, done=True)


def spool_path(folder: Path, number: int) -> Path:
    """Where a slice's documents are."""
    return folder / f"documents-{number}.jsonl"


def cut_pages(config: MineConfig, folder: Path, counter: Counter) -> Mapping[str, int]:
    """Make `pages.jsonl` of the documents, in the order of slices. Goes on where it was left.

    Gives how many documents there were, and how many had no text.
    """
    with ExitStack() as stack:
        spool = stack.enter_context(closing(Spool(folder / "pages.jsonl")))
        if spool.state.done:
            return spool.state.counts
        parts = [stack.enter_context(closing(Spool(spool_path(folder, n)))) for n in range(config.slices)]
        counts = spool.state.counts
        done = counts.setdefault("documents", 0)
        counter.advance(done)
        for number, hit in enumerate(_documents(parts, done), start=done + 1):
            page = page_of(config, hit)
            if page is not None:
                spool.add([page])
            else:
                counts["without_text"] = counts.get("without_text", 0) + 1
            counts["documents"] = number
            counter.advance()
            if number % _COMMIT_EVERY == 0:
                spool.commit(None)
        spool.commit(None, done=True)
        return counts


def _documents(parts: list[Spool], start: int) -> Iterator[ScanHit]:
    for part in parts:
        yield from part.read(ScanHit, start)
        start = max(0, start - part.state.lines)
