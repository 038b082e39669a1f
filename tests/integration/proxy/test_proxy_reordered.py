"""Every search of searches/*.txt through the proxy with rescoring on: the same hits in another order, nothing else.

What the page has to be made of is read off the engine: its answer to the same search from 0, as long as the window.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import pytest
from msgspec.structs import replace

from tests.fakes.sidecar import judge
from tests.integration.proxy import answers
from tests.integration.proxy.answers import hits, members, section, settled, value, whole
from tests.integration.proxy.conftest import Answer, Rig
from tests.integration.proxy.corpus import Corpus, Search, filled, searches
from whyrank.types import Pair, Policy, Verdict

SEARCHES = searches()
WINDOW = 40
PER_SEARCH = {"took", "phase_took", "profile", "pit_id"}
"""A profile is one of the search that was run: wider than the one that was asked for."""


def by_lot(pair: Pair) -> Verdict:
    """A verdict that has nothing to do with what the engine thinks, so that every window is shuffled."""
    relevance = int.from_bytes(hashlib.blake2b(pair.key.encode(), digest_size=2).digest()) / 65535
    return replace(judge(pair), relevance=relevance)


@pytest.fixture(scope="module")
async def corpus(rig: Rig) -> AsyncIterator[Corpus]:
    async with filled(rig) as corpus:
        policy = Policy(index=corpus.index, fields=("title", "body"), window=WINDOW, deadline_ms=60_000)
        rig.sidecar.policies.policies[corpus.index] = policy
        rig.sidecar.jobs.judge = by_lot
        rig.sidecar.cache.verdicts.clear()  # other tests' judge has seen the same texts
        yield corpus
        rig.sidecar.jobs.judge = judge
        del rig.sidecar.policies.policies[corpus.index]


@pytest.fixture(scope="module")
def rescored() -> Counter[tuple[str, str]]:
    """How many searches there were of each engine and kind."""
    return Counter()


class Asked:
    """One search, as it is and as wide as a window."""

    def __init__(self, corpus: Corpus, search: Search) -> None:
        self._rig, self._search = corpus.rig, search
        self.target, self.body = corpus.target(search), corpus.body(search)
        self._path, _, query = self.target.partition("?")
        self._params = dict(part.partition("=")[::2] for part in query.split("&") if part)

    async def send(self, base: str) -> Answer:
        return await self._rig.send(base, self._search.method, self.target, self.body, **self._search.headers)

    async def send_wide(self, base: str, window: int) -> Answer:
        params, body = {**self._params, "from": "0", "size": str(window)}, json.loads(self.body or b"{}")
        say_k(body, self.page()[1])
        target = self._path + "?" + "&".join(f"{name}={value}" for name, value in params.items())
        sent = json.dumps(body).encode() if self.body else None
        return await self._rig.send(base, self._search.method, target, sent, **self._search.headers)

    def page(self) -> tuple[int, int]:
        """From, size: the URL's before the body's."""
        body = self.body or unquote(self._params.get("source", "{}"))
        said = {"from": 0, "size": 10, **json.loads(body), **self._params}
        return int(float(said["from"])), int(float(said["size"]))


def say_k(part: Any, size: int) -> None:
    """What Elasticsearch takes for `k` where a vector search says none: the size of the page, not of our window."""
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        say_k(inner, size)
    if isinstance(part, dict) and "query_vector" in part:
        part.setdefault("k", size)


def same_but_for_hits(proxied: dict[str, bytes], direct: dict[str, bytes]) -> None:
    assert [name for name in proxied if name != "ext"] == [name for name in direct if name != "ext"]
    assert set(members(proxied["ext"])) == {"whyrank", *members(direct.get("ext", b"{}"))}
    for part in direct.keys() - PER_SEARCH - {"hits", "ext"}:
        assert proxied[part] == direct[part], part
    assert section(proxied) == section(direct)


def same_hits(left: list[dict[str, bytes]], right: list[dict[str, bytes]], filtered: bool) -> None:
    """The same ones, in any order; where the source is filtered, Elasticsearch writes it anew: by value."""
    key: Any = (lambda hit: json.dumps(value(hit), sort_keys=True)) if filtered else (lambda hit: sorted(hit.items()))
    assert sorted(map(key, left)) == sorted(map(key, right))


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)
async def test_a_search_that_is_rescored(corpus: Corpus, search: Search, rescored: Counter[tuple[str, str]]) -> None:
    rig, asked = corpus.rig, Asked(corpus, search)
    direct, proxied = await asked.send(rig.engine_url), await asked.send(rig.url)
    status = proxied.header("x-whyrank-status")
    rescored[rig.kind, status or "passed"] += 1
    if status != "complete":
        assert status == ("bypassed" if asked.target.startswith(f"/{corpus.index}/") else None)
        assert (proxied.status, settled(proxied)) == (direct.status, settled(direct))
        assert answers.comparable(proxied) == answers.comparable(direct)
        return
    assert (proxied.status, direct.status) == (200, 200), direct.body
    assert answers.comparable(proxied) == answers.comparable(direct)
    page = whole(proxied.body)
    same_but_for_hits(page, whole(direct.body))
    window = json.loads(members(page["ext"])["whyrank"])["window"]
    wide, their_wide = [whole((await asked.send_wide(base, window)).body) for base in (rig.url, rig.engine_url)]
    same_but_for_hits(wide, their_wide)
    filtered = any(word in search.body + search.target for word in ("_source", "stored_fields"))
    same_hits(hits(wide), hits(their_wide), filtered)
    first, size = asked.page()
    expected = hits(wide)[first : first + size]
    assert [answers.name(hit) for hit in hits(page)] == [answers.name(hit) for hit in expected]
    same_hits(hits(page), expected, filtered)
    if [answers.name(hit) for hit in hits(wide)] != [answers.name(hit) for hit in hits(their_wide)]:
        rescored[rig.kind, "reordered"] += 1


async def test_most_searches_were_reordered(corpus: Corpus, rescored: Counter[tuple[str, str]]) -> None:
    """The comparisons above have had something to compare."""
    counts = {name: count for (kind, name), count in rescored.items() if kind == corpus.rig.kind}
    if sum(count for name, count in counts.items() if name != "reordered") < len(SEARCHES):
        pytest.skip("only some of the searches ran")
    assert counts["complete"] > 200
    assert counts["reordered"] > 0.8 * counts["complete"]
