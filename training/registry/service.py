"""From a pointer to a model that answers: what brings a version into service, and how long until it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import httpx
import msgspec

from training.registry import lora
from training.stages import Progress
from whyrank.embedded import model_host
from whyrank.embedded import state as states
from whyrank.errors import BadRequestError, ModelError
from whyrank.prompt import Constraint
from whyrank.records import load_manifest, model_revision
from whyrank.registry import Action, Registry, RegistryError, Serving, Version
from whyrank.settings import Settings

T = TypeVar("T")

LOOK_S = 0.5
SIDECAR_S = 30.0
"""A sidecar looks at the manifest every second."""


class Service(msgspec.Struct, frozen=True):
    """Whether searches are judged by the version now, and what to say of it."""

    served: bool
    words: str


def check(settings: Settings) -> None:
    """Raises BadRequestError for settings by which nothing can be served, before any pointer moves."""
    if settings.model_swap == "lora" and settings.model_manifest is None:
        raise BadRequestError("model_manifest", lora.NO_MANIFEST)


def bring(registry: Registry, name: str, settings: Settings, progress: Progress, wait_s: float) -> Service:
    """Have the version that `current` points at served; waits for a model host that is up. Never raises for a model
    that does not come up: the one before goes on then, and the words say why."""
    if settings.model_swap == "lora":
        return _by_lora(registry, registry.load(name), settings, progress)
    state = states.running(settings.home.resolve())
    if state is None or states.MODEL not in state.parts:
        return Service(False, f"{name} is served at the next `whyrank up`: no model server of this home is up")
    progress(f"waiting for the model server to serve {name}", None)
    decided = registry.decided()
    told = _until(lambda: _settled(registry, decided), wait_s)
    if told is None:
        return Service(False, f"the model server still prepares {name} after {wait_s:.0f} s; whyrank status tells more")
    if told.version != name:
        return Service(False, f"{name} could not be served, {told.version} goes on: {told.failure}")
    url = state.urls[states.SIDECAR]
    seen = _until(lambda: _sidecar_serves(url, settings) or None, SIDECAR_S)
    return Service(True, f"{name} is served, and the sidecar at {url} {'uses' if seen else 'does not yet use'} it")


def _by_lora(registry: Registry, version: Version, settings: Settings, progress: Progress) -> Service:
    serving = registry.serving() or Serving()
    try:
        lora.activate(version, settings, progress)
    except (RegistryError, ModelError) as error:
        registry.note(Action.FAIL, version.name, str(error)[:1000], serving.version)
        registry.tell(msgspec.structs.replace(serving, failed=version.name, failure=str(error)))
        return Service(
            False, f"{version.name} could not be served, {serving.version or 'what was served'} goes on: {error}"
        )
    registry.note(Action.SERVE, version.name, "", serving.version)
    registry.tell(Serving(version=version.name, since=datetime.now(UTC), shadow=serving.shadow))
    return Service(True, f"{version.name} is served at {settings.model_url}")


def _settled(registry: Registry, decided: datetime | None) -> Serving | None:
    """What the host says once it has followed the pointer that was written then, or given it up."""
    told = registry.serving()
    if told is None or told.loading is not None:
        return None
    return told if decided is None or (told.decided is not None and told.decided >= decided) else None


def _sidecar_serves(url: str, settings: Settings) -> bool:
    """Whether the sidecar's figures name the revision of the manifest that the host has written."""
    try:
        manifest = load_manifest(model_host.manifest_path(settings.home))
        figures = httpx.get(f"{url}/_whyrank/metrics", timeout=5).text
    except (BadRequestError, httpx.HTTPError):
        return False
    wanted = None if settings.model_constraint == "auto" else Constraint(settings.model_constraint)
    revision = model_revision(manifest, settings.model_name, wanted)
    return f'whyrank_model_info{{revision="{revision}"}} 1.0' in figures and "whyrank_model_ready 1.0" in figures


def _until(found: Callable[[], T | None], patience_s: float) -> T | None:
    ends = time.monotonic() + patience_s
    while (value := found()) is None and time.monotonic() < ends:
        time.sleep(LOOK_S)
    return value
