"""Every function of celoss in plain NumPy: the oracle of the tests, and an explanation of every formula.

Imports NumPy only. Arithmetic is float64 whatever the input; a result is rounded once, last. Nothing here is
fast.

Notation: x logits of one row (z in the binary case), c and k classes, C their number, t the target class,
q target probabilities (one-hot for t), p = softmax(x), σ the sigmoid, lse = log Σ_c exp(x_c), w class
weights, s sample weights, ε label smoothing.

One idea runs through the file: **never subtract what can be summed**. The loss lse - x_t and the gradient
p_t - 1 of a well predicted row are tiny differences of large numbers, and rounding eats them. Both are sums
of tiny numbers as well: of the exponentials of all classes but one. So the file computes 1 - p beside p, and
-log p from the exponentials without the largest, and every loss is arithmetic on these three.
"""
# ruff: noqa: RUF002, RUF003 (the sigmoid is written with a sigma)

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "binary_brier_score",
    "binary_brier_score_with_grad",
    "binary_cross_entropy",
    "binary_cross_entropy_with_grad",
    "binary_zero_one_loss",
    "brier_score",
    "brier_score_with_grad",
    "cross_entropy",
    "cross_entropy_with_grad",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "softmax",
    "zero_one_loss",
]

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]
_Loss = float | _Array

# ----------------------------------------------------------------------------------------------------
# The pieces: sums that leave one out, softmax, sigmoid. Classes lie along the last axis.
# ----------------------------------------------------------------------------------------------------


def _first_largest(v: _Floats) -> npt.NDArray[np.bool_]:
    """Mark the first of the largest elements of each row; none where the row has a NaN."""
    largest = v == np.max(v, axis=-1, keepdims=True, initial=-np.inf)
    first: npt.NDArray[np.bool_] = largest & (np.cumsum(largest, axis=-1) == 1)
    return first


def _leave_one_out(v: _Floats) -> tuple[_Floats, _Floats]:
    """Return r, the sum of a row without its largest element, and for every k the sum without element k.

    With v_1 the element largest in magnitude, the sum without v_k is (v_1 - v_k) + r. For v ≥ 0 both terms
    are ≥ 0, so nothing cancels; for k = 1 it is r itself.
    """
    first = _first_largest(np.abs(v))
    r = np.sum(np.where(first, 0.0, v), axis=-1, keepdims=True)
    largest = np.sum(np.where(first, v, 0.0), axis=-1, keepdims=True)
    return r, (largest - v) + r


def _exponentials(x: _Floats) -> tuple[_Floats, _Floats]:
    """Return m = max_c x_c and e_c = exp(x_c - m), so that the largest e is 1.

    A row whose maximum is NaN, +inf or -inf has no probabilities: there x - m is NaN, and so is what follows.
    """
    m = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    # 1. δ is x - m rounded, ρ exactly what the rounding lost (Knuth's two-sum). Where x = -inf there is no ρ.
    delta = x - m
    moved = delta - x
    rho = (x - (delta - moved)) - (m + moved)
    rho = np.where(np.isfinite(rho), rho, 0.0)
    # 2. exp(x - m) = exp(δ) exp(ρ) = exp(δ) (1 + ρ), as ρ² is below any digit. Without ρ the relative error
    #    of e would grow to |x - m| / 2 ulp.
    e = np.exp(delta)
    return m, e + e * rho


class _Softmax(NamedTuple):
    """What every loss on rows is made of; each to full relative precision, each of the shape of x."""

    p: _Floats  # p_k
    rest: _Floats  # 1 - p_k
    nll: _Floats  # -log p_k = lse - x_k


def _softmax_pieces(x: _Floats) -> _Softmax:
    # 1. The denominator Σ e is 1 + r: one element is the maximum, whose e is 1; r sums all the others.
    m, e = _exponentials(x)
    r, others = _leave_one_out(e)
    denominator = 1.0 + r
    # 2. p_k = e_k / (1 + r), and 1 - p_k = (Σ_{c≠k} e_c) / (1 + r): for the maximum that is r / (1 + r).
    # 3. lse - x_k = (m - x_k) + log(1 + r): both terms are ≥ 0. Adding m to the log first, and subtracting
    #    x_k then, would leave only the digits that survive beside m.
    return _Softmax(e / denominator, others / denominator, (m - x) + np.log1p(r))


