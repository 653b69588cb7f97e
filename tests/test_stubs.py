"""`_kernels.pyi` tells the truth: a type checker sees the names and arguments that the compiled module has."""

import ast
import inspect
from pathlib import Path

import pytest

from celoss import _kernels

STUBS = Path(__file__).resolve().parents[1] / "src" / "celoss" / "_kernels.pyi"


def stubs():
    """Functions of the stub file: name -> arguments in order, each with its default or `inspect.Parameter.empty`."""
    found = {}
    for node in ast.parse(STUBS.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            defaults = [ast.literal_eval(default) for default in node.args.defaults]
            required = [inspect.Parameter.empty] * (len(names) - len(defaults))
            found[node.name] = list(zip(names, required + defaults, strict=True))
    return found


def compiled():
    """Functions that the compiled module lets Python see, in the same form."""
    return {
        name: [(p.name, p.default) for p in inspect.signature(function).parameters.values()]
        for name, function in vars(_kernels).items()
        if not name.startswith("_") and callable(function) and not inspect.isclass(function)
    }


def test_names():
    assert set(stubs()) == set(compiled())
    assert {"loss_of_rows", "loss_of_scores", "activation_of_rows", "levels"} <= set(stubs())


@pytest.mark.parametrize("name", sorted(stubs()))
def test_arguments(name):
    assert stubs()[name] == compiled()[name]


def test_enums():
    """The members of each enum, with their values."""
    classes = [node for node in ast.parse(STUBS.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    assert {node.name for node in classes} == {name for name, found in vars(_kernels).items() if inspect.isclass(found)}
    for node in classes:
        told = {line.targets[0].id: line.value.value for line in node.body}
        assert told == {member.name: int(member) for member in getattr(_kernels, node.name)}, node.name
