"""The current student behind a model server: sampled through the very protocol by which it will serve."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from training.model_job import EMBEDDED
from training.recipe import Recipe
from training.records import file_hash
from training.refine.config import RefineConfig
from training.refine.sampling import Endpoint
from training.stages import StageError
from whyrank.embedded import model_server
from whyrank.embedded.cache import Cache
from whyrank.settings import Settings

_LOADED_ALREADY = "already been loaded"
_LOAD_TIMEOUT_S = 600.0
_LONGEST_WAIT_S = 30.0


def server_of(config: RefineConfig, settings: Settings) -> str:
    """The address of the model server that takes adapters, "" where an embedded one is to be started."""
    return config.server or (settings.model_url if "model_url" in settings.model_fields_set else "")


@contextmanager
def served(adapter: Path, folder: Path, config: RefineConfig, settings: Settings, recipe: Recipe) -> Iterator[Endpoint]:
    """The student with this adapter, for the length of a `with`; logs go to `folder`.

    Raises StageError when no server can serve it, PartError when the embedded one does not start.
    """
    url = server_of(config, settings).rstrip("/")
    if not url:
        if recipe.base != EMBEDDED:
            raise StageError(
                f"the base model {recipe.base} needs a model server: set `server` of the stage refine or "
                "WHYRANK_MODEL_URL to a vLLM that takes adapters (--enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1)"
            )
        with model_server.start(folder, cache=Cache(settings.cache), adapter=adapter) as started:
            yield Endpoint(started, model_server.SERVED_NAME, None, settings.model_timeout_s)
        return
    key = settings.model_api_key.get_secret_value() if settings.model_api_key else None
    # Named by its content: an adapter that an earlier attempt loaded is the same one
    name = f"refine-{file_hash(adapter / 'adapter_model.safetensors')[:16]}"
    with httpx.Client(headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=_LOAD_TIMEOUT_S) as client:
        _load(client, url, name, adapter, config)
        try:
            yield Endpoint(url, name, key, settings.model_timeout_s)
        finally:
            _unload(client, url, name)


def _load(client: httpx.Client, url: str, name: str, adapter: Path, config: RefineConfig) -> None:
    """Have vLLM load the adapter, waiting for a server that is away or starting."""
    wanted = {"lora_name": name, "lora_path": str(adapter.resolve())}
    wait, fault = config.backoff_s, ""
    for attempt in range(config.attempts):
        if attempt:
            time.sleep(wait)
            wait = min(2.0 * wait, _LONGEST_WAIT_S)
        try:
            answer = client.post(f"{url}/load_lora_adapter", json=wanted)
        except httpx.HTTPError as error:
            fault = str(error)
            continue
        if answer.is_success or _LOADED_ALREADY in answer.text:
            return
        fault = f"{answer.status_code}: {answer.text[:500]}"
        if answer.status_code in (400, 404, 405):
            break
    raise StageError(
        f"the model server at {url} does not load adapters ({fault}); it must be a vLLM with --enable-lora and "
        f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 that can read {adapter}"
    )


def _unload(client: httpx.Client, url: str, name: str) -> None:
    """Free the adapter's place; a server that is gone has none."""
    try:
        client.post(f"{url}/unload_lora_adapter", json={"lora_name": name}, timeout=10.0)
    except httpx.HTTPError:
        return
