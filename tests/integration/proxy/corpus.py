"""The searches of searches/*.txt, the documents that they are about, and an index of these on one engine."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

import msgspec

from tests.integration.proxy.conftest import Rig

FOLDER = Path(__file__).with_name("searches")
COUNT = 60
SHORT = '"query":{"match":{"body":"alpha zeta"}}'
VECTOR = "[0.3,0.9,0.1]"

_LINE = re.compile(
    r"(?:(?P<engine>os|es) )?(?:(?P<method>GET) )?(?P<headers>(?:\w+=\S+ )*)(?P<target>[/?]\S*)? ?(?P<body>.*)"
)
_HEADERS = {"accept": "accept", "type": "content-type"}
_ENGINES = {"os": "opensearch", "es": "elasticsearch"}


@dataclass(frozen=True)
class Search:
    """One line. `engine` is the one engine that takes it; None: both do, or for `wrong`, neither."""

    name: str
    engine: str | None
    wrong: bool
    method: str
    target: str
    headers: dict[str, str]
    body: str
    """May hold `$INDEX` and `$PIT`, as the target may."""

    def is_answered(self, kind: str) -> bool:
        return not self.wrong and self.engine in (None, kind)


def _read(line: str, name: str, wrong: bool) -> Search:
    found = _LINE.fullmatch(line)
    assert found, line
    body = found["body"].replace("@", SHORT).replace("$VECTOR", VECTOR)
    headers = dict(pair.split("=", 1) for pair in found["headers"].split())
    return Search(
        name=name,
        engine=_ENGINES.get(found["engine"] or ""),
        wrong=wrong,
        method=found["method"] or "POST",
        target=_target(found["target"] or ""),
        headers={_HEADERS[key]: value for key, value in headers.items()},
        body=body.removeprefix("| "),
    )


def _target(written: str) -> str:
    path, mark, query = written.partition("?")
    # a raw brace or quotation mark is no part of a URL: whoever writes one has it encoded by the client
    return (path or "/$INDEX/_search") + mark + quote(query, safe="%&=+,:*-/;()~_.")


def searches() -> list[Search]:
    """All of them, each named after its file and line."""
    found = []
    for file in sorted(FOLDER.glob("*.txt")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if line and not line.startswith("#"):
                found.append(_read(line, f"{file.stem}:{number}", file.stem == "wrong"))
    return found


def document(n: int) -> bytes:
    """A document's bytes, with much that a decode to Python values would not keep.

    The engine likes those that say "alpha" often; the judge those that hold all the words of a query.
    """
    body = "alpha " * (n % 5 + 1) + ("beta " if n % 4 == 0 else "") + ("words " * (n % 7)) + ("zeta " * (n % 3 == 0))
    values: dict[str, Any] = {
        "body": body + ("rare " if n % 20 == 0 else "") + f"and so on {n}.",
        "group": f"g{n % 3}",
        "tags": [f"t{k}" for k in range(n % 4)],
        "twin": n // 2,
        "n": n,
        "need": n % 3 + 1,
        "date": f"2026-01-{n % 28 + 1:02}T0{n % 10}:00:00Z",
        "flag": n % 2 == 0,
        "address": f"10.0.0.{n}",
        "place": {"lat": 52 + n / 10, "lon": 4 - n / 10},
        "span": {"gte": n, "lte": n + 5},
        "weight": n + 1,
        "vector": [n % 7 + 1, n % 5, n % 3],
        "complete": {"input": f"title {n}", "weight": n},
        "comments": [{"text": f"comment {k} on alpha {n}", "by": f"u{n % 9}", "stars": k} for k in range(n % 4)],
        "author": {"name": f"author {n}" if n % 5 else "an author whose name is too long for the index"},
        "long": "ignored",
    }
    if n % 6 == 0:
        values["missing"] = n
    if n % 11 == 10:
        del values["body"]
    lone = rb" \ud800" if n == 13 else b""
    written = [
        b'"raw" : {"price":1.10,"big":%d,"inf":1e400,"tiny":-0.0E-7 , "deep":[[],[{"a":null}]]}' % (2**70 + n),
        rb'"title":"Caf\u00e9 \/ \ud83d\udc5f%b %d"' % (lone, n),
        b'"price":%d.50' % n,
    ]
    return b"{" + b",".join(written) + b"," + json.dumps(values).encode()[1:]


def mappings(kind: str) -> dict[str, Any]:
    keyword, text, integer = {"type": "keyword"}, {"type": "text"}, {"type": "integer"}
    opensearch = {"vector": {"type": "float"}, "weight": {"type": "rank_feature"}}
    vector = {"type": "dense_vector", "dims": 3, "similarity": "cosine", "index_options": {"type": "hnsw"}}
    marked = {"type": "text", "term_vector": "with_positions_offsets"}
    return {
        "properties": {
            **dict.fromkeys(("group", "tags"), keyword),
            **dict.fromkeys(("n", "need", "twin", "missing"), integer),
            "body": {"type": "text", "fields": {"marked": marked}},
            "title": {"type": "text", "store": True},
            "other": {"type": "alias", "path": "body"},
            "date": {"type": "date"},
            "price": {"type": "double"},
            "flag": {"type": "boolean"},
            "address": {"type": "ip"},
            "place": {"type": "geo_point"},
            "span": {"type": "integer_range"},
            "complete": {"type": "completion"},
            "comments": {"type": "nested", "properties": {"text": text, "by": keyword, "stars": integer}},
            "author": {"properties": {"name": {"type": "keyword", "ignore_above": 12}}},
            "raw": {"type": "object", "enabled": False},
            **(opensearch if kind == "opensearch" else {"vector": vector, "weight": {"type": "float"}}),
        }
    }


@dataclass
class Corpus:
    """An index of the documents, on two shards of one segment each, so that an engine's own order never changes."""

    rig: Rig
    index: str
    pit: str = ""

    def target(self, search: Search) -> str:
        return search.target.replace("$INDEX", self.index)

    def body(self, search: Search) -> bytes | None:
        """As the proxy would write it if it took something out: only the outermost blanks are changed."""
        text = search.body.replace("$INDEX", self.index).replace("$PIT", self.pit).encode()
        return compact(text) or None


