"""The worker program: Celery's worker over the judge."""

from __future__ import annotations

import os
import socket
import warnings
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.platforms import SecurityWarning
from celery.signals import setup_logging
from prometheus_client import start_http_server

from plugin_service.adapters.broker import create_app
from plugin_service.workers.metrics import WorkerMetrics
from plugin_service.workers.runtime import Runtime
from plugin_service.workers.tasks import register
from whyrank import logging
from whyrank.settings import Settings

_log = structlog.get_logger(__name__)


def main() -> int:
    """Work until SIGTERM or SIGINT; the exit code is Celery's."""
    settings = Settings()
    # A receiver of this signal keeps Celery from setting up logging of its own.
    setup_logging.connect(lambda **_: logging.configure(settings.log_level, settings.log_format), weak=False)
    logging.configure(settings.log_level, settings.log_format)
    # Celery warns of running as root because of pickle, as containers do; here only JSON is accepted.
    warnings.simplefilter("ignore", SecurityWarning)
    metrics = WorkerMetrics()
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, addr=settings.host, registry=metrics.registry)
    runtime = Runtime(settings, metrics)
    runtime.start()
    app = create_app(settings)
    register(app, runtime)
    return run(app, runtime, settings.worker_jobs)


def run(app: Celery, runtime: Runtime, concurrency: int) -> int:
    """Consume until the process is told to stop."""

    class GiveBack(bootsteps.StartStopStep):  # type: ignore[misc]
        """When the worker stops, after it has ceased to consume and before it waits for its threads."""

        requires = ("celery.worker.components:Pool",)

        def stop(self, _worker: Any) -> None:
            runtime.give_back()

        terminate = stop

    app.steps["worker"].add(GiveBack)
    worker = app.Worker(
        hostname=f"whyrank-{os.getpid()}@{socket.gethostname()}",
        pool="threads",
        concurrency=concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        ready_callback=lambda _consumer: _log.info("worker_ready", jobs=concurrency),
    )
    worker.start()
    runtime.stop()
    _log.info("worker_stopped")
    return int(worker.exitcode or 0)
