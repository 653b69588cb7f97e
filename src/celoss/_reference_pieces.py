"""The pieces of the oracle: sums that leave one out, softmax and its scores, sigmoid. Classes lie along the last axis.

One idea runs through the files of the reference: **never subtract what can be summed**. The loss lse - x_t and the gradient
p_t - 1 of a well predicted row are tiny differences of large numbers, and rounding eats them. Both are sums
of tiny numbers as well: of the exponentials of all classes but one. So 1 - p is computed beside p, and
-log p from the exponentials without the largest, and every loss is arithmetic on these three.
"""
# ruff: noqa: RUF002, RUF003 (the sigmoid is written with a sigma)

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from celoss._reference_arguments import Floats

# ----------------------------------------------------------------------------------------------------
# Sums that leave one out, and numbers with what their rounding lost
# ----------------------------------------------------------------------------------------------------


def first_largest(v: Floats) -> npt.NDArray[np.bool_]:
    """Mark the first of the largest elements of each row; none where the row has a NaN."""
    largest = v == np.max(v, axis=-1, keepdims=True, initial=-np.inf)
    first: npt.NDArray[np.bool_] = largest & (np.cumsum(largest, axis=-1) == 1)
    return first


def leave_one_out(v: Floats) -> tuple[Floats, Floats]:
    """Return r, the sum of a row without its largest element, and for every k the sum without element k.

    With v_1 the element largest in magnitude, the sum without v_k is (v_1 - v_k) + r. For v ≥ 0 both terms
    are ≥ 0, so nothing cancels; for k = 1 it is r itself.
    """
    first = first_largest(np.abs(v))
    r = np.sum(np.where(first, 0.0, v), axis=-1, keepdims=True)
    largest = np.sum(np.where(first, v, 0.0), axis=-1, keepdims=True)
    return r, (largest - v) + r


