"""The values of the reference: against exact arithmetic, other libraries, its own numeric derivatives, and identities.

Everything else in the test suite leans on the reference, so nothing here may lean on the rest of celoss.
"""

import inspect
import math

import mpmath
import numpy as np
import pytest
import truth
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from reference_functions import BINARY_GRADS, REDUCTIONS, ROW_GRADS, class_weight, one_hot, rng

from celoss import reference

INF, NAN = math.inf, math.nan

# ----------------------------------------------------------------------------------------------------
# Exact values: the formulas of the contract, as they stand, in 400 digits
# ----------------------------------------------------------------------------------------------------

mp = mpmath.mp.clone()
mp.dps = 400

MARGINS = [5.0, 9.3, 14.0, 17.0, 20.0, 25.0, 30.0, 36.9, 100.0, 700.0]
OFFSETS = [0.0, 1e3, -1e3, 1e4 + 0.1, 1e6, 1e8, -1e8]

ADVERSARIAL = [
    *([offset + margin, offset, offset] for offset in OFFSETS for margin in MARGINS),
    *([offset, offset + margin, offset - 0.5, offset + 1.25] for offset in OFFSETS for margin in MARGINS),
    *([offset] * n for offset in OFFSETS for n in (1, 2, 3, 7)),
    [3.0, 3.0, 1.0],
    [1.0, 3.0, 3.0, -2.0],
    [7.5],
    [1.0, -INF, 3.0],
    [-INF, -INF, 2.0],
    [-INF, 1e8, 1e8 - 20.0],
    [5e-324, 0.0],
    [1e-310, -1e-310, 3e-320],
    [5e-324, 5e-324, 5e-324],
    [0.1, 40.2, -3.3],
    [-200.7, -100.1, -300.9],
    [1e-20, 0.0, 20.0],
]  # fmt: skip


def exact_softmax(row):
    e = [mp.exp(mp.mpf(x)) for x in row]
    total = mp.fsum(e)
    return [v / total for v in e], mp.log(total)


def exact_cross_entropy(row, coefficients):
    """l = Σ a_c (lse - x_c) and p_k Σ a_c - a_k, where a_c = s w_c q'_c."""
    p, lse = exact_softmax(row)
    a = [mp.mpf(v) for v in coefficients]
    loss = mp.fsum(v * (lse - mp.mpf(x)) for v, x in zip(a, row, strict=True) if v)
    return loss, [pk * mp.fsum(a) - ak for pk, ak in zip(p, a, strict=True)]


def exact_brier(row, target):
    p, _ = exact_softmax(row)
    error = [v - (k == target) for k, v in enumerate(p)]
    mean_error = mp.fsum(pc * ec for pc, ec in zip(p, error, strict=True))
    return mp.fsum(v * v for v in error), [2 * v * (e - mean_error) for v, e in zip(p, error, strict=True)]


def ulps(got, exact, scale=None):
    """The largest distance of `got` from `exact`, in units of the last place of `exact`, or of `scale`, in got's dtype.

    The difference is taken in 400 digits and rounded after that: a long double may have no more than float64.
    """
    got, exact = np.atleast_1d(got), exact if isinstance(exact, list) else [exact]
    pairs = [(mp.mpf(float(value)), right) for value, right in zip(got, exact, strict=True)]
    missed = [float(value - right) if value != right else 0.0 for value, right in pairs]  # inf - inf would be NaN
    scale = [float(size) for size in (exact if scale is None else scale)]
    return truth.ulp_error(missed, np.zeros(len(got)), got.dtype, scale=scale).max()


@pytest.mark.parametrize("row", ADVERSARIAL, ids=str)
def test_cross_entropy_is_exact(row):
    for target in range(len(row)):
        loss, grad = reference.cross_entropy_with_grad(np.array(row), target, reduction="none")
        exact_loss, exact_grad = exact_cross_entropy(row, one_hot(target, len(row)))
        assert ulps(loss, exact_loss) <= 2
        assert ulps(grad, exact_grad) <= 4


