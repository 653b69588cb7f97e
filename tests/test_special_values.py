"""Section 4 of the contract: ignored rows, nothing to average, infinities, NaN, ties, one class, sizes of zero."""

import functools
import warnings

import numpy as np
import pytest

import celoss
from celoss import reference

INF, NAN = np.inf, np.nan
DTYPES = [np.float16, np.float32, np.float64]
CLASS_COUNTS = [2, 3, 16, 17, 32, 33, 65, 1000]
EVERY_FORM = ["plain", "weighted", "smoothed"]


def options_of(form, classes, rows):
    return {
        "plain": {},
        "weighted": {"weight": np.linspace(0.5, 2, classes), "sample_weight": np.linspace(1, 2, rows)},
        "smoothed": {"label_smoothing": 0.1},
    }[form]


def rows_of(classes, dtype, rows=37):
    rng = np.random.default_rng(classes)
    return rng.standard_normal((rows, classes)).astype(dtype), rng.integers(0, classes, rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
@pytest.mark.parametrize("form", EVERY_FORM)
def test_ignored_rows_are_never_read(form, classes, dtype, level):
    x, target = rows_of(classes, dtype)
    ignored = np.random.default_rng(1).random(37) < 0.5
    ignored[:5] = [True, False, True, True, False]
    target[ignored] = -100
    options = options_of(form, classes, 37)
    expected = celoss.cross_entropy_with_grad(np.where(ignored[:, None], dtype(0), x), target, reduction="none", **options)
    assert not expected[0][ignored].any() and not expected[1][ignored].any()
    mean = celoss.cross_entropy(np.where(ignored[:, None], dtype(0), x), target, **options)
    for poison in (NAN, INF, -INF):
        poisoned = np.where(ignored[:, None], dtype(poison), x)
        loss, grad = celoss.cross_entropy_with_grad(poisoned, target, reduction="none", **options)
        np.testing.assert_array_equal(loss, expected[0])
        np.testing.assert_array_equal(grad, expected[1])
        assert celoss.cross_entropy(poisoned, target, **options) == mean
        out = np.full_like(x, 5)
        celoss.cross_entropy_with_grad(poisoned, target, out=out, **options)
        assert not out[ignored].any()
        assert not np.signbit(out[ignored]).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_ignored_long_rows_are_never_read(dtype, level):
    """Rows that threads share: the gradient's zeros are written, whatever was there."""
    x = np.random.default_rng(0).standard_normal((3, 70_001)).astype(dtype)
    x[1] = NAN
    target = np.array([5, -100, 70_000])
    for logits in (x, np.asfortranarray(x)):
        out = np.full_like(logits, 5)
        loss, _ = celoss.cross_entropy_with_grad(logits, target, reduction="none", out=out)
        expected_loss, expected_grad = celoss.cross_entropy_with_grad(x[[0, 2]], target[[0, 2]], reduction="none")
        np.testing.assert_array_equal(loss, [expected_loss[0], 0, expected_loss[1]])
        np.testing.assert_array_equal(out[[0, 2]], expected_grad)
        assert not out[1].any() and not np.signbit(out[1]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, *CLASS_COUNTS])
@pytest.mark.parametrize("form", EVERY_FORM)
def test_nothing_to_average(form, classes, dtype, level):
    """All ignored: the mean is NaN, the gradient 0, the sum 0; no warning (PyTorch #70348, #75181)."""
    x = np.full((5, classes), NAN, dtype)
    target = np.full(5, -100)
    options = options_of(form, classes, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss, grad = celoss.cross_entropy_with_grad(x, target, **options)
        assert np.isnan(loss) and not grad.any()
        loss, grad = celoss.cross_entropy_with_grad(x, target, out=x.copy(), **options)
        assert np.isnan(loss) and not grad.any()
        assert np.isnan(celoss.cross_entropy(x, target, **options))
        loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="sum", **options)
        assert loss == 0 and not grad.any()
        loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none", **options)
        assert not loss.any() and not grad.any()
        loss, grad = celoss.cross_entropy_with_grad(x, target, normalizer=3, **options)
        assert loss == 0 and not grad.any()


