"""The workers that have pairs judged, and their queues."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence

import httpx

from whyrank.doctor.context import Context, asked
from whyrank.doctor.findings import Finding, broken, ok, unknown, warning
from whyrank.doctor.registry import check
from whyrank.errors import StoreUnavailableError
from whyrank.types import Mode, Status

_UNACKED = "unacked_index"
"""Celery's sorted set of jobs that were handed out, by time; workers keep those that they are on young."""
_JUDGE_MS = 15_000
_START = "start one: python -m plugin_service.workers, with this WHYRANK_REDIS_URL"
_BUSY = 0.5


@check("workers.listening", needs=["redis.reachable"])
async def listening(context: Context) -> Sequence[Finding]:
    """Some worker waits for jobs, or is on one (workers answer no Celery ping: it would cost every search)."""
    redis = await context.redis()
    try:
        clients = await asked(redis.client_list)
    except StoreUnavailableError as error:
        return [unknown(f"who is connected may not be asked: {error}")]
    waiting = sum(client.get("cmd") == "brpop" for client in clients)
    since = time.time() - context.settings.redelivery_s
    busy = int(await asked(redis.zcount, _UNACKED, since, math.inf))
    if not waiting and not busy:
        return [broken("no worker waits for jobs: nothing is judged", _START)]
    return [ok(f"{waiting} connections wait for jobs, {busy} jobs are being worked on")]


@check("workers.metrics")
async def metrics(context: Context) -> Sequence[Finding]:
    """The worker that `whyrank up` started answers."""
    url = context.places.worker_metrics_url
    if url is None:
        return []
    try:
        answer = await context.http.get(url)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        return [broken(f"no worker answers at {url}: {error}", "see its log in the home's folder logs")]
    return [ok(f"it answers at {url}")]


@check("workers.queue", needs=["sidecar.reachable", "redis.reachable"])
async def queue(context: Context) -> Sequence[Finding]:
    """The interactive queue is far from WHYRANK_QUEUE_LIMIT, above which searches are shed."""
    waiting = (await context.figures()).get(("whyrank_queue_pairs", "interactive"))
    if waiting is None:
        return [unknown("the sidecar cannot read the queues")]
    limit = context.settings.queue_limit
    what = f"{waiting:.0f} pairs wait, {limit} are the limit"
    remedy = "add workers or model servers; narrow windows (whyrank enable INDEX --window)"
    if waiting >= limit:
        return [broken(f"{what}: searches are shed", remedy)]
    return [warning(what, remedy) if waiting > _BUSY * limit else ok(what)]


@check("workers.judge", needs=["sidecar.reachable", "redis.reachable"], active=True)
async def judge(context: Context) -> Sequence[Finding]:
    """A pair that nobody has asked for before is judged: from the sidecar through queue, worker and model, and back."""
    words = f"whyrank doctor {uuid.uuid4().hex}"
    deadline_ms = min(_JUDGE_MS, context.settings.max_deadline_ms)
    began = time.monotonic()
    answer = await context.sidecar.rerank(words, [words], deadline_ms=deadline_ms, mode=Mode.LABEL, explain=False)
    took_s = time.monotonic() - began
    if answer.status == Status.COMPLETE:
        return [ok(f"a pair was judged in {took_s:.1f} s")]
    if answer.status == Status.WARMING:
        return [warning(f"not yet: {answer.reason}", "wait for the model; searches keep the engine's order until then")]
    if answer.status == Status.PENDING:
        what = f"a pair was not judged within {deadline_ms / 1000:.0f} s"
        return [broken(what, f"see the worker's log; if none runs, {_START}")]
    return [broken(f"{answer.status}: {answer.reason}", "see the sidecar's log")]
