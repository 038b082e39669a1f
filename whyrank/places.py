"""Where the parts are that a command works on: as the command line says, else the environment, else what is up here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from whyrank.embedded import state as states
from whyrank.settings import Settings


class Places(msgspec.Struct, frozen=True):
    """Addresses of one installation."""

    settings: Settings
    """Those of the environment, completed by what `whyrank up` has started."""
    sidecar_url: str
    worker_metrics_url: str | None = None
    """Of the worker that `whyrank up` started."""
    local: bool = False
    """Whether a stack is up in this home."""


def find(home: Path, engine_url: str | None = None, sidecar_url: str | None = None) -> Places:
    """The places. Raises pydantic's ValidationError for a variable of the environment that cannot be."""
    state = states.running(home.resolve())
    values: dict[str, Any] = {} if engine_url is None else {"engine_url": engine_url}
    for name, value in _of_stack(state).items():
        if f"WHYRANK_{name.upper()}" not in os.environ:
            values.setdefault(name, value)
    settings = Settings(**values)
    if sidecar_url is None:
        sidecar_url = state.urls[states.SIDECAR] if state else f"http://{settings.host}:{settings.port}"
    worker = None if state is None else state.urls.get(states.WORKER)
    return Places(settings, sidecar_url.rstrip("/"), worker, state is not None)


def _of_stack(state: states.State | None) -> dict[str, Any]:
    """Settings of the stack's parts, as `whyrank up` gives them to its sidecar."""
    if state is None:
        return {}
    parts = {"engine_url": states.ENGINE, "redis_url": states.VALKEY, "model_url": states.MODEL}
    found: dict[str, Any] = {name: state.urls[part] for name, part in parts.items() if part in state.urls}
    if states.MODEL in state.urls:
        from whyrank.embedded.model_host import manifest_path  # noqa: PLC0415 - it brings the model's tools with it

        manifest = manifest_path(Path(state.home))
        if manifest.exists():
            found["model_manifest"] = manifest
    return found
