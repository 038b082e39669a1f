"""The judge's own rules, with its surroundings made up: what lands, what goes back, what is tried again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest

from plugin_service.adapters.broker import Job, split
from plugin_service.adapters.leases import Claim
from plugin_service.adapters.manifest import ServedModel
from plugin_service.rescoring.ports import Outcome
from plugin_service.workers.gate import Gate
from plugin_service.workers.judge import GivenBackError, Judge
from plugin_service.workers.keepalive import Keepalive
from plugin_service.workers.metrics import WorkerMetrics
from whyrank.errors import (
    ModelError,
    ModelRefusedError,
    ModelUnavailableError,
    ModelUnknownError,
    StoreUnavailableError,
)
from whyrank.model_client import Answer
from whyrank.prompt import Constraint
from whyrank.types import FailureKind, FusionWeights, Mode, Pair, Passage, Priority, Verdict, VerdictFailure

SERVED = ServedModel("rev-1", FusionWeights(), Constraint.NONE)
WITH_ENCODER = msgspec.structs.replace(SERVED, bi_encoder="small")


class Leases:
    """Everything is claimed, unless `claims` says otherwise; `away` calls fail first."""

    def __init__(self) -> None:
        self.landed: dict[str, Outcome] = {}
        self.kept_s: dict[str, int] = {}
        self.dropped: list[str] = []
        self.demoted: dict[str, str] = {}
        self.claims: dict[str, Claim] = {}
        self.away = 0

    def _call(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailableError("away")

    async def claim(self, keys: Sequence[str], job_id: str, **_: object) -> list[Claim]:
        self._call()
        return [self.claims.get(key, Claim.JUDGE) for key in keys]

    async def land(self, key: str, outcome: Outcome, verdict_ttl_s: int) -> None:
        self._call()
        self.landed[key] = outcome
        self.kept_s[key] = verdict_ttl_s

    async def drop(self, keys: Sequence[str]) -> None:
        self._call()
        self.dropped.extend(keys)

    async def demote(self, keys: Sequence[str], owner: str, ttl_s: float) -> None:
        self._call()
        self.demoted.update(dict.fromkeys(keys, owner))


class Model:
    """Says label 1, after the document's `errors` in turn."""

    def __init__(self) -> None:
        self.errors: dict[str, list[BaseException]] = {}
        self.asked: Counter[str] = Counter()
        self.names: list[str | None] = []
        self.hold: asyncio.Event | None = None

    async def ask(
        self, query: str, passage: Passage, mode: Mode, constraint: Constraint, model: str | None = None
    ) -> Answer:
        self.asked[passage.text] += 1
        self.names.append(model)
        if self.hold is not None:
            await self.hold.wait()
        if errors := self.errors.get(passage.text):
            raise errors.pop(0)
        return Answer("Because. Relevance Label: 1", (), passage)


