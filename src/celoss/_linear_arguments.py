"""Checks of the arguments of a linear layer and its loss, and their messages: all of them, before anything is multiplied."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from celoss import losses
from celoss._arguments import (
    REDUCTIONS,
    STORAGE_OF_FLOATS,
    as_array,
    as_integer,
    as_logits,
    as_normalizer,
    as_reduction,
    as_upstream,
    dtype_name,
)
from celoss._outputs import as_result_apart
from celoss._row_arguments import as_class_weight, as_ignore_index, as_sample_weight, as_target, out_of_range

Array = NDArray[Any]
Chunk = slice | NDArray[np.intp]  # numbers of rows

_CHUNK_BYTES = 64 << 20


class Rows:
    """The rows of an array by their numbers in C order: the last axis is a row, however many others there are."""

    def __init__(self, array: Array) -> None:
        apart = [(stride, n) for stride, n in zip(array.strides[:-1], array.shape[:-1], strict=True) if n != 1]
        self.count = int(np.prod(array.shape[:-1], dtype=np.int64))
        if array.size == 0 or all(outer == inner * n for (outer, _), (inner, n) in pairwise(apart)):
            self.array, self.shape = array.reshape(self.count, array.shape[-1]), (self.count,)  # a view
        else:
            self.array, self.shape = array, array.shape[:-1]

    def _place(self, rows: Chunk) -> Any:
        if len(self.shape) == 1:
            return rows
        return np.unravel_index(np.r_[rows] if isinstance(rows, slice) else rows, self.shape)

    def __getitem__(self, rows: Chunk) -> Array:
        """A view where the rows lie one behind the other and the strides allow it."""
        found: Array = self.array[self._place(rows)]
        return found

    def __setitem__(self, rows: Chunk, values: Any) -> None:
        self.array[self._place(rows)] = values


class LayerCall(NamedTuple):
    """A call whose arguments have been checked."""

    features: Array
    linear_weight: Array
    linear_bias: Array | None
    inputs: dict[str, Any]  # everything that `out` may not overlap
    dtype: np.dtype[Any]  # of the arithmetic
    shape: tuple[int, ...]  # of the loss of each row
    kept: Chunk  # the rows that count, and how many they are
    rows: int
    target: Array | Rows  # class indices in one dimension, or rows of probabilities
    sample_weight: Array | None  # in one dimension
    upstream: float | Array | None  # a number, or in one dimension
    reduction: int
    divisor: float  # of loss and gradient
    options: dict[str, Any]  # of each chunk's loss
    chunk_rows: int

    @property
    def classes(self) -> int:
        return int(self.linear_weight.shape[0])

    @property
    def width(self) -> int:
        return int(self.linear_weight.shape[1])

    def chunks(self) -> list[Chunk]:
        """The rows that count, in chunks of equal size: slices where they lie one behind the other, numbers where not."""
        if self.divisor == 0:
            return []
        number = -(-self.rows // self.chunk_rows)
        ends = [self.rows * i // number for i in range(number + 1)] if number else []
        return [_run_of_rows(slice(a, b) if isinstance(self.kept, slice) else self.kept[a:b]) for a, b in pairwise(ends)]


def _run_of_rows(rows: Chunk) -> Chunk:
    if isinstance(rows, slice) or rows[-1] - rows[0] + 1 > rows.size:
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1)


def _as_operand(value: Any, name: str) -> Array:
    """What is multiplied, as it lies: it is cast where it is used, a part at a time."""
    array = as_array(value, name)
    if dtype_name(dtype_of_result(array)) not in STORAGE_OF_FLOATS:
        as_logits(array, name)  # which says what there is, and what to pass
    return array


def dtype_of_result(array: Array) -> np.dtype[Any]:
    if array.dtype.kind in "biu":
        return np.dtype(np.float64)
    return array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")


def _as_chunk_bytes(chunk_bytes: Any) -> int:
    if chunk_bytes is None:
        return _CHUNK_BYTES
    number = as_integer(chunk_bytes, "chunk_bytes")
    if number < 1:
        raise ValueError(f"chunk_bytes must be at least 1, got {number}")
    return number


def _check_layer(x: Array, w: Array, b: Array | None) -> str:
    """Shapes of a layer; they in words."""
    shapes = f"features {x.shape}, linear_weight {w.shape}" + ("" if b is None else f", linear_bias {b.shape}")
    if x.ndim == 0:
        raise ValueError(f"{shapes}: features must have at least one dimension, what the layer takes")
    if w.ndim != 2:
        raise ValueError(f"{shapes}: linear_weight must have two dimensions, (classes, {x.shape[-1]})")
    if w.shape[1] != x.shape[-1]:
        hint = "; pass linear_weight.T" if w.shape[0] == x.shape[-1] else ""
        raise ValueError(f"{shapes}: linear_weight must be (classes, {x.shape[-1]}), as wide as features{hint}")
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"{shapes}: linear_bias must be {w.shape[:1]}, a number for each class")
    if w.shape[0] == 0 and np.prod(x.shape[:-1], dtype=np.int64) > 0:
        raise ValueError(f"{shapes}: linear_weight has no class")
    return shapes


def layer_arguments(
    features: Any,
    linear_weight: Any,
    target: Any,
    linear_bias: Any,
    weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    reduction: Any,
    normalizer: Any,
    chunk_bytes: Any,
    grad_output: Any,
    options: dict[str, Any],
) -> LayerCall:
    """Check everything before anything is multiplied."""
    x, w = _as_operand(features, "features"), _as_operand(linear_weight, "linear_weight")
    b = None if linear_bias is None else _as_operand(linear_bias, "linear_bias")
    shapes = _check_layer(x, w, b)
    wide = any(dtype_of_result(operand) == np.float64 for operand in (x, w, b) if operand is not None)
    dtype = np.dtype(np.float64 if wide else np.float32)
    shape, (classes, width) = x.shape[:-1], w.shape
    rows = int(np.prod(shape, dtype=np.int64))
    reduced = as_reduction(reduction)
    ignore_index = as_ignore_index(ignore_index)
    logits = np.broadcast_to(np.zeros((), dtype), (*shape, classes))  # a shape and a dtype: there is one number in memory
    try:
        row_weight = as_sample_weight(sample_weight, shape)
        indices, mark, _, _ = as_target(target, logits, len(shape), ignore_index, row_weight)
        options["weight"] = as_class_weight(weight, classes)
        upstream = as_upstream(grad_output, shape, reduced)
    except ValueError as error:
        raise ValueError(f"{error} ({shapes})") from None
    # The other options are those of cross_entropy, which checks them on no rows.
    nothing = np.empty((0, classes), dtype)
    hard = indices is not None
    losses.cross_entropy(nothing, np.empty(0, np.int64) if hard else nothing, ignore_index=ignore_index, **options)
    counts = np.ones(rows, np.bool_) if indices is None else indices.reshape(rows) != mark
    if row_weight is not None:
        row_weight = row_weight.reshape(rows)
        counts &= row_weight != 0
    if indices is not None:
        indices = indices.reshape(rows)
        if (counts & ((indices < 0) | (indices >= classes))).any():
            raise out_of_range(target, classes, ignore_index, -1, None if row_weight is None else row_weight.reshape(shape))
    kept: Chunk = slice(0, rows) if counts.all() else np.flatnonzero(counts)
    count = int(np.count_nonzero(counts))
    divisor = as_normalizer(normalizer, lambda: count)
    if reduced != REDUCTIONS["mean"]:
        divisor = 1.0
    elif normalizer is None:
        divisor = _denominator(kept, count, indices, options["weight"], row_weight)
    return LayerCall(
        features=x,
        linear_weight=w,
        linear_bias=None if b is None else np.ascontiguousarray(b, dtype),
        inputs={
            "features": x, "linear_weight": w, "linear_bias": linear_bias, "target": target, "weight": weight,
            "sample_weight": sample_weight, "grad_output": grad_output,
        },
        dtype=dtype,
        shape=shape,
        kept=kept,
        rows=count,
        target=Rows(as_array(target, "target")) if indices is None else indices,
        sample_weight=row_weight,
        upstream=upstream.reshape(rows) if isinstance(upstream, np.ndarray) else upstream,
        reduction=reduced,
        divisor=divisor,
        options=options,
        # Copies of features are no larger than the logits then, where some are needed.
        chunk_rows=max(1, _as_chunk_bytes(chunk_bytes) // (dtype.itemsize * max(classes, width, 1))),
    )  # fmt: skip


def _denominator(kept: Chunk, count: int, indices: Array | None, weight: Array | None, sample_weight: Array | None) -> float:
    """What the mean is divided by: the sum of s_n w_t over the rows that count; of s_n for probabilities."""
    shares = None if weight is None or indices is None else weight[indices[kept]]
    if sample_weight is not None:
        shares = sample_weight[kept] * (1.0 if shares is None else shares)
    return float(count if shares is None else shares.sum())


def receivers(out: Any, call: LayerCall) -> dict[str, Any]:
    """The arrays that receive the gradients: apart from all that is read, and from one another."""
    if out is None:
        out = (None, None, None)
    if not isinstance(out, (tuple, list)):
        raise TypeError(f"out must be a LinearGradients or a triple of arrays, got {type(out).__name__}")
    if len(out) != 3:
        raise ValueError(f"out has {len(out)} entries; expected three: features, linear_weight, linear_bias")
    found: dict[str, Any] = {}
    for name, receiver in zip(("features", "linear_weight", "linear_bias"), out, strict=True):
        given = call.inputs[name]
        if given is None:
            if receiver is not None:
                raise ValueError(f"out.{name} is given, yet {name} is not: it has no gradient")
            found[name] = None
            continue
        like = as_array(given, name)
        others = call.inputs | {f"out.{other}": array for other, array in found.items()}
        found[name] = as_result_apart(receiver, like.shape, dtype_of_result(like), others, name, f"out.{name}")
    return found
