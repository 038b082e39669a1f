"""One search of an index with a policy: planned, asked, ranked, rendered. Whatever goes wrong, the engine's order."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable

import msgspec
import structlog

from plugin_service.api.proxy_call import JSON_TYPE, Call, PassOn, Reply
from plugin_service.api.proxy_messages import (
    accepts_gzip,
    accepts_json,
    decoded,
    error_body,
    gzipped,
    header,
    is_json,
    response_headers,
    rewritten_headers,
    status_headers,
    tenant_of,
    without,
)
from plugin_service.api.targets import parse_query, target
from plugin_service.api.upstream import Upstream
from plugin_service.api.upstream_connection import RawHeaders
from plugin_service.api.upstream_fragments import EngineFragments
from plugin_service.rescoring import search_request, search_response
from plugin_service.rescoring.observer import Observer
from plugin_service.rescoring.rescorer import RankRequest, Rescorer
from plugin_service.rescoring.search_request import Bypass, Plan
from plugin_service.rescoring.search_response import ParsedResponse
from whyrank.errors import BadRequestError
from whyrank.settings import Settings
from whyrank.types import Policy, Ranking, Status

log = structlog.get_logger(__name__)

AMBIGUOUS = "ambiguous_parameters: a URL parameter is given twice or is not text"
NO_JSON_WANTED = "response_format: the request does not accept JSON"
INTERNAL = "internal_error: an error inside WhyRank; its log says more"
GZIP_FROM = 1024
"""Shorter answers are not worth compressing."""
GZIP_IN_THREAD_FROM = 128 * 1024
"""Longer answers would hold up the event loop for milliseconds."""


class Search(msgspec.Struct, frozen=True):
    """A planned search, alone or one of many in an `_msearch`."""

    plan: Plan
    policy: Policy
    index: str
    """As the request names it."""
    scope: bytes
    """What of the request, besides its body, tells one paging session from another."""


class Rendered(msgspec.Struct, frozen=True):
    """A page of hits and what to say about it."""

    body: bytes
    status: str
    reason: str
    ranking_id: str


class Searches:
    """Rescores searches; shared by `_search` and `_msearch`."""

    def __init__(self, upstream: Upstream, rescorer: Rescorer, settings: Settings, observer: Observer) -> None:
        self._upstream = upstream
        self._rescorer = rescorer
        self._settings = settings
        self._observer = observer

    async def answer(self, call: Call, index: str, policy: Policy) -> Reply | PassOn:
        """Answer `/{index}/_search`. Raises EngineError when the engine is in trouble, AbandonedError."""
        body = await self.readable_body(call, is_json)
        if isinstance(body, PassOn):
            return body
        params = parse_query(call.query_string)
        if params is None or not accepts_json(call.header(b"accept")):
            return PassOn(Status.BYPASSED, AMBIGUOUS if params is None else NO_JSON_WANTED, stripped(body))
        try:
            plan = search_request.plan(body, params, policy)
        except BadRequestError as error:
            return bad_request(error)
        except Exception:
            log.exception("plan_failed", index=index)
            return PassOn(Status.FAILED, INTERNAL, stripped(body))
        if isinstance(plan, Bypass):
            return PassOn(Status.BYPASSED, f"{plan.reason}: {plan.detail}", stripped(body))
        return await self._ask(call, Search(plan, policy, index, call.raw_path), stripped(body))

    async def left_out(self, call: Call, reason: str) -> PassOn:
        """A search that is not rescored whatever it says, for this reason. Raises AbandonedError."""
        body = await self.readable_body(call, is_json)
        return PassOn(Status.BYPASSED, reason, None if isinstance(body, PassOn) else stripped(body))

    async def readable_body(self, call: Call, is_readable: Callable[[str], bool]) -> bytes | PassOn:
        """The request's body without its content coding, if its type is readable and it is short enough."""
        if not call.body.complete and not is_readable(call.header(b"content-type")):
            return PassOn(Status.BYPASSED, "not_json: the request's Content-Type is not JSON")
        limit = self._settings.max_body_bytes
        if not await call.body.read(limit):
            return PassOn(Status.BYPASSED, f"body_too_large: more than {limit} bytes")
        body = decoded(call.body.data, call.header(b"content-encoding"), limit)
        if body is None:
            return PassOn(Status.BYPASSED, f"content_encoding: unknown, broken, or more than {limit} bytes")
        return body

    async def rank_and_render(self, call: Call, search: Search, raw: bytes) -> Rendered | None:
        """The page in its new order, in the engine's order if ranking fails, None if there is no reading the answer."""
        began = time.perf_counter()
        plan = search.plan
        try:
            parsed = search_response.parse(raw, plan, search.policy)
            request = self._rank_request(call, search, parsed)
        except Exception:
            log.exception("parse_failed", index=search.index)
            return None
        self._observer.stage("parse", time.perf_counter() - began)
        try:
            ranking = await self._rescorer.rank(request, self._fragments(call, search))
            began = time.perf_counter()
            body = search_response.render(parsed, ranking, plan)
            self._observer.stage("render", time.perf_counter() - began)
        except Exception:
            log.exception("rescoring_failed", index=search.index, search_id=request.search_id)
            try:
                ranking = self._rescorer.unranked(request, Status.FAILED, INTERNAL)
                body = search_response.render(parsed, ranking, plan)
            except Exception:
                log.exception("render_failed", index=search.index, search_id=request.search_id)
                return None
        self._report(search, request, ranking)
        return Rendered(body, ranking.status.value, ranking.reason, ranking.id)

    async def ask_engine(
        self, call: Call, target_: bytes, headers: RawHeaders, body: bytes
    ) -> tuple[int, RawHeaders, bytes]:
        """One search of the engine, whole: status, headers, body. Raises EngineError."""
        began = time.perf_counter()
        answer = await self._upstream.request(call.method, target_, headers, body, retry=True)
        try:
            raw = await answer.read()
        finally:
            answer.abandon()
        self._observer.stage("engine", time.perf_counter() - began)
        return answer.status, answer.headers, raw

    async def page(self, call: Call, headers: RawHeaders, body: bytes, extra: RawHeaders) -> Reply:
        """Our answer in the engine's headers, compressed where the engine would have been asked to."""
        kept = without(response_headers(headers), b"content-length", b"content-encoding")
        if len(body) >= GZIP_FROM and accepts_gzip(call.header(b"accept-encoding")):
            body = await asyncio.to_thread(gzipped, body) if len(body) >= GZIP_IN_THREAD_FROM else gzipped(body)
            extra = [*extra, (b"content-encoding", b"gzip")]
        return Reply(200, kept + extra, body)

    async def _ask(self, call: Call, search: Search, original: bytes | None) -> Reply | PassOn:
        plan = search.plan
        headers = rewritten_headers(call.headers, has_body=True)
        status, answered, raw = await self.ask_engine(call, target(call.raw_path, plan.params), headers, plan.body)
        if may_be_ours(status):
            return PassOn(Status.BYPASSED, "engine_refused: the engine refused the widened search", original)
        if status != 200:
            reason = f"engine_error: the engine answered {status}"
            self._observer.search("proxy", Status.BYPASSED.value, reason)
            kept = without(response_headers(answered), b"content-length")
            return Reply(status, kept + status_headers(Status.BYPASSED.value, reason), raw)
        if not is_json(header(answered, b"content-type")) or header(answered, b"content-encoding"):
            return PassOn(Status.BYPASSED, "response_format: the engine's answer is not JSON", original)
        page = await self.rank_and_render(call, search, raw)
        if page is None:
            return PassOn(Status.FAILED, INTERNAL, original)
        return await self.page(call, answered, page.body, status_headers(page.status, page.reason, page.ranking_id))

    def _rank_request(self, call: Call, search: Search, parsed: ParsedResponse) -> RankRequest:
        plan = search.plan
        tenant = tenant_of(call.headers, self._settings.tenant_header)
        # whoever asks with other rights, or elsewhere, has a paging session of their own
        session = (plan.fingerprint.encode(), search.scope, call.header(b"authorization").encode(), tenant.encode())
        return RankRequest(
            query=plan.query,
            candidates=parsed.candidates,
            policy=search.policy,
            search_id=call.header(b"x-opaque-id") or secrets.token_hex(8),
            deadline_ms=min(plan.deadline_ms, self._settings.max_deadline_ms),
            mode=plan.mode,
            tenant=tenant,
            ranking_id=plan.ranking_id,
            pin=hashlib.blake2b(msgspec.json.encode(session), digest_size=16).hexdigest(),
            follow_pin=plan.offset > 0,
        )

    def _fragments(self, call: Call, search: Search) -> EngineFragments:
        return EngineFragments(self._upstream, search.index, rewritten_headers(call.headers, has_body=True))

    def _report(self, search: Search, request: RankRequest, ranking: Ranking) -> None:
        self._observer.search("proxy", ranking.status.value, ranking.reason)
        log.info(
            "search",
            search_id=request.search_id,
            index=search.index,
            status=ranking.status.value,
            reason=ranking.reason,
            ranking=ranking.id,
            window=len(ranking.hits),
            judged=ranking.judged,
            missing=ranking.missing,
        )


def may_be_ours(status: int) -> bool:
    """Whether the engine may refuse our search for what we made of it: it shall judge the caller's own, then."""
    return status >= 400 and status not in (401, 403, 404, 408, 429, 502, 503, 504)


def bad_request(error: BadRequestError) -> Reply:
    """A wrong `ext.whyrank`, in the engine's shape, naming the field."""
    body = error_body(error.status, "whyrank_bad_request_exception", str(error), error.field)
    return Reply(error.status, [JSON_TYPE, *status_headers(Status.BYPASSED.value, f"bad_request: {error}")], body)


def stripped(body: bytes) -> bytes | None:
    """The body without `ext.whyrank`; None where the client's own bytes can go as they are."""
    try:
        kept = search_request.strip(body)
    except Exception:
        log.exception("strip_failed")
        return None
    return None if kept is body else kept