class Similarities:
    """Every passage's cosine is 0.25, but those of `unknown`; `hold` holds them back."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.unknown: set[str] = set()
        self.hold: asyncio.Event | None = None
        self.cancelled = 0

    async def of(self, name: str, query: str, passages: Sequence[str]) -> list[float] | None:
        (passage,) = passages
        self.asked.append((name, query, passage))
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return None if passage in self.unknown else [0.25]


class Served:
    """What the manifests say: revisions with their models, and which of them are to stay."""

    def __init__(self) -> None:
        self.models = {SERVED.revision: SERVED}
        self.stays = {SERVED.revision}

    def of(self, revision: str) -> ServedModel | None:
        return self.models.get(revision)

    def wanted(self, revision: str) -> bool:
        return revision in self.stays


class World:
    def __init__(self) -> None:
        self.leases, self.model, self.metrics = Leases(), Model(), WorkerMetrics()
        self.similarities, self.models = Similarities(), Served()
        keepalive = Keepalive(None, 1.0, 1.0)  # type: ignore[arg-type]
        self.judge = Judge(
            self.leases,
            self.model,
            self.models,
            keepalive,
            self.metrics,
            verdict_ttl_s=100_000,
            running_s=1.0,
            lease_s=1.0,
            similarity=self.similarities,
        )

    def serve(self, model: ServedModel) -> None:
        """This one and no other."""
        self.models.models, self.models.stays = {model.revision: model}, {model.revision}

    def pairs(self, outcome: str) -> float:
        return self.metrics.pairs.labels("reason", outcome)._value.get()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("plugin_service.workers.gate._FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("plugin_service.workers.gate._LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr("plugin_service.workers.judge._STORE_PAUSE_S", (0.001, 0.002))
    return World()


def job(
    *names: str, priority: Priority = Priority.INTERACTIVE, expires_in: float = 60.0, revision: str = "rev-1"
) -> Job:
    pairs = tuple(Pair(f"key-{name}", "why", Passage(name)) for name in names)
    now = time.time()
    return Job("job-1", pairs, Mode.REASON, revision, priority, now + expires_in, "search-1", now)


async def test_each_pair_lands_with_its_own_outcome(world: World) -> None:
    world.model.errors = {
        "b": [ModelRefusedError("no")],
        "c": [ModelRefusedError("long", too_long=True)],
        "d": [ValueError("a fault of ours")],
    }
    assert await world.judge.run(job("a", "b", "c", "d")) is None
    assert isinstance(world.leases.landed["key-a"], Verdict)
    failures = {key: o.kind for key, o in world.leases.landed.items() if isinstance(o, VerdictFailure)}
    assert failures == {"key-b": FailureKind.REFUSED, "key-c": FailureKind.TOO_LONG}
    assert world.leases.dropped == ["key-d"]
    assert [world.pairs(name) for name in ("judged", "refused", "too_long", "error")] == [1, 1, 1, 1]


async def test_a_verdict_carries_its_similarity(world: World) -> None:
    world.serve(WITH_ENCODER)
    world.similarities.unknown = {"b"}
    assert await world.judge.run(job("a", "b")) is None
    assert {key: (verdict.label, verdict.similarity) for key, verdict in world.leases.landed.items()} == {
        "key-a": (1, 0.25),
        "key-b": (1, None),
    }
    assert sorted(world.similarities.asked) == [("small", "why", "a"), ("small", "why", "b")]
    assert world.leases.kept_s["key-a"] == 100_000
    assert world.leases.kept_s["key-b"] < 100_000, "it is judged again, with its similarity, before long"


async def test_a_model_without_an_encoder_has_no_similarities(world: World) -> None:
    assert await world.judge.run(job("a")) is None
    assert world.leases.landed["key-a"].similarity is None
    assert world.leases.kept_s["key-a"] == 100_000
    assert world.similarities.asked == []


async def test_a_pair_that_was_not_judged_waits_for_no_similarity(world: World) -> None:
    world.serve(WITH_ENCODER)
    world.similarities.hold = asyncio.Event()
    world.model.errors = {"a": [ModelRefusedError("no")], "b": [ModelUnavailableError("away") for _ in range(10_000)]}
    later = await world.judge.run(job("a", "b", expires_in=0.05))
    assert later is not None
    assert [pair.key for pair in later.pairs] == ["key-b"]
    assert world.leases.landed["key-a"].kind is FailureKind.REFUSED
    await asyncio.sleep(0)
    assert world.similarities.cancelled == len(world.similarities.asked)


async def test_what_is_in_other_hands_is_skipped(world: World) -> None:
    world.leases.claims = {"key-a": Claim.SKIP}
    assert await world.judge.run(job("a", "b")) is None
    assert list(world.leases.landed) == ["key-b"]
    assert world.model.asked == {"b": 1}


async def test_stale_pairs_come_back_as_a_background_job(world: World) -> None:
    world.leases.claims = {"key-a": Claim.DEMOTE, "key-c": Claim.DEMOTE}
    stale = job("a", "b", "c", expires_in=-1)
    later = await world.judge.run(stale)
    assert later is not None
    assert later.priority is Priority.BACKGROUND
    assert later.pairs == (stale.pairs[0], stale.pairs[2])
    assert later.id != stale.id
    assert msgspec.structs.replace(later, id="", pairs=(), priority=stale.priority) == msgspec.structs.replace(
        stale, id="", pairs=()
    )
    assert world.model.asked == {"b": 1}
    assert world.leases.demoted == {}, "the claim has done it"


async def test_an_away_model_server_is_waited_for(world: World) -> None:
    away = [ModelUnavailableError("away") for _ in range(20)]
    world.model.errors = {"a": list(away), "b": list(away)}
    assert await world.judge.run(job("a", "b", priority=Priority.BACKGROUND, expires_in=-1)) is None
    assert all(isinstance(outcome, Verdict) for outcome in world.leases.landed.values())
    assert len(world.leases.landed) == 2


async def test_what_no_search_waits_for_any_more_goes_to_the_background(world: World) -> None:
    world.model.errors = {"b": [ModelUnavailableError("away") for _ in range(10_000)]}
    later = await world.judge.run(job("a", "b", expires_in=0.05))
    assert later is not None
    assert [p.key for p in later.pairs] == ["key-b"]
    assert world.leases.demoted == {"key-b": later.id}
    assert list(world.leases.landed) == ["key-a"]


@pytest.mark.parametrize("error", [ModelUnavailableError("500", suspect=True), ModelError("not of the protocol")])
async def test_a_suspect_prompt_is_given_up_by_name(world: World, error: ModelError) -> None:
    world.model.errors = {"a": [error for _ in range(1000)]}
    await world.judge.run(job("a", "b"))
    failure = world.leases.landed["key-a"]
    assert isinstance(failure, VerdictFailure)
    assert failure.kind is FailureKind.UNAVAILABLE
    assert isinstance(world.leases.landed["key-b"], Verdict)


async def test_outcomes_are_kept_until_the_store_is_back(world: World) -> None:
    world.leases.away = 7
    assert await world.judge.run(job("a", "b")) is None
    assert set(world.leases.landed) == {"key-a", "key-b"}
    assert world.model.asked == {"a": 1, "b": 1}


async def test_a_stopping_worker_gives_its_jobs_back(world: World) -> None:
    world.model.hold = asyncio.Event()
    running = asyncio.create_task(world.judge.run(job("a")))
    while not world.model.asked:
        await asyncio.sleep(0)
    await world.judge.stop()
    with pytest.raises(GivenBackError):
        await running
    with pytest.raises(GivenBackError):
        await world.judge.run(job("b"))
    assert world.leases.landed == {}


async def test_a_job_delivered_twice_is_done_once_and_both_end(world: World) -> None:
    world.model.hold = asyncio.Event()
    twice = job("a")
    both = [asyncio.create_task(world.judge.run(twice)) for _ in range(2)]
    while not world.model.asked:
        await asyncio.sleep(0)
    world.model.hold.set()
    assert await asyncio.gather(*both) == [None, None]
    assert world.model.asked == {"a": 1}


async def test_pairs_of_another_model_are_let_go(world: World) -> None:
    assert await world.judge.run(job("a", revision="rev-0")) is None
    assert world.leases.dropped == ["key-a"]
    assert not world.model.asked


async def test_the_model_is_asked_by_its_own_name(world: World) -> None:
    world.serve(msgspec.structs.replace(SERVED, name="whyrank-2026"))
    await world.judge.run(job("a"))
    assert world.model.names == ["whyrank-2026"]


async def test_pairs_of_a_model_that_is_gone_are_let_go_and_never_fail(world: World) -> None:
    world.models.stays = set()  # another was promoted; this one's server may still be there, or not
    world.model.errors = {"b": [ModelUnknownError("404")]}
    assert await world.judge.run(job("a", "b")) is None
    assert list(world.leases.landed) == ["key-a"]
    assert world.leases.dropped == ["key-b"]
    assert world.pairs("obsolete") == 1


async def test_a_model_that_will_be_there_again_is_waited_for(world: World) -> None:
    world.model.errors = {"a": [ModelUnknownError("404") for _ in range(20)]}
    assert await world.judge.run(job("a")) is None
    assert isinstance(world.leases.landed["key-a"], Verdict)
    assert world.model.asked == {"a": 21}


async def test_nobody_is_asked_for_a_model_whose_name_another_has_now(world: World) -> None:
    class ReplacingError(ModelUnavailableError):
        """While the server restarts with another model, the manifest is replaced."""

        def __init__(self) -> None:
            super().__init__("away")
            world.models.models = {}

    world.model.errors = {"a": [ReplacingError]}  # type: ignore[list-item]  raised as a class, so made when raised
    assert await world.judge.run(job("a")) is None
    assert world.model.asked == {"a": 1}
    assert world.leases.landed == {}
    assert world.leases.dropped == ["key-a"]


async def test_failures_together_count_once_and_success_opens_the_gate() -> None:
    gate = Gate()
    for _ in range(50):
        gate.failed(ModelUnavailableError("away"))
    assert not await gate.wait(time.time() + 0.05), "closed for longer than that"
    assert await gate.wait(time.time() + 1.0), "closed for a fraction of a second only"
    gate.failed(ModelUnavailableError("away"))
    gate.succeeded()
    assert await gate.wait(time.time())


def test_jobs_are_split_in_order() -> None:
    whole = job("a", "b", "c", "d", "e")
    parts = split(whole, 2)
    assert [part.id for part in parts] == ["job-1-0", "job-1-1", "job-1-2"]
    assert tuple(pair for part in parts for pair in part.pairs) == whole.pairs
    assert max(len(part.pairs) for part in parts) == 2
