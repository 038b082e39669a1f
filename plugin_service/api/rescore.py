"""The door of the engine's own hook: `POST /v1/rescore`, hits in, their new order and what was found out.

The hook stands inside the engine, so it has the hits of the whole window with their texts and scores; nothing is asked
of the engine from here. The texts become passages by the code of the proxy, and the verdicts of both doors are the
same ones.

Requests and answers are read and written by msgspec alone. Bad input is a 4xx that names the field; whatever goes
wrong with us is an answer in the engine's order that says why.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from inspect import cleandoc
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from msgspec import UNSET, Meta, Raw, UnsetType
from msgspec.structs import replace
from starlette.exceptions import HTTPException

from plugin_service.api.errors import ErrorBody
from plugin_service.api.parts import Parts
from plugin_service.api.proxy_messages import is_json, tenant_of
from plugin_service.rescoring.hits import TEXT_FIELD, fields_at, placed, text_fields
from plugin_service.rescoring.json_parts import NotJsonError, SurrogateShield, decoded
from plugin_service.rescoring.ports import Policies
from plugin_service.rescoring.rescorer import RankRequest
from plugin_service.rescoring.search_request import MAX_RANKING_ID, MAX_WINDOW
from plugin_service.rescoring.word_fragments import WordFragments
from whyrank.errors import BadRequestError
from whyrank.passages import content_hash
from whyrank.types import Candidate, Fragment, Mode, Policy, Quote, RankedHit, Ranking, Status, Verdict

DOOR = "rescore"
MOST_HITS = 1_000
MOST_TEXT = 1_000_000
"""Characters of one field of one hit."""
_MOST_FIELDS = 32
_INTERNAL = "internal_error: an error inside WhyRank; its log says more"
log = structlog.get_logger(__name__)

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Concrete = Annotated[
    Name,
    Meta(description="The index that holds the hit, where an alias or a pattern was searched: ids may be there twice."),
]
Text = Annotated[str, Meta(max_length=MOST_TEXT, description="In place of `fields`.")]
Searched = Annotated[str, Meta(min_length=1, max_length=4096, description="The index, as the search named it.")]
Words = Annotated[str, Meta(min_length=1, max_length=100_000, description="The user's words.")]
Deadline = Annotated[int, Meta(ge=0, le=60_000, description="Answer within this, judged or not.")]
Window = Annotated[int, Meta(ge=1, le=MAX_WINDOW, description="So many hits are judged; the others stay behind them.")]
Paths = Annotated[list[Name], Meta(min_length=1, max_length=_MOST_FIELDS, description="The fields that are read.")]
Tenant = Annotated[
    Name, Meta(description="Verdicts are not shared between tenants. The header of WHYRANK_TENANT_HEADER comes first.")
]
User = Annotated[str, Meta(max_length=255, description="Has paging sessions of their own; goes into the log.")]
Explain = Annotated[bool, Meta(description="False leaves explanations and quotes out.")]
RankingId = Annotated[
    str, Meta(min_length=1, max_length=MAX_RANKING_ID, description="Of an earlier answer, whose order is kept.")
]
From = Annotated[int, Meta(ge=0, description="Where the page begins: past the first one, its order is kept.")]
Score = Annotated[
    float | None, Meta(description="Fused, in [0, 1]; null where the verdict came after the order was given.")
]
Quotes = Annotated[list[Quote], Meta(description="`start` and `end` are character offsets into the passage.")]


class RescoreHit(msgspec.Struct, frozen=True):
    """One hit of the engine: its texts by field path, as `_source` or the hit's `fields` have them, or one `text`."""

    id: Annotated[str, Meta(max_length=512)]
    index: Concrete | None = None
    score: float | None = None
    fields: dict[str, Raw] | None = None
    text: Text | None = None


class RescoreRequest(msgspec.Struct, frozen=True):
    """A search's hits in the engine's order, from the first one on. What is not given is the policy's.

    Without a policy for `index` every hit is judged (up to 200), by all the fields given.
    """

    index: Searched
    query: Words
    hits: Annotated[list[RescoreHit], Meta(max_length=MOST_HITS)]
    deadline_ms: Deadline | None = None
    mode: Mode | None = None
    window: Window | None = None
    fields: Paths | None = None
    tenant: Tenant | None = None
    user: User | None = None
    explain: Explain = True
    ranking: RankingId | None = None
    from_: From = msgspec.field(name="from", default=0)


