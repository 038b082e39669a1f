"""What every judged collection gives, whatever the form of its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import msgspec

from whyrank.errors import BadRequestError
from whyrank.types import Passage

Qrels = Mapping[str, Mapping[str, int]]
"""Grades by query, then document; from 1 on is relevant."""

NOTHING: Mapping[Any, Any] = MappingProxyType({})

T = TypeVar("T")


class Document(msgspec.Struct, frozen=True):
    """One document of a corpus."""

    id: str
    title: str
    text: str


class GivenHit(msgspec.Struct, frozen=True):
    """One candidate of a ranking that comes with the collection."""

    id: str
    score: float | None
    passage: Passage | None = None
    """None: made from the document's text, as a search would."""


class IndexText(msgspec.Struct, frozen=True):
    """The documents' texts are in an index of the configured engine."""

    index: str
    fields: tuple[str, ...]


class Collection(Protocol):
    """Queries with judged documents.

    Loaded when it is made: its constructor raises BadRequestError naming file, line and field. `documents` may
    raise it too, for a corpus is read as it is used.
    """

    @property
    def name(self) -> str:
        """Names it in reports."""
        ...

    @property
    def queries(self) -> Mapping[str, str]:
        """Text by id, in the file's order."""
        ...

    @property
    def qrels(self) -> Qrels:
        """The judgements."""
        ...

    @property
    def excluded(self) -> Mapping[str, frozenset[str]]:
        """Documents that are dropped from the ranking of a query before it is scored."""
        ...

    @property
    def given(self) -> Mapping[str, Sequence[GivenHit]] | None:
        """The first stage's rankings, best first, where they come with the collection; None: the engine is asked."""
        ...

    @property
    def texts_in(self) -> IndexText | None:
        """Where the texts are when `documents` has none."""
        ...

    @property
    def labels(self) -> Mapping[tuple[str, str], int]:
        """A teacher's labels by query and document, where there is one."""
        ...

    @property
    def rephrased(self) -> Mapping[str, Sequence[str]]:
        """Other words for the same query, by query, where there are some."""
        ...

    def documents(self) -> Iterator[Document]:
        """The corpus, one by one."""
        ...

    def content_hash(self) -> str:
        """16 hex digits of all that decides what the first stage finds."""
        ...


def judged_queries(collection: Collection) -> list[str]:
    """Ids of the queries that can be scored: a relevant document is known that is not excluded."""
    found = []
    for query in collection.queries:
        dropped = collection.excluded.get(query, frozenset())
        grades = collection.qrels.get(query, {})
        if any(grade > 0 and document not in dropped for document, grade in grades.items()):
            found.append(query)
    return found


def decoded_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """The objects of a JSONL file. Raises BadRequestError naming file and line."""
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise BadRequestError("collections", f"{path}:{number}: {error}") from error
    except OSError as error:
        raise BadRequestError("collections", f"cannot read {path}: {error.strerror}") from error


def rows(path: Path, columns: Sequence[str], separator: str | None) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of a text table; `separator` None is white space. Empty lines are passed over.

    Raises BadRequestError naming the file, the line, and the first column that is missing.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                fields = line.rstrip("\r\n").split(separator)
                if len(fields) < len(columns):
                    raise BadRequestError("collections", f"{path}:{number}: no `{columns[len(fields)]}`")
                yield number, fields
    except OSError as error:
        raise BadRequestError("collections", f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRequestError("collections", f"{path} is not UTF-8: {error}") from error


def number(value: str, kind: type[T], path: Path, line: int, column: str) -> T:
    """The field as a number. Raises BadRequestError naming file, line and column."""
    try:
        return kind(value)  # type: ignore[call-arg]
    except ValueError as error:
        raise BadRequestError("collections", f"{path}:{line}: `{column}` is {value!r}, no number") from error
