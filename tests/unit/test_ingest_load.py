"""Loading documents, and the command's words and exit codes, on a fake engine."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import structlog
from rich.console import Console
from typer.testing import CliRunner

from ingest import __main__ as program
from ingest.documents import Document, Link, make_document
from ingest.load import load
from tests.fakes.engine import FakeEngine
from whyrank.engines import BulkFailure, BulkResult, Documents, Engine
from whyrank.errors import EngineUnavailableError
from whyrank.settings import Settings


def documents(count: int) -> list[Document]:
    link = Link(url="https://example.org/b", anchor="b")
    return [
        make_document(id=str(i), url=f"https://example.org/{i}", title=f"t{i}", body="text", site="s", links=(link,))
        for i in range(count)
    ]


async def test_a_document_is_written_without_its_id_and_seen_at_once() -> None:
    engine = FakeEngine()
    (document,) = documents(1)
    result = await load(engine, "docs", [document], total=1, console=Console(file=io.StringIO()))
    assert (result.indexed, result.failures) == (1, ())
    assert await engine.count("docs") == 1
    source = await engine.get_document("docs", "0")
    assert source is not None
    assert "id" not in source
    assert source["links"] == [{"url": "https://example.org/b", "anchor": "b"}]
    assert source["content_hash"] == document.content_hash


async def test_a_terminal_shows_progress_and_a_file_does_not() -> None:
    shown, silent = io.StringIO(), io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=120)
    await load(FakeEngine(), "docs", documents(30), total=30, console=terminal)
    await load(FakeEngine(), "docs", documents(30), total=30, console=Console(file=silent))
    assert "30/30" in shown.getvalue()
    assert silent.getvalue() == ""


class Refusing(FakeEngine):
    """Refuses the document `sub/b.html`."""

    async def bulk(self, index: str, documents: Documents) -> BulkResult:
        result = await super().bulk(index, documents)
        refused = BulkFailure(id="sub/b.html", status=400, reason="mapper_parsing_exception: [no]")
        return BulkResult(indexed=result.indexed - 1, failures=(refused,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text("<title>A</title>")
    (tmp_path / "sub" / "b.html").write_text("<title>B</title>")
    (tmp_path / "gone.html").symlink_to("nowhere.html")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, engine: FakeEngine, *arguments: str) -> tuple[int, str, str]:
    async def connect(settings: Settings) -> Engine:
        if engine.down:
            raise EngineUnavailableError(f"no engine answers at {settings.engine_url}")
        return engine

    monkeypatch.setattr(program, "connect", connect)
    result = CliRunner().invoke(program.app, arguments)
    structlog.reset_defaults()  # the program sets its own for its whole process
    return result.exit_code, result.stdout, result.stderr


def test_the_summary_is_json_on_standard_output(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    code, out, err = run(monkeypatch, FakeEngine(), "--pages", str(folder), "--index", "docs", "--json")
    assert code == 0
    summary = json.loads(out)
    assert (summary["index"], summary["indexed"], summary["refused"]) == ("docs", 2, [])
    assert summary["skipped"] == [{"name": "gone.html", "reason": "No such file or directory"}]
    assert "skipped: gone.html: No such file or directory" in err


def test_pages_that_the_engine_refuses_are_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    code, out, err = run(monkeypatch, Refusing(), "--pages", str(folder), "--index", "docs")
    assert code == 3
    assert out == ""
    assert "refused by the engine: sub/b.html: mapper_parsing_exception: [no]" in err


def test_a_stack_exchange_dump_is_indexed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = '<row Id="1" PostTypeId="1" Title="t" Body="b"/><row Id="2" PostTypeId="2" ParentId="1" Body="a"/>'
    (tmp_path / "Posts.xml").write_text(f"<posts>{rows}<row Id='3' PostTypeId='1'/></posts>")
    arguments = ["stackexchange", str(tmp_path), "--site", "x.example.org", "--index", "docs", "--json"]
    code, out, err = run(monkeypatch, FakeEngine(), *arguments)
    assert (code, json.loads(out)["indexed"]) == (0, 2)
    assert "skipped: post 3: no Body" in err
    (tmp_path / "Posts.xml").write_text("<posts>")
    code, _, err = run(monkeypatch, FakeEngine(), *arguments)
    assert (code, "no element found" in err) == (1, True)


def test_debian_packages_are_indexed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "a-doc" / "usr" / "share" / "doc"
    folder.mkdir(parents=True)
    for i in range(5):
        (folder / f"{i}.html").write_text("<p>text")
    arguments = ["debian", "a-doc", "--into", str(tmp_path), "--index", "docs", "--limit", "3", "--json"]
    code, out, _ = run(monkeypatch, FakeEngine(), *arguments)
    assert (code, json.loads(out)["indexed"]) == (0, 3)


def test_an_engine_that_is_down_is_said(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    engine = FakeEngine()
    engine.down = True
    code, _, err = run(
        monkeypatch, engine, "--pages", str(folder), "--index", "docs", "--engine-url", "http://engine.example"
    )
    assert code == 1
    assert err.strip() == "error: no engine answers at http://engine.example"


def test_an_empty_source_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, _, err = run(monkeypatch, FakeEngine(), "--pages", str(tmp_path), "--index", "docs")
    assert code == 1
    assert "no pages" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--index", "docs"],
        ["--python-docs"],
        ["--index", "docs", "--python-docs", "--pages", "."],
        ["--index", "docs", "--pages", "/no/such/folder"],
        ["stackexchange", "/tmp"],
        ["stackexchange", "/tmp", "--index", "docs", "--site", "no host"],
        ["debian", "--index", "docs", "--into", "debs"],
        ["debian", "a-doc", "--index", "docs"],
        ["debian", "-x", "--index", "docs", "--into", "debs"],
        ["--index", "docs", "debian", "a-doc", "--index", "docs", "--into", "debs"],
    ],
)
def test_wrong_usage(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    code, out, err = run(monkeypatch, FakeEngine(), *arguments)
    assert code == 2
    assert out == ""
    assert err


def test_settings_that_cannot_be_read_are_wrong_usage(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("WHYRANK_PORT", "many")
    code, _, err = run(monkeypatch, FakeEngine(), "--pages", str(folder), "--index", "docs")
    assert code == 2
    assert "port" in err
