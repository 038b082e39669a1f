"""A real Elasticsearch for tests: jars by a lock, a launcher of ours, compiled by the compiler of another lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whyrank.embedded import jars
from whyrank.embedded.cache import Cache, Progress, digest
from whyrank.embedded.engine import JAVA_OPTIONS, usable
from whyrank.embedded.parts import Part, free_port, running
from whyrank.embedded.process import Launch

HERE = Path(__file__).parent


def part(folder: Path, port: int, cache: Cache) -> Part:
    """Elasticsearch with its data in `folder`, one node, on the loopback interface only."""
    cluster = f"test-{digest(str(folder.resolve()))}"

    def prepare(progress: Progress) -> Launch:
        installed = jars.install(HERE / "elasticsearch.jars", cache, progress)
        classes = jars.compile_java(HERE / "EsDev.java", installed, jars.COMPILER, cache)
        words = ["-cp", jars.class_path(installed, classes), "EsDev", str(folder), str(port), cluster]
        return Launch([str(jars.java()), *JAVA_OPTIONS, "-Dio.netty.noUnsafe=true", *words])

    return Part("elasticsearch", port, prepare, lambda: usable(f"http://127.0.0.1:{port}", cluster))


@contextmanager
def start(folder: Path, port: int | None = None, cache: Cache | None = None) -> Iterator[str]:
    """An Elasticsearch for the length of a `with`; gives its address. Raises PartError when it does not start."""
    port = port or free_port()
    with running(part(folder / "data", port, cache or Cache()), folder / "elasticsearch.log"):
        yield f"http://127.0.0.1:{port}"
