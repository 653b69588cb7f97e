"""Classification error of rows and of binary scores."""

import ml_dtypes
import numpy as np
import pytest

import celoss
from celoss import reference

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 16, 31, 32, 33, 64, 129, 300, 1000])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int8])
def test_agrees_with_reference(dtype, classes, level):
    rng = np.random.default_rng(classes)
    x = (2 * rng.standard_normal((60, classes))).astype(dtype)
    target = np.where(rng.random(60) < 0.4, x.argmax(axis=1), rng.integers(0, classes, 60))
    target[rng.random(60) < 0.1] = -100
    s = rng.uniform(0, 2, 60)
    q = rng.uniform(0, 1, (60, classes))
    for y in (target, q):
        for options in ({}, {"sample_weight": s}, {"normalizer": 7.0}, {"reduction": "sum"}, {"reduction": "none"}):
            got, expected = celoss.zero_one_loss(x, y, **options), reference.zero_one_loss(x, y, **options)
            assert type(got) is type(expected)
            np.testing.assert_allclose(got, expected, rtol=1e-6 if dtype is not np.float64 else 1e-14)
    np.testing.assert_array_equal(
        celoss.zero_one_loss(np.ascontiguousarray(x.T), target, axis=0, reduction="none"),
        celoss.zero_one_loss(x, target, reduction="none"),
    )


@pytest.mark.parametrize("classes", [2, 3, 16, 33, 200, 1000])
def test_of_ties_the_first_counts(classes, level):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (200, classes)).astype(np.float32)
    target = rng.integers(0, classes, 200)
    expected = (x.argmax(axis=1) != target).astype(np.float32)
    np.testing.assert_array_equal(celoss.zero_one_loss(x, target, reduction="none"), expected)
    assert celoss.zero_one_loss(x, x.argmax(axis=1)) == 0.0


@pytest.mark.parametrize("classes", [2, 3, 16, 33, 200, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_decide_nothing(dtype, classes, level):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, classes)).astype(dtype)
    for row, column in enumerate(rng.integers(0, classes, 10)):
        x[row, column] = NAN
    for row, column in enumerate(rng.integers(0, classes, 10), 10):
        x[row, column] = INF
    x[20:25] = -INF
    x[25:30, 1:] = -INF
    x[5, :2] = INF, NAN
    x[6, :2] = NAN, INF
    x[7, :] = -INF
    x[7, -1] = NAN
    for target in (np.zeros(50, int), np.eye(classes)[np.zeros(50, int)]):
        loss = celoss.zero_one_loss(x, target, reduction="none")
        np.testing.assert_array_equal(np.isnan(loss), np.arange(50) < 25)
        np.testing.assert_array_equal(loss[25:], (x[25:].argmax(axis=1) != 0).astype(dtype))
    target = np.where(np.arange(50) < 25, -100, 0)
    assert np.isfinite(celoss.zero_one_loss(x, target))


def test_threads_change_nothing():
    rng = np.random.default_rng(0)
    x, target, s = rng.standard_normal((50000, 40)), rng.integers(0, 40, 50000), rng.uniform(0, 1, 50000)
    expected = celoss.zero_one_loss(x, target, sample_weight=s, n_threads=1)
    assert celoss.zero_one_loss(x, target, sample_weight=s, n_threads=4) == expected


def test_expected_error_of_probabilities(level):
    x, q = np.array([[3.0, 1.0, 0.0]]), np.array([[0.5, 0.25, 0.125]])
    np.testing.assert_array_equal(celoss.zero_one_loss(x, q, reduction="none"), [0.375])
    loss = celoss.binary_zero_one_loss([1.0, -1.0], [0.75, 0.75], reduction="none")
    np.testing.assert_array_equal(loss, [0.25, 0.75])


def test_binary(level):
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64):
        z, y, w = rng.standard_normal(1000).astype(dtype), rng.integers(0, 2, 1000), rng.uniform(0, 1, 1000)
        z[:10] = 0
        for options in ({}, {"weight": w}, {"reduction": "none"}, {"reduction": "sum", "weight": w}, {"normalizer": 3}):
            got, expected = (
                celoss.binary_zero_one_loss(z, y, **options),
                reference.binary_zero_one_loss(z, y, **options),
            )
            np.testing.assert_allclose(got, expected, rtol=1e-12 if "reduction" not in options else 1e-6)


def test_errors():
    with pytest.raises(IndexError, match=r"target\[1\] = 3 is not in \[0, 3\)"):
        celoss.zero_one_loss(np.zeros((2, 3)), [0, 3])
    with pytest.raises(TypeError):
        celoss.zero_one_loss(np.zeros((2, 3)), [0, 1], label_smoothing=0.1)
    assert np.isnan(celoss.zero_one_loss(np.zeros((0, 3)), np.zeros(0, int)))
