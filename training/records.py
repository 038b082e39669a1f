"""The records that stages hand to each other: JSONL files, each with a manifest of what it holds.

A record file is written once. `write` gives the file its name when it is whole; `append` is for stages that
must not lose what they have paid for: it drops a line that a killed run left unfinished and goes on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from whyrank.errors import WhyRankError
from whyrank.types import LabelProbabilities, Passage

RECORDS_VERSION = 1

T = TypeVar("T", bound=msgspec.Struct)


class RecordsError(WhyRankError):
    """A record file is missing, is not what its manifest says, or holds a line that is no such record."""


class Split(StrEnum):
    """What a group may be used for. All groups of one origin, and near-duplicates of it, share a split."""

    TRAIN = "train"
    VALIDATION = "validation"
    """Chooses checkpoints and fusion weights."""
    TEST = "test"
    """Held out: only evaluation and the promotion gate read it."""


class Source(StrEnum):
    """Where a group's query comes from."""

    STACKEXCHANGE = "stackexchange"
    """A question; positives are what its answers link to, and its own answers."""
    ANCHOR = "anchor"
    """The words of a link; the positive is its target."""
    HEADING = "heading"
    """A section's heading with its page's title; the positive is the section."""
    SENTENCE = "sentence"
    """A sentence taken out of a passage (the inverse cloze task); the positive is what is left of the passage."""
    UBI = "ubi"
    """A user's query; positives are what was clicked."""
    SYNTHETIC = "synthetic"
    """A query that a teacher wrote for another group's origin; same passages."""


class Role(StrEnum):
    """How a passage came into its group. Not a judgement: judging is the teacher's."""

    POSITIVE = "positive"
    HARD = "hard"
    """The engine's own search found it for the query."""
    RANDOM = "random"


class GroupPassage(msgspec.Struct, frozen=True):
    """One passage of a group, as the model will read it."""

    id: str
    text: str
    role: Role
    engine_score: float | None = None
    """None where the engine's search did not find it."""
    truncated: bool = False

    def passage(self) -> Passage:
        """As `whyrank.prompt` takes it."""
        return Passage(self.text, self.truncated)


class Group(msgspec.Struct, frozen=True):
    """A query and the passages that are ranked against each other for it, in the engine's order."""

    id: str
    """Content hash of source, origin and query: mining again gives the same id."""
    query: str
    source: Source
    origin: str
    """What the query came from, by its id in the index (question, page); groups of one origin share a split."""
    site: str
    split: Split
    passages: tuple[GroupPassage, ...]
    version: int = RECORDS_VERSION


class Judgement(msgspec.Struct, frozen=True):
    """A teacher's answer on one passage of one group."""

    group: str
    passage: str
    teacher: str
    """Name and revision of who judged, as `offline/bge-small-en-v1.5@1` or `openai/llama-3.3-70b@<prompt>`."""
    label: int
    probabilities: LabelProbabilities
    """Soft labels; one-hot where the teacher gives none."""
    relevance: float
    """In [0, 1], (P(1) + 2·P(2)) / 2 or finer: what the listwise term learns."""
    explanation: str
    """In full, without the label."""
    quotes: tuple[str, ...] = ()
    """Verbatim spans of the passage that the explanation cites, best first."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    version: int = RECORDS_VERSION


class FileManifest(msgspec.Struct, frozen=True):
    """What a record file holds: `<name>.jsonl` has it in `<name>.manifest.json`."""

    records: int
    sha256: str
    made_of: dict[str, str] = {}
    """Hashes of the inputs, by name."""
    counts: dict[str, int] = {}
    version: int = RECORDS_VERSION


class Appender(Protocol):
    """Writes records one by one; each is on disk when `__call__` returns."""

    def __call__(self, record: msgspec.Struct) -> None:
        """Write one record."""
        ...


def manifest_path(path: Path) -> Path:
    """Where the manifest of a record file is."""
    return path.with_suffix(".manifest.json")


def write(
    path: Path,
    records: Iterable[msgspec.Struct],
    made_of: dict[str, str] | None = None,
    counts: dict[str, int] | None = None,
) -> FileManifest:
    """Write a record file and its manifest, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        for record in records:
            file.write(msgspec.json.encode(record) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return seal(path, made_of, counts)


def seal(path: Path, made_of: dict[str, str] | None = None, counts: dict[str, int] | None = None) -> FileManifest:
    """Write the manifest of a record file that is complete."""
    with path.open("rb") as file:
        records = sum(1 for _ in file)
    manifest = FileManifest(records, file_hash(path), made_of or {}, counts or {})
    draft = manifest_path(path).with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    draft.replace(manifest_path(path))
    return manifest


def read(path: Path, kind: type[T], *, verify: bool = True) -> Iterator[T]:
    """The records of a file, one by one.

    Raises RecordsError when the file is missing, differs from its manifest (unless `verify` is off, for files that
    are still being appended to), or has a line that is not a `kind` of this version.
    """
    if verify:
        check(path)
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise RecordsError(f"{path}:{number}: {error}") from error
                if getattr(record, "version", RECORDS_VERSION) != RECORDS_VERSION:
                    raise RecordsError(f"{path}:{number}: version is not {RECORDS_VERSION}")
                yield record
    except OSError as error:
        raise RecordsError(f"cannot read {path}: {error.strerror}") from error


def check(path: Path) -> FileManifest:
    """The manifest of a record file that is as it says. Raises RecordsError otherwise."""
    try:
        manifest = msgspec.json.decode(manifest_path(path).read_bytes(), type=FileManifest)
        found = file_hash(path)
    except OSError as error:
        raise RecordsError(f"cannot read {error.filename}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise RecordsError(f"{manifest_path(path)}: {error}") from error
    if found != manifest.sha256:
        raise RecordsError(f"{path} is not what its manifest says: sha256 {found}, not {manifest.sha256}")
    return manifest


@contextmanager
def append(path: Path) -> Iterator[Appender]:
    """Add records to a file that a killed run may have left with half a line at its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _drop_unfinished(file.fileno(), path)

        def add(record: msgspec.Struct) -> None:
            file.write(msgspec.json.encode(record) + b"\n")
            file.flush()

        yield add
        os.fsync(file.fileno())


def _drop_unfinished(descriptor: int, path: Path) -> None:
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(descriptor, whole)


def file_hash(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
