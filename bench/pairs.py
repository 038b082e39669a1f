"""What the queue costs: pairs judged through Celery and a worker, against the raw model server on the same prompts.

Both ask the same server about the same prompts in turn; the first round only fills its prefix cache, so that
neither way profits from the other's having been there before.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.searches import QUERIES
from ingest.python_docs import PythonDocs
from plugin_service.adapters.announcements import RedisAnnouncements
from plugin_service.adapters.jobs import CeleryJobQueue
from plugin_service.adapters.manifest import ManifestFile
from plugin_service.adapters.redis_link import RedisLink
from plugin_service.rescoring.outcomes import Outcomes
from plugin_service.rescoring.ports import JobRequest
from whyrank.embedded import model_server, stack
from whyrank.embedded.cache import Cache
from whyrank.embedded.parts import running
from whyrank.model_client import HttpTransport, ModelClient
from whyrank.passages import content_hash, fit
from whyrank.settings import Settings
from whyrank.types import Candidate, Fragment, Mode, Pair, Priority, Verdict

BUDGET = 128


def prompts(count: int) -> list[tuple[str, Candidate]]:
    """Queries with documents of this Python."""
    found = []
    for number, document in enumerate(PythonDocs().documents()):
        if len(document.body) > 400:
            fields = (Fragment("title", document.title), Fragment("body", document.body))
            candidate = Candidate(document.id, "bench", fields, content_hash(fields))
            found.append((QUERIES[number % len(QUERIES)], candidate))
        if len(found) == count:
            break
    return found


async def raw(settings: Settings, pairs: Sequence[Pair], mode: Mode) -> float:
    """Pairs a second by the client alone, all in flight at once."""
    served = ManifestFile(settings).current()
    async with HttpTransport(settings.model_url, None, settings.model_timeout_s) as transport:
        client = ModelClient(transport, settings.model_name, settings.max_explanation_tokens)
        began = time.perf_counter()
        await asyncio.gather(*(client.ask(p.query, p.passage, mode, served.constraint) for p in pairs))
        return len(pairs) / (time.perf_counter() - began)


async def queued(settings: Settings, pairs: Sequence[Pair], mode: Mode) -> float:
    """Pairs a second from submitting the jobs until the last outcome is announced."""
    link = RedisLink(settings.redis_url.get_secret_value(), 5.0)
    announcements, jobs = RedisAnnouncements(link), CeleryJobQueue(link, settings)
    await announcements.start()
    await jobs.start()
    try:
        with Outcomes(announcements, [pair.key for pair in pairs]) as outcomes:
            began = time.perf_counter()
            await jobs.submit(
                JobRequest(
                    pairs=tuple(pairs),
                    mode=mode,
                    model_revision=ManifestFile(settings).current().revision,
                    priority=Priority.INTERACTIVE,
                    expires_at=time.time() + 3600,
                    search_id="bench",
                )
            )
            if not await outcomes.wait_all(900):
                raise RuntimeError(f"{len(outcomes.missing)} pairs without an outcome")
            took = time.perf_counter() - began
            failed = [o for o in outcomes.known.values() if not isinstance(o, Verdict)]
            if failed:
                raise RuntimeError(f"{len(failed)} pairs failed: {failed[0]}")
    finally:
        await announcements.stop()
        await jobs.close()
        await link.close()
    return len(pairs) / took


def fresh(found: Sequence[tuple[str, Candidate]]) -> list[Pair]:
    """The same prompts under keys that no cache knows."""
    return [Pair(secrets.token_hex(16), query, fit(candidate, BUDGET, None)) for query, candidate in found]


async def _measure(settings: Settings, found: Sequence[tuple[str, Candidate]], mode: Mode, rounds: int) -> str:
    await raw(settings, fresh(found), mode)
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        rates[0].append(await queued(settings, fresh(found), mode))
        rates[1].append(await raw(settings, fresh(found), mode))
    ours, theirs = (statistics.median(rate) for rate in rates)
    ratio = statistics.median(a / b for a, b in zip(*rates, strict=True))
    return f"| {mode.value}, {len(found)} pairs at once, {rounds} rounds | {ours:.2f} | {theirs:.2f} | {ratio:.2f} |"


def run(home: Path, *, pairs: int, rounds: int) -> list[str]:
    """The report's section."""
    laid_out = stack.build(home, with_model=True, sidecar_port=8080, cache=Cache())
    wanted = {part.name: part for part in laid_out.parts}
    with ExitStack() as parts:
        for name in ("valkey", "model", "worker"):
            parts.enter_context(running(wanted[name], home / f"{name}.log", timeout_s=600.0))
        settings = Settings(
            redis_url=laid_out.urls["valkey"],
            model_url=laid_out.urls["model"],
            model_name=model_server.SERVED_NAME,
            model_manifest=home / "model" / "manifest.json",
        )
        found = prompts(pairs)
        rows = [asyncio.run(_measure(settings, found, mode, rounds)) for mode in (Mode.LABEL, Mode.REASON)]
    title = "### Judging through Celery and one worker, against the raw model server on the same prompts"
    return ["\n".join([title, "", "| pairs/s | through Celery | raw | ratio |", "| --- | --- | --- | --- |", *rows])]
