"""The examples in the public docstrings run and print what they say."""

import doctest
import inspect

import pytest

import celoss
from celoss import boosting


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for room in celoss, boosting:
        for name in room.__all__:
            yield from (found for found in finder.find(getattr(room, name), name) if found.examples)


@pytest.mark.parametrize("example", [pytest.param(found, id=found.name) for found in examples()])
def test_example(example):
    printed = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=printed.append)
    assert result.failed == 0, "".join(printed)


@pytest.mark.parametrize(
    ("room", "name"),
    [(room, name) for room in (celoss, boosting) for name in room.__all__ if name not in ("__version__", "reference")],
)
def test_every_public_name_has_an_example(room, name):
    doc = inspect.getdoc(getattr(room, name))
    assert doc and ">>> " in doc
