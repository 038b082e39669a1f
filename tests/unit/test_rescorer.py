"""The use case with every port faked: what a search gets, whatever happens around it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from plugin_service.rescoring.ports import Admission, JobRequest, Outcome
from plugin_service.rescoring.rescorer import RankRequest, Rescorer
from tests.fakes.announcements import FakeAnnouncements
from tests.fakes.cache import FakeVerdictCache
from tests.fakes.jobs import FakeJobQueue
from tests.fakes.model_status import FakeModelStatus
from tests.fakes.rankings import FakeRankingStore
from whyrank.errors import EngineUnavailableError, StoreUnavailableError
from whyrank.passages import content_hash
from whyrank.types import (
    Candidate,
    FailureKind,
    Fragment,
    FusionWeights,
    Mode,
    Policy,
    Priority,
    RankedHit,
    Ranking,
    Status,
    Verdict,
    VerdictFailure,
)

POLICY = Policy(index="docs", fields=("title", "body"), window=10, deadline_ms=200)
SOON = 2000


def candidate(name: str, text: str | None = None, score: float = 1.0) -> Candidate:
    fields = () if text == "" else (Fragment("body", text or f"text of {name}"),)
    return Candidate(id=name, index="docs", fields=fields, content_hash=content_hash(fields), engine_score=score)


def verdict(relevance: float) -> Verdict:
    return Verdict(
        label=round(relevance * 2),
        label_probabilities=(1 - relevance, 0.0, relevance),
        relevance=relevance,
        explanation="because",
        quotes=(),
        grounded=False,
        mode=Mode.REASON,
        model_revision="rev-1",
    )


@dataclass
class Harness:
    """A Rescorer on fakes, with a worker that answers what `answers` says about a passage."""

    cache: FakeVerdictCache = field(default_factory=FakeVerdictCache)
    announcements: FakeAnnouncements = field(default_factory=FakeAnnouncements)
    jobs: FakeJobQueue = field(default_factory=FakeJobQueue)
    rankings: FakeRankingStore = field(default_factory=FakeRankingStore)
    model: FakeModelStatus = field(default_factory=lambda: FakeModelStatus(weights=FusionWeights(0.0, 1.0)))

    def __post_init__(self) -> None:
        numbers = itertools.count(1)
        self.rescorer = Rescorer(
            cache=self.cache,
            announcements=self.announcements,
            jobs=self.jobs,
            rankings=self.rankings,
            model=self.model,
            new_id=lambda: f"ranking-{next(numbers)}",
        )

    def land(self, key: str, outcome: Outcome) -> None:
        if isinstance(outcome, Verdict):
            self.cache.verdicts[key] = outcome
        self.jobs.finish(key)
        self.announcements.announce(key, outcome)

    async def work(self, answers: Mapping[str, Outcome]) -> None:
        """Answer every enqueued pair whose passage is in `answers`."""
        while not any(self.jobs.queues.values()):
            await asyncio.sleep(0)
        for queue in self.jobs.queues.values():
            for pair in list(queue):
                if pair.passage.text in answers:
                    queue.remove(pair)
                    self.land(pair.key, answers[pair.passage.text])

    async def rank(self, candidates: Sequence[Candidate], **options: object) -> Ranking:
        request = RankRequest(
            query="q",
            candidates=tuple(candidates),
            policy=options.pop("policy", POLICY),  # type: ignore[arg-type]
            search_id="s1",
            **options,  # type: ignore[arg-type]
        )
        return await self.rescorer.rank(request)

    async def judged(self, relevances: Mapping[str, float], **options: object) -> Ranking:
        """Rank with a worker that answers at once."""
        candidates = [candidate(name) for name in relevances]
        answers: dict[str, Outcome] = {f"text of {name}": verdict(r) for name, r in relevances.items()}
        ranking, _ = await asyncio.gather(self.rank(candidates, deadline_ms=SOON, **options), self.work(answers))
        return ranking


def names(ranking: Ranking) -> list[str]:
    return [hit.id for hit in ranking.hits]


async def test_all_judged_is_complete_and_reordered() -> None:
    h = Harness()
    ranking = await h.judged({"a": 0.1, "b": 0.9, "c": 0.5})
    assert (ranking.status, ranking.reason) == (Status.COMPLETE, "all_judged")
    assert names(ranking) == ["b", "c", "a"]
    assert [hit.engine_position for hit in ranking.hits] == [1, 2, 0]
    assert not h.announcements.subscriptions


@pytest.mark.parametrize(
    ("policy", "ordered", "weights"),
    [
        (POLICY, True, FusionWeights(0.2, 0.3, 0.5)),
        (replace(POLICY, similarity=False), True, FusionWeights(0.2, 0.3, 0.0)),
        (replace(POLICY, weights=FusionWeights(0.0, 0.1, 0.9)), True, FusionWeights(0.0, 0.1, 0.9)),
        (replace(POLICY, weights=FusionWeights(0.0, 0.1, 0.9), similarity=False), True, FusionWeights(0.0, 0.1, 0.0)),
        (POLICY, False, FusionWeights(0.0, 0.3, 0.5)),
    ],
)
async def test_what_the_signals_weigh(policy: Policy, ordered: bool, weights: FusionWeights) -> None:
    h = Harness(model=FakeModelStatus(weights=FusionWeights(0.2, 0.3, 0.5)))
    ranking = await h.judged({"a": 0.1, "b": 0.9}, policy=policy, ordered=ordered)
    assert ranking.weights == weights


async def test_a_policy_switches_the_bi_encoder_off_by_one_word() -> None:
    relevances, similarities = {"a": 0.9, "b": 0.5, "c": 0.1}, {"a": 0.3, "b": 0.4, "c": 0.8}
    answers: dict[str, Outcome] = {
        f"text of {name}": replace(verdict(relevances[name]), similarity=similarities[name]) for name in relevances
    }
    orders = []
    for policy in (POLICY, replace(POLICY, similarity=False)):
        h = Harness(model=FakeModelStatus(weights=FusionWeights(0.0, 0.2, 0.8)))
        ranking, _ = await asyncio.gather(
            h.rank([candidate(name) for name in relevances], deadline_ms=SOON, policy=policy), h.work(answers)
        )
        orders.append(names(ranking))
        assert [hit.verdict and hit.verdict.similarity for hit in ranking.hits] == [
            similarities[name] for name in names(ranking)
        ]
    assert orders == [["c", "b", "a"], ["a", "b", "c"]]


async def test_second_search_needs_one_round_trip_and_no_job() -> None:
    h = Harness()
    await h.judged({"a": 0.1, "b": 0.9})
    h.cache.round_trips, submitted = 0, len(h.jobs.requests)
    ranking = await h.rank([candidate("a"), candidate("b")])
    assert (ranking.status, names(ranking)) == (Status.COMPLETE, ["b", "a"])
    assert h.cache.round_trips == 1
    assert len(h.jobs.requests) == submitted


async def test_partial_keeps_the_unread_where_the_engine_put_them() -> None:
    h = Harness()
    ranking, _ = await asyncio.gather(
        h.rank([candidate(n) for n in "abcd"], deadline_ms=50),
        h.work({"text of a": verdict(0.1), "text of d": verdict(0.9)}),
    )
    assert ranking.status is Status.PARTIAL
    assert ranking.reason.startswith("deadline: 2 of 4")
    assert names(ranking) == ["d", "b", "c", "a"]


async def test_nothing_by_the_deadline_is_pending_and_the_jobs_go_on() -> None:
    h = Harness()
    ranking = await h.rank([candidate("a"), candidate("b")], deadline_ms=0)
    assert (ranking.status, names(ranking)) == (Status.PENDING, ["a", "b"])
    await h.rescorer.close()
    assert len(h.jobs.queues[Priority.INTERACTIVE]) == 2


async def test_warming_answers_at_once_and_enqueues_in_the_background() -> None:
    h = Harness(model=FakeModelStatus(ready=False, reason="loading weights"))
    ranking = await h.rank([candidate("a")], deadline_ms=60_000)
    assert ranking.status is Status.WARMING
    assert "loading weights" in ranking.reason
    await h.rescorer.close()
    assert len(h.jobs.queues[Priority.BACKGROUND]) == 1


async def test_warming_model_does_not_matter_when_all_is_cached() -> None:
    h = Harness()
    await h.judged({"a": 0.1, "b": 0.9})
    h.model.info = FakeModelStatus(ready=False, weights=FusionWeights(0.0, 1.0)).info
    ranking = await h.rank([candidate("a"), candidate("b")])
    assert (ranking.status, names(ranking)) == (Status.COMPLETE, ["b", "a"])


async def test_full_queue_sheds_at_once() -> None:
    h = Harness()
    h.jobs.full = True
    ranking = await h.rank([candidate("a")], deadline_ms=60_000)
    assert ranking.status is Status.SHED
    assert ranking.reason.startswith("queue_full")


@pytest.mark.parametrize("part", ["cache", "jobs"])
async def test_store_down_keeps_engine_order(part: str) -> None:
    h = Harness()
    getattr(h, part).down = True
    ranking = await h.rank([candidate("a"), candidate("b")], deadline_ms=SOON)
    assert (ranking.status, names(ranking)) == (Status.FAILED, ["a", "b"])
    assert ranking.reason.startswith("store_unavailable")


async def test_a_fault_of_ours_keeps_engine_order() -> None:
    class Broken(FakeJobQueue):
        async def submit(self, request: JobRequest) -> Admission:
            raise ZeroDivisionError

    h = Harness(jobs=Broken())
    ranking = await h.rank([candidate("a")], deadline_ms=SOON)
    assert (ranking.status, ranking.reason) == (Status.FAILED, "internal_error: ZeroDivisionError")


async def test_an_unusable_answer_is_a_failure_and_not_label_0() -> None:
    h = Harness()
    ranking, _ = await asyncio.gather(
        h.rank([candidate("a"), candidate("b"), candidate("c")], deadline_ms=SOON),
        h.work(
            {
                "text of a": VerdictFailure(FailureKind.NO_LABEL),
                "text of b": verdict(0.1),
                "text of c": verdict(0.9),
            }
        ),
    )
    assert ranking.status is Status.PARTIAL
    assert ranking.reason.startswith("unjudgeable")
    assert names(ranking) == ["a", "c", "b"]
    assert ranking.hits[0].score is None


async def test_hits_without_text_keep_their_place() -> None:
    h = Harness()
    ranking, _ = await asyncio.gather(
        h.rank([candidate("x", ""), candidate("a"), candidate("b")], deadline_ms=SOON),
        h.work({"text of a": verdict(0.1), "text of b": verdict(0.9)}),
    )
    assert ranking.status is Status.COMPLETE
    assert ranking.reason.startswith("no_text: 1 of 3")
    assert names(ranking) == ["x", "b", "a"]


async def test_no_hits_is_complete() -> None:
    assert (await Harness().rank([])).reason == "no_hits"


async def test_equal_documents_are_judged_once() -> None:
    h = Harness()
    ranking, _ = await asyncio.gather(
        h.rank([candidate("a", "same"), candidate("b", "same")], deadline_ms=SOON),
        h.work({"same": verdict(0.7)}),
    )
    assert sum(len(r.pairs) for r in h.jobs.requests) == 1
    assert ranking.judged == 2


async def test_a_verdict_between_cache_and_wait_is_not_lost() -> None:
    class Late(FakeVerdictCache):
        async def get_many(self, keys: Sequence[str]) -> list[Verdict | None]:
            answer = await super().get_many(keys)
            for key in keys:
                h.announcements.announce(key, verdict(0.5))
            return answer

    h = Harness(cache=Late())
    ranking = await h.rank([candidate("a")], deadline_ms=0)
    assert ranking.status is Status.COMPLETE


async def test_tenants_modes_revisions_and_changed_documents_do_not_share_verdicts() -> None:
    h = Harness()
    await h.judged({"a": 0.9})
    same = await h.rank([candidate("a")], deadline_ms=0)
    assert same.judged == 1
    assert (await h.rank([candidate("a")], deadline_ms=0, tenant="other")).judged == 0
    assert (await h.rank([candidate("a")], deadline_ms=0, mode=Mode.LABEL)).judged == 0
    assert (await h.rank([candidate("a", "changed")], deadline_ms=0)).judged == 0
    h.model.info = FakeModelStatus(revision="rev-2").info
    assert (await h.rank([candidate("a")], deadline_ms=0)).judged == 0
    await h.rescorer.close()


async def test_later_pages_keep_the_order_of_page_one() -> None:
    h = Harness()
    first = await h.rank([candidate("a"), candidate("b")], deadline_ms=0, pin="session")
    await h.rescorer.close()
    await h.work({"text of a": verdict(0.1), "text of b": verdict(0.9)})
    page_two = await h.rank([candidate("a"), candidate("b")], pin="session", follow_pin=True)
    assert (page_two.id, names(page_two)) == (first.id, ["a", "b"])
    assert page_two.judged == 2, "explanations that landed since are shown"
    again = await h.rank([candidate("a"), candidate("b")], pin="session")
    assert names(again) == ["b", "a"], "page one always ranks afresh"


async def test_page_two_does_not_outrun_the_saving_of_page_one() -> None:
    class Slow(FakeRankingStore):
        async def save(self, ranking: Ranking, pin: str | None = None) -> None:
            await asyncio.sleep(0.05)
            await super().save(ranking, pin)

    h = Harness(rankings=Slow())
    first = await h.rank([candidate("a")], deadline_ms=0, pin="session")
    second = await h.rank([candidate("a")], pin="session", follow_pin=True)
    assert second.id == first.id
    assert (await h.rank([candidate("a")], ranking_id=first.id)).id == first.id
    await h.rescorer.close()


async def test_a_known_ranking_gives_no_verdict_to_who_holds_another_text() -> None:
    h = Harness()
    first = await h.judged({"a": 0.9})
    other = await h.rank([candidate("a", "what this user may see")], ranking_id=first.id)
    assert other.id == first.id
    assert other.hits[0].verdict is None


async def test_unknown_ranking_id_ranks_afresh() -> None:
    h = Harness()
    ranking = await h.rank([candidate("a")], ranking_id="gone", deadline_ms=0)
    assert ranking.id != "gone"
    assert ranking.status is Status.PENDING
    await h.rescorer.close()


async def collect(h: Harness, ranking: Ranking, timeout_s: float = 5.0) -> list[RankedHit | Ranking]:
    return [event async for event in h.rescorer.follow(ranking, timeout_s)]


async def test_follow_gives_each_verdict_then_the_final_order_under_a_new_id() -> None:
    h = Harness()
    ranking = await h.rank([candidate("a"), candidate("b")], deadline_ms=0)
    await h.rescorer.close()
    events, _ = await asyncio.gather(
        collect(h, ranking), h.work({"text of a": verdict(0.1), "text of b": verdict(0.9)})
    )
    *hits, final = events
    assert sorted(hit.id for hit in hits if isinstance(hit, RankedHit)) == ["a", "b"]
    assert isinstance(final, Ranking)
    assert (final.status, names(final)) == (Status.COMPLETE, ["b", "a"])
    assert final.id != ranking.id
    kept = await h.rescorer.load(ranking.id)
    assert kept is not None
    assert names(kept) == ["a", "b"], "what was answered does not change under its reader"


async def test_follow_of_a_complete_ranking_keeps_its_id() -> None:
    h = Harness()
    ranking = await h.judged({"a": 0.9, "b": 0.1})
    *hits, final = await collect(h, ranking)
    assert [hit.id for hit in hits if isinstance(hit, RankedHit)] == ["a", "b"]
    assert isinstance(final, Ranking)
    assert final.id == ranking.id


async def test_follow_ends_when_time_is_up() -> None:
    h = Harness()
    ranking = await h.rank([candidate("a")], deadline_ms=0)
    (final,) = await collect(h, ranking, timeout_s=0.05)
    assert isinstance(final, Ranking)
    assert final.status is Status.PENDING
    assert not h.announcements.subscriptions


class Highlighter:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[str] = []

    async def fragments(
        self, query: str, candidates: Sequence[Candidate], fields: Sequence[str], fragment_chars: int, count: int
    ) -> Mapping[tuple[str, str], Mapping[str, Sequence[str]]]:
        self.asked += [c.id for c in candidates]
        if self.error:
            raise self.error
        return {("docs", "long"): {"body": ["the needle is here"]}}


LONG = "hay stack. " * 2000 + "the needle is here. " + "more hay. " * 2000


async def submitted_passages(source: Highlighter) -> dict[str, tuple[str, bool]]:
    h = Harness()
    request = RankRequest(
        query="needle",
        candidates=(candidate("long", LONG), candidate("short")),
        policy=POLICY,
        search_id="s1",
        deadline_ms=0,
    )
    await h.rescorer.rank(request, source)
    await h.rescorer.close()
    pairs = h.jobs.requests[0].pairs
    return {
        ("long" if pair.passage.truncated else "short"): (pair.passage.text, pair.passage.truncated) for pair in pairs
    }


async def test_long_documents_are_read_by_their_best_fragments() -> None:
    source = Highlighter()
    passages = await submitted_passages(source)
    assert source.asked == ["long"], "short ones need no highlighter"
    assert "the needle is here" in passages["long"][0]
    assert passages["short"] == ("text of short", False)


async def test_highlighter_down_reads_the_head() -> None:
    passages = await submitted_passages(Highlighter(EngineUnavailableError("gone")))
    assert passages["long"][0].startswith("hay stack.")


async def test_ranking_that_cannot_be_kept_is_still_answered() -> None:
    h = Harness()
    h.rankings.down = True
    ranking = await h.judged({"a": 0.1, "b": 0.9})
    await h.rescorer.close()
    assert (ranking.status, names(ranking)) == (Status.COMPLETE, ["b", "a"])
    with pytest.raises(StoreUnavailableError):
        await h.rescorer.load(ranking.id)
