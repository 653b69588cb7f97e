"""Brier score: exact values and gradients, options, layouts, threads, special values, errors."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import truth
from tolerances import ulp

import celoss
from celoss import reference

INF, NAN = np.inf, np.nan
DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]
CLASS_COUNTS = [*range(1, 36), 63, 64, 65, 96, 97, 127, 129, 257, 1000, 1001]


def problem(classes, dtype, rows=300):
    rng = np.random.default_rng(classes)
    x = rng.standard_normal((rows, classes)) * rng.choice([0.01, 1, 3, 10], (rows, 1)) + rng.choice([0, 100, -1e4], (rows, 1))
    confident = np.arange(rows // 3)
    x[confident, rng.integers(0, classes, rows // 3)] += rng.uniform(5, 30, rows // 3)
    x = x.astype(dtype)
    return x, np.where(rng.random(rows) < 0.5, x.argmax(axis=1), rng.integers(0, classes, rows))


def exact(x, target):
    """Loss, gradient, and the size of the gradient's terms, in long double."""
    p, miss, _ = truth.softmax(x)
    rows, columns = np.arange(len(x)), np.arange(x.shape[1])
    error = p.copy()
    error[rows, target] = -miss[rows, target]
    loss = (error**2).sum(axis=1)
    first = x.argmax(axis=1)
    products = p * error
    others = np.where(columns == first[:, None], 0, products).sum(axis=1)
    bracket = error - products.sum(axis=1, keepdims=True)
    bracket[rows, first] = (miss * error)[rows, first] - others
    bracket[rows, target] = -loss
    terms = np.abs(error) + np.abs(products).sum(axis=1, keepdims=True)
    terms[rows, first] = np.abs(miss * error)[rows, first] + np.abs(products).sum(axis=1) - np.abs(products)[rows, first]
    terms[rows, target] = loss
    return loss, 2 * p * bracket, 2 * p * terms


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_exact_value(classes, dtype, level):
    x, target = problem(classes, dtype)
    loss, grad, terms = exact(x, target)
    got = celoss.brier_score_with_grad(x, target, reduction="none")
    assert got[0].dtype == got[1].dtype == dtype
    truth.assert_ulp(got[0], loss, ulp("brier loss", x.dtype))
    truth.assert_ulp(got[1], grad, ulp("brier gradient", x.dtype), scale=terms)
    np.testing.assert_array_equal(celoss.brier_score(x, target, reduction="none"), got[0])
    one_hot = np.eye(classes, dtype=dtype)[target]
    soft = celoss.brier_score_with_grad(x, one_hot, reduction="none")
    truth.assert_ulp(soft[0], loss, ulp("brier loss", x.dtype))
    truth.assert_ulp(soft[1], grad, ulp("brier gradient", x.dtype), scale=terms)


def test_confident_rows_keep_their_loss(level):
    """1 - p is 1e-13 and less here; a form with p - 1 gives 0."""
    for margin in (10, 20, 30):
        x = np.array([[margin, 0, 0]], np.float32)
        loss, grad = celoss.brier_score_with_grad(x, [0], reduction="none")
        rest = np.exp(-float(margin)) / (1 + 2 * np.exp(-float(margin)))
        np.testing.assert_allclose(loss, 6 * rest**2, rtol=2e-7)
        np.testing.assert_allclose(grad[0, 0], -2 * (1 - 2 * rest) * 6 * rest**2, rtol=2e-7)
        _, wrong = celoss.brier_score_with_grad(x, [1], reduction="none")
        _, expected = reference.brier_score_with_grad(x, [1], reduction="none")
        np.testing.assert_allclose(wrong, expected, rtol=2e-7)


def test_a_trace_of_label_smoothing_is_exact(level):
    epsilon = 2.0**-40
    loss = celoss.brier_score([60.0, 0.0, 0.0], 0, label_smoothing=epsilon)
    np.testing.assert_allclose(loss, (epsilon * 2 / 3) ** 2 + 2 * (epsilon / 3) ** 2, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ">f4", np.int8])
@pytest.mark.parametrize(("shape", "axis"), [((5,), 0), ((7, 3), 1), ((3, 7), 0), ((9, 40), -1), ((2, 5, 4), 1), ((3, 40, 5), 1)])
@pytest.mark.parametrize("form", ["indices", "probabilities"])
def test_agrees_with_reference(form, shape, axis, dtype, level):
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    rows, classes = np.moveaxis(x, axis, -1).shape[:-1], shape[axis]
    for reduction, weighted, smoothing, normalizer, upstream in itertools.product(
        ["mean", "sum", "none"], [False, True], [0.0, 0.3], [None, 7.5], [False, True]
    ):
        options = {"axis": axis, "label_smoothing": smoothing, "reduction": reduction, "normalizer": normalizer}
        if weighted:
            options["sample_weight"] = rng.uniform(0, 2, rows)
        if form == "indices":
            target = np.asarray(rng.integers(0, classes, rows))
            target[rng.random(rows) < 0.2] = -100
            if weighted:
                options["weight"] = rng.uniform(0.1, 2, classes)
        else:
            target = rng.uniform(0, 1, shape).astype(np.float32)
        up = rng.normal(size=rows if reduction == "none" else ()) if upstream else None
        got = celoss.brier_score_with_grad(x, target, grad_output=up, **options)
        expected = reference.brier_score_with_grad(x, target, grad_output=up, **options)
        assert type(got[0]) is type(expected[0])
        assert (got[1].dtype, got[1].shape) == (expected[1].dtype, expected[1].shape)
        eps = np.finfo(np.float64 if expected[1].dtype == np.float64 else np.float32).eps
        np.testing.assert_allclose(got[0], expected[0], rtol=20 * eps)
        eps = float(ml_dtypes.finfo(expected[1].dtype).eps)
        np.testing.assert_allclose(got[1].astype(float), expected[1].astype(float), rtol=4 * eps, atol=40 * eps)
        np.testing.assert_array_equal(celoss.brier_score(x, target, **options), got[0])