def _sigmoid(z: _Floats) -> _Floats:
    """σ(z) = 1 / (1 + exp(-z)); and 1 - σ(z) is _sigmoid(-z), never a subtraction."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0.0, 1.0, e) / (1.0 + e)


def _softplus(z: _Floats) -> _Floats:
    """log(1 + exp(z)) = max(z, 0) + log1p(exp(-|z|)); and -log σ(z) is _softplus(-z)."""
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def _times(weight: _Floats, loss: _Floats) -> _Floats:
    """weight · loss, where 0 · ∞ counts 0: a class of no weight costs nothing even if it is impossible."""
    return np.where((weight == 0.0) & np.isposinf(loss), 0.0, weight * loss)


def _smooth(q: _Floats, label_smoothing: float, n_classes: int) -> tuple[_Floats, _Floats]:
    """Return q' = (1 - ε) q + ε/C, and 1 - q' = (1 - ε)(1 - q) + ε (1 - 1/C) without subtracting q'."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing = {label_smoothing} is not in [0, 1]")
    keep, uniform = 1.0 - label_smoothing, 1.0 / max(n_classes, 1)
    return keep * q + label_smoothing * uniform, keep * (1.0 - q) + label_smoothing * (1.0 - uniform)


# ----------------------------------------------------------------------------------------------------
# Activations
# ----------------------------------------------------------------------------------------------------


@np.errstate(all="ignore")
def softmax(x: npt.ArrayLike, *, axis: int = -1, out: _Array | None = None) -> _Array:
    """Probabilities p_k = exp(x_k) / Σ_c exp(x_c).

    Parameters
    ----------
    x : array_like
        Scores, any shape but 0-d. Integers and bool count as float64.
    axis : int
        The axis of the classes.
    out : ndarray, optional
        Receives the result: shape and dtype of `x`; may be `x` itself.

    Returns
    -------
    ndarray
        Shape and dtype of `x`. A row with NaN or +inf, or of -inf only, is NaN.
    """
    x = _floating(x, "x")
    p = _softmax_pieces(_class_axis_last(x, axis)).p
    return _rounded(np.moveaxis(p, -1, axis), x, out)


@np.errstate(all="ignore")
def log_softmax(x: npt.ArrayLike, *, axis: int = -1, out: _Array | None = None) -> _Array:
    """Log-probabilities log p_k = -((m - x_k) + log1p(r)), r the exponentials without the largest.

    Parameters and result as for `softmax`. For the largest score the value is -log1p(r), exact if tiny, too.
    """
    x = _floating(x, "x")
    nll = _softmax_pieces(_class_axis_last(x, axis)).nll
    return _rounded(np.moveaxis(-nll, -1, axis), x, out)


@np.errstate(all="ignore")
def logsumexp(x: npt.ArrayLike, *, axis: int = -1, keepdims: bool = False) -> _Array:
    """log Σ_c exp(x_c) = m + log1p(r).

    Parameters
    ----------
    x : array_like
        Scores, any shape but 0-d.
    axis : int
        The axis to sum over.
    keepdims : bool
        Keep `axis` with length 1.

    Returns
    -------
    ndarray
        One number per row: float64 for float64 scores, float32 for the others. A row of -inf only gives -inf,
        a row with +inf gives +inf: the sum exists there, only probabilities do not. A row with NaN gives NaN.
    """
    x = _floating(x, "x")
    rows = _class_axis_last(x, axis)
    m, e = _exponentials(rows)
    r, _ = _leave_one_out(e)
    largest = np.max(rows, axis=-1, keepdims=True, initial=-np.inf)
    lse = np.where(np.isinf(largest), largest, m + np.log1p(r))
    lse = np.moveaxis(lse, -1, axis) if keepdims else lse[..., 0]
    return lse.astype(_loss_dtype(x))