def difference(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """x - y rounded, and exactly what the rounding lost (Knuth's two-sum). Where x or y is infinite nothing is lost."""
    delta = x - y
    moved = delta - x
    lost = (x - (delta - moved)) - (y + moved)
    return delta, np.where(np.isfinite(lost), lost, 0.0)


def _halves(x: Floats) -> tuple[Floats, Floats]:
    """Two numbers of 26 bits whose sum is x (Veltkamp): products of such numbers are exact."""
    moved = 134217729.0 * x  # 2^27 + 1
    high = moved - (moved - x)
    return high, x - high


def product(x: Floats, a: float) -> tuple[Floats, Floats]:
    """x a rounded, and exactly what the rounding lost (Dekker)."""
    rounded = x * a
    (x_1, x_2), (a_1, a_2) = _halves(x), _halves(np.asarray(a, np.float64))
    lost = ((x_1 * a_1 - rounded) + x_1 * a_2 + x_2 * a_1) + x_2 * a_2
    return rounded, np.where(np.isfinite(lost), lost, 0.0)


def quotient(x: Floats, a: float) -> tuple[Floats, Floats]:
    """x / a rounded, and what the rounding lost."""
    rounded = x / a
    back, back_lost = product(rounded, a)
    lost = ((x - back) - back_lost) / a
    return rounded, np.where(np.isfinite(lost), lost, 0.0)


# ----------------------------------------------------------------------------------------------------
# Softmax
# ----------------------------------------------------------------------------------------------------


class Scores(NamedTuple):
    """What the softmax is taken of: u + lost, a function of the logits x, and its derivatives. Each of the shape of x."""

    u: Floats
    lost: Floats  # what the rounding of u has lost, where that is known
    slope: Floats  # du/dx
    bend: Floats  # d²u/dx²


def scores(x: Floats, logit_scale: float, logit_softcap: float | None) -> Scores:
    """u = a x, or u = c tanh(a x / c): nearly a x where that is small, and never beyond ±c.

    An infinity stays, so that -inf marks a class that cannot occur with a cap too. There u does not change: du/dx = 0.
    """
    if not 0.0 < logit_scale < np.inf:
        raise ValueError(f"logit_scale = {logit_scale} must be positive and finite")
    u, lost = product(x, logit_scale)
    if logit_softcap is None:
        return Scores(u, lost, np.full_like(x, logit_scale), np.zeros_like(x))
    if not 0.0 < logit_softcap < np.inf:
        raise ValueError(f"logit_softcap = {logit_softcap} must be positive and finite, or None")
    # 1. 1 - tanh² is what tanh² lacks to 1, which cancels where |y| is large. With e = exp(-2|y|) it is 4 e / (1 + e)².
    y = u / logit_softcap
    t, e = np.tanh(y), np.exp(-2.0 * np.abs(y))
    slope = logit_scale * (4.0 * e / (1.0 + e) ** 2)
    # 2. (1 - tanh²)' = -2 tanh (1 - tanh²), so that d²u/dx² = -2 (a / c) tanh(y) du/dx
    bend = -2.0 * t * slope / logit_softcap * logit_scale
    return Scores(np.where(np.isinf(x), x, logit_softcap * t), np.zeros_like(x), slope, bend)


def exponentials(x: Floats, lost: Floats | float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Return m, the largest of x + lost, what its own rounding lost, and e_c = exp(x_c + lost_c - m), the largest of which is 1.

    A row whose maximum is NaN, +inf or -inf has no probabilities: there x - m is NaN, and so is what follows.
    """
    m = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    m_lost = np.max(np.where(x == m, lost, -np.inf), axis=-1, keepdims=True, initial=-np.inf)
    m_lost = np.where(np.isfinite(m_lost), m_lost, 0.0)
    # 1. δ is x - m rounded, ρ what the rounding lost, and what x and m have lost before.
    delta, rho = difference(x, m)
    rho = rho + (lost - m_lost)
    # 2. exp(x - m) = exp(δ) exp(ρ). Without ρ the relative error of e would grow to |x - m| / 2 ulp.
    e = np.exp(delta)
    return m, m_lost, e + e * np.expm1(rho)


class Softmax(NamedTuple):
    """What every loss on rows is made of; p, miss and nll each to full relative precision, each of the shape of x."""

    p: Floats  # p_k
    miss: Floats  # 1 - p_k
    nll: Floats  # -log p_k = lse - x_k
    lse: Floats  # (N..., 1)


def softmax_pieces(x: Floats, lost: Floats | float = 0.0) -> Softmax:
    # 1. The denominator Σ e is 1 + r: one element is the maximum, whose e is 1; r sums all the others.
    m, m_lost, e = exponentials(x, lost)
    r, others = leave_one_out(e)
    denominator = 1.0 + r
    # 2. p_k = e_k / (1 + r), and 1 - p_k = (Σ_{c≠k} e_c) / (1 + r): for the maximum that is r / (1 + r).
    # 3. lse - x_k = (m - x_k) + log(1 + r): both terms are ≥ 0. Adding m to the log first, and subtracting
    #    x_k then, would leave only the digits that survive beside m.
    log = np.log1p(r)
    nll = (m - x) + (m_lost - lost) + log
    return Softmax(e / denominator, others / denominator, nll, m + (m_lost + log))


# ----------------------------------------------------------------------------------------------------
# Sigmoid, and what losses share
# ----------------------------------------------------------------------------------------------------


def sigma(z: Floats) -> Floats:
    """σ(z) = 1 / (1 + exp(-z)); and 1 - σ(z) is sigma(-z), never a subtraction."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0.0, 1.0, e) / (1.0 + e)


def softplus(z: Floats) -> Floats:
    """log(1 + exp(z)) = max(z, 0) + log1p(exp(-|z|)); and -log σ(z) is softplus(-z)."""
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def weighted(weight: Floats, loss: Floats) -> Floats:
    """weight · loss, where 0 · ∞ counts 0: a class of no weight costs nothing even if it is impossible."""
    return np.where((weight == 0.0) & np.isinf(loss), 0.0, weight * loss)


def nll_over_miss(nll: Floats, miss: Floats) -> Floats:
    """-log p / (1 - p), which is 1 where both are 0."""
    return np.where(miss == 0.0, 1.0, nll / miss)


def smooth(q: Floats, label_smoothing: float, n_classes: int) -> tuple[Floats, Floats]:
    """Return q' = (1 - ε) q + ε/C, and 1 - q' = (1 - ε)(1 - q) + ε (1 - 1/C) without subtracting q'."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing = {label_smoothing} is not in [0, 1]")
    keep, uniform = 1.0 - label_smoothing, 1.0 / max(n_classes, 1)
    return keep * q + label_smoothing * uniform, keep * (1.0 - q) + label_smoothing * (1.0 - uniform)
