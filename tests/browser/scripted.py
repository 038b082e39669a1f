"""The sidecar as the page sees it, played by a script: each answer and each event comes when a test says so.

Answers and events are made by the sidecar's own code (search bodies, fusion, views), so that this cannot drift from it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from plugin_service.api.envelope import CONTENT_SECURITY_POLICY
from plugin_service.api.rankings import view_hit, view_ranking
from plugin_service.rescoring.assemble import fused
from plugin_service.rescoring.search_request import Bypass, plan
from plugin_service.rescoring.search_response import parse, render
from tests.browser.pages import LABELS, PYTHON_DOCS, QUERY, Document
from whyrank.types import (
    FailureKind,
    FusionWeights,
    Mode,
    Policy,
    Quote,
    RankedHit,
    Ranking,
    Status,
    Verdict,
    VerdictFailure,
)

STATIC = Path(__file__).parents[2] / "plugin_service" / "web" / "static"
INDEX = "python-docs"
REVISION = "scripted"


def verdict_of(document: Document, mode: Mode = Mode.REASON) -> Verdict:
    """The verdict that is planned for the document."""
    probabilities = LABELS[document.label]
    passage = f"{document.title}\n{document.body}"
    start = " ".join(passage.split()).find(document.quote)
    quote = Quote(document.quote, start, start + len(document.quote)) if document.grounded else Quote(document.quote)
    explained = mode is Mode.REASON
    return Verdict(
        label=document.label,
        label_probabilities=probabilities,
        relevance=(probabilities[1] + 2 * probabilities[2]) / 2,
        explanation=document.said if explained else "",
        quotes=(quote,) if explained else (),
        grounded=explained and document.grounded,
        mode=mode,
        model_revision=REVISION,
    )


class Backend:
    """What the server answers. Change its attributes before a search, call its verbs while one is on."""

    def __init__(self, documents: Sequence[Document] = PYTHON_DOCS) -> None:
        self.policies = [Policy(index=INDEX, fields=("title", "body"), window=10)]
        self.documents: Sequence[Document] = documents
        self.status = Status.PENDING
        self.reason = "deadline: 0 of 10 judged within 0 ms"
        self.mode = Mode.REASON
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.hold: asyncio.Event | None = None
        self.searches: list[dict[str, Any]] = []
        self.streams = 0
        self.refuse_streams = False
        self._cached: set[str] = set()
        self._known: dict[str, Verdict | VerdictFailure] = {}
        self._final: Ranking | None = None
        self._log: list[tuple[str, str]] = []
        self._news = asyncio.Condition()
        self._open: set[asyncio.Task[Any]] = set()

    # ---- what a test says

    async def judge(self, *ids: str) -> None:
        """The verdicts of these documents land (of all in the window, in engine order, without ids)."""
        for document in self._window:
            if document.id in ids or (not ids and document.id not in self._known):
                self._known[document.id] = verdict_of(document, self.mode)
                await self._tell_verdict(document.id)

    def cache(self, *ids: str) -> None:
        """The verdicts of these documents are there before the search (of all, without ids)."""
        for document in self._window:
            if document.id in ids or not ids:
                self._known[document.id] = verdict_of(document, self.mode)
                self._cached.add(document.id)

    async def fail(self, document_id: str) -> None:
        """The model cannot judge this document."""
        self._known[document_id] = VerdictFailure(FailureKind.NO_LABEL)
        await self._tell_verdict(document_id)

    async def order(self) -> None:
        """The final order, and the end."""
        final = fused(self._ranking(Status.PENDING), self._known)
        status = Status.PARTIAL if final.missing else Status.COMPLETE
        self._final = replace(final, id="final.signed", status=status, reason="all_judged")
        await self._tell("order", view_ranking(self._final).model_dump_json())
        await self.end()

    async def end(self) -> None:
        """Nothing follows."""
        await self._tell("end", "{}")

    async def finish(self) -> None:
        """All that is missing lands, then the order, then the end."""
        await self.judge()
        await self.order()

    def drop(self) -> None:
        """Every stream breaks."""
        for stream in self._open:
            stream.cancel()

    # ---- the server

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/_whyrank/policies", self._policies)
        app.router.add_get("/_whyrank/", self._page)
        app.router.add_get("/_whyrank/{name}", self._page)
        app.router.add_post("/{index}/_search", self._search)
        app.router.add_get("/v1/rankings/{id}/events", self._events)
        return app

    @property
    def _window(self) -> Sequence[Document]:
        return self.documents[: self.policies[0].window]

    def _ranking(self, status: Status) -> Ranking:
        hits = tuple(
            RankedHit(document.id, INDEX, place, engine_score=20.0 - place, key=document.id)
            for place, document in enumerate(self._window)
        )
        return Ranking(
            "first.signed", QUERY, self.mode, REVISION, status, self.reason, 0.0, FusionWeights(0.2, 0.8), hits
        )

    async def _tell_verdict(self, document_id: str) -> None:
        ranking = self._final or fused(self._ranking(Status.PENDING), self._known)
        place, hit = next((place, hit) for place, hit in enumerate(ranking.hits) if hit.id == document_id)
        await self._tell("verdict", view_hit(hit, place).model_dump_json())

    async def _tell(self, name: str, data: str) -> None:
        async with self._news:
            self._log.append((name, data))
            self._news.notify_all()

    async def _page(self, request: web.Request) -> web.FileResponse:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "X-Content-Type-Options": "nosniff"}
        path = STATIC / request.match_info.get("name", "index.html")
        if path.parent != STATIC or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, headers=headers)

    async def _policies(self, request: web.Request) -> web.Response:
        return web.json_response({"policies": [json.loads(_json(policy)) for policy in self.policies]})

    async def _search(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.searches.append(body)
        if self.hold is not None:
            await self.hold.wait()
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        return self._rendered(body, request.match_info["index"])

    def _rendered(self, body: dict[str, Any], index: str) -> web.Response:
        """The engine's answer, through the proxy's own reading and writing of search bodies."""
        policy = next(policy for policy in self.policies if policy.index == index)
        planned = plan(json.dumps(body).encode(), {}, policy)
        if self.status is Status.BYPASSED or isinstance(planned, Bypass):
            reason = f"{planned.reason}: {planned.detail}" if isinstance(planned, Bypass) else self.reason
            start, size = body.get("from", 0), body.get("size", 10)
            headers = {"X-WhyRank-Status": "bypassed", "X-WhyRank-Reason": reason}
            answer = self._engine_answer(body)
            answer["hits"]["hits"] = answer["hits"]["hits"][start : start + size]
            return web.json_response(answer, headers=headers)
        if self.status is Status.COMPLETE:
            self.cache()
        ranking = fused(self._ranking(self.status), {key: self._known[key] for key in self._cached})
        if self._final is not None and planned.ranking_id == self._final.id:
            ranking = self._final
        parsed = parse(json.dumps(self._engine_answer(body)).encode(), planned, policy)
        return web.Response(body=render(parsed, ranking, planned), content_type="application/json")

    def _engine_answer(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = body.get("_source")
        hits = [
            {
                "_index": INDEX,
                "_id": document.id,
                "_score": 20.0 - place,
                "_source": {name: text for name, text in document.source.items() if not wanted or name in wanted},
                **({"fields": {"body": [document.body], "title": [document.title]}} if wanted else {}),
            }
            for place, document in enumerate(self._window)
        ]
        return {"took": 4, "hits": {"total": {"value": len(self.documents), "relation": "eq"}, "hits": hits}}

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.streams += 1
        if self.refuse_streams:
            raise web.HTTPServiceUnavailable
        if self.status is Status.COMPLETE and not self._log:
            await self.order()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        await response.write(b"retry: 50\n\n")
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            at = int(request.headers.get("Last-Event-ID", "0"))
            while True:
                async with self._news:
                    await self._news.wait_for(lambda: len(self._log) > at)  # noqa: B023 - awaited at once
                name, data = self._log[at]
                at += 1
                await response.write(f"id: {at}\nevent: {name}\ndata: {data}\n\n".encode())
        except (asyncio.CancelledError, ConnectionResetError):
            if request.transport is not None:
                request.transport.close()
            raise
        finally:
            self._open.discard(task)


def _json(policy: Policy) -> str:
    fields = {name: getattr(policy, name) for name in ("index", "fields", "window", "deadline_ms", "mode", "enabled")}
    return json.dumps(fields)
