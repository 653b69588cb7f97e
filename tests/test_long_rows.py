"""Rows that are cut into pieces, where the pieces differ: one far below the others, one shifted and another not, one without
any number. Each piece has exponentials in a scale of its own; results are to be those of the whole row.
"""

import functools

import numpy as np
import pytest
import truth
from tolerances import ulp

import celoss

PIECE = 32_768
CLASSES = 2 * PIECE + 4  # three pieces, of which the last is short
DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]
PIECES = [slice(0, PIECE), slice(PIECE, 2 * PIECE), slice(2 * PIECE, CLASSES)]
MARGINS = {np.float32: [0.5, 30, 60, 85, 100, 107], np.float64: [0.5, 50, 100, 300, 700, 740]}
UNSHIFTED = {np.float32: 256, np.float64: 1536}  # rows whose maximum is further out are shifted (exp_log.hpp)
# What makes a normal number of the smallest probability.
LARGE = {np.float32: 1e30, np.float64: 1e200}
FORMS = ["weights", "smoothing", "smoothing and weights", "probabilities"]


def pieces_apart(dtype, offset, spread=3.0):
    """One row for each of MARGINS and each piece that is so far below the others."""
    rng = np.random.default_rng(abs(int(offset)))
    rows = [(margin, piece) for margin in MARGINS[dtype] for piece in PIECES]
    x = offset + rng.uniform(-spread, 0, (len(rows), CLASSES))
    for n, (margin, piece) in enumerate(rows):
        x[n, piece] -= margin
    return x.astype(dtype), rng.integers(0, CLASSES, len(rows))


@functools.cache
def case(dtype, offset):
    x, target = pieces_apart(dtype, offset)
    return x, target, truth.softmax(x)


def few(rows):
    """Rows by fives, each of which is then cut into pieces."""
    return [slice(i, i + 5) for i in range(0, rows, 5)]


