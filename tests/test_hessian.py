"""Second derivatives: the Hessian's diagonal in ulp, down to the smallest normal number, and its product with a vector."""

import numpy as np
import pytest
import test_activations
import test_cross_entropy
import truth
from tolerances import ulp
from truth import real

import celoss
from celoss import reference

DTYPES = test_cross_entropy.DTYPES
CLASSES = [*range(1, 20), 31, 33, 64, 96, 97, 127, 128, 129, 257, 1000, 5000]
# Of a product, in the sum of the sizes of its terms: M sum |p v|.
SHARE = {np.float32: 1e-6, np.float64: 1e-14}
FORMS = ["indices", "smoothing", "weights", "smoothing and weights", "probabilities", "probabilities and weights"]


def vectors(x, seed=0):
    """A number for each logit, of every size."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(x.shape) * 10.0 ** rng.integers(-3, 4, x.shape)).astype(x.dtype)


def assert_product(got, p, mass, v, dtype, names=None):
    p, v = np.asarray(p, real), np.asarray(v, real)
    mass = np.broadcast_to(np.asarray(mass, real), p.shape[:-1])[..., None]
    exact = mass * p * (v - (p * v).sum(axis=-1, keepdims=True))
    scale = np.abs(mass) * np.abs(p * v).sum(axis=-1, keepdims=True)
    error = np.abs(got - exact) / np.where(scale == 0, 1, scale)
    n = np.unravel_index(int(error.argmax()), error.shape)
    assert error.max() <= SHARE[dtype], f"{float(error.max()):.3g} at {n}{names[n[0]] if names else ''}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_diagonal(classes, dtype, level):
    names, x, t, exact_loss, exact_grad = test_cross_entropy.case(classes, dtype)
    p, miss, _ = truth.softmax(x)
    loss, grad, hess = celoss.cross_entropy_with_grad_hess(x, t, reduction="none")
    assert hess.dtype == dtype
    truth.assert_ulp(loss, exact_loss, ulp("loss", x.dtype), names=names)
    truth.assert_ulp(grad, exact_grad, ulp("gradient", x.dtype), names=names)
    truth.assert_ulp(hess, p * miss, ulp("hessian", x.dtype), names=names)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 10, 97, 128, 300])
def test_two_equal_maxima_beside_the_target(classes, dtype, level):
    """Neither holds more than half; whatever the rounding of their share, neither is taken for all of the row."""
    rng = np.random.default_rng(classes)
    x = rng.uniform(-200, 100, (500, 1)) + np.zeros(classes)
    x[:, 2:] -= rng.uniform(0, 60, (500, classes - 2))
    x, t = rng.permuted(x, axis=1).astype(dtype), np.zeros(500, int)
    t[:] = (x.argmax(axis=1) + rng.integers(1, classes, 500)) % classes
    p, miss, _ = truth.softmax(x)
    _, _, hess = celoss.cross_entropy_with_grad_hess(x, t, reduction="none")
    truth.assert_ulp(hess, p * miss, ulp("hessian", x.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_product(classes, dtype, level):
    names, x, t, *_ = test_cross_entropy.case(classes, dtype)
    v = vectors(x)
    p, _, _ = truth.softmax(x)
    assert_product(celoss.cross_entropy_hessp(x, t, v, reduction="none"), p, 1, v, dtype, names)
    one = np.zeros_like(x)
    one[np.arange(len(t)), t] = 1  # at the target it is the diagonal, as exact
    at_target = celoss.cross_entropy_hessp(x, t, one, reduction="none")[np.arange(len(t)), t]
    _, _, hess = celoss.cross_entropy_with_grad_hess(x, t, reduction="none")
    truth.assert_ulp(at_target, hess[np.arange(len(t)), t].astype(real), ulp("hessian", x.dtype))


def one_hot(t, classes):
    q = np.zeros((len(t), classes))
    q[np.arange(len(t)), t] = 1
    return q


def problem(classes, dtype, form, rows=24):
    """Rows of every kind, a target and options, and the coefficients s w_c q'_c of each row."""
    rng = np.random.default_rng(classes)
    x = rng.standard_normal((rows, classes)) * rng.choice([0.1, 1, 10], (rows, 1)) + rng.choice([0, 500], (rows, 1))
    x = x.astype(dtype)
    t = rng.integers(0, classes, rows)
    sure = np.arange(0, rows, 3)
    x[sure, t[sure]] = x[sure].max(axis=1) + rng.uniform(5, 30, len(sure)).astype(dtype)
    wrong = np.arange(1, rows, 3)
    x[wrong, (t[wrong] + 1) % classes] = x[wrong].max(axis=1) + rng.uniform(5, 30, len(wrong)).astype(dtype)
    q = one_hot(t, classes)
    options = {"sample_weight": rng.uniform(-1, 2, rows)}
    if "probabilities" in form:
        q = rng.dirichlet(np.full(classes, 0.3), rows).astype(dtype)
    w = np.ones(classes)
    if "weights" in form:
        w = options["weight"] = rng.uniform(0, 2, classes)
    if "smoothing" in form:
        options["label_smoothing"] = 0.125
        q = q * real(0.875) + real(0.125) / classes
        if "probabilities" not in form:  # w_t (1 - eps) at the target, eps w_c / C everywhere: what q' w_c is not
            a = one_hot(t, classes) * w[t][:, None] * real(0.875) + w * (real(0.125) / classes)
            return x, t, options, options["sample_weight"][:, None] * a
    return x, q if "probabilities" in form else t, options, options["sample_weight"].astype(real)[:, None] * (w * q.astype(real))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [2, 3, 10, 97, 128, 1000])
