"""Structured logs, alike in every program: one line an event, with the bound context (`search_id`).

Use `structlog.get_logger(__name__)` with an event name and values; bind what belongs to all lines of a search
with `structlog.contextvars.bound_contextvars(search_id=...)`. Libraries' own logging comes out in the same form.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import msgspec
import structlog
from structlog.typing import EventDict, Processor

_QUIET = ("celery.worker.strategy", "celery.app.trace", "aiohttp.access", "httpx", "httpcore", "asyncio")
"""Loggers whose INFO lines say what ours say already."""


def configure(level: Literal["debug", "info", "warning", "error"], fmt: Literal["json", "console"]) -> None:
    """Send structlog's and the standard library's logs to stderr, from `level` on. Call once, at a program's start."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Processor]
    if fmt == "json":
        last = [structlog.processors.format_exc_info, _json]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in list(logging.Logger.manager.loggerDict):
        # What uvicorn and others set up for themselves would print a second time, in another form.
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _json(_logger: object, _method: str, event: EventDict) -> str:
    # Time, level and event first, so that a line can be read.
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return msgspec.json.encode({**first, **event}, enc_hook=str).decode()
