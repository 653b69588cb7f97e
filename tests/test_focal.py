"""The focal loss, of class indices and of binary scores: exact values, other options, torchvision's formula, edges, errors."""

import mpmath
import numpy as np
import pytest
import truth
from tolerances import ulp
from truth import real

import celoss
from celoss import reference

mp = mpmath.mp.clone()
mp.prec = 400

DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]
GAMMAS = [0.5, 1.0, 2.0, 5.0]
INF, NAN = np.inf, np.nan


def exact(x, target, gamma):
    """Loss (N,) and gradient (N, C): -log p_t and p - onehot of `truth`, times what the focal factor does to them."""
    p, miss, nll = truth.softmax(x)
    at = np.arange(len(target)), target
    with np.errstate(all="ignore"):
        power = miss[at] ** real(gamma)
        ratio = np.where(miss[at] == 0, 1, nll[at] / miss[at])
        slope = power * (1 + real(gamma) * np.where(p[at] == 0, 0, p[at] * ratio))
        grad = p * slope[:, None]
        grad[at] = -miss[at] * slope
        return np.where(power == 0, 0, power * nll[at]), grad


def problem(classes, dtype, rows=60, seed=0):
    """Rows that hurt: sure and right by 5 to 30, sure and wrong, wide, far from the origin, tied."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, classes)) * rng.choice([0.1, 1, 8], (rows, 1))
    target = rng.integers(classes, size=rows)
    sure = np.arange(rows) % 3 == 0
    x[sure, target[sure]] = x[sure].max(axis=1) + np.linspace(5, 30, sure.sum())
    x[1::6, target[1::6] - 1] += 20
    x[2::6] += 1000
    x[5:6] = 0.25
    return x.astype(dtype), target


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 3, 10, 81, 82, 100, 1000])
def test_exact_value(classes, dtype, gamma, level):
    x, target = problem(classes, dtype)
    loss, grad = exact(x, target, gamma)
    for out in (None, x.copy()):
        given = x if out is None else out
        got = celoss.cross_entropy_with_grad(given, target, focal_gamma=gamma, reduction="none", out=out)
        truth.assert_ulp(got[0], loss, ulp("focal", x.dtype))
        truth.assert_ulp(got[1], grad, ulp("focal", x.dtype))
    np.testing.assert_array_equal(celoss.cross_entropy(x, target, focal_gamma=gamma, reduction="none"), got[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "row", [[0.0, 0.0], [30.0, 0.0, -5.0], [1e3, 1e3 + 20, 1e3], [3.0, -2.5, 0.5, 90.0], [1e8, 1e8 - 16]], ids=str
)
def test_exact_to_four_hundred_bits(row, dtype, level):
    x = np.array([row] * len(row), dtype)
    target = np.arange(len(row))
    e = [mp.exp(mp.mpf(float(v))) for v in x[0]]
    for gamma in GAMMAS:
        got_loss, got_grad = celoss.cross_entropy_with_grad(x, target, focal_gamma=gamma, reduction="none")
        for t in target:
            others = mp.fsum(v for k, v in enumerate(e) if k != t)
            p, miss, nll = e[t] / mp.fsum(e), others / mp.fsum(e), mp.log1p(others / e[t])
            slope = miss**gamma * (1 + gamma * p * nll / miss)
            # As a long double these keep more digits than a result has.
            grad = np.array([real(mp.nstr(-slope * miss if k == t else slope * v / mp.fsum(e), 40)) for k, v in enumerate(e)])
            truth.assert_ulp(got_loss[t : t + 1], np.array([real(mp.nstr(miss**gamma * nll, 40))]), ulp("focal", x.dtype))
            truth.assert_ulp(got_grad[t], grad, ulp("focal", x.dtype))


@truth.needs_wide
@pytest.mark.parametrize("margin", [600, 700, 720, 735])
def test_far_beyond_doubt(margin, level):
    """1 - p_t of e^-700, whose small powers are normal numbers. A large upstream gradient brings them into range."""
    x, target = np.array([[margin, 0.0], [0.0, margin]]), np.array([0, 1])
    for gamma in (0.01, 0.5):
        _, grad = exact(x, target, gamma)
        got = celoss.cross_entropy_with_grad(x, target, focal_gamma=gamma, reduction="none", grad_output=2.0**200)[1]
        # What rounds below the smallest normal number, the exponential of the other class, has few digits there.
        truth.assert_ulp(got, grad * real(2) ** 200, 5 if margin < 700 else 2.0**40)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_that_vanish(dtype, level):
    x = np.zeros((1, 2), dtype)
    assert celoss.cross_entropy(x, [0], focal_gamma=1e308) == 0
    np.testing.assert_array_equal(celoss.cross_entropy_with_grad(x, [0], focal_gamma=1e308)[1], 0)
    np.testing.assert_array_equal(celoss.binary_cross_entropy_with_grad(x, x, focal_gamma=1e308)[1], 0)
    assert celoss.binary_cross_entropy(np.array([INF], dtype), [1], focal_gamma=1e-3) == 0
    assert celoss.binary_cross_entropy(np.array([-INF], dtype), [1e-30], focal_gamma=100.0) == 0


@pytest.mark.parametrize("shape", [(3, 70_000), (1, 300_000)])
def test_long_rows(shape, level):
    x, target = problem(shape[1], np.float32, rows=shape[0])
    loss, grad = exact(x, target, 2.0)
    for place in (lambda x: None, lambda x: x):
        given = x.copy()
        got = celoss.cross_entropy_with_grad(given, target, focal_gamma=2.0, reduction="none", out=place(given))
        truth.assert_ulp(got[0], loss, ulp("focal", "float32"))
        truth.assert_ulp(got[1], grad, ulp("focal", "float32"))
    fortran = celoss.cross_entropy_with_grad(np.asfortranarray(x), target, focal_gamma=2.0, reduction="none")
    np.testing.assert_array_equal(fortran[0], got[0])
    np.testing.assert_array_equal(fortran[1], got[1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("classes", [5, 100])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_with_other_options(dtype, classes, reduction, level):
    """Weights of classes and of rows, ignored rows, upstream gradients, and one thread or two: as in the reference."""
    x, target = problem(classes, dtype, rows=3000)
    rng = np.random.default_rng(1)
    target[::7] = -1
    x[::14] = NAN
    options = {
        "focal_gamma": 1.5,
        "weight": rng.uniform(0, 2, classes),
        "sample_weight": rng.uniform(0, 2, len(x)),
        "ignore_index": -1,
        "reduction": reduction,
        "grad_output": rng.standard_normal(len(x)) if reduction == "none" else 0.3,
    }
    loss, grad = celoss.cross_entropy_with_grad(x, target, **options)
    expected_loss, expected_grad = reference.cross_entropy_with_grad(x, target, **options)
    most = {"float16": 1, "float32": ulp("focal", "float32"), "float64": 16}[dtype]  # the reference rounds at every step
    truth.assert_ulp(np.asarray(loss), np.asarray(expected_loss), most, dtype="float64" if dtype == "float64" else "float32")
    truth.assert_ulp(grad, expected_grad, most)
    again = celoss.cross_entropy_with_grad(x, target, **options, n_threads=2)
    np.testing.assert_array_equal(again[0], loss)
    np.testing.assert_array_equal(again[1], grad)
    turned = celoss.cross_entropy_with_grad(np.ascontiguousarray(x.T), target, **options, axis=0)
    np.testing.assert_array_equal(turned[1].T, grad)


def test_gamma_0_is_cross_entropy(level):
    x, target = problem(100, np.float32)
    plain, focal = (celoss.cross_entropy_with_grad(x, target, **o, reduction="none") for o in ({}, {"focal_gamma": 0}))
    np.testing.assert_array_equal(plain[0], focal[0])
    np.testing.assert_array_equal(plain[1], focal[1])
    # With smoothing and with probabilities, too: what excludes them is an exponent.
    celoss.cross_entropy(x, np.abs(x) % 1, focal_gamma=0.0, label_smoothing=0.1)


def test_derivative_of_the_reference():
    x, target = problem(5, np.float64, rows=9)
    x = np.clip(x, -3, 3)
    _, grad = reference.cross_entropy_with_grad(x, target, focal_gamma=2.5, reduction="sum")
    numeric = truth.numeric_gradient(lambda v: reference.cross_entropy(v, target, focal_gamma=2.5, reduction="sum"), x)
    np.testing.assert_allclose(grad, numeric, rtol=1e-8, atol=1e-9)
    z, y = x.ravel(), np.random.default_rng(0).uniform(0, 1, x.size)
    options = {"focal_gamma": 2.5, "pos_weight": 1.5, "reduction": "sum"}
    _, grad = reference.binary_cross_entropy_with_grad(z, y, **options)
    numeric = truth.numeric_gradient(lambda v: reference.binary_cross_entropy(v, y, **options), z)
    np.testing.assert_allclose(grad, numeric, rtol=1e-8, atol=1e-9)


# ---- binary ----------------------------------------------------------------------------------------------------------


def exact_binary(z, y, gamma):
    """Loss and gradient for labels 0 and 1."""
    z = z.astype(real) * np.where(y == 1, 1, -1)  # the score of what is right
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(z))
        likelier, less_likely = 1 / (1 + e), e / (1 + e)
        p, miss = np.where(z > 0, likelier, less_likely), np.where(z > 0, less_likely, likelier)
        nll = np.maximum(-z, 0) + np.log1p(e)
        power = miss ** real(gamma)
        slope = power * (miss + real(gamma) * np.where(p == 0, 0, p * nll))
        return np.where(power == 0, 0, power * nll), np.where(y == 1, -slope, slope)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_exact_value(dtype, gamma, level):
    far = [87, 104, 200, 705, 710, 720, 744, 746]  # where probabilities and their products leave the normal numbers
    z = np.concatenate([np.linspace(-40, 40, 801), [0.0, -0.0, 1e-30], far, np.negative(far), np.linspace(-2, 2, 400)])
    z = z.astype(dtype)
    for y in (np.zeros(z.shape, bool), np.ones(z.shape, bool)):
        loss, grad = exact_binary(z, y, gamma)
        got = celoss.binary_cross_entropy_with_grad(z, y, focal_gamma=gamma, reduction="none")
        truth.assert_ulp(got[0], loss, ulp("focal", z.dtype))
        truth.assert_ulp(got[1], grad, ulp("focal", z.dtype))
        np.testing.assert_array_equal(celoss.binary_cross_entropy(z, y, focal_gamma=gamma, reduction="none"), got[0])


def sigmoid_focal_loss(z, y, gamma):
    """The formula of torchvision.ops.sigmoid_focal_loss with alpha < 0, in float64."""
    p = 1 / (1 + np.exp(-z))
    cross_entropy = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return cross_entropy * (1 - (p * y + (1 - p) * (1 - y))) ** gamma


@pytest.mark.parametrize("labels", ["0 and 1", "between"])
def test_formula_of_torchvision(labels, level):
    rng = np.random.default_rng(0)
    z = 3 * rng.standard_normal(1000)
    y = rng.integers(2, size=1000).astype(float) if labels == "0 and 1" else rng.uniform(0, 1, 1000)
    for gamma in GAMMAS:
        loss = celoss.binary_cross_entropy(z, y, focal_gamma=gamma, reduction="none")
        np.testing.assert_allclose(loss, sigmoid_focal_loss(z, y, gamma), rtol=1e-9)  # its 1 - p_t cancels


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_with_other_options(dtype, reduction, level):
    rng = np.random.default_rng(2)
    z = (4 * rng.standard_normal((70, 301))).astype(dtype)
    y = rng.integers(2, size=z.shape)
    options = {
        "focal_gamma": 1.5,
        "weight": rng.uniform(0, 2, 301),
        "pos_weight": 2.5,
        "reduction": reduction,
        "grad_output": rng.standard_normal(z.shape) if reduction == "none" else 0.3,
    }
    loss, grad = celoss.binary_cross_entropy_with_grad(z, y, **options)
    expected_loss, expected_grad = reference.binary_cross_entropy_with_grad(z, y, **options)
    most = {"float16": 1, "float32": ulp("focal", "float32"), "float64": 16}[dtype]
    truth.assert_ulp(np.asarray(loss), np.asarray(expected_loss), most, dtype="float64" if dtype == "float64" else "float32")
    truth.assert_ulp(grad, expected_grad, most)


# ---- at the edges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [3, 100])
def test_special_values(classes, dtype, level):
    x = np.zeros((6, classes), dtype)
    x[0, 1] = NAN
    x[1, 1] = INF
    x[2, 0] = -INF  # impossible, and the target: as without the factor, which is 1
    x[3, 1:] = -INF  # certain and right
    x[4] = -INF
    x[5, 1] = -INF
    loss, grad = celoss.cross_entropy_with_grad(x, np.zeros(6, int), focal_gamma=2.0, reduction="none")
    assert np.isnan(loss[[0, 1, 4]]).all() and np.isnan(grad[[0, 1, 4]]).all()
    assert loss[2] == INF and grad[2, 0] == -1
    np.testing.assert_allclose(grad[2, 1:], 1 / (classes - 1), rtol=1e-6)
    assert loss[3] == 0 and (grad[3] == 0).all()
    assert grad[5, 1] == 0 and 0 < loss[5] < INF
    alone = celoss.cross_entropy_with_grad(np.full((2, 1), 7, dtype), [0, 0], focal_gamma=0.5, reduction="none")
    assert (alone[0] == 0).all() and (alone[1] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_special_values(dtype, level):
    z = np.array([INF, INF, -INF, -INF, NAN], dtype)
    y = np.array([1, 0, 0, 1, 1])
    loss, grad = celoss.binary_cross_entropy_with_grad(z, y, focal_gamma=2.0, reduction="none")
    np.testing.assert_array_equal(loss, np.array([0, INF, 0, INF, NAN], dtype))
    np.testing.assert_array_equal(grad, np.array([0, 1, 0, -1, NAN], dtype))


@pytest.mark.parametrize("margin", [5, 10, 20, 25])
def test_sure_rows_keep_their_digits(margin, level):
    """Where 1 - p_t is formed by a subtraction, a focal loss is exactly 0 from a margin of 17 on."""
    loss, grad = celoss.cross_entropy_with_grad(np.array([[margin, 0, 0]], np.float32), np.array([0]), focal_gamma=2.0)
    miss = 2 * mp.exp(-margin) / (1 + 2 * mp.exp(-margin))
    nll = -mp.log(1 - miss)
    assert loss == pytest.approx(float(miss**2 * nll), rel=1e-6) and loss > 0
    assert grad[0, 0] == pytest.approx(float(-(miss**3) * (1 + 2 * (1 - miss) * nll / miss)), rel=1e-6)


def test_objects():
    x, target = problem(10, np.float32)
    criterion = celoss.CrossEntropyLoss(focal_gamma=2.0)
    loss, grad = celoss.cross_entropy_with_grad(x, target, focal_gamma=2.0)
    assert criterion(x, target) == loss and np.array_equal(criterion.backward(), grad)
    binary = celoss.BinaryCrossEntropyLoss(focal_gamma=2.0)
    loss, grad = celoss.binary_cross_entropy_with_grad(x, x > 0, focal_gamma=2.0)
    assert binary(x, x > 0) == loss and np.array_equal(binary.backward(), grad)


@pytest.mark.parametrize("call", [celoss.cross_entropy, reference.cross_entropy], ids=["celoss", "reference"])
def test_what_excludes_it(call):
    x, target = np.zeros((2, 3)), np.array([0, 1])
    with pytest.raises(ValueError, match="smoothing"):
        call(x, target, focal_gamma=2.0, label_smoothing=0.1)
    with pytest.raises(ValueError, match="probabilities"):
        call(x, np.full((2, 3), 1 / 3), focal_gamma=2.0)


@pytest.mark.parametrize("function", [celoss.cross_entropy, celoss.binary_cross_entropy])
def test_errors(function):
    x = np.zeros((2, 3))
    target = np.array([0, 1]) if function is celoss.cross_entropy else np.zeros((2, 3))
    for bad in (-1.0, NAN, INF, -INF, 10**400):
        with pytest.raises(ValueError, match=r"focal_gamma must be a finite number >= 0, got "):
            function(x, target, focal_gamma=bad)
    for bad in ("2", None, [1.0, 2.0]):
        with pytest.raises(TypeError, match="focal_gamma must be a number"):
            function(x, target, focal_gamma=bad)
    with pytest.raises(ValueError, match=r"focal_gamma=2.0 and label_smoothing=0.1 exclude one another"):
        function(x, target, focal_gamma=2.0, label_smoothing=0.1)