@pytest.mark.parametrize("row", ADVERSARIAL, ids=str)
def test_float32_is_rounded_once(row):
    row = np.array(row, np.float32)
    for target in range(len(row)):
        loss, grad = reference.cross_entropy_with_grad(row, target, reduction="none")
        exact_loss, exact_grad = exact_cross_entropy(row.tolist(), one_hot(target, len(row)))
        assert loss.dtype == grad.dtype == np.float32
        assert_array_equal(loss, np.float32(float(exact_loss)))
        assert_array_equal(grad, np.array([float(g) for g in exact_grad], np.float32))


@pytest.mark.parametrize("row", ADVERSARIAL, ids=str)
def test_activations_are_exact(row):
    x = np.array(row)
    p, lse = exact_softmax(row)
    assert ulps(reference.softmax(x), p) <= 3
    assert ulps(reference.log_softmax(x), [mp.mpf(v) - lse for v in row]) <= 2
    # m + log1p(r) cancels where the two have opposite signs: the error is in units of m, not of the sum.
    assert abs(float(reference.logsumexp(x) - lse)) <= 2 * np.spacing(max(1.0, x.max(), -x.max()))


@pytest.mark.parametrize("n_classes", [10, 100, 1000])
def test_many_classes_are_exact(n_classes):
    row = rng(n_classes).normal(0, 3, n_classes)
    for target in (0, int(np.argmax(row))):
        loss, grad = reference.cross_entropy_with_grad(row, target, reduction="none")
        exact_loss, exact_grad = exact_cross_entropy(row.tolist(), one_hot(target, n_classes))
        assert ulps(loss, exact_loss) <= 2
        assert ulps(grad, exact_grad) <= 4


@pytest.mark.parametrize("margin", MARGINS)
def test_options_are_exact(margin):
    row = [1.0, 1.0 + margin, 0.5, -2.0]
    w, s, epsilon = np.array([0.5, 2.0, 0.0, 1.25]), 1.5, 0.125  # dyadic: the coefficients are exact
    for target in range(4):
        q = (1 - epsilon) * one_hot(target, 4) + epsilon / 4
        loss, grad = reference.cross_entropy_with_grad(
            row, target, weight=w, sample_weight=s, label_smoothing=epsilon, reduction="none"
        )
        exact_loss, exact_grad = exact_cross_entropy(row, s * w * q)
        assert ulps(loss, exact_loss) <= 4
        # a smoothed gradient crosses zero, so its unit is that of its two terms
        assert_allclose(grad, [float(g) for g in exact_grad], rtol=0, atol=4e-16 * np.sum(s * w * q))


@pytest.mark.parametrize("row", [row for row in ADVERSARIAL if len(row) == 3], ids=str)
def test_brier_score_is_exact(row):
    for target in range(3):
        loss, grad = reference.brier_score_with_grad(np.array(row), target, reduction="none")
        exact_loss, exact_grad = exact_brier(row, target)
        assert ulps(loss, exact_loss) <= 4
        assert ulps(grad[target], exact_grad[target]) <= 5
        p = reference.softmax(np.array(row))
        for k in range(3):  # elsewhere the bracket crosses zero
            assert abs(float(grad[k] - exact_grad[k])) <= 2e-15 * p[k] + 1e-323