def orders(x):
    """Exponentials wait where the gradient goes; or are computed a second time."""
    return x, np.asfortranarray(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", [0, -1, 1])
@pytest.mark.parametrize("large", [False, True])
def test_pieces_far_below(large, side, dtype, level):
    """Without a shift, all of them, or (offsets at the limit) pieces with one beside pieces without."""
    at_limit = UNSHIFTED[dtype] + (0.25 if side > 0 else -1)
    x, target, (p, miss, nll) = case(dtype, side * at_limit)
    factor = LARGE[dtype] if large else 1.0
    for rows in few(len(x)):
        t, n = target[rows], np.arange(len(x[rows]))
        exact = p[rows].copy()
        exact[n, t] = -miss[rows][n, t]
        for logits in orders(x[rows]):
            loss, grad = celoss.cross_entropy_with_grad(
                logits, t, reduction="none", out=np.empty_like(logits), grad_output=np.full(len(t), factor)
            )
            truth.assert_ulp(loss, nll[rows][n, t], ulp("loss", x.dtype))
            truth.assert_ulp(grad, exact * factor, ulp("gradient" if large else "compensated gradient", x.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", [0, -1, 1])
def test_activations_of_pieces_far_below(side, dtype, level):
    at_limit = UNSHIFTED[dtype] + (0.25 if side > 0 else -1)
    x, _, (p, _, nll) = case(dtype, side * at_limit)
    for rows in few(len(x)):
        for logits in orders(x[rows]):
            most = ulp("activation", x.dtype)
            truth.assert_ulp(celoss.softmax(logits), p[rows], most)
            truth.assert_ulp(celoss.log_softmax(logits), -nll[rows], most)
            m = x[rows].max(axis=1).astype(truth.real)
            lse = m + nll[rows].min(axis=1)
            truth.assert_ulp(celoss.logsumexp(logits), lse, most, scale=np.maximum(np.abs(m), np.abs(lse)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_options_of_pieces_far_below(form, dtype, level):
    """A gradient of two terms is as exact as the larger one; the smaller one alone is seen where there is no other."""
    x, target, _ = case(dtype, 0)
    rng = np.random.default_rng(7)
    w = rng.uniform(0.5, 2, CLASSES) if "weights" in form else np.ones(CLASSES)
    smoothing = 0.1 if "smoothing" in form else 0.0
    for rows in few(len(x)):
        t = target[rows]
        n = np.arange(len(t))
        q = np.zeros((len(t), CLASSES))
        if form == "probabilities":  # of a few classes of each piece
            q[:, ::4096] = rng.uniform(0, 0.1, q[:, ::4096].shape)
            a = q * w
        else:
            q[n, t] = 1
            a = (1 - truth.real(smoothing)) * q * w[t][:, None] + truth.real(smoothing) / CLASSES * w
        exact_loss, exact_grad, terms = truth.blended(x[rows], a)
        tiny = np.finfo(dtype).tiny / np.finfo(dtype).eps
        for logits in orders(x[rows]):
            loss, grad = celoss.cross_entropy_with_grad(
                logits, q if form == "probabilities" else t, weight=w if "weights" in form else None,
                label_smoothing=smoothing, reduction="none", out=np.empty_like(logits),
            )  # fmt: skip
            truth.assert_ulp(loss, exact_loss, ulp("option loss", x.dtype))
            truth.assert_ulp(grad, exact_grad, ulp("option gradient", x.dtype), scale=np.maximum(terms, tiny))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nothing", [PIECES[:1], PIECES[1:2], PIECES[2:], PIECES[:2], PIECES[1:]], ids=str)
@pytest.mark.parametrize("offset", [0, -1, 1])
def test_pieces_without_any_number(offset, nothing, dtype, level):
    """All of a piece is -inf: its classes are as if they were not there, wherever the others are."""
    x = np.random.default_rng(3).standard_normal((2, CLASSES)).astype(dtype)
    x += dtype(offset * (UNSHIFTED[dtype] - 8))
    for piece in nothing:
        x[:, piece] = -np.inf
    left = np.flatnonzero(np.isfinite(x[0]))
    smaller, most = x[:, left], 4 * np.finfo(dtype).eps
    target = left[[1, -2]]
    for logits in orders(x):
        loss, grad = celoss.cross_entropy_with_grad(logits, target, reduction="none", out=np.empty_like(logits))
        expected_loss, expected_grad = celoss.cross_entropy_with_grad(smaller, [1, len(left) - 2], reduction="none")
        np.testing.assert_allclose(loss, expected_loss, rtol=most)
        np.testing.assert_allclose(grad[:, left], expected_grad, rtol=most)
        assert np.count_nonzero(grad) == grad[:, left].size and np.signbit(grad).sum() == 2
        np.testing.assert_allclose(celoss.softmax(logits)[:, left], celoss.softmax(smaller), rtol=most)
        np.testing.assert_allclose(celoss.logsumexp(logits), celoss.logsumexp(smaller), rtol=most)
        np.testing.assert_allclose(celoss.log_softmax(logits)[:, left], celoss.log_softmax(smaller), rtol=most)
        q = np.zeros(x.shape, dtype)
        q[:, left] = 1 / len(left)
        loss, grad = celoss.cross_entropy_with_grad(logits, q, reduction="none", out=np.empty_like(logits))
        assert np.isfinite(loss).all() and np.isfinite(grad).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_number_in_any_piece(bad, dtype, level):
    """The whole row is NaN, wherever its maximum is; a NaN is not passed over because larger numbers follow."""
    x = np.random.default_rng(4).standard_normal((2, CLASSES)).astype(dtype)
    q = np.full((2, CLASSES), 1 / CLASSES, dtype)
    for piece in PIECES:
        for column in (piece.start, piece.stop - 2):
            for top in PIECES:
                spoilt = x.copy()
                spoilt[0, column] = bad
                spoilt[:, top.stop - 1] = 20
                for target in (np.array([7, PIECE + 7]), q):
                    loss, grad = celoss.cross_entropy_with_grad(spoilt, target, reduction="none")
                    assert np.isnan(loss[0]) and np.isnan(grad[0]).all(), (column, top)
                    assert np.isfinite(loss[1]) and np.isfinite(grad[1]).all()
                for function in (celoss.softmax, celoss.log_softmax):
                    result = function(spoilt)
                    assert np.isnan(result[0]).all() and np.isfinite(result[1]).all()
                assert (np.isnan if np.isnan(bad) else np.isposinf)(celoss.logsumexp(spoilt)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_maxima_in_several_pieces(dtype, level):
    """One of them is left out of the sum; the others, in the same piece and in other ones, are not."""
    x = np.full((1, CLASSES), -50.0, dtype)
    x[0, [5, 900, PIECE + 1, CLASSES - 1]] = 3
    q = np.zeros((1, CLASSES), dtype)
    q[0, 900] = 1
    others = (CLASSES - 4) * np.exp(np.float64(-53))
    for target in (np.array([900]), q):
        loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none")
        np.testing.assert_allclose(loss, np.log(4 + others), rtol=2 * np.finfo(dtype).eps)
        exact = [0.25, -0.75, 0.25, 0.25]
        np.testing.assert_allclose(grad[0, [5, 900, PIECE + 1, CLASSES - 1]], exact, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(celoss.logsumexp(x), 3 + np.log(4 + others), rtol=2 * np.finfo(dtype).eps)
    np.testing.assert_allclose(celoss.log_softmax(x)[0, 5], -np.log(4 + others), rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nan_counts_beside_an_infinity_of_another_piece(dtype, level):
    for first, second in ((np.nan, np.inf), (np.inf, np.nan)):
        x = np.zeros((1, CLASSES), dtype)
        x[0, [5, PIECE + 5]] = first, second
        for after in (0, 1):  # larger than the NaN, and after it
            x[0, [6, PIECE + 6]] = after
            assert np.isnan(celoss.logsumexp(x)[0])
