"""The registry of model versions: whole or not at all, verified, and safe with several writers."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from whyrank import registry as registries
from whyrank import sealed
from whyrank.errors import WhyRankError
from whyrank.records import History, ModelManifest, load_manifest, model_revision
from whyrank.registry import ADAPTER_FILES, MANIFEST, SUMS, Action, Registry, RegistryError, Serving, served_name
from whyrank.types import FusionWeights

MADE = datetime(2026, 11, 23, 12, tzinfo=UTC)
BASE = ModelManifest("base", "tiny", MADE, material={"weights": "w"})


def manifest(**values: Any) -> ModelManifest:
    return ModelManifest(**{"name": "new", "base": "tiny", "created": MADE, **values})


def adapter(folder: Path, content: str = "weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text(content)
    (folder / "optimizer.pt").write_text("of a training run; no part of a version")
    return folder


def registry(tmp_path: Path, **values: Any) -> Registry:
    return Registry(tmp_path / "models", base=BASE, **values)


def added(tmp_path: Path, *contents: str) -> tuple[Registry, list[str]]:
    subject = registry(tmp_path)
    return subject, [subject.add(adapter(tmp_path / f"a-{text}", text), manifest()) for text in contents]


def test_a_version_has_its_files_its_manifest_and_its_checksums(tmp_path: Path) -> None:
    subject = registry(tmp_path)
    history = History(recipe="embedded", commit="abc", metrics={"nDCG@10": 0.5})
    made = manifest(weights=FusionWeights(0.3, 0.7), history=history, material={"data": "d"})
    name = subject.add(adapter(tmp_path / "a"), made)
    assert name.startswith("2026-11-23-")
    version = subject.load(name)
    assert version.adapter is not None
    assert sorted(path.name for path in version.adapter.iterdir()) == sorted(ADAPTER_FILES)
    assert version.weights is None
    assert (version.manifest.name, version.manifest.adapter) == (name, name)
    assert version.manifest.weights == made.weights
    assert version.manifest.history == history
    assert version.manifest.material["data"] == "d"
    checked = subprocess.run(
        ["sha256sum", "-c", "--strict", SUMS], cwd=version.folder, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert subject.names() == ["base", name]


def test_the_same_content_is_the_same_version_and_other_content_another(tmp_path: Path) -> None:
    subject, (first, second) = added(tmp_path, "one", "two")
    assert subject.add(tmp_path / "a-one", manifest()) == first
    assert first != second
    revisions = {model_revision(subject.load(name).manifest, "x") for name in (first, second, "base")}
    names = {served_name(subject.load(name).manifest) for name in (first, second, "base")}
    assert len(revisions) == len(names) == 3


def test_an_adapter_evaluated_again_is_a_version_of_its_own(tmp_path: Path) -> None:
    subject, (bare,) = added(tmp_path, "one")
    names = [bare]
    for text in ("first", "second"):
        (tmp_path / text).write_text(text)
        names.append(subject.add(tmp_path / "a-one", manifest(), tmp_path / text))
    assert len(set(names)) == 3
    assert subject.add(tmp_path / "a-one", manifest(), tmp_path / "first") == names[1]
    evaluation = subject.load(names[2]).evaluation
    assert evaluation is not None
    assert evaluation.read_text() == "second"
    assert subject.load(bare).evaluation is None


def test_a_version_is_exported_whole(tmp_path: Path) -> None:
    subject, (name,) = added(tmp_path, "one")
    subject.export(name, tmp_path / "shipped")
    assert Registry(tmp_path / "home", shipped=tmp_path / "shipped").load(name).adapter is not None
    with pytest.raises(RegistryError, match="there already"):
        subject.export(name, tmp_path / "shipped")
    with pytest.raises(RegistryError, match="no folder"):
        subject.export("base", tmp_path / "other")


def test_a_served_name_is_of_all_that_the_model_is_made_of() -> None:
    assert served_name(manifest(material={"weights": "a"})) != served_name(manifest(material={"weights": "b"}))
    assert served_name(manifest(weights=FusionWeights(1, 0))) == served_name(manifest(weights=FusionWeights(0, 1)))


def test_a_whole_model_is_a_version_too_but_no_pickle(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "pytorch_model.bin", "training_args.bin"):
        (whole / name).write_text(name)
    subject = registry(tmp_path)
    version = subject.load(subject.add(whole, manifest()))
    assert version.weights is not None
    assert sorted(path.name for path in version.weights.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (version.adapter, version.manifest.adapter) == (None, None)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="neither an adapter"):
        registry(tmp_path).add(tmp_path, manifest())
    assert registry(tmp_path).names() == ["base"]


@pytest.mark.parametrize("file", ["adapter/adapter_model.safetensors", "adapter/adapter_config.json", MANIFEST])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_version_is_not_loaded_and_the_file_is_named(tmp_path: Path, file: str, damage: str) -> None:
    subject, (name,) = added(tmp_path, "one")
    path = tmp_path / "models" / name / file
    if damage == "changed":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(RegistryError, match=file.replace("/", ".")) as raised:
        subject.load(name)
    assert isinstance(raised.value, WhyRankError)
    with pytest.raises(RegistryError):
        subject.promote(name, "damaged")
    assert subject.current() == "base"


@pytest.mark.parametrize(
    ("line", "words"),
    [("", "no checksum"), ("x  y", "not a checksum"), (f"{'0' * 64}  ../../etc/passwd", "not a checksum")],
)
def test_checksums_that_are_none_are_named(tmp_path: Path, line: str, words: str) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    (folder / SUMS).write_text(line)
    with pytest.raises(RegistryError, match=words):
        sealed.check(folder)


def test_a_file_that_nobody_vouches_for_is_named(tmp_path: Path) -> None:
    subject, (name,) = added(tmp_path, "one")
    (tmp_path / "models" / name / "adapter" / "adapter_model.bin").write_text("a pickle")
    with pytest.raises(RegistryError, match=r"adapter_model\.bin has no checksum"):
        subject.load(name)


def test_a_renamed_version_is_not_taken_for_another(tmp_path: Path) -> None:
    subject, (name,) = added(tmp_path, "one")
    (tmp_path / "models" / name).rename(tmp_path / "models" / "best")
    with pytest.raises(RegistryError, match=f"is of the version {name}, not best"):
        subject.load("best")


@pytest.mark.parametrize("name", ["none", "..", "../models", "", "a/b", ".draft-1", "current"])
def test_an_unknown_version_is_said_to_be_none(tmp_path: Path, name: str) -> None:
    subject, (known,) = added(tmp_path, "one")
    subject.promote(known, "first")
    with pytest.raises(RegistryError, match=known):
        subject.load(name)


def test_the_shipped_version_is_there_and_verified_like_any_other(tmp_path: Path) -> None:
    elsewhere, (name,) = added(tmp_path, "one")
    shipped = elsewhere.load(name).folder
    assert shipped is not None
    subject = Registry(tmp_path / "home", shipped=shipped, base=BASE)
    assert subject.names() == ["base", name]
    assert subject.current() == name
    (shipped / "adapter" / "adapter_config.json").write_text("other")
    with pytest.raises(RegistryError, match="adapter_config"):
        subject.load(name)
    (shipped / MANIFEST).write_text("{")
    broken = Registry(tmp_path / "home", shipped=shipped, base=BASE)
    assert broken.current() == "shipped"
    assert broken.load("base").manifest == BASE
    with pytest.raises(RegistryError, match="adapter_config"):
        broken.load("shipped")
    assert Registry(tmp_path / "home", shipped=tmp_path / "none", base=BASE).current() == "base"
    assert Registry(tmp_path / "home").current() is None


def test_promotion_and_rollback_walk_the_history(tmp_path: Path) -> None:
    subject, (a, b, c) = added(tmp_path, "a", "b", "c")
    for name in (a, b, b, c):
        subject.promote(name, f"for {name}")
        assert subject.current() == name
    assert [subject.rollback("worse").version for _ in range(3)] == [b, a, "base"]
    with pytest.raises(RegistryError, match="no version before"):
        subject.rollback("again")
    assert subject.current() == "base"
    subject.promote(c, "better now")
    assert subject.rollback("no").version == "base"
    events = subject.history()
    assert [event.action for event in events].count(Action.ROLLBACK) == 4
    assert (events[0].before, events[0].version, events[0].reason) == ("base", a, f"for {a}")
    assert all(event.by for event in events)


def test_a_version_that_is_gone_is_not_rolled_back_to(tmp_path: Path) -> None:
    subject, (a, b) = added(tmp_path, "a", "b")
    subject.promote(a, "")
    subject.promote(b, "")
    shutil.rmtree(tmp_path / "models" / a)
    with pytest.raises(RegistryError, match=a):
        subject.rollback("")
    assert subject.current() == b


def test_the_shadow_is_a_pointer_of_its_own(tmp_path: Path) -> None:
    subject, (a, b) = added(tmp_path, "a", "b")
    subject.promote(a, "")
    subject.shadow(b, "to see")
    assert (subject.current(), subject.shadowed()) == (a, b)
    subject.shadow(None)
    assert subject.shadowed() is None
    assert [(event.action, event.version) for event in subject.history()][1:] == [
        (Action.SHADOW, b),
        (Action.SHADOW, None),
    ]
    with pytest.raises(RegistryError):
        subject.shadow("none")


def test_a_pointer_tells_when_it_is_written_anew(tmp_path: Path) -> None:
    subject, (a,) = added(tmp_path, "a")
    assert subject.stamp("current") is None
    subject.promote(a, "")
    first = subject.stamp("current")
    subject.promote(a, "again")
    assert subject.stamp("current") != first


def test_an_unreadable_pointer_is_said_and_mended_by_writing_it(tmp_path: Path) -> None:
    subject, (a,) = added(tmp_path, "a")
    (tmp_path / "models" / "current").write_text("{")
    with pytest.raises(RegistryError, match="current"):
        subject.current()
    subject.promote(a, "mend")
    assert subject.current() == a


def test_what_the_host_says_is_read_back(tmp_path: Path) -> None:
    subject = registry(tmp_path)
    assert subject.serving() is None
    subject.tell(Serving(version="a", failed="b", failure="no memory"))
    assert subject.serving() == Serving(version="a", failed="b", failure="no memory")
    (tmp_path / "models" / "serving.json").write_text("half")
    assert subject.serving() is None


def test_half_a_line_of_history_is_dropped_and_a_lost_one_found_again(tmp_path: Path) -> None:
    subject, (a, b) = added(tmp_path, "a", "b")
    subject.promote(a, "first")
    subject.promote(b, "second")
    path = tmp_path / "models" / "history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20])  # killed after the pointer, within the line
    assert [event.version for event in subject.history()] == [a, b]
    assert subject.rollback("").version == a
    assert all(json.loads(line) for line in path.read_text().splitlines())


def _add_slowly(root: Path, source: Path) -> None:
    copy = sealed.copy

    def slow(source: Path, target: Path) -> None:
        copy(source, target)
        (root / "copying").touch()
        time.sleep(600)

    registries.copy = slow
    Registry(root).add(source, manifest())


def test_a_killed_writer_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    root, source = tmp_path / "models", adapter(tmp_path / "a")
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_add_slowly, args=(root, source))
    writer.start()
    ends = time.monotonic() + 60
    while not (root / "copying").exists():
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    subject = Registry(root)
    assert subject.names() == []
    assert list(root.glob(".draft-*"))
    name = subject.add(source, manifest())  # the lock is free, and the draft is cleared away
    assert subject.load(name).name == name
    assert not list(root.glob(".draft-*"))


def _promote_often(root: Path, names: list[str], barrier: Any) -> None:
    barrier.wait()
    for name in names * 10:
        Registry(root).promote(name, str(os.getpid()))


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    subject, names = added(tmp_path, "a", "b")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    writers = [context.Process(target=_promote_often, args=(subject.root, names, barrier)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    events = subject.history()
    assert len(events) == 40
    assert subject.current() == events[-1].version
    assert all(event.before == before.version for before, event in itertools.pairwise(events))


def test_a_manifest_without_a_history_is_read_as_before(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"name": "whyrank", "base": "b", "created": "2026-01-01T00:00:00Z"}')
    old = load_manifest(tmp_path / "m.json")
    assert (old.served_name, old.history) == (None, None)
