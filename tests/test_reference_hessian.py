"""The second derivatives of the reference: against exact arithmetic, differences, PyTorch, and one another.

Most exact values are second differences of the losses as they are defined, in 400 digits: no derivative is written down twice.
"""

import functools
import math

import mpmath
import numpy as np
import pytest
import test_focal
import truth
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal
from reference_functions import REDUCTIONS, one_hot, rng
from test_reference_values import ADVERSARIAL, MARGINS, exact_softmax, logits_and_target, ulps
from truth import real

from celoss import reference

INF = math.inf
GAMMAS = [0.1, 0.5, 1.0, 2.0, 5.0]

mp = mpmath.mp.clone()
mp.dps = 400


def vector_of(n, seed=0):
    """Numbers of either sign and of several sizes, with a 0 and two that are equal."""
    return np.resize([1.0, -2.5, 0.0, 300.0, 1.0, -1e-3, 0.7], n + seed)[seed:]


# ----------------------------------------------------------------------------------------------------
# Exact values of rows
# ----------------------------------------------------------------------------------------------------


def exact_loss(row, a, target=None, gamma=0):
    """The sum of a_c (lse - x_c), times 1 - p_t to the power of gamma."""
    e = [mp.exp(x) for x in row]
    total = mp.fsum(e)
    lse = mp.log(total)
    loss = mp.fsum(v * (lse - x) for v, x in zip(a, row, strict=True) if v)
    return loss * (mp.fsum(v for k, v in enumerate(e) if k != target) / total) ** gamma if gamma else loss


def exact_second(loss, x, v):
    """∂²l/∂x_k² and (H v)_k by second differences, whose steps of 1e-80 leave 80 digits right and more."""
    h, x = mp.mpf(10) ** -80, [mp.mpf(value) for value in x]
    at = functools.cache(lambda *step: loss([value + h * s for value, s in zip(x, step, strict=True)]))
    n, along = len(x), [mp.mpf(value) for value in v]
    hess, product = [], []
    for k in range(n):
        unit = [mp.mpf(j == k) for j in range(n)]
        minus = [-s for s in unit]
        hess.append((at(*unit) - 2 * at(*[mp.mpf(0)] * n) + at(*minus)) / h**2)
        plus = [at(*(s + u for s, u in zip(along, step, strict=True))) for step in (unit, minus)]
        less = [at(*(u - s for s, u in zip(along, step, strict=True))) for step in (unit, minus)]
        product.append((plus[0] - plus[1] - less[0] + less[1]) / (4 * h**2))
    return hess, product


def exact_products(row, v):
    """p_k (1 - p_k), p_k (v_k - Σ_c p_c v_c), and the size of what the second is the sum of once nothing but v cancels."""
    p, _ = exact_softmax(row)
    v = [mp.mpf(value) for value in v]
    mean, size = mp.fsum(a * b for a, b in zip(p, v, strict=True)), mp.fsum(a * abs(b) for a, b in zip(p, v, strict=True))
    scale = [a * ((1 - a) * abs(b) + size - a * abs(b)) for a, b in zip(p, v, strict=True)]
    return [a * (1 - a) for a in p], [a * (b - mean) for a, b in zip(p, v, strict=True)], scale


@pytest.mark.parametrize("row", ADVERSARIAL, ids=str)
def test_rows_are_exact(row):
    x = np.array(row)
    for seed in (0, 2):
        v = vector_of(len(row), seed)
        exact_hess, exact_product, scale = exact_products(row, v)
        for target in range(len(row)):
            _, _, hess = reference.cross_entropy_with_grad_hess(x, target, reduction="none")
            assert ulps(hess, exact_hess) <= 4
            product = reference.cross_entropy_hessp(x, target, v, reduction="none")
            assert ulps(product, exact_product, scale) <= 6


