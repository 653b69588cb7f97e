"""Every function of celoss in plain NumPy: the oracle of the tests, and an explanation of every formula.

Parameters, results and errors are those of the functions of the same names in `celoss`, and described there;
`n_threads` is accepted and not used. Here stand the formulas. What brings arguments into their form, and
results back, is in `_reference_arguments`. Arithmetic is float64 whatever the input; a result is rounded once,
last. Nothing here is fast.

Notation: x logits of one row (z in the binary case), c and k classes, C their number, t the target class,
q target probabilities (one-hot for t), p = softmax(x), σ the sigmoid, lse = log Σ_c exp(x_c), w class
weights, s sample weights, ε label smoothing, H the Hessian of one row's loss with respect to x, v a vector.

Nothing is subtracted that can be summed: `_reference_pieces` says how. What only language models ask for, numbers
of a row and the distance of two distributions, is in `_reference_language`.
"""
# ruff: noqa: RUF002, RUF003 (the sigmoid is written with a sigma)

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from celoss._reference_arguments import (
    Array,
    Axis,
    Floats,
    Loss,
    Rows,
    Scale,
    as_axes,
    as_floating,
    as_many_as,
    as_rows,
    as_scores,
    as_weights,
    axes_apart,
    axes_as_one,
    check_focal,
    check_z_loss,
    class_axis_last,
    loss_dtype,
    reduced,
    results,
    rounded,
    scalar_or_array,
    scaled,
)
from celoss._reference_language import kl_divergence, kl_divergence_with_grad, row_statistics
from celoss._reference_pieces import (
    exponentials,
    first_largest,
    leave_one_out,
    nll_over_miss,
    scores,
    sigma,
    smooth,
    softmax_pieces,
    softplus,
    weighted,
)

__all__ = [
    "binary_brier_score",
    "binary_brier_score_with_grad",
    "binary_cross_entropy",
    "binary_cross_entropy_hessp",
    "binary_cross_entropy_with_grad",
    "binary_cross_entropy_with_grad_hess",
    "binary_zero_one_loss",
    "brier_score",
    "brier_score_with_grad",
    "cross_entropy",
    "cross_entropy_hessp",
    "cross_entropy_with_grad",
    "cross_entropy_with_grad_hess",
    "kl_divergence",
    "kl_divergence_with_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "row_statistics",
    "sigmoid",
    "softmax",
    "softmax_vjp",
    "zero_one_loss",
]

# ----------------------------------------------------------------------------------------------------
# Activations
# ----------------------------------------------------------------------------------------------------


@np.errstate(all="ignore")
def softmax(x: npt.ArrayLike, *, axis: Axis = -1, out: Array | None = None) -> Array:
    """Probabilities p_k = exp(x_k) / Σ_c exp(x_c). A row with NaN or +inf, or of -inf only, is NaN."""
    x = as_floating(x, "x")
    axes = as_axes(axis, x.ndim)
    p = softmax_pieces(axes_as_one(x, axes)).p
    return rounded(axes_apart(p, axes, x.shape), x, out)


@np.errstate(all="ignore")
def log_softmax(x: npt.ArrayLike, *, axis: Axis = -1, out: Array | None = None) -> Array:
    """Log-probabilities log p_k = -((m - x_k) + log1p(r)), r the exponentials without the largest.

    For the largest score the value is -log1p(r), exact if tiny, too.
    """
    x = as_floating(x, "x")
    axes = as_axes(axis, x.ndim)
    nll = softmax_pieces(axes_as_one(x, axes)).nll
    return rounded(axes_apart(-nll, axes, x.shape), x, out)


@np.errstate(all="ignore")
def logsumexp(x: npt.ArrayLike, *, axis: Axis = -1, keepdims: bool = False) -> Array:
    """log Σ_c exp(x_c) = m + log1p(r).

    A row of -inf only gives -inf, as nothing does; a row with +inf gives +inf: the sum exists there, only probabilities
    do not.
    """
    x = as_floating(x, "x")
    axes = as_axes(axis, x.ndim)
    rows = axes_as_one(x, axes)
    m, _, e = exponentials(rows)
    r, _ = leave_one_out(e)
    largest = np.max(rows, axis=-1, keepdims=True, initial=-np.inf)
    lse = np.where(np.isinf(largest), largest, m + np.log1p(r))
    lse = np.expand_dims(lse[..., 0], axes if keepdims else ())
    return scalar_or_array(lse.astype(loss_dtype(x)))


