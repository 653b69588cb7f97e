"""Storage types of logits and targets: half precision rounds once and last, any integer type is a class index."""

import ml_dtypes
import numpy as np
import pytest

import celoss

HALVES = [np.float16, ml_dtypes.bfloat16]
FLOATS = [*HALVES, np.float32, np.float64]
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def confident(classes, dtype, rows=41):
    """Rows whose p_t runs from a half to 1 - 1e-9 (Liger #1329: random logits keep p_t near 0 and hide lost digits)."""
    rng = np.random.default_rng(classes)
    x = rng.standard_normal((rows, classes))
    target = rng.integers(0, classes, rows)
    x[np.arange(rows), target] = np.log(max(classes, 2)) + np.linspace(0, 20, rows)
    return x.astype(dtype), target


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 31, 32, 33, 63, 64, 65, 257, 1000])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_half_is_the_rounded_float32(reduction, classes, dtype, level):
    x, target = confident(classes, dtype)
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction=reduction)
    wide_loss, wide_grad = celoss.cross_entropy_with_grad(x.astype(np.float32), target, reduction=reduction)
    if reduction == "none":
        assert loss.dtype == np.float32
    np.testing.assert_array_equal(loss, wide_loss)
    np.testing.assert_array_equal(celoss.cross_entropy(x, target, reduction=reduction), wide_loss)
    assert grad.dtype == dtype
    np.testing.assert_array_equal(grad.view(np.uint16), wide_grad.astype(dtype).view(np.uint16))
    if classes > 1:
        assert (loss > 0).all() if reduction == "none" else loss > 0


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("form", ["indices", "probabilities"])
def test_half_with_options(form, classes, dtype, level):
    x, target = confident(classes, dtype)
    rng = np.random.default_rng(0)
    if form == "probabilities":
        target = rng.uniform(0, 1, x.shape).astype(dtype)
    options = {"weight": rng.uniform(0, 2, classes), "label_smoothing": 0.25, "grad_output": 3.0, "reduction": "sum"}
    loss, grad = celoss.cross_entropy_with_grad(x, target, **options)
    wide_target = target if form == "indices" else target.astype(np.float32)
    wide_loss, wide_grad = celoss.cross_entropy_with_grad(x.astype(np.float32), wide_target, **options)
    assert loss == wide_loss
    np.testing.assert_array_equal(grad.view(np.uint16), wide_grad.astype(dtype).view(np.uint16))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("axis", [0, 1])
def test_every_half_value_is_a_logit(dtype, axis, level):
    """All 65,536 bit patterns, beside 0: those that are numbers, infinities, NaN."""
    bits = np.arange(65_536, dtype=np.uint16)
    x = np.stack([bits.view(dtype), np.zeros(65_536, dtype)], axis=1)
    with np.errstate(invalid="ignore"):  # NumPy warns of the signalling NaNs among them where the CPU converts them
        wide = x.astype(np.float32)
    if axis == 0:
        x, wide = np.ascontiguousarray(x.T), np.ascontiguousarray(wide.T)
    target = bits % 2
    loss, grad = celoss.cross_entropy_with_grad(x, target, axis=axis, reduction="none")
    wide_loss, wide_grad = celoss.cross_entropy_with_grad(wide, target, axis=axis, reduction="none")
    np.testing.assert_array_equal(loss, wide_loss)
    np.testing.assert_array_equal(grad.astype(np.float32), wide_grad.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("dtype", HALVES)
def test_gradient_rounds_to_nearest_even(dtype, level):
    """Gradients of every size, subnormal and halfway ones among them, by the upstream gradient."""
    half_ulp = np.float32(ml_dtypes.finfo(dtype).eps) / 2
    for base in (1.0, 2.0**-14, 2.0**-16, 2.0**-24):
        upstream = 2 * base * (1 + half_ulp * np.arange(0, 9))
        x = np.zeros((9, 2), dtype)
        _, grad = celoss.cross_entropy_with_grad(x, np.zeros(9, int), reduction="none", grad_output=upstream)
        expected = np.stack([-upstream / 2, upstream / 2], axis=1).astype(np.float32).astype(dtype)
        np.testing.assert_array_equal(grad.view(np.uint16), expected.view(np.uint16))


def test_half_overflow_is_infinite(level):
    x = np.zeros((1, 2), np.float16)
    _, grad = celoss.cross_entropy_with_grad(x, [0], grad_output=1e6)
    np.testing.assert_array_equal(grad, [[-np.inf, np.inf]])


@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("classes", [3, 40, 100])
def test_any_integer_type(integer, classes, level):
    rng = np.random.default_rng(1)
    for rows in ((50,), (5, 7)):
        x = rng.standard_normal((*rows, classes)).astype(np.float32)
        target = rng.integers(0, classes, rows)
        expected = celoss.cross_entropy_with_grad(x, target)
        for order in "=><":
            loss, grad = celoss.cross_entropy_with_grad(x, target.astype(np.dtype(integer).newbyteorder(order)))
            assert loss == expected[0]
            np.testing.assert_array_equal(grad, expected[1])


@pytest.mark.parametrize("integer", INTEGERS)
def test_ignored_rows_of_any_integer_type(integer, level):
    """uint8 targets with ignore_index=255 are the usual form of segmentation masks."""
    value = int(np.iinfo(integer).max)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 4, 19)).astype(np.float32)
    target = rng.integers(0, 19, (3, 4))
    expected = celoss.cross_entropy_with_grad(x, np.where(target == 3, -100, target))
    target = np.where(target == 3, np.uint64(value), target.astype(np.uint64)).astype(integer)
    loss, grad = celoss.cross_entropy_with_grad(x, target, ignore_index=value)
    assert loss == expected[0]
    np.testing.assert_array_equal(grad, expected[1])


