"""The documentation of the Python at hand, and how modules are read."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from ingest.documents import Document, Link
from ingest.python_docs import PythonDocs
from ingest.python_source import from_source


@pytest.fixture(scope="module")
def pages() -> dict[str, Document]:
    source = PythonDocs()
    documents = list(source.documents())
    assert source.skipped == []
    assert [name for name, count in Counter(d.id for d in documents).items() if count > 1] == []
    return {document.id: document for document in documents}


def test_json_dumps_has_its_text(pages: dict[str, Document]) -> None:
    page = pages["json.dumps"]
    assert page.title == "json.dumps - function"
    assert page.url == "https://docs.python.org/3/library/json.html#json.dumps"
    assert page.body.startswith("dumps(obj, *, skipkeys=False")
    assert "Serialize ``obj`` to a JSON formatted ``str``." in page.body
    assert page.language == "en"
    assert Link(url=page.url, anchor="json.dumps") in pages["json"].links
    assert "dumps: Serialize ``obj``" in pages["json"].body


@pytest.mark.parametrize(
    ("name", "kind", "address"),
    [
        ("json", "module", "json.html#module-json"),
        ("json.JSONEncoder", "class", "json.html#json.JSONEncoder"),
        ("json.JSONEncoder.default", "method", "json.html#json.JSONEncoder.default"),
        ("pathlib.PurePath.suffix", "property", "pathlib.html#pathlib.PurePath.suffix"),
        ("asyncio.gather", "function", "asyncio-task.html#asyncio.gather"),
        (
            "concurrent.futures.ThreadPoolExecutor",
            "class",
            "concurrent.futures.html#concurrent.futures.ThreadPoolExecutor",
        ),
        ("collections.abc.Mapping", "class", "collections.abc.html#collections.abc.Mapping"),
        ("collections.deque", "class", "collections.html#collections.deque"),
        ("os.listdir", "function", "os.html#os.listdir"),
        ("os.path.join", "function", "os.path.html#os.path.join"),
        ("os.path.exists", "function", "os.path.html#os.path.exists"),
        ("math.sqrt", "function", "math.html#math.sqrt"),
        ("zlib.compress", "function", "zlib.html#zlib.compress"),
        ("len", "function", "functions.html#len"),
        ("int", "class", "functions.html#int"),
        ("str.join", "method", "stdtypes.html#str.join"),
        ("ValueError", "exception", "exceptions.html#ValueError"),
        ("xml.etree.ElementTree.parse", "function", "xml.etree.elementtree.html#xml.etree.ElementTree.parse"),
    ],
)
def test_pages_bear_the_names_and_addresses_that_programs_use(
    pages: dict[str, Document], name: str, kind: str, address: str
) -> None:
    assert pages[name].title == f"{name} - {kind}"
    assert pages[name].url == f"https://docs.python.org/3/library/{address}"


def test_implementation_details_have_no_pages(pages: dict[str, Document]) -> None:
    assert len(pages) > 3000
    assert (
        not {"os.Mapping", "asyncio.tasks.gather", "posixpath.join", "json.decoder.JSONDecoder", "this"} & pages.keys()
    )
    private = [name for name in pages if any(part.startswith("_") for part in name.split(".")) and name != "__future__"]
    assert [name for name in private if not name.startswith("__future__.")] == []
    assert not [name for name in pages if name.startswith(("test.", "idlelib", "tkinter", "turtledemo"))]
    assert all(page.body for page in pages.values())


def test_nothing_with_effects_is_imported() -> None:
    code = (
        "import sys, warnings; from ingest.python_docs import PythonDocs; before = set(sys.modules);"
        "list(PythonDocs().documents());"
        "print(*sorted(m for m in set(sys.modules) - before if getattr(sys.modules[m], '__file__', '') and"
        " str(sys.modules[m].__file__).endswith('.py')))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    imported = {name for name in done.stdout.split() if not name.startswith("_sysconfigdata")}
    # What the C part of pickle imports by itself, and nothing else that is written in Python.
    assert imported <= {"_compat_pickle", "copyreg"}


SOURCE = b'''
"""A module.

More of it.
"""
from ._parts import helper as visible, other
from . import sibling
from json import *

__all__ = ["Thing", "visible"]

if True:
    def hidden(): "Not listed."

try:
    class Thing(Base):
        def __init__(self, a, /, b: int = 1, *rest, c, **more):
            """Make a thing."""
        @property
        def size(self) -> int:
            """How large."""
        @staticmethod
        def make(x): """Make."""
        @classmethod
        async def load(cls, path=None) -> "Thing":
            """Load it."""
        def undocumented(self): ...
        def _private(self): """No."""
except ImportError:
    class Thing:
        """The second definition."""
'''


def test_a_source_is_read_without_running_it() -> None:
    module = from_source("pkg.sub", SOURCE, is_package=False)
    assert module.text == "A module.\n\nMore of it."
    assert [(i.source, i.names) for i in module.imports] == [
        ("pkg._parts", {"helper": "visible", "other": "other"}),
        ("pkg", {"sibling": "sibling"}),
        ("json", None),
    ]
    assert (module.publishes("Thing"), module.publishes("hidden"), module.passes_on("visible")) == (True, False, True)
    thing = module.entries["Thing"]
    assert thing.signature == "class Thing(a, /, b: int=1, *rest, c, **more)"
    assert thing.text == "Make a thing."
    assert [(m.kind, m.signature, m.text) for m in thing.members] == [
        ("property", "size", "How large."),
        ("method", "make(x)", "Make."),
        ("method", "async load(path=None) -> 'Thing'", "Load it."),
    ]


@pytest.mark.parametrize(
    ("source", "published", "passed_on"),
    [
        (b"", {"a", "b"}, {"a", "b"}),
        (b"__all__ = ['a', '_c']", {"a"}, {"a"}),
        (b"__all__ = ['a']\n__all__ += more", {"a", "b"}, {"a"}),
        (b"__all__ = ['a']\n__all__.extend(more)", {"a", "b"}, {"a"}),
        (b"__all__ = one.__all__ + two.__all__", {"a", "b"}, {"a", "b"}),
        (b"__all__ = ['a']\ndef __dir__(): return __all__", {"a"}, {"a"}),
    ],
)
def test_what_all_lists(source: bytes, published: set[str], passed_on: set[str]) -> None:
    module = from_source("m", source, is_package=False)
    assert {name for name in ("a", "b", "_c") if module.publishes(name)} == published
    assert {name for name in ("a", "b", "_c") if module.passes_on(name)} == passed_on


def test_relative_imports_of_a_package_count_from_itself() -> None:
    module = from_source("a.b", b"from .c import d\nfrom .. import e", is_package=True)
    assert [i.source for i in module.imports] == ["a.b.c", "a"]
