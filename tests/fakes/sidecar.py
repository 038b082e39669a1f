"""A whole sidecar: the real application and Rescorer, on fake ports, with a judge in place of workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from starlette.responses import PlainTextResponse

from plugin_service.api.app import create_app
from plugin_service.api.metrics import Metrics
from plugin_service.api.parts import Parts, PartState
from plugin_service.rescoring.ids import RankingIds
from plugin_service.rescoring.ports import Admission, JobRequest, Outcome
from plugin_service.rescoring.rescorer import Rescorer
from tests.fakes.announcements import FakeAnnouncements
from tests.fakes.cache import FakeVerdictCache
from tests.fakes.jobs import FakeJobQueue
from tests.fakes.model_status import FakeModelStatus
from tests.fakes.policies import FakePolicies
from tests.fakes.rankings import FakeRankingStore
from whyrank.settings import Settings
from whyrank.types import Mode, Pair, Policy, Quote, Verdict


def judge(pair: Pair) -> Verdict:
    """Relevance is the part of the query's words that stand in the passage; the quote is its first sentence."""
    words = set(pair.query.lower().split())
    relevance = len(words & set(pair.passage.text.lower().replace(".", " ").split())) / len(words)
    sentence = pair.passage.text.split(".")[0]
    return Verdict(
        label=round(2 * relevance),
        label_probabilities=(1 - relevance, 0.0, relevance),
        relevance=relevance,
        explanation=f'The document states "{sentence}".',
        quotes=(Quote(sentence, 0, len(sentence)),),
        grounded=True,
        mode=Mode.REASON,
        model_revision="rev-1",
    )


class JudgingQueue(FakeJobQueue):
    """Judges what is enqueued at once, on the same event loop, unless `idle`."""

    def __init__(self, cache: FakeVerdictCache, announcements: FakeAnnouncements) -> None:
        super().__init__()
        self.judge: Callable[[Pair], Outcome] = judge
        self.idle = False
        self._cache = cache
        self._announcements = announcements

    async def submit(self, request: JobRequest) -> Admission:
        admission = await super().submit(request)
        if admission is Admission.ACCEPTED and not self.idle:
            for pair in request.pairs:
                asyncio.get_running_loop().call_soon(self.settle, pair)
        return admission

    def settle(self, pair: Pair) -> None:
        """Judge one pair, cache its verdict and announce it."""
        self.finish(pair.key)
        outcome = self.judge(pair)
        if isinstance(outcome, Verdict):
            self._cache.verdicts[pair.key] = outcome
        self._announcements.announce(pair.key, outcome)


class Sidecar:
    """`parts` and the `app` made of them; `proxied` lists the paths that went to the engine."""

    def __init__(self, settings: Settings | None = None, static: Path | None = None) -> None:
        self.settings = settings or Settings(secret="test")
        self.cache = FakeVerdictCache()
        self.announcements = FakeAnnouncements()
        self.jobs = JudgingQueue(self.cache, self.announcements)
        self.rankings = FakeRankingStore()
        self.model = FakeModelStatus()
        self.policies = FakePolicies(Policy(index="docs", fields=("title", "body")))
        self.metrics = Metrics(CollectorRegistry())
        self.ids = RankingIds(self.settings.secret.get_secret_value())
        self.rescorer = Rescorer(
            cache=self.cache,
            announcements=self.announcements,
            jobs=self.jobs,
            rankings=self.rankings,
            model=self.model,
            new_id=self.ids.new,
            observer=self.metrics,
        )
        self.states = {"engine": PartState("ok"), "redis": PartState("ok"), "policies": PartState("ok")}
        self.depths: dict[str, int] | Exception = {"interactive": 3, "background": 0}
        self.proxied: list[str] = []
        self.lifespan: list[str] = []
        self.parts = Parts(
            settings=self.settings,
            rescorer=self.rescorer,
            policies=self.policies,
            model=self.model,
            ids=self.ids,
            metrics=self.metrics,
            proxy=self._proxy,
            checks={name: self._check(name) for name in self.states},
            queue_depths=self._depths,
            start=self._start,
            stop=self._stop,
            **({} if static is None else {"static": static}),
        )
        self.app = create_app(self.parts)

    def client(self) -> httpx.AsyncClient:
        """A client without sockets; an exception that reaches the server fails the test."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://sidecar")

    def _check(self, name: str) -> Callable[[], Any]:
        async def check() -> PartState:
            return self.states[name]

        return check

    async def _depths(self) -> dict[str, int]:
        if isinstance(self.depths, Exception):
            raise self.depths
        return self.depths

    async def _start(self) -> None:
        self.lifespan.append("start")

    async def _stop(self) -> None:
        self.lifespan.append("stop")

    async def _proxy(self, scope: Any, receive: Any, send: Any) -> None:
        self.proxied.append(f"{scope['method']} {scope['path']}")
        await PlainTextResponse("from the engine")(scope, receive, send)
