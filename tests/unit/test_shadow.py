"""The shadow: judged in the background under its own revision, compared, and never shown."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from msgspec.structs import replace

from plugin_service.rescoring.ports import Admission, ModelInfo
from plugin_service.rescoring.rescorer import Rescorer
from plugin_service.rescoring.shadow import MOST, RankChange, Shadow, kendall_tau
from tests.unit.test_rescorer import Harness, candidate, verdict
from whyrank.types import FailureKind, FusionWeights, Priority, Status, VerdictFailure

SHADOW = ModelInfo(ready=True, revision="rev-2", weights=FusionWeights(0.0, 1.0))
SHOWN = {"a": 0.9, "b": 0.5, "c": 0.1}


class World(Harness):
    """A Rescorer with a shadow for every search."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.told: list[tuple[str, RankChange | None]] = []
        self.info: ModelInfo | None = SHADOW
        self.chance = 0.0
        self.shadow = Shadow(
            lambda: self.info,
            self.cache,
            self.announcements,
            0.5,
            lambda revision, change: self.told.append((revision, change)),
            patience_s=0.2,
            chance=lambda: self.chance,
        )
        numbers = itertools.count(1)
        self.rescorer = Rescorer(
            cache=self.cache,
            announcements=self.announcements,
            jobs=self.jobs,
            rankings=self.rankings,
            model=self.model,
            new_id=lambda: f"ranking-{next(numbers)}",
            shadow=self.shadow,
        )

    async def shadowed(self, relevances: dict[str, float]) -> RankChange | None:
        """A search, then the shadow's verdicts; what was told of the two."""
        ranking = await self.judged(SHOWN)
        assert [hit.id for hit in ranking.hits] == ["a", "b", "c"]
        await self.work({f"text of {name}": verdict(r) for name, r in relevances.items()})
        return await self.heard()

    async def heard(self) -> RankChange | None:
        while not self.told:
            await asyncio.sleep(0.001)
        revision, change = self.told.pop()
        assert revision == "rev-2"
        return change


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("relevances", "change"),
    [
        ({"a": 0.8, "b": 0.6, "c": 0.0}, RankChange(False, 1.0)),
        ({"a": 0.1, "b": 0.5, "c": 0.9}, RankChange(True, -1.0)),
        ({"a": 0.5, "b": 0.6, "c": 0.0}, RankChange(True, pytest.approx(1 / 3))),
    ],
)
async def test_the_shadows_order_is_compared(world: World, relevances: dict[str, float], change: RankChange) -> None:
    found = await world.shadowed(relevances)
    assert found is not None
    assert (found.top_changed, found.tau) == (change.top_changed, change.tau)


async def test_its_verdicts_are_its_own_and_in_the_background(world: World) -> None:
    await world.shadowed(SHOWN)
    shown, shadow = world.jobs.requests
    assert (shadow.priority, shadow.model_revision) == (Priority.BACKGROUND, "rev-2")
    assert [pair.passage for pair in shadow.pairs] == [pair.passage for pair in shown.pairs]
    assert not {pair.key for pair in shadow.pairs} & {pair.key for pair in shown.pairs}
    again = await world.rank([candidate(name) for name in SHOWN])
    assert (again.model_revision, again.status) == ("rev-1", Status.COMPLETE)
    await world.heard()
    assert len(world.jobs.requests) == 2, "both orders are known"


async def test_only_its_share_of_the_searches_is_judged(world: World) -> None:
    world.chance = 0.5
    await world.judged(SHOWN)
    world.chance, world.info = 0.0, None
    await world.rank([candidate(name) for name in SHOWN])
    assert len(world.jobs.requests) == 1
    assert world.told == []


async def test_a_search_that_was_not_judged_in_full_has_nothing_to_be_compared_with(world: World) -> None:
    ranking = await world.rank([candidate("a")], deadline_ms=0)
    assert ranking.status is Status.PENDING
    assert len(world.jobs.requests) == 1
    assert world.told == []


async def test_what_is_not_judged_in_time_or_not_at_all_is_told(world: World) -> None:
    await world.judged(SHOWN)
    assert await world.heard() is None
    for hit in world.jobs.queues[Priority.BACKGROUND]:
        world.jobs.finish(hit.key)
    world.jobs.queues[Priority.BACKGROUND].clear()
    await world.rank([candidate(name) for name in SHOWN])
    failure = VerdictFailure(FailureKind.NO_LABEL)
    await world.work({f"text of {name}": failure for name in SHOWN})
    assert await world.heard() is None


async def test_a_store_that_is_away_touches_no_search(world: World) -> None:
    world.chance = 1.0
    ranking = await world.judged(SHOWN)

    async def submit(_keys: frozenset[str]) -> Admission:
        raise AssertionError("the cache is asked first")

    world.cache.down = True
    world.shadow.follow(ranking, replace(ranking, model_revision="rev-2"), submit)
    assert await world.heard() is None


async def test_it_holds_a_bounded_number_of_searches_and_ends_with_its_sidecar(world: World) -> None:
    world.chance = 1.0
    ranking = await world.judged(SHOWN)
    world.chance = 0.0

    async def never(_keys: frozenset[str]) -> Admission:
        await asyncio.Event().wait()
        raise AssertionError

    world.cache.verdicts.clear()
    for _ in range(MOST):
        assert world.shadow.wanted() is SHADOW
        world.shadow.follow(ranking, ranking, never)
    assert world.shadow.wanted() is None
    await world.rescorer.close()
    assert world.shadow.wanted() is SHADOW
    assert not world.announcements.subscriptions


@pytest.mark.parametrize(
    ("one", "other", "tau"),
    [("abcd", "abcd", 1.0), ("abcd", "dcba", -1.0), ("abcd", "bacd", 4 / 6), ("a", "a", 1.0), ("", "", 1.0)],
)
def test_kendall_tau(one: str, other: str, tau: float) -> None:
    assert kendall_tau(one, other) == pytest.approx(tau)
