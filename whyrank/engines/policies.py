"""Policies in the engine: index `.whyrank`, one document for each index that has a policy.

The document's id is the index name; the policy itself is kept as it was encoded, not indexed, and is checked on
every read, because admins and other versions of WhyRank write here too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from whyrank.engines.base import Engine
from whyrank.errors import BadRequestError, EngineError, IndexMissingError
from whyrank.types import Policy

log = structlog.get_logger(__name__)

POLICY_INDEX = ".whyrank"

_MAPPINGS: dict[str, Any] = {
    "dynamic": False,
    "properties": {
        "kind": {"type": "keyword"},
        "index": {"type": "keyword"},
        "updated": {"type": "date", "format": "epoch_millis"},
        "policy": {"type": "object", "enabled": False},
    },
}
_SETTINGS: dict[str, Any] = {"number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": True}
INDEX_BODY: Mapping[str, Any] = {"mappings": _MAPPINGS, "settings": _SETTINGS}
"""What the policies' index is made of, for who makes it without an Engine."""
_KIND = "policy"
_MOST = 10_000
"""Policies read at most: the engines' own limit for one search."""
_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")


class PolicyStore:
    """Reads and writes policies. Every call raises EngineError and its kin when the engine does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reported: dict[str, str] = {}

    async def put(self, policy: Policy) -> None:
        """Write or replace the policy of `policy.index`; readers see it when this returns.

        Raises BadRequestError, naming the field, where a value is outside of its bounds.
        """
        document = document_of(policy)
        await self._engine.ensure_index(POLICY_INDEX, _MAPPINGS, _SETTINGS)
        await self._engine.put_document(POLICY_INDEX, policy.index, document, refresh=True)

    async def delete(self, index: str) -> bool:
        """Delete the policy of this index; False when it had none."""
        try:
            return await self._engine.delete_document(POLICY_INDEX, index, refresh=True)
        except IndexMissingError:
            return False

    async def get(self, index: str) -> Policy | None:
        """The policy of this index; None when it has none, or one that cannot be read (which is logged)."""
        try:
            document = await self._engine.get_document(POLICY_INDEX, index)
        except IndexMissingError:
            return None
        return None if document is None else self._read(index, document)

    async def list(self) -> dict[str, Policy]:
        """All policies by index name. A broken document is skipped and logged, once until it changes."""
        body = {"size": _MOST, "query": {"term": {"kind": _KIND}}}
        try:
            answer = await self._engine.search(POLICY_INDEX, body)
        except IndexMissingError:
            return {}
        if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
            # A part of the policies is worse than none: the rest would seem to be disabled.
            raise EngineError("the engine answered with a part of the policies only")
        policies: dict[str, Policy] = {}
        for hit in answer["hits"]["hits"]:
            policy = self._read(hit["_id"], hit["_source"])
            if policy is not None:
                policies[policy.index] = policy
        return policies

    def _read(self, id_: str, document: Mapping[str, Any]) -> Policy | None:
        try:
            policy = msgspec.convert(document.get("policy"), Policy)
        except msgspec.ValidationError as error:
            self._report(id_, str(error))
            return None
        if policy.index != id_:
            self._report(id_, f"it is for another index, {policy.index!r}")
            return None
        self._reported.pop(id_, None)
        return policy

    def _report(self, id_: str, reason: str) -> None:
        if self._reported.get(id_) != reason:
            self._reported[id_] = reason
            log.warning("policy_broken", index=id_, store=POLICY_INDEX, reason=reason)


def document_of(policy: Policy) -> dict[str, Any]:
    """What is kept of a policy, under the id `policy.index`.

    Raises BadRequestError, naming the field, where a value is outside of its bounds.
    """
    return {
        "kind": _KIND,
        "index": policy.index,
        "updated": int(time.time() * 1000),
        "policy": msgspec.to_builtins(_checked(policy)),
    }


def _checked(policy: Policy) -> Policy:
    """The policy, once its bounds hold: a Struct made in code is not checked when it is made."""
    try:
        return msgspec.convert(msgspec.to_builtins(policy), Policy)
    except msgspec.ValidationError as error:
        message = str(error)
        where = _WHERE.search(message)
        raise BadRequestError(where[1] if where else "policy", _WHERE.sub("", message)) from error
