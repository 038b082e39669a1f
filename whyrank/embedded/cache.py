"""What is downloaded once and used by every run: folders named by the hash of what made them.

A folder appears under its final name only when it is whole, so that a run killed half-way leaves nothing that
looks finished; what it had done stays in the partial folder, and the next run goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from whyrank.settings import Settings

Progress = Callable[[str, float | None], None]
"""Called with what is being done and, where known, the share that is done (0 to 1)."""


def silent(_what: str, _share: float | None) -> None:
    """A Progress for callers with nobody watching."""


def digest(*parts: bytes | str) -> str:
    """16 hex digits that name content made from `parts`."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()[:16]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for another process that holds it. The kernel frees it if we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Cache:
    """Folders by name and key. Safe to use from several processes at once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    def folder(self, name: str, key: str, build: Callable[[Path], None]) -> Path:
        """The folder `name` for `key`; `build(partial folder)` fills it when it is not there yet.

        `build` must cope with what an earlier, killed run left in the partial folder. Whatever it raises is
        raised here, and the next call tries again.
        """
        final = self.root / name / key
        if final.is_dir():
            return final
        with exclusive(self.root / "locks" / f"{name}.lock"):
            if final.is_dir():
                return final
            partial = self.root / name / f"{key}.partial"
            partial.mkdir(parents=True, exist_ok=True)
            build(partial)
            partial.rename(final)
        return final

    def clear(self, name: str) -> None:
        """Remove every version of the folder `name`."""
        with exclusive(self.root / "locks" / f"{name}.lock"):
            shutil.rmtree(self.root / name, ignore_errors=True)


def default_root() -> Path:
    """`WHYRANK_CACHE`, or `whyrank` in the user's cache folder."""
    if (chosen := Settings().cache) is not None:
        return chosen.expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"  # the desktop's variable, not one of ours
    return Path(base).expanduser() / "whyrank"
