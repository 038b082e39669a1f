"""The models that are evaluated: how each is known, and how it is brought to answer, which is only done when needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from training.evaluate.judging import Served
from training.evaluate.metrics import Role
from training.model_job import EMBEDDED
from whyrank.embedded import model_server
from whyrank.embedded.cache import Cache
from whyrank.embedded.parts import free_port, running
from whyrank.prompt import Constraint
from whyrank.records import ModelManifest, load_manifest, model_revision
from whyrank.registry import ADAPTER, ADAPTER_FILES, Version
from whyrank.settings import Settings

_START_S = 600.0


class Source(msgspec.Struct, frozen=True):
    """One model. `serve` makes it answer for the length of a `with`."""

    role: Role
    manifest: ModelManifest
    revision: str
    serve: Callable[[], AbstractContextManager[Served]]


def of_adapter(
    adapter: Path, base: str, constraint: Constraint, settings: Settings, *, url: str | None, name: str | None
) -> Source:
    """The base model with an adapter that is no version of the registry yet.

    Merged and served by this machine unless `url` has a server of it, which knows it as `name`.
    Raises BadRequestError, whose field is `model_url`, for a base that this machine cannot serve.
    """
    if base == EMBEDDED:
        plain = model_server.base_manifest(datetime.now(UTC), "candidate")
        manifest = replace(plain, adapter=ADAPTER, constraint=constraint)
        manifest = model_server.describe(Version("candidate", manifest, adapter.parent))
    else:
        material = {ADAPTER: _hash(adapter)}
        manifest = ModelManifest("candidate", base, datetime.now(UTC), ADAPTER, material, constraint=constraint)
    return _source(Role.CANDIDATE, manifest, settings, url, name, adapter=adapter)


def of_version(role: Role, name: str | None, settings: Settings) -> Source:
    """A version of the registry, the one that is to serve for None. Raises RegistryError."""
    registry = model_server.registry(settings.home)
    version = registry.load(name or registry.current() or model_server.BASE_VERSION)
    manifest = model_server.describe(version)
    return _source(role, manifest, settings, None, None, adapter=version.adapter, weights=version.weights)


def of_server(role: Role, url: str, settings: Settings, name: str | None = None) -> Source:
    """What answers at `url`, as `settings.model_manifest` describes it."""
    manifest = load_manifest(settings.model_manifest) if settings.model_manifest is not None else None
    if manifest is None:
        known = name or settings.model_name
        manifest = ModelManifest(known, known, datetime.now(UTC), constraint=Constraint.NONE)
    return _source(role, manifest, settings, url, name or manifest.served_name)


def _source(
    role: Role,
    manifest: ModelManifest,
    settings: Settings,
    url: str | None,
    name: str | None,
    *,
    adapter: Path | None = None,
    weights: Path | None = None,
) -> Source:
    wanted = settings.model_constraint
    constraint = manifest.constraint if wanted == "auto" else Constraint(wanted)
    revision = model_revision(manifest, settings.model_name, constraint)

    @contextmanager
    def serve() -> Iterator[Served]:
        key = settings.model_api_key
        if url is not None:
            secret = key.get_secret_value() if key else None
            yield Served(url, name or settings.model_name, revision, constraint, secret)
            return
        port, cache = free_port(), Cache()
        log = settings.home / "logs" / f"evaluate-{role.value}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with running(model_server.part(port, cache, adapter, weights=weights), log, timeout_s=_START_S):
            yield Served(model_server.url(port), model_server.SERVED_NAME, revision, constraint)

    return Source(role, manifest, revision, serve)


def _hash(adapter: Path) -> str:
    hasher = hashlib.sha256()
    for name in ADAPTER_FILES:
        hasher.update((adapter / name).read_bytes())
    return hasher.hexdigest()
