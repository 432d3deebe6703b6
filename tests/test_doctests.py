"""Every Example in the docstrings is run, and ends in something that can be compared."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest
import torch
from torch import nn

import mtattn

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    names = [info.name for info in pkgutil.walk_packages(mtattn.__path__, "mtattn.")]
    return [importlib.import_module(name) for name in ("mtattn", *names)]


def collected():
    """Each docstring with examples once, in the module that it was written in."""
    public = {name: getattr(mtattn, name) for name in mtattn.__all__}
    tests = {}
    for module in modules():
        namespace = {"torch": torch, "nn": nn, **public, **vars(module)}
        for test in doctest.DocTestFinder().find(module, globs=namespace):
            if test.examples:
                tests[test.name] = test
    return list(tests.values())


TESTS = [pytest.param(test, id=test.name) for test in collected()]


@pytest.mark.parametrize("test", TESTS)
def test_the_example_is_true(test):
    torch.manual_seed(0)
    said = []
    failed, attempted = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append, clear_globs=False)
    assert attempted > 0
    assert failed == 0, "".join(said)


@pytest.mark.parametrize("test", TESTS)
def test_the_example_ends_in_something_to_compare(test):
    last = test.examples[-1]
    assert last.want or last.exc_msg


@pytest.mark.parametrize("module", [pytest.param(module, id=module.__name__) for module in modules()])
def test_every_section_called_example_was_found(module):
    sections = re.findall(r"^ *Example:\n(.*\n)", inspect.getsource(module), re.MULTILINE)
    assert all(first.strip().startswith(">>>") for first in sections)
    found = [test for test in collected() if test.filename == module.__file__]
    assert len(found) >= len(sections)


@pytest.mark.parametrize("name", mtattn.__all__)
def test_every_public_class_has_an_example(name):
    assert ">>> " in getattr(mtattn, name).__doc__
