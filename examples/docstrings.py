"""The docstrings of Python's standard library: some thousand real texts that every machine has."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

# Not for searching: jokes, tests and programs, and what is not part of every Python.
SKIP = {"antigravity", "this", "test", "tests", "idlelib", "turtle", "turtledemo"}
SKIP |= {"tkinter", "distutils", "lib2to3"}
FEWEST_WORDS = 3
# What a compiled module is called by those who use it, where that is not its name less the "_".
KNOWN_AS = {"posix": "os", "nt": "os"}


class Docstring(NamedTuple):
    name: str  # qualified: "gzip.open"
    text: str

    @property
    def summary(self) -> str:
        """The first paragraph, in one line."""
        return " ".join(self.text.partition("\n\n")[0].split())


def from_sources() -> list[Docstring]:
    """Of public modules, classes and functions written in Python. Nothing is imported."""
    return _once(_in_sources())


def from_compiled() -> list[Docstring]:
    """Of those written in C, such as the builtins. Their modules are imported."""
    return _once(_in_compiled())


def _once(found: Iterable[Docstring]) -> list[Docstring]:
    """Each text once, under its first name; without those of a word or two."""
    texts: dict[str, str] = {}
    for name, text in found:
        if len(text.split()) >= FEWEST_WORDS:
            texts.setdefault(text, name)
    return [Docstring(name, text) for text, name in texts.items()]


def _in_sources() -> Iterator[Docstring]:
    root = Path(sysconfig.get_path("stdlib"))
    for top in sorted(sys.stdlib_module_names - SKIP):
        for path in [root / f"{top}.py", *sorted((root / top).rglob("*.py"))]:
            module = [p for p in path.relative_to(root).with_suffix("").parts if p != "__init__"]
            if path.exists() and not any(p.startswith("_") or p in SKIP for p in module):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a stray backslash in an old string
                    tree = ast.parse(path.read_bytes())
                yield from _in_tree(tree, ".".join(module))


def _in_tree(node: ast.AST, name: str) -> Iterator[Docstring]:
    """Of a module, class or function and of the public classes and functions in it."""
    yield Docstring(name, ast.get_docstring(node) or "")
    for child in node.body if isinstance(node, ast.Module | ast.ClassDef) else []:
        named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if named and not child.name.startswith("_"):
            yield from _in_tree(child, f"{name}.{child.name}")


def _in_compiled() -> Iterator[Docstring]:
    for module in sorted(sys.stdlib_module_names - {"__main__"}):
        public = KNOWN_AS.get(module, module.lstrip("_"))
        if public in sys.stdlib_module_names - SKIP and _is_compiled(module):
            yield from _in_object(_imported(module), public)


def _imported(module: str) -> ModuleType:
    """Or an empty one, if a library that it needs is not here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it will go some day
        try:
            return importlib.import_module(module)
        except ImportError:
            return ModuleType(module)


def _is_compiled(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    origin = (spec and spec.origin) or ""
    return origin == "built-in" or origin.endswith((".so", ".pyd"))


def _in_object(owner: ModuleType | type, name: str) -> Iterator[Docstring]:
    """Of the public classes and functions in a module, or of the methods of a class."""
    for key, member in vars(owner).items():
        if not key.startswith("_") and callable(member):
            doc = getattr(member, "__doc__", None)  # its own: inspect.getdoc would inherit one
            qualified = key if name == "builtins" else f"{name}.{key}"
            yield Docstring(qualified, inspect.cleandoc(doc) if isinstance(doc, str) else "")
            if isinstance(member, type) and isinstance(owner, ModuleType):
                yield from _in_object(member, qualified)