@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("form", ["indices", "ignored", "probabilities"])
def test_any_layout_gives_the_same_bits(form, dtype, classes, level):
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal((70, classes))).astype(dtype)
    target = rng.uniform(0, 1, x.shape) if form == "probabilities" else rng.integers(0, classes, 70)
    if form == "ignored":
        target[rng.random(70) < 0.4] = -100
    expected = celoss.brier_score_with_grad(x, target)
    wide = np.zeros((140, 2 * classes), dtype)
    wide[::2, ::2] = x
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(x.shape)
    unaligned[...] = x
    for view in (
        x.copy(order="F"),
        x[::-1, ::-1].copy()[::-1, ::-1],
        wide[::2, ::2],
        unaligned,
        x.astype(x.dtype.newbyteorder()),
    ):
        loss, grad = celoss.brier_score_with_grad(view, target)
        assert loss == expected[0]
        np.testing.assert_array_equal(grad, expected[1])
    for out in (np.empty_like(x), np.empty_like(x, order="F"), x.copy()):
        logits = x if not np.array_equal(out, x) else out
        loss, grad = celoss.brier_score_with_grad(logits, target, out=out)
        assert loss == expected[0] and grad is out
        np.testing.assert_array_equal(grad, expected[1])


@pytest.mark.parametrize("shape", [(40000, 10), (4000, 100), (20, 30000), (1, 200001)])
def test_threads_change_nothing(shape):
    rng = np.random.default_rng(0)
    x, target = 3 * rng.standard_normal(shape, np.float32), rng.integers(0, shape[1], shape[0])
    expected = celoss.brier_score_with_grad(x, target, n_threads=1)
    for threads in (2, 5):
        got = celoss.brier_score_with_grad(x, target, n_threads=threads)
        assert got[0] == expected[0]
        np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("classes", [3, 20, 40])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_bad_rows_are_nan_and_no_others(bad, classes, level):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((50, classes)), rng.integers(0, classes, 50)
    x[20:30, 1 if bad != -INF else slice(None)] = bad
    for y in (target, np.eye(classes)[target]):
        loss, grad = celoss.brier_score_with_grad(x, y, reduction="none")
        is_bad = (np.arange(50) >= 20) & (np.arange(50) < 30)
        np.testing.assert_array_equal(np.isnan(loss), is_bad)
        np.testing.assert_array_equal(np.isnan(grad), np.repeat(is_bad[:, None], classes, axis=1))
    ignored = np.where(is_bad, -100, target)
    loss, grad = celoss.brier_score_with_grad(x, ignored, reduction="none")
    assert np.isfinite(loss).all() and not grad[is_bad].any() and not loss[is_bad].any()


def test_impossible_classes(level):
    x = np.array([[0.0, -INF, 1.0], [0.0, -INF, 1.0]])
    p = reference.softmax([0.0, 1.0])
    loss, grad = celoss.brier_score_with_grad(x, [0, 1], reduction="none")
    np.testing.assert_allclose(loss, [2 * p[1] ** 2, 1 + p[0] ** 2 + p[1] ** 2], rtol=1e-14)
    np.testing.assert_array_equal(grad[:, 1], 0)


def test_nothing_to_average():
    for x, target in ((np.zeros((0, 3)), np.zeros(0, int)), (np.full((2, 3), NAN), np.array([-100, -100]))):
        loss, grad = celoss.brier_score_with_grad(x, target)
        assert np.isnan(loss)
        np.testing.assert_array_equal(grad, np.zeros(x.shape))
        assert celoss.brier_score(x, target, reduction="sum") == 0.0


def test_errors():
    x = np.zeros((20, 10))
    target = np.zeros(20, int)
    target[17] = 12
    with pytest.raises(IndexError, match=r"target\[17\] = 12 is not in \[0, 10\)"):
        celoss.brier_score(x, target)
    with pytest.raises(ValueError, match="weight needs class indices"):
        celoss.brier_score(x, x, weight=np.ones(10))
    with pytest.raises(ValueError, match="label_smoothing"):
        celoss.brier_score(x, target, label_smoothing=2.0)
    with pytest.raises(ValueError, match="overlaps target"):
        celoss.brier_score_with_grad(x, y := np.ones((20, 10)), out=y)