@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("value", [-100, -(2**63), 2**63, 2**64, 10**30, -(10**30)])
def test_ignore_index_beyond_the_integer_type(integer, value):
    """No target can have the value: nothing is ignored."""
    x, target = np.zeros((2, 3), np.float32), np.array([0, 2], integer)
    if not np.iinfo(integer).min <= value <= np.iinfo(integer).max:
        assert celoss.cross_entropy(x, target, ignore_index=value) == pytest.approx(np.log(3))
        loss, _ = celoss.cross_entropy_with_grad(x, target, ignore_index=value, label_smoothing=0.1)
        assert loss == pytest.approx(np.log(3))


def test_unsigned_beyond_int64():
    """2^64 - 100 is not -100, though their 64 bits are the same."""
    x = np.zeros((2, 3))
    for value in (2**64 - 100, 2**63, 2**64 - 1):
        with pytest.raises(IndexError, match=rf"target\[1\] = {value} is not in \[0, 3\)"):
            celoss.cross_entropy(x, np.array([0, value], np.uint64))
        loss = celoss.cross_entropy(x, np.array([0, value], np.uint64), ignore_index=value)
        assert loss == pytest.approx(np.log(3))
        with pytest.raises(IndexError, match=rf"target\[1\] = {value} "):
            celoss.cross_entropy(x, np.array([0, value], np.uint64), ignore_index=value - 2**64)


def test_classes_beyond_the_integers_of_float32():
    """2^24 + 1 is no float32: a system that casts indices to the logits' type takes the wrong class (Keras)."""
    classes = 2**24 + 3
    x = np.zeros((1, classes), np.float16)
    x[0, 2**24 + 1] = 20
    assert celoss.cross_entropy(x, [2**24 + 1]) < 0.04
    assert celoss.cross_entropy(x, [2**24]) > 20


@pytest.mark.parametrize("x", FLOATS)
@pytest.mark.parametrize("q", FLOATS)
def test_probabilities_of_any_floating_type(q, x, level):
    rng = np.random.default_rng(3)
    for classes in (3, 40):
        logits = rng.standard_normal((10, classes)).astype(x)
        target = rng.integers(0, 5, (10, classes)) / 4  # exact in every type
        arithmetic = np.float64 if x is np.float64 else np.float32
        expected_loss, expected_grad = celoss.cross_entropy_with_grad(
            logits.astype(arithmetic), target.astype(arithmetic), reduction="sum"
        )
        loss, grad = celoss.cross_entropy_with_grad(logits, target.astype(q), reduction="sum")
        assert loss == expected_loss
        assert grad.dtype == x
        np.testing.assert_array_equal(grad.astype(np.float64), expected_grad.astype(x).astype(np.float64))


@pytest.mark.parametrize("dtype", FLOATS)
def test_types_of_results(dtype):
    x, target = np.zeros((2, 3), dtype), [0, 1]
    for reduction in ("mean", "sum"):
        assert type(celoss.cross_entropy(x, target, reduction=reduction)) is float
        loss, grad = celoss.cross_entropy_with_grad(x, target, reduction=reduction)
        assert type(loss) is float and grad.dtype == dtype
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none")
    assert loss.dtype == (np.float64 if dtype is np.float64 else np.float32) and grad.dtype == dtype
