"""What surrounds the formulas of `reference`: arguments become float64 rows, losses and gradients become results.

The oracle shares no check with `_arguments`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Loss = float | Array
Axis = int | tuple[int, ...] | None

# ----------------------------------------------------------------------------------------------------
# From arguments to float64 rows
# ----------------------------------------------------------------------------------------------------


def as_floating(array: npt.ArrayLike, name: str) -> Array:
    """`array` in one of the four floating dtypes; integers and bool become float64."""
    array = np.asarray(array)
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    if array.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        raise TypeError(f"{name} has dtype {array.dtype}; expected float16, bfloat16, float32 or float64")
    return array


def as_many_as(array: npt.ArrayLike, name: str, shape: tuple[int, ...]) -> Array:
    """An array with a number for each element of another, whose shape this is: nothing is broadcast."""
    array = as_floating(array, name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {shape}")
    return array


def loss_dtype(logits: Array) -> npt.DTypeLike:
    return np.float64 if logits.dtype.name == "float64" else np.float32


def class_axis_last(x: Array, axis: int) -> Floats:
    """Float64 copy with the classes along the last axis, always in C order: the same sums for any strides."""
    rows = np.moveaxis(x, axis, -1).astype(np.float64, order="C")
    if rows.shape[-1] == 0 and 0 not in rows.shape[:-1]:
        raise ValueError(f"there are no classes: axis {axis} of shape {x.shape} is empty")
    return rows


def as_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """Axes counted from the front, in their order. None: all."""
    return tuple(sorted(np.lib.array_utils.normalize_axis_tuple(tuple(range(ndim)) if axis is None else axis, ndim, "axis")))


def axes_as_one(x: Array, axes: tuple[int, ...]) -> Floats:
    """Float64 copy with what lies along the axes as the last one, always in C order."""
    moved = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim)).astype(np.float64, order="C")
    rest = moved.shape[: x.ndim - len(axes)]
    return moved.reshape(*rest, int(np.prod(moved.shape[len(rest) :], dtype=np.int64)))


def axes_apart(rows: Floats, axes: tuple[int, ...], shape: tuple[int, ...]) -> Floats:
    """The way back from `axes_as_one`, to an array of this shape."""
    moved = rows.reshape(rows.shape[:-1] + tuple(shape[a] for a in axes))
    return np.moveaxis(moved, range(len(shape) - len(axes), len(shape)), axes)


def as_weights(weight: npt.ArrayLike | None, name: str, shape: tuple[int, ...], *, of_either_sign: bool = False) -> Floats:
    """Weights in float64, broadcast to `shape`; ones if there are none."""
    w = np.asarray(1.0 if weight is None else weight).astype(np.float64)
    if not np.all(np.isfinite(w) & ((w >= 0.0) | of_either_sign)):
        raise ValueError(f"{name} must be finite{'' if of_either_sign else ' and not negative'}")
    try:
        return np.broadcast_to(w, shape)
    except ValueError:
        raise ValueError(f"{name} has shape {w.shape}; expected one that broadcasts to {shape}") from None


def check_focal(focal_gamma: float, label_smoothing: float, is_index: bool = True) -> None:
    """The focal factor is a power of one probability: of the class index, or of the label as it is."""
    if not 0.0 <= focal_gamma < np.inf or label_smoothing or not is_index:
        raise ValueError(f"focal_gamma = {focal_gamma} must be finite and not negative, without smoothing and probabilities")


def check_z_loss(z_loss: float) -> None:
    if not 0.0 <= z_loss < np.inf:
        raise ValueError(f"z_loss = {z_loss} must be finite and not negative")


class Rows(NamedTuple):
    """The arguments of a loss on rows, ready for arithmetic. N... is the shape of the per-row loss."""

    x: Floats  # (N..., C) logits, 0 in ignored rows
    q: Floats  # (N..., C) target probabilities, one-hot for class indices
    w: Floats  # (C,) class weights
    s: Floats  # (N..., 1) sample weights, 0 in ignored rows
    share: Floats  # (N...,) what the row adds to the denominator of the mean
    ignored: npt.NDArray[np.bool_]  # (N...,)
    is_index: bool  # whether the targets are class indices


def as_rows(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    axis: int,
    weight: npt.ArrayLike | None,
    sample_weight: npt.ArrayLike | None,
    ignore_index: int,
) -> Rows:
    logits, target = as_floating(logits, "logits"), np.asarray(target)
    x = class_axis_last(logits, axis)
    shape, n_classes = x.shape[:-1], x.shape[-1]

    # 1. The dtype of the target says which form it has: class indices, the same as one-hot rows, or probabilities. An empty list
    #    has no dtype of its own.
    if target.size == 0 and target.shape == shape:
        target = target.astype(np.int64)
    s = as_weights(sample_weight, "sample_weight", shape, of_either_sign=True)
    if target.dtype.kind in "biu" and target.ndim > 1 and target.shape == logits.shape:
        one_hot = np.moveaxis(target, axis, -1)
        bad = (np.sum(one_hot != 0, axis=-1) != 1) | np.any((one_hot != 0) & (one_hot != 1), axis=-1)
        if np.any(bad & (s != 0.0)):
            raise ValueError("an integer or bool target of the logits' shape is one-hot: one 1 in each row, and otherwise 0")
        target = np.asarray(np.argmax(one_hot, axis=-1))
    is_index = target.dtype.kind in "iu"
    if is_index:
        if target.shape != shape:
            raise ValueError(
                f"integer targets are class indices of shape {shape}, but target has {target.shape}; "
                f"probabilities are floating, of shape {logits.shape}"
            )
        ignored = (target == ignore_index) | (s == 0.0)
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
        if ignore_index != -100:
            raise ValueError(f"ignore_index = {ignore_index} needs class indices, but target holds probabilities")
        ignored = s == 0.0
        q = np.where(ignored[..., None], 0.0, class_axis_last(as_floating(target, "target"), axis))

    # 2. Rows that are ignored, or of weight 0, are dropped by value, not by a factor 0: they may hold NaN.
    x = np.where(ignored[..., None], 0.0, x)
    s = np.where(ignored, 0.0, s)[..., None]

    # 3. The mean over class indices divides by Σ s w_t, the mean over probabilities by Σ s, as in PyTorch.
    if weight is not None and np.shape(weight) != (n_classes,):
        raise ValueError(f"weight has shape {np.shape(weight)}; expected ({n_classes},)")
    w = as_weights(weight, "weight", (n_classes,))
    share = s[..., 0] * np.sum(w * q, axis=-1) if is_index else s[..., 0]
    return Rows(x, q, w, s, share, ignored, is_index)


def as_scores(logits: npt.ArrayLike, target: npt.ArrayLike, weight: npt.ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    z = as_floating(logits, "logits").astype(np.float64, order="C")
    y = as_floating(target, "target").astype(np.float64, order="C")
    if y.shape != z.shape:
        raise ValueError(f"target has shape {y.shape}; expected the shape {z.shape} of logits")
    w = as_weights(weight, "weight", z.shape, of_either_sign=True)
    z, y = np.where(w == 0.0, 0.0, z), np.where(w == 0.0, 0.0, y)  # a weight of 0 leaves out what may be NaN
    if np.any((y < 0.0) | (y > 1.0)):
        raise ValueError("binary labels lie in [0, 1]")
    return z, y, w


# ----------------------------------------------------------------------------------------------------
# From losses to results
# ----------------------------------------------------------------------------------------------------


class Scale(NamedTuple):
    """What the losses and gradients are scaled by. N... is the shape of the loss before reduction."""

    share: Floats  # (N...) what each loss adds to the denominator of the mean
    ignored: npt.NDArray[np.bool_]  # (N...) where the gradient is 0
    reduction: str
    normalizer: float | None
    grad_output: npt.ArrayLike | None = None

    def denominator(self) -> float:
        """What the sum of the losses is divided by."""
        if self.reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {self.reduction!r}")
        nothing_counts = bool(np.all(self.ignored))
        if self.normalizer is not None and not (0.0 < self.normalizer < np.inf or (self.normalizer == 0.0 and nothing_counts)):
            raise ValueError(f"normalizer must be positive and finite, or 0 where nothing counts, not {self.normalizer}")
        if self.reduction != "mean":
            return 1.0
        return float(np.sum(self.share) if self.normalizer is None else self.normalizer or 1.0)

    def upstream(self) -> Floats:
        """The upstream gradient of each loss: a scalar, or of shape N..."""
        upstream = np.asarray(1.0 if self.grad_output is None else self.grad_output).astype(np.float64)
        expected = self.share.shape if self.reduction == "none" else ()
        if upstream.shape not in {(), expected}:
            raise ValueError(f"grad_output has shape {upstream.shape}; expected a scalar or {expected}")
        return upstream


def reduced(loss: Floats, scale: Scale, logits: npt.ArrayLike) -> Loss:
    """The loss as the caller sees it. A mean of nothing is NaN."""
    denominator = scale.denominator()
    if scale.reduction == "none":
        return scalar_or_array(np.asarray(loss).astype(loss_dtype(as_floating(logits, "logits"))))
    return float(np.sum(loss)) / denominator if denominator else float("nan")


def results(
    loss: Floats, grad: Floats, scale: Scale, logits: npt.ArrayLike, axis: int | None, out: Array | None
) -> tuple[Loss, Array]:
    """The loss reduced, and its gradient scaled."""
    return reduced(loss, scale, logits), scaled(grad, scale, logits, axis, out)


def scaled(grad: Floats, scale: Scale, logits: npt.ArrayLike, axis: int | None, out: Array | None, name: str = "out") -> Array:
    """A gradient, or second derivatives, times upstream / denominator; `axis` None means binary."""
    denominator, upstream = scale.denominator(), scale.upstream()
    # A factor 0 would not do: the gradient may be NaN where nothing is averaged.
    zero = scale.ignored | (denominator == 0.0)
    if axis is None:
        grad = np.where(zero, 0.0, grad * upstream / denominator)
    else:
        grad = np.where(zero[..., None], 0.0, grad * upstream[..., None] / denominator)
        grad = np.moveaxis(grad, -1, axis)
    return rounded(grad, as_floating(logits, "logits"), out, name)


def scalar_or_array(result: Array) -> Array:
    """A NumPy scalar in place of an array without dimensions."""
    return result if result.ndim else result[()]


def rounded(values: Floats, like: Array, out: Array | None, name: str = "out") -> Array:
    """`values` rounded to the dtype of `like`, written to `out`, the argument of this name, if there is one."""
    dtype = like.dtype.newbyteorder("=")
    if dtype.name == "bfloat16":
        # ml_dtypes rounds to float32 on the way. Rounded to bfloat16's 8 bits here, its rounding is exact.
        # The unit is 2^(exponent - 8), and never below 2^-133, the smallest subnormal.
        _, exponent = np.frexp(values)
        exponent = np.maximum(exponent, -125) - 8
        values = np.ldexp(np.rint(np.ldexp(values, -exponent)), exponent)
    result = np.asarray(values).astype(dtype, order="C")
    if out is None:
        return scalar_or_array(result)
    if out.shape != result.shape or out.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"{name} is {out.dtype}{out.shape}; expected {dtype}{result.shape}")
    out[...] = result
    return out
