"""`_msearch`: every search in it is planned, ranked and rendered on its own; the engine is asked once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from plugin_service.api.proxy_call import JSON_TYPE, Call, PassOn, Reply
from plugin_service.api.proxy_messages import (
    accepts_json,
    error_body,
    header,
    is_json,
    is_ndjson,
    response_headers,
    rewritten_headers,
    status_headers,
    without,
)
from plugin_service.api.proxy_search import AMBIGUOUS, INTERNAL, NO_JSON_WANTED, Search, Searches, may_be_ours, stripped
from plugin_service.api.targets import parse_query, policy_of
from plugin_service.rescoring import search_request
from plugin_service.rescoring.json_parts import NotJsonError, SurrogateShield, decoded
from plugin_service.rescoring.observer import Observer
from plugin_service.rescoring.ports import Policies
from plugin_service.rescoring.search_request import Bypass
from whyrank.errors import BadRequestError
from whyrank.types import Policy, Status

log = structlog.get_logger(__name__)


class _Item(msgspec.Struct):
    """One search of an `_msearch`: its two lines as they came, and what becomes of it."""

    head: bytes
    body: bytes
    search: Search | None = None
    """Set when it is to be rescored."""
    stripped: bytes | None = None
    """The body without `ext.whyrank`, if it has that."""
    response: bytes | None = None
    status: str = ""
    """Empty while there is nothing to say: no policy concerns it."""
    reason: str = ""

    def bypass(self, status: Status, reason: str) -> None:
        """The engine's answer stands, for this reason."""
        self.search, self.status, self.reason = None, status.value, reason

    @property
    def lines(self) -> bytes:
        """Its two lines for the engine, widened to the window where it is to be rescored."""
        if self.search is not None:
            body = self.search.plan.body
        else:
            body = self.body if self.stripped is None else self.stripped
        return b"%b\n%b\n" % (self.head, body.replace(b"\n", b" "))  # a line break in JSON is never inside a string


class _Outcome(msgspec.Struct):
    """What tells a failed search of an `_msearch` from an answered one."""

    status: int = 200


class _Response(msgspec.Struct, frozen=True):
    """The engine's answer to one search of an `_msearch`."""

    body: bytes
    status: int


_OUTCOME = msgspec.json.Decoder(_Outcome)
_HEAD = msgspec.json.Decoder(dict[str, object])
_ANSWER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RESPONSES = msgspec.json.Decoder(list[msgspec.Raw])