@pytest.mark.parametrize("row", ADVERSARIAL, ids=str)
def test_float32_is_rounded_once(row):
    row = np.array(row, np.float32)
    v = vector_of(len(row)).astype(np.float32)
    exact_hess, exact_product, scale = exact_products(row.tolist(), v.tolist())
    _, _, hess = reference.cross_entropy_with_grad_hess(row, 0, reduction="none")
    assert hess.dtype == np.float32
    assert_array_equal(hess, np.array([float(h) for h in exact_hess], np.float32))
    product = reference.cross_entropy_hessp(row, 0, v, reduction="none")
    assert product.dtype == np.float32
    assert ulps(product, exact_product, [max(a, abs(b) * 2**24) * 2**-24 for a, b in zip(scale, exact_product, strict=True)]) <= 1


@pytest.mark.parametrize("n_classes", [10, 100, 1000])
def test_many_classes_are_exact(n_classes):
    row, v = rng(n_classes).normal(0, 3, (2, n_classes))
    exact_hess, exact_product, scale = exact_products(row.tolist(), v.tolist())
    assert ulps(reference.cross_entropy_with_grad_hess(row, 0)[2], exact_hess) <= 4
    assert ulps(reference.cross_entropy_hessp(row, 0, v), exact_product, scale) <= 6


@pytest.mark.parametrize("sample_weight", [1.5, -0.75])
@pytest.mark.parametrize("margin", MARGINS[:-1])
def test_options_are_exact(margin, sample_weight):
    row, v = [1.0, 1.0 + margin, 0.5, -2.0], vector_of(4)
    w, s, epsilon = np.array([0.5, 2.0, 0.0, 1.25]), sample_weight, 0.125  # dyadic: the coefficients are exact
    q = np.array([0.25, 0.0, 1.5, 0.125])
    weights = {"weight": w, "sample_weight": s}
    scale = exact_products(row, v)[2]
    for target, options, coefficients in (
        *((t, {}, one_hot(t, 4)) for t in range(4)),
        *((t, {"label_smoothing": epsilon}, (1 - epsilon) * one_hot(t, 4) + epsilon / 4) for t in range(4)),
        (q, {}, q),
        (q, {"label_smoothing": epsilon}, (1 - epsilon) * q + epsilon / 4),
    ):
        a = s * w * coefficients
        exact_hess, exact_product = exact_second(functools.partial(exact_loss, a=a.tolist()), row, v)
        _, _, hess = reference.cross_entropy_with_grad_hess(row, target, reduction="none", **weights, **options)
        assert ulps(hess, exact_hess) <= 5
        product = reference.cross_entropy_hessp(row, target, v, reduction="none", **weights, **options)
        assert ulps(product, exact_product, abs(np.sum(a)) * np.array(scale, float)) <= 6


SURE_OR_WRONG = [
    *([margin + offset, offset, offset - 0.5] for margin in (0.0, 5.0, 9.3, 17.0, 30.0, 100.0) for offset in (0.0, 1e8)),
    [0.1, 40.2, -3.3],
    [2.0, 2.0],
    [7.5],
    [1.0, -INF, 3.0],
]  # fmt: skip


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("row", SURE_OR_WRONG, ids=str)
def test_focal_rows_are_exact(row, gamma):
    """Sure and right, sure and wrong. Where terms of both signs meet, the unit is that of the convex term."""
    v, s = vector_of(len(row)), -1.5
    convex_hess, _, convex_product = exact_products(row, v)
    for target in (t for t in range(len(row)) if row[t] > -INF):
        a = (s * 2.0 * one_hot(target, len(row))).tolist()
        loss = functools.partial(exact_loss, a=a, target=target, gamma=mp.mpf(gamma))
        exact_hess, exact_product = exact_second(loss, row, v)
        options = {"weight": [2.0] * len(row), "sample_weight": s, "focal_gamma": gamma, "reduction": "none"}
        convex = 3 * (1 - exact_softmax(row)[0][target]) ** gamma
        _, _, hess = reference.cross_entropy_with_grad_hess(row, target, **options)
        assert ulps(hess, exact_hess, [max(abs(h), convex * c) for h, c in zip(exact_hess, convex_hess, strict=True)]) <= 16
        product = reference.cross_entropy_hessp(row, target, v, **options)
        scale = [max(abs(h), convex * c) for h, c in zip(exact_product, convex_product, strict=True)]
        assert ulps(product, exact_product, scale) <= 16


