"""The stage `mine` on real engines: whole, killed and gone on with, from a watermark, from users' clicks."""

from __future__ import annotations

import asyncio
import io
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from ingest.load import MAPPINGS, SETTINGS, load
from ingest.stackexchange import StackExchange
from tests.conftest import ROOT
from tests.unit.training.mined import link, paragraph, plain, source
from training import records
from training.mine import GROUPS, WATERMARK, Known, MineConfig, SplitBy, run
from training.recipe import Recipe
from training.records import Group, Role, Source, Split
from training.stages import Report, RunFolder, Stage, StageError
from whyrank.engines import Engine, connect
from whyrank.errors import BadRequestError, EngineError, IndexMissingError
from whyrank.passages import estimate_tokens
from whyrank.settings import Settings

DUMP = ROOT.parent / "shared" / "data" / "stackexchange-quantumcomputing"


@pytest.fixture(params=["opensearch", "elasticsearch"])
def engine_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def engine(engine_url: str) -> AsyncIterator[Engine]:
    engine = await connect(Settings(engine_url=engine_url))
    yield engine
    await engine.close()


@pytest.fixture
async def index(engine: Engine) -> AsyncIterator[str]:
    name = f"whyrank-mine-{uuid.uuid4().hex[:12]}"
    await engine.ensure_index(name, MAPPINGS, SETTINGS)
    yield name
    await engine.delete_index(name)


async def fill(engine: Engine, index: str, documents: dict[str, dict[str, Any]]) -> None:
    result = await engine.bulk(index, documents.items())
    assert result.failures == ()
    await engine.refresh(index)


def site(count: int = 150) -> dict[str, dict[str, Any]]:
    """Pages of two sites that link to each other, one copied to another address."""
    pages = {f"p{i:03}": plain(f"p{i:03}", site=f"site{i % 2}") for i in range(count)}
    for number, (name, page) in enumerate(pages.items()):
        target = f"p{(number * 7 + 1) % count:03}"
        place = pages[target]["fragments"][1]["id"]
        words = paragraph(f"anchor {name}").split()[:4]
        page["links"] = [link(f"{target}#{place}", " ".join(words), pages[target]["site"])]
    pages["copy"] = {**pages["p004"], "url": "https://mirror/p004", "site": "mirror", "links": []}
    return pages


async def mine(folder: Path, url: str, config: MineConfig) -> Report:
    def go() -> Report:
        settings = Settings(engine_url=url)
        return run(RunFolder(folder), config, settings, Recipe("test", "embedded"), lambda *_: None)

    return await asyncio.to_thread(go)


def groups(folder: Path) -> list[Group]:
    return list(records.read(folder / "mine" / GROUPS, Group))


def page_of(passage: str) -> str:
    return passage.rpartition("#")[0]


async def test_an_index_becomes_groups(engine: Engine, engine_url: str, index: str, tmp_path: Path) -> None:
    await fill(engine, index, site())
    config = MineConfig(index=index, passage_tokens=160, scan_page=40)
    report = await mine(tmp_path, engine_url, config)
    assert RunFolder(tmp_path).report(Stage.MINE) == report
    found = groups(tmp_path)
    assert (report.figures["pages"], report.figures["documents"], report.figures["new_pages"]) == (151, 151, 151)
    assert sum(report.figures["groups"].values()) == len(found) > 500
    assert {group.source for group in found} == {Source.ANCHOR, Source.HEADING, Source.SENTENCE}
    assert {group.split for group in found} == set(Split)
    assert len({group.id for group in found}) == len(found)
    known = {seen.id: seen.split for seen in records.read(tmp_path / "mine" / WATERMARK, Known)}
    assert known["copy"] == known["p004"]
    asked: dict[str, Split] = {}
    for group in found:
        assert asked.setdefault(group.query.casefold(), group.split) == group.split
        assert group.split == known[group.origin]
        assert len(group.passages) == 8
        assert {passage.role for passage in group.passages} >= {Role.POSITIVE}
        if group.split is Split.TRAIN:
            assert {known[page_of(passage.id)] for passage in group.passages} == {Split.TRAIN}
        assert max(estimate_tokens(passage.text) for passage in group.passages) <= 160
    assert report.figures["passages_by_role"]["hard"] > 2 * len(found)
    headings = [group for group in found if group.source is Source.HEADING]
    # The title is in the query, so the engine finds the page; the passage that answers is the section
    scored = [p.engine_score is not None for g in headings for p in g.passages if p.role is Role.POSITIVE]
    assert sum(scored) > 0.9 * len(headings)
    assert not (tmp_path / "mine" / "work").exists()


