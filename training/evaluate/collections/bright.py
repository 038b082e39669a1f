"""BRIGHT as its data set is laid out: parquet files of `documents` and `examples`, a split for each of its 12 sets.

Su et al., "BRIGHT: A Realistic and Challenging Benchmark for Reasoning-Intensive Retrieval", 2024, arXiv 2407.12883.
As its own evaluation does, a query's `excluded_ids` are dropped from its ranking, and gold documents have grade 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from training.evaluate.collections.base import NOTHING, Document, IndexText
from training.records import file_hash
from whyrank.embedded.cache import digest
from whyrank.errors import BadRequestError

TASKS = (
    *("biology", "earth_science", "economics", "psychology", "robotics", "stackoverflow", "sustainable_living"),
    *("leetcode", "pony", "aops", "theoremqa_questions", "theoremqa_theorems"),
)
_NO_ID = "N/A"
"""Stands in `excluded_ids` where nothing is excluded."""
_BATCH = 1000


def tasks(folder: Path) -> list[str]:
    """The sets that the folder has, in BRIGHT's order."""
    return [task for task in TASKS if _files(folder, "examples", task)]


class BrightTask:
    """One set. `long` takes whole web pages (`long_documents`, `gold_ids_long`) instead of their passages.

    `examples` is the configuration that the queries are read from: `examples`, or one of those with a model's
    reasoning for queries, as `gpt4_reason`.
    """

    labels: Mapping[tuple[str, str], int] = NOTHING
    rephrased: Mapping[str, Sequence[str]] = NOTHING
    given = None
    texts_in: IndexText | None = None

    def __init__(self, folder: Path, task: str, *, long: bool = False, examples: str = "examples") -> None:
        self.name = f"bright-{task}" + ("-long" if long else "")
        self._corpus = _files(folder, "long_documents" if long else "documents", task)
        sources = _files(folder, examples, task)
        if not self._corpus or not sources:
            what = examples if self._corpus else "long_documents" if long else "documents"
            raise BadRequestError("collections", f"{folder / what} has no {task}-*.parquet")
        gold = "gold_ids_long" if long else "gold_ids"
        self.queries: dict[str, str] = {}
        self.qrels: dict[str, dict[str, int]] = {}
        self.excluded: dict[str, frozenset[str]] = {}
        for path in sources:
            for row in _rows(path, ("id", "query", gold, "excluded_ids")):
                id = str(row["id"])
                self.queries[id] = row["query"]
                self.qrels[id] = dict.fromkeys(_ids(row[gold]), 1)
                self.excluded[id] = _ids(row["excluded_ids"])

    def documents(self) -> Iterator[Document]:
        """See the protocol; BRIGHT's documents have no titles."""
        for path in self._corpus:
            for row in _rows(path, ("id", "content")):
                yield Document(str(row["id"]), "", row["content"])

    def content_hash(self) -> str:
        """See the protocol."""
        exclusions = sorted((query, *sorted(documents)) for query, documents in self.excluded.items())
        return digest(*(file_hash(path) for path in self._corpus), repr(self.queries), repr(exclusions))


def _files(folder: Path, config: str, task: str) -> list[Path]:
    """`<config>/<task>-00000-of-00001.parquet` and its shards, or `<config>/<task>.parquet`."""
    return sorted([*(folder / config).glob(f"{task}-*.parquet"), *(folder / config).glob(f"{task}.parquet")])


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            for column in columns:
                if column not in file.schema_arrow.names:
                    raise BadRequestError("collections", f"{path}: no column `{column}`")
            for batch in file.iter_batches(_BATCH, columns=list(columns)):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BadRequestError("collections", f"cannot read {path}: {error}") from error


def _ids(found: Sequence[str] | None) -> frozenset[str]:
    return frozenset(str(id) for id in found or () if id != _NO_ID)
