"""Exact losses, gradients and second derivatives, and distances from them in ulp.

Truth is computed in long double, which carries 64 bits on x86 and 113 on other Linux machines. Where it is no wider
than float64, truth is good enough for float32 results only: `WIDE` says so.
"""

import numpy as np
import pytest

from celoss._checks import ulp_error

real = np.longdouble
WIDE = np.finfo(real).nmant >= 63

needs_wide = pytest.mark.skipif(not WIDE, reason="long double is no wider than float64 here")


def exponentials(x):
    """m and exp(x - m) of each row, with what the rounding of x - m lost put back."""
    x = np.asarray(x).astype(real)
    m = x.max(axis=-1, keepdims=True)
    with np.errstate(all="ignore"):
        d = x - m
        b = d - x
        lost = (x - (d - b)) - (m + b)
        e = np.exp(d)
        return x, m, e + e * np.where(np.isfinite(lost), lost, 0)


def softmax(x):
    """p, 1 - p and -log p of each row (..., C), none of them by a subtraction that cancels."""
    x, m, e = exponentials(x)
    first = np.zeros(x.shape, bool)
    np.put_along_axis(first, np.argmax(x, axis=-1)[..., None], True, axis=-1)
    rest = np.where(first, 0, e).sum(axis=-1, keepdims=True)
    others = np.where(first, rest, (1 - e) + rest)  # never below 1 beside the maximum: e is part of rest there
    with np.errstate(all="ignore"):
        return e / (1 + rest), others / (1 + rest), (m - x) + np.log1p(rest)


def cross_entropy(x, target):
    """Loss (N,) and gradient (N, C) of rows `x` with class indices, no options."""
    p, miss, nll = softmax(x)
    rows = np.arange(len(target))
    grad = p.copy()
    grad[rows, target] = -miss[rows, target]
    return nll[rows, target], grad


def blended(x, a):
    """Loss (N,), gradient (N, C) and the gradient's larger term (N, C) for coefficients a_c = s w_c q'_c."""
    p, _, nll = softmax(x)
    a = np.asarray(a).astype(real)
    with np.errstate(all="ignore"):
        loss = np.where((a == 0) & np.isinf(nll), 0, a * nll).sum(axis=-1)
    total = a.sum(axis=-1, keepdims=True)
    return loss, p * total - a, p * np.abs(a).sum(axis=-1, keepdims=True) + np.abs(a)


def cross_entropy_hess(x, target):
    """Diagonal of the Hessian (N, C) of rows `x` with class indices, no options: the same for every target."""
    return blended_hess(x, np.ones((len(target), 1)))


def blended_hess(x, a):
    """Diagonal of the Hessian (N, C) for coefficients a_c = s w_c q'_c, of which only the sum counts."""
    p, miss, _ = softmax(x)
    return np.asarray(a).astype(real).sum(axis=-1, keepdims=True) * p * miss


def hessp(x, mass, v):
    """H v (N, C) of rows whose coefficients a_c sum to `mass` (N,), and its scale |mass| Σ |p v|, (N, 1).

    H of equal numbers is 0, so what `v` is at the largest logit is subtracted from all of it: the product p_c v_c that
    would drown the others is 0 then.
    """
    p, miss, _ = softmax(x)
    mass, v = np.asarray(mass).astype(real)[..., None], np.asarray(v).astype(real)
    d = v - np.take_along_axis(v, np.argmax(x, axis=-1)[..., None], axis=-1)
    terms = p * d
    others = terms.sum(axis=-1, keepdims=True) - terms
    return mass * p * (miss * d - others), np.abs(mass) * (p * np.abs(v)).sum(axis=-1, keepdims=True)


def binary_hess(z):
    """sigmoid(z) sigmoid(-z), which is e / (1 + e)² with e = exp(-|z|)."""
    e = np.exp(-np.abs(np.asarray(z).astype(real)))
    return e / (1 + e) ** 2


def assert_ulp(got, exact, most, *, dtype=None, scale=None, names=None):
    """All of `got` within `most` ulp of `exact`; the message names the worst element."""
    got = np.asarray(got)
    assert got.shape == np.shape(exact), f"shape {got.shape}, expected {np.shape(exact)}"
    if got.size == 0:
        return
    error = ulp_error(got, exact, dtype, scale)
    at = np.unravel_index(int(np.argmax(error)), error.shape)
    if error[at] > most:
        family = f" ({names[at[0]]})" if names is not None else ""
        wrong = int((error > most).sum())
        raise AssertionError(
            f"{float(error[at]):.4g} ulp at {tuple(int(i) for i in at)}{family}, at most {most} allowed; "
            f"got {got[at]!r}, exact {np.asarray(exact)[at]!r}; {wrong} of {error.size} elements are too far off"
        )


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
