"""Versions in a running vLLM by its dynamic adapters: loaded beside those that serve, never in their place.

The server runs with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True (docs/gpu.md). Each version has a name and a path of its own:
vLLM's prefix cache would otherwise keep what it computed with the weights before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from msgspec.structs import replace

from training.stages import Progress
from whyrank.errors import BadRequestError, ModelError, ModelUnavailableError
from whyrank.model_client import HttpTransport, ModelClient
from whyrank.records import ModelManifest, load_manifest, save_manifest
from whyrank.registry import RegistryError, Version, served_name
from whyrank.settings import Settings
from whyrank.types import Mode, Passage

RETIRE_AFTER_S = 60.0
"""The version before still answers by its own name so long: jobs that were made for it are on their way."""
_LOAD_S = 300.0
_SAMPLE = ("why is the sky blue", Passage("The sky is blue because the air scatters blue light more than red light."))
_OURS = "whyrank-"
NO_MANIFEST = "WHYRANK_MODEL_SWAP=lora needs WHYRANK_MODEL_MANIFEST, the file to write"


class LoraServer:
    """The adapters of the vLLM at `settings.model_url`. Raises ModelUnavailableError when it does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.model_url.rstrip("/")
        key = settings.model_api_key
        self._key = key.get_secret_value() if key else None

    def names(self) -> list[str]:
        """All models that it serves."""
        answer = self._ask("GET", "/models", None)
        try:
            return [model["id"] for model in answer.json()["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelUnavailableError(f"{self._url}/models is not of the protocol: {error}") from error

    def load(self, name: str, adapter: Path) -> None:
        """Load an adapter from a folder that the server can read by the same path. Raises RegistryError."""
        body = {"lora_name": name, "lora_path": str(adapter.resolve())}
        answer = self._ask("POST", "/load_lora_adapter", body)
        if answer.status_code == 404 and name not in self.names():
            needed = "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
            raise RegistryError(f"{self._url} loads no adapters: start vLLM with {needed}")
        if answer.is_error or name not in self.names():
            raise RegistryError(f"{self._url} did not load {adapter}: {answer.status_code} {answer.text[:500]}")

    def unload(self, name: str) -> None:
        """Let an adapter go; requests that it is on end as they would."""
        self._ask("POST", "/unload_lora_adapter", {"lora_name": name})

    def warm(self, name: str, manifest: ModelManifest) -> None:
        """Ask it once in each mode. Raises ModelError."""

        async def ask() -> None:
            async with HttpTransport(self._url, self._key, _LOAD_S) as transport:
                for mode in Mode:
                    await ModelClient(transport, name, 16).ask(*_SAMPLE, mode, manifest.constraint)

        asyncio.run(ask())

    def _ask(self, method: str, path: str, body: dict[str, str] | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            return httpx.request(method, f"{self._url}{path}", json=body, headers=headers, timeout=_LOAD_S)
        except httpx.HTTPError as error:
            raise ModelUnavailableError(f"the model server cannot be reached at {self._url}: {error}") from error


def activate(
    version: Version,
    settings: Settings,
    progress: Progress,
    *,
    retire_after_s: float = RETIRE_AFTER_S,
    wait: Callable[[float], None] = time.sleep,
) -> ModelManifest:
    """Serve a version: load it, ask it, name it in `settings.model_manifest`, and then let the others go.

    Until the manifest names it nobody asks for it, so whatever fails before leaves all as it was.
    Raises BadRequestError where no manifest is set, RegistryError, ModelError.
    """
    path = settings.model_manifest
    if path is None:
        raise BadRequestError("model_manifest", NO_MANIFEST)
    manifest = _loaded(version, settings, progress)
    save_manifest(manifest, path)
    stay = {manifest.served_name, _named(settings.shadow_manifest)}
    server = LoraServer(settings)
    if others := [name for name in server.names() if name.startswith(_OURS) and name not in stay]:
        progress("waiting for the old version's last jobs", None)
        wait(retire_after_s)
        for name in others:
            server.unload(name)
    return manifest


def activate_shadow(version: Version | None, settings: Settings, progress: Progress) -> None:
    """Load a version beside the one that serves, and name it in `settings.shadow_manifest`; None: take it away.

    Raises as `activate`.
    """
    path = settings.shadow_manifest
    if path is None:
        raise BadRequestError("shadow_manifest", "WHYRANK_MODEL_SWAP=lora needs WHYRANK_SHADOW_MANIFEST for a shadow")
    before = _named(path)
    if version is None:
        path.unlink(missing_ok=True)
    else:
        save_manifest(_loaded(version, settings, progress), path)
    if before is not None and before not in (_named(path), _named(settings.model_manifest)):
        LoraServer(settings).unload(before)


def _loaded(version: Version, settings: Settings, progress: Progress) -> ModelManifest:
    if version.adapter is None:
        raise RegistryError(f"{version.name} is no adapter: a running vLLM cannot load it")
    name = served_name(version.manifest)
    manifest = replace(version.manifest, served_name=name)
    server = LoraServer(settings)
    progress(f"loading {version.name} into the model server", None)
    if name not in server.names():
        server.load(name, version.adapter)
    try:
        server.warm(name, manifest)
    except ModelError:
        server.unload(name)
        raise
    return manifest


def _named(path: Path | None) -> str | None:
    try:
        return load_manifest(path).served_name if path is not None else None
    except BadRequestError:
        return None
