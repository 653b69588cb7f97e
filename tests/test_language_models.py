"""The numbers of a row, and the distance of two distributions: exact values, edges, layouts, errors."""

import math

import mpmath
import numpy as np
import pytest
import truth

import celoss
from celoss import reference

DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]
CLASSES = [1, 2, 3, 5, 10, 17, 96, 97, 130, 1000]
INF, NAN = np.inf, np.nan

mp = mpmath.mp.clone()
mp.prec = 300


def problem(classes, dtype, rows=40, seed=0):
    """Rows that are sure, sure and wrong, far from the origin, tied, plain."""
    rng = np.random.default_rng(seed)
    x = 3 * rng.standard_normal((rows, classes))
    target = rng.integers(classes, size=rows)
    sure = np.arange(rows) % 3 == 0
    x[sure, target[sure]] += np.linspace(5, 30, sure.sum())
    x[1::6, target[1::6] - 1] += 20
    x[2::6] += 1000
    x[5:6] = 0.25
    return x.astype(dtype), target


# ---- the numbers of a row --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_exact_statistics(classes, dtype, level):
    x, target = problem(classes, dtype)
    p, _, nll = truth.softmax(x)
    _, m, e = truth.exponentials(x)
    got = celoss.row_statistics(x, target)
    at = np.arange(len(x)), target
    truth.assert_ulp(got.loss, nll[at], 1 if dtype == np.float32 else 2)
    # lse may be near 0 where m and the logarithm cancel: in ulp of the larger of them.
    rest = np.log(e.sum(axis=-1, keepdims=True))
    truth.assert_ulp(got.logsumexp, (m + rest)[:, 0], 2, scale=np.maximum(np.abs(m), rest)[:, 0])
    truth.assert_ulp(got.entropy, (p * nll).sum(axis=-1), 3 if dtype == np.float32 else 6)
    np.testing.assert_array_equal(got.rank, (x > x[at][:, None]).sum(axis=1))
    np.testing.assert_array_equal(got.prediction, x.argmax(axis=1))
    assert [a.dtype for a in got] == [dtype] * 3 + [np.int64] * 2
    np.testing.assert_array_equal(got.loss.argsort(), celoss.cross_entropy(x, target, reduction="none").argsort())


def test_sure_rows_keep_their_entropy(level):
    """Of distributions whose entropy is next to nothing, to 300 bits."""
    x = np.array([[30.0, 0.0, -1.0], [80.0, 0.0, 79.0], [0.0, -60.0, -70.0]])
    got = celoss.row_statistics(x, [0, 0, 0]).entropy
    for row, entropy in zip(x, got, strict=True):
        total = mp.fsum(mp.exp(mp.mpf(v)) for v in row)
        exact = mp.fsum(mp.exp(mp.mpf(v)) / total * (mp.log(total) - mp.mpf(v)) for v in row)
        assert abs(entropy / float(exact) - 1) < 1e-15


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_that_decide_nothing_or_are_ignored(dtype, level):
    x = np.array([[0, 1, NAN], [INF, 0, 1], [-INF] * 3, [NAN, NAN, NAN], [-INF, 2, 1], [-INF, 2, 1], [1, 2, 3]], dtype)
    target = np.array([0, 1, 0, -100, 0, 2, 2])
    for given, axis in ((x, -1), (np.ascontiguousarray(x.T), 0), (np.asfortranarray(x), 1)):
        got = celoss.row_statistics(given, target, axis=axis)
        expected = reference.row_statistics(given, target, axis=axis)
        for name, a, b in zip(got._fields, got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=name)
            assert a.dtype == b.dtype
    assert got.rank.tolist() == [-1, -1, -1, -1, 2, 1, 0] and got.prediction.tolist() == [-1, -1, -1, -1, 1, 1, 2]
    assert got.loss[4] == INF and got.loss[3] == got.entropy[3] == got.logsumexp[3] == 0
    one_ignored = celoss.row_statistics(x[-2:], [-100, 2])
    assert (one_ignored.rank.tolist(), one_ignored.prediction.tolist()) == ([-1, 0], [-1, 2])
    all_ignored = celoss.row_statistics(x, np.full(7, 5), ignore_index=5)
    assert [a.tolist() for a in all_ignored] == [[0] * 7] * 3 + [[-1] * 7] * 2


