"""The documentation of the Python that runs this, page by page: modules, classes, functions, methods.

Docstrings are read from the standard library's sources, so nothing of it is imported or run. Parts written in C have
no source; of these, a list of modules that do nothing on import is asked for its docstrings. Pages bear the names
under which programs use things: `asyncio.gather`, not `asyncio.tasks.gather`.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ingest.documents import Document, Link, Skipped, make_document
from ingest.python_source import Entry, Module, from_compiled, from_source

SITE = "docs.python.org"
_LIBRARY = f"https://{SITE}/3/library/"

_WITHOUT_PAGES = frozenset(
    (
        *(
            "antigravity",
            "distutils",
            "encodings",
            "ensurepip",
            "idlelib",
            "lib2to3",
            "pydoc_data",
            "this",
            "tkinter",
            "turtledemo",
        ),
        *("genericpath", "msilib", "nt", "ntpath", "nturl2path", "opcode", "posix", "turtledemo", "winreg"),
        *("sre_compile", "sre_constants", "sre_parse"),
    )
)
"""Programs, jokes, other systems' modules, and modules whose names are published by others."""
_PARTS_WITHOUT_PAGES = frozenset({"__main__", "macholib", "popen_spawn_win32", "test", "tests"})
_COMPILED = frozenset(
    (
        *("_collections", "_contextvars", "_csv", "_functools", "_io", "_operator", "_pickle", "_queue"),
        *("_random", "_signal", "_socket", "_ssl", "_struct", "_thread", "_weakref", "array", "atexit", "binascii"),
        *("builtins", "cmath", "errno", "faulthandler", "fcntl", "gc", "grp", "itertools", "marshal", "math", "mmap"),
        *("posix", "pwd", "resource", "select", "sys", "syslog", "termios", "time", "unicodedata", "zlib"),
    )
)
"""C modules that may be imported: they define names and do nothing else."""
_RENAMED = {"posixpath": "os.path"}
_FUNCTION_TYPES = frozenset(
    (
        *("bool", "classmethod", "complex", "enumerate", "filter", "float", "int", "map", "object", "property"),
        *("reversed", "slice", "staticmethod", "super", "type", "zip"),
    )
)
"""Classes that the online documentation lists among the built-in functions."""
_PAGES = {
    "asyncio": "asyncio-eventloop",
    "asyncio.exceptions": "asyncio-exceptions",
    "asyncio.futures": "asyncio-future",
    "asyncio.locks": "asyncio-sync",
    "asyncio.protocols": "asyncio-protocol",
    "asyncio.queues": "asyncio-queue",
    "asyncio.runners": "asyncio-runner",
    "asyncio.streams": "asyncio-stream",
    "asyncio.subprocess": "asyncio-subprocess",
    "asyncio.taskgroups": "asyncio-task",
    "asyncio.tasks": "asyncio-task",
    "asyncio.threads": "asyncio-task",
    "asyncio.timeouts": "asyncio-task",
    "asyncio.transports": "asyncio-protocol",
    "cProfile": "profile",
    "concurrent.futures": "concurrent.futures",
    "ctypes": "ctypes",
    "curses.textpad": "curses",
    "dbm": "dbm",
    "email.message.Message": "email.compat32-message",
    "email.mime": "email.mime",
    "importlib.abc": "importlib",
    "importlib.machinery": "importlib",
    "importlib.util": "importlib",
    "json": "json",
    "multiprocessing": "multiprocessing",
    "multiprocessing.shared_memory": "multiprocessing.shared_memory",
    "pstats": "profile",
    "unittest": "unittest",
    "unittest.mock": "unittest.mock",
    "urllib.response": "urllib.request",
    "wsgiref": "wsgiref",
    "xml.dom.expatbuilder": "xml.dom",
    "xml.etree": "xml.etree.elementtree",
    "xml.parsers.expat": "pyexpat",
    "xml.sax.saxutils": "xml.sax.utils",
    "xml.sax.xmlreader": "xml.sax.reader",
}
"""Online pages of what is not on a page of its module's name; what is under a name here goes with it."""


