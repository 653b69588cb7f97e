"""What the reference has for language models: scaled and capped logits, z-loss, the numbers of a row, KL divergence.

Exact values are the definitions in several hundred digits; derivatives are differences of these, so that none is written twice.
"""

import functools
import inspect
import itertools
import math

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_functions import REDUCTIONS, one_hot, rng
from test_reference_values import ADVERSARIAL, exact_cross_entropy, exact_softmax, ulps

from celoss import reference

INF, NAN = math.inf, math.nan

mp = mpmath.mp.clone()
mp.dps = 400

SCALES = [1.0, 0.7, 3.0]
CAPS = [None, 5.0, 30.0, 1e6]
LINES = [dict(zip(("logit_scale", "logit_softcap"), pair, strict=True)) for pair in itertools.product(SCALES, CAPS)]

# ----------------------------------------------------------------------------------------------------
# Scale, cap and z-loss
# ----------------------------------------------------------------------------------------------------


def exact_scores(row, logit_scale=1.0, logit_softcap=None):
    a = mp.mpf(logit_scale)
    if logit_softcap is None:
        return [a * x for x in row]
    c = mp.mpf(logit_softcap)
    return [c * mp.tanh(a * x / c) if mp.isfinite(x) else x for x in row]


def exact_loss(row, a, z=0, target=None, gamma=0, **line):
    """Σ a_c (lse - u_c), times 1 - p_t to the power of gamma, and z lse²: of one row, z with its sample weight."""
    u = exact_scores(row, **line)
    e = [mp.exp(v) for v in u]
    total = mp.fsum(e)
    lse = mp.log(total)
    loss = mp.fsum(mp.mpf(v) * (lse - x) for v, x in zip(a, u, strict=True) if v)
    if gamma:
        loss *= (mp.fsum(v for k, v in enumerate(e) if k != target) / total) ** mp.mpf(gamma)
    return loss + mp.mpf(z) * lse**2


def exact_derivatives(loss, row, v):
    """Gradient, the Hessian's diagonal and its product with v by differences, whose steps of 1e-80 leave 80 digits and more."""
    h, row = mp.mpf(10) ** -80, [mp.mpf(value) for value in row]
    at = functools.cache(lambda *step: loss([value + h * s for value, s in zip(row, step, strict=True)]))
    along, still = [mp.mpf(value) for value in v], [mp.mpf(0)] * len(row)
    grad, hess, product = [], [], []
    for k in range(len(row)):
        unit = [mp.mpf(j == k) for j in range(len(row))]
        minus = [-s for s in unit]
        grad.append((at(*unit) - at(*minus)) / (2 * h))
        hess.append((at(*unit) - 2 * at(*still) + at(*minus)) / h**2)
        plus = [at(*(s + u for s, u in zip(along, step, strict=True))) for step in (unit, minus)]
        less = [at(*(u - s for s, u in zip(along, step, strict=True))) for step in (unit, minus)]
        product.append((plus[0] - plus[1] - less[0] + less[1]) / (4 * h**2))
    return grad, hess, product


ROWS = [
    [1.0, 4.0, 0.5, -2.0],
    [3.0, -INF, 2.9, 11.0],
    [-30.0, -31.5, -30.2, -60.0],
    [6.0, 6.0, 6.0, 6.0],
    [40.0, -3.0, 0.0, 39.0],
]
FORMS = ["indices", "probabilities", "smoothed", "focal"]


