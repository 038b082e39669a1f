"""When training runs by itself, on what, and what a scheduled start would do now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
from celery.schedules import crontab
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from training import history
from training.runs import seen, settings_of, surroundings
from training.schedule.app import parse
from training.schedule.plan import Plan, decide, recipe_of

TIMES = 3


class Forecast(msgspec.Struct, frozen=True):
    """What the schedule is."""

    schedule: str | None
    """None: training never runs by itself."""
    recipe: str
    index: str | None
    min_new: int
    next: tuple[datetime, ...]
    """The next times, in UTC."""
    plan: Plan
    """What a scheduled start would do now."""


def forecast(home: Path) -> Forecast:
    """Of this home's settings. Raises BadRequestError for a schedule or recipe that is wrong."""
    settings = settings_of(surroundings(home))
    recipe = recipe_of(settings)
    times = next_times(parse(settings.train_schedule)) if settings.train_schedule is not None else ()
    plan = decide(history.all_runs(home), recipe, partial(seen, settings), settings.train_min_new)
    index = history.index_of(recipe)
    return Forecast(settings.train_schedule, recipe.name, index, settings.train_min_new, times, plan)


def next_times(when: crontab, after: datetime | None = None) -> tuple[datetime, ...]:
    """The next times after `after` (now), in UTC."""
    at = after or datetime.now(UTC)
    times: list[datetime] = []
    for _ in range(TIMES):
        when.nowfun = partial(_same, at)
        start, delta, _ = when.remaining_delta(at)
        at = start + delta
        times.append(at)
    return tuple(times)


def view(told: Forecast) -> RenderableType:
    """As a table."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    rows = {
        "schedule": f"{told.schedule} (UTC)" if told.schedule else "never (WHYRANK_TRAIN_SCHEDULE is not set)",
        "next": "\n".join(f"{at:%a %Y-%m-%d %H:%M} UTC, in {_in(at)}" for at in told.next),
        "recipe": told.recipe,
        "index": told.index or "",
        "least that is new": f"{told.min_new} documents",
        "a start now would": f"{told.plan.action.value}: {told.plan.why}",
    }
    for name, text in rows.items():
        if text:
            table.add_row(name, escape(text))
    return table


def _in(at: datetime) -> str:
    left = at - datetime.now(UTC)
    hours, minutes = divmod(max(left, timedelta()).total_seconds() // 60, 60)
    return f"{hours:.0f} h {minutes:.0f} min" if hours < 48 else f"{hours / 24:.0f} d"


def _same(at: datetime) -> datetime:
    return at
