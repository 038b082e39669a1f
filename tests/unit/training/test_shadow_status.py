"""What the command tells of the shadow, read from the figures that a sidecar really exposes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from plugin_service.api.metrics import Metrics
from plugin_service.rescoring.shadow import RankChange
from training.registry import shadow_status
from whyrank.embedded import model_host
from whyrank.errors import WhyRankError
from whyrank.records import ModelManifest, load_manifest, model_revision, save_manifest
from whyrank.registry import Registry
from whyrank.settings import Settings


class World:
    """A home with a shadow that runs, and a sidecar's figures."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(home=home)
        self.registry = Registry(home / "models")
        self.metrics = Metrics(CollectorRegistry())
        source = home / "adapter"
        source.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (source / name).write_text("{}")
        self.version = self.registry.add(source, ModelManifest("new", "tiny", datetime(2026, 11, 23, tzinfo=UTC)))
        self.path = model_host.shadow_path(home)
        self.path.parent.mkdir()

        def get(url: str, **_: object) -> httpx.Response:
            assert url == "http://sidecar/_whyrank/metrics"
            return httpx.Response(
                200, content=generate_latest(self.metrics.registry), request=httpx.Request("GET", url)
            )

        monkeypatch.setattr(httpx, "get", get)

    def run(self) -> str:
        """Run the version in shadow; gives its revision."""
        self.registry.shadow(self.version)
        save_manifest(self.registry.load(self.version).manifest, self.path)
        return model_revision(load_manifest(self.path), self.settings.model_name)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_without_a_shadow_it_says_so(world: World) -> None:
    assert shadow_status(world.registry, world.settings).version is None
    world.registry.shadow(world.version)
    told = shadow_status(world.registry, world.settings)
    assert (told.version, told.running) == (world.version, False)
    assert "WHYRANK_SHADOW_SHARE" in told.words


def test_its_changes_are_told(world: World) -> None:
    revision = world.run()
    assert shadow_status(world.registry, world.settings, "http://sidecar").searches == 0
    for change in (RankChange(True, 0.5), RankChange(False, 1.0), RankChange(True, 0.0), RankChange(False, 1.0), None):
        world.metrics.shadow(revision, change)
    world.metrics.shadow("another", RankChange(True, -1.0))
    told = shadow_status(world.registry, world.settings, "http://sidecar/")
    assert (told.searches, told.unjudged, told.changed, told.tau) == (4, 1, 0.5, 0.625)
    assert "50%" in told.words


def test_a_sidecar_that_is_away_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()

    def get(url: str, **_: object) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(httpx, "get", get)
    with pytest.raises(WhyRankError, match="no sidecar answers"):
        shadow_status(world.registry, world.settings, "http://sidecar")