def test_options(classes, form, dtype, level):
    x, target, options, a = problem(classes, dtype, form)
    v, mass = vectors(x), a.sum(axis=-1)
    p, miss, _ = truth.softmax(x)
    for factor, more in [(1, {"reduction": "none"}), (0.25, {"reduction": "mean", "normalizer": 4}), (1, {"reduction": "sum"})]:
        loss, grad, hess = celoss.cross_entropy_with_grad_hess(x, target, **options, **more)
        truth.assert_ulp(hess, factor * mass[:, None] * p * miss, ulp("hessian", x.dtype))
        plain_loss, plain_grad = celoss.cross_entropy_with_grad(x, target, **options, **more)
        np.testing.assert_allclose(loss, plain_loss, rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_allclose(grad, plain_grad, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)
        assert_product(celoss.cross_entropy_hessp(x, target, v, **options, **more), p, factor * mass, v, dtype)
    upstream = np.linspace(-2, 3, len(x))
    _, _, hess = celoss.cross_entropy_with_grad_hess(x, target, **options, reduction="none", grad_output=upstream)
    truth.assert_ulp(hess, (upstream * mass)[:, None] * p * miss, ulp("hessian", x.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 255, 256, 257, 300])
@pytest.mark.parametrize("classes", [2, 10, 40])
def test_any_number_of_rows(rows, classes, dtype, level):
    _, x, t, *_ = test_cross_entropy.case(classes, dtype)
    which = np.arange(rows) % len(t)
    x, t = x[which], t[which].copy()
    t[::4] = -100
    p, miss, _ = truth.softmax(x)
    kept = (t >= 0)[:, None]
    _, grad, hess = celoss.cross_entropy_with_grad_hess(x, t, reduction="none")
    truth.assert_ulp(hess, np.where(kept, p * miss, 0), ulp("hessian", x.dtype))
    assert not hess[::4].any() and not grad[::4].any()
    v = vectors(x)
    product = celoss.cross_entropy_hessp(x, t, v, reduction="none")
    assert not product[::4].any()
    assert_product(product, p, kept[:, 0], v, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("offset", [0, 255.5, -3000])
def test_long_rows(offset, form, dtype, level):
    """In pieces: one far below the others, some shifted and others not; in place, and where exponentials do not wait."""
    classes = 2 * 32768 + 4
    x, target, options, a = problem(classes, dtype, form, rows=5)
    x = (offset + np.minimum(x, 0) - np.where(np.arange(classes) < 32768, 60, 0)).astype(dtype)
    if "probabilities" not in form:
        for row, place, above in [(0, target[0], 25), (1, (target[1] + 9) % classes, 25), (2, target[2], 11)]:
            x[row, place] = x[row].max() + above
    v, mass = vectors(x), a.sum(axis=-1)
    p, miss, _ = truth.softmax(x)
    for logits in (x, np.asfortranarray(x)):
        _, grad, hess = celoss.cross_entropy_with_grad_hess(logits, target, **options, reduction="none")
        truth.assert_ulp(hess, mass[:, None] * p * miss, ulp("hessian", x.dtype))
        assert_product(celoss.cross_entropy_hessp(logits, target, v, **options, reduction="none"), p, mass, v, dtype)
    here, there = x.copy(), x.copy()
    _, grad_there, _ = celoss.cross_entropy_with_grad_hess(there, target, **options, reduction="none", hess_out=there)
    celoss.cross_entropy_with_grad_hess(here, target, **options, reduction="none", out=here)
    for got, expected in ((here, grad), (grad_there, grad), (there, hess)):
        np.testing.assert_array_equal(got, expected)
    here = x.copy()
    celoss.cross_entropy_hessp(here, target, v, **options, reduction="none", out=here)
    np.testing.assert_array_equal(here, celoss.cross_entropy_hessp(x, target, v, **options, reduction="none"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_past_the_cache(dtype, level):
    """From 64 MiB on, line after line: the bits of a few rows in the cache, wherever a row begins and ends within a line."""
    few, classes, times = 17, 16_391, 61
    x, t, *_ = problem(classes, dtype, "indices", few)
    x, t = x[:, : 9001 if dtype == np.float64 else classes].copy(), t % 9001
    v, classes = vectors(x), x.shape[1]
    t[3] = -100
    rows = few * times
    assert rows * classes * x.itemsize > 64 << 20
    out, second = np.empty((rows, classes), dtype), np.empty((rows, classes), dtype)
    many, many_t = np.tile(x, (times, 1)), np.tile(t, times)
    weights = np.linspace(1, 2, classes)
    for options in ({}, {"focal_gamma": 2.0}, {"label_smoothing": 0.1, "weight": weights}):
        options = {**options, "reduction": "none"}
        out[...], second[...] = 7, 7
        celoss.cross_entropy_with_grad_hess(many, many_t, **options, out=out, hess_out=second)
        _, grad, hess = celoss.cross_entropy_with_grad_hess(x, t, **options)
        for found, expected in ((out, grad), (second, hess)):
            assert np.array_equal(found.reshape(times, few, classes), np.broadcast_to(expected, (times, few, classes)))
    second[...] = np.broadcast_to(v, (times, few, classes)).reshape(rows, classes)
    out[...] = 7
    celoss.cross_entropy_hessp(many, many_t, second, reduction="none", out=out)
    expected = celoss.cross_entropy_hessp(x, t, v, reduction="none")
    assert np.array_equal(out.reshape(times, few, classes), np.broadcast_to(expected, (times, few, classes)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gamma", [0.5, 1, 2, 3.7])
@pytest.mark.parametrize("classes", [2, 5, 33, 200, 65536])
def test_focal(classes, gamma, dtype, level):
    """Against the reference, in shares of the terms that may cancel."""
    rows = 3 if classes == 65536 else 30
    x, t, options, _ = problem(classes, dtype, "weights", rows)
    v = vectors(x)
    x64, options = x.astype(np.float64), {**options, "focal_gamma": gamma, "reduction": "none"}
    _, _, hess = celoss.cross_entropy_with_grad_hess(x, t, **options)
    _, exact_grad, exact = reference.cross_entropy_with_grad_hess(x64, t, **options)
    scale = np.abs(exact_grad)
    scale = scale * (1 + gamma) + np.abs(exact)
    share = {np.float32: 1e-6, np.float64: 1e-14}[dtype]
    assert np.all(np.abs(hess - exact) <= share * scale + 2 * (1 + gamma) * np.finfo(dtype).tiny)
    product = celoss.cross_entropy_hessp(x, t, v, **options)
    exact = reference.cross_entropy_hessp(x64, t, v.astype(np.float64), **options)
    size = np.abs(exact_grad).max(axis=-1, keepdims=True) * (1 + gamma) * np.abs(v).max(axis=-1, keepdims=True)
    assert np.all(np.abs(product - exact) <= 4 * share * size + 2 * (1 + gamma) * np.finfo(dtype).tiny * np.abs(v).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gamma", [1e-3, 0.01, 0.1, 0.5, 1, 2])
@pytest.mark.parametrize("classes", [2, 5, 200])
def test_focal_of_rows_that_are_sure(classes, gamma, dtype, level):
    """Right or wrong, to where nothing of a row is a normal number. With a small exponent all of it is one to the last."""
    margins = np.arange(20, 110, 0.5) if dtype == np.float32 else np.arange(20, 760, 4.0)
    rows = np.arange(2 * len(margins))
    rng = np.random.default_rng(classes)
    x, t = rng.standard_normal((len(rows), classes)), rows % classes
    x[rows, np.where(rows < len(margins), t, (t + 1) % classes)] = x.max(axis=1) + np.tile(margins, 2)
    x, v = x.astype(dtype), rng.standard_normal(x.shape).astype(dtype)
    x64, v64, options = x.astype(np.float64), v.astype(np.float64), {"focal_gamma": gamma, "reduction": "none"}
    _, _, hess = celoss.cross_entropy_with_grad_hess(x, t, **options)
    _, exact_grad, exact = reference.cross_entropy_with_grad_hess(x64, t, **options)
    share, least = SHARE[dtype], 2 * (1 + gamma) * np.finfo(dtype).tiny
    assert np.all(np.abs(hess - exact) <= share * (np.abs(exact_grad) * (1 + gamma) + np.abs(exact)) + least)
    product, exact = celoss.cross_entropy_hessp(x, t, v, **options), reference.cross_entropy_hessp(x64, t, v64, **options)
    size, largest = np.abs(exact_grad).max(axis=-1, keepdims=True) * (1 + gamma), np.abs(v64).max(axis=-1, keepdims=True)
    assert np.all(np.abs(product - exact) <= (4 * share * size + 4 * least) * largest)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary(dtype, level):
    z = test_activations.scores_that_hurt(np.dtype(dtype))
    rng = np.random.default_rng(0)
    y, v = rng.integers(0, 2, z.shape), rng.standard_normal(z.shape).astype(dtype)
    p, rest, *_ = test_activations.exact_sigmoid(z)
    _, grad, hess = celoss.binary_cross_entropy_with_grad_hess(z, y, reduction="none")
    truth.assert_ulp(hess, p * rest, ulp("hessian", z.dtype))
    np.testing.assert_array_equal(grad, celoss.binary_cross_entropy_with_grad(z, y, reduction="none")[1])
    truth.assert_ulp(celoss.binary_cross_entropy_hessp(z, y, v, reduction="none"), p * rest * v, ulp("hessian", z.dtype))
    w, pos = rng.uniform(0, 2, z.shape), rng.uniform(0, 2, z.shape)
    q = rng.uniform(0, 1, z.shape).astype(dtype)
    options = {"weight": w, "pos_weight": pos, "label_smoothing": 0.125, "reduction": "none"}
    yes, no = q * real(0.875) + real(0.0625), (1 - q.astype(real)) * real(0.875) + real(0.0625)
    exact = w.astype(real) * (pos * yes + no) * p * rest
    upstream = rng.standard_normal(z.shape)
    _, _, hess = celoss.binary_cross_entropy_with_grad_hess(z, q, **options, grad_output=upstream)
    truth.assert_ulp(hess, exact * upstream, ulp("hessian", z.dtype))
    truth.assert_ulp(celoss.binary_cross_entropy_hessp(z, q, v, **options), exact * v, ulp("hessian", z.dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gamma", [0.5, 1, 2, 3.7])
def test_binary_focal(gamma, dtype, level):
    rng = np.random.default_rng(1)
    z = (10 * rng.standard_normal(999)).astype(dtype)
    v = rng.standard_normal(z.shape).astype(dtype)
    share = {np.float32: 1e-6, np.float64: 1e-14}[dtype]
    for y in (rng.integers(0, 2, z.shape), rng.uniform(0, 1, z.shape).astype(dtype)):
        options = {"focal_gamma": gamma, "reduction": "none", "pos_weight": 1.5}
        _, _, hess = celoss.binary_cross_entropy_with_grad_hess(z, y, **options)
        _, grad, exact = reference.binary_cross_entropy_with_grad_hess(z.astype(np.float64), y.astype(np.float64), **options)
        scale = np.abs(grad) * (1 + gamma) + np.abs(exact)
        assert np.all(np.abs(hess - exact) <= share * scale + 2 * (1 + gamma) * np.finfo(dtype).tiny)
        product = celoss.binary_cross_entropy_hessp(z, y, v, **options)
        assert np.all(np.abs(product - exact * v) <= share * scale * np.abs(v) + 2 * (1 + gamma) * np.finfo(dtype).tiny)