@pytest.mark.parametrize("classes", [3, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entropy_of_logits_as_far_apart_as_numbers_can_be(dtype, classes, level):
    """Their distance overflows, beside an exponential of 0."""
    x = np.zeros((2, classes), dtype)
    x[:, 0], x[0, 1] = np.finfo(dtype).max, -np.finfo(dtype).max
    got = celoss.row_statistics(x, [0, 0])
    assert not got.entropy.any() and not got.loss.any()


@pytest.mark.parametrize(
    "options", [{"logit_scale": 1.5}, {"logit_softcap": 5.0}, {"logit_scale": 0.5, "logit_softcap": 3.0}], ids=str
)
@pytest.mark.parametrize("classes", [4, 96, 97, 1000])
def test_statistics_of_softened_logits(classes, options, level):
    x, target = problem(classes, np.float64)
    got, expected = celoss.row_statistics(x, target, **options), reference.row_statistics(x, target, **options)
    for name, a, b in zip(got._fields, got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(got.rank, celoss.row_statistics(x, target).rank)  # also where the cap makes logits equal
    np.testing.assert_array_equal(got.prediction, x.argmax(axis=1))
    loss = celoss.cross_entropy(x, target, reduction="none", **options)
    np.testing.assert_allclose(got.loss, loss, rtol=1e-14)


@pytest.mark.parametrize("shape", [(600, 10), (2, 70_000), (1, 300_000), (300, 1000)])
def test_statistics_for_any_number_of_threads(shape, level):
    rng = np.random.default_rng(3)
    x, target = rng.standard_normal(shape, np.float32), rng.integers(shape[1], size=shape[0])
    one, two = (celoss.row_statistics(x, target, n_threads=n) for n in (1, 2))
    for name, a, b, c in zip(one._fields, one, two, reference.row_statistics(x, target), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=5e-7, err_msg=name)


def test_statistics_of_one_row_are_scalars():
    got = celoss.row_statistics([1.0, 2.0, 0.0], 1)
    assert all(isinstance(value, np.generic) for value in got) and (got.rank, got.prediction) == (0, 1)
    assert celoss.row_statistics(np.zeros((0, 4)), np.zeros(0, int)).rank.shape == (0,)


def test_errors_of_statistics():
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(IndexError, match=r"target\[1\] = 4 is not in \[0, 4\)"):
        celoss.row_statistics(x, [0, 4, 0])
    with pytest.raises(ValueError, match="expected class indices, not probabilities: a rank is that of one class"):
        celoss.row_statistics(x, x)
    with pytest.raises(ValueError, match="logit_scale must be a positive finite number, got 0"):
        celoss.row_statistics(x, [0, 0, 0], logit_scale=0)
    with pytest.raises(ValueError, match=r"logits of shape \(3, 0\) have no class along axis 1"):
        celoss.row_statistics(np.zeros((3, 0)), [0, 0, 0])


# ---- the distance of two distributions -------------------------------------------------------------------------------------


def exact_divergence(x, y, temperature):
    p = [mp.exp(mp.mpf(float(v)) / temperature) for v in x]
    q = [mp.exp(mp.mpf(float(v)) / temperature) for v in y]
    p, q = ([v / mp.fsum(e) for v in e] for e in (p, q))
    divergence = mp.fsum(b * mp.log(b / a) for a, b in zip(p, q, strict=True))
    return float(divergence), [float((a - b) / temperature) for a, b in zip(p, q, strict=True)]


@pytest.mark.parametrize("temperature", [1, 2, 3.7])
@pytest.mark.parametrize("apart", [3.0, 0.3, 1e-2, 1e-5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 5, 40, 130])
def test_exact_divergence(classes, dtype, apart, temperature, level):
    """Near 0 too, where the sum of q log(q / p) has lost every digit."""
    rng = np.random.default_rng(classes)
    x = (2 * rng.standard_normal((12, classes))).astype(dtype)
    y = (x + apart * rng.standard_normal(x.shape)).astype(dtype)
    got, grad = celoss.kl_divergence_with_grad(x, y, temperature=temperature, reduction="none")
    np.testing.assert_array_equal(celoss.kl_divergence(x, y, temperature=temperature, reduction="none"), got)
    limit = 2e-7 if dtype == np.float32 else 4e-14
    # What the logarithms of the sums are off by counts in the gradient, and hardly in the divergence.
    eps = 1e-11 if dtype == np.float32 else 1e-15
    for row in range(len(x)):
        divergence, exact_grad = exact_divergence(x[row], y[row], temperature)
        assert abs(got[row] - divergence) <= (limit + (eps / apart) ** 2) * divergence
        np.testing.assert_allclose(grad[row], exact_grad, rtol=limit, atol=4 * eps)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("classes", [3, 97])
def test_divergence_at_the_edges(classes, dtype, level):
    x = np.zeros((9, classes), dtype)
    y = x + np.arange(classes, dtype=dtype) / 4
    x[1, 0] = -INF  # q counts on it
    y[2, 0] = -INF
    x[3, 1] = y[3, 1] = -INF
    x[4, 2] = y[5, 2] = NAN
    x[6, 0] = y[7, 0] = INF
    x[8] = -INF
    got, grad = celoss.kl_divergence_with_grad(x, y, reduction="none")
    expected, expected_grad = reference.kl_divergence_with_grad(x, y, reduction="none")
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-3 if dtype == np.float16 else 1e-6, atol=1e-12)
    assert got[1] == INF and grad[3, 1] == 0 and np.isnan(got[4:]).all()
    assert celoss.kl_divergence(y[:1], y[:1]) == 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(50, 7), (40, 200), (3, 70_000)])
