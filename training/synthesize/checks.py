"""What every teacher's answer must stand before it is a record: it can be read, and quotes only what is there."""

from __future__ import annotations

import msgspec

from training.records import RECORDS_VERSION, GroupPassage
from whyrank.types import Mode, Verdict, VerdictFailure
from whyrank.verdict import parse


class Rejection(msgspec.Struct, frozen=True):
    """A teacher's answer that is not taken: `synthesize/rejected.jsonl`."""

    group: str
    passage: str
    """Empty where the answer was to be queries."""
    teacher: str
    reason: str
    """A `whyrank.types.FailureKind`, or `ungrounded`, `unquoted`, `no_queries`."""
    answer: str
    """The last answer in full, or the server's words where it gave none."""
    attempts: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    version: int = RECORDS_VERSION


def checked(answer: str, passage: GroupPassage, teacher: str) -> Verdict | str:
    """The answer's verdict, else why it is rejected.

    Each quote must stand in the passage, and who calls a passage relevant (1 or 2) must quote it.
    """
    found = parse(answer, None, passage=passage.passage(), mode=Mode.REASON, model_revision=teacher)
    if isinstance(found, VerdictFailure):
        return found.kind.value
    if not all(quote.grounded for quote in found.quotes):
        return "ungrounded"
    return "unquoted" if found.label and not found.quotes else found
