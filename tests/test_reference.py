"""Tests of the oracle itself: against exact arithmetic, other libraries and its own numeric derivatives.

Everything else in the test suite leans on the oracle, so nothing here may lean on the rest of celoss.
"""

from __future__ import annotations

import ast
import inspect
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from celoss import _reference_arguments, reference

INF, NAN = math.inf, math.nan
REDUCTIONS = ["mean", "sum", "none"]
ROW_LOSSES = ["cross_entropy", "brier_score", "zero_one_loss"]
ROW_GRADS = [reference.cross_entropy_with_grad, reference.brier_score_with_grad]
BINARY_LOSSES = ["binary_cross_entropy", "binary_brier_score", "binary_zero_one_loss"]
BINARY_GRADS = [reference.binary_cross_entropy_with_grad, reference.binary_brier_score_with_grad]


def rng(seed=0):
    return np.random.default_rng(seed)


def class_weight(function, form):
    """Weights of three classes, where the function takes them: brier_score does for class indices only."""
    if function is reference.brier_score_with_grad and form == "probabilities":
        return None
    return np.array([0.5, 2.0, 1.0])


def one_hot(target, n_classes):
    return np.eye(n_classes)[target]


# ----------------------------------------------------------------------------------------------------
# The module
# ----------------------------------------------------------------------------------------------------


def test_imports_numpy_only():
    """Nothing of celoss but its own other half, so that oracle and kernels share no mistake."""
    imported = set()
    for module in (reference, _reference_arguments):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add("." * node.level + (node.module or ""))
    assert imported == {"__future__", "typing", "numpy", "celoss._reference_arguments"}


def test_every_function_of_the_contract():
    losses = {"cross_entropy", "binary_cross_entropy", "brier_score", "binary_brier_score"}
    assert set(reference.__all__) == (
        losses
        | {f"{name}_with_grad" for name in losses}
        | {"zero_one_loss", "binary_zero_one_loss"}
        | {"softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid"}
    )
    for name in reference.__all__:
        assert inspect.getdoc(getattr(reference, name))


@pytest.mark.parametrize("name", [name for name in reference.__all__ if name.endswith("_with_grad")])
def test_with_grad_takes_the_same_options(name):
    plain = inspect.signature(getattr(reference, name.removesuffix("_with_grad"))).parameters
    both = inspect.signature(getattr(reference, name)).parameters
    assert list(both) == [*plain, "grad_output", "out"]
    assert {key: value.default for key, value in both.items()} == (
        {key: value.default for key, value in plain.items()} | {"grad_output": None, "out": None}
    )


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


def ulps(got, exact):
    """The largest distance of `got` from `exact`, in units of the last place of `exact` in got's dtype."""
    got = np.atleast_1d(got)
    exact = exact if isinstance(exact, list) else [exact]
    assert len(got) == len(exact)
    worst = 0.0
    for value, truth in zip(got, exact, strict=True):
        if mp.isinf(truth):
            assert value == float(truth)
        else:
            unit = np.spacing(np.abs(got.dtype.type(float(truth))))
            worst = max(worst, float(abs(mp.mpf(float(value)) - truth) / mp.mpf(float(unit))))
    return worst


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


def numeric_gradient(loss, x, h=2.0**-9):
    """Central differences of order four of a scalar function."""
    grad = np.empty_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        near = loss(x + step) - loss(x - step)
        far = loss(x + 2 * step) - loss(x - 2 * step)
        grad[i] = (8 * near - far) / (12 * h)
    return grad


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
    expected = numeric_gradient(lambda v: np.sum(upstream * function(v, target, **options)[0]), x)
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
    expected = numeric_gradient(lambda v: np.sum(upstream * function(v, y, **options)[0]), z)
    assert_allclose(grad, expected, rtol=1e-8, atol=1e-10)


