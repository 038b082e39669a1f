"""`python -m training.schedule worker|beat|once`.

Exit codes: 0 done, or nothing to do; 1 the run failed; 2 wrong usage; 75 another run is training.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import structlog
import typer
from pydantic import ValidationError

from training import lease
from training.history import Status
from training.runs import Names, settings_of, signals_stop, surroundings
from training.schedule.plan import once as plan_once
from training.stages import OURS
from whyrank import logging
from whyrank.errors import BadRequestError, WhyRankError
from whyrank.settings import Settings

_log = structlog.get_logger(__name__)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="Training on a schedule.")
Home = Annotated[Path, typer.Option(help="Folder for all state of `whyrank up`.", envvar="WHYRANK_HOME")]
DEFAULT_HOME = Path(".whyrank")


@app.command()
def worker(home: Home = DEFAULT_HOME, stages: Names = OURS) -> None:
    """Run what the schedule asks for, one run at a time, until SIGTERM."""
    from training.schedule.app import work  # noqa: PLC0415 - Celery takes a second to import

    with _told():
        raise typer.Exit(work(_settings(home), stages))


@app.command()
def beat(home: Home = DEFAULT_HOME) -> None:
    """Be the clock of WHYRANK_TRAIN_SCHEDULE, until SIGTERM. One is enough for a fleet."""
    from training.schedule.app import beat as ring  # noqa: PLC0415

    with _told():
        ring(_settings(home))


@app.command()
def once(home: Home = DEFAULT_HOME, stages: Names = OURS) -> None:
    """What a scheduled start does, now: continue a run that died, or start one when there is enough new."""
    home = home.resolve()
    stop = lease.Stop()
    with _told(), signals_stop(stop):
        surrounding = surroundings(home)
        settings = settings_of(surrounding)
        logging.configure(settings.log_level, settings.log_format)
        try:
            record = plan_once(home, surrounding, stop, stages)
        except lease.HeldError as error:
            _log.info("training_already", why=str(error))
            raise typer.Exit(os.EX_TEMPFAIL) from error
    raise typer.Exit(0 if record is None or record.status is Status.DONE else 1)


def _settings(home: Path) -> Settings:
    return settings_of(surroundings(home.resolve()))


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (BadRequestError, ValidationError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(2) from error
    except WhyRankError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
