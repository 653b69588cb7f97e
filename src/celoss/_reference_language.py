"""Of the oracle what language models ask for beside losses: the numbers of a row, and the distance of two distributions.

Notation as in `reference`; y are the reference logits, q = softmax(y / T), p = softmax(x / T), d_j = log q_j - log p_j.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from celoss._reference_arguments import (
    Array,
    Floats,
    Loss,
    Scale,
    as_floating,
    as_many_as,
    as_rows,
    as_weights,
    class_axis_last,
    loss_dtype,
    results,
    scalar_or_array,
)
from celoss._reference_pieces import difference, first_largest, quotient, scores, softmax_pieces, weighted

# ----------------------------------------------------------------------------------------------------
# The numbers of a row
# ----------------------------------------------------------------------------------------------------


class RowStatistics(NamedTuple):
    """What `row_statistics` returns: arrays of the rows' shape."""

    loss: Array
    logsumexp: Array
    entropy: Array
    rank: Array
    prediction: Array


@np.errstate(all="ignore")
def row_statistics(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    n_threads: int | None = None,
) -> RowStatistics:
    """The loss -log p_t, the entropy Σ_c p_c (lse - u_c), logsumexp, rank and prediction of each row, with scores u(x).

    The scores are those of `cross_entropy`. The entropy is a sum of terms ≥ 0, in which 0 · ∞ counts 0. The rank is how many
    classes have a larger logit than the target: 0 where the target is (one of) the largest, less than k where it is among the
    first k. The prediction is the first class of the largest logit. Both go by the logits as they are given: u grows with x, but
    two that differ may be rounded to one u by the cap.

    In ignored rows rank and prediction are -1, and the others 0. A row with NaN or +inf, or of -inf only, decides nothing: rank
    and prediction are -1, and the others NaN. A target at -inf has the loss +inf. Targets are class indices.
    """
    rows = as_rows(logits, target, axis, None, None, ignore_index)
    if not rows.is_index:
        raise ValueError("row_statistics needs class indices, but target holds probabilities")
    u = scores(rows.x, logit_scale, logit_softcap)
    p, _, nll, lse = softmax_pieces(u.u, u.lost)
    # 1. At the target, and the whole row. A row of no classes is there only if there are no rows.
    at_target = rows.q > 0.0
    loss = np.sum(np.where(at_target, nll, 0.0), axis=-1)
    entropy = np.sum(weighted(p, nll), axis=-1)
    x_t = np.sum(np.where(at_target, rows.x, 0.0), axis=-1, keepdims=True)
    rank = np.sum(rows.x > x_t, axis=-1)
    prediction = np.sum(np.where(first_largest(rows.x), np.arange(rows.x.shape[-1]), 0), axis=-1)
    # 2. Rows without a result
    undecided = ~np.isfinite(np.max(rows.x, axis=-1, initial=-np.inf))
    dtype = loss_dtype(as_floating(logits, "logits"))

    def number(value: Floats) -> Array:
        value = np.where(rows.ignored, 0.0, np.where(undecided, np.nan, value))
        return scalar_or_array(value.astype(dtype))

    def index(value: Array) -> Array:
        return scalar_or_array(np.where(rows.ignored | undecided, -1, value).astype(np.int64))

    return RowStatistics(number(loss), number(lse.reshape(loss.shape)), number(entropy), index(rank), index(prediction))


# ----------------------------------------------------------------------------------------------------
# The distance of two distributions
# ----------------------------------------------------------------------------------------------------