class RescoredHit(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a judged hit. Only what stands in the document is shown: no explanation that is not grounded."""

    score: Score
    relevance: float
    label: int
    similarity: float | UnsetType = UNSET
    grounded: bool | UnsetType = UNSET
    explanation: str | UnsetType = UNSET
    quotes: Quotes | UnsetType = UNSET


class RescoreAnswer(msgspec.Struct, frozen=True):
    """`order` has the place of every hit of the request, best first; `hits` are in the request's order.

    A hit without a verdict is null. The counts are over the window. `ranking_id`, null where nothing was ranked, leads
    to `/v1/rankings/{ranking_id}` and its events.
    """

    status: Status
    reason: str
    ranking_id: str | None
    model_revision: str
    took_ms: float
    mode: Mode
    window: int
    judged: int
    missing: int
    failed: int
    truncated: int
    order: list[int]
    hits: list[RescoredHit | None]


class _Search(msgspec.Struct, frozen=True):
    """A request that has been read: `candidates` are the hits inside the window."""

    asked: RescoreRequest
    policy: Policy
    candidates: tuple[Candidate, ...]


class _DirectRoute(APIRoute):
    """A route whose function takes the request and gives the response, with nothing in between."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


def components() -> dict[str, Any]:
    """The schemas that the description of the route refers to, by name."""
    return {
        name: {key: cleandoc(value) if key == "description" else value for key, value in schema.items()}
        for name, schema in _COMPONENTS.items()
    }


(_REQUEST, _ANSWER), _COMPONENTS = msgspec.json.schema_components(
    (RescoreRequest, RescoreAnswer), ref_template="#/components/schemas/{name}"
)
_DECODER = msgspec.json.Decoder(RescoreRequest)
_encode = msgspec.json.Encoder().encode
router = APIRouter(tags=["rescore"], route_class=_DirectRoute)


@router.post(
    "/v1/rescore",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST}}}},
    responses={
        200: {"description": "The order of the hits", "content": {"application/json": {"schema": _ANSWER}}},
        400: {"model": ErrorBody},
        413: {"model": ErrorBody},
        415: {"model": ErrorBody},
    },
)
async def rescore(request: Request) -> Response:
    """Judge and reorder the hits of one search, for a hook inside the engine.

    Status and reason mean what they mean at the proxy. Whatever fails on our side, the answer is the engine's order.
    """
    began = time.perf_counter()
    parts: Parts = request.app.state.parts
    if not is_json(request.headers.get("content-type", "")):
        raise HTTPException(415, "the body must be sent with Content-Type: application/json")
    search = _read(await request.body(), parts.policies)
    parts.metrics.stage("parse", time.perf_counter() - began)
    answer = await _rescored(parts, search, request)
    content = _encode(replace(answer, took_ms=round((time.perf_counter() - began) * 1000, 3)))
    parts.metrics.search(DOOR, answer.status.value, answer.reason)
    log.info(
        "search",
        door=DOOR,
        index=search.asked.index,
        user=search.asked.user,
        status=answer.status.value,
        reason=answer.reason,
        ranking=answer.ranking_id,
        window=answer.window,
        judged=answer.judged,
        missing=answer.missing,
    )
    return Response(content, media_type="application/json")


async def _rescored(parts: Parts, search: _Search, request: Request) -> RescoreAnswer:
    revision = parts.model.current().revision
    if not search.policy.enabled:
        reason = f"policy_disabled: The policy of {search.policy.index} is switched off."
        return _engine_order(search, revision, Status.BYPASSED, reason)
    try:
        ranking = await parts.rescorer.rank(_rank_request(parts, search, request), WordFragments())
        began = time.perf_counter()
        answer = _answer(search, ranking)
        parts.metrics.stage("render", time.perf_counter() - began)
    except Exception:
        log.exception("rescoring_failed", index=search.asked.index)
        return _engine_order(search, revision, Status.FAILED, _INTERNAL)
    return answer


def _rank_request(parts: Parts, search: _Search, request: Request) -> RankRequest:
    asked, policy, settings = search.asked, search.policy, parts.settings
    name = settings.tenant_header
    said = tenant_of(request.scope["headers"], name) if name and name in request.headers else asked.tenant
    tenant = said or "default"
    # pages of one search show the same hits; whoever is someone else has a paging session of their own
    hits = [(candidate.index, candidate.id) for candidate in search.candidates]
    session = msgspec.json.encode((asked.index, asked.query, policy.fields, policy.mode, tenant, asked.user, hits))
    return RankRequest(
        query=asked.query,
        candidates=search.candidates,
        policy=replace(policy, fields=(*policy.fields, TEXT_FIELD)),  # where fragments are looked for
        search_id=request.scope["whyrank.request_id"],
        deadline_ms=min(policy.deadline_ms, settings.max_deadline_ms),
        tenant=tenant,
        ranking_id=asked.ranking,
        pin=hashlib.blake2b(session, digest_size=16).hexdigest(),
        follow_pin=asked.from_ > 0,
    )


