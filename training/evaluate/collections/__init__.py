"""Judged collections, in the forms that they come in: BEIR, BRIGHT, TREC, and the held-out groups of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.evaluate.collections.base import Collection, Document, GivenHit, IndexText, judged_queries
from training.evaluate.collections.beir import BeirFolder
from training.evaluate.collections.bright import BrightTask, tasks
from training.evaluate.collections.held_out import HeldOut
from training.evaluate.collections.trec import DESCRIPTION, TrecFolder
from whyrank.errors import BadRequestError

__all__ = ["Collection", "Document", "GivenHit", "HeldOut", "IndexText", "judged_queries", "open_folder"]


def open_folder(folder: Path, split: str = "test") -> Sequence[Collection]:
    """The collections of a folder, by what is in it; BRIGHT's holds one for each of its sets.

    Raises BadRequestError for a folder that is none, or whose files are not as their format says.
    """
    if (folder / DESCRIPTION).exists():
        return [TrecFolder(folder)]
    if (folder / "queries.jsonl").exists():
        return [BeirFolder(folder, split)]
    if found := tasks(folder):
        return [BrightTask(folder, task) for task in found]
    raise BadRequestError(
        "collections",
        f"{folder} is no collection: BEIR's has queries.jsonl, BRIGHT's examples/*.parquet, TREC's {DESCRIPTION}",
    )
