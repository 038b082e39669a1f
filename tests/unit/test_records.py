from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest

from whyrank import records
from whyrank.errors import BadRequestError
from whyrank.prompt import Constraint
from whyrank.records import ModelManifest, load_manifest, model_revision, save_manifest
from whyrank.types import FusionWeights

MANIFEST = ModelManifest(
    name="why",
    base="small",
    created=datetime(2026, 1, 2, tzinfo=UTC),
    adapter="adapters/why",
    material={"model.safetensors": "abc"},
    weights=FusionWeights(0.25, 0.75),
    constraint=Constraint.QUOTE,
    bi_encoder="bi",
)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    save_manifest(MANIFEST, path)
    assert load_manifest(path) == MANIFEST
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base": None}, "base"),
        ({"name": ""}, "name"),
        ({"weights": {"engine": "much"}}, "weights.engine"),
        ({"constraint": "tight"}, "constraint"),
        ({"created": "yesterday"}, "created"),
        ({"surprise": 1}, "surprise"),
        ({"version": 2}, "version"),
        ({"version": "new"}, "version"),
        ({"material": {"file": 1}}, "material[...]"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(msgspec.to_builtins(MANIFEST) | change))
    with pytest.raises(BadRequestError) as error:
        load_manifest(path)
    assert error.value.field == field


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b"{}", b'{"version": 1}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(BadRequestError):
        load_manifest(path)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError) as error:
        load_manifest(tmp_path / "none.json")
    assert error.value.field == "model_manifest"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "b"},
        {"base": "b"},
        {"adapter": None},
        {"material": {"model.safetensors": "abd"}},
        {"constraint": Constraint.LABEL},
        {"bi_encoder": None},
        {"bi_encoder": "b"},
    ],
)
def test_the_revision_covers_what_decides_an_answer(change: dict[str, Any]) -> None:
    assert model_revision(msgspec.structs.replace(MANIFEST, **change), "x") != model_revision(MANIFEST, "x")


@pytest.mark.parametrize("change", [{"weights": FusionWeights()}, {"created": datetime(2027, 1, 1, tzinfo=UTC)}])
def test_the_revision_leaves_out_what_does_not(change: dict[str, Any]) -> None:
    assert model_revision(msgspec.structs.replace(MANIFEST, **change), "x") == model_revision(MANIFEST, "x")


def test_a_manifest_from_before_bi_encoders_is_read_and_keeps_its_revision(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    old = {key: msgspec.to_builtins(MANIFEST)[key] for key in ("name", "base", "created", "adapter", "material")}
    path.write_text(
        json.dumps({**old, "weights": {"engine": 0.25, "relevance": 0.75}, "constraint": "quote", "version": 1})
    )
    manifest = load_manifest(path)
    assert manifest.weights == FusionWeights(0.25, 0.75, 0.0)
    made_of = (("why", "small", "adapters/why", [("model.safetensors", "abc")]), records.PROMPT_VERSION, "quote")
    assert model_revision(manifest, "x") == blake2b(msgspec.json.encode(made_of), digest_size=8).hexdigest()


def test_the_constraint_in_use_goes_before_the_manifests() -> None:
    assert model_revision(MANIFEST, "x", Constraint.QUOTE) == model_revision(MANIFEST, "x")
    assert model_revision(MANIFEST, "x", Constraint.NONE) != model_revision(MANIFEST, "x")


def test_another_prompt_is_another_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    before = model_revision(MANIFEST, "x"), model_revision(None, "x")
    monkeypatch.setattr(records, "PROMPT_VERSION", "other")
    assert model_revision(MANIFEST, "x") != before[0]
    assert model_revision(None, "x") != before[1]


def test_without_a_manifest_the_name_decides() -> None:
    assert model_revision(None, "a") != model_revision(None, "b")