@np.errstate(all="ignore")
def softmax_vjp(p: npt.ArrayLike, grad_output: npt.ArrayLike, *, axis: int = -1, out: Array | None = None) -> Array:
    """Back through softmax: p_k (g_k - Σ_c p_c g_c), with p its result and g the gradient with respect to it."""
    p, g = as_floating(p, "p"), as_many_as(grad_output, "grad_output", np.shape(p))
    rows, upstream = (axes_as_one(a, as_axes(axis, p.ndim)) for a in (p, g))
    back = rows * (upstream - np.sum(rows * upstream, axis=-1, keepdims=True))
    return rounded(np.moveaxis(back, -1, axis), p, out)


@np.errstate(all="ignore")
def log_softmax_vjp(log_p: npt.ArrayLike, grad_output: npt.ArrayLike, *, axis: int = -1, out: Array | None = None) -> Array:
    """Back through log_softmax: g_k - exp(log p_k) Σ_c g_c."""
    log_p, g = as_floating(log_p, "log_p"), as_many_as(grad_output, "grad_output", np.shape(log_p))
    rows, upstream = (axes_as_one(a, as_axes(axis, log_p.ndim)) for a in (log_p, g))
    back = upstream - np.exp(rows) * np.sum(upstream, axis=-1, keepdims=True)
    return rounded(np.moveaxis(back, -1, axis), log_p, out)


