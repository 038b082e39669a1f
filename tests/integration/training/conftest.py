"""The model's own environment, and tiny models made in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from whyrank.embedded import model_server
from whyrank.embedded.cache import Cache

ROOT = Path(__file__).resolve().parents[3]
InModelEnvironment = Callable[..., str]


@pytest.fixture(scope="session")
def in_model_environment() -> InModelEnvironment:
    """Runs a module by the model environment's Python; gives what it prints."""
    python = model_server.install_environment(Cache()) / "bin" / "python"

    def run(module: str, *words: object) -> str:
        command = [str(python), "-m", module, *map(str, words)]
        variables = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def tiny(in_model_environment: InModelEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` (a Llama of two layers), `adapter` and `reward`."""
    folder = tmp_path_factory.mktemp("tiny")
    in_model_environment("tests.integration.training.tiny_models", "make", folder, model_server.install_model(Cache()))
    return folder
