"""Celery over Redis: the application's settings, the form of a job, and how one is published.

The sidecar and the workers both build their application here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from celery import Celery
from celery.app.amqp import Producer
from kombu.entity import Queue

from plugin_service.adapters.leases import QUEUES
from plugin_service.adapters.redis_link import BACKGROUND_QUEUE, INTERACTIVE_QUEUE
from whyrank.settings import Settings
from whyrank.types import Mode, Pair, Priority

JUDGE_TASK = "whyrank.judge"
_SOCKET_TIMEOUT_S = 5.0
_RESTORE_CHECKS = 4
"""How often within `redelivery_s` a worker looks for messages of killed workers."""


class Job(msgspec.Struct, frozen=True):
    """Some pairs of one search, in one Celery message."""

    id: str
    pairs: tuple[Pair, ...]
    mode: Mode
    model_revision: str
    priority: Priority
    expires_at: float
    search_id: str
    enqueued_at: float
    """Seconds since the epoch, of the first time it was enqueued."""


def create_app(settings: Settings) -> Celery:
    """A Celery application that opens no connection yet."""
    app = Celery("whyrank", broker=settings.redis_url.get_secret_value(), backend=None, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_create_missing_queues=False,
        task_queues=[Queue(name) for name in (INTERACTIVE_QUEUE, BACKGROUND_QUEUE)],  # type: ignore[no-untyped-call]
        task_default_queue=BACKGROUND_QUEUE,
        # A failed publication is the caller's to know at once: it gives the leases back.
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # A job goes on while the broker is away: its verdicts are written when Redis is back.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=_SOCKET_TIMEOUT_S,
        broker_transport_options={
            # BRPOP takes from the first of its keys that holds a message. With this strategy the keys keep the
            # order of task_queues; the default rotates them.
            "queue_order_strategy": "priority",
            "priority_steps": [0],
            # Unacknowledged messages older than this go back to their queue. Workers keep those that they are on
            # young (worker's `Keepalive`), so only a dead worker's come back.
            "visibility_timeout": settings.redelivery_s,
            # kombu looks for them every interval * throttle seconds: 100 by default.
            "unacked_restore_interval": max(0.5, settings.redelivery_s / _RESTORE_CHECKS),
            "unacked_restore_throttle": 1,
            # A worker killed while it restores holds this lock so long: 300 by default.
            "unacked_mutex_expire": max(1, settings.redelivery_s // _RESTORE_CHECKS),
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": 1.0,
            "socket_keepalive": True,
            # Publishing fails at once when Redis refuses connections. Workers reconnect by their own rules.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
        },
    )
    return app


def publish(app: Celery, jobs: Iterable[Job]) -> None:
    """Put the jobs into their queues. Blocking; raises kombu's and redis-py's own exceptions."""
    with app.producer_or_acquire() as producer:
        producer.connection.connect()
        for job in jobs:
            _publish(app, producer, job)


def _publish(app: Celery, producer: Producer, job: Job) -> None:
    app.send_task(
        JUDGE_TASK,
        args=(msgspec.to_builtins(job),),
        task_id=job.id,
        queue=QUEUES[job.priority],
        producer=producer,
        # Celery would print the arguments into the message's headers, documents and all.
        argsrepr=job.search_id,
        kwargsrepr="{}",
    )


def split(whole: Job, size: int) -> list[Job]:
    """The same as jobs of at most `size` pairs, numbered after the whole's id."""
    return [
        msgspec.structs.replace(whole, id=f"{whole.id}-{start // size}", pairs=whole.pairs[start : start + size])
        for start in range(0, len(whole.pairs), size)
    ]