class PythonDocs:
    """The pages; modules whose source cannot be read are kept in `skipped`."""

    def __init__(self) -> None:
        self._library = Path(sysconfig.get_path("stdlib"))
        self._modules: dict[str, Module | None] = {}
        self.skipped: list[Skipped] = []

    def documents(self) -> Iterator[Document]:
        """All pages: each module's, then those of what it publishes. Each definition has one page."""
        published: set[tuple[str, str]] = set()
        ids: set[str] = set()
        for name in self._names():
            module = self._module(name)
            if module is None:
                continue
            everything = self._published(module)
            entries = [item for item in everything if (item[0], item[1].name) not in published]
            if everything and not entries:
                continue  # its package has published all that it is made of
            published |= {(origin, entry.name) for origin, entry in entries}
            for page in _pages(module, entries):
                if page.id not in ids:
                    ids.add(page.id)
                    yield page

    def _names(self) -> list[str]:
        names = {"builtins"}
        for top in sys.stdlib_module_names:
            if top not in _WITHOUT_PAGES and (not top.startswith("_") or top == "__future__"):
                names |= {top, *(f"{top}.{path}" for path in self._submodules(self._library / top))}
        # A package comes before its modules: what it takes from them is published under its name alone.
        return sorted(names, key=lambda name: (name.count("."), name))

    def _submodules(self, package: Path) -> Iterator[str]:
        if not (package / "__init__.py").is_file():
            return
        for path in package.rglob("*.py"):
            parts = path.relative_to(package).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            if parts and not any(part.startswith("_") or part in _PARTS_WITHOUT_PAGES for part in parts):
                yield ".".join(parts)

    def _module(self, name: str) -> Module | None:
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> Module | None:
        base = self._library.joinpath(*name.split("."))
        for path in (base / "__init__.py", base.with_name(base.name + ".py")):
            if path.is_file():
                try:
                    return from_source(name, path.read_bytes(), is_package=path.name == "__init__.py")
                except (OSError, SyntaxError, ValueError, RecursionError) as error:
                    self.skipped.append(Skipped(name=name, reason=f"{path}: {error}"))
                    return None
        if name in _COMPILED:
            try:
                return from_compiled(importlib.import_module(name))
            except ImportError:
                return None  # this Python was built without it
        return None

    def _published(self, module: Module, path: tuple[str, ...] = ()) -> list[tuple[str, Entry]]:
        """Public entries of this module with the names of the modules that define them; its own come first."""
        found = {name: (module.name, entry) for name, entry in module.entries.items() if module.publishes(name)}
        for taken in module.imports:
            source = taken.source
            if not _is_part(source, module.name) or source in path:
                continue
            origin = self._module(source)
            if origin is None:
                continue
            theirs = {entry.name: (by, entry) for by, entry in self._published(origin, (*path, module.name))}
            if taken.names is None:
                found = theirs | found
                continue
            for name, ours in taken.names.items():
                if name in origin.entries:
                    theirs.setdefault(name, (origin.name, origin.entries[name]))
                if name == ours and name in theirs and module.passes_on(name):
                    found.setdefault(name, theirs[name])
        for name in (module.exports or frozenset()) - found.keys():
            found |= self._loaded_late(module.name, name)
        return list(found.values())

    def _loaded_late(self, package: str, name: str) -> dict[str, tuple[str, Entry]]:
        """What a package lists as its own, and takes from a module of its when first asked for it."""
        for part in sorted(self._submodules(self._library.joinpath(*package.split(".")))):
            module = self._module(f"{package}.{part}")
            if module is not None and name in module.entries and module.publishes(name):
                return {name: (module.name, module.entries[name])}
        return {}


def _is_part(source: str, module: str) -> bool:
    """Whether what `module` imports from `source` is published by `module`."""
    top = source.partition(".")[0]
    return source.startswith(module + ".") or top.startswith("_") or top in _WITHOUT_PAGES


def _pages(module: Module, entries: list[tuple[str, Entry]]) -> Iterator[Document]:
    name = _RENAMED.get(module.name, module.name)
    prefix = "" if name == "builtins" else f"{name}."
    links = tuple(Link(url=_url(name, by, e, e.name), anchor=prefix + e.name) for by, e in entries)
    if module.text or entries:
        text = _joined(module.text, *(f"{entry.name}: {entry.summary}" for _, entry in entries))
        page = name if name == "asyncio" else _page_of(name) or name
        yield _page(name, "module", f"{_LIBRARY}{page}.html#module-{name}", text, links)
    for by, entry in entries:
        full = prefix + entry.name
        url = _url(name, by, entry, entry.name)
        methods = [(f"{entry.name}.{member.name}", member) for member in entry.members]
        links = tuple(Link(url=_url(name, by, entry, path), anchor=prefix + path) for path, _ in methods)
        summaries = (f"{member.name}: {member.summary}" for member in entry.members)
        yield _page(full, entry.kind, url, _joined(entry.signature, "", entry.text, *summaries), links)
        for path, member in methods:
            text = _joined(member.signature, "", member.text)
            up = (Link(url=url, anchor=full),)
            yield _page(prefix + path, member.kind, _url(name, by, entry, path), text, up)


def _page(name: str, kind: str, url: str, body: str, links: tuple[Link, ...]) -> Document:
    headings = tuple(link.anchor for link in links) if kind in {"module", "class"} else ()
    return make_document(
        id=name,
        url=url,
        title=f"{name} - {kind}",
        body=body,
        headings=headings,
        links=links,
        site=SITE,
        language="en",
    )


def _joined(*parts: str) -> str:
    return "\n".join(parts).strip()


def _url(module: str, defined_in: str, entry: Entry, path: str) -> str:
    if module == "builtins":
        if entry.kind == "exception":
            page = "exceptions"
        else:
            page = "functions" if entry.kind == "function" or path in _FUNCTION_TYPES else "stdtypes"
        return f"{_LIBRARY}{page}.html#{path}"
    # asyncio is one module of many pages, which follow the modules that it is made of.
    name = defined_in if module == "asyncio" else f"{module}.{path}"
    return f"{_LIBRARY}{_page_of(name) or module}.html#{module}.{path}"


def _page_of(name: str) -> str | None:
    """The online page for a dotted name, by its longest prefix in the table."""
    while name:
        if name in _PAGES:
            return _PAGES[name]
        name = name.rpartition(".")[0]
    return None
