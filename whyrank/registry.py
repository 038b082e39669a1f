"""Model versions on disk: what can be served, what is served, and who decided it when.

    <root>/2026-11-23-a1b2c3/   one version: never changed once it is there
        adapter/ or weights/    peft's files, or a whole model's
        manifest.json           ModelManifest: how it is served and how it was made
        evaluation.json         what its evaluation found, where it had one
        SHA256SUMS              of all of the above, as `sha256sum -c` reads it
    <root>/current, shadow      which version is to serve, and which is to be tried beside it
    <root>/history.jsonl        every change of the pointers and what became of it
    <root>/serving.json         what the model host really serves

Whoever serves follows `current` and says in `serving.json` how that went: a pointer is a wish, not a fact. Everything
appears whole or not at all, and writers of several processes exclude each other.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec.structs import replace

from whyrank.embedded.cache import digest, exclusive
from whyrank.errors import BadRequestError, RegistryError
from whyrank.records import ModelManifest, load_manifest, save_manifest
from whyrank.sealed import DRAFT, SUMS, check, copy, seal, sha256, sum_lines, sums_of, write_whole

__all__ = [
    "ADAPTER",
    "ADAPTER_FILES",
    "EVALUATION",
    "MANIFEST",
    "SUMS",
    "WEIGHTS",
    "Action",
    "Event",
    "Registry",
    "RegistryError",
    "Serving",
    "Version",
    "served_name",
]

ADAPTER, WEIGHTS, MANIFEST = "adapter", "weights", "manifest.json"
EVALUATION = "evaluation.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_WEIGHTS_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})
"""No pickles: a model is data, and loading one must not run code."""
_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,64}")


class Version(msgspec.Struct, frozen=True):
    """One version, as `load` verified it. `folder` is None for the base model as it is."""

    name: str
    manifest: ModelManifest
    folder: Path | None = None

    @property
    def adapter(self) -> Path | None:
        """Its peft adapter, None where it has none."""
        return self._part(ADAPTER)

    @property
    def evaluation(self) -> Path | None:
        """What its evaluation found; None where it had none."""
        found = self.folder / EVALUATION if self.folder is not None else None
        return found if found is not None and found.is_file() else None

    @property
    def weights(self) -> Path | None:
        """Its whole model, None where it is an adapter or the base."""
        return self._part(WEIGHTS)

    def _part(self, name: str) -> Path | None:
        return self.folder / name if self.folder is not None and (self.folder / name).is_dir() else None


class Action(StrEnum):
    """What happened to a pointer."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    SHADOW = "shadow"
    REFUSE = "refuse"
    """The gate kept `version` out."""
    SERVE = "serve"
    """Searches are judged by `version` from now on; by `before` until then."""
    FAIL = "fail"
    """`version` was to be served and could not be; `before` goes on."""


class Event(msgspec.Struct, frozen=True):
    """A line of the history. `version` None: the shadow was taken away."""

    at: datetime
    by: str
    action: Action
    version: str | None
    before: str | None = None
    reason: str = ""


class Serving(msgspec.Struct, frozen=True):
    """What the model host says of itself."""

    version: str | None = None
    """The version that answers; None until the first one does."""
    since: datetime | None = None
    loading: str | None = None
    """The version that is being prepared, while the one above goes on."""
    failed: str | None = None
    """The version that was to be served last and could not be; None once another one could."""
    failure: str = ""
    decided: datetime | None = None
    """When the pointer was written that this is the outcome of; a later one is still to be followed."""
    shadow: str | None = None
    """The version that runs beside it."""


