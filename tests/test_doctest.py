"""The examples in the docstrings of every module."""

import doctest
import importlib
import pkgutil

import pytest

import pyattn

MODULES = ["pyattn", *(m.name for m in pkgutil.walk_packages(pyattn.__path__, "pyattn."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [t for m in MODULES for t in finder.find(importlib.import_module(m)) if t.examples]
    assert len(found) >= 5