@np.errstate(all="ignore")
def sigmoid(x: npt.ArrayLike, *, out: _Array | None = None) -> _Array:
    """σ(x) = 1 / (1 + exp(-x)), elementwise, in the shape and dtype of `x`.

    Parameters
    ----------
    x : array_like
        Scores, any shape.
    out : ndarray, optional
        Receives the result: shape and dtype of `x`; may be `x` itself.
    """
    x = _floating(x, "x")
    return _rounded(_sigmoid(x.astype(np.float64)), x, out)


@np.errstate(all="ignore")
def log_sigmoid(x: npt.ArrayLike, *, out: _Array | None = None) -> _Array:
    """log σ(x) = -softplus(-x) = min(x, 0) - log1p(exp(-|x|)), elementwise. Parameters as for `sigmoid`."""
    x = _floating(x, "x")
    return _rounded(-_softplus(-x.astype(np.float64)), x, out)


# ----------------------------------------------------------------------------------------------------
# Losses on rows of class scores
# ----------------------------------------------------------------------------------------------------


def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> _Loss:
    """Cross-entropy of softmax(logits): l = s Σ_c w_c q'_c (lse - x_c), with q' = (1 - ε) q + ε/C.

    For a class index t and no smoothing this is s w_t (lse - x_t) = -s w_t log p_t.

    Parameters
    ----------
    logits : array_like
        Scores, any shape but 0-d; a 1-d array is one row. Integers and bool count as float64.
    target : array_like
        Integers: class indices, of the shape of `logits` without `axis`. Floating: probabilities q, of the
        shape of `logits`; rows need not sum to 1.
    axis : int
        The axis of the classes.
    weight : array_like, optional
        Class weights w, shape (C,), finite and ≥ 0.
    sample_weight : array_like, optional
        Sample weights s, broadcastable to the shape of the per-row loss, finite and ≥ 0.
    ignore_index : int
        Rows with this class index have loss 0 and gradient 0, and their logits are never read.
    label_smoothing : float
        ε in [0, 1].
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum by Σ s w_t over the rows not ignored for class indices, by Σ s for
        probabilities.
    normalizer : float, optional
        Positive number that "mean" divides by instead.
    n_threads : int, optional
        Accepted and not used.

    Returns
    -------
    float or ndarray
        "mean" and "sum": a Python float. "none": the loss of each row, float64 for float64 logits, float32
        for the others. With nothing to average (the divisor is 0) the mean is NaN and its gradient 0.

    Raises
    ------
    TypeError
        A dtype that is not listed.
    ValueError
        A shape that does not fit, a weight that is NaN, infinite or negative, an unknown option, no classes.
    IndexError
        A class index outside [0, C) that is not `ignore_index`.
    """
    loss, _ = cross_entropy_with_grad(
        logits, target, axis=axis, weight=weight, sample_weight=sample_weight, ignore_index=ignore_index,
        label_smoothing=label_smoothing, reduction=reduction, normalizer=normalizer, n_threads=n_threads,
    )  # fmt: skip
    return loss


@np.errstate(all="ignore")
def cross_entropy_with_grad(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: _Array | None = None,
) -> tuple[_Loss, _Array]:
    """`cross_entropy` and its gradient ∂l/∂x_k = s [p_k Σ_c w_c q'_c - w_k q'_k].

    Parameters
    ----------
    grad_output : array_like, optional
        Upstream gradient that multiplies the gradient: a scalar or, for "none", of the shape of the loss.
    out : ndarray, optional
        Receives the gradient: shape and dtype of `logits`; may be `logits` itself.
    **others
        As for `cross_entropy`.

    Returns
    -------
    loss : float or ndarray
    grad : ndarray
        Shape and dtype of `logits`: the gradient of the mean or the sum; of each row's own loss for "none".
    """
    rows = _rows(logits, target, axis, weight, sample_weight, ignore_index)
    p, rest, nll = _softmax_pieces(rows.x)
    # 1. All options are one coefficient per class, a_c = s w_c q'_c; for a class index without smoothing only
    #    a_t is not 0.
    q, _ = _smooth(rows.q, label_smoothing, rows.q.shape[-1])
    a = rows.s * rows.w * q
    # 2. l = Σ_c a_c (lse - x_c)
    loss = np.sum(_times(a, nll), axis=-1)
    # 3. ∂l/∂x_k = Σ_c a_c (p_k - [k = c]) = p_k Σ_{c≠k} a_c - a_k (1 - p_k). At a target index the first term
    #    is 0, the second minus the sum of the other probabilities; elsewhere the second is 0. Nothing cancels
    #    that does not cancel in the exact value.
    _, other_a = _leave_one_out(a)
    grad = p * other_a - a * rest
    scale = _Scale(rows.share, rows.ignored, reduction, normalizer, grad_output)
    return _result(loss, grad, scale, logits, axis, out)


