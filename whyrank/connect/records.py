"""What `whyrank connect --apply` did, kept in the engine's index `.whyrank`, so that anybody may take it back."""

from __future__ import annotations

from typing import Any

import msgspec

from whyrank.connect.steps import Door, Undo
from whyrank.engines import Engine
from whyrank.engines.policies import INDEX_BODY, POLICY_INDEX
from whyrank.errors import EngineError, IndexMissingError

_KIND = "connection"


class Record(msgspec.Struct, frozen=True):
    """One door that was connected; `undo` in the order in which it is carried out. Holds no secret."""

    door: Door
    target: str
    """The index, or the name of the endpoint or pipeline."""
    applied: float
    """Seconds since the epoch."""
    undo: tuple[Undo, ...]


class Records:
    """The records of one engine. Every call raises EngineError and its kin."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def load(self, door: Door, target: str) -> Record | None:
        """None when this was not applied, or taken back. Raises EngineError for one that cannot be read."""
        try:
            document = await self._engine.get_document(POLICY_INDEX, _id(door, target))
        except IndexMissingError:
            return None
        if document is None:
            return None
        try:
            return msgspec.convert(document.get("connection"), Record)
        except msgspec.ValidationError as error:
            raise EngineError(f"the record {_id(door, target)} in {POLICY_INDEX} cannot be read: {error}") from error

    async def save(self, record: Record) -> None:
        """Keep or replace the record."""
        await self._engine.ensure_index(POLICY_INDEX, INDEX_BODY["mappings"], INDEX_BODY["settings"])
        document: dict[str, Any] = {"kind": _KIND, "connection": msgspec.to_builtins(record)}
        await self._engine.put_document(POLICY_INDEX, _id(record.door, record.target), document, refresh=True)

    async def forget(self, record: Record) -> None:
        """It was taken back."""
        await self._engine.delete_document(POLICY_INDEX, _id(record.door, record.target), refresh=True)


def _id(door: Door, target: str) -> str:
    # no index may have a colon in its name, so no policy is kept under such an id
    return f"connection:{door.value}:{target}"
