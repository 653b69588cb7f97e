"""Second derivatives of cross-entropy with the options of language models, from those of the loss without them.

The kernel has second derivatives with respect to the logits u that the loss is made of. With u_k = c tanh(a x_k / c) (or a x_k)

    d2l / dx_k^2 = h_k u_k'^2 + g_k u_k''           (H v)_k = u_k' (H_u (u' v))_k + g_k u_k'' v_k

and z lse^2 adds 2 z [p p^T + lse (diag p - p p^T)] to H_u. All in float64 arrays of the logits' size: nobody has been seen
to need these derivatives in a hurry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from celoss import _kernels
from celoss._arguments import FLOAT64, as_logits
from celoss._kernels import Operation, Reduction, Wanted
from celoss._outputs import Results
from celoss._row_arguments import RowArguments

Array = NDArray[Any]


def has_language_options(arguments: RowArguments) -> bool:
    return arguments.logit_scale != 1 or arguments.softcap > 0 or arguments.z_loss > 0


class _Softened(NamedTuple):
    """Logits as the options have them, and their first and second derivatives by those given."""

    value: Array
    slope: Array
    bend: Array


def _softened(x: Array, scale: float, cap: float) -> _Softened:
    if cap == 0:
        return _Softened(scale * x, np.full_like(x, scale), np.zeros_like(x))
    argument = scale * x / cap
    e = np.exp(-2 * np.abs(argument))
    tanh = np.tanh(argument)
    slope = scale * 4 * e / (1 + e) ** 2
    value = np.where(np.isinf(x), x, cap * tanh)
    return _Softened(value, slope, -2 * scale / cap * tanh * slope)


def _weights_of_rows(arguments: RowArguments) -> Array:
    """What the square of a row's logsumexp counts in the loss, times the upstream gradient; of shape of the rows."""
    rows = arguments.logits.shape[: arguments.axis] + arguments.logits.shape[arguments.axis + 1 :]
    counts = np.ones(rows) if arguments.sample_weight is None else arguments.sample_weight.copy()
    if arguments.target is not None:
        counts[arguments.target == arguments.ignore_index] = 0
    upstream = 1.0 if arguments.upstream is None else arguments.upstream
    if arguments.reduction != Reduction.MEAN:
        return counts * upstream
    divisor = arguments.normalizer
    if divisor == 0:
        of_class: Any = 1.0
        if arguments.weight is not None and arguments.target is not None and arguments.weight.size:
            of_class = arguments.weight[np.where(counts == 0, 0, arguments.target)]
        divisor = float((counts * of_class).sum())
    return counts * (upstream / divisor) if divisor else np.zeros(rows)


def _of_square(arguments: RowArguments, u: Array, vector: Array | None) -> Array:
    """What the square of logsumexp adds: to the diagonal, or to the product with a vector."""
    axis = arguments.axis
    p = np.empty_like(u)
    _kernels.activation_of_rows(Operation.SOFTMAX, u, FLOAT64, axis, p, None)
    sums = np.empty(u.shape[:axis] + u.shape[axis + 1 :])
    _kernels.activation_of_rows(Operation.LOGSUMEXP, u, FLOAT64, axis, None, sums)
    log_sum = np.expand_dims(sums, axis)
    weight = np.expand_dims(_weights_of_rows(arguments), axis)
    if vector is None:
        added = p * p + log_sum * p * (1 - p)
    else:
        mean = (p * vector).sum(axis=axis, keepdims=True)
        added = p * mean + log_sum * p * (vector - mean)
    added *= 2 * arguments.z_loss * weight
    added[np.broadcast_to(weight == 0, added.shape)] = 0
    return added


def second_derivatives(
    loss_of_rows: Callable[..., Any],
    arguments: RowArguments,
    results: Results,
    logits: Any,
    target: Any,
    axis: Any,
    ignore_index: Any,
    options: tuple[Any, ...],
) -> Any:
    """(loss, gradient, diagonal), or the product; of arguments that are checked."""
    second = options[-1]
    named = dict(zip(_NAMES, options, strict=True))
    plain = {**named, "logit_scale": 1.0, "logit_softcap": None, "z_loss": 0.0, "out": None}

    def call(x: Any, wanted: int, **changed: Any) -> Any:
        all_options = tuple({**plain, **changed, "wanted": int(wanted)}.values())
        return loss_of_rows(Operation.CROSS_ENTROPY, x, target, axis, ignore_index, all_options)

    with np.errstate(all="ignore"):
        x = as_logits(logits)[0].astype(np.float64)
        u = _softened(x, arguments.logit_scale, arguments.softcap)
        of_options = {name: named[name] for name in ("logit_scale", "logit_softcap", "z_loss")}
        gradient_by_u = call(u.value, Wanted.GRADIENT, second=None, z_loss=named["z_loss"])[1]
        if arguments.wanted == Wanted.HESSIAN_PRODUCT:
            vector = np.asarray(as_logits(second, "vector")[0], np.float64)
            turned = u.slope * vector
            product = call(u.value, Wanted.HESSIAN_PRODUCT, second=turned)
            if arguments.z_loss > 0:
                product += _of_square(arguments, u.value, turned)
            assert results.grad is not None
            results.grad[...] = _where_it_counts(product, u.slope * product + gradient_by_u * u.bend * vector)
            return results.grad
        hess = call(u.value, Wanted.GRADIENT_AND_HESSIAN, second=None)[2]
        if arguments.z_loss > 0:
            hess += _of_square(arguments, u.value, None)
        hess = _where_it_counts(hess, hess * u.slope**2 + gradient_by_u * u.bend)
        loss, gradient = call(logits, Wanted.GRADIENT, second=None, **of_options)
        assert results.grad is not None and results.hess is not None
        results.grad[...] = gradient
        results.hess[...] = hess
    return loss, results.grad, results.hess


def _where_it_counts(by_u: Array, by_x: Array) -> Array:
    """Rows that are left out are 0, whatever their logits hold."""
    by_x[(by_u == 0) & np.isnan(by_x)] = 0
    return by_x


_NAMES = (
    "weight", "sample_weight", "label_smoothing", "focal_gamma", "logit_scale", "logit_softcap", "z_loss", "reduction",
    "normalizer", "n_threads", "wanted", "grad_output", "out", "second",
)  # fmt: skip