# ----------------------------------------------------------------------------------------------------
# Options: reduction, denominator, weights
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ROW_GRADS)
@pytest.mark.parametrize("form", ["indices", "probabilities"])
def test_denominator_of_rows(form, function):
    r = rng(9)
    x, target = r.normal(size=(5, 3)), np.array([0, 2, -100, 1, 2])
    w, s = class_weight(function, form), r.uniform(0, 2, 5)
    denominator = np.sum(s[[0, 1, 3, 4]] * [0.5, 1.0, 2.0, 1.0])
    if form == "probabilities":
        target, denominator = r.uniform(0, 1, x.shape), np.sum(s)
    options = {"weight": w, "sample_weight": s}
    rows, row_grads = function(x, target, reduction="none", **options)
    cases = [("mean", None, denominator), ("mean", 7.5, 7.5), ("sum", None, 1.0)]
    for reduction, normalizer, divisor in cases:
        loss, grad = function(x, target, reduction=reduction, normalizer=normalizer, **options)
        assert type(loss) is float
        assert_allclose(loss, rows.sum() / divisor, rtol=1e-15)
        assert_allclose(grad, row_grads / divisor, rtol=1e-15)
    unweighted, _ = function(x, target, weight=w, reduction="none")
    assert_allclose(rows, s * unweighted, rtol=1e-15)


@pytest.mark.parametrize("name", BINARY_LOSSES)
def test_denominator_of_binary(name):
    r, function = rng(10), getattr(reference, name)
    z, y, w = r.normal(size=(5, 3)), r.integers(0, 2, (5, 3)), r.uniform(0, 2, 3)
    rows = function(z, y, weight=w, reduction="none")
    assert_array_equal(rows, w * function(z, y, reduction="none"))
    assert_allclose(function(z, y, weight=w), rows.sum() / 15, rtol=1e-15)
    assert_allclose(function(z, y, weight=w, normalizer=4), rows.sum() / 4, rtol=1e-15)


def test_zero_one_loss_weights_samples_only():
    x, target, s = np.eye(3), np.array([0, 0, -100]), np.array([1.0, 3.0, 5.0])
    assert_array_equal(reference.zero_one_loss(x, target, sample_weight=s, reduction="none"), [0, 3, 0])
    assert reference.zero_one_loss(x, target, sample_weight=s) == 0.75
    assert reference.zero_one_loss(x, target, sample_weight=s, normalizer=2, reduction="mean") == 1.5


def test_label_smoothing_of_binary():
    z, y = np.array([2.0, -1.0, 0.5]), np.array([1.0, 0.0, 0.25])
    got = reference.binary_cross_entropy_with_grad(z, y, label_smoothing=0.25)
    expected = reference.binary_cross_entropy_with_grad(z, y * 0.75 + 0.125)
    assert_allclose(got[0], expected[0], rtol=1e-15)
    assert_allclose(got[1], expected[1], rtol=1e-15)


def test_a_trace_of_label_smoothing_is_exact():
    """1 - y' is ε/2 for y = 1; as a difference of numbers near 1 it would keep four digits of this ε."""
    epsilon = 2.0**-40
    loss, grad = reference.binary_cross_entropy_with_grad(60.0, 1, label_smoothing=epsilon)
    assert_allclose(loss, 60 * epsilon / 2, rtol=1e-13)
    assert_allclose(grad, epsilon / 2, rtol=1e-13)
    loss = reference.brier_score([60.0, 0.0, 0.0], 0, label_smoothing=epsilon)
    assert_allclose(loss, (epsilon * 2 / 3) ** 2 + 2 * (epsilon / 3) ** 2, rtol=1e-12)


def test_class_weights_of_brier_score():
    x, target = rng(17).normal(size=(4, 3)), np.array([0, 2, 1, 2])
    w = np.array([0.5, 0.0, 3.0])
    got = reference.brier_score_with_grad(x, target, weight=w, reduction="none")
    plain = reference.brier_score_with_grad(x, target, reduction="none")
    assert_array_equal(got[0], w[target] * plain[0])
    assert_allclose(got[1], w[target][:, None] * plain[1], rtol=1e-15)
    with pytest.raises(ValueError, match="weight needs class indices"):
        reference.brier_score(x, one_hot(target, 3), weight=w)


@pytest.mark.parametrize("name", ROW_LOSSES)
def test_one_hot_rows_equal_indices(name):
    x, target = rng(11).normal(0, 5, (6, 4)), np.array([0, 3, 1, 1, 2, 0])
    function = getattr(reference, name)
    expected = function(x, target, reduction="none")
    assert_array_equal(function(x, one_hot(target, 4), reduction="none"), expected)


# ----------------------------------------------------------------------------------------------------
# Results: dtype, shape, strides, out
# ----------------------------------------------------------------------------------------------------


def dtype_named(name):
    return np.dtype(getattr(pytest.importorskip("ml_dtypes"), name) if name == "bfloat16" else name)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", ">f4", "int8", "bool"])