@pytest.mark.parametrize("engine_url", ["opensearch"], indirect=True)
async def test_killed_again_and_again_it_ends_with_the_same_bytes(
    engine: Engine, engine_url: str, index: str, tmp_path: Path
) -> None:
    await fill(engine, index, site(90))
    config = MineConfig(index=index, passage_tokens=160, scan_page=25, groups_per_source=60, search_batch=16)
    await mine(tmp_path / "undisturbed", engine_url, config)

    words = [str(tmp_path / "killed"), msgspec.json.encode(config).decode(), engine_url]
    ends = []
    for _ in range(40):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.training.mine_run", *words, "5", cwd=ROOT
        )
        ends.append(await process.wait())
        if ends[-1] != -signal.SIGKILL:
            break
    assert ends[-1] == 0
    assert len(ends) >= 4
    for name in (GROUPS, WATERMARK, "groups.manifest.json"):
        killed, undisturbed = (tmp_path / run / "mine" / name for run in ("killed", "undisturbed"))
        assert killed.read_bytes() == undisturbed.read_bytes()
    assert untimed(tmp_path / "killed") == untimed(tmp_path / "undisturbed")


def untimed(folder: Path) -> dict[str, Any]:
    report = RunFolder(folder).report(Stage.MINE)
    assert report is not None
    return {name: value for name, value in report.figures.items() if "second" not in name}


@pytest.mark.parametrize("engine_url", ["opensearch"], indirect=True)
async def test_from_a_watermark_only_what_is_new_makes_groups(
    engine: Engine, engine_url: str, index: str, tmp_path: Path
) -> None:
    pages = site(80)
    await fill(engine, index, pages)
    config = MineConfig(index=index, passage_tokens=160)
    await mine(tmp_path / "first", engine_url, config)
    watermark = tmp_path / "first" / "mine" / WATERMARK
    again = msgspec.structs.replace(config, since=str(watermark))
    nothing = await mine(tmp_path / "nothing", engine_url, again)
    assert (nothing.figures["new_pages"], groups(tmp_path / "nothing")) == (0, [])
    assert (tmp_path / "nothing" / "mine" / WATERMARK).read_bytes() == watermark.read_bytes()

    new = {f"new{i}": plain(f"new{i}", site="site0") for i in range(10)}
    new["p005"] = source("p005", {"Rewritten part": paragraph("rewritten", 6)}, site="site1")
    await fill(engine, index, new)
    report = await mine(tmp_path / "second", engine_url, again)
    assert report.figures["new_pages"] == 11
    found = groups(tmp_path / "second")
    assert {group.origin for group in found} == set(new)
    assert any(page_of(passage.id) not in new for group in found for passage in group.passages)
    before = {seen.id: seen.split for seen in records.read(watermark, Known)}
    after = {seen.id: seen.split for seen in records.read(tmp_path / "second" / "mine" / WATERMARK, Known)}
    assert {id_: after[id_] for id_ in before} == before
    assert set(after) - set(before) == {f"new{i}" for i in range(10)}


