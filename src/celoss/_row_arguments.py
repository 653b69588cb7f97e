"""Checks of the arguments of losses of rows, and their messages."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celoss._arguments import (
    STORAGE_OF_FLOATS,
    as_array,
    as_axis,
    as_bits,
    as_focal_gamma,
    as_integer,
    as_label_smoothing,
    as_logits,
    as_n_threads,
    as_normalizer,
    as_positive,
    as_reduction,
    as_softcap,
    as_upstream,
    as_weights,
    as_z_loss,
    dtype_name,
    hint_of_shape,
    item,
)
from celoss._kernels import IGNORE_INDEX, Operation, Reduction, Wanted
from celoss._outputs import Results, array_for_losses, as_results
from celoss._remedies import as_integers, described, of_no_use, refuse_labels_of_scores, warn_of_one_class

Array = NDArray[Any]


class RowArguments(NamedTuple):
    """What the kernel is told of a loss of rows."""

    logits: Array
    storage: int
    axis: int
    target: Array | None = None
    probabilities: Array | None = None  # or what else stands beside the logits
    probabilities_storage: int = 0
    weight: NDArray[np.float64] | None = None
    sample_weight: NDArray[np.float64] | None = None
    ignore_index: int = IGNORE_INDEX
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    logit_scale: float = 1.0
    softcap: float = 0.0
    z_loss: float = 0.0
    temperature: float = 1.0
    reduction: int = Reduction.MEAN
    normalizer: float = 0.0
    upstream: float | NDArray[np.float64] | None = None
    wanted: int = Wanted.LOSS_ALONE
    out: Array | None = None
    hess: Array | None = None
    vector: Array | None = None
    vector_storage: int = 0
    row_loss: Array | None = None
    statistics: tuple[Array, ...] | None = None  # logsumexp, entropy, rank, prediction
    n_threads: int = 0


def as_class_weight(weight: ArrayLike | None, classes: int | None) -> NDArray[np.float64] | None:
    """Contiguous float64, a weight for each class. `classes`: how many, or None for any number."""
    if weight is None:
        return None
    array = as_weights(weight, "weight")
    if array.ndim != 1 or classes not in (None, array.size):
        expected = "C" if classes is None else classes
        raise ValueError(f"weight has shape {array.shape}; expected ({expected},), one weight for each class")
    return np.ascontiguousarray(array)


def as_sample_weight(value: ArrayLike | None, shape: tuple[int, ...], name: str = "sample_weight") -> NDArray[np.float64] | None:
    """Contiguous float64 of the loss's shape."""
    return None if value is None else _broadcast(as_weights(value, name, of_either_sign=True), shape, name)


def _broadcast(array: Array, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    try:
        return np.ascontiguousarray(np.broadcast_to(array, shape), np.float64).reshape(shape)
    except ValueError:
        hint = hint_of_shape(array.shape, shape, name)
        raise ValueError(f"{name} of shape {array.shape} does not broadcast to the loss's shape {shape}{hint}") from None


def as_target(
    target: Any, logits: Array, axis: int, ignore_index: int, sample_weight: Array | None = None
) -> tuple[Array | None, int, Array | None, int]:
    """Class indices (contiguous int64 or int32) and the value that marks ignored rows, or probabilities and their storage."""
    array = as_array(target, "target")
    rows = logits.shape[:axis] + logits.shape[axis + 1 :]
    kind = array.dtype.kind
    floating = dtype_name(array.dtype) in STORAGE_OF_FLOATS
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
        storage = STORAGE_OF_FLOATS[dtype_name(array.dtype)]
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
            f"class indices must have shape {rows}{hint_of_shape(array.shape, rows, 'target')}"
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
            f"{item('target', where)} holds {np.array2string(row, threshold=10)}; an integer or bool target of the logits' "
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
    return as_integer(ignore_index, "ignore_index")


def out_of_range(target: Any, classes: int, ignore_index: int, row: int = -1, sample_weight: Array | None = None) -> IndexError:
    """The error for a target outside [0, classes): where, which value, which range."""
    array = as_array(target, "target")
    bad = (array != ignore_index) & ((array < 0) | (array >= classes))
    if sample_weight is not None:
        bad &= sample_weight != 0
    first = int(bad.argmax()) if bad.any() else max(row, 0)  # the kernel saw what another thread has changed since
    where = np.unravel_index(first, array.shape)
    return IndexError(
        f"{item('target', where)} = {array[where]} is not in [0, {classes}) and is not ignore_index={ignore_index}"
        + (classes == 1) * "; logits with one class are scores, whose labels go to binary_cross_entropy or another binary loss"
    )


def refuse_no_classes(logits: Array, axis: int) -> None:
    """Rows without a class are an error; no rows at all are not."""
    if logits.shape[axis] == 0 and np.prod(logits.shape[:axis] + logits.shape[axis + 1 :], dtype=np.int64) > 0:
        raise ValueError(f"logits of shape {logits.shape} have no class along axis {axis}")


def _counting_rows(indices: Array | None, mark: int, weight: Array | None, rows: tuple[int, ...]) -> int:
    """How many rows are neither ignored nor of weight 0."""
    counts = np.ones(rows, np.bool_) if indices is None else indices != mark
    return int(np.count_nonzero(counts if weight is None else counts & (weight != 0)))


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
    logit_scale: Any,
    logit_softcap: Any,
    z_loss: Any,
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
    refuse_no_classes(x, axis)
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
        logit_scale=as_positive(logit_scale, "logit_scale"),
        softcap=as_softcap(logit_softcap),
        z_loss=as_z_loss(z_loss),
        reduction=reduction,
        normalizer=as_normalizer(normalizer, lambda: _counting_rows(indices, mark, row_weight, rows)),
        upstream=upstream,
        wanted=wanted,
        out=None if results.grad is None else as_bits(results.grad, storage),
        hess=None if results.hess is None else as_bits(results.hess, storage),
        vector=None if results.vector is None else as_bits(results.vector, results.vector_storage),
        vector_storage=results.vector_storage,
        row_loss=array_for_losses(rows, storage, reduction, wanted),
        n_threads=as_n_threads(n_threads),
    )
    return arguments, results


# What a loss object can know of its options when it is made, by the functions that the call goes through, and so with their
# messages. The parameters have no defaults: an option that an object has and that is not checked here is an error in its
# first test.
def check_row_options(
    *,
    axis: Any,
    weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    focal_gamma: Any,
    logit_scale: Any,
    logit_softcap: Any,
    z_loss: Any,
    reduction: Any,
    normalizer: Any,
    n_threads: Any,
) -> None:
    """Check what can be checked of the options of a loss of rows without logits and target."""
    as_integer(axis, "axis")
    as_reduction(reduction)
    as_ignore_index(ignore_index)
    as_class_weight(weight, None)
    if sample_weight is not None:
        as_weights(sample_weight, "sample_weight", of_either_sign=True)
    as_label_smoothing(label_smoothing)
    as_focal_gamma(focal_gamma, label_smoothing)
    as_positive(logit_scale, "logit_scale")
    as_softcap(logit_softcap)
    as_z_loss(z_loss)
    as_normalizer(normalizer, lambda: 0)
    as_n_threads(n_threads)
