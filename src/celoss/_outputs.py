"""The arrays that receive results: those of the user are checked, the others made."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from celoss._arguments import FLOAT64, as_array, as_logits
from celoss._kernels import Reduction, Wanted, empty_result
from celoss._remedies import described

Array = NDArray[Any]


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share an element; True where that is too hard to tell."""
    candidates: Any = 10_000_000  # NumPy takes any int, its stubs only -1 and 0
    try:
        return np.may_share_memory(a, b) and np.shares_memory(a, b, max_work=candidates)
    except np.exceptions.TooHardError:
        return True


def same_elements(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape are one in memory, element by element."""
    return a.ctypes.data == b.ctypes.data and a.strides == b.strides


def _overlaps_itself(a: Array) -> bool:
    """Whether two elements of an array share memory."""
    if a.flags.c_contiguous:
        return False
    reach = a.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(a.strides, a.shape, strict=True) if size > 1):
        if stride < reach:
            break
        reach += stride * (size - 1)
    else:
        return False
    offsets = np.zeros((), np.int64)  # strides that interleave or overlap: look at every element
    for stride, size in zip(a.strides, a.shape, strict=True):
        offsets = offsets[..., None] + np.arange(size) * stride
    return bool((np.diff(np.sort(offsets, axis=None)) < a.itemsize).any())


def as_out(out: Any, logits: Array, given: Array, others: dict[str, Any], name: str = "logits", called: str = "out") -> Array:
    """The array that receives a result, an argument `called` so.

    `given` is the user's own array of logits, an argument of the name `name`; `others` are arrays it must not overlap.
    """
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{called} must be a NumPy array, got {type(out).__name__}")
    if type(out) is not np.ndarray and isinstance(out, np.ma.MaskedArray):  # np.ma is imported at the first look
        raise TypeError(f"{called} is a masked array; pass {called}.data")
    if out.shape != logits.shape or out.dtype != logits.dtype:
        raise ValueError(f"{called} is {described(out)}; expected {described(logits)}, as {name} is")
    if not out.flags.writeable:
        raise ValueError(f"{called} is read-only; it receives the result")
    if out is not given and overlap(out, given) and not same_elements(out, given):
        raise ValueError(f"{called} overlaps {name} partly; pass {name} itself, or an array apart from it")
    _check_apart(out, others, called, "every other array but logits")
    return out


def _check_apart(out: Array, others: dict[str, Any], called: str, apart_from: str) -> None:
    for name, other in others.items():
        if other is not None and overlap(out, as_array(other, name)):
            raise ValueError(f"{called} overlaps {name}; it must be apart from {apart_from}")
    if _overlaps_itself(out):
        raise ValueError(f"{called} has strides {out.strides}, so that several of its elements share memory")


def as_result_apart(
    out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], others: dict[str, Any], name: str, called: str
) -> Array:
    """The array for a result of this shape and dtype, as the argument `name` has: a new one, or `out`, apart from all others."""
    if out is None:
        return empty_result(shape, dtype)
    like = np.broadcast_to(np.zeros((), dtype), shape)
    array = as_out(out, like, like, {}, name, called)
    _check_apart(array, others, called, "every other array")
    return array


class Results(NamedTuple):
    """The arrays that receive what is wanted of a loss, in the dtype that the user sees; and the vector of a product."""

    grad: Array | None = None
    hess: Array | None = None
    vector: Array | None = None
    vector_storage: int = 0


def as_results(wanted: int, out: Any, second: Any, logits: Array, given: Array, inputs: dict[str, Any]) -> Results:
    """`second` is what comes along with `out`: the array for the Hessian's diagonal, or a vector to be multiplied with it."""
    if wanted == Wanted.LOSS_ALONE:
        return Results()
    vector, vector_storage, beside_out = None, 0, inputs
    if wanted == Wanted.HESSIAN_PRODUCT:
        vector, vector_storage = as_logits(second, "vector")
        if vector.shape != logits.shape:
            raise ValueError(f"vector has shape {vector.shape}; expected the logits' shape {logits.shape}")
        beside_out = {**inputs, "vector": second}
    elif wanted == Wanted.GRADIENT_AND_HESSIAN:
        beside_out = {**inputs, "hess_out": second}
    grad = empty_result(logits.shape, logits.dtype) if out is None else as_out(out, logits, given, beside_out)
    if wanted != Wanted.GRADIENT_AND_HESSIAN:
        return Results(grad, None, vector, vector_storage)
    if second is None:
        return Results(grad, empty_result(logits.shape, logits.dtype))
    return Results(grad, as_out(second, logits, given, inputs, called="hess_out"))


def array_for_losses(shape: tuple[int, ...], storage: int, reduction: int, wanted: int) -> Array | None:
    if reduction != Reduction.NONE or wanted == Wanted.HESSIAN_PRODUCT:
        return None
    return empty_result(shape, np.float64 if storage == FLOAT64 else np.float32)