def is_object(body: bytes | None) -> TypeGuard[bytes]:
    """Whether this is a JSON object in which no name stands twice."""
    try:
        pairs = json.loads(body or b"", object_pairs_hook=list)
    except ValueError:
        return False
    return body is not None and body.startswith(b"{") and len(pairs) == len(dict(pairs))


def compact(body: bytes) -> bytes:
    """A JSON object without the blanks between its members; anything else as it is."""
    return msgspec.json.encode(msgspec.json.decode(body, type=dict[str, msgspec.Raw])) if is_object(body) else body


@asynccontextmanager
async def filled(rig: Rig) -> AsyncIterator[Corpus]:
    """The corpus on this rig's engine, and a point in time of it."""
    corpus = Corpus(rig, f"{rig.plain}-{uuid.uuid4().hex[:6]}")
    settings = {"number_of_shards": 2, "number_of_replicas": 0, "refresh_interval": -1}
    made = await rig.direct("PUT", f"/{corpus.index}", {"settings": settings, "mappings": mappings(rig.kind)})
    assert made.status == 200, made.body
    try:
        lines = b"".join(b'{"index":{"_id":"%d"}}\n%b\n' % (n, document(n)) for n in range(COUNT))
        kind = {"content-type": "application/x-ndjson"}
        loaded = await rig.direct("POST", f"/{corpus.index}/_bulk", lines, **kind)
        assert b'"errors":false' in loaded.body, loaded.body[:2000]
        for step in ("_refresh", "_forcemerge?max_num_segments=1", "_refresh"):
            assert (await rig.direct("POST", f"/{corpus.index}/{step}")).status == 200
        opening = "_search/point_in_time" if rig.kind == "opensearch" else "_pit"
        opened = await rig.direct("POST", f"/{corpus.index}/{opening}?keep_alive=10m")
        corpus.pit = opened.json()["pit_id" if rig.kind == "opensearch" else "id"]
        yield corpus
    finally:
        close = {"pit_id": [corpus.pit]} if rig.kind == "opensearch" else {"id": corpus.pit}
        await rig.direct("DELETE", "/_search/point_in_time" if rig.kind == "opensearch" else "/_pit", close)
        await rig.direct("DELETE", "/_search/scroll/_all")
        await rig.direct("DELETE", f"/{corpus.index}")
