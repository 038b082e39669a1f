"""The swap with the real model server: a version merged, started and served while the base answers all the time."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plugin_service.adapters.manifest import ManifestFile
from whyrank.embedded import model_host, model_server
from whyrank.embedded.cache import Cache
from whyrank.embedded.model_host import manifest_path
from whyrank.embedded.parts import free_port, running
from whyrank.errors import ModelUnknownError
from whyrank.model_client import HttpTransport, ModelClient
from whyrank.records import ModelManifest
from whyrank.settings import Settings
from whyrank.types import Mode, Passage

PATIENCE_S = 1800.0
HIDDEN = 576
PASSAGE = Passage("The sky is blue because the air scatters blue light more than red light.")


def adapter(folder: Path) -> Path:
    """A rank-1 adapter of one projection of SmolLM2-135M; its numbers are small, so the model stays what it is."""
    folder.mkdir()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 1,
        "lora_alpha": 1,
        "target_modules": ["q_proj"],
        "layers_to_transform": [0],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    size = 4 * HIDDEN
    header = {
        f"{layer}.lora_A.weight": {"dtype": "F32", "shape": [1, HIDDEN], "data_offsets": [0, size]},
        f"{layer}.lora_B.weight": {"dtype": "F32", "shape": [HIDDEN, 1], "data_offsets": [size, 2 * size]},
    }
    told = json.dumps(header).encode()
    numbers = struct.pack(f"<{2 * HIDDEN}f", *[0.01] * (2 * HIDDEN))
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(told)) + told + numbers)
    return folder


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """The model part of a stack; gives its address."""
    port = free_port()
    with running(model_host.part(tmp_path, port, Cache()), tmp_path / "model.log", timeout_s=PATIENCE_S):
        yield model_server.url(port)


@pytest.mark.real_model
async def test_a_version_comes_into_service_while_the_base_answers(host: str, tmp_path: Path) -> None:
    registry = model_server.registry(tmp_path)
    before = registry.current()
    manifests = ManifestFile(Settings(model_url=host, model_manifest=manifest_path(tmp_path)))
    first = manifests.current().name
    version = registry.add(adapter(tmp_path / "adapter"), ModelManifest("new", model_server.BASE, datetime.now(UTC)))
    registry.promote(version, "to see it served")
    answered: list[str] = []
    ends = time.monotonic() + PATIENCE_S
    async with HttpTransport(host, None, 300) as transport:
        client = ModelClient(transport, "", 16)
        while len(set(answered)) < 2 or answered[-1] == first:
            assert time.monotonic() < ends, registry.serving()
            served = manifests.current()
            await client.ask("why is the sky blue", PASSAGE, Mode.LABEL, served.constraint, served.name)
            answered.append(served.name)
        serving = registry.serving()
        assert serving is not None
        assert (serving.version, serving.failed) == (version, None)
        assert before != version
        gone = False
        while not gone:
            assert time.monotonic() < ends, "the old server stays"
            with suppress(ModelUnknownError):
                await client.ask("why is the sky blue", PASSAGE, Mode.LABEL, served.constraint, first)
                await asyncio.sleep(1)
                continue
            gone = True
