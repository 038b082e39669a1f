"""Versions in a running server by its dynamic adapters, with a server that speaks vLLM's endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plugin_service.adapters.manifest import ManifestFile
from plugin_service.adapters.model_status import PolledModelStatus
from tests.integration.stand_in import StandIn
from training import registry as registries
from training.registry import lora, service
from whyrank.embedded.cache import silent
from whyrank.errors import BadRequestError, ModelUnavailableError
from whyrank.records import ModelManifest
from whyrank.registry import Action, Registry, RegistryError, served_name
from whyrank.settings import Settings


class World:
    """A registry without a base, a server, and the settings that name both."""

    def __init__(self, folder: Path, server: StandIn) -> None:
        self.folder = folder
        self.server = server
        self.registry = Registry(folder / "models")
        self.settings = Settings(
            home=folder,
            model_url=server.url,
            model_manifest=folder / "manifest.json",
            shadow_manifest=folder / "shadow.json",
            model_swap="lora",
        )
        self.waited: list[float] = []

    def version(self, content: str) -> str:
        source = self.folder / f"adapter-{content}"
        source.mkdir()
        (source / "adapter_config.json").write_text("{}")
        (source / "adapter_model.safetensors").write_text(content)
        return self.registry.add(source, ModelManifest("new", "big", datetime(2026, 11, 23, tzinfo=UTC)))

    def served_name(self, name: str) -> str:
        return served_name(self.registry.load(name).manifest)

    async def activate(self, name: str) -> ModelManifest:
        version = self.registry.load(name)
        return await asyncio.to_thread(lora.activate, version, self.settings, silent, wait=self.waited.append)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    server = StandIn()
    server.models = ["meta/big"]
    yield World(tmp_path, await server.start())
    await server.stop()


async def test_a_version_is_loaded_asked_named_and_the_one_before_let_go(world: World) -> None:
    first, second = world.version("first"), world.version("second")
    await world.activate(first)
    assert world.server.adapters == {world.served_name(first): str(world.registry.load(first).adapter)}
    manifests = ManifestFile(world.settings)
    before = manifests.current()
    assert before.name == world.served_name(first)
    assert world.waited == []
    await world.activate(second)
    now = manifests.current()
    assert now.name == world.served_name(second)
    assert now.revision != before.revision
    assert list(world.server.adapters) == [now.name]
    assert world.waited == [lora.RETIRE_AFTER_S], "between the two both are served"
    assert manifests.of(before.revision) == before
    asked = [request["model"] for request in world.server.requests]
    assert asked == [before.name] * 2 + [now.name] * 2, "each was asked before it was named"
    status = PolledModelStatus(world.settings)
    await status.start()
    assert status.current().ready
    await status.stop()


async def test_activating_again_is_harmless(world: World) -> None:
    name = world.version("first")
    assert await world.activate(name) == await world.activate(name)
    assert list(world.server.adapters) == [world.served_name(name)]


async def test_what_cannot_be_loaded_leaves_all_as_it_was(world: World) -> None:
    first, second = world.version("first"), world.version("second")
    world.registry.promote(first, "")
    await asyncio.to_thread(service.bring, world.registry, first, world.settings, silent, 1.0)
    manifest = (world.folder / "manifest.json").read_bytes()
    world.server.unloadable.add(str(world.registry.load(second).adapter))
    world.registry.promote(second, "")
    found = await asyncio.to_thread(service.bring, world.registry, second, world.settings, silent, 1.0)
    assert not found.served
    assert "larger than --max-lora-rank" in found.words
    assert (world.folder / "manifest.json").read_bytes() == manifest
    assert list(world.server.adapters) == [world.served_name(first)]
    told = world.registry.serving()
    assert told is not None
    assert (told.version, told.failed) == (first, second)
    assert [event.action for event in world.registry.history()][-1] is Action.FAIL


async def test_an_adapter_that_does_not_answer_is_let_go(world: World) -> None:
    name = world.version("first")
    world.server.status = 500
    with pytest.raises(ModelUnavailableError):
        await world.activate(name)
    world.server.status = 200
    await world.activate(name)
    world.server.refusals = {world.server.order[-1]: 422}
    other = world.version("other")
    with pytest.raises(Exception, match="422"):
        await world.activate(other)
    assert list(world.server.adapters) == [world.served_name(name)]


async def test_a_server_that_is_away_or_no_manifest_to_write_is_said(world: World) -> None:
    name = world.version("first")
    settings = world.settings
    world.settings = settings.model_copy(update={"model_manifest": None})
    with pytest.raises(BadRequestError, match="WHYRANK_MODEL_MANIFEST"):
        await world.activate(name)
    world.settings = settings
    await world.server.stop()
    with pytest.raises(ModelUnavailableError, match="cannot be reached"):
        await world.activate(name)


async def test_a_shadow_is_a_second_adapter(world: World) -> None:
    first, second, third = (world.version(word) for word in ("first", "second", "third"))
    await world.activate(first)
    for name in (second, third):
        await asyncio.to_thread(registries.set_shadow, world.registry, name, "to see", world.settings, silent)
        assert set(world.server.adapters) == {world.served_name(first), world.served_name(name)}
    shadow = ManifestFile(world.settings).shadow()
    assert shadow is not None
    assert shadow.name == world.served_name(third)
    await world.activate(third)
    assert list(world.server.adapters) == [world.served_name(third)]
    await asyncio.to_thread(registries.set_shadow, world.registry, None, "", world.settings, silent)
    assert world.registry.shadowed() is None
    assert list(world.server.adapters) == [world.served_name(third)], "it is the current one now"


async def test_a_whole_model_is_no_adapter(world: World) -> None:
    whole = world.folder / "whole"
    whole.mkdir()
    for file in ("config.json", "model.safetensors"):
        (whole / file).write_text(file)
    name = world.registry.add(whole, ModelManifest("new", "big", datetime(2026, 11, 23, tzinfo=UTC)))
    with pytest.raises(RegistryError, match="is no adapter"):
        await world.activate(name)