class Registry:
    """The versions under `root`. Reading needs no lock; every writing call takes it.

    `shipped` is a version that comes with the program, in the same form; `base` describes the base model as it is,
    the version of that manifest's name. Both are there without being in `root`, and cannot be written.
    """

    def __init__(self, root: Path, *, shipped: Path | None = None, base: ModelManifest | None = None) -> None:
        self.root = root
        self._shipped = shipped if shipped is not None and shipped.is_dir() else None
        self._base = base
        self._shipped_name = "shipped"  # where its manifest cannot be read: loading it by this name says why
        if self._shipped is not None:
            with suppress(RegistryError):
                self._shipped_name = self.load_folder(self._shipped, verify=False).name

    def add(self, source: Path, manifest: ModelManifest, evaluation: Path | None = None) -> str:
        """Copy an adapter (peft's two files) or a model's folder in, with its evaluation; gives the version's name.

        The name is the manifest's date and the hash of what is copied, so adding the same again gives the same
        version. `manifest.name`, `adapter` and the model's hash in `material` are filled in here.
        Raises RegistryError when `source` is neither.
        """
        kind, files = _content(source)
        sums = {name: sha256(source / name) for name in files}
        content = hashlib.sha256(sum_lines(sums).encode()).hexdigest()
        copied = {f"{kind}/{name}": value for name, value in sums.items()}
        if evaluation is not None:
            copied[EVALUATION] = sha256(evaluation)
        with self._writing():
            name = self._name(manifest.created, copied)
            if (self.root / name).is_dir():
                return name
            draft = self.root / f"{DRAFT}{uuid.uuid4().hex}"
            (draft / kind).mkdir(parents=True)
            for file in files:
                copy(source / file, draft / kind / file)
            material = {**manifest.material, kind: content}
            adapter = name if kind == ADAPTER else None
            save_manifest(replace(manifest, name=name, adapter=adapter, material=material), draft / MANIFEST)
            if evaluation is not None:
                copy(evaluation, draft / EVALUATION)
            seal(draft)
            self.load_folder(draft)  # what was read twice must have been the same twice
            draft.rename(self.root / name)
        return name

    def export(self, name: str, folder: Path) -> None:
        """Copy a version to a folder of its own, as a package ships it. Raises RegistryError."""
        version = self.load(name)
        if version.folder is None or folder.exists():
            raise RegistryError(f"{folder} is there already" if version.folder else f"{name} has no folder")
        draft = folder.with_name(f"{DRAFT}{uuid.uuid4().hex}")
        shutil.copytree(version.folder, draft)
        draft.rename(folder)

    def load(self, name: str) -> Version:
        """A version whose every file is what its checksums say. Raises RegistryError naming what is not."""
        return self._find(name, verify=True)

    def read(self, name: str) -> Version:
        """The same, unverified: for showing, not for serving. Raises RegistryError."""
        return self._find(name, verify=False)

    def _find(self, name: str, *, verify: bool) -> Version:
        if self._base is not None and name == self._base.name:
            return Version(name, self._base)
        if self._shipped is not None and name == self._shipped_name:
            return self.load_folder(self._shipped, verify=verify)
        folder = self.root / name
        if not _NAME.fullmatch(name) or not folder.is_dir():
            known = ", ".join(self.names()) or "none"
            raise RegistryError(f"there is no model version {name!r} in {self.root}; there are {known}")
        version = self.load_folder(folder, verify=verify)
        if version.name != name:
            raise RegistryError(f"{folder / MANIFEST} is of the version {version.name}, not {name}")
        return version

    @staticmethod
    def load_folder(folder: Path, *, verify: bool = True) -> Version:
        """A version by its folder. Raises RegistryError."""
        if verify:
            check(folder)
        try:
            manifest = load_manifest(folder / MANIFEST)
        except BadRequestError as error:
            raise RegistryError(str(error)) from error
        return Version(manifest.name, manifest, folder)

    def names(self) -> list[str]:
        """All versions, the oldest first; the base and the shipped one before all."""
        found = self.root.iterdir() if self.root.is_dir() else ()
        ours = sorted(
            (p for p in found if p.is_dir() and _NAME.fullmatch(p.name)), key=lambda p: (p.stat().st_mtime_ns, p.name)
        )
        built_in = [self._base.name] if self._base is not None else []
        built_in += [self._shipped_name] if self._shipped is not None else []
        return [*built_in, *(path.name for path in ours)]

    def default(self) -> str | None:
        """What is served where nothing was promoted: the shipped version, else the base."""
        if self._shipped is not None:
            return self._shipped_name
        return self._base.name if self._base is not None else None

    def current(self) -> str | None:
        """The version that is to serve. Raises RegistryError when the pointer cannot be read."""
        event = self._pointer("current")
        return event.version if event is not None else self.default()

    def decided(self) -> datetime | None:
        """When `current` was last written; None where it never was. Raises RegistryError."""
        event = self._pointer("current")
        return event.at if event is not None else None

    def shadowed(self) -> str | None:
        """The version that is to run in shadow, if any."""
        event = self._pointer("shadow")
        return event.version if event is not None else None

    def promote(self, name: str, reason: str) -> Event:
        """Point `current` at a version that loads. Raises RegistryError."""
        self.load(name)
        before = None
        with self._writing():
            with suppress(RegistryError):  # an unreadable pointer is mended by writing it
                before = self.current()
            return self._point("current", Action.PROMOTE, name, before, reason)

    def rollback(self, reason: str) -> Event:
        """Point `current` back at the version before; again, at the one before that. Raises RegistryError."""
        with self._writing():
            served: list[str] = []
            for event in self._events():
                if event.action is Action.PROMOTE:
                    steps = (event.before, event.version) if not served else (event.version,)
                    served += [name for name in steps if name is not None and served[-1:] != [name]]
                elif event.action is Action.ROLLBACK:
                    served.pop()
            if len(served) < 2:
                raise RegistryError("there is no version before the current one")
            self.load(served[-2])
            return self._point("current", Action.ROLLBACK, served[-2], served[-1], reason)

    def shadow(self, name: str | None, reason: str = "") -> Event:
        """Run a version in shadow, or none. Raises RegistryError."""
        if name is not None:
            self.load(name)
        before = None
        with self._writing():
            with suppress(RegistryError):
                before = self.shadowed()
            return self._point("shadow", Action.SHADOW, name, before, reason)

    def note(self, action: Action, version: str | None, reason: str, before: str | None = None) -> Event:
        """Add a line to the history that moves no pointer."""
        with self._writing():
            event = _event(action, version, before, reason)
            self._append(event)
        return event

    def history(self) -> list[Event]:
        """All events, the oldest first."""
        with self._writing():
            return self._events()

    def stamp(self, pointer: str) -> tuple[int, int] | None:
        """Changes whenever the pointer `current` or `shadow` is written, be it with the same version."""
        try:
            found = (self.root / pointer).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def serving(self) -> Serving | None:
        """What the model host said last; None where there is none. It may have ended since."""
        try:
            return msgspec.json.decode((self.root / "serving.json").read_bytes(), type=Serving)
        except (OSError, msgspec.DecodeError):
            return None

    def tell(self, serving: Serving) -> None:
        """What `serving` gives from now on: the model host's to say."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_whole(self.root / "serving.json", msgspec.json.format(msgspec.json.encode(serving), indent=2) + b"\n")

    def _name(self, created: datetime, copied: dict[str, str]) -> str:
        """The date and as much of the hash as tells this content from every other of the day."""
        content = hashlib.sha256(sum_lines(copied).encode()).hexdigest()
        for digits in range(6, 65, 2):
            name = f"{created:%Y-%m-%d}-{content[:digits]}"
            folder = self.root / name
            if not folder.is_dir() or {n: s for n, s in sums_of(folder).items() if n != MANIFEST} == copied:
                return name
        raise RegistryError(f"no name is left for {content}")

    def _point(self, pointer: str, action: Action, version: str | None, before: str | None, reason: str) -> Event:
        event = _event(action, version, before, reason)
        write_whole(self.root / pointer, msgspec.json.encode(event) + b"\n")
        self._append(event)
        return event

    def _pointer(self, name: str) -> Event | None:
        path = self.root / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=Event)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise RegistryError(f"{path}: {error}; promote a version to write it anew") from error

    def _events(self) -> list[Event]:
        """Under the lock, after `_settle`: every line is whole."""
        path = self.root / "history.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        try:
            return [msgspec.json.decode(line, type=Event) for line in lines]
        except msgspec.DecodeError as error:
            raise RegistryError(f"{path}: {error}") from error

    def _append(self, event: Event) -> None:
        with (self.root / "history.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock, on a registry without loose ends."""
        self.root.mkdir(parents=True, exist_ok=True)
        with exclusive(self.root / "lock"):
            self._settle()
            yield

    def _settle(self) -> None:
        """Finish what a killed writer left: half a line, an unwritten line, a draft."""
        for draft in self.root.glob(f"{DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)
        path = self.root / "history.jsonl"
        if path.exists():
            whole = path.read_bytes().rfind(b"\n") + 1
            if whole < path.stat().st_size:
                os.truncate(path, whole)
        known = self._events()
        for pointer in ("current", "shadow"):
            try:
                event = self._pointer(pointer)
            except RegistryError:
                continue  # promoting writes it anew
            if event is not None and event not in known:
                self._append(event)


def served_name(manifest: ModelManifest) -> str:
    """The name by which a server is asked for exactly this model: no other model ever has it.

    It holds the version and the hash of all that the model is made of, so that a server that answers to it can only
    give answers of that version's revision.
    """
    return f"whyrank-{manifest.name}-{digest(msgspec.json.encode((manifest.base, sorted(manifest.material.items()))))}"


def _content(source: Path) -> tuple[str, list[str]]:
    """What kind of model a folder holds, and the files that make it."""
    if all((source / name).is_file() for name in ADAPTER_FILES):
        return ADAPTER, list(ADAPTER_FILES)
    files = sorted(p.name for p in source.glob("*") if p.is_file() and p.suffix in _WEIGHTS_SUFFIXES)
    if "config.json" in files and any(name.endswith(".safetensors") for name in files):
        return WEIGHTS, files
    raise RegistryError(
        f"{source} holds neither an adapter ({' and '.join(ADAPTER_FILES)}) nor a model (config.json and safetensors)"
    )


def _event(action: Action, version: str | None, before: str | None, reason: str) -> Event:
    try:
        by = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        by = str(os.getuid())
    return Event(datetime.now(UTC), by, action, version, before, reason)