@pytest.mark.parametrize("family", ["rows", "binary"])
def test_dtypes(family, name):
    dtype = dtype_named(name)
    x = rng(12).normal(0, 3, (4, 3)).astype(dtype)
    grad_dtype = dtype.newbyteorder("=") if dtype.kind not in "bi" else np.dtype(np.float64)
    loss_dtype = np.float64 if grad_dtype == np.float64 else np.float32
    functions = ROW_GRADS if family == "rows" else BINARY_GRADS
    target = [0, 2, 1, 1] if family == "rows" else np.eye(4, 3)
    for function in functions:
        rows, grad = function(x, target, reduction="none")
        assert (rows.dtype, rows.shape) == (loss_dtype, np.shape(target))
        assert (grad.dtype, grad.shape) == (grad_dtype, x.shape)
        for reduction in ("mean", "sum"):
            assert type(function(x, target, reduction=reduction)[0]) is float
    for activation in ("softmax", "log_softmax", "sigmoid", "log_sigmoid"):
        assert getattr(reference, activation)(x).dtype == grad_dtype
    assert reference.logsumexp(x).dtype == loss_dtype


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_rounded_once(name):
    dtype = dtype_named(name)
    x = rng(13).normal(0, 6, (200, 5)).astype(dtype)
    target = rng(13).integers(0, 5, 200)
    _, exact = reference.cross_entropy_with_grad(x.astype(np.float64), target, reduction="none")
    _, grad = reference.cross_entropy_with_grad(x, target, reduction="none")
    error = np.abs(grad.astype(np.float64) - exact)
    for direction in (-INF, INF):
        neighbour = np.nextafter(grad, dtype.type(direction)).astype(np.float64)
        assert np.all(error <= np.abs(neighbour - exact))


def test_bfloat16_is_not_rounded_twice():
    """1 + 2^-8 + 2^-30 is above the middle of 1 and 1 + 2^-7; in float32 it is the middle, and goes to 1."""
    x = np.zeros((1, 1), dtype_named("bfloat16"))
    _, grad = reference.binary_cross_entropy_with_grad(x, [[0]], grad_output=2 + 2.0**-7 + 2.0**-29)
    assert float(grad[0, 0]) == 1 + 2.0**-7


def test_subnormal_bfloat16_is_rounded_once():
    x = np.zeros((1, 5), dtype_named("bfloat16"))
    unit = 2.0**-133  # the smallest bfloat16
    exact = unit * np.array([[0.5, 0.5000001, 1.5, 2.5, 2.4999999]])
    _, grad = reference.binary_cross_entropy_with_grad(x, [[0] * 5], grad_output=2 * exact, reduction="none")
    assert_array_equal(grad.astype(np.float64) / unit, [[0, 1, 2, 2, 2]])


@pytest.mark.parametrize("name", ROW_LOSSES)
def test_one_dimension_is_one_row(name):
    loss = getattr(reference, name)([0.5, 2.0, -1.0], 1, reduction="none")
    assert isinstance(loss, np.ndarray)
    assert loss.shape == ()


@pytest.mark.parametrize("function", ROW_GRADS)
def test_any_strides_give_the_same_bits(function):
    x = rng(14).normal(0, 4, (6, 40))
    target = rng(14).integers(0, 40, 6)
    expected = function(x, target)
    wide = np.zeros((12, 80))
    wide[::2, ::2] = x
    views = [np.asfortranarray(x), x[::-1, ::-1].copy()[::-1, ::-1], wide[::2, ::2]]
    for view in views:
        got = function(view, target)
        assert got[0] == expected[0]
        assert_array_equal(got[1], expected[1])
    got = function(np.ascontiguousarray(x.T), target, axis=0)
    assert got[0] == expected[0]
    assert_array_equal(got[1], expected[1].T)


@pytest.mark.parametrize("function", [*ROW_GRADS, *BINARY_GRADS])
def test_out(function):
    x = rng(15).normal(size=(4, 3)).astype(np.float32)
    target = [0, 1, 2, 0] if function in ROW_GRADS else np.eye(4, 3)
    expected = function(x, target)
    strided = np.zeros((4, 6), np.float32)[:, ::2]
    in_place = x.copy()
    for logits, out in ((x, np.empty_like(x)), (x, strided), (in_place, in_place)):
        loss, grad = function(logits, target, out=out)
        assert grad is out
        assert loss == expected[0]
        assert_array_equal(out, expected[1])
    for wrong in (np.empty((4, 3)), np.empty((3, 4), np.float32)):
        with pytest.raises(ValueError, match="out is"):
            function(x, target, out=wrong)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sigmoid", "log_sigmoid"])
