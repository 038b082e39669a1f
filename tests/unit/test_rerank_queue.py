"""A request with more documents than the queue has room for: neither shed for its size, nor in everyone's way; and
what a caller gets that would rather have no order than one that is not complete."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from plugin_service.rescoring.ports import Admission, JobRequest, Outcome
from plugin_service.rescoring.texts import TextsRequest, rank_texts
from tests.fakes.announcements import FakeAnnouncements
from tests.fakes.cache import FakeVerdictCache
from tests.fakes.sidecar import JudgingQueue, Sidecar
from whyrank.settings import Settings
from whyrank.types import FailureKind, Mode, Pair, Priority, Status, VerdictFailure

LIMIT = 300


class NarrowQueue(JudgingQueue):
    """Takes no more than `LIMIT` interactive pairs at once, as the real one does; `most` saw at most so many."""

    def __init__(self, cache: FakeVerdictCache, announcements: FakeAnnouncements) -> None:
        super().__init__(cache, announcements)
        self.waiting = 0
        self.most = 0

    async def submit(self, request: JobRequest) -> Admission:
        if request.priority is Priority.INTERACTIVE:
            if self.waiting + len(request.pairs) > LIMIT:
                return Admission.SHED
            self.waiting += len(request.pairs)
            self.most = max(self.most, self.waiting)
        return await super().submit(request)

    def settle(self, pair: Pair) -> None:
        self.waiting -= 1
        super().settle(pair)


@pytest.fixture
def sidecar() -> Sidecar:
    return narrow(Sidecar(Settings(secret="test", queue_limit=LIMIT)))


def narrow(sidecar: Sidecar) -> Sidecar:
    sidecar.jobs = NarrowQueue(sidecar.cache, sidecar.announcements)
    sidecar.rescorer._jobs = sidecar.jobs
    return sidecar


async def post(sidecar: Sidecar, count: int, **fields: Any) -> httpx.Response:
    body = {"query": "sort a list", "documents": [f"document {i}" for i in range(count)], **fields}
    response = await sidecar.client().post("/v2/rerank", json=body)
    await sidecar.rescorer.close()
    return response


async def test_it_is_judged_whole_and_never_holds_more_than_half_of_the_queue(sidecar: Sidecar) -> None:
    answer = (await post(sidecar, 1_234, deadline_ms=60_000)).json()
    assert (answer["status"], len(answer["results"])) == ("complete", 1_234)
    assert isinstance(sidecar.jobs, NarrowQueue)
    assert 0 < sidecar.jobs.most <= LIMIT // 2


async def test_a_queue_narrower_than_a_window_is_no_obstacle() -> None:
    sidecar = narrow(Sidecar(Settings(secret="test", queue_limit=7)))
    assert (await post(sidecar, 20, deadline_ms=60_000)).json()["status"] == "complete"
    assert max(len(request.pairs) for request in sidecar.jobs.requests) == 3


async def test_what_had_no_turn_by_the_deadline_is_left_to_the_background(sidecar: Sidecar) -> None:
    sidecar.jobs.idle = True
    answer = (await post(sidecar, 1_000, deadline_ms=20)).json()
    assert answer["status"] == "pending"
    assert answer["reason"] == "deadline: 0 of 1000 judged within 20 ms"
    pairs: Counter[Priority] = Counter()
    for request in sidecar.jobs.requests:
        pairs[request.priority] += len(request.pairs)
    assert pairs == {Priority.INTERACTIVE: 100, Priority.BACKGROUND: 900}


async def test_the_first_window_is_awaited_even_without_any_deadline(sidecar: Sidecar) -> None:
    """Whoever asks with 0 ms follows the ranking's events."""
    sidecar.jobs.idle = True
    await post(sidecar, 50, deadline_ms=0)
    assert [request.priority for request in sidecar.jobs.requests] == [Priority.INTERACTIVE]