@pytest.mark.parametrize("z", [0.0, 5e-324, 1e-10, 0.5, 2.0, 17.0, 40.0, 100.0, 700.0, 720.0, INF])
@pytest.mark.parametrize("sign", [1, -1])
def test_binary_is_exact(z, sign):
    z *= sign
    sigma = 1 / (1 + mp.exp(-mp.mpf(z)))
    rest = 1 / (1 + mp.exp(mp.mpf(z)))
    assert ulps(reference.sigmoid(z), sigma) <= 2
    assert ulps(reference.log_sigmoid(z), mp.log(sigma)) <= 2
    for label, log_loss, grad in ((1, -mp.log(sigma), -rest), (0, -mp.log(rest), sigma)):
        got = reference.binary_cross_entropy_with_grad(z, label, reduction="none")
        assert ulps(got[0], log_loss) <= 2
        assert ulps(got[1], grad) <= 2
        got = reference.binary_brier_score_with_grad(z, label, reduction="none")
        assert ulps(got[0], grad**2) <= 6
        assert ulps(got[1], 2 * grad * sigma * rest) <= 8


def test_confident_rows_keep_their_loss():
    """The rows for which PyTorch, JAX, SciPy and scikit-learn return 0 in float32."""
    for row, loss in (([17, 0], 4.1399377e-08), ([20, 0, 0], 4.1223072e-09), ([10, 0, 0], 9.0795736e-05)):
        got, grad = reference.cross_entropy_with_grad(np.array(row, np.float32), 0, reduction="none")
        assert_allclose(got, loss, rtol=1e-7)
        assert_allclose(grad[0], -(1 - np.exp(-np.float64(loss))), rtol=1e-6)
    assert_allclose(reference.cross_entropy([1e8, 1e8], 0), math.log(2), rtol=1e-15)
    assert_allclose(reference.binary_cross_entropy(40.0, 1), 4.248354255291589e-18, rtol=1e-15)


# ----------------------------------------------------------------------------------------------------
# PyTorch
# ----------------------------------------------------------------------------------------------------


def torch_loss_and_grad(function, logits, grad_output=None, **options):
    torch = pytest.importorskip("torch")
    x = torch.tensor(logits, requires_grad=True)
    options = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    loss = getattr(torch.nn.functional, function)(x, **options)
    loss.backward(None if grad_output is None else torch.tensor(grad_output))
    return loss.detach().numpy(), x.grad.numpy()


def assert_same(got, expected):
    assert_allclose(got[0], expected[0], rtol=1e-13, atol=1e-13)
    assert_allclose(got[1], expected[1], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["indices", "ignored", "ignored class", "probabilities"])
def test_cross_entropy_is_that_of_torch(form, weighted, label_smoothing, reduction):
    r = rng(1)
    x = r.normal(0, 4, (6, 5, 3))  # classes along axis 1, as PyTorch wants them
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    if form == "probabilities":
        options["target"] = r.uniform(0, 1, x.shape)  # rows do not sum to 1
    else:
        options["target"] = r.integers(0, 5, (6, 3))
    if form == "ignored":
        options["target"][::2, 1] = -100
    elif form == "ignored class":
        options["ignore_index"] = 3
    if weighted:
        options["weight"] = np.array([0.5, 0.0, 3.0, 1.0, 0.1])
    grad_output = r.normal(size=(6, 3)) if reduction == "none" else np.array(-1.7)
    assert_same(
        reference.cross_entropy_with_grad(x, axis=1, grad_output=grad_output, **options),
        torch_loss_and_grad("cross_entropy", x, grad_output, **options),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", [(), ("weight",), ("pos_weight",), ("weight", "pos_weight")], ids=str)
@pytest.mark.parametrize("hard", [False, True])
def test_binary_cross_entropy_is_that_of_torch(hard, options, reduction):
    r = rng(2)
    x = r.normal(0, 6, (7, 4))
    target = r.uniform(0, 1, x.shape)
    weights = {"weight": r.uniform(0, 3, (7, 1)), "pos_weight": r.uniform(0, 3, 4)}
    options = {name: weights[name] for name in options} | {"reduction": reduction}
    options["target"] = np.round(target) if hard else target
    grad_output = r.normal(size=x.shape) if reduction == "none" else np.array(0.3)
    assert_same(
        reference.binary_cross_entropy_with_grad(x, grad_output=grad_output, **options),
        torch_loss_and_grad("binary_cross_entropy_with_logits", x, grad_output, **options),
    )


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4, 5)], ids=str)
def test_shapes_are_those_of_torch(shape):
    x = rng(3).normal(size=shape)
    axis = 1 if len(shape) > 1 else 0
    target = rng(3).integers(0, 3, shape[:axis] + shape[axis + 1 :])
    assert_same(
        reference.cross_entropy_with_grad(x, target, axis=axis),
        torch_loss_and_grad("cross_entropy", x, target=np.asarray(target)),
    )


