"""A run folder whose groups are judged and whose student is distilled, and the stage as a process that can be killed.

`python -m tests.integration.training.refine_run FOLDER CONFIG BASE` refines.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import msgspec

from training import refine
from training.recipe import Recipe
from training.records import Group, GroupPassage, Judgement, Role, Source, Split, write
from training.stages import RunFolder, Stage
from whyrank.settings import Settings

LABELS = (2, 0, 1, 0)
"""The teacher's, of the passages of each group."""


def sentence(document: str) -> str:
    """What is worth quoting of a document."""
    return f"The {document} explains how the setting of the cache is changed"


def make(folder: Path, adapter: Path, groups: int = 4, validation: int = 1) -> RunFolder:
    """`groups` groups to learn from and `validation` ones held out, of as many passages as there are LABELS."""
    run = RunFolder(folder)
    splits = [Split.TRAIN] * groups + [Split.VALIDATION] * validation
    made: list[Group] = []
    judgements: list[Judgement] = []
    for number, split in enumerate(splits):
        passages = []
        for place, label in enumerate(LABELS):
            document = f"doc-{number}-{place}"
            text = f"{document} is a page. {sentence(document)}."
            passages.append(GroupPassage(document, text, Role.HARD))
            probabilities = (float(label == 0), float(label == 1), float(label == 2))
            judgements.append(Judgement(f"g{number}", document, "test", label, probabilities, label / 2, "It does."))
        query = "how is the cache changed"
        made.append(Group(f"g{number}", query, Source.HEADING, f"o{number}", "test", split, tuple(passages)))
    write(run.folder(Stage.SYNTHESIZE) / "groups.jsonl", made)
    write(run.folder(Stage.SYNTHESIZE) / "judgements.jsonl", judgements)
    shutil.copytree(adapter, run.folder(Stage.DISTILL) / "adapter")
    return run


def teacher_label(document: str) -> int:
    """What the teacher says of a document of `make`."""
    return LABELS[int(document.split("-")[2])]


def answer(document: str, label: int) -> str:
    """A good answer but for its label."""
    return f'The document states "{sentence(document)}". Relevance Label: {label}'


if __name__ == "__main__":
    refine.run(
        RunFolder(Path(sys.argv[1])),
        msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=refine.RefineConfig),
        Settings(),
        Recipe("test", sys.argv[3]),
        lambda what, share: print(what, share, flush=True),
    )
