"""Every rounding error that is carried along: on rows where its loss would show, to tighter limits than the contract's.

The contract leaves room for a float64 loss with one compensation less; a fault there would pass unseen elsewhere.
"""

import functools

import numpy as np
import pytest
import truth
from tolerances import ulp

import celoss

DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]
LONG = 70_001  # three pieces


def dominated(classes, rows, dtype, rng):
    """The target is the largest, and one other class holds all that is left: its rounding error is that of the loss."""
    x, n = np.full((rows, classes), -700.0 if dtype is np.float64 else -90.0), np.arange(rows)
    target = rng.integers(0, classes, rows)
    x[n, target] = rng.uniform(-3, 3, rows)
    x[n, (target + 1 + rng.integers(0, classes - 1, rows)) % classes] = x[n, target] - rng.uniform(1, 25, rows)
    return x, target


def divided(classes, rows, dtype, rng):
    """The same, but what is left is held by one class in each third of the row: in each piece of a long one."""
    x, target = dominated(classes, rows, dtype, rng)
    left, n = x[np.arange(rows), target] - rng.uniform(5, 25, rows), np.arange(rows)
    for third in range(3):
        at = third * (classes // 3) + rng.integers(0, classes // 3, rows)
        at = np.where(at == target, (at + 1) % classes, at)
        x[n, at] = left + rng.uniform(-1, 1, rows)
    return x, target


def apart(classes, rows, dtype, rng):
    """Maximum and target are neither close nor far: their difference rounds, and so does the sum with the logarithm."""
    x, target = rng.standard_normal((rows, classes)), rng.integers(0, classes, rows)
    x[np.arange(rows), target] = -10 * rng.uniform(0, 1, rows)
    x[:, 0] += rng.uniform(1, 6, rows)
    return x, target


def sure(classes, rows, dtype, rng):
    """The maximum is nearly all of the sum, and not the target: its rounding error is that of the sum, in every result."""
    x, n = rng.standard_normal((rows, classes)), np.arange(rows)
    best = rng.integers(0, classes, rows)
    x[n, best] = rng.uniform(30, 33, rows)
    return x, (best + 1 + rng.integers(0, classes - 1, rows)) % classes


def wrong(classes, rows, dtype, rng):
    """As far from the target as there are normal numbers: the gradient's smallest ones are next to the smallest normal one."""
    x, n = np.empty((rows, classes)), np.arange(rows)
    best, depth = rng.integers(0, classes, rows), 87.2 if dtype is np.float32 else 708.3
    target = (best + 1 + rng.integers(0, classes - 1, rows)) % classes
    x[:] = -rng.uniform(depth - 7, depth, x.shape)
    x[n, target] = -80 if dtype is np.float32 else -700
    x[n, best] = rng.uniform(0, 0.1, rows)
    return x, target


def normal(classes, rows, dtype, rng):
    return 3 * rng.standard_normal((rows, classes)), rng.integers(0, classes, rows)


@functools.cache
def case(family, classes, dtype):
    rows = 15 if classes == LONG else 300 if classes > 1000 else 3000
    x, target = family(classes, rows, dtype, np.random.default_rng(classes))
    x = x.astype(dtype)
    return x, target, *truth.cross_entropy(x, target)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 24, 130, 1001, LONG])
@pytest.mark.parametrize("family", [dominated, divided, apart, sure, normal])
def test_cross_entropy(family, classes, dtype, level):
    x, target, exact_loss, exact_grad = case(family, classes, dtype)
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none")
    truth.assert_ulp(loss, exact_loss, ulp("compensated loss", x.dtype))
    at_target = target[:, None]
    truth.assert_ulp(
        np.take_along_axis(grad, at_target, 1),
        np.take_along_axis(exact_grad, at_target, 1),
        ulp("compensated gradient at the target", x.dtype),
    )
    truth.assert_ulp(grad, exact_grad, ulp("compensated gradient", x.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 24, 130, 1001, LONG])
def test_next_to_the_smallest_normal_number(classes, dtype, level):
    """Wrong by 80, or by 700: what is left of the other classes, and of a product's second part, is hardly a number."""
    x, target, exact_loss, exact_grad = case(wrong, classes, dtype)
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none")
    truth.assert_ulp(loss, exact_loss, ulp("compensated loss", x.dtype))
    truth.assert_ulp(grad, exact_grad, ulp("gradient", x.dtype))
    assert np.count_nonzero(grad) > 0.9 * grad.size
    p = truth.softmax(x[:5])[0]
    truth.assert_ulp(celoss.softmax(x[:5]), p, ulp("activation", x.dtype))
    loss, grad = celoss.cross_entropy_with_grad(x, target, label_smoothing=1e-30, reduction="none")
    truth.assert_ulp(loss, exact_loss, ulp("option loss", x.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 24, 130, 1001])
def test_softmax_of_sure_rows(classes, dtype, level):
    """As the gradient: the sum is as exact as in float64, and the exponential and a product are left to round."""
    x, *_ = case(sure, classes, dtype)
    truth.assert_ulp(celoss.softmax(x), truth.softmax(x)[0], ulp("compensated gradient", x.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 24, 130, 1001])
def test_loss_of_the_maximum_alone(classes, dtype, level):
    """Where all other classes weigh nothing, the little that the maximum lacks is all of the loss; the target is far below."""
    x, target, *_ = case(sure, classes, dtype)
    x, target = x[:100], target[:100]
    _, _, nll = truth.softmax(x)
    best = x.argmax(axis=1)
    for row in range(0, 100, 9):
        weight = np.zeros(classes)
        weight[best[row]] = 2
        loss = celoss.cross_entropy(x[[row]], target[[row]], weight=weight, label_smoothing=0.25, reduction="none")
        truth.assert_ulp(loss, nll[[row], best[[row]]] * truth.real(0.5) / classes, ulp("option loss", x.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 24, 130])
def test_difference_of_maximum_and_target(classes, dtype, level):
    """Nearly all of the loss is m - x_t, inexact; the logarithm adds a little, in the same binade."""
    rng = np.random.default_rng(classes)
    x = np.full((3000, classes), -700.0 if dtype is np.float64 else -90.0)
    target = rng.integers(1, classes, 3000)
    x[:, 0] = rng.uniform(0.5, 3, 3000)
    x[np.arange(3000), target] = x[:, 0] - rng.uniform(1, 1.8, 3000)
    x = x.astype(dtype)
    exact, _ = truth.cross_entropy(x, target)
    truth.assert_ulp(celoss.cross_entropy(x, target, reduction="none"), exact, ulp("compensated difference", x.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy(dtype, level):
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.uniform(-80, 80, 50_000), rng.normal(0, 3, 50_000), -np.exp(rng.uniform(-20, 4, 50_000))])
    z = z.astype(dtype)
    wide = z.astype(truth.real)
    small = np.log1p(np.exp(-abs(wide)))  # what a confident score leaves
    for label in (0, 1):
        exact = np.maximum(wide if label == 0 else -wide, 0) + small
        y = np.full(z.shape, label, np.int8)
        loss = celoss.binary_cross_entropy(z, y, reduction="none")
        truth.assert_ulp(loss, exact, ulp("compensated loss", z.dtype))
        weighted = celoss.binary_cross_entropy(z, y, weight=2.0, reduction="none")
        truth.assert_ulp(weighted, 2 * exact, ulp("compensated loss", z.dtype) + (dtype is np.float64) / 4)