@pytest.mark.parametrize("z", [0.0, 1e-4, 0.5])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("line", LINES, ids=str)
def test_every_combination_is_exact(line, form, z):
    """Loss, gradient and second derivatives. Where terms of either sign meet, the unit is that of their sizes."""
    w, s, v = np.array([0.5, 2.0, 0.25, 1.25]), -0.75, [1.0, 2.5, 0.0, -0.3]
    for row, target in zip(ROWS, (1, 3, 0, 2, 0), strict=True):
        q, options = one_hot(target, 4), {"weight": w, "sample_weight": s, "z_loss": z, "reduction": "none", **line}
        given, gamma = target, 0.0
        if form == "probabilities":
            given = q = np.array([0.25, 0.0, 1.5, 0.125])
        elif form == "smoothed" and -INF not in row:
            options |= {"label_smoothing": 0.125}
            q = 0.875 * q + 0.125 / 4
        elif form == "focal":
            gamma = 1.5
            options |= {"focal_gamma": gamma}
        a = s * w * q
        loss_of = functools.partial(exact_loss, a=a.tolist(), z=mp.mpf(s) * mp.mpf(z), target=target, gamma=gamma, **line)
        exact = loss_of([mp.mpf(x) for x in row])
        exact_grad, exact_hess, exact_product = exact_derivatives(loss_of, row, v)

        # Sizes of the terms, and how a rounding of u, of at most max|u|, shows in them
        u = np.array([float(value) for value in exact_scores([mp.mpf(x) for x in row], **line)])
        lse = abs(float(mp.log(mp.fsum(mp.exp(value) for value in u))))
        p = np.array([float(value) for value in exact_softmax(u.tolist())[0]])
        _, slope, bend = line_of(np.array(row), **line)
        size = np.abs(a).sum() * (1 + gamma) ** 2 + 2 * abs(s) * z * (1 + lse)
        digits = 4e-16 * (8 + np.max(np.abs(u), where=np.isfinite(u), initial=0))
        size_grad = (p * size + np.abs(a)) * slope
        size_hess = size * (p * slope**2) + (p * size + np.abs(a)) * bend
        size_product = size * p * slope * (np.abs(v) * slope + np.sum(p * slope * np.abs(v)))
        size_product += (p * size + np.abs(a)) * bend * np.abs(v)

        loss, grad, hess = reference.cross_entropy_with_grad_hess(row, given, **options)
        product = reference.cross_entropy_hessp(row, given, v, **options)
        assert abs(float(loss - exact)) <= digits * ((1 + gamma) * abs(float(exact)) + 2 * abs(s) * z * lse * (1 + lse))
        for found, right, unit in (
            (grad, exact_grad, size_grad),
            (hess, exact_hess, size_hess),
            (product, exact_product, size_product),
        ):
            missed = [float(mp.mpf(float(got)) - value) for got, value in zip(found, right, strict=True)]
            assert np.all(np.abs(missed) <= digits * unit), (row, target, missed, unit)
        assert loss == reference.cross_entropy(row, given, **options)


def line_of(x, logit_scale=1.0, logit_softcap=None):
    """u, u' and |u''| in float64."""
    if logit_softcap is None:
        return logit_scale * x, np.full_like(x, logit_scale), np.zeros_like(x)
    y = logit_scale * x / logit_softcap
    slope = logit_scale / np.cosh(np.minimum(np.abs(y), 350.0)) ** 2
    return logit_softcap * np.tanh(y), slope, 2 * np.abs(np.tanh(y)) * slope * logit_scale / logit_softcap


@pytest.mark.parametrize("logit_scale", [0.7, 1 / 3, 1e-3, 17.1])
@pytest.mark.parametrize("row", ADVERSARIAL, ids=str)
def test_a_scale_costs_no_digit(row, logit_scale):
    """Not even beside an offset of 1e8: what the rounding of a x loses is kept."""
    exact_row = [mp.mpf(logit_scale) * mp.mpf(x) for x in row]
    for target in range(len(row)):
        loss, grad = reference.cross_entropy_with_grad(row, target, logit_scale=logit_scale, reduction="none")
        exact, exact_grad = exact_cross_entropy(exact_row, one_hot(target, len(row)))
        assert ulps(loss, exact) <= 3
        assert ulps(grad, [mp.mpf(logit_scale) * value for value in exact_grad]) <= 5