def test_a_focal_loss_is_not_convex():
    """A wrong and sure row: less would be gained by moving on than was gained so far."""
    _, _, hess = reference.cross_entropy_with_grad_hess([0.0, 5.0], 0, focal_gamma=2.0)
    assert np.all(hess < 0)
    assert reference.cross_entropy_hessp([0.0, 5.0], 0, [1.0, -1.0], focal_gamma=2.0)[0] < 0
    assert reference.binary_cross_entropy_with_grad_hess(-5.0, 1, focal_gamma=2.0)[2] < 0


# ----------------------------------------------------------------------------------------------------
# Exact values of binary scores
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [0.0, 5e-324, 1e-10, 0.5, 2.0, 17.0, 40.0, 100.0, 700.0, INF])
@pytest.mark.parametrize("sign", [1, -1])
def test_binary_is_exact(z, sign):
    z *= sign
    sigma, rest = 1 / (1 + mp.exp(-mp.mpf(z))), 1 / (1 + mp.exp(mp.mpf(z)))
    for y, w, pos_weight, epsilon in ((1, 1, 1, 0), (0, 1, 1, 0), (0.25, 3, 0.5, 0), (1, -1.5, 4, 0.25), (0, 2, 4, 2.0**-40)):
        label = (1 - epsilon) * y + mp.mpf(epsilon) / 2
        exact = w * (pos_weight * label + 1 - label) * sigma * rest
        options = {"weight": w, "pos_weight": pos_weight, "label_smoothing": epsilon, "reduction": "none"}
        assert ulps(reference.binary_cross_entropy_with_grad_hess(z, y, **options)[2], exact) <= 5
        assert ulps(reference.binary_cross_entropy_hessp(z, y, -0.3, **options), -mp.mpf(0.3) * exact) <= 6


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("z", [0.0, 1e-10, 0.5, 2.0, 4.0, 9.3, 17.0, 30.0, 100.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_focal_binary_is_exact(sign, z, gamma):
    z *= sign
    w, pos_weight = -1.5, 2.5

    def loss(at, y):
        sigma, rest = 1 / (1 + mp.exp(-at[0])), 1 / (1 + mp.exp(at[0]))
        plain = -w * (pos_weight * y * mp.log(sigma) + (1 - y) * mp.log(rest))
        return (sigma * (1 - y) + rest * y) ** mp.mpf(gamma) * plain

    for y in (0.0, 1.0, 0.25, 0.5, 1e-5):
        hess, product = exact_second(functools.partial(loss, y=mp.mpf(y)), [z], [-0.3])
        sigma, rest = 1 / (1 + mp.exp(-mp.mpf(z))), 1 / (1 + mp.exp(mp.mpf(z)))
        convex = (sigma * (1 - y) + rest * y) ** gamma * sigma * rest
        options = {"weight": w, "pos_weight": pos_weight, "focal_gamma": gamma, "reduction": "none"}
        got = reference.binary_cross_entropy_with_grad_hess(z, y, **options)[2]
        assert ulps(got, hess[0], [max(abs(hess[0]), convex)]) <= 16
        got = reference.binary_cross_entropy_hessp(z, y, -0.3, **options)
        assert ulps(got, product[0], [max(abs(product[0]), convex * 0.3)]) <= 16


# ----------------------------------------------------------------------------------------------------
# Differences of gradients
# ----------------------------------------------------------------------------------------------------


def difference(gradient, x, v, h):
    """The derivative of a gradient along v, of order four."""
    near, far = gradient(x + h * v) - gradient(x - h * v), gradient(x + 2 * h * v) - gradient(x - 2 * h * v)
    return (8 * near - far) / (12 * h)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_products_are_differences_in_long_double(classes, gamma):
    x, target = test_focal.problem(classes, np.float64, rows=30)
    v = rng(20).uniform(-1, 1, x.shape)
    product = reference.cross_entropy_hessp(x, target, v, focal_gamma=gamma, reduction="none")
    exact = difference(lambda at: test_focal.exact(at, target, gamma)[1], x.astype(real), v.astype(real), real(2) ** -11)
    _, scale = truth.hessp(x, np.ones(len(x)), v)
    far = 1e-11 * scale if gamma == 0 else 1e-11  # a focal gradient's derivatives are no larger than those of its largest row
    assert np.all(np.abs(product - exact) <= far)


def all_options(form, reduction):
    """Arguments of rows (4, 3, 2) with everything that goes together, and the upstream gradient."""
    r = rng(21)
    options = {"axis": 1, "weight": [0.5, 2.0, 1.0], "sample_weight": r.uniform(-1, 2, (4, 1)), "reduction": reduction}
    target = np.array([[0, 1], [2, 7], [1, 1], [0, 2]])
    if form == "probabilities":
        target = r.uniform(0, 1, (4, 3, 2))
    else:
        options["ignore_index"] = 7
    options |= {"focal_gamma": 1.5} if form == "focal" else {"label_smoothing": 0.2}
    if reduction == "normalizer":
        options |= {"reduction": "mean", "normalizer": 2.5}
    upstream = r.normal(size=(4, 2)) if reduction == "none" else -0.7
    return r.normal(0, 2, (4, 3, 2)), target, options, upstream


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "normalizer"])
@pytest.mark.parametrize("form", ["indices", "probabilities", "focal"])
def test_second_derivatives_of_rows_are_differences(form, reduction):
    x, target, options, upstream = all_options(form, reduction)
    v = rng(22).normal(size=x.shape)
    gradient = functools.partial(reference.cross_entropy_with_grad, target=target, **options)
    expected = difference(lambda at: gradient(at)[1], x, v, 2.0**-9)
    assert_allclose(reference.cross_entropy_hessp(x, target, v, **options), expected, rtol=1e-8, atol=1e-10)
    loss, grad, hess = reference.cross_entropy_with_grad_hess(x, target, grad_output=upstream, **options)
    alone = gradient(x, grad_output=upstream)
    assert_array_equal(loss, alone[0])
    assert_array_equal(grad, alone[1])
    for k in range(3):  # rows do not meet, so all of them move at once
        unit = np.zeros(x.shape)
        unit[:, k] = 1.0
        expected = difference(lambda at: gradient(at, grad_output=upstream)[1], x, unit, 2.0**-9)
        assert_allclose(hess[:, k], expected[:, k], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "normalizer"])
