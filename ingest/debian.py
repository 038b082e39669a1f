"""Debian's documentation packages as documents: pages that any Debian machine can get, without root."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest.documents import Document, Skipped
from ingest.html import HtmlFolder
from whyrank.errors import BadRequestError, WhyRankError

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
"""A package's name (Debian Policy 5.6.1): nothing that apt-get could take for an option or a path."""
_LOCALE = re.compile(r"[a-z]{2}|[a-z]{2,3}[-_@][a-zA-Z]{2,8}")
_HTML_LANGUAGE = re.compile(rb"""<html\b[^>]{0,500}?\blang\s*=\s*["']?([A-Za-z-]{2,35})""", re.IGNORECASE)
_PUBLISHED = "file:///usr/share"
"""Where packages put their pages: addresses are alike on every machine, wherever they were unpacked."""
_NO_PROSE = re.compile(r"(?:^|/)(?:_modules/|_sources/|(?:genindex|py-modindex|search)[^/]*$)")
"""What Sphinx makes beside the pages: source code, indices."""
_TIMEOUT_S = 600.0


class DebianError(WhyRankError):
    """A package cannot be had or unpacked here."""


class DebianPackages:
    """The HTML pages of packages, in the order of the packages and of the pages' names. A page's site is its package.

    Packages are downloaded (by `apt-get download`, as the machine's sources are set) and unpacked below `into`,
    each once. Only pages in `language` are taken: those of parallel folders (`manual/fr` beside `manual/en`) and
    those that declare another one are left out. `limit` pages of each package at most, evenly spread over it;
    `seed` moves where that begins.
    """

    def __init__(
        self, names: Sequence[str], into: Path, *, limit: int | None = None, seed: int = 0, language: str = "en"
    ) -> None:
        for name in names:
            if not _NAME.fullmatch(name):
                raise BadRequestError("package", f"{name!r} is no package name")
        self._names = tuple(dict.fromkeys(names))
        self._into = into
        self._limit = limit
        self._seed = seed
        self._language = language
        self.skipped: list[Skipped] = []

    def fetch(self) -> None:
        """Get what is not there yet. Raises DebianError, saying which package and why."""
        for name in self._names:
            if not (self._into / name).is_dir():
                _install(name, self._into)

    def total(self) -> int:
        """Number of documents that there will be, but for files that cannot be read."""
        return sum(len(self._folder(name).paths()) for name in self._names)

    def documents(self) -> Iterator[Document]:
        """Read the pages one after the other; memory holds one. Call `fetch` first."""
        for name in self._names:
            folder = self._folder(name)
            yield from folder.documents()
            self.skipped += folder.skipped

    def _folder(self, name: str) -> HtmlFolder:
        root = self._into / name / "usr" / "share"

        def choose(paths: Sequence[Path]) -> list[Path]:
            wanted = [path for path in one_language(paths, self._language) if not _NO_PROSE.search(path.as_posix())]
            spoken = [path for path in wanted if _speaks(root / path, self._language)]
            return evenly(spoken, self._limit, self._seed)

        return HtmlFolder(root, _PUBLISHED, site=name, choose=choose)


def one_language(paths: Sequence[Path], language: str) -> list[Path]:
    """The paths without those of translations: of folders named by locales side by side, only the language's."""
    children: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        for parent in path.parents[:-1]:
            children[parent.parent].add(parent.name)
    dropped = {
        folder / name
        for folder, names in children.items()
        if any(_is_locale_of(name, language) for name in names)
        for name in names
        if _LOCALE.fullmatch(name) and not _is_locale_of(name, language)
    }
    return [path for path in paths if dropped.isdisjoint(path.parents)]


def evenly(paths: Sequence[Path], limit: int | None, seed: int) -> list[Path]:
    """At most `limit` of the paths, at equal distances, in their order."""
    if limit is None or len(paths) <= limit:
        return list(paths)
    start = random.Random(seed).random()  # noqa: S311 - a choice of pages, no secret
    return [paths[int((number + start) * len(paths) / limit)] for number in range(limit)]


def _is_locale_of(name: str, language: str) -> bool:
    return bool(_LOCALE.fullmatch(name)) and re.split("[-_@]", name)[0] == language


def _speaks(path: Path, language: str) -> bool:
    """Whether the page declares this language, or none."""
    try:
        with path.open("rb") as file:
            declared = _HTML_LANGUAGE.search(file.read(2048))
    except OSError:
        return True  # the folder says why it cannot be read
    return declared is None or declared[1].decode("ascii").lower().split("-")[0] == language


def _install(name: str, into: Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise DebianError(f"{tool} is needed to get {name}, and is not on this machine; index HTML by --pages")
    into.mkdir(parents=True, exist_ok=True)
    # A folder has its final name when it is whole: a killed download leaves none.
    with tempfile.TemporaryDirectory(dir=into, prefix=".fetch-") as scratch:
        _command(["apt-get", "--quiet", "download", name], Path(scratch), f"cannot download {name}")
        packages = list(Path(scratch).glob("*.deb"))
        if len(packages) != 1:
            raise DebianError(f"apt-get gave {len(packages)} files for {name}")
        unpacked = Path(scratch, "unpacked")
        _command(["dpkg-deb", "-x", str(packages[0]), str(unpacked)], Path(scratch), f"cannot unpack {name}")
        unpacked.rename(into / name)


def _command(words: list[str], folder: Path, failing: str) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(  # noqa: S603 - names are checked, nothing passes a shell
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DebianError(f"{failing}: no answer in {_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb:"))]
        raise DebianError(f"{failing}: {' '.join(said) or done.stderr.strip()[-500:]}")
