"""Celery over Redis: the application's settings, the form of a job, and how one is published.

The sidecar and the workers both build their application here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from celery import Celery
from celery.app.amqp import Producer

from plugin_service.adapters.leases import QUEUES
from plugin_service.adapters.redis_link import BACKGROUND_QUEUE, INTERACTIVE_QUEUE
from whyrank.celery_app import application
from whyrank.settings import Settings
from whyrank.types import Mode, Pair, Priority

JUDGE_TASK = "whyrank.judge"


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
    transport = {
        # BRPOP takes from the first of its keys that holds a message. With this strategy the keys keep the
        # order of the queues; the default rotates them.
        "queue_order_strategy": "priority",
        # Publishing fails at once when Redis refuses connections. Workers reconnect by their own rules.
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
    }
    return application(
        "whyrank",
        settings,
        (INTERACTIVE_QUEUE, BACKGROUND_QUEUE),
        BACKGROUND_QUEUE,
        transport,
        # A failed publication is the caller's to know at once: it gives the leases back.
        task_publish_retry=False,
    )


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
