"""The proxy: nothing changes in the engine; the application points at the sidecar."""

from __future__ import annotations

from whyrank.connect.steps import SOME_INDEX, Door, Plan, Request
from whyrank.connect.survey import Asks, Survey
from whyrank.connect.wish import Wish


def unfit(survey: Survey) -> None:
    """It works with every engine."""
    del survey


async def plan(engine: Asks, survey: Survey, wish: Wish) -> Plan:
    """Sentences alone: there is nothing to be done in the engine."""
    del engine
    index = wish.index or SOME_INDEX
    notes = [
        f"Point the application at {wish.sidecar_url} in place of {wish.engine_url or 'the engine'}; everything that "
        "is not a search of an index with a policy passes through byte for byte.",
        f"The sidecar must stand before this very engine ({survey.name}): WHYRANK_ENGINE_URL of its environment.",
    ]
    if wish.policy is None or not wish.policy.enabled:
        fields = ",".join(wish.fields) or "title,body"
        notes.append(f"Searches are rescored once the index has a policy: whyrank enable {index} --fields {fields}")
    body = {"query": {"multi_match": {"query": "words of a user", "fields": list(wish.fields) or ["*"]}}}
    return Plan(Door.PROXY, (), tuple(notes), Request("POST", f"/{index}/_search", body))