@pytest.mark.parametrize("name", ["cross_entropy_with_grad", "brier_score_with_grad"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("shape", "axis"), [((9000, 70), 1), ((70, 9000), 0), ((2, 400_000), 1), ((3, 40, 5000), 1), ((200, 3001), 1)]
)
def test_the_gradient_of_a_mean_of_nothing_is_all_zero(shape, axis, threads, name):
    out = np.full(shape, NAN, np.float32)
    target = np.full(shape[:axis] + shape[axis + 1 :], -100)
    loss, grad = getattr(celoss, name)(np.ones(shape, np.float32), target, axis=axis, out=out, n_threads=threads)
    assert np.isnan(loss) and grad is out
    np.testing.assert_array_equal(out, 0)


@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("form", ["indices", "probabilities"])
def test_weights_that_sum_to_zero(form, classes, level):
    x, target = rows_of(classes, np.float32, 6)
    if form == "probabilities":
        target = np.full(x.shape, 1 / classes)
    for options in ({"weight": np.zeros(classes)}, {"sample_weight": 0.0}):
        if form == "probabilities" and "weight" in options:
            continue  # class weights are not in that denominator
        loss, grad = celoss.cross_entropy_with_grad(x, target, **options)
        assert np.isnan(loss) and not grad.any()
        loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="sum", **options)
        assert loss == 0 and not grad.any()
        loss, grad = celoss.cross_entropy_with_grad(x, target, normalizer=2, **options)
        assert loss == 0 and not grad.any()


