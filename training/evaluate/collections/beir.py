"""BEIR's layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv (Thakur et al., 2021, arXiv 2104.08663).

With an `exclude.tsv` (query-id, corpus-id) beside them, its pairs are dropped from every ranking.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from training.evaluate.collections.base import NOTHING, Document, IndexText, decoded_lines, number, rows
from training.records import file_hash
from whyrank.embedded.cache import digest

_COLUMNS = ("query-id", "corpus-id", "score")


class _Query(msgspec.Struct):
    id: str | int = msgspec.field(name="_id")
    text: str


class _Document(msgspec.Struct):
    id: str | int = msgspec.field(name="_id")
    text: str
    title: str | None = None


class BeirFolder:
    """See `Collection`."""

    labels: Mapping[tuple[str, str], int] = NOTHING
    rephrased: Mapping[str, Sequence[str]] = NOTHING
    given = None
    texts_in: IndexText | None = None

    def __init__(self, folder: Path, split: str = "test") -> None:
        self._folder = folder
        self.name = folder.resolve().name
        self.qrels = self._qrels(folder / "qrels" / f"{split}.tsv")
        self.excluded = self._excluded(folder / "exclude.tsv")
        queries = {str(query.id): query.text for query in decoded_lines(folder / "queries.jsonl", _Query)}
        self.queries = {id: text for id, text in queries.items() if id in self.qrels}

    def documents(self) -> Iterator[Document]:
        """See the protocol."""
        for document in decoded_lines(self._folder / "corpus.jsonl", _Document):
            yield Document(str(document.id), document.title or "", document.text)

    def content_hash(self) -> str:
        """See the protocol."""
        exclusions = sorted((query, *sorted(documents)) for query, documents in self.excluded.items())
        return digest(file_hash(self._folder / "corpus.jsonl"), repr(self.queries), repr(exclusions))

    @staticmethod
    def _qrels(path: Path) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for line, (query, document, grade, *_) in rows(path, _COLUMNS, "\t"):
            if line > 1 or query != _COLUMNS[0]:
                found[query][document] = max(0, number(grade, int, path, line, "score"))
        return dict(found)

    @staticmethod
    def _excluded(path: Path) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        if path.exists():
            for line, (query, document, *_) in rows(path, _COLUMNS[:2], "\t"):
                if line > 1 or query != _COLUMNS[0]:
                    found[query].add(document)
        return {query: frozenset(documents) for query, documents in found.items()}
