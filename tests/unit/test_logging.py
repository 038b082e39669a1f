"""Log lines of ours and of libraries, in one form. In a process of its own: logging is global."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, warnings, structlog
library = logging.getLogger("celery.worker")
library.addHandler(logging.StreamHandler())
from whyrank.logging import configure
early = structlog.get_logger("early")
configure({level!r}, {fmt!r})
with structlog.contextvars.bound_contextvars(search_id="s-1"):
    early.info("judged", pairs=3, path=__import__("pathlib").Path("x"))
    library.warning("from %s", "a library", extra={{"queue": "q"}})
early.debug("hidden")
logging.getLogger("celery.app.trace").info("hidden")
try:
    1 / 0
except ZeroDivisionError:
    early.exception("broke")
warnings.warn("careful")
"""


def run(level: str, fmt: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level, fmt=fmt)], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_lines() -> None:
    ours, library, error, warning = map(json.loads, run("info", "json"))
    assert list(ours)[:3] == ["timestamp", "level", "event"]
    assert (ours["event"], ours["pairs"], ours["path"], ours["search_id"]) == ("judged", 3, "x", "s-1")
    assert (library["event"], library["level"], library["queue"]) == ("from a library", "warning", "q")
    assert (library["search_id"], library["logger"]) == ("s-1", "celery.worker")
    assert "ZeroDivisionError" in error["exception"]
    assert "careful" in warning["event"]


def test_console_lines_from_a_level_on() -> None:
    lines = run("warning", "console")
    assert "from a library" in lines[0]
    assert not any("judged" in line or "hidden" in line for line in lines)
