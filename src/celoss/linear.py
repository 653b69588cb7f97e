"""A linear layer and its cross-entropy in one: the logits exist a chunk of rows at a time.

A chunk goes through everything before the next is made: features into logits, logits into loss and their own gradient, in place,
and that gradient into those of features, weights and bias. The products are NumPy's, the rest is `cross_entropy_with_grad`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celoss import losses
from celoss._arguments import REDUCTIONS, STORAGE_OF_FLOATS, dtype_name
from celoss._kernels import empty_result
from celoss._linear_arguments import Chunk, LayerCall, Rows, layer_arguments, receivers
from celoss._outputs import array_for_losses

__all__ = ["LinearGradients", "linear_cross_entropy", "linear_cross_entropy_with_grad"]

Array = NDArray[Any]

# Slices of classes, where weights are cast or products added: what is added to should still be in the cache.
_SLICE_BYTES = 2 << 20
_FEWEST_CLASSES = 64  # of a slice: below that a product is slow


class LinearGradients(NamedTuple):
    """The gradients of `linear_cross_entropy_with_grad`, each of the shape and dtype of its argument.

    Parameters
    ----------
    features : ndarray, shape (..., D)
        With respect to `features`.
    linear_weight : ndarray, shape (C, D)
        With respect to `linear_weight`.
    linear_bias : ndarray, shape (C,), or None
        With respect to `linear_bias`; None where there is none.

    See Also
    --------
    linear_cross_entropy_with_grad : Returns it, and takes it as `out`.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> out = celoss.LinearGradients(np.empty((2, 3)), np.empty((4, 3)), None)
    >>> _, gradients = celoss.linear_cross_entropy_with_grad(np.ones((2, 3)), np.zeros((4, 3)), [0, 1], out=out)
    >>> gradients.linear_weight is out.linear_weight
    True
    """

    features: NDArray[Any]
    linear_weight: NDArray[Any]
    linear_bias: NDArray[Any] | None


def linear_cross_entropy(
    features: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
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
) -> float | NDArray[Any]:
    r"""Cross-entropy of a linear layer's logits, which are never all in memory.

    With features :math:`h`, weights :math:`W` and bias :math:`b` it is the `cross_entropy` of the logits

    .. math:: x_n = W h_n + b,

    of which as many rows exist at a time as fit in `chunk_bytes`. This is the head of a language model, where N rows and C
    classes make the logits by far the largest array: 4096 rows of 128 256 in float32 are 2 GiB.

    Parameters
    ----------
    features : array_like, shape (..., D)
        What the layer is applied to: float16, bfloat16 (``ml_dtypes``), float32 or float64; integers and bool are taken as
        float64. A 1-d array is one row.
    linear_weight : array_like, shape (C, D)
        The layer's weights, a row for each class, as in ``torch.nn.Linear``. They may be mapped from a file (``np.memmap``):
        each chunk reads them once, from the first class to the last.
    target : array_like
        Class indices, of the features' shape without the last dimension, or probabilities of the logits' shape (..., C), which
        are read chunk by chunk; as for `cross_entropy`.
    linear_bias : array_like, shape (C,), optional
        A number for each class, added to its logits.
    weight, sample_weight, ignore_index, label_smoothing, focal_gamma, logit_scale, logit_softcap, z_loss, reduction, normalizer
        As for `cross_entropy`. Rows that are ignored, or whose `sample_weight` is 0, are never multiplied; their features may be
        anything.
    n_threads : int, optional
        Use at most so many threads for the loss. The products are NumPy's, and use the threads of its BLAS.
    chunk_bytes : int, default 64 MiB
        The logits of a chunk take at most so many bytes, as far as a single row does. Where that is less than 200 rows, more
        memory makes the products faster.

    Returns
    -------
    float or ndarray
        As from `cross_entropy` of the logits. "none" gives float64 where the arithmetic is float64, float32 elsewhere.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `cross_entropy`, before anything is multiplied; and for shapes that do not fit together.

    See Also
    --------
    linear_cross_entropy_with_grad : The same loss, and its gradients.
    cross_entropy : The loss of logits that are there.

    Notes
    -----
    Where features, weights or bias are float64, arithmetic is float64, else float32: float16 and bfloat16 are multiplied and
    summed in float32. The result does not depend on `n_threads`. On the threads and the version of NumPy's BLAS, and on
    `chunk_bytes`, the last digits do depend, as those of every product of matrices.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.standard_normal((5, 3)), rng.standard_normal((8, 3))
    >>> target = np.array([1, 7, 0, -100, 2])
    >>> loss = celoss.linear_cross_entropy(hidden, weight, target)
    >>> bool(np.isclose(loss, celoss.cross_entropy(hidden @ weight.T, target)))
    True
    """
    call = layer_arguments(
        features, linear_weight, target, linear_bias, weight, sample_weight, ignore_index, reduction, normalizer, chunk_bytes,
        None, {
            "label_smoothing": label_smoothing, "focal_gamma": focal_gamma, "logit_scale": logit_scale,
            "logit_softcap": logit_softcap, "z_loss": z_loss, "n_threads": n_threads,
        },
    )  # fmt: skip
    loss: float | NDArray[Any] = _run(call, None)
    return loss


def linear_cross_entropy_with_grad(
    features: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
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
    grad_output: ArrayLike | None = None,
    out: LinearGradients | tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None] | None = None,
) -> tuple[float | NDArray[Any], LinearGradients]:
    r"""Cross-entropy of a linear layer's logits, and its gradients with respect to features, weights and bias.

    With the symbols of `linear_cross_entropy` and the gradient :math:`g_n` of row :math:`n` with respect to its logits, which
    is that of `cross_entropy_with_grad`,

    .. math:: \frac{\partial L}{\partial h_n} = W^T g_n, \qquad \frac{\partial L}{\partial W} = \sum_n g_n h_n^T,
        \qquad \frac{\partial L}{\partial b} = \sum_n g_n.

    In the memory of a chunk, the logits become their gradient, and that goes into all three sums before the next chunk is made.

    Parameters
    ----------
    features, linear_weight, target, linear_bias, weight, sample_weight, ignore_index, label_smoothing, focal_gamma, logit_scale
        As for `linear_cross_entropy`.
    logit_softcap, z_loss, reduction, normalizer, n_threads, chunk_bytes
        As for `linear_cross_entropy`.
    grad_output : float or array_like, optional
        Upstream gradient: multiplies the gradients. A number, or with ``reduction="none"`` also an array of the loss's shape.
    out : LinearGradients, optional
        Arrays that receive the gradients, in a `LinearGradients` or a plain triple; None stands for a new array. Each has the
        shape and dtype of its argument and overlaps no other array. After an exception their content is unspecified.

    Returns
    -------
    loss : float or ndarray
        As from `linear_cross_entropy`.
    gradients : LinearGradients
        The gradients, each of the shape and dtype of its argument; `linear_bias` is None where none was given. Those of left out
        rows are 0. With ``reduction="none"`` they are those of the sum of all rows' losses times `grad_output`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `linear_cross_entropy`, and for an `out` that does not fit.

    See Also
    --------
    linear_cross_entropy : The loss alone, which takes one product in place of three.

    Notes
    -----
    Beside the gradients there is the memory of a chunk and of a slice of weights. Only where float16 or bfloat16 weights meet
    several chunks their gradient is summed up in a float32 array of its own, and rounded once; likewise where the weights are of
    lower precision than the arithmetic. The gradient of the bias is summed up in float64.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.standard_normal((5, 3)), rng.standard_normal((8, 3))
    >>> loss, gradients = celoss.linear_cross_entropy_with_grad(hidden, weight, [1, 7, 0, -100, 2])
    >>> gradients.features.shape, gradients.linear_weight.shape, gradients.linear_bias
    ((5, 3), (8, 3), None)
    >>> gradients.features[3].tolist()
    [0.0, 0.0, 0.0]
    """
    call = layer_arguments(
        features, linear_weight, target, linear_bias, weight, sample_weight, ignore_index, reduction, normalizer, chunk_bytes,
        grad_output, {
            "label_smoothing": label_smoothing, "focal_gamma": focal_gamma, "logit_scale": logit_scale,
            "logit_softcap": logit_softcap, "z_loss": z_loss, "n_threads": n_threads,
        },
    )  # fmt: skip
    gradients = LinearGradients(**receivers(out, call))
    return _run(call, gradients), gradients


def _multiplied_as_it_lies(matrix: Array, dtype: np.dtype[Any]) -> bool:
    """Whether BLAS takes a matrix without a copy: one axis without gaps, and the other's steps no shorter than that."""
    size = dtype.itemsize
    if matrix.dtype != dtype or not matrix.flags.aligned:
        return False
    (rows, columns), (down, right) = matrix.shape, matrix.strides
    return (right == size and down % size == 0 and down >= columns * size) or (
        down == size and right % size == 0 and right >= rows * size
    )