# ----------------------------------------------------------------------------------------------------
# scikit-learn and SciPy
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_those_of_scikit_learn(weighted):
    metrics = pytest.importorskip("sklearn.metrics")
    r = rng(4)
    x, target = r.normal(0, 2, (40, 4)), r.integers(0, 4, 40)
    s = r.uniform(0, 2, 40) if weighted else None
    p = reference.softmax(x)
    log_loss = metrics.log_loss(target, p, sample_weight=s, labels=range(4))
    error = metrics.zero_one_loss(target, p.argmax(1), sample_weight=s)
    assert_allclose(reference.cross_entropy(x, target, sample_weight=s), log_loss, rtol=1e-12)
    assert_allclose(reference.zero_one_loss(x, target, sample_weight=s), error, rtol=1e-12)
    # celoss does not divide the several classes by 2, nor does scikit-learn where it has the option
    squares = np.average(((p - one_hot(target, 4)) ** 2).sum(1), weights=s)
    if "scale_by_half" in inspect.signature(metrics.brier_score_loss).parameters:
        brier = metrics.brier_score_loss(target, p, sample_weight=s, labels=range(4), scale_by_half=False)
        assert_allclose(squares, brier, rtol=1e-12)
    assert_allclose(reference.brier_score(x, target, sample_weight=s), squares, rtol=1e-12)


def test_binary_losses_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    r = rng(5)
    z, y = r.normal(0, 2, 40), r.integers(0, 2, 40)
    p = reference.sigmoid(z)
    assert_allclose(reference.binary_cross_entropy(z, y), metrics.log_loss(y, p), rtol=1e-12)
    assert_allclose(reference.binary_brier_score(z, y), metrics.brier_score_loss(y, p), rtol=1e-12)
    assert_allclose(reference.binary_zero_one_loss(z, y), metrics.zero_one_loss(y, p > 0.5), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_activations_are_those_of_scipy(axis, scale):
    special = pytest.importorskip("scipy.special")
    x = rng(6).normal(0, scale, (3, 4, 5))
    assert_allclose(reference.softmax(x, axis=axis), special.softmax(x, axis=axis), rtol=1e-13)
    expected = special.log_softmax(x, axis=axis)
    assert_allclose(reference.log_softmax(x, axis=axis), expected, rtol=1e-13, atol=1e-15)
    for keepdims in (False, True):
        got = reference.logsumexp(x, axis=axis, keepdims=keepdims)
        expected = special.logsumexp(x, axis=axis, keepdims=keepdims)
        assert got.shape == expected.shape
        assert_allclose(got, expected, rtol=1e-14)
    assert_allclose(reference.sigmoid(x), special.expit(x), rtol=1e-15)
    assert_allclose(reference.log_sigmoid(x), special.log_expit(x), rtol=1e-15)


# ----------------------------------------------------------------------------------------------------
# Derivatives
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ROW_GRADS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("form", ["indices", "probabilities"])
def test_row_gradients_are_derivatives(form, reduction, function):
    r = rng(7)
    x = r.normal(0, 2, (4, 3, 2))
    target = np.array([[0, 1], [2, -100], [1, 1], [0, 2]])
    if form == "probabilities":
        target = r.uniform(0, 1, x.shape)
    upstream = r.normal(size=(4, 2)) if reduction == "none" else -0.7
    options = {
        "axis": 1,
        "weight": class_weight(function, form),
        "sample_weight": r.uniform(0, 2, (4, 1)),
        "label_smoothing": 0.2,
        "reduction": reduction,
    }
    _, grad = function(x, target, grad_output=upstream, **options)
    expected = truth.numeric_gradient(lambda v: np.sum(upstream * function(v, target, **options)[0]), x)
    assert_allclose(grad, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("function", BINARY_GRADS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("hard", [False, True])
def test_binary_gradients_are_derivatives(hard, reduction, function):
    r = rng(8)
    z = r.normal(0, 2, (4, 3))
    y = r.integers(0, 2, z.shape) if hard else r.uniform(0, 1, z.shape)
    upstream = r.normal(size=z.shape) if reduction == "none" else 1.9
    options = {"weight": r.uniform(0, 2, 3), "reduction": reduction}
    if function is reference.binary_cross_entropy_with_grad:
        options |= {"pos_weight": 2.5, "label_smoothing": 0.2}
    _, grad = function(z, y, grad_output=upstream, **options)
    expected = truth.numeric_gradient(lambda v: np.sum(upstream * function(v, y, **options)[0]), z)
    assert_allclose(grad, expected, rtol=1e-8, atol=1e-10)


# ----------------------------------------------------------------------------------------------------
# Properties
# ----------------------------------------------------------------------------------------------------

logits_and_target = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=st.floats(-1e3, 1e3)),
        hnp.arrays(np.int64, shape[:1], elements=st.integers(0, shape[1] - 1)),
    )
)


