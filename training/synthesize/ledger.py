"""What was paid for: every answer of the teacher, on disk before anything is made of it.

`answers.jsonl` in the stage's folder is only ever added to. It is keyed by what was asked of whom, so a stage that
was killed, or runs again with other settings, asks nothing that has its answer here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from training.records import Appender, RecordsError, append
from training.synthesize.questions import PaidAnswer


class Ledger:
    """The answers by key, in the order in which they came; `add` is of those within `open`."""

    def __init__(self, path: Path, add: Appender | None = None) -> None:
        self._add = add
        self._answers: dict[str, list[PaidAnswer]] = defaultdict(list)
        self.prompt_tokens = 0
        self.completion_tokens = 0
        decoder = msgspec.json.Decoder(PaidAnswer)
        for number, line in enumerate(_whole_lines(path), start=1):
            try:
                self._count(decoder.decode(line))
            except msgspec.DecodeError as error:
                raise RecordsError(f"{path}:{number}: {error}; answers before and after it are whole") from error

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Ledger]:
        """The ledger, to be added to. Raises RecordsError for a line that is no answer."""
        with append(path) as add:
            yield cls(path, add)

    def add(self, answer: PaidAnswer) -> None:
        """Keep an answer: it is in the file when this returns."""
        if self._add is None:
            raise RuntimeError("this ledger is only read")
        self._add(answer)
        self._count(answer)

    def of(self, key: str) -> list[PaidAnswer]:
        """The answers to a question, in the order in which they were paid."""
        return list(self._answers.get(key, ()))

    def __len__(self) -> int:
        return sum(map(len, self._answers.values()))

    def cost(self, price_in: float, price_out: float) -> float:
        """Of all answers, at prices of a million tokens."""
        return (self.prompt_tokens * price_in + self.completion_tokens * price_out) / 1e6

    def _count(self, answer: PaidAnswer) -> None:
        self._answers[answer.key].append(answer)
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, but for one that a killed run left unfinished; none where there is no file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))
