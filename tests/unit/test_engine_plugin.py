"""The plugin of the embedded engine: its sources are found wherever WhyRank is installed, and compiled there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from whyrank.embedded import engine, engine_plugin, jars
from whyrank.embedded.cache import Cache
from whyrank.embedded.engine_plugin import PluginError

ROOT = Path(__file__).parents[2]


def test_a_source_with_an_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Path:
        raise subprocess.CalledProcessError(1, "ecj", "1. ERROR in A.java", "and more")

    monkeypatch.setattr(jars, "compile_java", fails)
    with pytest.raises(PluginError, match=r"(?s)ERROR in A\.java.*and more"):
        engine_plugin.classes(tmp_path, Cache(tmp_path))


def test_a_wheels_sources_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_plugin.sources() == ROOT / "engine_plugin" / "src" / "main" / "java"
    monkeypatch.setattr(engine_plugin, "_PACKAGED", tmp_path)
    assert engine_plugin.sources() == tmp_path
    monkeypatch.setattr(engine_plugin, "_PACKAGED", tmp_path / "none")
    monkeypatch.setattr(engine_plugin, "_CHECKED_OUT", tmp_path / "none")
    with pytest.raises(PluginError, match="no sources"):
        engine_plugin.sources()


def test_a_wheel_has_the_sources_where_they_are_looked_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    place = engine_plugin._PACKAGED.relative_to(ROOT).as_posix()
    with zipfile.ZipFile(wheel) as archive:
        packaged = {name.removeprefix(f"{place}/") for name in archive.namelist() if name.startswith(f"{place}/")}
        assert "whyrank/embedded/locks/ecj.jars" in archive.namelist()
    own = engine_plugin.sources()
    assert packaged == {path.relative_to(own).as_posix() for path in own.rglob("*.java")}


def test_the_plugins_class_is_where_its_name_says() -> None:
    source = engine_plugin.sources() / f"{engine_plugin.CLASS.replace('.', '/')}.java"
    assert "extends Plugin" in source.read_text()


def test_the_engine_is_told_of_the_plugin(tmp_path: Path) -> None:
    with_it = engine._launch(tmp_path, 9201, "c", tmp_path, plugin=tmp_path / "classes").command
    assert with_it[with_it.index("-pluginTypes") + 1] == engine_plugin.CLASS
    assert with_it[with_it.index("-cp") + 1] == f"{tmp_path}/*:{tmp_path / 'classes'}"
    assert "-pluginTypes" not in engine._launch(tmp_path, 9201, "c", tmp_path).command