def test_divergence_with_options(shape, reduction, rng, level):
    x, y = rng.standard_normal((2, *shape))
    s = rng.uniform(-1, 2, shape[0])
    s[1] = 0
    x[1] = NAN
    up = rng.uniform(-1, 1, shape[0]) if reduction == "none" else 0.5
    options = {"sample_weight": s, "reduction": reduction, "temperature": 2.0}
    expected = reference.kl_divergence_with_grad(x, y, **options, grad_output=up)
    for n in (1, 2):
        for place in (None, x.copy(), np.empty_like(x)):
            given = place if place is not None and np.isnan(place[1]).all() else x
            got = celoss.kl_divergence_with_grad(given, y, **options, grad_output=up, out=place, n_threads=n)
            np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
            np.testing.assert_allclose(got[1], expected[1], rtol=1e-9, atol=1e-18)
            assert not got[1][1].any() and (place is None or got[1] is place)
    turned = celoss.kl_divergence_with_grad(x.T, np.asfortranarray(y.T), **options, grad_output=up, axis=0)
    np.testing.assert_array_equal(turned[1].T, got[1])
    single = celoss.kl_divergence_with_grad(x.astype(np.float32), y, **options, grad_output=up)
    np.testing.assert_allclose(single[0], expected[0], rtol=1e-5)


def test_divergence_of_nothing():
    nothing = np.zeros((0, 3))
    assert math.isnan(celoss.kl_divergence(nothing, nothing)) and celoss.kl_divergence(nothing, nothing, reduction="sum") == 0
    assert celoss.kl_divergence(nothing, nothing, normalizer=0) == 0
    x = np.zeros((2, 3))
    loss, grad = celoss.kl_divergence_with_grad(x, x + 1, sample_weight=0.0)
    assert math.isnan(loss) and not grad.any()
    assert isinstance(celoss.kl_divergence(x[0], x[0], reduction="none"), np.float64)


def test_errors_of_the_divergence():
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"reference_logits has shape \(3, 5\); expected the logits' shape \(3, 4\)"):
        celoss.kl_divergence(x, np.zeros((3, 5)))
    with pytest.raises(TypeError, match="reference_logits has dtype complex128"):
        celoss.kl_divergence(x, x.astype(complex))
    with pytest.raises(ValueError, match="temperature must be a positive finite number, got 0"):
        celoss.kl_divergence(x, x, temperature=0)
    with pytest.raises(ValueError, match="out overlaps reference_logits"):
        celoss.kl_divergence_with_grad(x, x, out=x)
    y = x.copy()
    with pytest.raises(ValueError, match="out overlaps reference_logits"):
        celoss.kl_divergence_with_grad(x, y, out=y)
    with pytest.raises(ValueError, match="normalizer=0, yet 3 losses count"):
        celoss.kl_divergence(x, x, normalizer=0)


def test_torch_agrees(rng):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, y = rng.standard_normal((2, 30, 50))
    p, q = (torch.log_softmax(torch.from_numpy(a / 2.0), -1) for a in (x, y))
    expected = functional.kl_div(p, q, reduction="batchmean", log_target=True).item()
    assert abs(celoss.kl_divergence(x, y, temperature=2.0) / expected - 1) < 1e-12
