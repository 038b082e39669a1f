"""What a check is, and how checks are carried out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from whyrank.doctor.context import Context
from whyrank.doctor.findings import Finding, Level, unknown
from whyrank.errors import WhyRankError

log = structlog.get_logger(__name__)
NOT_LOOKED_AT = "not looked at, for "
"""Begins what is said of a check that lacks another, which is named."""
CHECK_S = 30.0
"""A check that takes longer is given up; the one that has a pair judged takes the longest."""

Run = Callable[[Context], Awaitable[Sequence[Finding]]]


@dataclass(frozen=True)
class Check:
    """`name` is part and thing, as `redis.eviction`; what it looks for is `run`'s docstring.

    `needs` are checks without which this one has nothing to look at. An `active` check sends searches or has a pair
    judged; all others only read.
    """

    name: str
    run: Run
    needs: tuple[str, ...] = ()
    active: bool = False

    @property
    def part(self) -> str:
        """The part that it belongs to."""
        return self.name.partition(".")[0]

    @property
    def looks_for(self) -> str:
        """The first sentence of its docstring."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


def check(name: str, *, needs: Iterable[str] = (), active: bool = False) -> Callable[[Run], Check]:
    """Make a check of a function; `whyrank.doctor.checks` collects those of its modules."""
    return lambda run: Check(name, run, tuple(needs), active)


async def examine(context: Context, checks: Iterable[Check]) -> list[Finding]:
    """Carry the checks out, one after another; what they find, each under its check's name. Never raises."""
    findings: list[Finding] = []
    missing: dict[str, str] = {}
    for one in checks:
        lacks = [missing[need] for need in one.needs if need in missing]
        found = [unknown(f"{NOT_LOOKED_AT}{lacks[0]}")] if lacks else await _carried_out(one, context)
        if any(finding.level in (Level.BROKEN, Level.UNKNOWN) for finding in found):
            missing[one.name] = lacks[0] if lacks else one.name
        findings += [replace(finding, check=one.name) for finding in found]
    return findings


async def _carried_out(one: Check, context: Context) -> Sequence[Finding]:
    try:
        return await asyncio.wait_for(one.run(context), CHECK_S)
    except TimeoutError:
        return [unknown(f"gave no answer within {CHECK_S:.0f} s")]
    except WhyRankError as error:
        return [unknown(str(error))]
    except Exception as error:  # one check that fails must not hide what the others find
        log.debug("check_failed", check=one.name, exc_info=error)
        return [unknown(f"the check itself failed: {type(error).__name__}: {error}")]