def brier_score(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> _Loss:
    """Squared error of softmax(logits): l = s w_t Σ_c (p_c - q'_c)², with q' = (1 - ε) q + ε/C.

    Parameters, result and errors as for `cross_entropy`. A row of probabilities has no class t whose weight
    it could take: there `weight` is a ValueError.
    """
    loss, _ = brier_score_with_grad(
        logits, target, axis=axis, weight=weight, sample_weight=sample_weight, ignore_index=ignore_index,
        label_smoothing=label_smoothing, reduction=reduction, normalizer=normalizer, n_threads=n_threads,
    )  # fmt: skip
    return loss


@np.errstate(all="ignore")
def brier_score_with_grad(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: _Array | None = None,
) -> tuple[_Loss, _Array]:
    """`brier_score` and its gradient ∂l/∂x_k = s w_t · 2 p_k [(p_k - q'_k) - Σ_c p_c (p_c - q'_c)].

    Parameters and result as for `cross_entropy_with_grad`.
    """
    rows = _rows(logits, target, axis, weight, sample_weight, ignore_index)
    if weight is not None and not rows.is_index:
        raise ValueError("weight needs class indices: probabilities have no one class whose weight counts")
    p, rest, _ = _softmax_pieces(rows.x)
    # 1. The error p_c - q_c = p_c (1 - q_c) - q_c (1 - p_c): for one-hot q one of the two terms is 0.
    q, rest_q = _smooth(rows.q, label_smoothing, rows.q.shape[-1])
    error = p * rest_q - q * rest
    # 2. l = u Σ_c error_c², where u = s w_t is also what the row adds to the denominator of the mean.
    u = rows.share[..., None]
    loss = np.sum(u * error**2, axis=-1)
    # 3. ∂l/∂x_k = 2 u p_k [error_k - Σ_c p_c error_c] = 2 u p_k [(1 - p_k) error_k - Σ_{c≠k} p_c error_c].
    #    At a target index all the terms of the second form are ≤ 0; the first would cancel as p_t → 1.
    _, others = _leave_one_out(p * error)
    grad = 2.0 * u * p * (rest * error - others)
    scale = _Scale(rows.share, rows.ignored, reduction, normalizer, grad_output)
    return _result(loss, grad, scale, logits, axis, out)


@np.errstate(all="ignore")
def zero_one_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> _Loss:
    """Classification error: l = s if the largest score is not that of the target, else 0.

    Parameters, result and errors as for `cross_entropy`. Of equal scores the first is the prediction. For
    probabilities q the loss is the expected error, s Σ q_c over all classes but the predicted. A row with NaN
    or +inf, or of -inf only, is NaN.
    """
    rows = _rows(logits, target, axis, None, sample_weight, ignore_index)
    missed = np.sum(np.where(_first_largest(rows.x), 0.0, rows.q), axis=-1)
    decided = np.isfinite(np.max(rows.x, axis=-1, initial=-np.inf))
    loss = rows.s[..., 0] * np.where(decided, missed, np.nan)
    return _reduced(loss, _Scale(rows.share, rows.ignored, reduction, normalizer), logits)


# ----------------------------------------------------------------------------------------------------
# Losses on binary scores
# ----------------------------------------------------------------------------------------------------


def binary_cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    pos_weight: npt.ArrayLike | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> _Loss:
    """Cross-entropy of σ(logits): l = w [pos_weight · y' softplus(-z) + (1 - y') softplus(z)].

    Label smoothing makes y' = (1 - ε) y + ε/2 of the label.

    Parameters
    ----------
    logits : array_like
        Scores z, any shape.
    target : array_like
        Labels y in [0, 1], bool, integer or floating, of the shape of `logits`.
    weight, pos_weight : array_like, optional
        Broadcastable to the shape of `logits`, finite and ≥ 0.
    label_smoothing, reduction, normalizer, n_threads
        As for `cross_entropy`; "mean" divides by the number of elements, whatever the weights.

    Returns
    -------
    float or ndarray
        As for `cross_entropy`. A score of ±inf is a certain prediction: loss 0 if it is right, +inf if wrong.
    """
    loss, _ = binary_cross_entropy_with_grad(
        logits, target, weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing,
        reduction=reduction, normalizer=normalizer, n_threads=n_threads,
    )  # fmt: skip
    return loss


@np.errstate(all="ignore")
def binary_cross_entropy_with_grad(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    pos_weight: npt.ArrayLike | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: _Array | None = None,
) -> tuple[_Loss, _Array]:
    """`binary_cross_entropy` and its gradient ∂l/∂z = w [(1 - y') σ(z) - pos_weight · y' σ(-z)].

    Parameters as for `binary_cross_entropy`; `grad_output`, `out` and the result as for
    `cross_entropy_with_grad`.
    """
    z, y, w = _binary(logits, target, weight)
    # 1. The coefficients of the two cases: a_1 = w · pos_weight · y' of "yes", a_0 = w (1 - y') of "no".
    y, rest_y = _smooth(y, label_smoothing, 2)
    a_1 = w * _weights(pos_weight, "pos_weight", z.shape) * y
    a_0 = w * rest_y
    # 2. -log σ(z) = softplus(-z) and -log(1 - σ(z)) = softplus(z)
    loss = _times(a_1, _softplus(-z)) + _times(a_0, _softplus(z))
    # 3. softplus' = σ. For y = 1 the gradient is -a_1 σ(-z), for y = 0 it is a_0 σ(z).
    grad = a_0 * _sigmoid(z) - a_1 * _sigmoid(-z)
    scale = _Scale(np.ones_like(z), np.zeros(z.shape, np.bool_), reduction, normalizer, grad_output)
    return _result(loss, grad, scale, logits, None, out)


def binary_brier_score(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> _Loss:
    """Squared error of σ(logits): l = w (σ(z) - y)². Parameters and result as for `binary_cross_entropy`."""
    loss, _ = binary_brier_score_with_grad(
        logits, target, weight=weight, reduction=reduction, normalizer=normalizer, n_threads=n_threads
    )
    return loss


@np.errstate(all="ignore")
def binary_brier_score_with_grad(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: _Array | None = None,
) -> tuple[_Loss, _Array]:
    """`binary_brier_score` and its gradient ∂l/∂z = 2 w (σ(z) - y) σ(z) σ(-z).

    Parameters as for `binary_brier_score`; `grad_output`, `out` and the result as for
    `cross_entropy_with_grad`.
    """
    z, y, w = _binary(logits, target, weight)
    p, rest = _sigmoid(z), _sigmoid(-z)
    # 1. σ - y = σ (1 - y) - y (1 - σ), as for brier_score
    error = p * (1.0 - y) - y * rest
    loss = w * error**2
    # 2. σ' = σ (1 - σ)
    grad = 2.0 * w * error * p * rest
    scale = _Scale(np.ones_like(z), np.zeros(z.shape, np.bool_), reduction, normalizer, grad_output)
    return _result(loss, grad, scale, logits, None, out)


@np.errstate(all="ignore")
def binary_zero_one_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> _Loss:
    """Classification error: l = w |[z > 0] - y|, NaN where z is NaN.

    Parameters and result as for `binary_cross_entropy`. For a label between 0 and 1 it is the expected error.
    """
    z, y, w = _binary(logits, target, weight)
    loss = w * np.where(np.isnan(z), np.nan, np.abs((z > 0.0) - y))
    scale = _Scale(np.ones_like(z), np.zeros(z.shape, np.bool_), reduction, normalizer)
    return _reduced(loss, scale, logits)


# ----------------------------------------------------------------------------------------------------
# From losses to results
# ----------------------------------------------------------------------------------------------------


class _Scale(NamedTuple):
    """What the losses and gradients are scaled by. N... is the shape of the loss before reduction."""

    share: _Floats  # (N...) what each loss adds to the denominator of the mean
    ignored: npt.NDArray[np.bool_]  # (N...) where the gradient is 0
    reduction: str
    normalizer: float | None
    grad_output: npt.ArrayLike | None = None

    def denominator(self) -> float:
        """What the sum of the losses is divided by."""
        if self.reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {self.reduction!r}")
        if self.normalizer is not None and not 0.0 < self.normalizer < np.inf:
            raise ValueError(f"normalizer must be positive and finite, not {self.normalizer}")
        if self.reduction != "mean":
            return 1.0
        return float(np.sum(self.share) if self.normalizer is None else self.normalizer)

    def upstream(self) -> _Floats:
        """The upstream gradient of each loss: a scalar, or of shape N..."""
        upstream = np.asarray(1.0 if self.grad_output is None else self.grad_output).astype(np.float64)
        expected = self.share.shape if self.reduction == "none" else ()
        if upstream.shape not in {(), expected}:
            raise ValueError(f"grad_output has shape {upstream.shape}; expected a scalar or {expected}")
        return upstream


def _reduced(loss: _Floats, scale: _Scale, logits: npt.ArrayLike) -> _Loss:
    """The loss as the caller sees it. A mean of nothing is NaN."""
    denominator = scale.denominator()
    if scale.reduction == "none":
        return np.asarray(loss).astype(_loss_dtype(_floating(logits, "logits")))
    return float(np.sum(loss)) / denominator if denominator else float("nan")


def _result(
    loss: _Floats, grad: _Floats, scale: _Scale, logits: npt.ArrayLike, axis: int | None, out: _Array | None
) -> tuple[_Loss, _Array]:
    """The loss reduced, and its gradient scaled by upstream / denominator; `axis` None means binary."""
    denominator, upstream = scale.denominator(), scale.upstream()
    # A factor 0 would not do: the gradient may be NaN where nothing is averaged.
    zero = scale.ignored | (denominator == 0.0)
    if axis is None:
        grad = np.where(zero, 0.0, grad * upstream / denominator)
    else:
        grad = np.where(zero[..., None], 0.0, grad * upstream[..., None] / denominator)
        grad = np.moveaxis(grad, -1, axis)
    return _reduced(loss, scale, logits), _rounded(grad, _floating(logits, "logits"), out)


def _rounded(values: _Floats, like: _Array, out: _Array | None) -> _Array:
    """`values` rounded to the dtype of `like`, written to `out` if there is one."""
    dtype = like.dtype.newbyteorder("=")
    if dtype.name == "bfloat16":
        # ml_dtypes rounds to float32 on the way. Rounded to bfloat16's 8 bits here, its rounding is exact.
        # The unit is 2^(exponent - 8), and never below 2^-133, the smallest subnormal.
        _, exponent = np.frexp(values)
        exponent = np.maximum(exponent, -125) - 8
        values = np.ldexp(np.rint(np.ldexp(values, -exponent)), exponent)
    result = np.asarray(values).astype(dtype, order="C")
    if out is None:
        return result
    if out.shape != result.shape or out.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"out is {out.dtype}{out.shape}; expected {dtype}{result.shape}")
    out[...] = result
    return out


# ----------------------------------------------------------------------------------------------------
# From arguments to float64 rows
# ----------------------------------------------------------------------------------------------------


def _floating(array: npt.ArrayLike, name: str) -> _Array:
    """`array` in one of the four floating dtypes; integers and bool become float64."""
    array = np.asarray(array)
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    if array.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        raise TypeError(f"{name} has dtype {array.dtype}; expected float16, bfloat16, float32 or float64")
    return array


def _loss_dtype(logits: _Array) -> npt.DTypeLike:
    return np.float64 if logits.dtype.name == "float64" else np.float32


def _class_axis_last(x: _Array, axis: int) -> _Floats:
    """Float64 copy with the classes along the last axis, always in C order: the same sums for any strides."""
    rows = np.moveaxis(x, axis, -1).astype(np.float64, order="C")
    if rows.shape[-1] == 0 and 0 not in rows.shape[:-1]:
        raise ValueError(f"there are no classes: axis {axis} of shape {x.shape} is empty")
    return rows


def _weights(weight: npt.ArrayLike | None, name: str, shape: tuple[int, ...]) -> _Floats:
    """Weights in float64, broadcast to `shape`; ones if there are none."""
    w = np.asarray(1.0 if weight is None else weight).astype(np.float64)
    if not np.all((w >= 0.0) & (w < np.inf)):
        raise ValueError(f"{name} must be finite and not negative")
    try:
        return np.broadcast_to(w, shape)
    except ValueError:
        raise ValueError(f"{name} has shape {w.shape}; expected one that broadcasts to {shape}") from None


class _Rows(NamedTuple):
    """The arguments of a loss on rows, ready for arithmetic. N... is the shape of the per-row loss."""

    x: _Floats  # (N..., C) logits, 0 in ignored rows
    q: _Floats  # (N..., C) target probabilities, one-hot for class indices
    w: _Floats  # (C,) class weights
    s: _Floats  # (N..., 1) sample weights, 0 in ignored rows
    share: _Floats  # (N...,) what the row adds to the denominator of the mean
    ignored: npt.NDArray[np.bool_]  # (N...,)
    is_index: bool  # whether the targets are class indices


def _rows(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    axis: int,
    weight: npt.ArrayLike | None,
    sample_weight: npt.ArrayLike | None,
    ignore_index: int,
) -> _Rows:
    logits, target = _floating(logits, "logits"), np.asarray(target)
    x = _class_axis_last(logits, axis)
    shape, n_classes = x.shape[:-1], x.shape[-1]

    # 1. The dtype of the target says which form it has: class indices or probabilities.
    is_index = target.dtype.kind in "iu"
    if is_index:
        if target.shape != shape:
            raise ValueError(
                f"integer targets are class indices of shape {shape}, but target has {target.shape}; "
                f"probabilities are floating, of shape {logits.shape}"
            )
        ignored = target == ignore_index
        bad = ~ignored & ((target < 0) | (target >= n_classes))
        if np.any(bad):
            position = tuple(int(i) for i in np.argwhere(bad)[0])
            where = ", ".join(map(str, position)) or "()"
            raise IndexError(f"target[{where}] = {target[position]} is not in [0, {n_classes})")
        q = (target[..., None] == np.arange(n_classes)).astype(np.float64)
    else:
        if target.dtype.kind == "b":
            raise TypeError("target is bool; expected integers (class indices) or floats (probabilities)")
        if target.shape != logits.shape:
            raise ValueError(
                f"floating targets are probabilities of shape {logits.shape}, but target has {target.shape}; "
                f"class indices are integers of shape {shape}"
            )
        ignored = np.zeros(shape, np.bool_)
        q = _class_axis_last(_floating(target, "target"), axis)

    # 2. Ignored rows are dropped by value, not by a factor 0: they may hold NaN.
    x = np.where(ignored[..., None], 0.0, x)
    s = np.where(ignored, 0.0, _weights(sample_weight, "sample_weight", shape))[..., None]

    # 3. The mean over class indices divides by Σ s w_t, the mean over probabilities by Σ s, as in PyTorch.
    if weight is not None and np.shape(weight) != (n_classes,):
        raise ValueError(f"weight has shape {np.shape(weight)}; expected ({n_classes},)")
    w = _weights(weight, "weight", (n_classes,))
    share = s[..., 0] * np.sum(w * q, axis=-1) if is_index else s[..., 0]
    return _Rows(x, q, w, s, share, ignored, is_index)


def _binary(logits: npt.ArrayLike, target: npt.ArrayLike, weight: npt.ArrayLike | None) -> tuple[_Floats, _Floats, _Floats]:
    z = _floating(logits, "logits").astype(np.float64, order="C")
    y = _floating(target, "target").astype(np.float64, order="C")
    if y.shape != z.shape:
        raise ValueError(f"target has shape {y.shape}; expected the shape {z.shape} of logits")
    return z, y, _weights(weight, "weight", z.shape)