@pytest.mark.parametrize("engine_url", ["opensearch"], indirect=True)
async def test_users_clicks_become_groups(engine: Engine, engine_url: str, index: str, tmp_path: Path) -> None:
    pages = site(60)
    await fill(engine, index, pages)
    keyword = {"type": "keyword"}
    names = {kind: f"{index}-ubi-{kind}" for kind in ("queries", "events")}
    fields = {"query_id": keyword, "user_query": keyword, "action_name": keyword}
    for name in names.values():
        await engine.ensure_index(name, {"dynamic": False, "properties": fields}, SETTINGS)
    try:
        asked = {f"q{i}": {"query_id": f"q{i}", "user_query": _words_of(pages[f"p{i % 6:03}"])} for i in range(12)}
        clicks = {
            f"e{i}-{n}": {
                "query_id": f"q{i}",
                "action_name": action,
                "event_attributes": {"object": {"object_id": f"p{i % 6:03}", "object_id_field": "_id"}},
            }
            for i in range(12)
            for n, action in enumerate(["impression", "click", "click"])
        }
        await fill(engine, names["queries"], asked)
        await fill(engine, names["events"], clicks)
        config = MineConfig(
            index=index,
            sources=(Source.UBI,),
            ubi_queries=names["queries"],
            ubi_events=names["events"],
            passage_tokens=160,
            min_clicks=4,
        )
        report = await mine(tmp_path / "first", engine_url, config)
        found = groups(tmp_path / "first")
        assert len(found) == report.figures["queries"] == 6
        for group in found:
            (positive,) = [passage for passage in group.passages if passage.role is Role.POSITIVE]
            assert group.query == _words_of(pages[page_of(positive.id)])
        since = msgspec.structs.replace(config, since=str(tmp_path / "first" / "mine" / WATERMARK))
        assert (await mine(tmp_path / "again", engine_url, since)).figures["queries"] == 0
    finally:
        for name in names.values():
            await engine.delete_index(name)


def _words_of(page: dict[str, Any]) -> str:
    return " ".join(page["body"].split("\n")[1].split()[:5])


@pytest.mark.parametrize("engine_url", ["opensearch"], indirect=True)
async def test_what_cannot_be_mined_is_said(engine: Engine, engine_url: str, index: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match=r"mine\.index"):
        await mine(tmp_path / "a", engine_url, MineConfig())
    with pytest.raises(IndexMissingError):
        await mine(tmp_path / "b", engine_url, MineConfig(index="whyrank-nowhere"))
    with pytest.raises(StageError, match="no documents with text in 'body'"):
        await mine(tmp_path / "c", engine_url, MineConfig(index=index))
    await fill(engine, index, {"a": plain("a")})
    with pytest.raises(EngineError, match="no_such_field"):
        await mine(tmp_path / "d", engine_url, MineConfig(index=index, key="no_such_field"))
    # Another configuration begins anew where that one stopped
    await mine(tmp_path / "d", engine_url, MineConfig(index=index))


@pytest.mark.parametrize("engine_url", ["opensearch"], indirect=True)
@pytest.mark.skipif(not DUMP.exists(), reason="the Stack Exchange dump is not on this machine")
async def test_a_stack_exchange_site_end_to_end(engine: Engine, engine_url: str, index: str, tmp_path: Path) -> None:
    dump = StackExchange(DUMP, "quantumcomputing.stackexchange.com")
    documents = list(dump.documents())
    assert dump.skipped == []
    questions = [document for document in documents if document.post and document.post.kind == "question"]
    assert (len(questions), len(documents)) == (612, 1672)
    result = await load(engine, index, documents, total=None, console=Console(file=io.StringIO()))
    assert (result.indexed, result.failures) == (1672, ())
    config = MineConfig(index=index, sources=(Source.STACKEXCHANGE, Source.ANCHOR), groups_per_source=300)
    report = await mine(tmp_path, engine_url, config)
    found = groups(tmp_path)
    by_id = {document.id: document for document in documents}
    asked = [group for group in found if group.source is Source.STACKEXCHANGE]
    assert len(asked) > 280
    own = 0
    for group in asked:
        question = by_id[group.origin]
        assert group.query.startswith(question.title)
        assert group.origin not in {page_of(passage.id) for passage in group.passages}
        positives = [by_id[page_of(p.id)].post for p in group.passages if p.role is Role.POSITIVE]
        own += any(post is not None and post.parent == group.origin for post in positives)
        # An answer shows without its question's title
        assert not any(p.text.startswith(question.title) for p in group.passages if p.role is Role.POSITIVE)
    assert own > 0.9 * len(asked)
    assert report.figures["groups"]["stackexchange.test"] > 5
    split: dict[str, Split] = {}
    for group in asked:
        assert split.setdefault(group.origin, group.split) == group.split


def test_configurations_are_checked() -> None:
    assert msgspec.convert({"index": "a", "split_by": "site", "sources": ["anchor"]}, MineConfig) == MineConfig(
        index="a", split_by=SplitBy.SITE, sources=(Source.ANCHOR,)
    )
    for wrong in ({"group_size": 1}, {"test_share": 0.9}, {"sources": ["nothing"]}, {"no_such": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, MineConfig)