@settings(max_examples=50, deadline=None)
@given(logits_and_target)
def test_properties_of_cross_entropy(case):
    x, target = case
    loss, grad = reference.cross_entropy_with_grad(x, target, reduction="none")
    is_target = one_hot(target, x.shape[1]) == 1
    assert np.all(loss >= 0)
    assert np.all(grad[is_target] <= 0)
    assert np.all(grad[~is_target] >= 0)
    assert_allclose(grad.sum(axis=1), 0, atol=1e-15 * x.shape[1])
    assert_allclose(np.exp(-loss), reference.softmax(x)[is_target], rtol=1e-12, atol=1e-300)
    assert_array_equal(loss, -reference.log_softmax(x)[is_target])
    # the gradient at the target is -(1 - p_t) = expm1(-loss)
    assert_allclose(grad[is_target], np.expm1(-loss), rtol=1e-14)


@settings(max_examples=50, deadline=None)
@given(logits_and_target, st.integers(-(2**40), 2**40))
def test_a_common_offset_changes_nothing(case, offset):
    x, target = case
    x = np.rint(x)  # whole numbers: adding the offset is exact
    for function in ROW_GRADS:
        before, after = function(x, target), function(x + offset, target)
        assert before[0] == after[0]
        assert_array_equal(before[1], after[1])


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, 5, elements=st.floats(-700, 700)))
def test_binary_is_softmax_of_zero_and_z(z):
    rows = np.stack([np.zeros_like(z), z], axis=1)
    for label in (0, 1):
        loss, grad = reference.binary_cross_entropy_with_grad(z, np.full(5, label), reduction="none")
        row_loss, row_grad = reference.cross_entropy_with_grad(rows, np.full(5, label), reduction="none")
        assert_allclose(loss, row_loss, rtol=1e-15)
        assert_allclose(grad, row_grad[:, 1], rtol=1e-15)
        brier, brier_grad = reference.binary_brier_score_with_grad(z, np.full(5, label), reduction="none")
        row_brier, row_brier_grad = reference.brier_score_with_grad(rows, np.full(5, label), reduction="none")
        assert_allclose(2 * brier, row_brier, rtol=1e-14, atol=1e-300)
        assert_allclose(2 * brier_grad, row_brier_grad[:, 1], rtol=1e-14, atol=1e-300)
