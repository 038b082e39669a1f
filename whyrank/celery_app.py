"""Celery over Redis as our programs use it: durable messages, their redelivery, and a worker that gives work back.

Each program has an application, queues and bookkeeping of its own; what makes a message safe is the same for all.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery, bootsteps
from celery.platforms import SecurityWarning
from celery.signals import setup_logging
from kombu.entity import Queue

from whyrank import logging
from whyrank.settings import Settings

SOCKET_TIMEOUT_S = 5.0
RESTORE_CHECKS = 4
"""How often within `redelivery_s` a worker looks for messages of killed workers."""


def application(
    name: str, settings: Settings, queues: Sequence[str], default: str, transport: dict[str, Any], **more: Any
) -> Celery:
    """A Celery application that opens no connection yet.

    `transport` are kombu's options for Redis beside those that all share, `more` is Celery's own configuration.
    """
    app = Celery(name, broker=settings.redis_url.get_secret_value(), backend=None, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_create_missing_queues=False,
        task_queues=[Queue(queue) for queue in queues],  # type: ignore[no-untyped-call]
        task_default_queue=default,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Work goes on while the broker is away: what it found is written when Redis is back.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=SOCKET_TIMEOUT_S,
        broker_transport_options={
            "priority_steps": [0],
            # Unacknowledged messages older than this go back to their queue. Workers keep those that they are on
            # young, so only a dead worker's come back.
            "visibility_timeout": settings.redelivery_s,
            # kombu looks for them every interval * throttle seconds: 100 by default.
            "unacked_restore_interval": max(0.5, settings.redelivery_s / RESTORE_CHECKS),
            "unacked_restore_throttle": 1,
            # A worker killed while it restores holds this lock so long: 300 by default.
            "unacked_mutex_expire": max(1, settings.redelivery_s // RESTORE_CHECKS),
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": 1.0,
            "socket_keepalive": True,
            **transport,
        },
        **more,
    )
    return app


def prepare(settings: Settings) -> None:
    """Set up logging of a Celery program, before it starts."""
    # A receiver of this signal keeps Celery from setting up logging of its own.
    setup_logging.connect(lambda **_: logging.configure(settings.log_level, settings.log_format), weak=False)
    logging.configure(settings.log_level, settings.log_format)
    # Celery warns of running as root because of pickle, as containers do; here only JSON is accepted.
    warnings.simplefilter("ignore", SecurityWarning)


def consume(
    app: Celery, name: str, concurrency: int, *, ready: Callable[[], None], give_back: Callable[[], None]
) -> int:
    """Work on threads until the process is told to stop; the exit code is Celery's.

    `give_back` is called when the worker has ceased to consume, before it waits for its threads.
    """

    class GiveBack(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.components:Pool",)

        def stop(self, _worker: Any) -> None:
            give_back()

        terminate = stop

    app.steps["worker"].add(GiveBack)
    worker = app.Worker(
        hostname=f"{name}-{os.getpid()}@{socket.gethostname()}",
        # Threads, so that the worker's own loop stays free to speak with the broker meanwhile.
        pool="threads",
        concurrency=concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        ready_callback=lambda _consumer: ready(),
    )
    worker.start()
    return int(worker.exitcode or 0)
