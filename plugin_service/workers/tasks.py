"""The Celery tasks: a few lines that hand over to the judge."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from celery import Celery, Task
from celery.exceptions import Reject

from plugin_service.adapters.broker import JUDGE_TASK, Job, publish
from plugin_service.workers.judge import GivenBackError
from plugin_service.workers.runtime import Runtime

_log = structlog.get_logger(__name__)


def register(app: Celery, runtime: Runtime) -> None:
    """Register the tasks, bound to the runtime."""

    @app.task(name=JUDGE_TASK, bind=True)  # type: ignore[untyped-decorator]
    def judge(task: Task, payload: dict[str, Any]) -> None:
        try:
            job = msgspec.convert(payload, Job)
        except msgspec.ValidationError as error:
            # Of another version: its pairs are enqueued anew by the next search, once their leases expire.
            _log.exception("job_unreadable", error=str(error))
            return
        try:
            background = runtime.run(job, (task.request.properties or {}).get("delivery_tag"))
        except GivenBackError:
            raise Reject("the worker stops", requeue=True) from None
        if background is not None:
            try:
                publish(app, [background])
            except Exception as error:
                # Whatever it was, the message must not be acknowledged.
                raise Reject(f"could not be put in the background: {error}", requeue=True) from error
