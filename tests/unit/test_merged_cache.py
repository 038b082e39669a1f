"""Merged models in the cache: named by what they are made of, and only the last few kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from whyrank.embedded import model_server
from whyrank.embedded.cache import Cache
from whyrank.embedded.jars import DownloadError
from whyrank.records import ModelManifest, model_revision
from whyrank.registry import Version


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What would be run: the converter and the merger, each of which writes one file."""
    ran: list[list[str]] = []

    def run(command: Sequence[str], *_: object) -> None:
        ran.append(list(command))
        (Path(command[-2]) / "model.safetensors").write_text(command[1])

    monkeypatch.setattr(model_server, "run_tool", run)
    monkeypatch.setattr(model_server, "install_environment", lambda *_: tmp_path / "environment")
    return ran


def adapter(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text(content)
    return folder


def test_a_model_is_merged_once_by_its_adapters_content(tmp_path: Path, commands: list[list[str]]) -> None:
    cache = Cache(tmp_path / "c")
    base = model_server.install_model(cache)
    first = model_server.install_model(cache, adapter=adapter(tmp_path / "a", "x"))
    assert model_server.install_model(cache, adapter=adapter(tmp_path / "b", "x")) == first
    other = model_server.install_model(cache, adapter=adapter(tmp_path / "d", "y"))
    assert len({base, first, other}) == 3
    scripts = [Path(command[1]).name for command in commands]
    assert scripts == ["convert_gguf.py", "merge_adapter.py", "merge_adapter.py"]
    assert commands[1][2:4] == [str(base), str(tmp_path / "a")]


def test_only_the_models_used_last_are_kept(tmp_path: Path, commands: list[list[str]]) -> None:
    cache = Cache(tmp_path / "c")
    adapters = [adapter(tmp_path / f"a{i}", str(i)) for i in range(model_server.MERGED_KEPT + 1)]
    made = [model_server.install_model(cache, adapter=each) for each in adapters[:-1]]
    assert all(folder.exists() for folder in made)
    model_server.install_model(cache, adapter=adapters[0])
    newest = model_server.install_model(cache, adapter=adapters[-1])
    assert [folder.exists() for folder in made] == [True, False, *[True] * (len(made) - 2)]
    assert newest.exists()


def test_a_failed_merge_is_told_and_leaves_nothing_that_looks_whole(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "c")
    model_server.install_model(cache)

    def fail(command: Sequence[str], *_: object) -> None:
        raise model_server.subprocess.CalledProcessError(1, list(command), "NaNs detected")

    monkeypatch.setattr(model_server, "run_tool", fail)
    with pytest.raises(DownloadError, match="NaNs detected"):
        model_server.install_model(cache, adapter=adapter(tmp_path / "a", "x"))
    assert not [path for path in (cache.root / "merged").iterdir() if path.suffix != ".partial"]


def test_every_version_is_described_by_a_name_and_a_revision_of_its_own(tmp_path: Path) -> None:
    registry = model_server.registry(tmp_path)
    base = registry.load("base")
    names = [
        registry.add(adapter(tmp_path / text, text), ModelManifest("new", "m", base.manifest.created)) for text in "xy"
    ]
    described = [model_server.describe(registry.load(name)) for name in ("base", *names)]
    assert len({manifest.served_name for manifest in described}) == 3
    assert len({model_revision(manifest, "whyrank") for manifest in described}) == 3
    assert model_server.describe(registry.load(names[0])) == described[1]
    assert described[1].material["merged"] == model_server.merged_key(tmp_path / "x")
    assert "merged" not in described[0].material
    assert isinstance(registry.load(names[0]), Version)