@pytest.mark.parametrize("row", ADVERSARIAL[:60:7] + ADVERSARIAL[-6:], ids=str)
@pytest.mark.parametrize("line", LINES, ids=str)
def test_no_option_is_the_option_of_one(row, line):
    """A cap far above every logit, a scale of 1, a z-loss of 0."""
    x, a = np.array(row), line["logit_scale"]
    plain = reference.cross_entropy_with_grad_hess(x, 0)
    found = reference.cross_entropy_with_grad_hess(x, 0, logit_scale=1.0, logit_softcap=None, z_loss=0.0)
    for got, expected in zip(found, plain, strict=True):
        assert_array_equal(got, expected)
    if np.max(np.abs(x), where=np.isfinite(x), initial=0) < 1e3:
        scaled = reference.cross_entropy(x, 0, logit_scale=a)
        assert_allclose(reference.cross_entropy(x, 0, logit_scale=a, logit_softcap=1e12), scaled, rtol=1e-10, atol=1e-300)


def test_the_slope_does_not_cancel():
    """1 - tanh² far out, where tanh rounds to 1."""
    x = np.array([30.0, 100.0, -200.0, 1700.0])
    c = 5.0
    u = c * np.tanh(x / c)
    _, grad = reference.cross_entropy_with_grad(x, 0, logit_softcap=c)
    _, of_scores = reference.cross_entropy_with_grad(u, 0)
    exact = [float(mp.mpf(g) * mp.sech(mp.mpf(v) / 5) ** 2) for g, v in zip(of_scores, x, strict=True)]
    assert_allclose(grad, exact, rtol=1e-14)
    assert 0 < grad[3] < 1e-290


