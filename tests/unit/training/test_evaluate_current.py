"""The current model is asked where it is served already, and only there where it is the very same."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from training.evaluate.stage import EvaluateConfig, _current
from whyrank.embedded import model_server
from whyrank.embedded import state as states
from whyrank.embedded.model_host import manifest_path
from whyrank.embedded.state import PartState, Phase, State
from whyrank.records import ModelManifest, save_manifest
from whyrank.settings import Settings

URL = "http://127.0.0.1:1/v1"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home whose stack serves its current version."""
    home = tmp_path / "home"
    parts = {states.MODEL: PartState(states.MODEL, 1, "log", Phase.READY)}
    running = State(1, 0.0, str(home), parts=parts, urls={states.MODEL: URL})
    monkeypatch.setattr(states, "running", lambda asked: running if asked == home else None)
    save(home, served(home))
    return Settings(home=home)


def served(home: Path) -> ModelManifest:
    registry = model_server.registry(home)
    return model_server.describe(registry.load(registry.current() or model_server.BASE_VERSION))


def save(home: Path, manifest: ModelManifest) -> None:
    manifest_path(home).parent.mkdir(parents=True, exist_ok=True)
    save_manifest(manifest, manifest_path(home))


def address(settings: Settings) -> str | None:
    """Of the server that would be asked, None where one would be loaded."""
    source = _current(EvaluateConfig(), settings)
    assert source.manifest == served(settings.home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.evaluate.models.running", lambda *_, **__: pytest.fail("loaded"))
        try:
            with source.serve() as found:
                return found.url
        except pytest.fail.Exception:
            return None


def test_it_is_asked_where_the_stack_serves_it(stack: Settings) -> None:
    assert address(stack) == URL


def test_a_stack_that_serves_another_version_is_not_asked(stack: Settings) -> None:
    save(stack.home, replace(served(stack.home), name="another"))
    assert address(stack) is None


def test_without_a_stack_it_is_loaded(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "running", lambda _: None)
    assert address(stack) is None
