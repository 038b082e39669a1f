"""The transparent proxy door: an ASGI application in front of the engine.

Searches of an index with a policy are rescored; every other request passes through byte for byte, both
ways streamed. This is not a set of FastAPI routes, because routing and response objects would cost a
passed request more than everything done here, and would decode what has to stay as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from plugin_service.api.msearch import MultiSearches
from plugin_service.api.proxy_call import JSON_TYPE, Call, ClientWatch, PassOn, Receive, Reply, Send, engine_trouble
from plugin_service.api.proxy_messages import error_body, request_headers, response_headers, status_headers, without
from plugin_service.api.proxy_search import Searches
from plugin_service.api.targets import SearchTarget, classify, policy_of
from plugin_service.api.upstream import Upstream
from plugin_service.api.upstream_connection import AbandonedError, Answer, RawHeaders
from plugin_service.rescoring.observer import NullObserver, Observer
from plugin_service.rescoring.ports import Policies
from plugin_service.rescoring.rescorer import Rescorer
from whyrank.errors import EngineError
from whyrank.settings import Settings

Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

log = structlog.get_logger(__name__)

_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS"))


class Proxy:
    """The ASGI application. `upstream` is closed by whoever made it."""

    def __init__(
        self,
        upstream: Upstream,
        rescorer: Rescorer,
        policies: Policies,
        settings: Settings,
        observer: Observer | None = None,
    ) -> None:
        self._upstream = upstream
        self._policies = policies
        self._observer = observer or NullObserver()
        self._searches = Searches(upstream, rescorer, settings, self._observer)
        self._multi_searches = MultiSearches(self._searches, policies, self._observer)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
        if scope["type"] != "http":
            return
        await self._guarded(Call(scope, receive, send), self._answer)

    def only_passes(self, method: str, raw_path: bytes) -> bool:
        """Whether a request with this path is of no interest to us, whatever its body."""
        if raw_path[:1] != b"/":
            return False
        target = classify(method, raw_path)
        if target is None:
            return True
        if not isinstance(target, SearchTarget):
            return not self._policies.all()
        return policy_of(target.index, self._policies) is None

    def may_repeat(self, method: str) -> bool:
        """Whether a request that got no answer may be sent again."""
        return method in _IDEMPOTENT

    def relaying(self, answer: Answer) -> Application:
        """An application that gives the engine's answer to a request that is already sent."""

        async def relay(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            call = Call(scope, receive, send)
            call.body.complete = True
            await self._guarded(call, lambda call: self._relay(call, answer))

        return relay

    def failing(self, error: Exception) -> Application:
        """An application that answers for an engine that did not."""

        async def fail(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            async def answer(_: Call) -> None:
                raise error

            await self._guarded(Call(scope, receive, send), answer)

        return fail

    async def _guarded(self, call: Call, answer: Callable[[Call], Awaitable[None]]) -> None:
        watch = ClientWatch(call.body)
        try:
            await answer(call)
        except AbandonedError:
            return
        except EngineError as error:
            log.warning("engine_trouble", method=call.method, path=_text(call.raw_path), error=str(error))
            # once an answer has begun, only a cut connection tells the client that it is not whole
            if not call.answered:
                await call.reply(engine_trouble(error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not watch.gone or task is None or task.uncancel() > 0:
                raise
        finally:
            watch.stop()

    async def _answer(self, call: Call) -> None:
        refusal = _refusal(call)
        outcome = refusal or await self._outcome(call)
        if isinstance(outcome, Reply):
            await call.reply(outcome)
        elif outcome is None:
            await self._pass(call)
        else:
            self._observer.search("proxy", outcome.status.value, outcome.reason)
            await self._pass(call, status_headers(outcome.status.value, outcome.reason), outcome.body)

    async def _outcome(self, call: Call) -> Reply | PassOn | None:
        """What becomes of the request; None: it is none of our business."""
        target = classify(call.method, call.raw_path)
        if target is None:
            return None
        if not isinstance(target, SearchTarget):
            return await self._multi_searches.answer(call, target.index)
        policy = policy_of(target.index, self._policies)
        if policy is None:
            return None
        if isinstance(policy, str):
            return await self._searches.left_out(call, policy)
        return await self._searches.answer(call, target.index, policy)

    async def _pass(self, call: Call, extra: RawHeaders | None = None, replacement: bytes | None = None) -> None:
        """Send the request on, and the answer back, as they are."""
        await self._relay(call, await self._ask(call, replacement), extra)

    async def _relay(self, call: Call, answer: Answer, extra: RawHeaders | None = None) -> None:
        try:
            headers = response_headers(answer.headers)
            await call.start(answer.status, headers + extra if extra else headers)
            while True:
                data = await answer.chunk()
                more = not answer.complete
                await call.send(data, more=more)
                if not more:
                    return
        finally:
            answer.abandon()

    async def _ask(self, call: Call, replacement: bytes | None) -> Answer:
        body, headers = call.body, request_headers(call.headers)
        retry = call.method in _IDEMPOTENT
        if replacement is not None:
            plain = without(headers, b"content-encoding")
            return await self._upstream.request(call.method, call.target, plain, replacement, retry=True)
        if not body.complete and not body.data:
            await body.begin()
        if body.complete:
            return await self._upstream.request(call.method, call.target, headers, body.data, retry=retry)
        return await self._upstream.stream(call.method, call.target, headers, body.stream(), body.length)


def _refusal(call: Call) -> Reply | None:
    """What cannot be sent on without being changed."""
    if call.raw_path[:1] != b"/":  # `*`, the one target of HTTP that is no path; the engines refuse it, too
        body = error_body(400, "whyrank_bad_target_exception", "the request target is not a path")
        return Reply(400, [JSON_TYPE], body)
    if call.body.length is None and call.header(b"transfer-encoding").strip().lower() != "chunked":
        body = error_body(501, "whyrank_transfer_coding_exception", "of transfer codings, only chunked is understood")
        return Reply(501, [JSON_TYPE], body)
    return None


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")
