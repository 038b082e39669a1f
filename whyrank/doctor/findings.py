"""What a check finds."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, with less than it could, or until something else happens."""
    BROKEN = "broken"
    """It does not do what it is there for."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


class Finding(msgspec.Struct, frozen=True):
    """One thing found. `what` is a sentence; `remedy` is what to do, where there is something to do."""

    level: Level
    what: str
    remedy: str = ""
    about: str = ""
    """The index, pipeline or endpoint that it is about, if any."""
    check: str = ""
    """Which check found it, as `redis.eviction`."""


def ok(what: str, about: str = "") -> Finding:
    """All is well."""
    return Finding(Level.OK, what, about=about)


def warning(what: str, remedy: str, about: str = "") -> Finding:
    """See Level.WARNING."""
    return Finding(Level.WARNING, what, remedy, about)


def broken(what: str, remedy: str, about: str = "") -> Finding:
    """See Level.BROKEN."""
    return Finding(Level.BROKEN, what, remedy, about)


def unknown(what: str, about: str = "") -> Finding:
    """See Level.UNKNOWN."""
    return Finding(Level.UNKNOWN, what, about=about)
