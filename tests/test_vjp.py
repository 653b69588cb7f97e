"""Back through softmax and its logarithm: exact values, as derivatives, layouts, long rows, `out`, threads, errors."""

import ml_dtypes
import numpy as np
import pytest
import truth
from truth import real

import celoss
from celoss import reference

DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]
FUNCTIONS = {"softmax_vjp": celoss.softmax_vjp, "log_softmax_vjp": celoss.log_softmax_vjp}
by_name = pytest.mark.parametrize("name", FUNCTIONS)


def problem(name, shape, dtype, seed=0):
    """A result of softmax or log_softmax, and an upstream gradient of mixed sizes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * rng.choice([0.1, 1, 20], (*shape[:-1], 1))
    g = rng.standard_normal(shape) * rng.choice([1e-3, 1, 1e4], shape)
    activation = getattr(celoss, name.removesuffix("_vjp"))
    return activation(x.astype(dtype)), g.astype(dtype)


def exact(name, p, g):
    """The result along the last axis, and the sizes of the terms that it is the difference of."""
    p, g = p.astype(real), g.astype(real)
    if name == "softmax_vjp":
        sums, sizes = (np.sum(p * v, axis=-1, keepdims=True) for v in (g, np.abs(g)))
        return p * (g - sums), p * (np.abs(g) + sizes)
    sums, sizes = (np.sum(v, axis=-1, keepdims=True) for v in (g, np.abs(g)))
    return g - np.exp(p) * sums, np.abs(g) + np.exp(p) * sizes


def assert_exact(got, name, p, g, most=2):
    right, terms = exact(name, p, g)
    terms = np.maximum(terms, truth.real(ml_dtypes.finfo(got.dtype).tiny) * 2**12)  # a term below the normal numbers counts as 0
    truth.assert_ulp(got, right, most, scale=terms)


@by_name
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 81, 82, 100, 1000, 5003])
def test_exact_value(name, dtype, classes, level):
    p, g = problem(name, (37, classes), dtype)
    assert_exact(FUNCTIONS[name](p, g), name, p, g)


@by_name
@pytest.mark.parametrize("shape", [(3, 70_000), (1, 300_000)])
def test_long_rows(name, shape, level):
    p, g = problem(name, shape, np.float32)
    result = FUNCTIONS[name](p, g)
    assert_exact(result, name, p, g)
    out = np.asfortranarray(g)
    assert FUNCTIONS[name](np.asfortranarray(p), out, out=out) is out
    np.testing.assert_array_equal(out, result)


@by_name
def test_is_the_derivative(name):
    """Of sum_k g_k f_k(x), by differences."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(6), rng.standard_normal(6)
    activation = getattr(celoss, name.removesuffix("_vjp"))
    numeric = truth.numeric_gradient(lambda v: float(np.sum(g * activation(v))), x)
    np.testing.assert_allclose(FUNCTIONS[name](activation(x), g), numeric, rtol=1e-8, atol=1e-10)


@by_name
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_dtypes_and_mixtures(name, dtype, level):
    p, g = problem(name, (40, 33), np.float32)
    p = p.astype(dtype)
    for upstream in (g, g.astype(np.float64), g.astype(dtype), np.rint(g).astype(np.int64)):
        result = FUNCTIONS[name](p, upstream)
        assert result.dtype == p.dtype
        limit = np.maximum(
            np.abs(reference_of(name)(p, upstream).astype(np.float64)), np.abs(upstream).max(axis=-1, keepdims=True)
        )
        np.testing.assert_array_less(
            np.abs(result.astype(np.float64) - reference_of(name)(p, upstream).astype(np.float64)),
            2 * float(ml_dtypes.finfo(p.dtype).eps) * limit + 1e-30,
        )


def reference_of(name):
    return getattr(reference, name)


@by_name
@pytest.mark.parametrize("classes", [7, 100])
def test_layouts_give_the_same_bits(name, classes, level):
    p, g = problem(name, (30, classes), np.float32)
    plain = FUNCTIONS[name](p, g)
    for a, b in (
        (np.asfortranarray(p), g),
        (p[::-1], g[::-1]),
        (p, g[:, ::-1][:, ::-1].copy()),
        (p.astype(">f4"), g.astype(">f4")),
    ):
        result = FUNCTIONS[name](a, b)
        np.testing.assert_array_equal(result[::-1] if a.strides[0] < 0 else result, plain)
    np.testing.assert_array_equal(FUNCTIONS[name](np.ascontiguousarray(p.T), g.T, axis=0).T, plain)
    solid = FUNCTIONS[name](p.reshape(5, 6, classes).transpose(0, 2, 1), g.reshape(5, 6, classes).transpose(0, 2, 1), axis=1)
    np.testing.assert_array_equal(solid.transpose(0, 2, 1).reshape(30, classes), plain)


