"""What a round has done already: one file for each step, written last, with the hashes of what the step made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from training.records import file_hash
from training.stages import StageError

_INPUTS = "inputs.json"


class StepRecord(msgspec.Struct, frozen=True):
    """A step that is done."""

    figures: dict[str, Any]
    outputs: dict[str, str]
    """sha256 of the files it made, by their path in the step's folder."""


def finished(folder: Path, step: str) -> dict[str, Any] | None:
    """The figures of a step that is done, None where it is not.

    Raises StageError where what it made is no more as it was: going on from it would train on something else.
    """
    path = _path(folder, step)
    try:
        record = msgspec.json.decode(path.read_bytes(), type=StepRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StageError(f"{path} cannot be read: {error}; delete it to do this step again") from error
    for name, wanted in record.outputs.items():
        output = folder / name
        if not output.is_file():
            raise StageError(f"{output} is missing; delete {path} to do this step again")
        if file_hash(output) != wanted:
            raise StageError(f"{output} is corrupted; delete it and {path} to do this step again")
    return record.figures


def finish(folder: Path, step: str, figures: Mapping[str, Any], outputs: Sequence[Path]) -> dict[str, Any]:
    """Say that a step is done; gives its figures as `finished` will."""
    hashes = {str(output.relative_to(folder)): file_hash(output) for output in outputs}
    _write(_path(folder, step), StepRecord(dict(figures), hashes))
    return dict(figures)


def same_inputs(folder: Path, inputs: dict[str, str]) -> None:
    """Note what the stage works from. Raises StageError where the folder was begun with something else."""
    path = folder / _INPUTS
    try:
        begun = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        _write(path, inputs)
        return
    except (OSError, msgspec.DecodeError) as error:
        raise StageError(f"{path} cannot be read: {error}; delete {folder} to start over") from error
    changed = sorted(name for name in inputs.keys() | begun.keys() if inputs.get(name) != begun.get(name))
    if changed:
        raise StageError(f"{folder} was begun with another {', '.join(changed)}; delete it to start over")


def _path(folder: Path, step: str) -> Path:
    return folder / f"{step}.done.json"


def _write(path: Path, content: object) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    draft.replace(path)