def test_z_loss_pulls_every_row_that_counts():
    """Whatever the target's class weight is; rows ignored, or of weight 0, not. The mean's denominator stays."""
    x, target = rng(1).normal(0, 3, (5, 3)), np.array([0, 1, 2, -100, 1])
    options = {"weight": [0.0, 2.0, 1.0], "sample_weight": [1.5, -1.0, 1.0, 1.0, 0.0], "reduction": "none"}
    plain, with_z = (reference.cross_entropy(x, target, z_loss=z, **options) for z in (0.0, 0.25))
    expected = 0.25 * np.array([1.5, -1.0, 1.0, 0.0, 0.0]) * reference.logsumexp(x) ** 2
    assert_allclose(with_z - plain, expected, rtol=1e-13, atol=1e-15)
    denominator = 1.5 * 0 - 1.0 * 2.0 + 1.0 * 1.0
    mean = reference.cross_entropy(x, target, z_loss=0.25, **(options | {"reduction": "mean"}))
    assert_allclose(mean, with_z.sum() / denominator, rtol=1e-14)


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "normalizer"])
@pytest.mark.parametrize("form", ["indices", "probabilities", "focal"])
def test_options_meet_reductions_and_axes(form, reduction):
    """With everything that goes together; derivatives are differences of the loss and of the gradient."""
    r = rng(2)
    x, target = r.normal(0, 2, (4, 3, 2)), np.array([[0, 1], [2, 7], [1, 1], [0, 2]])
    options = {"axis": 1, "weight": [0.5, 2.0, 1.0], "sample_weight": r.uniform(-1, 2, (4, 1)), "reduction": reduction}
    options |= {"logit_scale": 1.3, "logit_softcap": 2.5, "z_loss": 0.2}
    options |= {"ignore_index": 7} if form != "probabilities" else {}
    options |= {"focal_gamma": 1.5} if form == "focal" else {"label_smoothing": 0.2}
    target = r.uniform(0, 1, x.shape) if form == "probabilities" else target
    if reduction == "normalizer":
        options |= {"reduction": "mean", "normalizer": 2.5}
    upstream = r.normal(size=(4, 2)) if reduction == "none" else -0.7
    value = functools.partial(reference.cross_entropy, target=target, **options)
    gradient = functools.partial(reference.cross_entropy_with_grad, target=target, **options)

    def along(function, v, h=2.0**-9):
        near, far = function(x + h * v) - function(x - h * v), function(x + 2 * h * v) - function(x - 2 * h * v)
        return (8 * near - far) / (12 * h)

    loss, grad, hess = reference.cross_entropy_with_grad_hess(x, target, grad_output=upstream, **options)
    assert_array_equal(loss, value(x))
    v = r.normal(size=x.shape)
    expected = np.sum(upstream * along(value, v))
    assert_allclose(np.sum(grad * v), expected, rtol=1e-8)
    product = reference.cross_entropy_hessp(x, target, v, **options)
    assert_allclose(product, along(lambda at: gradient(at)[1], v), rtol=1e-7, atol=1e-9)
    for k in range(3):  # rows do not meet, so all of them move at once
        unit = np.zeros(x.shape)
        unit[:, k] = 1.0
        expected = along(lambda at: gradient(at, grad_output=upstream)[1], unit)[:, k]
        assert_allclose(hess[:, k], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("line", LINES, ids=str)
def test_infinities_stay(line):
    """-inf marks a class that cannot occur, with a cap too; +inf and NaN spoil their own row alone."""
    x = np.array([[0.5, -INF, 1.0], [0.5, -INF, 1.0], [0.0, INF, 1.0], [0.0, NAN, 1.0], [-INF] * 3, [2.0, 1.0, 0.0]])
    target = np.array([0, 1, 0, 0, 0, 0])
    options = {"z_loss": 0.1, "reduction": "none", **line}
    loss, grad, hess = reference.cross_entropy_with_grad_hess(x, target, **options)
    product = reference.cross_entropy_hessp(x, target, np.ones_like(x), **options)
    without = reference.cross_entropy_with_grad_hess(x[:1, ::2], [0], **options)
    bad = [False, False, True, True, True, False]
    assert_array_equal(np.isnan(loss), bad)
    for result in (grad, hess, product):
        assert_array_equal(np.isnan(result), np.repeat(bad, 3).reshape(6, 3))
    assert loss[1] == INF
    assert_allclose(loss[0], without[0][0], rtol=1e-14)
    assert_allclose(grad[0], [without[1][0, 0], 0, without[1][0, 1]], rtol=1e-14)
    assert_allclose(hess[0], [without[2][0, 0], 0, without[2][0, 1]], rtol=1e-14)
    # At the impossible target the gradient of the score is -1; with a cap the score no longer changes there.
    assert grad[1, 1] == (-line["logit_scale"] if line["logit_softcap"] is None else 0)
    assert np.all(grad[1, ::2] > 0)
    assert np.all(hess[:2, 1] == 0)


def test_ignored_rows_with_options():
    x = np.array([[1.0, 2.0], [NAN, INF], [0.5, 0.0]])
    options = {"logit_scale": 2.0, "logit_softcap": 4.0, "z_loss": 0.3, "reduction": "none"}
    loss, grad, hess = reference.cross_entropy_with_grad_hess(x, [0, -100, 1], **options)
    assert loss[1] == 0 and np.all(grad[1] == 0) and np.all(hess[1] == 0)
    assert_array_equal(loss[::2], reference.cross_entropy(x[::2], [0, 1], **options))


@pytest.mark.parametrize(
    ("option", "values"),
    [("logit_scale", [0.0, -1.0, INF, NAN]), ("logit_softcap", [0.0, -1.0, INF, NAN]), ("z_loss", [-1e-9, INF, NAN])],
)
def test_options_out_of_range(option, values):
    functions = [reference.cross_entropy, reference.cross_entropy_with_grad, reference.cross_entropy_with_grad_hess]
    functions += [functools.partial(reference.cross_entropy_hessp, vector=np.zeros((2, 3)))]
    functions += [reference.row_statistics] if option != "z_loss" else []
    for function, value in itertools.product(functions, values):
        with pytest.raises(ValueError, match=rf"^{option} = "):
            function(np.zeros((2, 3)), target=[0, 1], **{option: value})


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_options_are_rounded_once(dtype):
    x, target = rng(3).normal(0, 6, (50, 5)).astype(dtype), rng(3).integers(0, 5, 50)
    options = {"logit_scale": 0.7, "logit_softcap": 9.0, "z_loss": 1e-3, "reduction": "none"}
    exact = reference.cross_entropy_with_grad_hess(x.astype(np.float64), target, **options)
    for got, value, kind in zip(
        reference.cross_entropy_with_grad_hess(x, target, **options), exact, (np.float32, dtype, dtype), strict=True
    ):
        assert got.dtype == kind
        assert_array_equal(got, value.astype(kind))


# ----------------------------------------------------------------------------------------------------
# The numbers of a row
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ADVERSARIAL, ids=str)
def test_statistics_are_exact(row):
    x = np.array(row)
    p, lse = exact_softmax(row)
    entropy = mp.fsum(v * (lse - mp.mpf(value)) for v, value in zip(p, row, strict=True) if v)
    for target in range(len(row)):
        found = reference.row_statistics(x, target)
        assert found.loss == reference.cross_entropy(x, target, reduction="none")
        assert abs(float(found.logsumexp - lse)) <= 2 * np.spacing(max(1.0, x.max(), -x.max()))
        assert ulps(found.entropy, entropy) <= 8
        assert found.rank == sum(value > row[target] for value in row)
        assert found.prediction == row.index(max(row))