def _answer(search: _Search, ranking: Ranking) -> RescoreAnswer:
    asked = search.asked
    order = placed(search.candidates, len(asked.hits), ranking)
    hits: list[RescoredHit | None] = [None] * len(asked.hits)
    for position, ranked in order:
        if ranked is not None and ranked.verdict is not None:
            hits[position] = _rescored_hit(ranked, ranked.verdict, asked.explain)
    return RescoreAnswer(
        status=ranking.status,
        reason=ranking.reason,
        ranking_id=ranking.id,
        model_revision=ranking.model_revision,
        took_ms=0.0,
        mode=ranking.mode,
        window=len(search.candidates),
        judged=ranking.judged,
        missing=ranking.missing,
        failed=sum(1 for hit in ranking.hits if hit.failure is not None),
        truncated=sum(1 for hit in ranking.hits if hit.truncated),
        order=[position for position, _ in order],
        hits=hits,
    )


def _rescored_hit(hit: RankedHit, verdict: Verdict, explain: bool) -> RescoredHit:
    explained = explain and verdict.mode is Mode.REASON
    quotes = [quote for quote in verdict.quotes if quote.grounded] if explained else []
    return RescoredHit(
        score=None if hit.score is None else float(hit.score),
        relevance=float(verdict.relevance),
        label=verdict.label,
        similarity=UNSET if verdict.similarity is None else float(verdict.similarity),
        grounded=verdict.grounded if verdict.mode is Mode.REASON else UNSET,
        explanation=verdict.explanation if explained and verdict.grounded and verdict.explanation else UNSET,
        quotes=quotes or UNSET,
    )


def _engine_order(search: _Search, revision: str, status: Status, reason: str) -> RescoreAnswer:
    count = len(search.asked.hits)
    return RescoreAnswer(
        status=status,
        reason=reason,
        ranking_id=None,
        model_revision=revision,
        took_ms=0.0,
        mode=search.policy.mode,
        window=len(search.candidates),
        judged=0,
        missing=sum(1 for candidate in search.candidates if candidate.fields),
        failed=0,
        truncated=0,
        order=list(range(count)),
        hits=[None] * count,
    )


def _read(body: bytes, policies: Policies) -> _Search:
    """The request in `body`. Raises BadRequestError, which names the field."""
    try:
        return _searched(body, policies, None)
    except NotJsonError as error:
        shield = SurrogateShield(body)
        if shield.body == body:
            raise _bad_request(str(error)) from error
    try:
        return _searched(shield.body, policies, shield)
    except NotJsonError as error:
        raise _bad_request(str(error)) from error


def _searched(body: bytes, policies: Policies, shield: SurrogateShield | None) -> _Search:
    asked = decoded(_DECODER, body)
    if shield is not None:
        asked = replace(asked, query=shield.readable(asked.query))
    if not asked.query.strip():
        raise BadRequestError("query", "must not be blank")
    policy = _policy(asked, policies)
    candidates = tuple(
        _candidate(asked.index, place, hit, policy.fields, shield)
        for place, hit in enumerate(asked.hits[: policy.window])
    )
    return _Search(asked, policy, candidates)


def _policy(asked: RescoreRequest, policies: Policies) -> Policy:
    """The policy of the index, with what this search says otherwise."""
    found = policies.lookup(asked.index)
    if found is None:
        given = dict.fromkeys(name for hit in asked.hits for name in hit.fields or ())
        found = Policy(index=asked.index, fields=(*given, TEXT_FIELD)[:_MOST_FIELDS], window=MAX_WINDOW)
    return replace(
        found,
        fields=tuple(asked.fields or found.fields),
        window=asked.window or found.window,
        deadline_ms=found.deadline_ms if asked.deadline_ms is None else asked.deadline_ms,
        mode=asked.mode or found.mode,
    )


def _candidate(
    index: str, place: int, hit: RescoreHit, paths: Sequence[str], shield: SurrogateShield | None
) -> Candidate:
    fields: tuple[Fragment, ...] = ()
    if hit.fields is not None:
        fields = fields_at(paths, (hit.fields,), shield)
    elif hit.text is not None:
        fields = text_fields(shield.readable(hit.text) if shield else hit.text)
    for field in fields:
        if len(field.text) > MOST_TEXT:
            raise BadRequestError(f"hits[{place}].fields.{field.field}", f"must be at most {MOST_TEXT} characters")
    return Candidate(hit.id, hit.index or index, fields, content_hash(fields), hit.score)


_SAID = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$\.?(?P<at>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<name>.*)`")


def _bad_request(message: str) -> BadRequestError:
    """The error of a decoder, whose message ends with the place: "... - at `$.hits[3].id`"."""
    said = _SAID.match(message)
    what, at = (said["what"], said["at"] or "") if said else (message, "")
    if missing := _MISSING.search(what):
        what, at = "is missing", f"{at}.{missing['name']}".lstrip(".")
    return BadRequestError(at or "body", what)