@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_second_derivatives_of_scores_are_differences(gamma, reduction):
    r = rng(23)
    z, v = r.normal(0, 2, (2, 4, 3))
    y, w = r.uniform(0, 1, z.shape), r.uniform(-1, 2, 3)
    options = {"weight": w, "pos_weight": 2.5, "reduction": reduction}
    options |= {"focal_gamma": gamma} if gamma else {"label_smoothing": 0.2}
    if reduction == "normalizer":
        options |= {"reduction": "mean", "normalizer": 2.5}
    upstream = r.normal(size=z.shape) if reduction == "none" else 1.9
    gradient = functools.partial(reference.binary_cross_entropy_with_grad, target=y, **options)
    product = reference.binary_cross_entropy_hessp(z, y, v, **options)
    assert_allclose(product, difference(lambda at: gradient(at)[1], z, v, 2.0**-9), rtol=1e-8, atol=1e-10)
    loss, grad, hess = reference.binary_cross_entropy_with_grad_hess(z, y, grad_output=upstream, **options)
    alone = gradient(z, grad_output=upstream)
    assert_array_equal(loss, alone[0])
    assert_array_equal(grad, alone[1])
    expected = difference(lambda at: gradient(at, grad_output=upstream)[1], z, np.ones(z.shape), 2.0**-9)
    assert_allclose(hess, expected, rtol=1e-8, atol=1e-10)


# ----------------------------------------------------------------------------------------------------
# PyTorch, twice backward
# ----------------------------------------------------------------------------------------------------


def torch_second(loss, x, v, upstream):
    """Diagonal, and product with `v`, of the Hessian of Σ upstream · loss; `upstream` counts for the diagonal only."""
    torch = pytest.importorskip("torch")
    x, v, upstream = torch.tensor(x), torch.tensor(v), torch.tensor(upstream)
    hessian = torch.autograd.functional.hessian(lambda at: (upstream * loss(at)).sum(), x)
    hess = torch.diagonal(hessian.reshape(x.numel(), x.numel())).reshape(x.shape)
    _, product = torch.autograd.functional.hvp(lambda at: loss(at).sum(), x, v)
    return hess.numpy(), product.numpy()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["indices", "ignored", "probabilities"])
