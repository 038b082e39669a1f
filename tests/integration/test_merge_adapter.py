"""An adapter merged into a model answers as the two did apart; with the model environment's own torch and peft."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whyrank.embedded import model_server
from whyrank.embedded.cache import Cache

TINY = Path(__file__).parent / "tiny_llama.py"


def run(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program in the model's environment, which is installed when it is not there."""
    python = model_server.install_environment(Cache()) / "bin" / "python"
    return subprocess.run([python, *map(str, words)], capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("tiny")
    run(TINY, "make", folder)
    yield folder


def logits(model: Path) -> dict[str, Any]:
    out = model.with_suffix(".json")
    run(TINY, "logits", model, out)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_a_merged_model_answers_as_model_and_adapter_did(tiny: Path) -> None:
    run(model_server.MERGER, tiny / "model", tiny / "adapter", tiny / "merged", "float32")
    merged = logits(tiny / "merged")
    expected = np.array(json.loads((tiny / "expected.json").read_text()))
    assert merged["dtype"] == "torch.float32"
    np.testing.assert_allclose(np.array(merged["logits"]), expected, atol=1e-5)
    base = np.array(logits(tiny / "model")["logits"])
    assert np.abs(base - expected).max() > 0.01, "or the adapter would change nothing"
    assert (tiny / "merged" / "tokenizer.json").exists()


def test_an_adapter_of_another_model_is_refused(tiny: Path, tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((tiny / "adapter" / name).read_bytes())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["up_proj"]}))
    found = run(model_server.MERGER, tiny / "model", tmp_path, tmp_path / "merged", "float32", check=False)
    assert found.returncode != 0
    assert "missing adapter keys" in found.stderr
    assert not (tmp_path / "merged").exists()


def test_a_damaged_adapter_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes((tiny / "adapter" / "adapter_config.json").read_bytes())
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not safetensors")
    found = run(model_server.MERGER, tiny / "model", tmp_path, tmp_path / "merged", "float32", check=False)
    assert found.returncode != 0
    assert not (tmp_path / "merged").exists()