class MultiSearches:
    """Answers `_msearch` by means of `searches`."""

    def __init__(self, searches: Searches, policies: Policies, observer: Observer) -> None:
        self._searches = searches
        self._policies = policies
        self._observer = observer

    async def answer(self, call: Call, index: str | None) -> Reply | PassOn | None:
        """Answer `_msearch`; None: nothing in it concerns us. Raises EngineError, AbandonedError."""
        if not self._policies.all():
            return None
        items = await self._items(call, index)
        if items is None or isinstance(items, PassOn):
            return items
        if not any(item.status or item.search for item in items):
            return None
        ambiguous = parse_query(call.query_string) is None
        if ambiguous or not accepts_json(call.header(b"accept")):
            return self._pass_on(items, Status.BYPASSED, AMBIGUOUS if ambiguous else NO_JSON_WANTED)
        if not any(item.search or item.response for item in items):
            return self._pass_on(items, Status(next(item.status for item in items if item.status)), _summary(items)[1])
        return await self._ask(call, items)

    async def _items(self, call: Call, index: str | None) -> list[_Item] | PassOn | None:
        params = parse_query(call.query_string) or {}
        body = await self._searches.readable_body(call, is_ndjson)
        if isinstance(body, PassOn):
            return body
        pairs = _pairs(body)
        return None if pairs is None else [self._item(call, head, line, index, params) for head, line in pairs]

    def _item(self, call: Call, head: bytes, body: bytes, default: str | None, params: Mapping[str, str]) -> _Item:
        item = _Item(head, body)
        try:
            options = _HEAD.decode(head) if head.strip() else {}
        except msgspec.DecodeError:
            return item
        index = _index(options) or default
        policy = policy_of(index, self._policies) if index else None
        if isinstance(policy, str):
            item.stripped = stripped(item.body)
            item.bypass(Status.BYPASSED, policy)
        elif policy is not None and index:
            own = {name: value for name, value in options.items() if isinstance(value, str) and name != "index"}
            self._plan(call, item, index, policy, {**params, **own})
        return item

    def _plan(self, call: Call, item: _Item, index: str, policy: Policy, params: Mapping[str, str]) -> None:
        try:
            item.stripped = stripped(item.body)
            plan = search_request.plan(item.body, params, policy)
        except BadRequestError as error:
            item.bypass(Status.BYPASSED, f"bad_request: {error}")
            item.response = error_body(error.status, "whyrank_bad_request_exception", str(error), error.field)
        except Exception:
            log.exception("plan_failed", index=index)
            item.bypass(Status.FAILED, INTERNAL)
        else:
            if isinstance(plan, Bypass):
                item.bypass(Status.BYPASSED, f"{plan.reason}: {plan.detail}")
            else:
                item.search = Search(plan, policy, index, call.raw_path + item.head)

    async def _ask(self, call: Call, items: Sequence[_Item]) -> Reply | PassOn:
        asked = [item for item in items if item.response is None]
        if not asked:
            page = _joined({"took": msgspec.Raw(b"0")}, items)
            return await self._searches.page(call, [JSON_TYPE], page, status_headers(*_summary(items)))
        headers = rewritten_headers(call.headers, has_body=True)
        status, answered, raw = await self._searches.ask_engine(call, call.target, headers, _body(asked))
        if may_be_ours(status):
            return self._pass_on(items, Status.BYPASSED, "engine_refused: the engine refused the widened searches")
        if status != 200:
            reason = f"engine_error: the engine answered {status}"
            kept = without(response_headers(answered), b"content-length")
            return Reply(status, kept + status_headers(Status.BYPASSED.value, reason), raw)
        answer = _split(raw, len(asked)) if is_json(header(answered, b"content-type")) else None
        if answer is None:
            return self._pass_on(items, Status.BYPASSED, "response_format: the engine's answer is not readable")
        await asyncio.gather(*(self._settle(call, *pair) for pair in zip(asked, answer[1], strict=True)))
        if (again := [item for item in asked if item.response is None]) and not await self._ask_again(call, again):
            return self._pass_on(items, Status.FAILED, INTERNAL)
        for item in items:
            if item.status and item.search is None:
                self._observer.search("proxy", item.status, item.reason)
        page = _joined(answer[0], items)
        return await self._searches.page(call, answered, page, status_headers(*_summary(items)))

    async def _settle(self, call: Call, item: _Item, response: _Response) -> None:
        """Give an item its response, unless the engine has to be asked again without us."""
        if item.search is None:
            item.response = response.body
        elif may_be_ours(response.status):
            item.bypass(Status.BYPASSED, "engine_refused: the engine refused the widened search")
        elif response.status != 200:
            item.bypass(Status.BYPASSED, f"engine_error: the engine answered {response.status}")
            item.response = response.body
        elif (page := await self._searches.rank_and_render(call, item.search, response.body)) is None:
            item.bypass(Status.FAILED, INTERNAL)
        else:
            item.response, item.status, item.reason = page.body, page.status, page.reason

    async def _ask_again(self, call: Call, items: Sequence[_Item]) -> bool:
        """Fill in the engine's own answers to these; whether it gave them."""
        headers = rewritten_headers(call.headers, has_body=True)
        status, _, raw = await self._searches.ask_engine(call, call.target, headers, _body(items))
        answer = _split(raw, len(items)) if status == 200 else None
        if answer is None:
            return False
        for item, response in zip(items, answer[1], strict=True):
            item.response = response.body
        return True

    def _pass_on(self, items: Sequence[_Item], status: Status, reason: str) -> PassOn:
        changed = any(item.stripped is not None for item in items)
        for item in items:
            item.search = None
        return PassOn(status, reason, _body(items) if changed else None)


def _pairs(body: bytes) -> list[tuple[bytes, bytes]] | None:
    """Header and body lines; None where the engines would read them otherwise, or refuse them."""
    lines = body.split(b"\n")
    if len(lines) % 2 == 0 or lines.pop() or not lines or not lines[0]:
        return None
    return list(zip(lines[::2], lines[1::2], strict=True))


def _index(options: Mapping[str, object]) -> str:
    """The index expression of a header line; lists of names become one with commas, as the engines do it."""
    named = options.get("index", options.get("indices"))
    if isinstance(named, list):
        return ",".join(str(name) for name in named)
    return named if isinstance(named, str) else ""


def _body(items: Sequence[_Item]) -> bytes:
    return b"".join(item.lines for item in items)


def _joined(members: Mapping[str, msgspec.Raw], items: Sequence[_Item]) -> bytes:
    """An `_msearch` answer with these members and the items' responses, byte for byte."""
    return msgspec.json.encode({**members, "responses": [msgspec.Raw(item.response or b"null") for item in items]})


def _split(raw: bytes, count: int) -> tuple[dict[str, msgspec.Raw], list[_Response]] | None:
    """An `_msearch` answer's members, and its `count` responses; None if it is not that."""
    shield = None
    try:
        try:
            members, responses = _taken_apart(raw)
        except NotJsonError:
            shield = SurrogateShield(raw)
            members, responses = _taken_apart(shield.body)
        found = [
            _Response(shield.restore(bytes(each)) if shield else bytes(each), decoded(_OUTCOME, each).status)
            for each in responses
        ]
    except (KeyError, NotJsonError):
        return None
    return (members, found) if len(found) == count else None


def _taken_apart(raw: bytes) -> tuple[dict[str, msgspec.Raw], list[msgspec.Raw]]:
    """Raises KeyError, NotJsonError."""
    members = decoded(_ANSWER, raw)
    return members, decoded(_RESPONSES, members["responses"])


def _summary(items: Sequence[_Item]) -> tuple[str, str]:
    """What the headers say of them all: every status and every reason once, in order of appearance."""
    told = [item for item in items if item.status]
    statuses = dict.fromkeys(item.status for item in told)
    reasons = dict.fromkeys(item.reason.partition(":")[0] for item in told if item.reason)
    return ", ".join(statuses), ", ".join(reasons)
