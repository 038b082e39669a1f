"""Every search of searches/*.txt, sent to each engine and through the proxy: not rescored, it is the same answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.proxy.answers import comparable, settled
from tests.integration.proxy.conftest import Answer, Rig
from tests.integration.proxy.corpus import Corpus, Search, filled, is_object, searches
from whyrank.types import Policy

SEARCHES = searches()
OFF = b'{"ext":{"whyrank":{"enabled":false}}'
"""For the beginning of a body."""


@pytest.fixture(scope="module")
async def corpus(rig: Rig) -> AsyncIterator[Corpus]:
    async with filled(rig) as corpus:
        yield corpus


def same(proxied: Answer, direct: Answer) -> None:
    assert (proxied.status, settled(proxied)) == (direct.status, settled(direct))
    assert comparable(proxied) == comparable(direct)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)
async def test_a_search_that_is_not_rescored(corpus: Corpus, search: Search) -> None:
    rig, target, body = corpus.rig, corpus.target(search), corpus.body(search)
    direct = await rig.direct(search.method, target, body, **search.headers)
    assert (direct.status == 200) == search.is_answered(rig.kind), direct.body
    again = await rig.direct(search.method, target, body, **search.headers)
    same(again, direct)  # what differs without any proxy would tell nothing
    policies = rig.sidecar.policies.policies
    policies.pop(corpus.index, None)
    same(await rig.proxied(search.method, target, body, **search.headers), direct)
    policies[corpus.index] = Policy(index=corpus.index, fields=("body",), enabled=False)
    switched_off = await rig.proxied(search.method, target, body, **search.headers)
    same(switched_off, direct)
    if target.startswith(f"/{corpus.index}/") and is_object(body) and b'"ext"' not in body:
        policies[corpus.index] = Policy(index=corpus.index, fields=("body",))
        asked = body.replace(b"{", OFF if body == b"{}" else OFF + b",", 1)
        same(await rig.proxied(search.method, target, asked, **search.headers), direct)