def kl_divergence(
    logits: npt.ArrayLike,
    reference_logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    sample_weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> Loss:
    """KL(q ‖ p) = Σ_j q_j (log q_j - log p_j) of p = softmax(x / T) and q = softmax(y / T), y the reference logits.

    It is the sum of q_j (d_j + exp(-d_j) - 1) as well, since Σ q_j exp(-d_j) = Σ p_j = Σ q_j = 1; there every term is ≥ 0. The
    mean divides by Σ s; rows of sample weight 0 are left out. A class that cannot occur in x but can in y (-inf, and more than
    -inf) makes the row's divergence +inf; one that can occur in neither, or in x only, is nothing special. A row with NaN or
    +inf, or of -inf only, in x or y is NaN.
    """
    loss, _ = kl_divergence_with_grad(
        logits, reference_logits, axis=axis, temperature=temperature, sample_weight=sample_weight, reduction=reduction,
        normalizer=normalizer, n_threads=n_threads,
    )  # fmt: skip
    return loss


@np.errstate(all="ignore")
def kl_divergence_with_grad(
    logits: npt.ArrayLike,
    reference_logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    sample_weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[Loss, Array]:
    """`kl_divergence` and its gradient with respect to the logits, s (p_k - q_k) / T, also where the divergence is +inf."""
    x = class_axis_last(as_floating(logits, "logits"), axis)
    y = class_axis_last(as_many_as(reference_logits, "reference_logits", np.shape(logits)), axis)
    if not 0.0 < temperature < np.inf:
        raise ValueError(f"temperature = {temperature} must be positive and finite")
    s = as_weights(sample_weight, "sample_weight", x.shape[:-1], of_either_sign=True)
    ignored = s == 0.0
    x, y = (np.where(ignored[..., None], 0.0, rows) for rows in (x, y))  # they may hold NaN

    p, _, nll_p, _ = softmax_pieces(*quotient(x, temperature))
    q, _, nll_q, _ = softmax_pieces(*quotient(y, temperature))
    d = _log_ratio(x, y, temperature, p, nll_p, nll_q)
    # 1. Where q and p are close, d + exp(-d) - 1 ≈ d² / 2 and p - q = q (exp(-d) - 1), of which nothing cancels. Elsewhere one
    #    of the two is more than twice the other; q exp(-d), which may be 0 · ∞, is p.
    close = np.abs(d) < 1.0
    terms = np.where(close, q * _exp_beyond_the_line(d), weighted(q, d) + (p - q))
    grad = np.where(close, q * np.expm1(-d), p - q) / temperature
    # 2. Where q_j = 0 the first part counts 0, and p_j is what is left of the term. Where p_j = 0 it is +inf, even if q_j is too
    #    small for float64; where neither can occur, 0.
    terms = np.where(np.isneginf(x), np.where(np.isneginf(y), 0.0, np.inf), terms)
    undecided = np.isnan(p) | np.isnan(q)
    loss = np.sum(np.where(undecided, np.nan, terms), axis=-1)

    scale = Scale(s, ignored, reduction, normalizer, grad_output)
    return results(s * loss, s[..., None] * grad, scale, logits, axis, out)


def _log_ratio(x: Floats, y: Floats, temperature: float, p: Floats, nll_p: Floats, nll_q: Floats) -> Floats:
    """d_j = log q_j - log p_j, with an error far below d. That of the logarithms is as large as d where p and q are close."""
    # 1. δ_j = [(y_j - x_j) - (y_m - x_m)] / T with m where q is largest: what one has more than the other of all logits drops
    #    out. The difference is in two parts, which together are exact.
    delta, lost = difference(y, x)
    m = first_largest(y)
    delta_m, lost_m = (np.sum(np.where(m, part, 0.0), axis=-1, keepdims=True) for part in (delta, lost))
    shifted, lost_too = difference(delta, delta_m)
    delta = (shifted + (lost_too + (lost - lost_m))) / temperature
    # 2. q_j = p_j exp(δ_j) / Σ_c p_c exp(δ_c), so that d_j = δ_j - log1p(S) with S = Σ_c p_c (exp(δ_c) - 1). A large
    #    exponential is taken times p at once.
    grown = np.where(delta < 1.0, p * np.expm1(delta), np.exp(delta - nll_p) - p)
    grown = np.where(np.isneginf(x) & np.isneginf(y), 0.0, grown)
    total = np.sum(grown, axis=-1, keepdims=True)
    # 3. Where S is near -1, p_m is far below q_m, and the logarithms' difference is exact enough. So it is where a class cannot
    #    occur in x, and S is no number.
    return np.where((total > -0.5) & np.isfinite(total), delta - np.log1p(total), nll_p - nll_q)


def _exp_beyond_the_line(d: Floats) -> Floats:
    """d + exp(-d) - 1 for |d| < 1 by its series d²/2! - d³/3! + d⁴/4! - ..., of which 20 terms leave less than 1e-19."""
    total = np.zeros_like(d)
    for k in range(21, 1, -1):
        total = (1.0 - total) * d / k
    return d * total
