"""TREC's files: topics, qrels and a run whose top is reranked, named by a `trec.toml` beside them.

topics = "topics.tsv"        # query-id <tab> text
qrels = "qrels.txt"          # query-id 0 document-id grade
run = "bm25.run"             # query-id Q0 document-id rank score tag; without it, the engine ranks corpus.jsonl
corpus = "corpus.jsonl"      # BEIR's form; or the documents are in an index of the configured engine:
index = "pages"
fields = ["title", "body"]
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from training.evaluate.collections.base import NOTHING, Document, GivenHit, IndexText, decoded_lines, number, rows
from training.records import file_hash
from whyrank.embedded.cache import digest
from whyrank.errors import BadRequestError

DESCRIPTION = "trec.toml"


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topics: str = "topics.tsv"
    qrels: str = "qrels.txt"
    run: str | None = None
    corpus: str | None = None
    index: str | None = None
    fields: tuple[str, ...] = ("title", "text")
    name: str | None = None


class _Document(msgspec.Struct):
    id: str | int = msgspec.field(name="_id")
    text: str
    title: str | None = None


class TrecFolder:
    """See `Collection`."""

    labels: Mapping[tuple[str, str], int] = NOTHING
    rephrased: Mapping[str, Sequence[str]] = NOTHING

    def __init__(self, folder: Path) -> None:
        described = _described(folder / DESCRIPTION)
        self.name = described.name or folder.resolve().name
        self._corpus = folder / described.corpus if described.corpus else None
        self._run = folder / described.run if described.run else None
        self.texts_in = IndexText(described.index, described.fields) if described.index else None
        if (self._corpus is None) == (self.texts_in is None):
            raise BadRequestError("collections", f"{folder / DESCRIPTION}: give `corpus` or `index`, one of them")
        self.excluded: dict[str, frozenset[str]] = {}
        self.qrels = _qrels(folder / described.qrels)
        topics = {query: text for _, (query, text, *_) in rows(folder / described.topics, ("id", "text"), "\t")}
        self.queries = {query: text for query, text in topics.items() if query in self.qrels}
        self.given = _run(self._run) if self._run else None

    def documents(self) -> Iterator[Document]:
        """See the protocol; of a corpus with a run, only the documents that the run has."""
        wanted = {hit.id for hits in self.given.values() for hit in hits} if self.given is not None else None
        if self._corpus is not None:
            for document in decoded_lines(self._corpus, _Document):
                if wanted is None or str(document.id) in wanted:
                    yield Document(str(document.id), document.title or "", document.text)

    def content_hash(self) -> str:
        """See the protocol. An index is known by its name alone."""
        files = [file_hash(path) for path in (self._corpus, self._run) if path is not None]
        return digest(*files, repr(self.texts_in), repr(self.queries))


def _described(path: Path) -> _Description:
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Description)
    except OSError as error:
        raise BadRequestError("collections", f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadRequestError("collections", f"{path}: {error}") from error


def _qrels(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for line, (query, _, document, grade, *_) in rows(path, ("query", "iteration", "document", "grade"), None):
        found[query][document] = max(0, number(grade, int, path, line, "grade"))
    return dict(found)


def _run(path: Path) -> dict[str, tuple[GivenHit, ...]]:
    """Hits by query, highest score first; as trec_eval does, the rank that the file gives is not looked at."""
    found: dict[str, list[GivenHit]] = defaultdict(list)
    for line, fields in rows(path, ("query", "Q0", "document", "rank", "score"), None):
        found[fields[0]].append(GivenHit(fields[2], number(fields[4], float, path, line, "score")))
    return {query: tuple(sorted(hits, key=lambda hit: -(hit.score or 0.0))) for query, hits in found.items()}