def test_activation_out(name):
    function, x = getattr(reference, name), rng(16).normal(size=(4, 3))
    expected = function(x)
    assert function(x, out=x) is x
    assert_array_equal(x, expected)


# ----------------------------------------------------------------------------------------------------
# Special values: none of them may warn
# ----------------------------------------------------------------------------------------------------

no_warnings = pytest.mark.filterwarnings("error")


@no_warnings
@pytest.mark.parametrize("function", ROW_GRADS)
def test_ignored_rows_are_never_read(function):
    x = np.array([[1.0, 2.0], [NAN, INF], [0.5, 0.0], [-INF, -INF]])
    target = np.array([0, 9, 1, 9], np.uint8)
    loss, grad = function(x, target, ignore_index=9, grad_output=[1, NAN, 1, INF], reduction="none")
    expected = function(x[::2], target[::2], reduction="none")
    assert_array_equal(loss, [expected[0][0], 0, expected[0][1], 0])
    assert_array_equal(grad[::2], expected[1])
    assert_array_equal(grad[1::2], 0)
    assert function(x, target, ignore_index=9)[0] == function(x[::2], target[::2])[0]


@no_warnings
@pytest.mark.parametrize("function", ROW_GRADS)
@pytest.mark.parametrize("bad", [[NAN, 0, 1], [0, INF, 1], [INF, INF, 0], [-INF, -INF, -INF], [-INF, NAN, INF]], ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_bad_rows_are_nan_and_no_others(soft, bad, function):
    x = np.array([[1.0, 2.0, 3.0], bad, [0.5, 0.0, -1.0]])
    target = np.array([0, 2, 1])
    target = one_hot(target, 3) if soft else target
    loss, grad = function(x, target, reduction="none")
    assert_array_equal(np.isnan(loss), [False, True, False])
    assert_array_equal(np.isnan(grad), [[False] * 3, [True] * 3, [False] * 3])
    assert math.isnan(function(x, target)[0])
    loss, grad = function(x, target, sample_weight=[1, 0, 1], reduction="none")  # a factor 0 ignores nothing
    assert_array_equal(np.isnan(loss), [False, True, False])
    assert_array_equal(np.isnan(grad[1]), True)
    assert math.isnan(reference.zero_one_loss(x, target))


@no_warnings
def test_impossible_classes():
    x = np.array([[0.0, -INF, 1.0], [0.0, -INF, 1.0]])
    p = reference.softmax([0.0, 1.0])
    loss, grad = reference.cross_entropy_with_grad(x, [0, 1], reduction="none")
    assert_allclose(loss, [-math.log(p[0]), INF], rtol=1e-15)
    assert_allclose(grad, [[-p[1], 0, p[1]], [p[0], -1, p[1]]], rtol=1e-15)
    # 0 · (-inf) counts 0, whether q, the class weight, the sample weight or 1 - ε is the 0
    for options in (
        {"target": np.array([[0.25, 0, 0.75]] * 2)},
        {"target": np.array([0, 0]), "weight": [1, 0, 1], "label_smoothing": 0.5},
        {"target": np.array([0, 1]), "sample_weight": [1, 0]},
        {"target": np.array([1, 1]), "weight": [1, 0, 1], "label_smoothing": 1.0},
    ):
        loss, grad = reference.cross_entropy_with_grad(x, reduction="none", **options)
        assert np.all(np.isfinite(loss))
        assert_array_equal(grad[:, 1], 0)
    loss, grad = reference.cross_entropy_with_grad(x, [0, 0], label_smoothing=0.3, reduction="none")
    assert_array_equal(loss, INF)
    assert_allclose(grad[:, 1], -0.1, rtol=1e-15)
    loss, grad = reference.brier_score_with_grad(x, [0, 1], reduction="none")
    assert_allclose(loss, [2 * p[1] ** 2, 1 + p[0] ** 2 + p[1] ** 2], rtol=1e-15)
    assert_array_equal(grad[:, 1], 0)


@no_warnings
@pytest.mark.parametrize("function", ROW_GRADS)
@pytest.mark.parametrize(
    "case",
    [
        {"logits": np.zeros((0, 3)), "target": np.zeros(0, int)},
        {"logits": np.zeros((0, 3)), "target": np.zeros((0, 3))},
        {"logits": np.zeros((0, 0)), "target": np.zeros(0, int)},
        {"logits": np.array([[NAN, 1.0], [INF, 0.0]]), "target": np.array([-100, -100])},
        {"logits": np.array([[NAN, 1.0], [3.0, 0.0]]), "target": np.array([0, 1]), "sample_weight": 0},
        {"logits": np.eye(2), "target": np.array([0, 0]), "weight": [0, 1], "label_smoothing": 0.1},
    ],
    ids=["no rows", "no probabilities", "no classes", "all ignored", "no sample weight", "no class weight"],
)
def test_a_mean_of_nothing_is_nan(case, function):
    loss, grad = function(**case)
    assert math.isnan(loss)
    assert grad.shape == case["logits"].shape
    assert_array_equal(grad, 0)


@no_warnings
def test_a_sum_of_nothing_is_zero():
    for target in (np.zeros(0, int), np.zeros((0, 3))):
        assert reference.cross_entropy(np.zeros((0, 3)), target, reduction="sum") == 0.0
        assert reference.cross_entropy(np.zeros((0, 3)), target, normalizer=2) == 0.0
    assert reference.cross_entropy([[NAN, 0.0]], [-100], normalizer=3) == 0.0
    for name in BINARY_LOSSES:
        function = getattr(reference, name)
        assert math.isnan(function(np.zeros(0), np.zeros(0)))
        assert function(np.zeros(0), np.zeros(0), reduction="sum") == 0.0
    assert math.isnan(reference.zero_one_loss(np.zeros((0, 3)), np.zeros(0, int)))


@no_warnings
def test_special_values_of_binary():
    z, y = np.array([INF, -INF, INF, -INF, NAN, 0.0]), np.array([1, 0, 0, 1, 1, 1])
    loss, grad = reference.binary_cross_entropy_with_grad(z, y, reduction="none")
    assert_allclose(loss, [0, 0, INF, INF, NAN, math.log(2)], rtol=1e-15)
    assert_array_equal(grad, [0, 0, 1, -1, NAN, -0.5])
    loss, grad = reference.binary_brier_score_with_grad(z, y, reduction="none")
    assert_array_equal(loss, [0, 0, 1, 1, NAN, 0.25])
    assert_array_equal(grad, [0, 0, 0, 0, NAN, -0.25])
    assert_array_equal(reference.binary_zero_one_loss(z, y, reduction="none"), [0, 0, 1, 1, NAN, 1])
    assert_array_equal(reference.sigmoid([INF, -INF, NAN]), [1, 0, NAN])
    assert_array_equal(reference.log_sigmoid([INF, -INF, NAN]), [0, -INF, NAN])


@no_warnings
def test_special_values_of_activations():
    x = [[-INF, -INF], [0.0, INF], [NAN, 0.0], [-INF, 3.0]]
    assert_array_equal(reference.softmax(x), [[NAN] * 2] * 3 + [[0, 1]])
    assert_array_equal(reference.log_softmax(x), [[NAN] * 2] * 3 + [[-INF, 0]])
    assert_array_equal(reference.logsumexp(x), [-INF, INF, NAN, 3])


@no_warnings
def test_extreme_scores_overflow_nothing():
    big = np.finfo(np.float64).max
    assert_array_equal(reference.softmax([big, -big]), [1, 0])
    assert reference.cross_entropy([big, -big], 0) == 0.0
    assert reference.cross_entropy([-big, 0.0], 1) == 0.0
    assert reference.binary_cross_entropy([big, -big], [1, 0]) == 0.0
    _, grad = reference.cross_entropy_with_grad(np.zeros(2, np.float16), 0, grad_output=1e6)
    assert_array_equal(grad, [-INF, INF])  # an upstream gradient out of float16's range


@pytest.mark.parametrize("name", reference.__all__)
def test_no_floating_point_error_escapes(name):
    function = getattr(reference, name)
    x = np.array([[6e4, -6e4], [INF, NAN], [-INF, -INF], [0, 5]], np.float16)
    with np.errstate(all="raise"):
        if name.startswith(("cross", "brier", "zero")):
            function(x, [0, 1, 1, 0], sample_weight=1e300, reduction="none")
        elif name.startswith("binary"):
            function(x, np.eye(4, 2), weight=1e300, reduction="none")
        else:
            function(x)


def test_zero_one_loss_of_ties_is_that_of_the_first():
    x = np.array([[1.0, 1.0, 0.0]] * 2)
    assert_array_equal(reference.zero_one_loss(x, [0, 1], reduction="none"), [0, 1])
    assert_array_equal(reference.binary_zero_one_loss([0.0, 0.0], [0, 1], reduction="none"), [0, 1])


def test_expected_zero_one_loss_of_probabilities():
    x, q = np.array([[3.0, 1.0, 0.0]]), np.array([[0.5, 0.25, 0.125]])
    assert_array_equal(reference.zero_one_loss(x, q, reduction="none"), [0.375])
    loss = reference.binary_zero_one_loss([1.0, -1.0], [0.75, 0.75], reduction="none")
    assert_array_equal(loss, [0.25, 0.75])


# ----------------------------------------------------------------------------------------------------
# Errors
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROW_LOSSES)
def test_indices_out_of_range(name):
    function = getattr(reference, name)
    target = np.zeros(20, int)
    target[17] = 12
    with pytest.raises(IndexError, match=r"^target\[17\] = 12 is not in \[0, 10\)$"):
        function(np.zeros((20, 10)), target)
    with pytest.raises(IndexError, match=r"^target\[1, 2\] = -1 is not in \[0, 5\)$"):
        function(np.zeros((2, 5, 3)), [[0, 1, 2], [3, 4, -1]], axis=1)
    with pytest.raises(IndexError, match=r"^target\[\(\)\] = 2 is not in \[0, 2\)$"):
        function(np.zeros(2), 2)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (TypeError, "logits has dtype complex128", {"logits": np.zeros((2, 3), complex)}),
        (TypeError, "target is bool", {"target": np.array([True, False])}),
        (ValueError, "probabilities of shape", {"target": np.array([0.0, 1.0])}),
        (ValueError, "class indices of shape", {"target": np.zeros((2, 3), int)}),
        (ValueError, "class indices of shape", {"target": np.zeros(3, int)}),
        (ValueError, "no classes", {"logits": np.zeros((2, 0))}),
        (ValueError, "weight has shape", {"weight": np.ones(2)}),
        (ValueError, "weight must be finite", {"weight": [1, 1, NAN]}),
        (ValueError, "sample_weight must be finite", {"sample_weight": [1, -1]}),
        (ValueError, "sample_weight must be finite", {"sample_weight": INF}),
        (ValueError, "sample_weight has shape", {"sample_weight": np.ones(3)}),
        (ValueError, "label_smoothing", {"label_smoothing": 1.5}),
        (ValueError, "label_smoothing", {"label_smoothing": NAN}),
        (ValueError, "reduction", {"reduction": "average"}),
        (ValueError, "normalizer", {"normalizer": 0}),
        (ValueError, "normalizer", {"normalizer": NAN}),
        (ValueError, "axis", {"axis": 2}),
    ],
)
@pytest.mark.parametrize("function", [reference.cross_entropy, reference.brier_score])
def test_bad_arguments(function, error, match, arguments):
    with pytest.raises(error, match=match):
        function(**({"logits": np.zeros((2, 3)), "target": np.array([0, 1])} | arguments))


def test_bad_arguments_of_the_rest():
    with pytest.raises(ValueError, match="grad_output has shape"):
        reference.cross_entropy_with_grad(np.zeros((2, 3)), [0, 1], grad_output=[1, 1])
    with pytest.raises(ValueError, match="grad_output has shape"):
        reference.cross_entropy_with_grad(np.zeros((2, 3)), [0, 1], grad_output=[[1], [1]], reduction="none")
    with pytest.raises(ValueError, match="target has shape"):
        reference.binary_cross_entropy(np.zeros((2, 3)), [0, 1])
    with pytest.raises(ValueError, match="pos_weight has shape"):
        reference.binary_cross_entropy(np.zeros((2, 3)), np.zeros((2, 3)), pos_weight=[1, 1])
    with pytest.raises(ValueError, match="no classes"):
        reference.softmax(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="axis"):
        reference.softmax(1.0)


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
