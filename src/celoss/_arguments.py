"""Every check of an argument, and every message about one.

The functions here bring what a user may pass into the one form that the kernels take, or raise: TypeError for a kind of
thing that can never work, ValueError for a value or a shape, IndexError for a target out of range. Each message says what
was given, what was expected, and where.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celoss._kernels import IGNORE_INDEX, MOST_THREADS, STORAGES, Operation, Reduction, Wanted, empty_result
from celoss._remedies import (
    as_integers,
    described,
    of_no_use,
    refuse_labels_of_scores,
    refuse_what_is_no_array,
    unmasked,
    warn_of_one_class,
)

Array = NDArray[Any]

REDUCTIONS = {reduction.name.lower(): reduction for reduction in Reduction}

# How logits are stored.
_STORAGE = {name: STORAGES[name] for name in ("float32", "float64", "float16", "bfloat16")}
FLOAT64, BFLOAT16 = _STORAGE["float64"], _STORAGE["bfloat16"]


# NumPy makes up the name of a dtype at every look, which takes 4 microseconds.
@lru_cache(maxsize=64)
def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name


class RowArguments(NamedTuple):
    """What the kernel is told of a loss of rows."""

    logits: Array
    storage: int
    axis: int
    target: Array | None
    probabilities: Array | None
    probabilities_storage: int
    weight: NDArray[np.float64] | None
    sample_weight: NDArray[np.float64] | None
    ignore_index: int
    label_smoothing: float
    focal_gamma: float
    reduction: int
    normalizer: float
    upstream: float | NDArray[np.float64] | None
    wanted: int
    out: Array | None
    hess: Array | None
    vector: Array | None
    vector_storage: int
    row_loss: Array | None
    n_threads: int


# What Python itself has needs none of the looks for what other libraries have.
_BUILT_IN = (list, tuple, int, float, bool, str, bytes)


def as_array(value: Any, name: str, role: str = "") -> Array:
    """`value` as an ndarray, without a copy where it is one, has `__array__`, or speaks DLPack on the CPU.

    `role` is what the argument is for, where the name alone does not say it: it chooses the remedy in a message.
    """
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; {unmasked(name, role or name)}")
        return value.view(np.ndarray)
    if type(value) not in _BUILT_IN:
        refuse_what_is_no_array(value, name, role or name)
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        value = value.detach()  # a tensor that requires a gradient refuses __array__
        if str(value.dtype) == "torch.bfloat16":
            return _bfloat16_of_torch(value, name)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        if "inhomogeneous" in str(error):
            raise TypeError(
                f"{name} holds lists of different lengths; call celoss for each, "
                "or pad them and leave the padding out by ignore_index or a weight of 0"
            ) from error
        raise TypeError(f"{name} cannot be taken as an array: {error}") from error
    return array


def _bfloat16_of_torch(tensor: Any, name: str) -> Array:
    """NumPy knows no bfloat16 of its own; the bits pass as int16 and get their type from ml_dtypes."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise TypeError(f"{name} is a torch.bfloat16 tensor: install ml_dtypes, or pass {name}.float()") from error
    import torch

    bits: Array = tensor.view(torch.int16).numpy()
    return bits.view(ml_dtypes.bfloat16)


# ---- arguments that several functions have -------------------------------------------------------------------------------------


def as_logits(value: Any, name: str = "logits") -> tuple[Array, int]:
    """Logits in native byte order, and how they are stored. Integers and bool become float64."""
    array = as_array(value, name)
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    storage = _STORAGE.get(_name(array.dtype))
    if storage is None:
        raise TypeError(
            f"{name} has dtype {array.dtype}; expected float16, bfloat16 (ml_dtypes), float32, float64, an integer type or bool"
            f"{of_no_use(array, name, name)}"
        )
    return array, storage


def as_bits(array: Array, storage: int) -> Array:
    """bfloat16 as unsigned integers, which the C API can hold; others unchanged."""
    return array.view(np.uint16) if storage == BFLOAT16 else array


def as_axis(axis: Any, ndim: int, name: str = "logits") -> int:
    """The class axis, counted from the front."""
    number = _as_integer(axis, "axis")
    if ndim == 0:
        raise ValueError(f"{name} has no dimension; expected at least one, the classes")
    if not -ndim <= number < ndim:
        raise ValueError(f"axis {number} is out of range for {name} with {ndim} dimension{'s' * (ndim != 1)}")
    return number % ndim


