"""The Python client: what it sends, how it reads answers, when it tries again, and what it raises."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

import whyrank
from tests.fakes.sidecar import Sidecar
from whyrank.client import (
    AsyncClient,
    BusyError,
    Client,
    ClientError,
    FailedError,
    ForbiddenError,
    MissingError,
    ProtocolError,
    RefusedError,
    TimedOutError,
    UnreachableError,
)
from whyrank.client.calls import health
from whyrank.client.exchange import MOST_RETRIES, Attempt, Pause, mapped, single
from whyrank.errors import BadRequestError
from whyrank.types import Policy, Quote

URL = "http://sidecar"
TEXTS = ["Nothing here. At all.", "You sort a list by list.sort. It is stable.", "A list holds items."]
RANKED = {
    "results": [
        {"index": 1, "relevance_score": 0.9, "status": "judged", "label": 2, "explanation": "It sorts.", "new": 1},
        {"index": 0, "relevance_score": 0.0, "status": "unjudged", "label": None, "explanation": None},
    ],
    "status": "partial",
    "reason": "deadline: 1 of 2 judged",
    "ranking_id": "r1",
}

Handler = Callable[[httpx.Request], httpx.Response]
Do = Callable[..., Any]


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def do(request: pytest.FixtureRequest) -> Do:
    """Calls a method of either client, whose requests `handler` answers."""

    async def call(handler: Handler, method: str, *arguments: Any, **options: Any) -> Any:
        transport = httpx.MockTransport(handler)
        if request.param is Client:
            with Client(URL, transport=transport) as client:
                found = getattr(client, method)(*arguments, **options)
                return list(found) if isinstance(found, Iterator) else found
        async with AsyncClient(URL, transport=transport) as client:
            found = getattr(client, method)(*arguments, **options)
            return [event async for event in found] if hasattr(found, "__aiter__") else await found

    return call


def answering(status: int = 200, body: Any = None, headers: dict[str, str] | None = None) -> Handler:
    return lambda request: httpx.Response(status, json=body, headers=headers)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(of: type) -> dict[str, list[inspect.Parameter]]:
        public = inspect.getmembers(of, inspect.isfunction)
        return {n: list(inspect.signature(f).parameters.values()) for n, f in public if not n.startswith("_")}

    assert methods(Client) == methods(AsyncClient)


def test_the_package_is_cheap_to_import_and_gives_the_clients() -> None:
    told = "import sys, whyrank; before = set(sys.modules); from whyrank import Client; after = set(sys.modules)"
    heavy = "{'pydantic', 'typer', 'celery', 'redis', 'aiohttp', 'opensearchpy', 'numpy', 'fastapi', 'structlog'}"
    code = f"{told}; print(sorted({{'httpx', 'msgspec'}} & before), sorted({heavy} & after), Client.__name__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["[]", "[]", "Client"]
    with pytest.raises(AttributeError, match="Clients"):
        whyrank.Clients  # noqa: B018


async def test_documents_are_reranked_by_the_real_application() -> None:
    documents: list[Any] = [{"id": 7, "text": TEXTS[0], "page": 3}, TEXTS[1], {"text": TEXTS[2]}]
    async with AsyncClient(URL, transport=httpx.ASGITransport(app=Sidecar().app)) as client:
        answer = await client.rerank("sort a list", documents)
        top = await client.rerank("sort a list", documents, top_n=1, explain=False)
    assert answer.complete
    assert [result.index for result in answer.results] == [1, 2, 0]
    first, _, last = answer.results
    assert (first.status, first.label) == ("judged", 2)
    assert first.explanation == 'The document states "You sort a list by list".'
    assert first.quotes == (Quote("You sort a list by list", 0, 23),)
    assert first.score > last.score >= 0.0
    assert (last.id, last.document) == ("7", documents[0])
    assert last.document is documents[0]
    assert [result.index for result in top.results] == [1]
    assert top.results[0].explanation is None


async def test_what_is_not_judged_in_time_comes_back_in_the_order_given() -> None:
    sidecar = Sidecar()
    sidecar.jobs.idle = True
    async with AsyncClient(URL, transport=httpx.ASGITransport(app=sidecar.app)) as client:
        answer = await client.rerank("sort a list", TEXTS, deadline_ms=0)
    assert (answer.complete, answer.status) == (False, "pending")
    assert answer.reason.startswith("deadline: 0 of 3 judged")
    assert [(result.index, result.status) for result in answer.results] == [(n, "unjudged") for n in range(3)]


async def test_hits_are_rescored_by_the_real_application() -> None:
    hits = [{"id": str(n), "score": 3.0 - n, "fields": {"body": text}} for n, text in enumerate(TEXTS)]
    async with AsyncClient(URL, transport=httpx.ASGITransport(app=Sidecar().app)) as client:
        answer = await client.rescore("docs", "sort a list", hits, deadline_ms=5000)
        silent = await client.rescore("docs", "sort a list", hits, deadline_ms=5000, explain=False, window=2)
        with pytest.raises(RefusedError) as refused:
            await client.rescore("docs", "sort a list", [{"id": "x" * 1000}])
    assert (answer.status, answer.judged, answer.missing) == ("complete", 3, 0)
    assert answer.order[0] == 1
    best = answer.hits[1]
    assert best is not None
    assert (best.label, best.explanation) == (2, 'The document states "You sort a list by list".')
    assert best.quotes[0].text == "You sort a list by list"
    assert best.grounded
    assert silent.hits[1] is not None
    assert (silent.hits[1].explanation, silent.hits[2]) == (None, None)
    assert refused.value.field == "hits[0].id"


async def test_a_ranking_and_its_events_by_the_real_application() -> None:
    sidecar = Sidecar()
    async with AsyncClient(URL, transport=httpx.ASGITransport(app=sidecar.app)) as client:
        answer = await client.rerank("sort a list", TEXTS)
        assert answer.ranking_id is not None
        ranking = await client.ranking(answer.ranking_id)
        events = [event async for event in client.events(answer.ranking_id)]
        with pytest.raises(MissingError, match="expired"):
            await client.ranking("no-such-id")
        with pytest.raises(MissingError):
            [event async for event in client.events("no-such-id")]
    assert [hit.engine_position for hit in ranking.hits] == [1, 2, 0]
    assert (ranking.judged, ranking.missing, ranking.status) == (3, 0, "complete")
    assert ranking.hits[0].quotes[0].text == "You sort a list by list"
    assert [type(event).__name__ for event in events] == ["VerdictEvent"] * 3 + ["OrderEvent"]
    assert events[-1].ranking.hits == ranking.hits


async def test_health_and_parts_are_an_answer_also_while_the_engine_is_down() -> None:
    sidecar = Sidecar()
    sidecar.states["engine"] = type(sidecar.states["engine"])("down", "refused")
    async with AsyncClient(URL, transport=httpx.ASGITransport(app=sidecar.app)) as client:
        assert (await client.health()).status == "ok"
        ready = await client.ready()
    assert (ready.status, ready.parts["engine"].state, ready.parts["engine"].reason) == ("unready", "down", "refused")


async def test_hits_are_rescored(do: Do) -> None:
    sent: list[Any] = []
    hits = [{"id": "a", "score": 2.0, "fields": {"title": "T", "body": ["x", "y"]}}, {"id": "b", "text": "z"}]

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, json.loads(request.content)))
        told = {"score": 0.9, "relevance": 0.8, "label": 2, "explanation": "why", "quotes": [{"text": "z"}]}
        return httpx.Response(
            200, json={"status": "partial", "reason": "deadline", "order": [1, 0], "hits": [None, told], "took_ms": 3}
        )

    found = await do(answer, "rescore", "docs", "words", hits, deadline_ms=700, fields=("title",), user="u1")
    assert sent == [
        (
            "/v1/rescore",
            {
                "index": "docs",
                "query": "words",
                "hits": hits,
                "deadline_ms": 700,
                "fields": ["title"],
                "user": "u1",
                "explain": True,
                "from": 0,
            },
        )
    ]
    assert found.ordered(["a", "b"]) == ["b", "a"]
    assert found.hits[0] is None
    assert (found.hits[1].label, found.hits[1].quotes[0].text) == (2, "z")


@pytest.mark.parametrize("order", [[0], [0, 0], [0, 2], [0, 1, 2]])
async def test_an_order_that_is_none_of_the_hits_is_refused(do: Do, order: list[int]) -> None:
    body = {"status": "complete", "order": order, "hits": [None, None]}
    with pytest.raises(ProtocolError, match="order"):
        await do(answering(200, body), "rescore", "docs", "words", [{"id": "a"}, {"id": "b"}])


async def test_unknown_fields_are_ignored_and_missing_ones_are_no_sidecars(do: Do) -> None:
    answer = await do(answering(200, {**RANKED, "cost": 3}), "rerank", "q", ["a", "b"])
    assert [(r.index, r.explanation) for r in answer.results] == [(1, "It sorts."), (0, None)]
    for body in ({"results": []}, {"results": [{"index": 9, "relevance_score": 1.0, "status": "judged"}]}, [], "x"):
        whole = {**RANKED, **body} if isinstance(body, dict) and body["results"] else body
        with pytest.raises(ProtocolError, match="was not answered by a sidecar"):
            await do(answering(200, whole), "rerank", "q", ["a", "b"])


@pytest.mark.parametrize("document", [{}, {"text": 3}, {"title": "x"}, 7, None])
async def test_a_document_without_text_is_named_before_anything_is_sent(do: Do, document: Any) -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request)

    with pytest.raises(BadRequestError, match=r"documents\[1\]") as refused:
        await do(never, "rerank", "q", ["a", document])
    assert refused.value.field == "documents[1]"


async def test_half_a_surrogate_pair_is_sent_and_no_number_is_not(do: Do) -> None:
    sent: list[bytes] = []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(200, json=RANKED)

    await do(note, "rerank", "q", ["a\ud83d", "b"])
    assert rb"a\ud83d" in sent[0]
    with pytest.raises(BadRequestError, match="JSON"):
        await do(note, "rescore", "docs", "q", [{"id": "a", "score": float("nan")}])


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (400, {"error": {"type": "bad_request", "message": "hits: too many", "field": "hits"}}, RefusedError, "many"),
        (400, {"message": "query: must not be blank"}, RefusedError, "blank"),
        (422, {"detail": "documents: too many"}, RefusedError, "too many"),
        (401, {"error": "no key"}, ForbiddenError, "no key"),
        (403, {"error": {"type": "security_exception", "reason": "no permissions"}}, ForbiddenError, "no permissions"),
        (404, {"error": {"message": "there is no such ranking"}}, MissingError, "no such ranking"),
        (429, {"error": {"message": "slow down"}}, BusyError, "slow down"),
        (500, {"error": {"message": "an error inside WhyRank"}}, FailedError, "inside WhyRank"),
        (502, None, FailedError, "502"),
        (302, None, ProtocolError, "302"),
    ],
)  # fmt: skip
async def test_error_answers_are_our_errors_in_their_own_words(
    do: Do, status: int, body: Any, kind: type[ClientError], said: str
) -> None:
    with pytest.raises(kind, match=said) as raised:
        await do(answering(status, body), "health")
    assert type(raised.value) is kind
    if isinstance(raised.value, RefusedError):
        assert raised.value.status_code == status


async def test_a_refusal_names_the_culprit(do: Do) -> None:
    body = {"error": {"type": "bad_request", "message": "hits[3].id: too long", "field": "hits[3].id"}}
    with pytest.raises(RefusedError) as refused:
        await do(answering(400, body), "rescore", "docs", "q", [{"id": "a"}])
    assert (refused.value.type, refused.value.field) == ("bad_request", "hits[3].id")


async def test_pages_of_gateways_are_told_as_text(do: Do) -> None:
    with pytest.raises(FailedError, match="<h1>Bad Gateway</h1>"):
        await do(lambda _: httpx.Response(502, text="<h1>Bad Gateway</h1>"), "health")


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_asks_for_patience_is_asked_again(do: Do, status: int) -> None:
    answers = [httpx.Response(status, headers={"Retry-After": "0"}), httpx.Response(200, json=RANKED)]
    answer = await do(lambda _: answers.pop(0), "rerank", "q", ["a", "b"])
    assert answer.ranking_id == "r1"
    assert not answers


def test_patience_ends_with_the_time_of_the_call_and_after_some_retries() -> None:
    now = [0.0]

    def drive(headers: dict[str, str], timeout_s: float) -> tuple[list[float], ClientError]:
        flow = single(health(), timeout_s, lambda: now[0])
        pauses: list[float] = []
        step = next(flow)
        request = httpx.Request("GET", URL)
        while True:
            try:
                if isinstance(step, Pause):
                    pauses.append(step.seconds)
                    now[0] += step.seconds
                    step = flow.send(None)
                assert isinstance(step, Attempt)
                step = flow.send(httpx.Response(429, headers=headers, request=request))
            except ClientError as error:
                return pauses, error

    soon = datetime.now(UTC) + timedelta(seconds=1000)
    assert drive({"Retry-After": "2"}, 100)[0] == [2.0] * MOST_RETRIES
    assert drive({"Retry-After": "2"}, 5)[0] == [2.0, 2.0]
    assert drive({"Retry-After": "3600"}, 10)[0] == []
    assert drive({}, 10)[0] == []
    assert drive({"Retry-After": "soon"}, 10)[0] == []
    pauses, error = drive({"Retry-After": format_datetime(soon, usegmt=True)}, 10)
    assert pauses == []
    assert isinstance(error, BusyError)
    assert error.retry_after_s is not None
    assert 900 < error.retry_after_s < 1001


def test_no_exception_of_the_library_leaves_the_client() -> None:
    request = httpx.Request("GET", URL)
    special: dict[type, Exception] = {
        httpx.HTTPStatusError: httpx.HTTPStatusError("x", request=request, response=httpx.Response(500)),
        httpx.InvalidURL: httpx.InvalidURL("x"),
        httpx.CookieConflict: httpx.CookieConflict("x"),
        httpx.StreamClosed: httpx.StreamClosed(),
        httpx.StreamConsumed: httpx.StreamConsumed(),
        httpx.ResponseNotRead: httpx.ResponseNotRead(),
        httpx.RequestNotRead: httpx.RequestNotRead(),
    }
    kinds = [kind for kind in vars(httpx).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 20
    for kind in kinds:
        with pytest.raises(ClientError), mapped(URL):
            raise special[kind] if kind in special else kind("x")
    with pytest.raises(TimedOutError), mapped(URL):
        raise httpx.ReadTimeout("x")
    with pytest.raises(UnreachableError, match=URL), mapped(URL):
        raise httpx.ConnectError("refused")


@pytest.mark.parametrize("url", ["", "sidecar:8080", "ftp://sidecar", "//sidecar"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadRequestError, match="url"):
        Client(url)


async def test_credentials_and_headers_go_with_every_request() -> None:
    seen: list[httpx.Headers] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json={"status": "ok", "version": "1"})

    transport = httpx.MockTransport(note)
    with Client(URL, api_key="k", headers={"X-Tenant": "acme"}, transport=transport) as client:
        client.health()
    with Client(URL, auth=("ada", "pässword"), transport=transport) as client:
        client.health()
    assert (seen[0]["authorization"], seen[0]["x-tenant"]) == ("Bearer k", "acme")
    assert seen[1]["authorization"].startswith("Basic ")
    with pytest.raises(BadRequestError, match="auth"):
        Client(URL, api_key="k", auth=("a", "b"))


class PolicyIndex:
    """The engine's index `.whyrank` behind a sidecar, as the client asks for it."""

    def __init__(self) -> None:
        self.created: list[Any] = []
        self.documents: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, method = request.url.path, request.method
        if path == "/_whyrank/policies":
            told = [{**document["policy"], "rollout": 0.5} for document in self.documents.values()]
            return httpx.Response(200, json={"policies": told})
        if path == "/.whyrank":
            if method == "PUT":
                self.created.append(json.loads(request.content))
            return httpx.Response(200 if self.created else 404, json={})
        id_ = path.removeprefix("/.whyrank/_doc/")
        if method == "PUT":
            assert request.url.params["refresh"] == "true"
            self.documents[id_] = json.loads(request.content)
            return httpx.Response(201, json={})
        if method == "DELETE":
            return httpx.Response(200 if self.documents.pop(id_, None) else 404, json={})
        if id_ in self.documents:
            return httpx.Response(200, json={"found": True, "_source": self.documents[id_]})
        return httpx.Response(404, json={"found": False})


