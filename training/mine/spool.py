"""A file of lines that grows beside a checkpoint, so that a killed run goes on without a line lost or written twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from training.records import RecordsError

T = TypeVar("T", bound=msgspec.Struct)


class Checkpoint(msgspec.Struct):
    """What of the file is valid, and where its maker stands."""

    length: int = 0
    """Bytes; what is behind them was written by a killed run that did not come to `commit`."""
    lines: int = 0
    done: bool = False
    mark: Any = None
    """The maker's own, as JSON types."""
    counts: dict[str, int] = msgspec.field(default_factory=dict)


class Spool:
    """Lines of JSON at `path`, the checkpoint at `path` + `.checkpoint`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checkpoint_path = path.with_name(path.name + ".checkpoint")
        self.state = self._read()
        self._file = path.open("ab")
        self._file.truncate(self.state.length)

    def _read(self) -> Checkpoint:
        try:
            state = msgspec.json.decode(self._checkpoint_path.read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return Checkpoint()
        except msgspec.DecodeError as error:
            raise RecordsError(f"{self._checkpoint_path}: {error}; delete its folder to begin anew") from error
        if not self._path.exists() or self._path.stat().st_size < state.length:
            raise RecordsError(f"{self._path} is shorter than its checkpoint; delete its folder to begin anew")
        return state

    def add(self, records: Iterable[Any]) -> None:
        """Write records; they count once they are committed."""
        for record in records:
            self.state.length += self._file.write(msgspec.json.encode(record) + b"\n")
            self.state.lines += 1

    def commit(self, mark: Any, *, done: bool = False) -> None:
        """What was added so far is valid, and its maker stands at `mark`."""
        self._file.flush()
        self.state.mark, self.state.done = mark, done
        draft = self._checkpoint_path.with_name(self._checkpoint_path.name + ".draft")
        draft.write_bytes(msgspec.json.encode(self.state))
        draft.replace(self._checkpoint_path)

    def read(self, kind: type[T], start: int = 0) -> Iterator[T]:
        """The committed records from line `start` on."""
        decoder = msgspec.json.Decoder(kind)
        with self._path.open("rb") as file:
            for number, line in enumerate(file):
                if number >= self.state.lines:
                    return
                if number >= start:
                    yield decoder.decode(line)

    def close(self) -> None:
        """Release the file."""
        self._file.close()