def as_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes of an activation, counted from the front, in their order: however they are named, neighbours need no copy."""
    if axis is None:
        return tuple(range(ndim))
    try:
        numbers = tuple(map(operator.index, axis if isinstance(axis, tuple) else (axis,)))
    except TypeError:
        raise TypeError(f"axis must be an integer, a tuple of integers or None, got {axis!r}") from None
    if numbers and ndim == 0:
        raise np.exceptions.AxisError("x has no dimension; expected at least one, the classes, or axis=None")
    for number in numbers:
        if not -ndim <= number < ndim:
            raise np.exceptions.AxisError(f"axis {number} is out of range for x with {ndim} dimension{'s' * (ndim != 1)}")
    axes = tuple(sorted({number % ndim for number in numbers}))
    if len(axes) != len(numbers):
        raise ValueError(f"axis {axis} names a dimension of x twice")
    return axes


def with_axes_last(array: Array, axes: tuple[int, ...]) -> Array:
    """A view with the axes behind all others."""
    return array.transpose(*(d for d in range(array.ndim) if d not in axes), *axes)


def with_axes_as_one(array: Array, axes: tuple[int, ...]) -> Array:
    """`array` with the last axis in place of these axes: a view where the strides allow it, else a copy."""
    moved = with_axes_last(array, axes)
    rest = moved.shape[: array.ndim - len(axes)]
    return moved.reshape(*rest, math.prod(moved.shape[len(rest) :]))


def as_reduction(reduction: Any) -> int:
    code = REDUCTIONS.get(reduction) if isinstance(reduction, str) else None
    if code is None:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return code


def as_n_threads(n_threads: Any) -> int:
    """0 stands for the package's setting."""
    if n_threads is None:
        return 0
    try:
        number = operator.index(n_threads)
    except TypeError:
        raise TypeError(f"n_threads must be a positive integer or None, got {n_threads!r}") from None
    if number < 1:
        raise ValueError(f"n_threads must be at least 1, got {number}")
    return min(number, MOST_THREADS)


def as_label_smoothing(label_smoothing: Any) -> float:
    value = _as_number(label_smoothing, "label_smoothing")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing!r}")
    return value


def as_focal_gamma(focal_gamma: Any, label_smoothing: Any, probabilities: bool = False) -> float:
    """The exponent of the focal factor, which has one class whose probability counts."""
    value = _as_number(focal_gamma, "focal_gamma")
    if not 0.0 <= value < float("inf"):
        raise ValueError(f"focal_gamma must be a finite number >= 0, got {focal_gamma!r}")
    if value > 0.0 and probabilities:
        raise ValueError(f"focal_gamma={focal_gamma!r} needs class indices; target holds probabilities, with no one class")
    if value > 0.0 and as_label_smoothing(label_smoothing) > 0.0:
        raise ValueError(f"focal_gamma={focal_gamma!r} and label_smoothing={label_smoothing!r} exclude one another")
    return value


def as_normalizer(normalizer: Any, counting: Callable[[], int]) -> float:
    """0 stands for the mean's own denominator. The user's 0 is taken where nothing is `counting`: 0 over anything is 0 then."""
    if normalizer is None:
        return 0.0
    value = _as_number(normalizer, "normalizer")
    if value == 0.0:
        if count := counting():
            raise ValueError(f"normalizer=0, yet {count} losses count; it must be positive unless none does")
        return 1.0
    if not 0.0 < value < float("inf"):
        raise ValueError(f"normalizer must be a positive finite number, or 0 where nothing counts, got {normalizer!r}")
    return value


def _as_number(value: Any, name: str) -> float:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    except OverflowError:
        return float("inf")  # an integer beyond float64: the caller names its range


def _as_numbers(value: Any, name: str, role: str = "") -> Array:
    array = as_array(value, name, role)
    if _name(array.dtype) not in _STORAGE and array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}{of_no_use(array, name, role or name)}")
    return array


