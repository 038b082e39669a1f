"""The served model's manifest, read again when its file changes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from whyrank.errors import BadRequestError
from whyrank.prompt import Constraint
from whyrank.records import load_manifest, model_revision
from whyrank.settings import Settings
from whyrank.types import FusionWeights

_log = structlog.get_logger(__name__)


class ServedModel(msgspec.Struct, frozen=True):
    """What is to be known of the served model to ask it and to use its verdicts."""

    revision: str
    weights: FusionWeights
    constraint: Constraint


class ManifestFile:
    """The manifest of `Settings.model_manifest`; without one, the model's name makes the revision."""

    def __init__(self, settings: Settings) -> None:
        self._path: Path | None = settings.model_manifest
        self._model_name = settings.model_name
        wanted = settings.model_constraint
        self._constraint = None if wanted == "auto" else Constraint(wanted)
        self._stamp: tuple[int, int] | None = None
        self._last: ServedModel | None = None

    def current(self) -> ServedModel:
        """The manifest as it stands; where it became unreadable, as it was last.

        Raises BadRequestError when it was never readable.
        """
        stamp = self._read_stamp()
        if self._last is None or stamp != self._stamp:
            self._stamp = stamp
            try:
                self._last = self._load()
            except BadRequestError as error:
                if self._last is None:
                    raise
                _log.warning("manifest_unreadable", error=str(error), revision=self._last.revision)
        return self._last

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat() if self._path else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_ino)

    def _load(self) -> ServedModel:
        manifest = load_manifest(self._path) if self._path else None
        constraint = self._constraint or (manifest.constraint if manifest else Constraint.NONE)
        served = ServedModel(
            revision=model_revision(manifest, self._model_name, constraint),
            weights=manifest.weights if manifest else FusionWeights(),
            constraint=constraint,
        )
        _log.info("model", name=self._model_name, revision=served.revision, constraint=constraint.value)
        return served
