"""The reference as functions: what they import, their options, what they return, and which arguments they refuse.

Everything else in the test suite leans on the reference, so nothing here may lean on the rest of celoss.
"""

import ast
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_functions import BINARY_GRADS, BINARY_LOSSES, ROW_GRADS, ROW_LOSSES, class_weight, one_hot, rng

from celoss import _reference_arguments, _reference_language, _reference_pieces, reference

INF, NAN = math.inf, math.nan

SECOND = ["cross_entropy", "binary_cross_entropy"]  # what has second derivatives

# ----------------------------------------------------------------------------------------------------
# The module
# ----------------------------------------------------------------------------------------------------


def test_imports_numpy_only():
    """Nothing of celoss but its own other parts, so that oracle and kernels share no mistake."""
    imported, parts = set(), (_reference_arguments, _reference_language, _reference_pieces)
    for module in (reference, *parts):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add("." * node.level + (node.module or ""))
    assert imported == {"__future__", "typing", "numpy", *(part.__name__ for part in parts)}


def test_every_function_of_the_contract():
    losses = {"cross_entropy", "binary_cross_entropy", "brier_score", "binary_brier_score", "linear_cross_entropy"}
    assert set(reference.__all__) == (
        losses
        | {f"{name}_with_grad" for name in losses}
        | {f"{name}_{second}" for name in SECOND for second in ("with_grad_hess", "hessp")}
        | {"zero_one_loss", "binary_zero_one_loss"}
        | {"row_statistics", "kl_divergence", "kl_divergence_with_grad"}
        | {"softmax", "log_softmax", "logsumexp", "softmax_vjp", "log_softmax_vjp", "sigmoid", "log_sigmoid"}
    )
    for name in reference.__all__:
        assert inspect.getdoc(getattr(reference, name))


def defaults(name):
    return {key: value.default for key, value in inspect.signature(getattr(reference, name)).parameters.items()}


@pytest.mark.parametrize("name", [name for name in reference.__all__ if name.endswith("_with_grad")])
def test_with_grad_takes_the_same_options(name):
    plain, both = defaults(name.removesuffix("_with_grad")), defaults(name)
    assert list(both) == [*plain, "grad_output", "out"]
    assert both == plain | {"grad_output": None, "out": None}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_take_the_same_options(name):
    first, both = defaults(f"{name}_with_grad"), defaults(f"{name}_with_grad_hess")
    assert list(both) == [*first, "hess_out"]
    assert both == first | {"hess_out": None}
    plain, product = defaults(name), defaults(f"{name}_hessp")
    assert list(product) == ["logits", "target", "vector", *list(plain)[2:], "out"]
    assert product == plain | {"vector": inspect.Parameter.empty, "out": None}


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
    name = "cross_entropy" if family == "rows" else "binary_cross_entropy"
    hess = getattr(reference, f"{name}_with_grad_hess")(x, target)[2]
    product = getattr(reference, f"{name}_hessp")(x, target, np.ones(x.shape, int))
    assert (hess.dtype, hess.shape) == (product.dtype, product.shape) == (grad_dtype, x.shape)
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
    assert type(loss) is np.float64


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
        with pytest.raises(ValueError, match=r"^out is"):
            function(x, target, out=wrong)


@pytest.mark.parametrize("name", SECOND)
def test_out_of_second_derivatives(name):
    function, product = getattr(reference, f"{name}_with_grad_hess"), getattr(reference, f"{name}_hessp")
    x, v = rng(18).normal(size=(2, 4, 3)).astype(np.float32)
    target = [0, 1, 2, 0] if name == "cross_entropy" else np.eye(4, 3)
    expected = function(x, target)
    loss, grad = getattr(reference, f"{name}_with_grad")(x, target)
    assert expected[0] == loss
    assert_array_equal(expected[1], grad)
    strided, in_place = np.zeros((4, 6), np.float32)[:, ::2], x.copy()
    for logits, out, hess_out in ((x, np.empty_like(x), strided), (in_place, in_place, np.empty_like(x)), (x, None, strided)):
        loss, grad, hess = function(logits, target, out=out, hess_out=hess_out)
        assert hess is hess_out and (out is None or grad is out)
        assert loss == expected[0]
        assert_array_equal(grad, expected[1])
        assert_array_equal(hess, expected[2])
    expected = product(x, target, v)
    assert product(x, target, v, out=strided) is strided
    assert_array_equal(strided, expected)
    for place in (0, 1):  # over the logits, over the vector
        arrays = x.copy(), v.copy()
        assert product(arrays[0], target, arrays[1], out=arrays[place]) is arrays[place]
        assert_array_equal(arrays[place], expected)
    with pytest.raises(ValueError, match=r"^hess_out is"):
        function(x, target, hess_out=np.empty((4, 3)))
    with pytest.raises(ValueError, match=r"^out is"):
        function(x, target, out=np.empty((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"^out is"):
        product(x, target, v, out=np.empty((4, 3)))


def test_strides_of_second_derivatives():
    x, v = rng(19).normal(0, 4, (2, 6, 40))
    target = rng(19).integers(0, 40, 6)
    hess, product = reference.cross_entropy_with_grad_hess(x, target)[2], reference.cross_entropy_hessp(x, target, v)
    turned, back = np.ascontiguousarray(x.T), v[::-1, ::-1].copy()[::-1, ::-1]
    assert_array_equal(reference.cross_entropy_with_grad_hess(turned, target, axis=0)[2].T, hess)
    assert_array_equal(reference.cross_entropy_hessp(turned, target, np.asfortranarray(v).T, axis=0).T, product)
    assert_array_equal(reference.cross_entropy_hessp(np.asfortranarray(x), target, back), product)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sigmoid", "log_sigmoid"])
def test_activation_out(name):
    function, x = getattr(reference, name), rng(16).normal(size=(4, 3))
    expected = function(x)
    assert function(x, out=x) is x
    assert_array_equal(x, expected)


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
        (ValueError, "is one-hot", {"target": np.zeros((2, 3), int)}),
        (ValueError, "class indices of shape", {"target": np.zeros(3, int)}),
        (ValueError, "no classes", {"logits": np.zeros((2, 0))}),
        (ValueError, "weight has shape", {"weight": np.ones(2)}),
        (ValueError, "weight must be finite", {"weight": [1, 1, NAN]}),
        (ValueError, "weight must be finite and not negative", {"weight": [1, 1, -1]}),
        (ValueError, "sample_weight must be finite", {"sample_weight": [1, NAN]}),
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
    for bad in (-1, 2, 1.0000001, -1e-300, INF):
        with pytest.raises(ValueError, match=r"labels lie in \[0, 1\]"):
            reference.binary_cross_entropy(np.zeros(2), [0, bad])
    with pytest.raises(ValueError, match="pos_weight has shape"):
        reference.binary_cross_entropy(np.zeros((2, 3)), np.zeros((2, 3)), pos_weight=[1, 1])
    with pytest.raises(ValueError, match="axis"):
        reference.softmax(1.0)
    for product, target in ((reference.cross_entropy_hessp, [0, 1]), (reference.binary_cross_entropy_hessp, np.zeros((2, 3)))):
        for shape in ((3,), (2,), (3, 2), (2, 3, 1), ()):
            with pytest.raises(ValueError, match="vector has shape"):
                product(np.zeros((2, 3)), target, np.zeros(shape))
        with pytest.raises(TypeError, match="vector has dtype"):
            product(np.zeros((2, 3)), target, np.zeros((2, 3), complex))