def _as_stored(values: Array, dtype: np.dtype[Any]) -> Array:
    """What is to be rounded to `dtype`, so that NumPy is quick at it.

    To float16 it takes 200 ns for each number that loses digits below the normal ones, as it raises a flag of the CPU then, and
    gradients are full of them. To multiples of the smallest number they are rounded here: as digits of a large one.
    """
    if dtype != np.float16:
        return values
    large = values.dtype.type(1.5 * 2.0 ** (np.finfo(values.dtype).nmant - 24))
    rounded: Array = values + large
    rounded -= large
    np.copyto(rounded, values, where=np.abs(values) >= 2.0**-14)
    return rounded


class _Weights:
    """The layer's weights, and the sum that is their gradient: in slices of classes, where they have to be cast or added to."""

    def __init__(self, call: LayerCall, gradient: Array | None, chunks: int) -> None:
        self.weight, self.dtype = call.linear_weight, call.dtype
        step = max(_FEWEST_CLASSES, _SLICE_BYTES // (max(call.width, 1) * self.dtype.itemsize))
        self.as_they_lie = _multiplied_as_it_lies(self.weight, self.dtype)
        self.slices = [slice(a, min(a + step, call.classes)) for a in range(0, call.classes, step)]
        self.gradient = self.sum = gradient
        self.first = True
        # What is rounded to fewer digits is summed up before, in an array of its own: the one array of the weights' size beside
        # their gradient. A single chunk needs no sum.
        if gradient is not None and gradient.dtype != self.dtype and chunks > 1:
            self.sum = np.empty(gradient.shape, self.dtype)
        self.scratch = np.empty((0, call.width), self.dtype)
        if not self.as_they_lie or gradient is not None:
            self.scratch = np.empty((min(step, call.classes), call.width), self.dtype)

    def __iter__(self) -> Iterator[tuple[slice, Array]]:
        """The weights from the first class to the last, as BLAS takes them; at once where they lie so."""
        if self.as_they_lie:
            yield slice(None), self.weight
            return
        for part in self.slices:
            cast = self.scratch[: part.stop - part.start]
            cast[...] = self.weight[part]
            yield part, cast

    def add(self, g: Array, x: Array) -> None:
        """Add g^T x to the gradient."""
        if self.sum is None:
            return
        if self.first and _multiplied_as_it_lies(self.sum, self.dtype):
            np.matmul(g.T, x, out=self.sum)
        else:
            for part in self.slices:
                product = self.scratch[: part.stop - part.start]
                np.matmul(g[:, part].T, x, out=product)
                if self.first:
                    self.sum[part] = _as_stored(product, self.sum.dtype)
                else:
                    self.sum[part] += product
        self.first = False

    def finish(self) -> None:
        if self.gradient is None:
            return
        if self.first:
            self.gradient[...] = 0
        elif self.sum is not None and self.sum is not self.gradient:
            for part in self.slices:
                self.gradient[part] = _as_stored(self.sum[part], self.gradient.dtype)


def _run(call: LayerCall, gradients: LinearGradients | None) -> Any:
    """Loss, and gradients into the arrays for them. A chunk is one step: between two an interrupt is heard."""
    none = call.reduction == REDUCTIONS["none"]
    storage = STORAGE_OF_FLOATS[dtype_name(call.dtype)]
    row_loss = array_for_losses(call.shape, storage, call.reduction, 0)
    losses_of_rows = None if row_loss is None else row_loss.reshape(-1)
    if losses_of_rows is not None and not isinstance(call.kept, slice):
        losses_of_rows[...] = 0
    total = 0.0 if call.divisor else float("nan")

    chunks = call.chunks()
    features = Rows(call.features)
    weights = _Weights(call, None if gradients is None else gradients.linear_weight, len(chunks))
    features_gradient = None if gradients is None else Rows(gradients.features)
    bias_sum = None if gradients is None or gradients.linear_bias is None else np.zeros(call.classes)
    if gradients is not None and not chunks:
        gradients.features[...] = 0
    elif features_gradient is not None and not isinstance(call.kept, slice):
        left_out = np.ones(features_gradient.count, np.bool_)
        left_out[call.kept] = False
        features_gradient[np.flatnonzero(left_out)] = 0

    options = call.options | {"reduction": "none" if none else "sum"}
    # In a kept block, as results are: the next call then works in pages that are there, which saves a twentieth of a product.
    scratch = empty_result((min(call.chunk_rows, call.rows) if chunks else 0, call.classes), call.dtype)
    with np.errstate(all="ignore"):  # what is NaN or infinite goes through to the result, as in every loss
        for rows in chunks:
            # 1. Logits.
            x = features[rows]
            if not _multiplied_as_it_lies(x, call.dtype):
                x = np.ascontiguousarray(x, call.dtype)
            logits = scratch[: x.shape[0]]
            for part, weight in weights:
                np.matmul(x, weight.T, out=logits[:, part])
            if call.linear_bias is not None:
                logits += call.linear_bias

            # 2. Their loss, and their gradient in their place.
            target = call.target[rows]
            if call.sample_weight is not None:
                options["sample_weight"] = call.sample_weight[rows]
            if features_gradient is None:
                loss = losses.cross_entropy(logits, target, **options)
            else:
                upstream = call.upstream
                if isinstance(upstream, np.ndarray):
                    upstream = upstream[rows]
                elif upstream is not None or call.divisor != 1:
                    upstream = (1.0 if upstream is None else upstream) / call.divisor
                loss, g = losses.cross_entropy_with_grad(logits, target, grad_output=upstream, out=logits, **options)
            if losses_of_rows is None:
                total += float(loss)
            else:
                losses_of_rows[rows] = loss
            if features_gradient is None:
                continue

            # 3. Its share in the three gradients.
            weights.add(g, x)
            if bias_sum is not None:
                bias_sum += g.sum(axis=0, dtype=np.float64)
            _back_to_features(features_gradient, rows, g, weights)
        if gradients is not None:
            weights.finish()
            if gradients.linear_bias is not None and bias_sum is not None:
                gradients.linear_bias[...] = _as_stored(bias_sum, gradients.linear_bias.dtype)
    if row_loss is None:
        return total / call.divisor if call.divisor else total
    return row_loss if row_loss.ndim else row_loss[()]


def _back_to_features(gradient: Rows, rows: Chunk, g: Array, weights: _Weights) -> None:
    """Write g W, for these rows."""
    place = gradient[rows] if isinstance(rows, slice) and len(gradient.shape) == 1 else None
    direct = place is not None and _multiplied_as_it_lies(place, weights.dtype)
    into = place if direct and place is not None else np.empty((g.shape[0], gradient.array.shape[-1]), weights.dtype)
    product = None
    for part, weight in weights:
        if product is None:
            product = np.matmul(g[:, part], weight, out=into)
        else:
            into += np.matmul(g[:, part], weight)
    if not direct:
        gradient[rows] = _as_stored(into, gradient.array.dtype)