def test_target_is_read_even_where_no_class_counts():
    """But not that of a row that a weight of 0 leaves out."""
    with pytest.raises(IndexError, match=r"target\[1\] = 3 "):
        celoss.cross_entropy(np.zeros((2, 3)), [0, 3], weight=[0, 0, 0])
    assert celoss.cross_entropy(np.zeros((2, 3)), [0, 3], sample_weight=[1, 0]) == pytest.approx(np.log(3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
@pytest.mark.parametrize("form", EVERY_FORM)
@pytest.mark.parametrize("bad", [NAN, INF])
def test_nan_and_infinity_stay_in_their_row(bad, form, classes, dtype, level):
    x, target = rows_of(classes, dtype)
    options = options_of(form, classes, 37)
    expected = celoss.cross_entropy_with_grad(x, target, reduction="none", **options)
    for row in (0, 5, 16, 36):
        for column in {0, classes // 2, classes - 1, int(target[row])}:
            spoilt = x.copy()
            spoilt[row, column] = bad
            loss, grad = celoss.cross_entropy_with_grad(spoilt, target, reduction="none", **options)
            assert np.isnan(loss[row]) and np.isnan(grad[row]).all(), (row, column)
            others = np.arange(37) != row
            np.testing.assert_array_equal(loss[others], expected[0][others])
            np.testing.assert_array_equal(grad[others], expected[1][others])
            assert np.isnan(celoss.cross_entropy(spoilt, target, **options))
            assert np.isnan(celoss.cross_entropy(spoilt, target, reduction="none", **options)[row])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 70_001), (1, 300_001)])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_nan_and_infinity_in_long_rows(bad, shape, dtype, level):
    rng = np.random.default_rng(2)
    x = rng.standard_normal(shape).astype(dtype)
    for column in (0, 40_000, shape[1] - 1):
        spoilt = x.copy()
        spoilt[0, column] = bad
        loss, grad = celoss.cross_entropy_with_grad(spoilt, [7] * shape[0], reduction="none")
        assert np.isnan(loss[0]) and np.isnan(grad[0]).all()
        assert np.isfinite(loss[1:]).all() and np.isfinite(grad[1:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_several_bad_values_in_a_row(classes, dtype, level):
    """+inf beside NaN, two of +inf, -inf beside +inf: still NaN."""
    x, _ = rows_of(classes, dtype, 4)
    x[0, :2] = [INF, NAN]
    x[1, :2] = [INF, INF]
    x[2, :2] = [-INF, INF]
    x[3, :] = NAN
    loss, grad = celoss.cross_entropy_with_grad(x, [0, 1, 0, 1], reduction="none")
    assert np.isnan(loss).all() and np.isnan(grad).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_minus_infinity_marks_an_impossible_class(classes, dtype, level):
    """p = 0, gradient exactly 0; the others are as if the class were not there."""
    x, target = rows_of(classes, dtype)
    impossible = (target + 1) % classes
    x[np.arange(37), impossible] = -INF
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none")
    assert np.isfinite(loss).all() and np.isfinite(grad).all()
    assert not grad[np.arange(37), impossible].any()
    smaller = np.array([np.delete(row, k) for row, k in zip(x, impossible, strict=True)])
    moved = target - (impossible < target)
    expected, _ = celoss.cross_entropy_with_grad(smaller, moved, reduction="none")
    np.testing.assert_allclose(loss, expected, rtol=4 * np.finfo(loss.dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_minus_infinity_at_the_target(classes, dtype, level):
    x, target = rows_of(classes, dtype)
    x[np.arange(37), target] = -INF
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none")
    assert (loss == INF).all()
    np.testing.assert_allclose(grad[np.arange(37), target].astype(np.float64), -1, rtol=2 * np.finfo(dtype).eps)
    rest = grad.copy()
    rest[np.arange(37), target] = 0
    assert (rest >= 0).all()
    np.testing.assert_allclose(rest.sum(axis=1, dtype=np.float64), 1, rtol=classes * np.finfo(dtype).eps)
    assert celoss.cross_entropy(x, target) == INF
    loss, grad = celoss.cross_entropy_with_grad(x, target, weight=np.zeros(classes), reduction="none")
    assert not loss.any() and not grad.any()
    loss, grad = celoss.cross_entropy_with_grad(x, target, sample_weight=0.0, reduction="none")
    assert not loss.any() and not grad.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_all_minus_infinity(smoothing, classes, dtype, level):
    x, target = rows_of(classes, dtype)
    x[3] = -INF
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none", label_smoothing=smoothing)
    assert np.isnan(loss[3]) and np.isnan(grad[3]).all()
    assert np.isfinite(np.delete(loss, 3)).all() and np.isfinite(np.delete(grad, 3, axis=0)).all()
    q = np.full(x.shape, 1 / classes, dtype)
    loss, grad = celoss.cross_entropy_with_grad(x, q, reduction="none", label_smoothing=smoothing)
    assert np.isnan(loss[3]) and np.isnan(grad[3]).all()
    assert np.isfinite(np.delete(loss, 3)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_smoothing_over_an_impossible_class_is_infinite(classes, dtype, level):
    """Some mass lies on it; its gradient is -ε/C, finite."""
    x, target = rows_of(classes, dtype)
    impossible = (target + 1) % classes
    x[np.arange(37), impossible] = -INF
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none", label_smoothing=0.5)
    assert (loss == INF).all() and np.isfinite(grad).all()
    np.testing.assert_allclose(
        grad[np.arange(37), impossible].astype(np.float64), -0.5 / classes, rtol=4 * float(np.finfo(dtype).eps)
    )
    # A class of weight 0 has no share of it.
    weight = np.ones(classes)
    weight[impossible[0]] = 0
    loss, grad = celoss.cross_entropy_with_grad(x[:1], target[:1], reduction="none", label_smoothing=0.5, weight=weight)
    assert np.isfinite(loss).all() and grad[0, impossible[0]] == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_probability_zero_of_an_impossible_class_counts_zero(classes, dtype, level):
    x, _ = rows_of(classes, dtype)
    q = np.random.default_rng(3).uniform(0.25, 1, x.shape).astype(dtype)
    x[:, 1], q[:, 1] = -INF, 0
    loss, grad = celoss.cross_entropy_with_grad(x, q, reduction="none")
    assert np.isfinite(loss).all() and np.isfinite(grad).all() and not grad[:, 1].any()
    q[5, 1] = 0.5
    loss, grad = celoss.cross_entropy_with_grad(x, q, reduction="none")
    assert loss[5] == INF and grad[5, 1] == -0.5 and np.isfinite(grad).all()
    assert np.isfinite(np.delete(loss, 5)).all()


@pytest.mark.parametrize("classes", [2, 3, 16, 33, 200])
def test_nan_in_probabilities_stays_in_its_row(classes, level):
    x, _ = rows_of(classes, np.float32)
    q = np.full(x.shape, 1 / classes, np.float32)
    expected = celoss.cross_entropy_with_grad(x, q, reduction="none")
    q[4, 1] = NAN
    loss, grad = celoss.cross_entropy_with_grad(x, q, reduction="none")
    assert np.isnan(loss[4]) and np.isnan(grad[4]).all()
    others = np.arange(37) != 4
    np.testing.assert_array_equal(loss[others], expected[0][others])
    np.testing.assert_array_equal(grad[others], expected[1][others])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, -7.5, 60000.0, 6e-8, -INF, INF, NAN])
def test_one_class(value, dtype, level):
    """The loss is exactly 0 and so is the gradient, unless the row has no probabilities."""
    x, target = np.full((20, 1), value, dtype), np.zeros(20, int)
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none")
    expected = 0.0 if np.isfinite(value) else NAN
    np.testing.assert_array_equal(loss, np.full(20, expected))
    np.testing.assert_array_equal(grad, np.full((20, 1), expected))
    if expected == 0:
        assert celoss.cross_entropy(x, target) == 0
        loss, grad = celoss.cross_entropy_with_grad(x, np.ones_like(x), label_smoothing=0.5)
        assert loss == 0 and not grad.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_ties(classes, dtype, level):
    x = np.full((classes, classes), 3, dtype)
    loss, grad = celoss.cross_entropy_with_grad(x, np.arange(classes), reduction="none")
    np.testing.assert_allclose(loss, np.log(classes), rtol=2 * np.finfo(dtype).eps)
    expected = np.full((classes, classes), 1 / classes) - np.eye(classes)
    np.testing.assert_allclose(grad, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_largest_numbers(classes, dtype, level):
    """The difference of two logits may overflow: the loss is infinite or 0 then, the gradient 0 or 1, never NaN."""
    big = np.finfo(dtype).max
    x = np.zeros((4, classes), dtype)
    x[0, 0] = big
    x[1, 0] = -big
    x[2, :2] = [big, -big]
    x[3, :] = big
    loss, grad = celoss.cross_entropy_with_grad(x, [0, 1, 0, 1], reduction="none")
    assert loss[0] == 0 and not grad[0].any()
    assert loss[1] == pytest.approx(np.log(classes - 1)) and grad[1, 0] == 0
    assert loss[2] == 0 and not grad[2].any()
    assert loss[3] == pytest.approx(np.log(classes))
    loss, grad = celoss.cross_entropy_with_grad(x, [1, 0, 1, 0], reduction="none")
    assert loss[0] == pytest.approx(big) and grad[0, 0] == 1 and grad[0, 1] == -1
    assert loss[1] == pytest.approx(big) and grad[1, 0] == -1
    assert loss[2] >= big and grad[2, 0] == 1 and grad[2, 1] == -1
    assert not np.isnan(grad).any()


def test_zero_classes():
    with pytest.raises(ValueError, match="no class"):
        celoss.cross_entropy(np.empty((3, 0)), np.zeros(3, int))
    with pytest.raises(ValueError, match="no class"):
        celoss.cross_entropy(np.empty((3, 0)), np.empty((3, 0)))
    with pytest.raises(ValueError, match="no class"):
        celoss.cross_entropy(np.empty((3, 0)), np.full(3, -100))


@pytest.mark.parametrize("form", ["indices", "probabilities"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"weight": np.ones(4)}])
def test_no_rows(form, options):
    x = np.empty((0, 4), np.float32)
    target = np.empty(0, int) if form == "indices" else np.empty((0, 4), np.float32)
    loss, grad = celoss.cross_entropy_with_grad(x, target, **options)
    assert np.isnan(loss) and grad.shape == (0, 4)
    assert celoss.cross_entropy(x, target, reduction="sum", **options) == 0
    assert celoss.cross_entropy(x, target, normalizer=2, **options) == 0
    assert celoss.cross_entropy(x, target, reduction="none", **options).shape == (0,)


@pytest.mark.parametrize("form", ["indices", "probabilities"])
@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product_of_loss_and_weight_may_overflow(dtype, classes, form, level):
    """Such a loss is infinite, as the formula says, and leaves the others alone."""
    x = np.zeros((3, classes), dtype)
    x[1, 1] = np.finfo(dtype).max / 2
    target = np.zeros(3, np.int64) if form == "indices" else np.full((3, classes), 1 / classes, dtype)
    weight = np.full(classes, 1e3)
    for options in ({"weight": weight}, {"sample_weight": 1e3}, {"label_smoothing": 0.5, "weight": weight}):
        loss = celoss.cross_entropy(x, target, reduction="none", **options)
        assert loss[1] == INF
        alone = celoss.cross_entropy(x[[0, 2]], target[[0, 2]], reduction="none", **options)
        np.testing.assert_array_equal(loss[[0, 2]], alone)
    scores = np.array([np.finfo(dtype).max / 2, 0], dtype)
    for labels in ([0, 0], [0.25, 0.25]):
        loss = celoss.binary_cross_entropy(scores, np.array(labels, dtype), weight=1e3, reduction="none")
        assert loss[0] == INF and 0 < loss[1] < 1e3


def test_sum_and_mean_are_float64():
    """2^24 losses of float32 size would stop growing in float32 (PyTorch #55657)."""
    x = np.broadcast_to(np.zeros(2, np.float32), (2**20, 2))
    total = celoss.cross_entropy(x, np.zeros(2**20, np.int8), reduction="sum")
    assert total == pytest.approx(2**20 * np.log(2), rel=1e-7)
    mean = celoss.cross_entropy(x.astype(np.float64), np.zeros(2**20, np.int8))
    assert mean == pytest.approx(np.log(2), rel=1e-14)
    # The sum of the weights is as good as that of the losses.
    mean = celoss.cross_entropy(x.astype(np.float64), np.zeros(2**20, np.int8), sample_weight=0.1)
    assert mean == pytest.approx(np.log(2), rel=2e-13)


def test_no_warnings_and_no_floating_point_flags(level):
    """NumPy's error state is neither read nor raised: overflow and NaN inside are part of the result."""
    x = np.array([[1e30, -1e30, 0], [NAN, 0, 0], [INF, 0, 0], [-INF, -INF, -INF]], np.float32)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (np.float32, np.float64, np.float16):
            with np.errstate(over="ignore"):
                logits = x.astype(dtype)
            celoss.cross_entropy_with_grad(logits, [0, 1, 2, 0])
            celoss.cross_entropy_with_grad(logits, np.zeros_like(logits), label_smoothing=0.5, reduction="none")
            np.float64(1) * np.float64(2)


# ---- second derivatives ----------------------------------------------------------------------------------------------------

SPECIAL = [NAN, INF, -INF, "max", "-max", "tiny", "subnormal", -0.0]
OF_DTYPE = {"max": "max", "-max": "min", "tiny": "tiny", "subnormal": "smallest_subnormal"}


def special_numbers(dtype):
    info = np.finfo(dtype)
    return np.array([getattr(info, OF_DTYPE[value]) if value in OF_DTYPE else value for value in SPECIAL], dtype)


def special_rows(classes, dtype):
    """Each special value at each place, at the target and beside it, among numbers and among ties; and rows of several."""
    rng = np.random.default_rng(classes)
    places = range(classes) if classes <= 40 else sorted({0, 1, 15, 16, classes // 2, classes - 17, classes - 1})
    rows, targets = [], []
    for place in places:
        for target in (place, (place + 1) % classes):
            for value in special_numbers(dtype):
                for row in (rng.standard_normal(classes), np.full(classes, 3.0)):
                    row[place] = value
                    rows.append(row)
            for background in (-INF, -1e4):  # one class that can occur, and one that is far above the others
                row = np.full(classes, background)
                row[place] = 2
                rows.append(row)
            targets += [target] * (len(rows) - len(targets))
    for several in ([INF, NAN], [INF, INF], [-INF, INF], [-INF, NAN], [-INF, -INF]):
        row = rng.standard_normal(classes)
        row[:2] = several[:classes]
        rows += [row, np.roll(row, classes // 2)]
    rows += [np.full(classes, value) for value in (NAN, INF, -INF, np.finfo(dtype).max, -np.finfo(dtype).max, 0.0)]
    targets += [*rng.integers(0, classes, len(rows) - len(targets))]
    return np.array(rows).astype(dtype), np.array(targets)


def options_of_second_derivatives(x, t):
    """Targets and options under which a row may be left out, count nothing, or have a focal factor."""
    rows, classes = x.shape
    weight = np.where(np.arange(classes) % 3 == 1, 0, np.linspace(0.5, 2, classes))
    sample_weight = np.resize([1.0, 0, -2, 0.5, 1], rows)
    q = np.random.default_rng(rows).dirichlet(np.ones(classes), rows).astype(np.float32)
    q[::2, 0] = 0
    q[::7] = np.arange(classes) == t[::7, None]
    ignored = np.where(np.arange(rows) % 3 == 0, -100, t)
    return {
        "plain": (t, {}),
        "ignored": (ignored, {}),
        "all ignored": (np.full(rows, -100), {}),
        "weights": (t, {"weight": weight}),
        "sample weights": (t, {"sample_weight": sample_weight}),
        "smoothing": (ignored, {"label_smoothing": 0.125}),
        "smoothing and weights": (ignored, {"label_smoothing": 0.125, "weight": weight, "sample_weight": sample_weight}),
        "focal": (t, {"focal_gamma": 2.0}),
        "focal and weights": (ignored, {"focal_gamma": 0.5, "weight": weight, "sample_weight": sample_weight}),
        "probabilities": (q, {"sample_weight": sample_weight}),
        "probabilities, weights, smoothing": (q, {"weight": weight, "label_smoothing": 0.125}),
    }


def assert_as_reference(got, expected, scale, what):
    """NaN and infinite where the reference is; else within 16 units of the last place of its value and of a scale."""
    info, work = np.finfo(got.dtype), np.finfo(np.float64 if got.dtype == np.float64 else np.float32)
    got = got.astype(np.float64)
    with np.errstate(all="ignore"):
        allowed = 16 * float(info.eps) * np.fmax(np.abs(expected), scale) + 4 * float(work.tiny) + float(info.smallest_subnormal)
        bad = ~((np.abs(got - expected) <= allowed) | (got == expected) | (np.isnan(got) & np.isnan(expected)))
    assert not bad.any(), f"{what}: {got[bad][:3]} instead of {expected[bad][:3]} at {np.argwhere(bad)[:3].tolist()}"


@functools.cache
def second_derivatives_of_rows(classes, dtype):
    """Rows and a vector, and with each of the options what the reference makes of them, in float64."""
    if isinstance(classes, str):  # more than two pieces; some of the rows, since more of them would not be cut
        x, t = special_rows(2, dtype)
        places = np.resize([0, 1, 32767, 32768, 65535, 65536, 69_999], (len(x), 1))
        few = np.random.default_rng(0).standard_normal((len(x), 70_000)).astype(dtype)
        few[1::2, :32768] = -INF  # a piece in which nothing can occur
        np.put_along_axis(few, places, x[:, :1], axis=1)
        np.put_along_axis(few, (places + 40_000) % 70_000, x[:, 1:], axis=1)
        first = int(classes.removeprefix("long "))
        x, t = few[first::7], ((places[:, 0] + 40_000 * t) % 70_000)[first::7]
        assert len(x) < 16
    else:
        x, t = special_rows(classes, dtype)
    v = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    cases = {}
    x64, v64 = x.astype(np.float64), v.astype(np.float64)
    p = reference.softmax(x64)
    for label, (target, options) in options_of_second_derivatives(x, t).items():
        if isinstance(classes, str) and label in ("weights", "sample weights", "smoothing", "probabilities"):
            continue
        options = {**options, "reduction": "none"}
        _, grad, hess = reference.cross_entropy_with_grad_hess(x64, target, **options)
        product = reference.cross_entropy_hessp(x64, target, v64, **options)
        gamma = options.get("focal_gamma", 0)
        with np.errstate(all="ignore"):
            size = 2 * (1 + gamma) ** 2 * (np.abs(p * v64).sum(axis=1, keepdims=True) if gamma == 0 else np.abs(v64).max())
        cases[label] = target, options, gamma * (1 + gamma) * np.abs(grad), hess, size, product
    return x, v, cases


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 5, 16, 17, 33, 70, 127, 128, 130, "long 0", "long 3"])
def test_second_derivatives_of_special_values(classes, dtype, path, level):
    x, v, cases = second_derivatives_of_rows(classes, dtype)
    logits = np.asfortranarray(x) if path == "general" else x
    for label, (target, options, hess_scale, expected_hess, product_scale, expected_product) in cases.items():
        out, hess_out = np.full_like(logits, 7), np.full_like(logits, 7)
        loss, grad, hess = celoss.cross_entropy_with_grad_hess(logits, target, **options, out=out, hess_out=hess_out)
        assert_as_reference(hess, expected_hess, hess_scale, f"{label}, Hessian")
        plain_loss, plain_grad = celoss.cross_entropy_with_grad(logits, target, **options)
        for found, plain in ((loss, plain_loss), (grad, plain_grad)):
            np.testing.assert_array_equal(np.isnan(found), np.isnan(plain), label)
            np.testing.assert_array_equal(np.isinf(found), np.isinf(plain), label)
        product = celoss.cross_entropy_hessp(logits, target, v, **options, out=np.full_like(logits, 7))
        assert_as_reference(product, expected_product, product_scale, f"{label}, product")
        here = logits.copy(order="K")
        np.testing.assert_array_equal(celoss.cross_entropy_hessp(here, target, v, **options, out=here), product, label)
        for name in ("out", "hess_out"):
            here = logits.copy(order="K")
            again = celoss.cross_entropy_with_grad_hess(here, target, **options, **{name: here})
            np.testing.assert_array_equal(again[1], grad, label)
            np.testing.assert_array_equal(again[2], hess, label)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 3, 40, 200])
def test_second_derivatives_of_a_mean_of_nothing(classes, dtype, path, level):
    x, target = np.full((5, classes), NAN, dtype), np.full(5, -100)
    for options in ({}, {"label_smoothing": 0.1}, {"focal_gamma": 2.0}, {"weight": np.ones(classes)}):
        out, hess_out = np.full_like(x, 5), np.full_like(x, 5)
        loss, grad, hess = celoss.cross_entropy_with_grad_hess(x, target, **options, out=out, hess_out=hess_out)
        assert np.isnan(loss) and not grad.any() and not hess.any() and hess is hess_out
        assert not celoss.cross_entropy_hessp(x, target, x, **options, out=out).any()
    x, q = np.ones((3, 70_000), dtype), np.zeros((3, 70_000), np.float32)
    for target in ([-100] * 3, q):
        out, hess_out = np.full_like(x, 5), np.full_like(x, 5)
        celoss.cross_entropy_with_grad_hess(x, target, sample_weight=0.0, out=out, hess_out=hess_out)
        assert not out.any() and not hess_out.any()
        out[...] = 5
        assert not celoss.cross_entropy_hessp(x, target, x, sample_weight=0.0, out=out).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_second_derivatives_of_special_scores(dtype, path, level):
    """Every one at every place of a vector, with every label and option."""
    special = special_numbers(dtype)
    z, y = (a.ravel() for a in np.meshgrid(np.concatenate([special, special[:0:-1], [1.5, -1.5]]), [0, 1, 0.25, 1]))
    z, y = np.resize(z, 17 * z.size).astype(dtype), np.resize(y, 17 * z.size).astype(dtype)
    v = np.random.default_rng(0).standard_normal(z.shape).astype(dtype)
    weight = np.resize([1.0, 0, -2, 0.5, 0, 1, 1], z.shape)
    hard = np.rint(y).astype(np.int64)
    for labels, options in [
        (y, {}), (hard, {}), (y, {"weight": weight}), (y, {"pos_weight": np.abs(weight)}), (y, {"label_smoothing": 0.125}),
        (hard, {"label_smoothing": 0.125, "weight": weight, "pos_weight": 3.0}), (y, {"focal_gamma": 2.0}),
        (hard, {"focal_gamma": 0.5}), (y, {"focal_gamma": 1.0, "weight": weight, "pos_weight": np.abs(weight)}),
    ]:  # fmt: skip
        options = {**options, "reduction": "none"}
        z64, y64, gamma = z.astype(np.float64), labels.astype(np.float64), options.get("focal_gamma", 0)
        _, grad, expected = reference.binary_cross_entropy_with_grad_hess(z64, y64, **options)
        with np.errstate(all="ignore"):
            scale = np.abs(grad) * gamma * (1 + gamma)
        _, _, hess = celoss.binary_cross_entropy_with_grad_hess(z, labels, **options)
        assert_as_reference(hess, expected, scale, options)
        product = celoss.binary_cross_entropy_hessp(z, labels, v, **options)
        expected = reference.binary_cross_entropy_hessp(z64, y64, v.astype(np.float64), **options)
        assert_as_reference(product, expected, scale * np.abs(v.astype(np.float64)), options)
        for name, place in (("out", 1), ("hess_out", 2)):
            here = z.copy()
            again = celoss.binary_cross_entropy_with_grad_hess(here, labels, **options, **{name: here})
            np.testing.assert_array_equal(again[2], hess)
            assert again[place] is here
