"""Plugin of pytest: SciPy's own tests of softmax, log_softmax and logsumexp, with celoss's functions in their place.

Adapted is what SciPy's interface has and celoss's has not: axis None or a tuple, scalars, the sum of nothing. What celoss
does not compute is skipped, with the reason.
"""

import numpy as np
import pytest

import celoss

MODULE = "scipy.special.tests.test_logsumexp"


def as_rows(x, axis):
    """x with the axes that SciPy would take together as its last; and their numbers."""
    x = np.asarray(x)
    if x.dtype.kind == "c":
        pytest.skip("complex scores: celoss has real ones only")
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = [a % x.ndim for a in axes]
    kept = [a for a in range(x.ndim) if a not in axes]
    moved = x.transpose(kept + axes)
    return moved.reshape([x.shape[a] for a in kept] + [-1]), moved.shape, np.argsort(kept + axes), axes


def softmax(x, axis=None):
    rows, shape, back, _ = as_rows(x, axis)
    return celoss.softmax(rows).reshape(shape).transpose(back)[()]


def log_softmax(x, axis=None):
    rows, shape, back, _ = as_rows(x, axis)
    return celoss.log_softmax(rows).reshape(shape).transpose(back)[()]


def logsumexp(a, axis=None, b=None, keepdims=False, return_sign=False):
    if b is not None or return_sign:
        pytest.skip("weighted and signed sums: celoss has none")
    a = np.asarray(a)
    if a.size == 0:
        return np.float64(-np.inf)  # celoss: a ValueError, there are no classes
    rows, _, _, axes = as_rows(a, axis)
    result = celoss.logsumexp(rows)
    return (np.expand_dims(result, axes) if keepdims else result)[()]


def pytest_collection_finish(session):
    """Before the first test runs: the functions under test become celoss's."""
    for module in {item.module for item in session.items}:
        assert module.__name__ == MODULE
        vars(module).update(softmax=softmax, log_softmax=log_softmax, logsumexp=logsumexp)


def pytest_collection_modifyitems(config, items):
    """Only tests of these three; on other array libraries they are SciPy's own matter."""
    kept = [item for item in items if any(name in item.nodeid for name in ("TestLogSumExp", "TestSoftmax", "TestLogSoftmax"))]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
