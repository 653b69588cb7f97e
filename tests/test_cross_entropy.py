"""Accuracy of cross-entropy: loss and gradient in ulp of the exact value, on inputs that hurt, on every level."""

import functools

import numpy as np
import pytest
import truth
from tolerances import ulp

import celoss
from celoss import reference

CLASS_COUNTS = [*range(1, 71), 81, 82, 96, 97, 127, 128, 129, 255, 256, 257, 999, 1000, 1001, 4999, 5000]
MARGINS = [5, 8, 14, 16.7, 17.4, 20, 25, 30]
OFFSETS = [1e3, -1e3, 1e4, -1e5, 1e6, 1e8, -1e8]
DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]


def families(classes, dtype):
    """Rows that hurt: (family of each row, logits, targets)."""
    rng = np.random.default_rng(classes)
    names, rows, targets = [], [], []

    def add(name, row, target):
        names.append(name)
        rows.append(np.asarray(row, np.float64).astype(dtype))
        targets.append(target)

    def normal(sigma):
        return sigma * rng.standard_normal(classes)

    def anywhere():
        return int(rng.integers(classes))

    for margin in MARGINS:
        row, t = normal(0.5), anywhere()
        row[t] = 0
        row[t] = row.max() + margin
        add(f"confident and right by {margin}", row, t)
        add(f"confident and wrong by {margin}", row, (t + 1) % classes)
    for sigma in (0.01, 3, 30, 300):
        for _ in range(3):
            add(f"sigma {sigma}", normal(sigma), anywhere())
        row = normal(sigma)
        add(f"sigma {sigma}, target is the largest", row, int(row.argmax()))
    for offset in OFFSETS:
        add(f"offset {offset:g}", offset + normal(3), anywhere())
        row, t = np.full(classes, offset), anywhere()
        row[t] += 1024 * np.spacing(dtype(offset))
        add(f"offset {offset:g}, one above", row, t)
    add("all equal", np.full(classes, 1.5), anywhere())
    row = np.minimum(normal(3), 0.5)
    add("equal maxima", row, anywhere())
    row = normal(1)
    row[0] = row[-1] = 20
    add("equal maxima first and last", row, 0)
    add("equal maxima first and last", row, classes - 1)
    tiny = np.finfo(dtype).smallest_subnormal
    add("subnormal", tiny * rng.integers(-1000, 1000, classes), anywhere())
    add("negative zeros", np.where(rng.random(classes) < 0.5, -0.0, 0.0), anywhere())
    for share in (0.2, 0.9):
        row, t = normal(3), anywhere()
        row[(rng.random(classes) < share) & (np.arange(classes) != t)] = -np.inf
        add("some classes cannot occur", row, t)
    row = np.full(classes, -np.inf)
    row[classes // 2] = 3
    add("one class can occur", row, classes // 2)
    add("ascending", np.linspace(-40, 40, classes), anywhere())
    add("descending", np.linspace(40, -40, classes), anywhere())
    add("nearly flushed", np.where(np.arange(classes) == classes - 1, 0, -86 - rng.random(classes)), classes - 1)
    add("far below zero", -1e4 + normal(3), anywhere())
    order = rng.permutation(len(rows))  # neighbours in a vector or a block have maxima of every size
    return [names[i] for i in order], np.array([rows[i] for i in order]), np.array([targets[i] for i in order])


@functools.cache
def case(classes, dtype):
    names, x, t = families(classes, dtype)
    return names, x, t, *truth.cross_entropy(x, t)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_exact_value(classes, dtype, level):
    names, x, t, exact_loss, exact_grad = case(classes, dtype)
    loss, grad = celoss.cross_entropy_with_grad(x, t, reduction="none")
    assert loss.dtype == grad.dtype == dtype
    truth.assert_ulp(loss, exact_loss, ulp("loss", x.dtype), names=names)
    truth.assert_ulp(grad, exact_grad, ulp("gradient", x.dtype), names=names)
    only = celoss.cross_entropy(x, t, reduction="none")
    np.testing.assert_array_equal(only, loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 10, 16, 31, 32, 33, 100, 257, 1000])
def test_mean_and_its_gradient(classes, dtype, level):
    names, x, t, exact_loss, exact_grad = case(classes, dtype)
    loss, grad = celoss.cross_entropy_with_grad(x, t)
    truth.assert_ulp(loss, exact_loss.sum() / len(t), ulp("mean", x.dtype), dtype=dtype)
    truth.assert_ulp(grad, exact_grad / len(t), ulp("gradient", x.dtype) + (dtype is np.float64), names=names)
    assert celoss.cross_entropy(x, t) == loss
    total, grad = celoss.cross_entropy_with_grad(x, t, reduction="sum")
    truth.assert_ulp(total, exact_loss.sum(), ulp("mean", x.dtype), dtype=dtype)
    truth.assert_ulp(grad, exact_grad, ulp("gradient", x.dtype), names=names)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 255, 256, 257, 300])
