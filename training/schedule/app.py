"""Celery for training: an application of its own, so that a run of hours shares no queue and no thread with searches.

The task of a scheduled start does not train. It starts `python -m training.schedule once`, which does, and watches
it; should the worker die, its watchdog ends that process, and the broker gives the unacknowledged message to
another worker, whose `once` continues the run at the stage where it died. Redis knows no heartbeat of a message, so
a thread keeps the message of a running task young (`Keepalive`): only a dead worker's comes back. Whatever is
delivered twice nevertheless finds the lease taken, and gives up.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

import structlog
from celery import Celery, Task
from celery.apps.beat import Beat
from celery.exceptions import Reject
from celery.schedules import crontab
from redis import Redis
from redis.exceptions import RedisError

from training.stages import OURS
from whyrank.celery_app import RESTORE_CHECKS, SOCKET_TIMEOUT_S, application, consume, prepare
from whyrank.embedded.process import Child, Launch
from whyrank.errors import BadRequestError
from whyrank.settings import Settings

QUEUE = "whyrank.training"
TASK = "whyrank.training.once"
UNACKED_INDEX = "whyrank.training.unacked_index"
_STOP_GRACE_S = 30.0
"""A run that is told to end ends its stage first, which has ten seconds."""
_log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> Celery:
    """The application, without a connection yet. Raises BadRequestError on a schedule that is no crontab."""
    transport = {
        # Bookkeeping of its own: the workers of searches give back what is theirs by a clock of theirs.
        "unacked_key": "whyrank.training.unacked",
        "unacked_index_key": UNACKED_INDEX,
        "unacked_mutex_key": "whyrank.training.unacked_mutex",
    }
    app = application("whyrank.training", settings, (QUEUE,), QUEUE, transport)
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
            self._url, socket_timeout=SOCKET_TIMEOUT_S, socket_connect_timeout=SOCKET_TIMEOUT_S
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
        self._keepalive = Keepalive(settings.redis_url.get_secret_value(), settings.redelivery_s / RESTORE_CHECKS)

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
    prepare(settings)
    app = create_app(settings)
    supervisor = Supervisor(settings, stages)

    @app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
    def once(task: Task) -> None:
        code = supervisor.once(task.request.properties["delivery_tag"])
        _log.info("scheduled_start_ended", code=code)

    return consume(
        app, "whyrank-training", 1, ready=lambda: _log.info("training_worker_ready"), give_back=supervisor.stop
    )


def beat(settings: Settings) -> None:
    """Be the clock until SIGTERM or SIGINT. One for the fleet; a second one does no harm but for useless messages.

    It keeps when it last rang, so that a time missed while it was away is made up for. Raises BadRequestError when
    no schedule is set.
    """
    if settings.train_schedule is None:
        raise BadRequestError("train_schedule", "no schedule is set: WHYRANK_TRAIN_SCHEDULE='30 2 * * *', in UTC")
    prepare(settings)
    folder = settings.home.resolve() / "training" / "beat"
    folder.mkdir(parents=True, exist_ok=True)
    _log.info("training_beat_ready", schedule=settings.train_schedule)
    Beat(app=create_app(settings), schedule=str(folder / "schedule"), quiet=True, loglevel="INFO").run()
