"""Debian packages: names, choice of pages and languages, and what is said when a package cannot be had."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.debian import DebianError, DebianPackages, evenly, one_language
from whyrank.errors import BadRequestError

PAGE = "<html{lang}><head><title>{name}</title></head><body><h1 id=top>{name}</h1><p>text</p></body></html>"


def unpacked(into: Path, package: str, pages: dict[str, str]) -> None:
    """As if the package had been fetched: pages by path, with the language that each declares."""
    for path, lang in pages.items():
        file = into / package / "usr" / "share" / "doc" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PAGE.format(name=path, lang=f' lang="{lang}"' if lang else ""))


def test_pages_of_packages_are_documents_of_their_sites(tmp_path: Path) -> None:
    unpacked(tmp_path, "a-doc", {"a-doc/html/one.html": "en", "a-doc/html/two.html": ""})
    unpacked(tmp_path, "b-doc", {"b-doc/three.html": "en-US"})
    source = DebianPackages(["a-doc", "b-doc", "a-doc"], tmp_path)
    source.fetch()  # nothing to do
    found = list(source.documents())
    assert [document.id for document in found] == [
        "doc/a-doc/html/one.html", "doc/a-doc/html/two.html", "doc/b-doc/three.html",
    ]  # fmt: skip
    assert found[0].url == "file:///usr/share/doc/a-doc/html/one.html"
    assert [document.site for document in found] == ["a-doc", "a-doc", "b-doc"]
    assert source.total() == 3


def test_other_languages_source_code_and_indices_are_left_out(tmp_path: Path) -> None:
    pages = {
        "d/html/en-US/a.html": "", "d/html/fr-FR/a.html": "", "d/html/zh-TW/a.html": "", "d/html/img/a.html": "",
        "d/de.html": "de", "d/fr/only.html": "", "d/_modules/x.html": "", "d/genindex-A.html": "", "d/search.html": "",
    }  # fmt: skip
    unpacked(tmp_path, "d-doc", pages)
    found = [document.id for document in DebianPackages(["d-doc"], tmp_path).documents()]
    # A lone folder that looks like a locale is kept: beside it is no English one
    assert found == ["doc/d/fr/only.html", "doc/d/html/en-US/a.html", "doc/d/html/img/a.html"]


def test_a_limit_takes_pages_evenly(tmp_path: Path) -> None:
    unpacked(tmp_path, "a-doc", {f"a/{i:03}.html": "" for i in range(100)})
    first = [d.id for d in DebianPackages(["a-doc"], tmp_path, limit=10, seed=1).documents()]
    assert first == [d.id for d in DebianPackages(["a-doc"], tmp_path, limit=10, seed=1).documents()]
    assert first != [d.id for d in DebianPackages(["a-doc"], tmp_path, limit=10, seed=2).documents()]
    numbers = [int(id_[-8:-5]) for id_ in first]
    assert {b - a for a, b in pairwise(numbers)} == {10}


@given(st.integers(0, 60), st.integers(1, 70), st.integers())
def test_evenly_gives_as_many_as_it_may_once_each_in_order(count: int, limit: int, seed: int) -> None:
    paths = [Path(f"{i:02}") for i in range(count)]
    found = evenly(paths, limit, seed)
    assert len(found) == min(count, limit)
    assert found == sorted(set(found))
    assert evenly(paths, None, seed) == paths


def test_one_language_keeps_what_is_no_translation() -> None:
    paths = [Path(name) for name in ("en/a", "fr/a", "pt-br/b/c", "library/x", "js/y", "top")]
    assert [str(path) for path in one_language(paths, "en")] == ["en/a", "library/x", "top"]
    assert [str(path) for path in one_language(paths, "fr")] == ["fr/a", "library/x", "top"]
    assert one_language(paths[1:], "en") == paths[1:]


@pytest.mark.parametrize("name", ["", "-o", "../x", "A-doc", "a b", "x=1", "a/stable"])
def test_names_that_are_none_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequestError, match="package"):
        DebianPackages([name], tmp_path)


def tools(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put shell scripts in the place of apt-get and dpkg-deb."""
    folder.mkdir()
    for name, script in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin" if len(scripts) > 1 else str(folder))


def test_a_package_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(
        tmp_path / "bin",
        monkeypatch,
        apt_get='test "$1 $2 $3" = "--quiet download x-doc" && : > x-doc_1_all.deb && echo "$PWD" >> ../../asked',
        dpkg_deb='mkdir -p "$3/usr/share/doc/x" && echo "<p>text" > "$3/usr/share/doc/x/a.html"',
    )
    for _ in range(2):
        source = DebianPackages(["x-doc"], tmp_path / "into")
        source.fetch()
        assert [document.body for document in source.documents()] == ["text"]
    assert len((tmp_path / "asked").read_text().splitlines()) == 1
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["x-doc"]


def test_what_apt_says_is_said_and_nothing_half_made_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(tmp_path / "bin", monkeypatch, apt_get='echo "E: Unable to locate package x-doc" >&2; exit 100', dpkg_deb="")
    with pytest.raises(DebianError, match="cannot download x-doc: E: Unable to locate package x-doc"):
        DebianPackages(["x-doc"], tmp_path / "into").fetch()
    assert list((tmp_path / "into").iterdir()) == []


def test_a_machine_without_the_tools_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(tmp_path / "bin", monkeypatch)
    with pytest.raises(DebianError, match="apt-get is needed"):
        DebianPackages(["x-doc"], tmp_path / "into").fetch()