def _as_weights(value: ArrayLike, name: str, of_either_sign: bool = False, role: str = "") -> NDArray[np.float64]:
    array = _as_numbers(value, name, role)
    array = array.astype(np.float64)
    good = np.isfinite(array) if of_either_sign else (array >= 0) & (array < np.inf)
    if not good.all():
        where = np.unravel_index(int(good.argmin()), array.shape)
        raise ValueError(f"{_item(name, where)} = {array[where]} is not a finite number{'' if of_either_sign else ' >= 0'}")
    return array


def _item(name: str, where: tuple[Any, ...]) -> str:
    return f"{name}[{', '.join(str(int(i)) for i in where)}]" if where else name


def as_class_weight(weight: ArrayLike | None, classes: int | None) -> NDArray[np.float64] | None:
    """Contiguous float64, a weight for each class. `classes`: how many, or None for any number."""
    if weight is None:
        return None
    array = _as_weights(weight, "weight")
    if array.ndim != 1 or classes not in (None, array.size):
        expected = "C" if classes is None else classes
        raise ValueError(f"weight has shape {array.shape}; expected ({expected},), one weight for each class")
    return np.ascontiguousarray(array)


def as_sample_weight(value: ArrayLike | None, shape: tuple[int, ...], name: str = "sample_weight") -> NDArray[np.float64] | None:
    """Contiguous float64 of the loss's shape."""
    return None if value is None else _broadcast(_as_weights(value, name, of_either_sign=True), shape, name)


def _other_shape(given: tuple[int, ...], wanted: tuple[int, ...], name: str) -> str:
    """How an array of nearly the right shape gets it: a column where a row was meant, or the first dimensions alone."""
    if given == (*wanted, 1):
        return f"; pass {name}[..., 0]"
    if 0 < len(given) < len(wanted) and given == wanted[: len(given)]:
        missing = ", ".join(["None"] * (len(wanted) - len(given)))
        return f"; for one each of the first dimension{'s' * (len(given) > 1)} pass {name}[..., {missing}]"
    return ""


