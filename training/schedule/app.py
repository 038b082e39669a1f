"""Celery for training: an application of its own, so that a run of hours shares no queue and no thread with searches.

The task of a scheduled start does not train. It starts `python -m training.schedule once`, which does, and watches
it; should the worker die, its watchdog ends that process, and the broker gives the unacknowledged message to
another worker, whose `once` continues the run at the stage where it died. Redis knows no heartbeat of a message, so
a thread keeps the message of a running task young (`Keepalive`): only a dead worker's comes back. Whatever is
delivered twice nevertheless finds the lease taken, and gives up.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import structlog
from celery import Celery, Task, bootsteps
from celery.apps.beat import Beat
from celery.exceptions import Reject
from celery.platforms import SecurityWarning
from celery.schedules import crontab
from celery.signals import setup_logging
from kombu.entity import Queue
from redis import Redis
from redis.exceptions import RedisError

from training.stages import OURS
from whyrank import logging
from whyrank.embedded.process import Child, Launch
from whyrank.errors import BadRequestError
from whyrank.settings import Settings

QUEUE = "whyrank.training"
TASK = "whyrank.training.once"
UNACKED_INDEX = "whyrank.training.unacked_index"
_SOCKET_TIMEOUT_S = 5.0
_RESTORE_CHECKS = 4
_STOP_GRACE_S = 30.0
"""A run that is told to end ends its stage first, which has ten seconds."""
_log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> Celery:
    """The application, without a connection yet. Raises BadRequestError on a schedule that is no crontab."""
    app = Celery("whyrank.training", broker=settings.redis_url.get_secret_value(), backend=None, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_create_missing_queues=False,
        task_queues=[Queue(QUEUE)],  # type: ignore[no-untyped-call]
        task_default_queue=QUEUE,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # A run goes on while the broker is away.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=_SOCKET_TIMEOUT_S,
        broker_transport_options={
            # Bookkeeping of its own: the workers of searches give back what is theirs by a clock of theirs.
            "unacked_key": "whyrank.training.unacked",
            "unacked_index_key": UNACKED_INDEX,
            "unacked_mutex_key": "whyrank.training.unacked_mutex",
            "priority_steps": [0],
            "visibility_timeout": settings.redelivery_s,
            "unacked_restore_interval": max(0.5, settings.redelivery_s / _RESTORE_CHECKS),
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": max(1, settings.redelivery_s // _RESTORE_CHECKS),
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": 1.0,
            "socket_keepalive": True,
        },
    )
    if settings.train_schedule is not None:
        app.conf.beat_schedule = {"train": {"task": TASK, "schedule": parse(settings.train_schedule)}}
    return app


def parse(expression: str) -> crontab:
    """A crontab of five fields, in UTC. Raises BadRequestError."""
    try:
        return crontab.from_string(" ".join(expression.split()))
    except ValueError as error:
        raise BadRequestError(
            "train_schedule", f"{expression!r} is no crontab of five fields, as `30 2 * * *`: {error}"
        ) from error


class Keepalive:
    """Says every `interval_s` seconds that a message was just delivered, so that kombu does not deliver it again."""

    def __init__(self, redis_url: str, interval_s: float) -> None:
        self._url = redis_url
        self._interval_s = interval_s

    @contextlib.contextmanager
    def holding(self, delivery_tag: str) -> Iterator[None]:
        """Keep the message meanwhile."""
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(delivery_tag, ended), name="training-message", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self, delivery_tag: str, ended: threading.Event) -> None:
        with Redis.from_url(
            self._url, socket_timeout=_SOCKET_TIMEOUT_S, socket_connect_timeout=_SOCKET_TIMEOUT_S
        ) as client:
            while not ended.wait(self._interval_s):
                try:
                    client.zadd(UNACKED_INDEX, {delivery_tag: time.time()}, xx=True)
                except RedisError as error:
                    _log.debug("keepalive_failed", error=str(error))


class Supervisor:
    """What a worker has running: one `once` at a time."""

    def __init__(self, settings: Settings, stages: str) -> None:
        home = settings.home.resolve()
        self._command = [sys.executable, "-m", "training.schedule", "once", "--home", str(home), "--stages", stages]
        self._log = home / "training" / "logs" / "schedule.log"
        self._stopping = threading.Event()
        self._keepalive = Keepalive(settings.redis_url.get_secret_value(), settings.redelivery_s / _RESTORE_CHECKS)

    def once(self, delivery_tag: str) -> int:
        """Run it to its end. Raises Reject, so that the message goes back, when the worker stops meanwhile."""
        if self._stopping.is_set():
            raise Reject("the worker stops", requeue=True)
        with self._keepalive.holding(delivery_tag):
            child = Child(Launch(self._command), self._log)
            try:
                while (code := child.exit_code()) is None and not self._stopping.wait(0.5):
                    pass
            finally:
                child.stop(_STOP_GRACE_S)
        if code is None:
            raise Reject("the worker stops", requeue=True)
        return code

    def stop(self) -> None:
        """The run ends, and is continued by whoever gets the message."""
        self._stopping.set()


def work(settings: Settings, stages: str = OURS) -> int:
    """Be a worker until SIGTERM or SIGINT; the exit code is Celery's."""
    _prepare(settings)
    app = create_app(settings)
    supervisor = Supervisor(settings, stages)

    @app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
    def once(task: Task) -> None:
        code = supervisor.once(task.request.properties["delivery_tag"])
        _log.info("scheduled_start_ended", code=code)

    class GiveBack(bootsteps.StartStopStep):  # type: ignore[misc]
        """When the worker stops, after it has ceased to consume and before it waits for its thread."""

        requires = ("celery.worker.components:Pool",)

        def stop(self, _worker: Any) -> None:
            supervisor.stop()

        terminate = stop

    app.steps["worker"].add(GiveBack)
    worker = app.Worker(
        hostname=f"whyrank-training-{os.getpid()}@{socket.gethostname()}",
        # A thread, so that the worker's own loop stays free to speak with the broker while a run goes on.
        pool="threads",
        concurrency=1,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        ready_callback=lambda _consumer: _log.info("training_worker_ready"),
    )
    worker.start()
    return int(worker.exitcode or 0)


def beat(settings: Settings) -> None:
    """Be the clock until SIGTERM or SIGINT. One for the fleet; a second one does no harm but for useless messages.

    It keeps when it last rang, so that a time missed while it was away is made up for. Raises BadRequestError when
    no schedule is set.
    """
    if settings.train_schedule is None:
        raise BadRequestError("train_schedule", "no schedule is set: WHYRANK_TRAIN_SCHEDULE='30 2 * * *', in UTC")
    _prepare(settings)
    folder = settings.home.resolve() / "training" / "beat"
    folder.mkdir(parents=True, exist_ok=True)
    _log.info("training_beat_ready", schedule=settings.train_schedule)
    Beat(app=create_app(settings), schedule=str(folder / "schedule"), quiet=True, loglevel="INFO").run()


def _prepare(settings: Settings) -> None:
    # A receiver of this signal keeps Celery from setting up logging of its own.
    setup_logging.connect(lambda **_: logging.configure(settings.log_level, settings.log_format), weak=False)
    logging.configure(settings.log_level, settings.log_format)
    # Celery warns of running as root because of pickle, as containers do; here only JSON is accepted.
    warnings.simplefilter("ignore", SecurityWarning)