async def test_policies_are_written_where_the_sidecar_reads_them(do: Do) -> None:
    index = PolicyIndex()
    assert await do(index, "policy", "docs") is None
    for changes in ({"window": 20}, {"fields": "title"}, {"fields": []}):
        with pytest.raises(BadRequestError, match="fields"):
            await do(index, "enable", "docs", **changes)
    enabled = await do(index, "enable", "docs", fields=("title", "body"), window=20)
    assert enabled == Policy("docs", ("title", "body"), window=20)
    assert len(index.created) == 1
    assert index.created[0]["settings"]["hidden"] is True
    assert index.documents["docs"]["kind"] == "policy"
    assert await do(index, "policy", "docs") == enabled
    assert await do(index, "policies") == {"docs": enabled}
    again = await do(index, "enable", "docs", deadline_ms=500)
    assert (again.fields, again.window, again.deadline_ms) == (("title", "body"), 20, 500)
    assert await do(index, "disable", "docs") is True
    assert (await do(index, "policy", "docs")).enabled is False
    assert await do(index, "disable", "news") is False
    with pytest.raises(BadRequestError, match="window"):
        await do(index, "put_policy", Policy("docs", ("title",), window=9999))
    assert len(index.created) == 1
    assert await do(index, "delete_policy", "docs") is True
    assert await do(index, "delete_policy", "docs") is False