def _broadcast(array: Array, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    try:
        return np.ascontiguousarray(np.broadcast_to(array, shape), np.float64).reshape(shape)
    except ValueError:
        hint = _other_shape(array.shape, shape, name)
        raise ValueError(f"{name} of shape {array.shape} does not broadcast to the loss's shape {shape}{hint}") from None


def as_upstream(grad_output: ArrayLike | None, shape: tuple[int, ...], reduction: int) -> float | NDArray[np.float64] | None:
    """The upstream gradient: None for 1, a float, or contiguous float64 of the loss's shape."""
    if grad_output is None:
        return None
    array = _as_numbers(grad_output, "grad_output")
    array = array.astype(np.float64)
    if array.ndim == 0:
        return float(array)
    if reduction != Reduction.NONE:
        raise ValueError(f"grad_output has shape {array.shape}; expected a number, since the reduced loss is one number")
    if array.shape != shape:
        raise ValueError(f"grad_output has shape {array.shape}; expected a number or the loss's shape {shape}")
    return np.ascontiguousarray(array)


def as_target(
    target: Any, logits: Array, axis: int, ignore_index: int, sample_weight: Array | None = None
) -> tuple[Array | None, int, Array | None, int]:
    """Class indices (contiguous int64 or int32) and the value that marks ignored rows, or probabilities and their storage."""
    array = as_array(target, "target")
    rows = logits.shape[:axis] + logits.shape[axis + 1 :]
    kind = array.dtype.kind
    floating = _name(array.dtype) in _STORAGE
    refuse_labels_of_scores(array, logits)
    if kind == "b" and not (array.shape == logits.shape and array.ndim > 1):
        hint = ": pass target.astype(int)" if array.shape == rows else ""
        raise TypeError(
            f"target is {described(array)}; expected class indices (an integer dtype, shape {rows}{hint}), or one-hot rows or "
            f"probabilities (shape {logits.shape})"
        )
    if not floating and kind not in "biu":
        if array.size == 0 and array.shape == rows:  # an empty list has no dtype of its own
            return np.zeros(rows, np.int64), 0, None, 0
        raise TypeError(
            f"target has dtype {array.dtype}; expected an integer dtype (class indices) or a floating one (probabilities)"
            f"{of_no_use(array, 'target', 'target', target)}"
        )
    if floating:
        if array.shape != logits.shape:
            if array.shape == rows:
                if array.size == 0:  # np.array([]), which is float64
                    return np.zeros(rows, np.int64), 0, None, 0
                if logits.shape[axis] == 1:
                    hint = "labels between 0 and 1 of the logits' shape go to binary_cross_entropy or another binary loss"
                else:
                    hint = f"pass {as_integers(array, target)}"
                raise TypeError(
                    f"target is {described(array)}, the shape of class indices; class indices must have an integer dtype "
                    f"(probabilities have the logits' shape {logits.shape}): {hint}"
                )
            raise ValueError(f"target is {described(array)}; probabilities must have the logits' shape {logits.shape}")
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        storage = _STORAGE[_name(array.dtype)]
        return None, 0, as_bits(array, storage), storage
    if array.shape == logits.shape and array.ndim > 1:
        return *_as_indices(_indices_of_one_hot(array, axis, sample_weight), ignore_index), None, 0
    if array.shape != rows:
        if array.shape == logits.shape:
            raise TypeError(
                f"target is {described(array)}, the logits' shape; probabilities must have a floating dtype "
                f"(class indices have the shape {rows})"
            )
        raise ValueError(
            f"target has shape {array.shape}; with logits of shape {logits.shape} and axis {axis}, "
            f"class indices must have shape {rows}{_other_shape(array.shape, rows, 'target')}"
        )
    return *_as_indices(array, ignore_index), None, 0


def _indices_of_one_hot(array: Array, axis: int, sample_weight: Array | None) -> Array:
    """The classes of rows that hold one 1 and otherwise 0; of weight 0 they may hold anything."""
    good = (array != 0).sum(axis=axis) == 1
    if array.dtype.kind != "b":
        good &= ((array == 0) | (array == 1)).all(axis=axis)
    if sample_weight is not None:
        good |= sample_weight == 0
    if not good.all():
        where = np.unravel_index(int(good.argmin()), good.shape)
        row = np.moveaxis(array, axis, -1)[where]
        raise ValueError(
            f"{_item('target', where)} holds {np.array2string(row, threshold=10)}; an integer or bool target of the logits' "
            "shape is one-hot, with one 1 in each row (probabilities have a floating dtype)"
        )
    indices: Array = np.ascontiguousarray(array.argmax(axis=axis), np.int64)
    return indices


def _as_indices(array: Array, ignore_index: int) -> tuple[Array, int]:
    """Contiguous int64 or int32, and the value that marks ignored rows there: ignore_index, where an int64 can hold it.

    What no int64 can hold becomes another number that is no class: whether the row counts, only the kernel looks.
    """
    low, high = -(2**63), 2**63 - 1
    mark = ignore_index if low <= ignore_index <= high else low
    if (array.dtype.kind == "u" and array.itemsize == 8) or mark != ignore_index:
        ignored = array == ignore_index
        beyond = ~ignored & ((array > high) | (array == low))
        array = np.where(ignored | beyond, 0, array).astype(np.int64)
        array[ignored] = mark
        array[beyond] = high if mark != high else high - 1
    dtype = array.dtype if array.dtype in (np.int32, np.int64) and array.dtype.isnative else np.dtype(np.int64)
    if array.dtype is dtype and array.flags.c_contiguous and array.flags.aligned:
        return array, mark  # np.require takes a microsecond to see that
    return np.require(array, dtype, ["C", "A"]).reshape(array.shape), mark


def as_ignore_index(ignore_index: Any) -> int:
    return _as_integer(ignore_index, "ignore_index")


def _as_integer(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def out_of_range(target: Any, classes: int, ignore_index: int, row: int = -1, sample_weight: Array | None = None) -> IndexError:
    """The error for a target outside [0, classes): where, which value, which range."""
    array = as_array(target, "target")
    bad = (array != ignore_index) & ((array < 0) | (array >= classes))
    if sample_weight is not None:
        bad &= sample_weight != 0
    first = int(bad.argmax()) if bad.any() else max(row, 0)  # the kernel saw what another thread has changed since
    where = np.unravel_index(first, array.shape)
    return IndexError(
        f"{_item('target', where)} = {array[where]} is not in [0, {classes}) and is not ignore_index={ignore_index}"
        + (classes == 1) * "; logits with one class are scores, whose labels go to binary_cross_entropy or another binary loss"
    )


def _overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share an element; True where that is too hard to tell."""
    candidates: Any = 10_000_000  # NumPy takes any int, its stubs only -1 and 0
    try:
        return np.may_share_memory(a, b) and np.shares_memory(a, b, max_work=candidates)
    except np.exceptions.TooHardError:
        return True


def _same_elements(a: Array, b: Array) -> bool:
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
    if out is not given and _overlap(out, given) and not _same_elements(out, given):
        raise ValueError(f"{called} overlaps {name} partly; pass {name} itself, or an array apart from it")
    for name, other in others.items():
        if other is not None and _overlap(out, as_array(other, name)):
            raise ValueError(f"{called} overlaps {name}; it must be apart from every other array but logits")
    if _overlaps_itself(out):
        raise ValueError(f"{called} has strides {out.strides}, so that several of its elements share memory")
    return out


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


def _counting_rows(indices: Array | None, mark: int, weight: Array | None, rows: tuple[int, ...]) -> int:
    """How many rows are neither ignored nor of weight 0."""
    counts = np.ones(rows, np.bool_) if indices is None else indices != mark
    return int(np.count_nonzero(counts if weight is None else counts & (weight != 0)))


def _array_for_losses(shape: tuple[int, ...], storage: int, reduction: int, wanted: int) -> Array | None:
    if reduction != Reduction.NONE or wanted == Wanted.HESSIAN_PRODUCT:
        return None
    return empty_result(shape, np.float64 if storage == FLOAT64 else np.float32)


def row_arguments(
    operation: Operation,
    logits: Any,
    target: Any,
    axis: Any,
    ignore_index: Any,
    weight: Any,
    sample_weight: Any,
    label_smoothing: Any,
    focal_gamma: Any,
    reduction: Any,
    normalizer: Any,
    n_threads: Any,
    wanted: int,
    grad_output: Any,
    out: Any,
    second: Any,
) -> tuple[RowArguments, Results]:
    """Check everything; the kernel's arguments, and the results in the dtype that the user sees."""
    given = as_array(logits, "logits")
    x, storage = as_logits(given)
    axis = as_axis(axis, x.ndim)
    classes = x.shape[axis]
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    reduction = as_reduction(reduction)
    ignore_index = as_ignore_index(ignore_index)
    row_weight = as_sample_weight(sample_weight, rows)
    indices, mark, probabilities, q_storage = as_target(target, x, axis, ignore_index, row_weight)
    if classes == 0 and np.prod(rows, dtype=np.int64) > 0:
        raise ValueError(f"logits of shape {x.shape} have no class along axis {axis}")
    if probabilities is not None and ignore_index != IGNORE_INDEX:
        raise ValueError(
            f"ignore_index={ignore_index} needs class indices; target holds probabilities, "
            "whose rows are left out by a sample_weight of 0"
        )
    if probabilities is not None and classes == 1 and x.size:
        warn_of_one_class(x, axis)
    class_weight = as_class_weight(weight, classes)
    if operation == Operation.BRIER and weight is not None and probabilities is not None:
        raise ValueError("weight needs class indices: probabilities have no one class whose weight counts")
    upstream = as_upstream(grad_output, rows, reduction)
    inputs = {"target": target, "weight": weight, "sample_weight": sample_weight, "grad_output": grad_output}
    results = as_results(wanted, out, second, x, given, inputs)
    arguments = RowArguments(
        logits=as_bits(x, storage),
        storage=storage,
        axis=axis,
        target=indices,
        probabilities=probabilities,
        probabilities_storage=q_storage,
        weight=class_weight,
        sample_weight=row_weight,
        ignore_index=mark,
        label_smoothing=as_label_smoothing(label_smoothing),
        focal_gamma=as_focal_gamma(focal_gamma, label_smoothing, probabilities is not None),
        reduction=reduction,
        normalizer=as_normalizer(normalizer, lambda: _counting_rows(indices, mark, row_weight, rows)),
        upstream=upstream,
        wanted=wanted,
        out=None if results.grad is None else as_bits(results.grad, storage),
        hess=None if results.hess is None else as_bits(results.hess, storage),
        vector=None if results.vector is None else as_bits(results.vector, results.vector_storage),
        vector_storage=results.vector_storage,
        row_loss=_array_for_losses(rows, storage, reduction, wanted),
        n_threads=as_n_threads(n_threads),
    )
    return arguments, results


def activation_arguments(x: Any, out: Any, name: str = "x") -> tuple[Array, int, Array]:
    """Scores, their storage, and the array for a result of their shape in the user's dtype."""
    given = as_array(x, name)
    array, storage = as_logits(given, name)
    return array, storage, empty_result(array.shape, array.dtype) if out is None else as_out(out, array, given, {}, name)


def upstream_of_each(grad_output: Any, like: Array, name: str, out: Any) -> tuple[Array, int]:
    """An upstream gradient with a number for each of the array `like`, and how it is stored. `out` may be it, or apart."""
    given = as_array(grad_output, "grad_output")
    array, storage = as_logits(given, "grad_output")
    if array.shape != like.shape:
        raise ValueError(f"grad_output has shape {array.shape}; expected the shape {like.shape} of {name}")
    if out is not None and out is not given and _overlap(out, given) and not _same_elements(out, given):
        raise ValueError("out overlaps grad_output partly; pass grad_output itself, or an array apart from it")
    return as_bits(array, storage), storage


class ScoreArguments(NamedTuple):
    """What the kernel is told of a loss of scores."""

    logits: Array
    storage: int
    target: Array
    target_storage: int
    weight: Array | None
    weight_storage: int
    pos_weight: Array | None
    pos_weight_storage: int
    label_smoothing: float
    focal_gamma: float
    reduction: int
    normalizer: float
    upstream: float | NDArray[np.float64] | None
    wanted: int
    out: Array | None
    hess: Array | None
    vector: Array | None
    vector_storage: int
    loss: Array | None
    n_threads: int


def as_labels(target: Any, shape: tuple[int, ...]) -> tuple[Array, int]:
    """Labels of binary losses as the kernel can read them, and how they are stored."""
    array = as_array(target, "target", "labels")
    if _name(array.dtype) not in _STORAGE and array.dtype.kind not in "biu":
        raise TypeError(
            f"target has dtype {array.dtype}; expected labels in [0, 1]: bool, integers or floats"
            f"{of_no_use(array, 'target', 'labels', target)}"
        )
    if array.shape != shape:
        hint = ""
        if array.shape == shape[:-1] and array.ndim < len(shape):
            one = shape[-1] == 1
            hint = (
                f"; pass target.reshape({shape})" if one else "; class indices of rows go to cross_entropy or another such loss"
            )
        raise ValueError(f"target has shape {array.shape}; expected the logits' shape {shape}, a label a score{hint}")
    return _readable(array)


def _role_of_score_weight(name: str) -> str:
    """The `weight` of a binary loss is another than that of classes."""
    return "score_weight" if name == "weight" else name


def as_score_weight(value: ArrayLike | None, shape: tuple[int, ...], name: str) -> tuple[Array | None, int]:
    """Weights seen in the logits' shape, and how they are stored. The kernel tests their values while it reads them."""
    if value is None:
        return None, 0
    array = _as_numbers(value, name, _role_of_score_weight(name))
    if array.size == 0 or 0 in shape:
        array = _as_weights(array, name, of_either_sign=name == "weight")
    array, storage = _readable(array)
    if array.shape == shape:
        return array, storage
    try:
        return np.broadcast_to(array, shape), storage
    except ValueError:
        hint = _other_shape(array.shape, shape, name)
        raise ValueError(f"{name} of shape {array.shape} does not broadcast to the logits' shape {shape}{hint}") from None


def bad_score_value(target: Any, weight: Any, pos_weight: Any) -> ValueError:
    """The error for a label or weight that the kernel met and that cannot be: which, and where."""
    for value, name in ((weight, "weight"), (pos_weight, "pos_weight")):
        try:
            if value is not None:
                _as_weights(value, name, of_either_sign=name == "weight")
        except ValueError as error:
            return error
    labels = as_array(target, "target")
    counts = np.broadcast_to(1.0 if weight is None else as_array(weight, "weight"), labels.shape) != 0
    bad = counts & ((labels < 0) | (labels > 1))
    if not bad.any():
        return ValueError("target, weight or pos_weight changed during the call: it held a value that cannot be")
    where = np.unravel_index(int(bad.argmax()), labels.shape)
    return ValueError(
        f"{_item('target', where)} = {labels[where]} is not in [0, 1]: a label is 0, 1 or a probability "
        "(of -1/+1 or 0/255 pass target > 0, of 1/2 target - 1; logits come first, labels second)"
    )


def _readable(array: Array) -> tuple[Array, int]:
    """Numbers as the kernels of binary losses can read them, and how they are stored."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    storage = STORAGES.get(_name(array.dtype))
    if storage is None:
        array, storage = array.astype(np.float64), FLOAT64
    return as_bits(array, storage), storage


def score_arguments(
    logits: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    label_smoothing: Any,
    focal_gamma: Any,
    reduction: Any,
    normalizer: Any,
    n_threads: Any,
    wanted: int,
    grad_output: Any,
    out: Any,
    second: Any,
) -> tuple[ScoreArguments, Results]:
    """Check everything; the kernel's arguments, and the results in the dtype that the user sees."""
    given = as_array(logits, "logits")
    z, storage = as_logits(given)
    code = as_reduction(reduction)
    y, y_storage = as_labels(target, z.shape)
    inputs = {"target": target, "weight": weight, "pos_weight": pos_weight, "grad_output": grad_output}
    results = as_results(wanted, out, second, z, given, inputs)
    weights, weight_storage = as_score_weight(weight, z.shape, "weight")
    positive, positive_storage = as_score_weight(pos_weight, z.shape, "pos_weight")
    arguments = ScoreArguments(
        logits=as_bits(z, storage),
        storage=storage,
        target=y,
        target_storage=y_storage,
        weight=weights,
        weight_storage=weight_storage,
        pos_weight=positive,
        pos_weight_storage=positive_storage,
        label_smoothing=as_label_smoothing(label_smoothing),
        focal_gamma=as_focal_gamma(focal_gamma, label_smoothing),
        reduction=code,
        normalizer=as_normalizer(normalizer, lambda: z.size if weights is None else int(np.count_nonzero(weights))),
        upstream=as_upstream(grad_output, z.shape, code),
        wanted=wanted,
        out=None if results.grad is None else as_bits(results.grad, storage),
        hess=None if results.hess is None else as_bits(results.hess, storage),
        vector=None if results.vector is None else as_bits(results.vector, results.vector_storage),
        vector_storage=results.vector_storage,
        loss=_array_for_losses(z.shape, storage, code, wanted),
        n_threads=as_n_threads(n_threads),
    )
    return arguments, results


# ---- options before there are arrays ----
#
# What a loss object can know when it is made, by the functions that the call goes through, and so with their messages. The
# parameters have no defaults: an option that an object has and that is not checked here is an error in its first test.


def check_row_options(
    *,
    axis: Any,
    weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    focal_gamma: Any,
    reduction: Any,
    normalizer: Any,
    n_threads: Any,
) -> None:
    """Check what can be checked of the options of a loss of rows without logits and target."""
    _as_integer(axis, "axis")
    as_reduction(reduction)
    as_ignore_index(ignore_index)
    as_class_weight(weight, None)
    if sample_weight is not None:
        _as_weights(sample_weight, "sample_weight", of_either_sign=True)
    as_label_smoothing(label_smoothing)
    as_focal_gamma(focal_gamma, label_smoothing)
    as_normalizer(normalizer, lambda: 0)
    as_n_threads(n_threads)


def check_score_options(
    *,
    weight: Any,
    pos_weight: Any,
    label_smoothing: Any,
    focal_gamma: Any,
    reduction: Any,
    normalizer: Any,
    n_threads: Any,
) -> None:
    """Check what can be checked of the options of a loss of scores without logits and target."""
    as_reduction(reduction)
    for value, name in ((weight, "weight"), (pos_weight, "pos_weight")):
        if value is not None:
            _as_weights(value, name, of_either_sign=name == "weight", role=_role_of_score_weight(name))
    as_label_smoothing(label_smoothing)
    as_focal_gamma(focal_gamma, label_smoothing)
    as_normalizer(normalizer, lambda: 0)
    as_n_threads(n_threads)
