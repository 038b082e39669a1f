"""Checkpoints that can be trusted: each is sealed with the hashes of its files, and read only if they still hold."""

from __future__ import annotations

from pathlib import Path

from training.records import file_hash
from training.stages import StageError

SEAL = "SHA256SUMS"


def seal(folder: Path) -> None:
    """Write the hashes of a checkpoint's files: it is whole."""
    lines = [f"{file_hash(path)}  {path.relative_to(folder)}\n" for path in _files(folder)]
    draft = folder / f"{SEAL}.draft"
    draft.write_text("".join(lines))
    draft.replace(folder / SEAL)


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """(the newest checkpoint of a training that is as it was sealed, what is wrong with newer ones).

    A checkpoint without a seal is what a kill left of one, and no fault. Raises StageError when there are sealed
    checkpoints and none of them holds: to begin anew would hide that hours of work were lost.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    sealed = [path for path in found if (path / SEAL).exists()]
    wrong: list[str] = []
    for path in sealed:
        if not (fault := fault_of(path)):
            return path, wrong
        wrong.append(fault)
    if wrong:
        raise StageError(f"no checkpoint can be used: {'; '.join(wrong)}. Delete {folder} to train from the beginning")
    return None, wrong


def fault_of(folder: Path) -> str:
    """What is wrong with a sealed checkpoint, "" if nothing."""
    for line in (folder / SEAL).read_text().splitlines():
        wanted, _, name = line.partition("  ")
        path = folder / name
        if not path.exists():
            return f"{path} is missing"
        if file_hash(path) != wanted:
            return f"{path} is corrupted"
    return ""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(SEAL))
