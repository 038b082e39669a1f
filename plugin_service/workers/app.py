"""The worker program: Celery's worker over the judge."""

from __future__ import annotations

import structlog
from celery import Celery
from prometheus_client import start_http_server

from plugin_service.adapters.broker import create_app
from plugin_service.workers.metrics import WorkerMetrics
from plugin_service.workers.runtime import Runtime
from plugin_service.workers.tasks import register
from whyrank.celery_app import consume, prepare
from whyrank.settings import Settings

_log = structlog.get_logger(__name__)


def main() -> int:
    """Work until SIGTERM or SIGINT; the exit code is Celery's."""
    settings = Settings()
    prepare(settings)
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
    code = consume(
        app,
        "whyrank",
        concurrency,
        ready=lambda: _log.info("worker_ready", jobs=concurrency),
        give_back=runtime.give_back,
    )
    runtime.stop()
    _log.info("worker_stopped")
    return code
