"""Results without dimensions are NumPy scalars, of every function and of its reference; what is given as `out` stays an array."""

import json

import ml_dtypes
import numpy as np
import pytest

import celoss
from celoss._checks import FUNCTIONS as ALL_FUNCTIONS

# (test_language_models.py has the numbers of one row, and the divergence of two.)
FUNCTIONS = {name: function for name, function in ALL_FUNCTIONS.items() if not function.kind.startswith(("stat", "div"))}
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int64]
SCORES = [name for name, function in FUNCTIONS.items() if not function.of_rows]


def call(module, name, dtype, **options):
    """One row, or one score."""
    function = FUNCTIONS[name]
    x = np.array([1, 2, 0] if function.of_rows else 2, dtype)
    target = [np.array(1)] if function.has_target else []  # a class, or a label
    as_many = [x] if function.kind == "back of rows" or function.kind.startswith("product") else []
    return getattr(module, name)(x, *target, *as_many, **options)


def is_scalar(result):
    return isinstance(result, np.generic) and len({result}) == 1 and json.loads(json.dumps(float(result))) == float(result)


@pytest.mark.parametrize("module", [celoss, celoss.reference], ids=["celoss", "reference"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_row_or_one_score(name, dtype, module, path):
    function = FUNCTIONS[name]
    for options in [{}, {"n_threads": 1}] if "n_threads" in function.options else [{}]:
        if not function.is_loss:
            result = call(module, name, dtype)
            assert isinstance(result, np.ndarray) if result.shape else is_scalar(result)
            assert (result.shape == ()) == (not function.of_rows or name == "logsumexp")
            continue
        for reduction in ("none", "mean", "sum"):
            results = call(module, name, dtype, reduction=reduction, **options)
            loss, *grads = results if isinstance(results, tuple) else (results,)
            assert is_scalar(loss) if reduction == "none" else type(loss) is float
            if reduction == "none":
                assert loss.dtype == (np.float64 if dtype in (np.float64, np.int64) else np.float32)
                assert round(float(loss), 2) == pytest.approx(float(loss), abs=0.01)
            for grad in grads:
                assert isinstance(grad, np.ndarray) and grad.shape == (3,) if function.of_rows else is_scalar(grad)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("name", [name for name in SCORES if "out" in FUNCTIONS[name].options])
def test_out_of_one_score(name, dtype):
    for options in [{}, {"n_threads": 1}] if "n_threads" in FUNCTIONS[name].options else [{}]:
        out = np.array(7, dtype)
        results = call(celoss, name, dtype, out=out, **options)
        expected = call(celoss, name, dtype, **options)
        for got, want in zip(*(r if isinstance(r, tuple) else (r,) for r in (results, expected)), strict=True):
            assert got == want
        assert (results[1] if isinstance(results, tuple) else results) is out


def test_arrays_stay_arrays():
    """Of one row among rows, and where an axis is kept."""
    assert celoss.cross_entropy([[0.0, 1.0]], [1], reduction="none").shape == (1,)
    assert celoss.logsumexp([0.0, 1.0], keepdims=True).shape == (1,)
    assert celoss.sigmoid([0.5]).shape == (1,)
    loss = celoss.cross_entropy(np.zeros((4, 3)), [0, 1, 2, 0], reduction="none", n_threads=1)
    assert loss.flags.owndata and loss.flags.writeable