def test_rows_are_those_of_torch(form, weighted, label_smoothing, reduction):
    torch = pytest.importorskip("torch")
    r = rng(24)
    x, v = r.normal(0, 4, (2, 4, 5, 3))  # classes along axis 1, as PyTorch wants them
    target = r.uniform(0, 1, x.shape) if form == "probabilities" else r.integers(0, 5, (4, 3))
    if form == "ignored":
        target[::2, 1] = -100
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    weight = np.array([0.5, 0.0, 3.0, 1.0, 0.1]) if weighted else None
    upstream = r.normal(size=(4, 3)) if reduction == "none" else np.array(-1.7)
    tensors = {"target": torch.tensor(target), "weight": None if weight is None else torch.tensor(weight)}
    hess, product = torch_second(lambda at: torch.nn.functional.cross_entropy(at, **tensors, **options), x, v, upstream)
    options |= {"axis": 1, "weight": weight}
    got = reference.cross_entropy_with_grad_hess(x, target, grad_output=upstream, **options)[2]
    assert_allclose(got, hess, rtol=1e-12, atol=1e-14)
    assert_allclose(reference.cross_entropy_hessp(x, target, v, **options), product, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_scores_are_those_of_torch(gamma, reduction):
    """A focal factor as torchvision makes it."""
    torch = pytest.importorskip("torch")
    r = rng(25)
    x, v = r.normal(0, 3, (2, 7, 4))
    y, w, pos_weight = r.uniform(0, 1, x.shape), r.uniform(0, 3, (7, 1)), r.uniform(0, 3, 4)
    upstream = r.normal(size=x.shape) if reduction == "none" else np.array(0.3)

    def loss(at):
        label, weights = torch.tensor(y), {"weight": torch.tensor(w), "pos_weight": torch.tensor(pos_weight)}
        plain = torch.nn.functional.binary_cross_entropy_with_logits(at, label, **weights, reduction="none")
        p = torch.sigmoid(at)
        all_of_them = plain * (1 - (p * label + (1 - p) * (1 - label))) ** gamma if gamma else plain
        return {"mean": all_of_them.mean, "sum": all_of_them.sum, "none": all_of_them.clone}[reduction]()

    hess, product = torch_second(loss, x, v, upstream)
    options = {"weight": w, "pos_weight": pos_weight, "focal_gamma": gamma, "reduction": reduction}
    got = reference.binary_cross_entropy_with_grad_hess(x, y, grad_output=upstream, **options)[2]
    assert_allclose(got, hess, rtol=1e-12, atol=1e-13)
    assert_allclose(reference.binary_cross_entropy_hessp(x, y, v, **options), product, rtol=1e-12, atol=1e-13)


# ----------------------------------------------------------------------------------------------------
# One another
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"focal_gamma": 0.5}, {"focal_gamma": 2.0}], ids=str)
@pytest.mark.parametrize("row", [row for row in ADVERSARIAL if len(row) <= 4], ids=str)
def test_the_diagonal_is_that_of_products(row, options):
    """H e_k has the same bits at k as the diagonal; its columns are symmetric, and each sums to 0."""
    n = len(row)
    x, target = np.array([row] * n), np.zeros(n, int)
    hess = reference.cross_entropy_with_grad_hess(row, 0, **options)[2]
    columns = reference.cross_entropy_hessp(x, target, np.eye(n), reduction="none", **options)
    assert_array_equal(np.diag(columns), hess)
    size = np.abs(columns)
    assert np.all(np.abs(columns - columns.T) <= 1e-14 * size)
    assert np.all(np.abs(columns.sum(axis=1)) <= 1e-14 * size.sum(axis=1))