async def test_the_reason_counts_all_documents_and_not_one_window(sidecar: Sidecar) -> None:
    def only_short(pair: Pair) -> Outcome | VerdictFailure:
        return judged(pair) if len(pair.passage.text) == len("document 1") else VerdictFailure(FailureKind.NO_LABEL)

    judged = sidecar.jobs.judge
    sidecar.jobs.judge = only_short
    answer = (await post(sidecar, 250, deadline_ms=60_000)).json()
    assert (answer["status"], answer["reason"]) == ("partial", "unjudgeable: the model failed on 240 of 250 (no_label)")


async def test_a_queue_that_others_have_filled_sheds_and_says_so(sidecar: Sidecar) -> None:
    assert isinstance(sidecar.jobs, NarrowQueue)
    sidecar.jobs.waiting = LIMIT
    answer = (await post(sidecar, 250, deadline_ms=60_000)).json()
    assert (answer["status"], answer["reason"].partition(":")[0]) == ("shed", "queue_full")
    assert [result["index"] for result in answer["results"]] == list(range(250))


async def test_a_store_that_goes_while_windows_are_judged_leaves_what_there_is(sidecar: Sidecar) -> None:
    done = asyncio.Event()
    settle = sidecar.jobs.settle

    def settle_and_go(pair: Pair) -> None:
        settle(pair)
        if not done.is_set() and pair.passage.text == "document 99":
            sidecar.cache.down = True
            done.set()

    sidecar.jobs.settle = settle_and_go  # type: ignore[method-assign]
    request = TextsRequest("sort", tuple(f"document {i}" for i in range(200)), "s", Mode.REASON, 60_000, 64)
    request = TextsRequest(**{**{n: getattr(request, n) for n in request.__struct_fields__}, "most_queued": 100})
    ranking = await rank_texts(sidecar.rescorer, request)
    await sidecar.rescorer.close()
    assert ranking.status is Status.PARTIAL
    assert ranking.reason.startswith("store_unavailable")
    assert sum(hit.verdict is not None for hit in ranking.hits) == 100


PATHS = pytest.mark.parametrize(
    ("path", "key"), [("/v2/rerank", "message"), ("/v1/rerank", "detail"), ("/rerank", "error")]
)
TEXTS = ["sort a list", "x"]


async def wanting_all(path: str, sidecar: Sidecar, texts: list[str], **fields: Any) -> httpx.Response:
    body = {"query": "sort a list", "documents": texts, "texts": texts, "incomplete": "error", **fields}
    response = await sidecar.client().post(path, json=body)
    await sidecar.rescorer.close()
    return response


@PATHS
async def test_who_wants_all_verdicts_or_none_gets_them_or_a_503(path: str, key: str) -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    refused = await wanting_all(path, sidecar, TEXTS, deadline_ms=1)
    assert (refused.status_code, refused.json()[key]) == (503, "deadline: 0 of 2 judged within 1 ms")
    labels = {"door": {"/v2/rerank": "cohere", "/v1/rerank": "jina", "/rerank": "tei"}[path], "status": "pending"}
    assert sidecar.metrics.registry.get_sample_value("whyrank_searches_total", {**labels, "reason": "deadline"}) == 1
    for pair in sidecar.jobs.requests[0].pairs:
        sidecar.jobs.settle(pair)
    assert (await wanting_all(path, sidecar, TEXTS, deadline_ms=1)).status_code == 200


@PATHS
async def test_what_cannot_be_judged_is_not_waited_for(path: str, key: str) -> None:
    sidecar = Sidecar()
    judged = sidecar.jobs.judge
    sidecar.jobs.judge = lambda p: VerdictFailure(FailureKind.NO_LABEL) if p.passage.text == "x" else judged(p)
    response = await wanting_all(path, sidecar, [*TEXTS, " "])
    assert (response.status_code, response.headers["x-whyrank-status"]) == (200, "partial")


@PATHS
async def test_a_single_document_is_always_answered(path: str, key: str) -> None:
    sidecar = Sidecar()
    sidecar.cache.down = True
    assert (await wanting_all(path, sidecar, TEXTS[:1])).status_code == 200
    assert (await wanting_all(path, sidecar, TEXTS)).status_code == 503
