"""What holds for any logits: properties that hypothesis tries to refute."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import truth
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tolerances import ulp

import celoss

CLASS_COUNTS = st.one_of(st.integers(1, 8), st.sampled_from([15, 16, 17, 31, 32, 33, 63, 64, 65, 129, 255, 256, 257, 1000]))
SCALES = st.sampled_from([1e-30, 1e-3, 1.0, 5.0, 30.0, 1e3, 1e10])


@st.composite
def problems(draw, dtypes=(np.float32, np.float64), classes=CLASS_COUNTS, scales=SCALES):
    """Logits (N, C) of any spread with rows of their own offset, and targets."""
    dtype, n_classes, rows = draw(st.sampled_from(dtypes)), draw(classes), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = draw(scales) * rng.standard_normal((rows, n_classes))
    if draw(st.booleans()):
        x += draw(st.sampled_from([0.0, 100.0, -1e4])) * rng.standard_normal((rows, 1))
    if draw(st.booleans()):
        x = np.rint(x)  # ties
    if n_classes > 1 and draw(st.booleans()):
        x[rng.random(x.shape) < 0.2] = -np.inf
        x[:, 0] = 1.0
    return x.astype(dtype), rng.integers(0, n_classes, rows)


rows_of_anything = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.tuples(st.integers(1, 6), st.integers(1, 40)),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)


def rows(x, target, **options):
    return celoss.cross_entropy_with_grad(x, target, reduction="none", **options)


@given(problems(), st.integers(-6, 8), st.sampled_from([-1, 1]))
def test_shift_by_what_keeps_the_differences_exact(problem, power, sign):
    """Small integers plus a power of two: the exact value is the same."""
    x, target = problem
    x = np.clip(np.rint(x), -100, 100).astype(x.dtype)
    loss, grad = rows(x, target)
    moved_loss, moved_grad = rows(x + x.dtype.type(sign * 2.0 ** (10 + power)), target)
    truth.assert_ulp(moved_loss, loss, 2 * ulp("loss", x.dtype))
    truth.assert_ulp(moved_grad, grad, 2 * ulp("gradient", x.dtype))


@given(problems(), st.randoms(use_true_random=False))
def test_permuted_classes_permute_the_gradient(problem, random):
    x, target = problem
    order = list(range(x.shape[1]))
    random.shuffle(order)
    loss, grad = rows(x, target)
    other_loss, other_grad = rows(x[:, order], np.argsort(order)[target])
    truth.assert_ulp(other_loss, loss, 2 * ulp("loss", x.dtype))
    truth.assert_ulp(other_grad, grad[:, order], 2 * ulp("gradient", x.dtype))


@given(problems(), st.randoms(use_true_random=False))
def test_rows_do_not_know_each_other(problem, random):
    """Shuffled, alone, repeated: each row keeps its bits."""
    x, target = problem
    loss, grad = rows(x, target)
    order = random.choices(range(len(x)), k=random.randrange(1, 70))
    other_loss, other_grad = rows(x[order], target[order])
    np.testing.assert_array_equal(other_loss, loss[order])
    np.testing.assert_array_equal(other_grad, grad[order])
    alone_loss, alone_grad = rows(x[order[0]], target[order[0]])
    np.testing.assert_array_equal(alone_loss, loss[order[0]])
    np.testing.assert_array_equal(alone_grad, grad[order[0]])


@given(problems())
def test_signs_and_bounds(problem):
    """loss >= 0, gradient in [0, 1] but at the target, where it is in [-1, 0]; no negative zero as a loss."""
    x, target = problem
    loss, grad = rows(x, target)
    assert (loss >= 0).all() and not np.signbit(loss).any()
    at_target = np.take_along_axis(grad, target[:, None], axis=1)
    assert (at_target <= 0).all() and (at_target >= -1).all()
    rest = grad.copy()
    np.put_along_axis(rest, target[:, None], 0, axis=1)
    assert (rest >= 0).all() and (rest <= 1).all()


@given(problems())
def test_gradient_rows_sum_to_zero(problem):
    x, target = problem
    _, grad = rows(x, target)
    total = np.abs(grad.sum(axis=1, dtype=np.float64))
    larger = np.abs(grad).sum(axis=1, dtype=np.float64)
    assert (
        total <= (ulp("gradient", x.dtype) + 2) * np.finfo(x.dtype).eps * larger + x.shape[1] * 2 * np.finfo(x.dtype).tiny
    ).all()


@given(problems(scales=st.sampled_from([1.0, 5.0, 30.0])))
def test_loss_and_target_gradient_belong_together(problem):
    """1 - exp(-loss) is minus the gradient at the target."""
    x, target = problem
    assume(np.isfinite(np.take_along_axis(x, target[:, None], axis=1)).all())
    loss, grad = rows(x, target)
    at_target = np.take_along_axis(grad, target[:, None], axis=1)[:, 0]
    eps = np.finfo(x.dtype).eps
    np.testing.assert_allclose(-at_target, -np.expm1(-loss.astype(np.float64)), rtol=8 * eps, atol=2 * np.finfo(x.dtype).tiny)


@given(problems())
def test_one_hot_probabilities_are_indices(problem):
    x, target = problem
    q = np.eye(x.shape[1], dtype=x.dtype)[target]
    loss, grad = rows(x, target)
    soft_loss, soft_grad = rows(x, q)
    truth.assert_ulp(soft_loss, loss, 2 * ulp("option loss", x.dtype))
    # At the target p - 1 is a difference there: to ulp of 1.
    truth.assert_ulp(soft_grad, grad, 2 * ulp("option gradient", x.dtype), scale=np.abs(grad) + q)


@given(problems(), st.sampled_from(["none", "mean", "sum"]))
def test_options_that_change_nothing(problem, reduction):
    """Weights of one, no smoothing, an ignore_index that is no target, upstream gradient 1: the plain call's bits."""
    x, target = problem
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction=reduction)
    for options in (
        {"weight": np.ones(x.shape[1])},
        {"sample_weight": 1.0},
        {"label_smoothing": 0},
        {"ignore_index": 5000},
        {"grad_output": 1.0},
        {"n_threads": 3},
        {"normalizer": len(x)},
    ):
        other_loss, other_grad = celoss.cross_entropy_with_grad(x, target, reduction=reduction, **options)
        np.testing.assert_array_equal(other_loss, loss, err_msg=str(options))
        np.testing.assert_array_equal(other_grad, grad, err_msg=str(options))


