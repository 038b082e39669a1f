"""The served models' manifests, read again when their files change."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from whyrank.errors import BadRequestError
from whyrank.prompt import Constraint
from whyrank.records import ModelManifest, load_manifest, model_revision
from whyrank.settings import Settings
from whyrank.types import FusionWeights

_REMEMBERED = 4
"""Models that were served before, whose jobs may still be on their way; the server drops one after seconds."""
_log = structlog.get_logger(__name__)


class ServedModel(msgspec.Struct, frozen=True):
    """What is to be known of the served model to ask it and to use its verdicts."""

    revision: str
    weights: FusionWeights
    constraint: Constraint
    name: str = ""
    """What the model server knows it by."""
    bi_encoder: str | None = None
    """The bi-encoder whose similarities its verdicts carry; None: they carry none."""


class ManifestFile:
    """The manifest of `Settings.model_manifest`; without one, the model's name makes the revision.

    `Settings.shadow_manifest` names the model that is tried beside it, while its file is there.
    """

    def __init__(self, settings: Settings) -> None:
        self._model_name = settings.model_name
        wanted = settings.model_constraint
        self._constraint = None if wanted == "auto" else Constraint(wanted)
        self._main = _File(settings.model_manifest)
        self._shadow = _File(settings.shadow_manifest)
        self._last: ServedModel | None = None
        self._last_shadow: ServedModel | None = None
        self._before: dict[str, ServedModel] = {}

    def current(self) -> ServedModel:
        """The manifest as it stands; where it became unreadable, as it was last.

        Raises BadRequestError when it was never readable.
        """
        before = self._last
        if not self._main.changed() and before is not None:
            return before
        try:
            now = self._served(self._main.load())
        except BadRequestError as error:
            if before is None:
                raise
            _log.warning("manifest_unreadable", error=str(error), revision=before.revision)
            return before
        self._remember(before, now)
        self._last = now
        return now

    def shadow(self) -> ServedModel | None:
        """The model that is tried in shadow; None where there is none or its manifest cannot be read."""
        if self._shadow.changed():
            try:
                manifest = self._shadow.load()
                self._last_shadow = self._served(manifest) if manifest else None
            except BadRequestError as error:
                self._last_shadow = None
                _log.info("no_shadow", reason=str(error))
        return self._last_shadow

    def of(self, revision: str) -> ServedModel | None:
        """The model of this revision: the current one, the shadow, or one that was current a moment ago.

        A model that was current is given only where the server knew it by a name of its own. By a shared name a
        server would answer with the current model, and the answer would be kept as the other's.
        """
        current = self.current()
        if current.revision == revision:
            return current
        shadow = self.shadow()
        if shadow is not None and shadow.revision == revision:
            return shadow
        return self._before.get(revision)

    def wanted(self, revision: str) -> bool:
        """Whether this is the current model or the shadow: one that the server has, or will have again."""
        shadow = self.shadow()
        return revision == self.current().revision or (shadow is not None and shadow.revision == revision)

    def _remember(self, before: ServedModel | None, now: ServedModel) -> None:
        self._before.pop(now.revision, None)
        if before is not None and before.revision != now.revision:
            self._before[before.revision] = before
        self._before = {r: m for r, m in list(self._before.items())[-_REMEMBERED:] if m.name != now.name}

    def _served(self, manifest: ModelManifest | None) -> ServedModel:
        constraint = self._constraint or (manifest.constraint if manifest else Constraint.NONE)
        name = (manifest.served_name if manifest else None) or self._model_name
        served = ServedModel(
            revision=model_revision(manifest, self._model_name, constraint),
            weights=manifest.weights if manifest else FusionWeights(),
            constraint=constraint,
            name=name,
            bi_encoder=manifest.bi_encoder if manifest else None,
        )
        _log.info("model", name=name, revision=served.revision, constraint=constraint.value)
        return served


class _File:
    """A manifest's file, which may be none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None

    def changed(self) -> bool:
        """Whether it is another than at the call before."""
        before, self._stamp = self._stamp, self._read_stamp()
        return self._stamp != before

    def load(self) -> ModelManifest | None:
        """None where no file is set. Raises BadRequestError."""
        return load_manifest(self._path) if self._path else None

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat() if self._path else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_ino)
