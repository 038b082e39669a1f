"""The model manifest: what is served, how it answers, and what its signals weigh (versioned JSON)."""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from whyrank.errors import BadRequestError
from whyrank.prompt import PROMPT_VERSION, Constraint
from whyrank.types import FusionWeights

MANIFEST_VERSION = 1

_FIELD = re.compile(r"at `\$\.?([^`]*)`|(?:field|missing required field) `([^`]*)`")


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model was made: enough to make it again, and to say what it was measured to do."""

    data: dict[str, str] = {}
    """Hashes of what it was trained on, by name."""
    recipe: str = ""
    recipe_hash: str = ""
    commit: str = ""
    """The git commit of the code that made it, with `-dirty` where files differed from it; "" outside of git."""
    parent: str | None = None
    """The version that was current then."""
    metrics: dict[str, float] = {}
    """What its evaluation found, by name."""


class ModelManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model as it is served."""

    name: Annotated[str, Meta(min_length=1)]
    base: Annotated[str, Meta(min_length=1)]
    """The base model's name."""
    created: datetime
    adapter: str | None = None
    """The adapter's name or folder; None for the base model as it is."""
    material: dict[str, str] = {}
    """Hashes of what the model is made of (weights, adapter), by file or part: they make the revision."""
    weights: FusionWeights = FusionWeights()
    constraint: Constraint = Constraint.LABEL
    """How the model is decoded where `WHYRANK_MODEL_CONSTRAINT` is `auto`."""
    bi_encoder: str | None = None
    """The name of the bi-encoder whose similarities the verdicts carry; None: they carry none."""
    served_name: str | None = None
    """The name that the model server knows it by; None: `WHYRANK_MODEL_NAME`."""
    history: History | None = None
    version: int = MANIFEST_VERSION


def load_manifest(path: Path) -> ModelManifest:
    """Read a manifest. Raises BadRequestError, whose `field` is the manifest's field that is wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadRequestError("model_manifest", f"cannot read {path}: {error.strerror}") from error
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != MANIFEST_VERSION:
            raise BadRequestError("version", f"{path} has version {version}, this WhyRank reads {MANIFEST_VERSION}")
        manifest = msgspec.json.decode(data, type=ModelManifest)
    except msgspec.ValidationError as error:
        named = _FIELD.search(str(error))
        field = next((group for group in named.groups() if group), "") if named else ""
        raise BadRequestError(field or "model_manifest", f"{path}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError("model_manifest", f"{path} is not JSON: {error}") from error
    return manifest


def save_manifest(manifest: ModelManifest, path: Path) -> None:
    """Write a manifest, whole or not at all: a server may be reading it."""
    draft = path.with_name(path.name + ".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    draft.replace(path)


def model_revision(manifest: ModelManifest | None, model_name: str, constraint: Constraint | None = None) -> str:
    """64 bits in hex of all that decides a verdict: model, adapter, prompt, bi-encoder, and the constraint in use.

    Without a manifest only the name under which the model is served is known; `constraint` is the manifest's
    unless given. Fusion weights are not in it: they change the order, not the verdicts.
    """
    if manifest is None:
        made_of: tuple[object, ...] = (model_name,)
    else:
        made_of = (manifest.name, manifest.base, manifest.adapter, sorted(manifest.material.items()))
        if manifest.bi_encoder is not None:
            made_of += (manifest.bi_encoder,)
        constraint = constraint or manifest.constraint
    parts = (made_of, PROMPT_VERSION, constraint)
    return blake2b(msgspec.json.encode(parts), digest_size=8).hexdigest()


class _Versioned(msgspec.Struct):
    version: int = MANIFEST_VERSION
