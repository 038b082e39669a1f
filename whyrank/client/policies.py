"""Policies through the sidecar: read from it, written to the engine behind it with the caller's own rights.

A sidecar passes what is not its own on to the engine, with the credentials that the client was given. So whoever may
write the engine's index `.whyrank` may write policies, and nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict
from urllib.parse import quote

import httpx
import msgspec
from msgspec.structs import replace

from whyrank.client.exchange import Call, Flow, decoded, single
from whyrank.errors import BadRequestError
from whyrank.types import FusionWeights, Mode, Policy

_ABSENT = frozenset({404})
_TAKEN = frozenset({400})
"""An index that somebody else has made meanwhile."""
_FIELDS = frozenset(Policy.__struct_fields__)


class _Known(msgspec.Struct):
    policies: list[dict[str, Any]]


class _Kept(msgspec.Struct):
    found: bool = False
    source: dict[str, Any] = msgspec.field(name="_source", default_factory=dict)


def known() -> Call[dict[str, Policy]]:
    """What this sidecar rescores by now, by index."""
    decode = decoded(_Known)

    def read(answer: httpx.Response) -> dict[str, Policy]:
        # a newer sidecar may say more of a policy than this Policy holds
        told = [{name: value for name, value in one.items() if name in _FIELDS} for one in decode(answer).policies]
        return {policy.index: policy for policy in msgspec.convert(told, list[Policy])}

    return Call("GET", "/_whyrank/policies", read)


def get(index: str, timeout_s: float) -> Flow[Policy | None]:
    """The policy of this index as it was last written; None when it has none that can be read."""
    kept = yield from single(Call("GET", _document(index), decoded(_Kept), accepts=_ABSENT), timeout_s)
    if not kept.found:
        return None
    try:
        return msgspec.convert(kept.source.get("policy"), Policy)
    except msgspec.ValidationError:
        return None


def put(policy: Policy, timeout_s: float) -> Flow[None]:
    """Write or replace a policy. Raises BadRequestError, naming the field, where a value is outside of its bounds."""
    from whyrank.engines import policies as store  # noqa: PLC0415 - a client that only reranks need not load it

    document = store.document_of(policy)
    index = f"/{store.POLICY_INDEX}"
    present = yield from single(Call("HEAD", index, _found, accepts=_ABSENT), timeout_s)
    if not present:
        yield from single(Call("PUT", index, _nothing, store.INDEX_BODY, accepts=_TAKEN), timeout_s)
    call = Call("PUT", _document(policy.index), _nothing, document, params={"refresh": "true"})
    yield from single(call, timeout_s)


class PolicyChanges(TypedDict, total=False):
    """Fields of a Policy that `enable` may set."""

    fields: Sequence[str]
    window: int
    deadline_ms: int
    mode: Mode
    passage_tokens: int
    weights: FusionWeights | None
    similarity: bool


def enable(index: str, changes: PolicyChanges, timeout_s: float) -> Flow[Policy]:
    """Switch a policy on, with these changes; what is not among them stays. Raises BadRequestError."""
    before = yield from get(index, timeout_s)
    fields = changes.get("fields", before.fields if before is not None else ())
    if not fields or isinstance(fields, str):
        raise BadRequestError("fields", f"name the fields of {index!r} that the model reads, as a sequence of names")
    made = {**changes, "fields": tuple(fields), "enabled": True}
    policy = replace(before or Policy(index, ()), **made)
    yield from put(policy, timeout_s)
    return policy


def disable(index: str, timeout_s: float) -> Flow[bool]:
    """Switch a policy off, and keep it; False when there is none."""
    before = yield from get(index, timeout_s)
    if before is None:
        return False
    yield from put(replace(before, enabled=False), timeout_s)
    return True


def delete(index: str, timeout_s: float) -> Flow[bool]:
    """Forget a policy; False when there was none."""
    call = Call("DELETE", _document(index), _found, params={"refresh": "true"}, accepts=_ABSENT)
    return (yield from single(call, timeout_s))


def _document(index: str) -> str:
    if not index:
        raise BadRequestError("index", "must not be empty")
    return f"/.whyrank/_doc/{quote(index, safe='')}"


def _found(answer: httpx.Response) -> bool:
    return answer.status_code not in _ABSENT


def _nothing(_: httpx.Response) -> None:
    return None