@given(problems(), st.sampled_from(["none", "mean", "sum"]), st.sampled_from([0.0, 0.1]))
def test_in_place_is_out_of_place(problem, reduction, smoothing):
    x, target = problem
    options = {"reduction": reduction, "label_smoothing": smoothing}
    loss, grad = celoss.cross_entropy_with_grad(x, target, **options)
    out = np.empty_like(x)
    other_loss, other_grad = celoss.cross_entropy_with_grad(x, target, out=out, **options)
    assert other_grad is out
    np.testing.assert_array_equal(other_loss, loss)
    np.testing.assert_array_equal(out, grad)
    np.testing.assert_array_equal(celoss.cross_entropy(x, target, **options), loss)
    other_loss, other_grad = celoss.cross_entropy_with_grad(x, target, out=x, **options)
    assert other_grad is x
    np.testing.assert_array_equal(other_loss, loss)
    np.testing.assert_array_equal(x, grad)


@given(problems())
def test_reductions_agree(problem):
    x, target = problem
    loss, grad = rows(x, target)
    total, total_grad = celoss.cross_entropy_with_grad(x, target, reduction="sum")
    mean, mean_grad = celoss.cross_entropy_with_grad(x, target)
    np.testing.assert_array_equal(total_grad, grad)
    np.testing.assert_allclose(total, loss.sum(dtype=np.float64), rtol=4 * np.finfo(x.dtype).eps)
    assert mean == total / len(x)
    truth.assert_ulp(mean_grad, grad.astype(truth.real) / len(x), 1 + ulp("gradient", x.dtype))


