"""The examples in the public docstrings run and print what they say."""

import doctest
import inspect

import pytest

import celoss


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in celoss.__all__:
        yield from (found for found in finder.find(getattr(celoss, name), name) if found.examples)


@pytest.mark.parametrize("example", [pytest.param(found, id=found.name) for found in examples()])
def test_example(example):
    printed = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=printed.append)
    assert result.failed == 0, "".join(printed)


@pytest.mark.parametrize("name", [name for name in celoss.__all__ if name not in ("__version__", "reference")])
def test_every_public_name_has_an_example(name):
    doc = inspect.getdoc(getattr(celoss, name))
    assert doc and ">>> " in doc
