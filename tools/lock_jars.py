"""Write a jar lock: `python -m tools.lock_jars [--alone] LOCK GROUP:ARTIFACT:VERSION...` (`make lock` runs it).

With `--alone` the named jars without what they need: those that are read for a file that they carry, not run.

Maven's resolution, by jgo, happens here and only here; `whyrank.embedded.jars` follows the lock.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jgo.maven import MavenContext

from whyrank.embedded.jars import Jar


def locked(artifact: Any) -> Jar:
    """The lock line of one resolved artifact."""
    checksum = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
    return Jar(artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier or "", checksum)


def main(arguments: list[str]) -> int:
    """Resolve the roots with all they need, and write every jar's coordinate and hash."""
    alone = arguments[:1] == ["--alone"]
    if len(arguments) < 2 + alone:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    path, *roots = arguments[alone:]
    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch), timeout=60)
        wanted = [context.create_dependency(root) for root in roots]
        inputs, others = (wanted, []) if alone else context.resolver.resolve(wanted)
        artifacts = {d.artifact.key: d.artifact for d in [*inputs, *others] if d.scope != "test" and d.type == "jar"}
        with ThreadPoolExecutor(8) as pool:
            jars = sorted(pool.map(locked, artifacts.values()), key=str)
    Path(path).write_text("".join([f"# {' '.join(roots)}: written by `make lock`\n", *(f"{jar}\n" for jar in jars)]))
    sys.stdout.write(f"{path}: {len(jars)} jars\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