@pytest.mark.parametrize("classes", [2, 10, 40])
def test_any_number_of_rows(rows, classes, dtype, level):
    names, x, t, exact_loss, exact_grad = case(classes, dtype)
    which = np.arange(rows) % len(t)
    loss, grad = celoss.cross_entropy_with_grad(x[which], t[which], reduction="none")
    truth.assert_ulp(loss, exact_loss[which], ulp("loss", x.dtype), names=[names[i] for i in which])
    truth.assert_ulp(grad, exact_grad[which], ulp("gradient", x.dtype), names=[names[i] for i in which])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3, 10, 31, 32, 33, 64, 1000])
def test_confident_rows_keep_loss_and_target_gradient(classes, dtype, level):
    """1 - p is no more than 1e-13 here: in float32 any form with p - 1, or with the maximum added back, gives 0."""
    margins = np.linspace(5, 30, 101)
    x = np.zeros((101, classes), dtype)
    t = np.arange(101) % classes
    x[np.arange(101), t] = margins
    loss, grad = celoss.cross_entropy_with_grad(x, t, reduction="none")
    exact = np.log1p((classes - 1) * np.exp(-x[np.arange(101), t].astype(np.float64)))
    assert np.all(loss > 0) and np.all(grad[np.arange(101), t] < 0)
    np.testing.assert_allclose(loss, exact, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(-grad[np.arange(101), t], -np.expm1(-exact), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("rows", "classes", "dtype"),
    [
        pytest.param(3, 70_001, np.float32, id="few long rows"),
        pytest.param(3, 70_001, np.float64, id="few long rows, float64", marks=truth.needs_wide),
        pytest.param(17, 65_537, np.float32, id="long rows, not few"),
        pytest.param(2, 300_001, np.float32, id="beyond the second cache"),
        pytest.param(2, 140_001, np.float64, id="beyond the second cache, float64", marks=truth.needs_wide),
        pytest.param(1, 1_000_003, np.float32, id="a million classes"),
    ],
)
@pytest.mark.parametrize("sigma", [0.0, 3.0, 30.0])
def test_long_rows(rows, classes, dtype, sigma, level):
    rng = np.random.default_rng(classes)
    x = (sigma * rng.standard_normal((rows, classes), np.float32)).astype(dtype)
    t = rng.integers(0, classes, rows)
    x[0, t[0]] = x[0].max() + dtype(30)  # the largest by far, anywhere
    exact_loss, exact_grad = truth.cross_entropy(x, t)
    loss, grad = celoss.cross_entropy_with_grad(x, t, reduction="none")
    truth.assert_ulp(loss, exact_loss, ulp("loss", x.dtype))
    truth.assert_ulp(grad, exact_grad, ulp("gradient", x.dtype))
    np.testing.assert_array_equal(celoss.cross_entropy(x, t, reduction="none"), loss)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 2, 5, 32, 33, 300])
def test_agrees_with_reference(classes, dtype, level):
    names, x, t, *_ = case(classes, dtype)
    for reduction in ("mean", "sum", "none"):
        loss, grad = celoss.cross_entropy_with_grad(x, t, reduction=reduction)
        expected_loss, expected_grad = reference.cross_entropy_with_grad(x, t, reduction=reduction)
        assert type(loss) is type(expected_loss)
        quantity = "loss" if reduction == "none" else "mean"
        truth.assert_ulp(loss, expected_loss, 2 + ulp(quantity, x.dtype), dtype=dtype)
        truth.assert_ulp(grad, expected_grad, 4 + ulp("gradient", x.dtype), names=names)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_random_rows(dtype, level):
    """Fifty thousand rows of every spread, offset and margin."""
    rng = np.random.default_rng(1)
    for _ in range(500):
        classes = int(rng.integers(1, 200))
        x = (10 ** rng.uniform(-3, 2.5, (100, 1)) * rng.standard_normal((100, classes))).astype(dtype)
        x += (10 ** rng.uniform(0, 8, (100, 1)) * rng.choice([-1, 0, 1], (100, 1))).astype(dtype)
        t = np.where(rng.random(100) < 0.5, x.argmax(axis=1), rng.integers(0, classes, 100))
        exact_loss, exact_grad = truth.cross_entropy(x, t)
        loss, grad = celoss.cross_entropy_with_grad(x, t, reduction="none")
        truth.assert_ulp(loss, exact_loss, ulp("loss", x.dtype))
        truth.assert_ulp(grad, exact_grad, ulp("gradient", x.dtype))