@pytest.mark.parametrize("line", LINES, ids=str)
def test_statistics_of_scores(line):
    x = rng(4).normal(0, 6, (40, 20))
    target = rng(4).integers(0, 20, 40)
    found = reference.row_statistics(x, target, **line)
    for i in range(40):
        u = exact_scores([mp.mpf(value) for value in x[i]], **line)
        p, lse = exact_softmax(u)
        entropy = mp.fsum(a * (lse - b) for a, b in zip(p, u, strict=True))
        assert_allclose(
            [found.loss[i], found.logsumexp[i], found.entropy[i]],
            [float(v) for v in (lse - u[target[i]], lse, entropy)],
            rtol=1e-13,
        )
    assert_array_equal(found.rank, np.sum(x > np.take_along_axis(x, target[:, None], 1), axis=1))
    assert_array_equal(found.prediction, np.argmax(x, axis=1))


def test_a_sure_row_keeps_its_entropy():
    """Σ p log p of probabilities that are nearly 1 and 0, in which -log p_t would round to 0."""
    for margin in (20.0, 40.0, 300.0, 700.0):
        e = mp.exp(-mp.mpf(margin))
        assert ulps(reference.row_statistics([margin, 0.0], 0).entropy, mp.log1p(e) + margin * e / (1 + e)) <= 3


def test_statistics_without_a_result():
    x = np.array([[1.0, 3.0, 2.0], [NAN, 0, 1], [0, INF, 1], [-INF] * 3, [2.0, -INF, 5.0], [2.0, -INF, 5.0], [NAN, NAN, INF]])
    found = reference.row_statistics(x, [2, 0, 0, 0, 1, 0, -100])
    undecided = [False, True, True, True, False, False, False]
    for name in ("loss", "logsumexp", "entropy"):
        value = getattr(found, name)
        assert value.dtype == np.float64
        assert_array_equal(np.isnan(value), undecided)
        assert value[-1] == 0
    assert_array_equal(found.rank, [1, -1, -1, -1, 2, 1, -1])
    assert_array_equal(found.prediction, [1, -1, -1, -1, 2, 2, -1])
    assert found.loss[4] == INF
    assert found.entropy[4] == found.entropy[5] == reference.row_statistics([2.0, 5.0], 0).entropy
    assert found.logsumexp[4] == reference.logsumexp([2.0, 5.0])


def test_ties_and_caps():
    """A tie is not above the target, and the first of the largest is the prediction; a cap makes no ties."""
    found = reference.row_statistics([[1.0, 1.0, 0.0]] * 3, [0, 1, 2])
    assert_array_equal(found.rank, [0, 0, 2])
    assert_array_equal(found.prediction, [0, 0, 0])
    found = reference.row_statistics([400.0, 500.0, 300.0], 0, logit_softcap=1.0)
    assert (found.rank, found.prediction) == (1, 1)
    assert_allclose(found.entropy, math.log(3), rtol=1e-15)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "int8"])