@np.errstate(all="ignore")
def sigmoid(x: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """σ(x) = 1 / (1 + exp(-x)), elementwise."""
    x = as_floating(x, "x")
    return rounded(sigma(x.astype(np.float64)), x, out)


@np.errstate(all="ignore")
def log_sigmoid(x: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """log σ(x) = -softplus(-x) = min(x, 0) - log1p(exp(-|x|)), elementwise."""
    x = as_floating(x, "x")
    return rounded(-softplus(-x.astype(np.float64)), x, out)


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
    focal_gamma: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> Loss:
    """Cross-entropy of softmax(logits): l = s Σ_c w_c q'_c (lse - x_c), with q' = (1 - ε) q + ε/C.

    For a class index t and no smoothing this is s w_t (lse - x_t) = -s w_t log p_t. The mean divides the sum by
    Σ s w_t over the rows not ignored for class indices, by Σ s for probabilities. With nothing to average (the
    divisor is 0) it is NaN, and its gradient 0.

    With a focal exponent γ > 0 (class indices, no smoothing) it is l = s w_t (1 - p_t)^γ (-log p_t).

    With a scale a ≠ 1 or a cap c all of this is said of the scores u = a x, or u = c tanh(a x / c), in place of the logits x;
    an infinity stays one. With z_loss z > 0 each row that counts adds s z lse², whatever its target and the class weights are;
    lse is that of u.
    """
    loss, _ = cross_entropy_with_grad(
        logits, target, axis=axis, weight=weight, sample_weight=sample_weight, ignore_index=ignore_index,
        label_smoothing=label_smoothing, focal_gamma=focal_gamma, logit_scale=logit_scale, logit_softcap=logit_softcap,
        z_loss=z_loss, reduction=reduction, normalizer=normalizer, n_threads=n_threads,
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
    focal_gamma: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[Loss, Array]:
    """`cross_entropy` and its gradient ∂l/∂x_k = s [p_k Σ_c w_c q'_c - w_k q'_k].

    z_loss adds s 2 z lse p_k. Scale and cap multiply all of it by ∂u_k/∂x_k, which is a, or a (1 - tanh²(a x_k / c)).
    """
    rows = as_rows(logits, target, axis, weight, sample_weight, ignore_index)
    loss, grad, _ = _cross_entropy_pieces(rows, label_smoothing, focal_gamma, logit_scale, logit_softcap, z_loss)
    scale = Scale(rows.share, rows.ignored, reduction, normalizer, grad_output)
    return results(loss, grad, scale, logits, axis, out)


@np.errstate(all="ignore")
def cross_entropy_with_grad_hess(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    hess_out: Array | None = None,
) -> tuple[Loss, Array, Array]:
    """`cross_entropy_with_grad` and the diagonal of the Hessian, ∂²l/∂x_k² = s p_k (1 - p_k) Σ_c w_c q'_c.

    It is scaled as the gradient is, by `grad_output` too. Of ignored rows it is 0, of rows that are NaN it is NaN; of a
    class at -inf, for which p_k = 0, it is 0, even if that is the target. With a focal exponent it is the diagonal of
    the exact Hessian, which may be negative: the focal loss is not convex.

    z_loss adds s 2 z [p_k² + lse p_k (1 - p_k)]. With scores u(x), ∂²l/∂x_k² = ∂²l/∂u_k² (∂u_k/∂x_k)² + ∂l/∂u_k ∂²u_k/∂x_k²,
    where ∂²u/∂x² = -2 (a / c) tanh(a x / c) ∂u/∂x.
    """
    rows = as_rows(logits, target, axis, weight, sample_weight, ignore_index)
    loss, grad, hessian = _cross_entropy_pieces(rows, label_smoothing, focal_gamma, logit_scale, logit_softcap, z_loss)
    scale = Scale(rows.share, rows.ignored, reduction, normalizer, grad_output)
    return (
        *results(loss, grad, scale, logits, axis, out),
        scaled(hessian.diagonal(), scale, logits, axis, hess_out, "hess_out"),
    )


@np.errstate(all="ignore")
def cross_entropy_hessp(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    vector: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """The Hessian of `cross_entropy` times a vector of the logits' shape: s Σ_c w_c q'_c (p_k v_k - p_k Σ_c p_c v_c).

    No row meets another: this is each row's H times the row's part of the vector. Of ignored rows it is 0, whatever
    the vector holds there. With `reduction` "none" it is that of each row's own loss. With a focal exponent H is exact, and
    v · H v may be negative.

    z_loss adds s 2 z [p pᵀ + lse (diag(p) - p pᵀ)] to H. With scores u(x) the product is u' (H_u (u' v)) + (∂l/∂u) u'' v, element
    by element but for H_u, the Hessian with respect to u.
    """
    rows = as_rows(logits, target, axis, weight, sample_weight, ignore_index)
    v = class_axis_last(as_many_as(vector, "vector", np.shape(logits)), axis)
    _, _, hessian = _cross_entropy_pieces(rows, label_smoothing, focal_gamma, logit_scale, logit_softcap, z_loss)
    return scaled(hessian.times(v), Scale(rows.share, rows.ignored, reduction, normalizer), logits, axis, out)


class LinearGradients(NamedTuple):
    features: Array
    linear_weight: Array
    linear_bias: Array | None


def linear_cross_entropy(
    features: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    chunk_bytes: int | None = None,
) -> Loss:
    """`cross_entropy` of the logits x = W h + b, with h the features of a row; `chunk_bytes` is not used."""
    loss, _ = linear_cross_entropy_with_grad(
        features, linear_weight, target, linear_bias=linear_bias, weight=weight, sample_weight=sample_weight,
        ignore_index=ignore_index, label_smoothing=label_smoothing, focal_gamma=focal_gamma, logit_scale=logit_scale,
        logit_softcap=logit_softcap, z_loss=z_loss, reduction=reduction, normalizer=normalizer,
    )  # fmt: skip
    return loss


@np.errstate(all="ignore")
def linear_cross_entropy_with_grad(
    features: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    chunk_bytes: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> tuple[Loss, LinearGradients]:
    """`linear_cross_entropy` and its gradients: with g_n that of row n with respect to its logits, ∂l/∂h_n = Wᵀ g_n,
    ∂l/∂W = Σ_n g_n h_nᵀ and ∂l/∂b = Σ_n g_n.
    """
    # 1. The logits. Of a row that is left out nothing counts, whatever its features hold.
    features, linear_weight = as_floating(features, "features"), as_floating(linear_weight, "linear_weight")
    linear_bias = None if linear_bias is None else as_floating(linear_bias, "linear_bias")
    inputs = (features, linear_weight, linear_bias)
    h, w = features.astype(np.float64), linear_weight.astype(np.float64)
    x = h @ w.T + (0.0 if linear_bias is None else linear_bias.astype(np.float64))
    ignored = as_rows(x, target, -1, weight, sample_weight, ignore_index).ignored
    h = np.where(ignored[..., None], 0.0, h)

    # 2. Their loss and its gradient; of each row in float64 only where an input is float64.
    loss, g = cross_entropy_with_grad(
        x, target, weight=weight, sample_weight=sample_weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
        focal_gamma=focal_gamma, logit_scale=logit_scale, logit_softcap=logit_softcap, z_loss=z_loss, reduction=reduction,
        normalizer=normalizer, grad_output=grad_output,
    )  # fmt: skip
    if reduction == "none" and not any(a is not None and a.dtype == np.float64 for a in inputs):
        loss = scalar_or_array(np.asarray(loss).astype(np.float32))

    # 3. Back through the layer, where a bias is a weight of a feature that is 1.
    g_rows, h_rows = g.reshape(-1, w.shape[0]), h.reshape(-1, w.shape[1])
    gradients = (g @ w, g_rows.T @ h_rows, np.sum(g_rows, axis=0))
    places = (None, None, None) if out is None else out
    found = [None if a is None else rounded(d, a, o) for d, a, o in zip(gradients, inputs, places, strict=True)]
    return loss, LinearGradients(*found)  # type: ignore[arg-type]


class _Hessian(NamedTuple):
    """Of each row H = u' [f (diag(p) - p pᵀ) + h p pᵀ - g d dᵀ] u' + diag(bend): h of z_loss, g of a focal factor."""

    p: Floats  # p_k
    miss: Floats  # 1 - p_k
    f: Floats  # (N..., 1), what multiplies p_k in the gradient
    g: Floats  # (N..., 1)
    d: Floats  # (p_k - [k = t]) / (1 - p_t)
    h: Floats  # (N..., 1)
    slope: Floats  # u'_k
    bend: Floats  # ∂l/∂u_k · u''_k

    def diagonal(self) -> Floats:
        of_scores = self.f * self.p * self.miss + self.h * self.p * self.p - self.g * self.d * self.d
        return of_scores * self.slope * self.slope + self.bend

    def times(self, v: Floats) -> Floats:
        w = self.slope * v
        # p_k w_k - p_k Σ_c p_c w_c = p_k [(1 - p_k) w_k - Σ_{c≠k} p_c w_c]. The first form would cancel as p_k → 1.
        _, others = leave_one_out(self.p * w)
        along: Floats = np.sum(self.d * w, axis=-1, keepdims=True)
        mean: Floats = np.sum(self.p * w, axis=-1, keepdims=True)
        of_scores = self.f * self.p * (self.miss * w - others) + self.h * self.p * mean - self.g * self.d * along
        return self.slope * of_scores + self.bend * v


def _cross_entropy_pieces(
    rows: Rows, label_smoothing: float, focal_gamma: float, logit_scale: float, logit_softcap: float | None, z_loss: float
) -> tuple[Floats, Floats, _Hessian]:
    """Loss, gradient and Hessian of each row by itself."""
    # 0. What the softmax is taken of, u(x). Up to the last step, derivatives are those with respect to u.
    u = scores(rows.x, logit_scale, logit_softcap)
    p, miss, nll, lse = softmax_pieces(u.u, u.lost)
    # 1. All options are one coefficient per class, a_c = s w_c q'_c; for a class index without smoothing only
    #    a_t is not 0.
    q, _ = smooth(rows.q, label_smoothing, rows.q.shape[-1])
    a = rows.s * rows.w * q
    # 2. l = Σ_c a_c (lse - u_c)
    loss = np.sum(weighted(a, nll), axis=-1)
    # 3. ∂l/∂u_k = Σ_c a_c (p_k - [k = c]) = p_k Σ_{c≠k} a_c - a_k (1 - p_k). At a target index the first term
    #    is 0, the second minus the sum of the other probabilities; elsewhere the second is 0. Nothing cancels
    #    that does not cancel in the exact value.
    _, other_a = leave_one_out(a)
    grad = p * other_a - a * miss
    # 4. ∂p_k/∂u_j = p_k ([k = j] - p_j), and the a_c are constants: H = Σ_c a_c (diag(p) - p pᵀ).
    f = np.sum(a, axis=-1, keepdims=True)
    g, d, h = np.zeros_like(f), np.zeros_like(p), np.zeros_like(f)
    if focal_gamma:
        # 5. ∂/∂u_k of (1 - p_t)^γ (-log p_t) is (p_k - [k = t]) F with F = (1 - p_t)^γ [1 + γ p_t (-log p_t) / (1 - p_t)],
        #    where all terms are ≥ 0.
        check_focal(focal_gamma, label_smoothing, rows.is_index)
        at_target = rows.q > 0.0
        p_t, miss_t, nll_t = (np.sum(np.where(at_target, part, 0.0), axis=-1, keepdims=True) for part in (p, miss, nll))
        power = miss_t**focal_gamma
        ratio = weighted(p_t, nll_over_miss(nll_t, miss_t))
        factor = power * (1.0 + focal_gamma * ratio)
        # 6. F depends on p_t alone, and ∂p_t/∂u_j = -p_t (p_j - [j = t]). Its derivative makes H = F (diag(p) - p pᵀ)
        #    - G (p - [t]) (p - [t])ᵀ, where
        #    G = p_t ∂F/∂p_t = γ p_t (1 - p_t)^(γ-1) [-log p_t - (γ - 1) p_t (-log p_t) / (1 - p_t) - 2].
        #    For γ < 1 the power grows without bound as p_t → 1, while p - [t] vanishes as 1 - p_t does. So d, that divided
        #    by 1 - p_t, in which nothing is larger than 1, stands for p - [t], and g = G (1 - p_t)² for G.
        bend = weighted(p_t, nll_t) - p_t * ((focal_gamma - 1.0) * ratio + 2.0)
        g = f * (power * focal_gamma * miss_t * bend)
        d = np.where(at_target, -1.0, np.where(miss_t == 0.0, 0.0, p / miss_t))
        loss, grad, f = weighted(power[..., 0], loss), grad * factor, f * factor
    check_z_loss(z_loss)
    if z_loss:
        # 7. ∂lse/∂u_k = p_k, so that s z lse² has the gradient s 2 z lse p_k, and in H s 2 z [p pᵀ + lse (diag(p) - p pᵀ)].
        h = rows.s * (2.0 * z_loss)
        loss, grad, f = loss + (0.5 * h * lse * lse)[..., 0], grad + h * lse * p, f + h * lse
    # 8. Back to x
    return loss, grad * u.slope, _Hessian(p, miss, f, g, d, h, u.slope, grad * u.bend)


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
) -> Loss:
    """Squared error of softmax(logits): l = s w_t Σ_c (p_c - q'_c)², with q' = (1 - ε) q + ε/C.

    A row of probabilities has no class t whose weight it could take: there `weight` is a ValueError.
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
    out: Array | None = None,
) -> tuple[Loss, Array]:
    """`brier_score` and its gradient ∂l/∂x_k = s w_t · 2 p_k [(p_k - q'_k) - Σ_c p_c (p_c - q'_c)]."""
    rows = as_rows(logits, target, axis, weight, sample_weight, ignore_index)
    if weight is not None and not rows.is_index:
        raise ValueError("weight needs class indices: probabilities have no one class whose weight counts")
    p, miss, _, _ = softmax_pieces(rows.x)
    # 1. The error p_c - q_c = p_c (1 - q_c) - q_c (1 - p_c): for one-hot q one of the two terms is 0.
    q, miss_q = smooth(rows.q, label_smoothing, rows.q.shape[-1])
    error = p * miss_q - q * miss
    # 2. l = u Σ_c error_c², where u = s w_t is also what the row adds to the denominator of the mean.
    u = rows.share[..., None]
    loss = np.sum(u * error**2, axis=-1)
    # 3. ∂l/∂x_k = 2 u p_k [error_k - Σ_c p_c error_c] = 2 u p_k [(1 - p_k) error_k - Σ_{c≠k} p_c error_c].
    #    At a target index all the terms of the second form are ≤ 0; the first would cancel as p_t → 1.
    _, others = leave_one_out(p * error)
    grad = 2.0 * u * p * (miss * error - others)
    scale = Scale(rows.share, rows.ignored, reduction, normalizer, grad_output)
    return results(loss, grad, scale, logits, axis, out)


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
) -> Loss:
    """Classification error: l = s if the largest score is not that of the target, else 0.

    Of equal scores the first is the prediction. For probabilities q the loss is the expected error, s Σ q_c over
    all classes but the predicted. A row with NaN or +inf, or of -inf only, is NaN.
    """
    rows = as_rows(logits, target, axis, None, sample_weight, ignore_index)
    missed = np.sum(np.where(first_largest(rows.x), 0.0, rows.q), axis=-1)
    decided = np.isfinite(np.max(rows.x, axis=-1, initial=-np.inf))
    loss = rows.s[..., 0] * np.where(decided, missed, np.nan)
    return reduced(loss, Scale(rows.share, rows.ignored, reduction, normalizer), logits)


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
    focal_gamma: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> Loss:
    """Cross-entropy of σ(logits): l = w [pos_weight · y' softplus(-z) + (1 - y') softplus(z)].

    Label smoothing makes y' = (1 - ε) y + ε/2 of the label. The mean divides by the number of elements, whatever
    the weights. A score of ±inf is a certain prediction: loss 0 if it is right, +inf if wrong.

    With a focal exponent γ > 0 (no smoothing) it is multiplied by (1 - p_t)^γ, p_t = y σ(z) + (1 - y) σ(-z).
    """
    loss, _ = binary_cross_entropy_with_grad(
        logits, target, weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing,
        focal_gamma=focal_gamma, reduction=reduction, normalizer=normalizer, n_threads=n_threads,
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
    focal_gamma: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[Loss, Array]:
    """`binary_cross_entropy` and its gradient ∂l/∂z = w [(1 - y') σ(z) - pos_weight · y' σ(-z)]."""
    z, y, w = as_scores(logits, target, weight)
    loss, grad, _ = _binary_cross_entropy_pieces(z, y, w, pos_weight, label_smoothing, focal_gamma)
    scale = Scale(np.ones_like(z), w == 0.0, reduction, normalizer, grad_output)
    return results(loss, grad, scale, logits, None, out)


@np.errstate(all="ignore")
def binary_cross_entropy_with_grad_hess(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    pos_weight: npt.ArrayLike | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    hess_out: Array | None = None,
) -> tuple[Loss, Array, Array]:
    """`binary_cross_entropy_with_grad` and ∂²l/∂z² = w [pos_weight · y' + (1 - y')] σ(z) σ(-z).

    No score meets another: the Hessian is diagonal, and this is all of it. It is scaled as the gradient is, by
    `grad_output` too. With a focal exponent it is exact, and may be negative: the focal loss is not convex.
    """
    z, y, w = as_scores(logits, target, weight)
    loss, grad, hess = _binary_cross_entropy_pieces(z, y, w, pos_weight, label_smoothing, focal_gamma)
    scale = Scale(np.ones_like(z), w == 0.0, reduction, normalizer, grad_output)
    return *results(loss, grad, scale, logits, None, out), scaled(hess, scale, logits, None, hess_out, "hess_out")


@np.errstate(all="ignore")
def binary_cross_entropy_hessp(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    vector: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    pos_weight: npt.ArrayLike | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    out: Array | None = None,
) -> Array:
    """The Hessian of `binary_cross_entropy`, which is diagonal, times a vector of the logits' shape: ∂²l/∂z² · v.

    Where the weight is 0 it is 0, whatever the vector holds. With `reduction` "none" it is that of each score's own
    loss. With a focal exponent it is exact, and ∂²l/∂z² may be negative.
    """
    z, y, w = as_scores(logits, target, weight)
    v = as_many_as(vector, "vector", z.shape).astype(np.float64)
    _, _, hess = _binary_cross_entropy_pieces(z, y, w, pos_weight, label_smoothing, focal_gamma)
    return scaled(hess * v, Scale(np.ones_like(z), w == 0.0, reduction, normalizer), logits, None, out)


def _binary_cross_entropy_pieces(
    z: Floats, y: Floats, w: Floats, pos_weight: npt.ArrayLike | None, label_smoothing: float, focal_gamma: float
) -> tuple[Floats, Floats, Floats]:
    """Loss, first and second derivative of each score by itself."""
    # 1. The coefficients of the two cases: a_1 = w · pos_weight · y' of "yes", a_0 = w (1 - y') of "no".
    y, miss_y = smooth(y, label_smoothing, 2)
    a_1 = w * as_weights(pos_weight, "pos_weight", z.shape) * y
    a_0 = w * miss_y
    # 2. -log σ(z) = softplus(-z) and -log(1 - σ(z)) = softplus(z)
    loss = weighted(a_1, softplus(-z)) + weighted(a_0, softplus(z))
    # 3. softplus' = σ. For y = 1 the gradient is -a_1 σ(-z), for y = 0 it is a_0 σ(z).
    p, miss = sigma(z), sigma(-z)
    grad = a_0 * p - a_1 * miss
    # 4. σ' = σ (1 - σ), which the same z gives to both softplus
    hess = (a_0 + a_1) * p * miss
    if not focal_gamma:
        return loss, grad, hess
    # 5. The factor o^γ with o = 1 - p_t = σ(z) (1 - y) + σ(-z) y has the derivative γ b o^γ, where b = o' / o and
    #    o' = (1 - 2y) σ(z) σ(-z).
    check_focal(focal_gamma, label_smoothing)
    others = p * miss_y + miss * y
    power = others**focal_gamma
    ratio = np.where(others == 0.0, 0.0, p * miss / others)
    b = (miss_y - y) * ratio
    # 6. (o^γ l)'' = o^γ [l'' + 2γ b l' + γ b (d + γ b) l], where d = b' / b = σ(-z) · y σ(-z) / o - σ(z) · (1 - y) σ(z) / o:
    #    for a label of 0 or 1 one of the terms is 0. b' = o'' / o - b² would cancel.
    d = np.where(others == 0.0, 0.0, miss * (miss * y / others) - p * (p * miss_y / others))
    bend = weighted(power * focal_gamma * b * (d + focal_gamma * b), loss)
    hess = power * hess + power * focal_gamma * b * (2.0 * grad) + bend
    grad = power * (grad + focal_gamma * (miss_y - y) * weighted(ratio, loss))
    return weighted(power, loss), grad, hess


def binary_brier_score(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> Loss:
    """Squared error of σ(logits): l = w (σ(z) - y)²."""
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
    out: Array | None = None,
) -> tuple[Loss, Array]:
    """`binary_brier_score` and its gradient ∂l/∂z = 2 w (σ(z) - y) σ(z) σ(-z)."""
    z, y, w = as_scores(logits, target, weight)
    p, miss = sigma(z), sigma(-z)
    # 1. σ - y = σ (1 - y) - y (1 - σ), as for brier_score
    error = p * (1.0 - y) - y * miss
    loss = w * error**2
    # 2. σ' = σ (1 - σ)
    grad = 2.0 * w * error * p * miss
    scale = Scale(np.ones_like(z), w == 0.0, reduction, normalizer, grad_output)
    return results(loss, grad, scale, logits, None, out)


@np.errstate(all="ignore")
def binary_zero_one_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> Loss:
    """Classification error: l = w |[z > 0] - y|, NaN where z is NaN.

    For a label between 0 and 1 it is the expected error.
    """
    z, y, w = as_scores(logits, target, weight)
    loss = w * np.where(np.isnan(z), np.nan, np.abs((z > 0.0) - y))
    scale = Scale(np.ones_like(z), w == 0.0, reduction, normalizer)
    return reduced(loss, scale, logits)
