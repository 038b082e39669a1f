"""What a Python module documents, read from its source without running it, or from a compiled module."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType

_SELF = re.compile(r"^\((?:\$?self|cls|type)\b(?:, /)?(?:, )?")


@dataclass(frozen=True)
class Entry:
    """A function, class or method with a docstring. `name` is its own, without module and class."""

    name: str
    kind: str
    signature: str
    text: str
    members: tuple[Entry, ...] = ()

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.text.partition("\n")[0]


@dataclass(frozen=True)
class Import:
    """`from source import names` at the top of a module; `names` is {theirs: ours}, None for `*`."""

    source: str
    names: dict[str, str] | None


@dataclass
class Module:
    """What a module defines and imports.

    `exports` is its `__all__` as far as it is written out, None where there is none; `is_open` says that more is
    added to it when the module runs.
    """

    name: str
    text: str
    entries: dict[str, Entry] = field(default_factory=dict)
    imports: list[Import] = field(default_factory=list)
    exports: frozenset[str] | None = None
    is_open: bool = False

    def publishes(self, name: str) -> bool:
        """Whether a name that this module defines, or has from `import *`, is public."""
        return not name.startswith("_") and (self.exports is None or self.is_open or name in self.exports)

    def passes_on(self, name: str) -> bool:
        """Whether a name that this module imports by itself is public here, and not only used."""
        return not name.startswith("_") and (self.exports is None or name in self.exports)


def from_source(name: str, source: bytes, *, is_package: bool) -> Module:
    """Read a module's source. Raises SyntaxError or ValueError when it is none."""
    tree = ast.parse(source)
    exports, is_open = _exports(tree)
    module = Module(name, _docstring(tree), exports=exports, is_open=is_open)
    package = name if is_package else name.rpartition(".")[0]
    for node in _statements(tree.body):
        if isinstance(node, ast.ImportFrom):
            module.imports.append(_import(node, package))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            entry = _class(node) if isinstance(node, ast.ClassDef) else _function(node, "function")
            # The first of several definitions: the others stand for other systems or older versions.
            if entry is not None:
                module.entries.setdefault(entry.name, entry)
    return module


def from_compiled(module: ModuleType) -> Module:
    """Ask a module for what it defines itself."""
    read = Module(module.__name__, _text(module))
    for name, value in sorted(vars(module).items()):
        if inspect.isclass(value):
            members = tuple(_compiled(n, v, "method") for n, v in sorted(vars(value).items()) if _has_page(n, v))
            kind = "exception" if issubclass(value, BaseException) else "class"
            entry = Entry(name, kind, _signature(name, value), _text(value), members)
        elif _has_page(name, value):
            entry = _compiled(name, value, "function")
        else:
            continue
        if entry.text:
            read.entries[name] = entry
    return read


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, and those under its conditions, in the order of the text."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _statements([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            handlers = [statement for handler in node.handlers for statement in handler.body]
            yield from _statements([*node.body, *handlers, *node.orelse, *node.finalbody])


def _import(node: ast.ImportFrom, package: str) -> Import:
    source = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        source = ".".join([*parents, source] if source else parents)
    if any(alias.name == "*" for alias in node.names):
        return Import(source, None)
    return Import(source, {alias.name: alias.asname or alias.name for alias in node.names})


def _exports(tree: ast.Module) -> tuple[frozenset[str] | None, bool]:
    """`__all__` as far as it is a literal, and whether more is added to it."""
    exports, is_open = None, False
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(_is_all(target) for target in node.targets) and exports is None:
            try:
                exports = frozenset(ast.literal_eval(node.value))
            except ValueError:
                is_open = True
        elif isinstance(node, ast.AugAssign):
            is_open = is_open or _is_all(node.target)
        elif isinstance(node, ast.Attribute):  # __all__.extend(...)
            is_open = is_open or _is_all(node.value)
    return exports, is_open


def _is_all(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "__all__"


def _class(node: ast.ClassDef) -> Entry | None:
    members: dict[str, Entry] = {}
    text, signature = _docstring(node), ""
    for statement in _statements(node.body):
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if statement.name == "__init__" or (statement.name == "__new__" and not signature):
            signature = _arguments(statement, bound=True)
            text = text or _docstring(statement)
        if not statement.name.startswith("_") and (entry := _function(statement, "method")) is not None:
            members.setdefault(entry.name, entry)
    if not text and not members:
        return None
    kind = "exception" if node.name.endswith(("Error", "Exception", "Warning")) else "class"
    return Entry(node.name, kind, f"class {node.name}{signature}", text, tuple(members.values()))


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, kind: str) -> Entry | None:
    text = _docstring(node)
    if not text:
        return None
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    if decorators & {"property", "cached_property", "getter"}:
        return Entry(node.name, "property", node.name, text)
    bound = kind == "method" and "staticmethod" not in decorators
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return Entry(node.name, kind, prefix + node.name + _arguments(node, bound=bound), text)


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> str:
    arguments = node.args
    if bound and arguments.posonlyargs:
        del arguments.posonlyargs[0]
    elif bound and arguments.args:
        del arguments.args[0]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"({ast.unparse(arguments)}){returns}"


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return (ast.get_docstring(node) or "").strip()


def _has_page(name: str, value: object) -> bool:
    # exit, help and their kin are put into builtins by `site`, and are no routines.
    return not name.startswith("_") and inspect.isroutine(value) and bool(_text(value))


def _compiled(name: str, value: object, kind: str) -> Entry:
    return Entry(name, kind, _signature(name, value), _text(value))


def _signature(name: str, value: object) -> str:
    try:
        return name + _SELF.sub("(", str(inspect.signature(value)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""  # docstrings of such values begin with it


def _text(value: object) -> str:
    text = value.__doc__
    return inspect.cleandoc(text).strip() if isinstance(text, str) else ""
