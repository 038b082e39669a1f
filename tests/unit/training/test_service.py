"""Waiting for a version to be served, with a model host that is played."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from training.registry import service
from whyrank.embedded import model_host
from whyrank.embedded import state as states
from whyrank.embedded.cache import silent
from whyrank.embedded.state import PartState, State
from whyrank.errors import BadRequestError
from whyrank.records import ModelManifest, model_revision, save_manifest
from whyrank.registry import Registry, Serving
from whyrank.settings import Settings

BASE = ModelManifest("base", "tiny", datetime(2026, 11, 23, tzinfo=UTC))


class World:
    """A home whose stack is up; `hosts` says what the host tells once it has seen the pointer."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.registry = Registry(home / "models", base=BASE)
        self.settings = Settings(home=home)
        self.figures = ""
        parts = {name: PartState(name, 1, "") for name in (states.MODEL, states.SIDECAR)}
        state = State(1, time.time(), str(home), {states.SIDECAR: "http://sidecar"}, parts)
        states.write(home, state)

    def get(self, url: str, **_: object) -> httpx.Response:
        assert url == "http://sidecar/_whyrank/metrics"
        return httpx.Response(200, text=self.figures)

    def bring(self, tell: Callable[[datetime], Serving] | None, wait_s: float = 30.0) -> service.Service:
        """Promote the base again, and wait for it."""
        event = self.registry.promote("base", "again")
        if tell is not None:
            timer = threading.Timer(0.05, lambda: self.registry.tell(tell(event.at)))
            timer.start()
        return service.bring(self.registry, "base", self.settings, silent, wait_s)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with states.holding(tmp_path):
        subject = World(tmp_path)
        monkeypatch.setattr(service, "LOOK_S", 0.01)
        monkeypatch.setattr(service, "SIDECAR_S", 0.1)
        monkeypatch.setattr(httpx, "get", subject.get)
        yield subject


def test_it_waits_for_the_host_and_then_for_the_sidecar(world: World) -> None:
    path = model_host.manifest_path(world.home)
    path.parent.mkdir()
    save_manifest(BASE, path)
    revision = model_revision(BASE, world.settings.model_name)
    world.figures = f'whyrank_model_info{{revision="{revision}"}} 1.0\nwhyrank_model_ready 1.0\n'
    found = world.bring(lambda at: Serving(version="base", decided=at))
    assert found.served
    assert "uses it" in found.words
    world.figures = 'whyrank_model_info{revision="old"} 1.0\nwhyrank_model_ready 1.0\n'
    found = world.bring(lambda at: Serving(version="base", decided=at))
    assert found.served
    assert "does not yet use it" in found.words


def test_a_version_that_could_not_be_served_is_told_with_the_reason(world: World) -> None:
    found = world.bring(lambda at: Serving(version="other", failed="base", failure="out of memory", decided=at))
    assert not found.served
    assert "other goes on: out of memory" in found.words


def test_what_was_told_of_an_earlier_pointer_is_not_taken_for_this_ones_outcome(world: World) -> None:
    world.registry.tell(Serving(version="other", failed="base", failure="at the first try", decided=BASE.created))
    found = world.bring(lambda at: Serving(version="base", decided=at))
    assert found.served


def test_a_host_that_takes_too_long_is_not_waited_for_for_ever(world: World) -> None:
    found = world.bring(lambda _: Serving(version="other", loading="base"), wait_s=0.2)
    assert not found.served
    assert "still prepares" in found.words


def test_without_a_stack_it_is_served_at_the_next_start(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models", base=BASE)
    found = service.bring(registry, "base", Settings(home=tmp_path), silent, 30.0)
    assert not found.served
    assert "at the next `whyrank up`" in found.words


def test_settings_that_cannot_serve_are_known_before_a_pointer_moves(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="WHYRANK_MODEL_MANIFEST"):
        service.check(Settings(home=tmp_path, model_swap="lora"))