@by_name
@pytest.mark.parametrize("shape", [(30, 10), (3000, 100)])
def test_out(name, shape, level):
    p, g = problem(name, shape, np.float32)
    plain = FUNCTIONS[name](p, g)
    for out in (np.empty_like(p), g.copy(), p.copy()):
        a, b = (out if np.array_equal(out, p) else p), (out if np.array_equal(out, g) else g)
        assert FUNCTIONS[name](a, b, out=out) is out
        np.testing.assert_array_equal(out, plain)


@by_name
def test_threads_do_not_change_a_bit(name, keep_num_threads):
    p, g = problem(name, (4000, 300), np.float32)
    celoss.set_num_threads(1)
    one = FUNCTIONS[name](p, g)
    celoss.set_num_threads(4)
    np.testing.assert_array_equal(FUNCTIONS[name](p, g), one)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("total", [1.0, -3e4, 1e24, 1e30, 1e-24, 1e-30, 0.0])
def test_log_probabilities_of_any_size(total, dtype, level):
    """Beyond what a dtype's own exponential takes: above 0, far below, and sums of the upstream gradient of any size."""
    rng = np.random.default_rng(0)
    lowest = -109 if dtype is np.float32 else -715
    p = -rng.uniform(0, 20, (6, 300)).astype(dtype)
    p[1, ::7], p[2, ::5], p[3, 3::9] = lowest + rng.uniform(-30, 10, 43), rng.uniform(0, 3, 60), -np.inf
    p[4], p[5, 2], p[5, 299] = lowest + 1.5, 1e-7, lowest - 0.25
    g = np.zeros(p.shape, dtype)
    g[:, 7], g[:, 250] = total, total / 4
    assert_exact(celoss.log_softmax_vjp(p, g), "log_softmax_vjp", p, g)


def test_log_probabilities_far_above_0(level):
    p = np.linspace(-5, 85, 300, dtype=np.float32)[None]
    g = np.where(np.arange(300) == 7, np.float32(1e-10), np.float32(0))[None]
    assert_exact(celoss.log_softmax_vjp(p, g), "log_softmax_vjp", p, g)


def test_special_values(level):
    p, g = celoss.softmax(np.array([[0.0, -np.inf, 0.0]])), np.array([[1.0, 5.0, -1.0]])
    np.testing.assert_array_equal(celoss.softmax_vjp(p, g), [[0.5, 0, -0.5]])
    back = celoss.log_softmax_vjp(celoss.log_softmax(np.array([[0.0, -np.inf, 0.0]])), g)
    np.testing.assert_allclose(back, [[-1.5, 5, -3.5]], rtol=1e-15)
    nan = np.array([[np.nan, 0.5], [0.5, 0.5]])
    for function in FUNCTIONS.values():
        result = function(nan, np.ones((2, 2)))
        assert np.isnan(result[0]).any() and np.isfinite(result[1]).all()
        assert function(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)


@by_name
@pytest.mark.parametrize("classes", [5, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_upstream_gradients(name, dtype, classes, level):
    """As the formula gives them: infinite with the sum, NaN where infinities meet, and of that row alone."""
    p, g = (a.astype(dtype) for a in problem(name, (4, classes), np.float64))
    expected = FUNCTIONS[name](p, g)
    g[0, 1], g[1, :2], g[2, 3] = np.inf, [np.inf, -np.inf], np.nan
    result = FUNCTIONS[name](p, g)
    np.testing.assert_array_equal(result, np.where([[True], [True], [True], [False]], reference_of(name)(p, g), expected))
    assert np.isnan(result[0, 1]) and np.isneginf(np.delete(result[0], 1)).all()


@by_name
def test_errors(name):
    p, g = problem(name, (4, 3), np.float64)
    first = "p" if name == "softmax_vjp" else "log_p"
    with pytest.raises(ValueError, match=rf"grad_output has shape \(3,\); expected the shape \(4, 3\) of {first}"):
        FUNCTIONS[name](p, g[0])
    with pytest.raises(TypeError, match="grad_output has dtype complex128"):
        FUNCTIONS[name](p, g * 1j)
    with pytest.raises(TypeError, match=f"{first} has dtype complex128"):
        FUNCTIONS[name](p * 1j, g)
    with pytest.raises(ValueError, match=f"axis 2 is out of range for {first}"):
        FUNCTIONS[name](p, g, axis=2)
    room = np.zeros(20)
    with pytest.raises(ValueError, match="out overlaps grad_output partly"):
        FUNCTIONS[name](p, room[:12].reshape(4, 3), out=room[2:14].reshape(4, 3))
    with pytest.raises(ValueError, match=f"expected float64 of shape .* as {first} is"):
        FUNCTIONS[name](p, g, out=np.zeros((4, 3), np.float32))