@given(problems(), st.data())
def test_ignored_rows_are_as_if_absent(problem, data):
    x, target = problem
    ignored = np.array(data.draw(st.lists(st.booleans(), min_size=len(x), max_size=len(x))))
    loss, grad = rows(x, target)
    target = np.where(ignored, -100, target)
    other_loss, other_grad = rows(np.where(ignored[:, None], x.dtype.type(np.nan), x), target)
    np.testing.assert_array_equal(other_loss, np.where(ignored, 0, loss))
    np.testing.assert_array_equal(other_grad, np.where(ignored[:, None], 0, grad))
    mean = celoss.cross_entropy(x, target)
    if ignored.all():
        assert np.isnan(mean)
    else:
        np.testing.assert_allclose(mean, celoss.cross_entropy(x[~ignored], target[~ignored]), rtol=1e-13)


@given(problems(), st.floats(0, 1e6))
def test_loss_is_linear_in_the_weights(problem, factor):
    x, target = problem
    assume(factor == 0 or factor > 1e-6)
    loss, grad = rows(x, target)
    assume(np.isfinite(loss).all())
    weighted_loss, weighted_grad = rows(x, target, sample_weight=factor)
    truth.assert_ulp(weighted_loss, loss.astype(truth.real) * factor, 2 * ulp("option loss", x.dtype))
    truth.assert_ulp(weighted_grad, grad.astype(truth.real) * factor, 2 * ulp("option gradient", x.dtype))


@given(problems(dtypes=[np.float64], scales=st.sampled_from([1.0, 5.0])), st.floats(0, 1))
def test_loss_is_convex(problem, share):
    """Along the segment between two rows of logits the loss is below its chord."""
    x, target = problem
    x = np.where(np.isfinite(x), x, 0.0)
    y = x[::-1] + 1.0
    middle, _ = rows(share * x + (1 - share) * y, target)
    chord = share * rows(x, target)[0] + (1 - share) * rows(y, target)[0]
    assert (middle <= chord + 1e-12 * (1 + np.abs(chord))).all()


@given(problems(dtypes=[np.float32]))
def test_float32_is_the_rounded_float64(problem):
    x, target = problem
    loss, grad = rows(x, target)
    wide_loss, wide_grad = rows(x.astype(np.float64), target)
    truth.assert_ulp(loss, wide_loss, 1.01)
    truth.assert_ulp(grad, wide_grad, 2.01)


@given(rows_of_anything, st.data())
def test_any_bits_at_all(x, data):
    """No crash, no warning, NaN exactly where the contract says, and the row's bits in any company."""
    target = np.array(data.draw(st.lists(st.integers(0, x.shape[1] - 1), min_size=len(x), max_size=len(x))))
    loss, grad = rows(x, target)
    with np.errstate(all="ignore"):
        undefined = np.isnan(x).any(axis=1) | np.isposinf(x).any(axis=1) | np.isneginf(x).all(axis=1)
    np.testing.assert_array_equal(np.isnan(loss), undefined)
    np.testing.assert_array_equal(np.isnan(grad), np.broadcast_to(undefined[:, None], grad.shape))
    if not undefined.any():
        assert (grad[np.isneginf(x) & (np.arange(x.shape[1]) != target[:, None])] == 0).all()
    padded = np.concatenate([x, x[:1]])
    np.testing.assert_array_equal(rows(padded, np.append(target, target[0]))[1][:-1], grad)


@settings(max_examples=30)
@given(problems(scales=st.sampled_from([1.0, 30.0])))
def test_levels_agree(problem):
    """All levels are within their tolerance of the truth: they differ by no more than twice of it."""
    from celoss import _kernels

    x, target = problem
    before = _kernels.level()
    loss, grad = rows(x, target)
    try:
        for name, runs in _kernels.levels():
            if runs:
                _kernels.use_level(name)
                other_loss, other_grad = rows(x, target)
                truth.assert_ulp(other_loss, loss, 2 * ulp("loss", x.dtype))
                truth.assert_ulp(other_grad, grad, 2 * ulp("gradient", x.dtype))
    finally:
        _kernels.use_level(before)


@pytest.mark.slow
@settings(max_examples=5000)
@given(problems())
def test_exact_value_at_length(problem):
    x, target = problem
    if not truth.WIDE:
        x = x.astype(np.float32)
    exact_loss, exact_grad = truth.cross_entropy(x, target)
    loss, grad = rows(x, target)
    truth.assert_ulp(loss, exact_loss, ulp("loss", x.dtype))
    truth.assert_ulp(grad, exact_grad, ulp("gradient", x.dtype))