def test_forms_of_statistics(name):
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), name) if name == "bfloat16" else name)
    x = rng(5).normal(0, 3, (4, 5, 3)).astype(dtype)
    target = rng(5).integers(0, 5, (4, 3))
    found = reference.row_statistics(x, target, axis=1)
    turned = reference.row_statistics(np.moveaxis(x, 1, -1), target)
    for field, value in found._asdict().items():
        kind = np.int64 if field in ("rank", "prediction") else np.float64 if name in ("float64", "int8") else np.float32
        assert (value.dtype, value.shape) == (kind, (4, 3))
        assert_array_equal(value, getattr(turned, field))
        one = getattr(reference.row_statistics(x[0, :, 0], target[0, 0]), field)
        assert type(one) is kind and one == value[0, 0]
    nothing = reference.row_statistics(np.zeros((0, 3), dtype), np.zeros(0, int))
    assert all(value.shape == (0,) for value in nothing)
    assert all(value.shape == (0,) for value in reference.row_statistics(np.zeros((0, 0), dtype), np.zeros(0, int)))


def test_bad_arguments_of_statistics():
    assert found_defaults("row_statistics") == {
        "axis": -1,
        "ignore_index": -100,
        "logit_scale": 1.0,
        "logit_softcap": None,
        "n_threads": None,
    }
    with pytest.raises(ValueError, match="row_statistics needs class indices"):
        reference.row_statistics(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(IndexError, match=r"target\[1\] = 3 is not in \[0, 3\)"):
        reference.row_statistics([[0.0, 1.0, 2.0], [NAN] * 3], [0, 3])
    with pytest.raises(ValueError, match="no classes"):
        reference.row_statistics(np.zeros((2, 0)), [0, 0])


def found_defaults(name):
    parameters = inspect.signature(getattr(reference, name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


# ----------------------------------------------------------------------------------------------------
# KL divergence
# ----------------------------------------------------------------------------------------------------


def exact_kl(x, y, temperature=1.0):
    """Σ q (log q - log p) and (p - q) / T."""
    t = mp.mpf(temperature)
    x, y = ([mp.mpf(v) / t for v in row] for row in (x, y))
    (p, lse_p), (q, lse_q) = exact_softmax(x), exact_softmax(y)
    loss = mp.fsum(b * ((v - lse_q) - (u - lse_p)) for b, u, v in zip(q, x, y, strict=True) if b)
    return loss, [(a - b) / t for a, b in zip(p, q, strict=True)], q


def pairs():
    """Rows, and the same with a little, much, or all of it changed."""
    r = rng(6)
    rows = [row for row in ADVERSARIAL if len(row) > 1]
    rows += [r.normal(0, spread, n).tolist() for spread in (0.1, 3.0, 30.0) for n in (2, 10, 100)]
    for row in rows[::3]:
        for step in (1e-300, 1e-15, 1e-8, 1e-3, 0.3, 2.0, 40.0):
            yield row, (np.array(row) + step * r.normal(size=len(row))).tolist()
            yield row, (np.array(row) + step * np.eye(len(row))[0] - 1e4 * (step > 1)).tolist()
        yield row, row
        yield row, (np.array(row) + 17.0).tolist()
        yield row, row[::-1]


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_divergence_is_exact(temperature):
    """However close the two are; the gradient's unit is that of the largest change."""
    for x, y in pairs():
        loss, grad = reference.kl_divergence_with_grad(x, y, temperature=temperature, reduction="none")
        exact, exact_grad, q = exact_kl(x, y, temperature)
        if any(a == -INF < b for a, b in zip(x, y, strict=True)):
            exact = mp.inf
            assert loss == INF
        else:
            assert abs(float(mp.mpf(float(loss)) - exact)) <= 3e-14 * float(exact) + 1e-307, (x, y, loss, exact)
        spread = max((abs(g) / b for g, b in zip(exact_grad, q, strict=True) if b), default=0)
        for got, right, share in zip(grad, exact_grad, q, strict=True):
            unit = max(abs(right), share * min(spread, 1))
            assert abs(float(mp.mpf(float(got)) - right)) <= 3e-14 * float(unit) + 1e-307, (x, y, got, right)


def test_divergence_of_many_classes_that_are_close():
    """Σ q log(q / p) is off by 1e-16 there, a hundred million times the value."""
    r = rng(7)
    x = r.normal(0, 3, 5000)
    y = x + 1e-12 * r.normal(size=5000)
    exact, _, _ = exact_kl(x.tolist(), y.tolist())
    assert 0 < exact < 1e-23
    assert_allclose(reference.kl_divergence(x, y), float(exact), rtol=1e-12)


def test_a_rare_class_that_grows():
    """From a probability below float64's range to 1e-13: what it takes from the others is exact, too."""
    x, y = [0.0, -0.3, -750.0], [0.0, -0.3, -30.0]
    loss, grad = reference.kl_divergence_with_grad(x, y)
    exact, exact_grad, _ = exact_kl(x, y)
    assert_allclose(loss, float(exact), rtol=1e-14)
    assert_allclose(grad, [float(g) for g in exact_grad], rtol=1e-13)


def test_classes_that_cannot_occur():
    x = np.array([[0.0, -INF, 1.0], [0.0, -INF, 1.0], [0.0, 2.0, 1.0], [0.0, -INF, -INF], [0.0, -INF, 1.0]])
    y = np.array([[0.5, -INF, 1.0], [0.5, 3.0, 1.0], [0.5, -INF, 1.0], [-INF, 1.0, 2.0], [0.5, -2000.0, 1.0]])
    loss, grad = reference.kl_divergence_with_grad(x, y, temperature=2.0, reduction="none")
    p, q = reference.softmax(x / 2), reference.softmax(y / 2)
    assert_array_equal(np.isinf(loss), [False, True, False, True, True])
    assert_array_equal(loss[np.isinf(loss)], INF)
    assert_allclose(loss[0], reference.kl_divergence([0.0, 1.0], [0.5, 1.0], temperature=2.0), rtol=1e-15)
    possible = [0, 2]
    assert_allclose(loss[2], np.sum(q[2, possible] * np.log(q[2, possible] / p[2, possible])), rtol=1e-13)
    assert_allclose(grad, (p - q) / 2, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("bad", [[NAN, 0, 1], [0, INF, 1], [-INF] * 3])
def test_rows_without_a_distribution(bad):
    good, other = [0.0, 1.0, 2.0], [1.0, 1.0, 1.0]
    for x, y in (([good, bad], [other, good]), ([good, good], [other, bad]), ([good, bad], [other, bad])):
        loss, grad = reference.kl_divergence_with_grad(x, y, reduction="none")
        assert_array_equal(np.isnan(loss), [False, True])
        assert_array_equal(np.isnan(grad), [[False] * 3, [True] * 3])
        assert math.isnan(reference.kl_divergence(x, y))
        loss, grad = reference.kl_divergence_with_grad(x, y, sample_weight=[1, 0])
        assert loss == reference.kl_divergence(x[:1], y[:1])
        assert_array_equal(grad[1], 0)


def test_divergence_at_the_ends_of_float64():
    """Probabilities too small for float64 on either side: nothing is NaN."""
    assert reference.kl_divergence([0.0, 1000.0], [1000.0, 0.0]) == 1000.0
    assert reference.kl_divergence([0.0, -1000.0], [0.0, -2000.0]) == 0.0
    assert_allclose(reference.kl_divergence([0.0, -1000.0], [0.0, -100.0]), 0.0, atol=1e-40)
    loss, grad = reference.kl_divergence_with_grad([1e5, 0.0, -1e5], [-1e5, 0.0, 1e5])
    assert loss == 2e5
    assert_array_equal(grad, [1, 0, -1])


def test_reductions_of_divergence():
    r = rng(8)
    x, y = r.normal(0, 2, (2, 4, 3, 2))
    s = r.uniform(-1, 2, (4, 1))
    options = {"axis": 1, "temperature": 1.7, "sample_weight": s}
    rows, row_grads = reference.kl_divergence_with_grad(x, y, reduction="none", **options)
    plain = reference.kl_divergence(x, y, axis=1, temperature=1.7, reduction="none")
    assert_allclose(rows, s * plain, rtol=1e-15)
    weights = np.broadcast_to(s, (4, 2)).sum()
    for reduction, normalizer, divisor in (("mean", None, weights), ("mean", 7.5, 7.5), ("sum", None, 1.0)):
        loss, grad = reference.kl_divergence_with_grad(x, y, reduction=reduction, normalizer=normalizer, **options)
        assert type(loss) is float
        assert_allclose(loss, rows.sum() / divisor, rtol=1e-14)
        assert_allclose(grad, row_grads / divisor, rtol=1e-14)
        upstream = reference.kl_divergence_with_grad(
            x, y, reduction=reduction, normalizer=normalizer, grad_output=-3.0, **options
        )
        assert upstream[0] == loss
        assert_allclose(upstream[1], -3 * grad, rtol=1e-15)
    upstream = r.normal(size=(4, 2))
    _, grad = reference.kl_divergence_with_grad(x, y, reduction="none", grad_output=upstream, **options)
    assert_allclose(grad, upstream[:, None] * row_grads, rtol=1e-15)
    out = np.empty_like(x)
    assert reference.kl_divergence_with_grad(x, y, reduction="none", out=out, **options)[1] is out
    assert_array_equal(out, row_grads)
    # of nothing
    assert math.isnan(reference.kl_divergence(np.zeros((0, 3)), np.zeros((0, 3))))
    assert math.isnan(reference.kl_divergence(x, y, axis=1, sample_weight=0))
    assert reference.kl_divergence(x, y, axis=1, sample_weight=0, normalizer=0) == 0.0
    assert reference.kl_divergence([0.0, 1.0], [1.0, 1.0], reduction="none").dtype == np.float64


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_of_divergence(name):
    """Of the logits; the reference logits may have another."""
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), name) if name == "bfloat16" else name)
    x, y = rng(9).normal(0, 2, (6, 5)).astype(dtype), rng(10).normal(0, 2, (6, 5))
    loss, grad = reference.kl_divergence_with_grad(x, y, reduction="none")
    assert loss.dtype == (np.float64 if name == "float64" else np.float32)
    assert grad.dtype == dtype
    exact = reference.kl_divergence_with_grad(x.astype(np.float64), y, reduction="none")
    assert_array_equal(loss, exact[0].astype(loss.dtype))
    assert_allclose(grad.astype(np.float64), exact[1], rtol=2.0**-8, atol=1e-3 if name == "float16" else 1e-30)


def test_bad_arguments_of_divergence():
    assert found_defaults("kl_divergence") == {
        "axis": -1, "temperature": 1.0, "sample_weight": None, "reduction": "mean", "normalizer": None, "n_threads": None,
    }  # fmt: skip
    x = np.zeros((2, 3))
    for temperature in (0.0, -1.0, INF, NAN):
        with pytest.raises(ValueError, match=r"^temperature = "):
            reference.kl_divergence(x, x, temperature=temperature)
    with pytest.raises(ValueError, match="reference_logits has shape"):
        reference.kl_divergence(x, np.zeros((2, 4)))
    with pytest.raises(TypeError, match="reference_logits has dtype"):
        reference.kl_divergence(x, np.zeros((2, 3), complex))
    with pytest.raises(ValueError, match="sample_weight must be finite"):
        reference.kl_divergence(x, x, sample_weight=[1, NAN])