@settings(max_examples=50, deadline=None)
@given(logits_and_target)
def test_the_sum_rule(case):
    """A common offset of a row changes nothing, so H 1 = 0; and H is positive semidefinite without a focal factor."""
    x, target = case
    p, ones = reference.softmax(x), np.ones(x.shape)
    for options in ({"weight": np.linspace(0.5, 2, x.shape[1])}, {"label_smoothing": 0.3}, {"focal_gamma": 2.0}):
        flat = reference.cross_entropy_hessp(x, target, ones, reduction="none", **options)
        assert np.all(np.abs(flat) <= 1e-14 * x.shape[1] * p)
    _, _, hess = reference.cross_entropy_with_grad_hess(x, target, reduction="none")
    assert np.all((hess >= 0) & (hess <= 0.25 + 4 * np.spacing(0.25)))  # p (1 - p) is at most 1/4, and rounded
    v = np.sin(np.arange(x.size)).reshape(x.shape)
    assert np.all(np.sum(v * reference.cross_entropy_hessp(x, target, v, reduction="none"), axis=1) >= -1e-15)


def test_binary_is_softmax_of_zero_and_z():
    z = np.array([*MARGINS, 0.0, 0.3, 3.0])
    z = np.concatenate([z, -z])
    rows, v = np.stack([np.zeros_like(z), z], axis=1), np.full(z.shape, 0.7)
    for label in (0, 1):
        y = np.full(z.shape, label)
        for gamma in (0.0, 2.0):
            options = {"focal_gamma": gamma, "reduction": "none"}
            hess = reference.binary_cross_entropy_with_grad_hess(z, y, **options)[2]
            of_rows = reference.cross_entropy_with_grad_hess(rows, y, **options)[2]
            assert_allclose(hess, of_rows[:, 1], rtol=2e-14)
            assert_allclose(hess, of_rows[:, 0], rtol=2e-14)
            product = reference.binary_cross_entropy_hessp(z, y, v, **options)
            of_rows = reference.cross_entropy_hessp(rows, y, np.stack([0 * v, v], axis=1), **options)
            assert_array_equal(product, hess * v)
            assert_allclose(of_rows, np.stack([-product, product], axis=1), rtol=2e-14)


# ----------------------------------------------------------------------------------------------------
# What the tests of the kernels call the truth
# ----------------------------------------------------------------------------------------------------


@truth.needs_wide
@pytest.mark.parametrize("row", ADVERSARIAL, ids=str)
def test_truth_of_rows(row):
    """Below half an ulp of float64: it is better than what it judges."""
    v, mass = vector_of(len(row)), -1.75
    exact_hess, exact_product, scale = exact_products(row, v)
    x = np.array([row])
    assert_digits(truth.cross_entropy_hess(x, [0])[0], exact_hess)
    a = np.zeros((1, len(row)))
    a[0, -1] = 1.0
    a[0, 0] += mass - 1.0
    assert_digits(truth.blended_hess(x, a)[0], [mass * h for h in exact_hess])
    product, size = truth.hessp(x, [mass], [v])
    assert_digits(product[0], [mass * h for h in exact_product], [abs(mass) * s for s in scale])
    p, _ = exact_softmax(row)
    assert_digits(size[0], [abs(mass) * mp.fsum(a * abs(mp.mpf(b)) for a, b in zip(p, v, strict=True))])


@truth.needs_wide
def test_truth_of_scores():
    z = np.array([0.0, 1e-10, 0.5, 2.0, 17.0, 40.0, 100.0, 700.0, 745.0, -0.5, -745.0])
    exact = [1 / (1 + mp.exp(-mp.mpf(v))) / (1 + mp.exp(mp.mpf(v))) for v in z.tolist()]
    assert_digits(truth.binary_hess(z), exact)
    assert_array_equal(truth.binary_hess([INF, -INF, math.nan]), [0, 0, math.nan])


def assert_digits(got, exact, scale=None):
    """Within four of the 64 bits of a long double."""
    assert got.dtype == real
    sizes = exact if scale is None else scale
    for value, right, size in zip(got, exact, sizes, strict=True):
        assert abs(value - real(mp.nstr(right, 40))) <= 2.0**-60 * abs(real(mp.nstr(mp.mpf(size), 40)))
