"""Files and folders that appear whole or not at all, and folders whose every file is vouched for by SHA256SUMS."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from whyrank.errors import RegistryError

SUMS = "SHA256SUMS"
DRAFT = ".draft-"
"""What a name begins with that is not whole yet."""
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")


def seal(folder: Path) -> None:
    """Write the folder's SHA256SUMS: its content is complete."""
    sums = {name: sha256(folder / name) for name in _files(folder) if name != SUMS}
    write_whole(folder / SUMS, sum_lines(sums).encode())


def check(folder: Path) -> None:
    """Compare a folder with its SHA256SUMS. Raises RegistryError naming the first file that is not as it says."""
    sums = sums_of(folder)
    present = set(_files(folder)) - {SUMS}
    for name in sorted(present - sums.keys()):
        raise RegistryError(f"{folder / name} has no checksum in {folder / SUMS}")
    if not sums:
        raise RegistryError(f"{folder / SUMS} has no checksum")
    for name, expected in sorted(sums.items()):
        if name not in present:
            raise RegistryError(f"{folder / name} is missing")
        if (actual := sha256(folder / name)) != expected:
            raise RegistryError(f"{folder / name} is damaged: its sha256 is {actual}, not {expected}")


def sums_of(folder: Path) -> dict[str, str]:
    """What a folder's SHA256SUMS says, by file. Raises RegistryError for one that cannot be read."""
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"cannot read {path}: {error}") from error
    sums: dict[str, str] = {}
    for line in lines:
        found = _SUM_LINE.fullmatch(line)
        if found is None or ".." in Path(found[2]).parts or Path(found[2]).is_absolute():
            raise RegistryError(f"{path}: not a checksum: {line[:80]!r}")
        sums[found[2]] = found[1]
    return sums


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def sha256(path: Path) -> str:
    """Of a file, in hex. Raises RegistryError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RegistryError(f"cannot read {path}: {error.strerror}") from error


def sum_lines(sums: Mapping[str, str]) -> str:
    """Checksums by file, as `sha256sum -c` reads them."""
    return "".join(f"{value}  {name}\n" for name, value in sorted(sums.items()))


def copy(source: Path, target: Path) -> None:
    """A copy that is on disk when this returns."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file; it is on disk when this returns."""
    draft = path.with_name(f"{DRAFT}{path.name}-{os.getpid()}")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
