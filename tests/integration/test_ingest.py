"""The documentation of this Python in a real engine, by the command itself."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator

import pytest

from whyrank.engines import Engine, connect
from whyrank.settings import Settings


@pytest.fixture
async def engine(opensearch_url: str) -> AsyncIterator[Engine]:
    engine = await connect(Settings(engine_url=opensearch_url))
    yield engine
    await engine.close()


@pytest.fixture
async def index(engine: Engine) -> AsyncIterator[str]:
    name = f"whyrank-ingest-{uuid.uuid4().hex[:12]}"
    yield name
    await engine.delete_index(name)


async def ingest(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "ingest", *arguments, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_python_docs_twice_and_found(engine: Engine, index: str, opensearch_url: str) -> None:
    counts = []
    for _ in range(2):
        code, out, err = await ingest("--python-docs", "--index", index, "--engine-url", opensearch_url, "--json")
        assert (code, err) == (0, "")
        summary = json.loads(out)
        assert (summary["refused"], summary["skipped"]) == ([], [])
        counts.append((summary["indexed"], await engine.count(index)))
    assert counts[0] == counts[1]
    assert counts[0][0] == counts[0][1] > 3000
    query = {"multi_match": {"query": "serialize obj to a JSON formatted str", "fields": ["title", "body"]}}
    answer = await engine.search(index, {"query": query, "size": 5})
    assert "json.dumps" in [hit["_id"] for hit in answer["hits"]["hits"]]
    stemmed = await engine.search(index, {"query": {"match": {"body": "serializing"}}, "size": 100})
    assert stemmed["hits"]["total"]["value"] > 5
