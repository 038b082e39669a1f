"""Check that no tracked file names a package registry's host: `python -m tools.no_registry`.

Whoever installs WhyRank decides where packages come from; a host in a lock or a script would decide it for them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# Written apart, so that this file passes its own check.
HOSTS = ("pypi" + ".org", "pythonhosted" + ".org", "repo1.maven" + ".org", "repo.maven.apache" + ".org")
MORE_HOSTS = (
    "maven" + "-central",
    "registry.npmjs" + ".org",
    "registry.yarnpkg" + ".com",
    "crates" + ".io",
    "proxy.golang" + ".org",
)
OPTIONS = r"--(?:extra-)?index-url[ =]+\S*://|--find-links[ =]+\S*://"
NAMED = re.compile("|".join([*map(re.escape, HOSTS + MORE_HOSTS), OPTIONS]), re.IGNORECASE)


def named_in(text: str) -> list[tuple[int, str]]:
    """Line numbers, from 1, and what is named there."""
    return [(n, found[0]) for n, line in enumerate(text.splitlines(), 1) for found in NAMED.finditer(line)]


def main() -> int:
    """Say where a host is named, and give 1 if one is."""
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True, text=True).stdout  # noqa: S607
    problems = []
    for name in filter(None, tracked.split("\0")):
        path = Path(name)
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            problems += [f"{name}:{line}: names a package registry ({what})" for line, what in named_in(text)]
    sys.stderr.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
