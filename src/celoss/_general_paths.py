"""The general paths: what the short ones (`_short_paths.pxi`) hand over, since it is unusual or wrong.

Check, allocate, run the kernel, and bring the result into the form that the user expects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celoss import _kernels
from celoss._activation_arguments import activation_arguments, as_axes, upstream_of_each, with_axes_as_one, with_axes_last
from celoss._arguments import FLOAT64, as_axis, as_bits, as_logits
from celoss._chain_rule import has_language_options, second_derivatives
from celoss._kernels import Operation, ScoreOperation, Wanted
from celoss._language_arguments import kl_arguments, statistics_arguments
from celoss._row_arguments import out_of_range, row_arguments
from celoss._score_arguments import bad_score_value, score_arguments


def loss_of_rows(
    operation: Operation, logits: ArrayLike, target: ArrayLike, axis: int, ignore_index: int, options: tuple[Any, ...]
) -> Any:
    """The general path of `short_loss_of_rows`: what is unusual, or wrong."""
    arguments, results = row_arguments(operation, logits, target, axis, ignore_index, *options)
    if arguments.wanted in (Wanted.GRADIENT_AND_HESSIAN, Wanted.HESSIAN_PRODUCT) and has_language_options(arguments):
        return second_derivatives(loss_of_rows, arguments, results, logits, target, axis, ignore_index, options)
    found = _kernels.loss_of_rows(operation, arguments)
    if type(found) is int:
        classes = arguments.logits.shape[arguments.axis]
        raise out_of_range(target, classes, ignore_index, found, arguments.sample_weight)
    if arguments.wanted == Wanted.HESSIAN_PRODUCT:
        return results.grad
    loss = found if arguments.wanted == Wanted.LOSS_ALONE else found[0]
    if arguments.row_loss is not None and arguments.row_loss.ndim == 0:
        loss = loss[()]  # of one row: a NumPy scalar, and no array without dimensions
    arrays = [array for array in (results.grad, results.hess) if array is not None]
    return (loss, *arrays) if arrays else loss


def statistics_of_rows(logits: ArrayLike, target: ArrayLike, *options: Any) -> tuple[Any, ...]:
    arguments = statistics_arguments(logits, target, *options)
    found = _kernels.loss_of_rows(Operation.STATISTICS, arguments)
    if type(found) is int:
        raise out_of_range(target, arguments.logits.shape[arguments.axis], arguments.ignore_index, found)
    assert arguments.statistics is not None
    arrays = (found, *arguments.statistics)
    return tuple(array[()] for array in arrays) if arguments.logits.ndim == 1 else arrays


def kl_divergence(logits: ArrayLike, reference_logits: ArrayLike, wanted: int, grad_output: Any, out: Any, *options: Any) -> Any:
    arguments, results = kl_arguments(logits, reference_logits, wanted, grad_output, out, *options)
    found = _kernels.loss_of_rows(Operation.KL_DIVERGENCE, arguments)
    loss = found if wanted == Wanted.LOSS_ALONE else found[0]
    if isinstance(loss, np.ndarray) and loss.ndim == 0:
        loss = loss[()]
    return loss if wanted == Wanted.LOSS_ALONE else (loss, results.grad)


def loss_of_scores(
    operation: ScoreOperation,
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    options: tuple[Any, ...],
) -> Any:
    """The general path of `short_loss_of_scores`: what is unusual, or wrong."""
    arguments, results = score_arguments(logits, target, weight, pos_weight, *options)
    found = _kernels.loss_of_scores(operation, arguments)
    if found is None:
        raise bad_score_value(target, weight, pos_weight)
    out, second = options[-2:]
    if arguments.wanted == Wanted.HESSIAN_PRODUCT:
        return _of_one_score(results.grad, out)
    loss = _of_one_score(found if arguments.wanted == Wanted.LOSS_ALONE else found[0], None)
    if arguments.wanted == Wanted.LOSS_ALONE:
        return loss
    grad = _of_one_score(results.grad, out)
    return (loss, grad) if arguments.wanted == Wanted.GRADIENT else (loss, grad, _of_one_score(results.hess, second))


def _of_one_score(result: Any, out: NDArray[Any] | None) -> Any:
    """A result without dimensions is a NumPy scalar, but for what is in the user's array `out`."""
    return result[()] if isinstance(result, np.ndarray) and result.ndim == 0 and out is None else result


def activation_of_rows(
    operation: Operation, x: ArrayLike, axis: int | tuple[int, ...] | None, out: NDArray[Any] | None
) -> NDArray[Any]:
    """The general path of `short_activation_of_rows`."""
    array, storage, result = activation_arguments(x, out)
    axes = as_axes(axis, array.ndim)
    if len(axes) == 1:
        bits, result_bits = as_bits(array, storage), as_bits(result, storage)
        _kernels.activation_of_rows(operation, bits, storage, axes[0], result_bits, None)
    else:
        _of_several_axes(operation, array, storage, axes, result)
    return result if result.ndim or out is not None else result[()]


def logsumexp_of_rows(
    operation: Operation, x: ArrayLike, axis: int | tuple[int, ...] | None, out: None, keepdims: bool = False
) -> NDArray[Any]:
    """The general path of `short_activation_of_rows`, for what has a number for each row."""
    array, storage = as_logits(x, "x")
    axes = as_axes(axis, array.ndim)
    if len(axes) == 1:
        rows, number = array, axes[0]
    else:
        rows = with_axes_as_one(array, axes)
        number = rows.ndim - 1
    shape = rows.shape[:number] + rows.shape[number + 1 :]
    dtype = np.float64 if storage == FLOAT64 else np.float32
    if rows.shape[number]:
        result = _kernels.empty_result(shape, dtype)
        _kernels.activation_of_rows(operation, as_bits(rows, storage), storage, number, None, result)
    else:
        result = np.full(shape, -np.inf, dtype)  # of nothing
    if keepdims:
        result = np.expand_dims(result, axes)
    return result if result.ndim else result[()]


def _of_several_axes(
    operation: Operation, array: NDArray[Any], storage: int, axes: tuple[int, ...], result: NDArray[Any]
) -> None:
    """The kernel knows one axis of classes: what lies along the axes becomes one, in views where the strides allow it."""
    rows, written = (with_axes_as_one(a, axes) for a in (array, result))
    bits, written_bits = as_bits(rows, storage), as_bits(written, storage)
    _kernels.activation_of_rows(operation, bits, storage, rows.ndim - 1, written_bits, None)
    if not np.may_share_memory(written, result):
        moved = with_axes_last(result, axes)
        moved[...] = written.reshape(moved.shape)


def activation_of_scores(operation: ScoreOperation, x: ArrayLike, out: NDArray[Any] | None) -> NDArray[Any]:
    """The general path of `short_activation_of_scores`."""
    array, storage, result = activation_arguments(x, out)
    bits, result_bits = as_bits(array, storage), as_bits(result, storage)
    _kernels.activation_of_scores(operation, bits, storage, result_bits)
    return result if result.ndim or out is not None else result[()]


def vjp_of_rows(operation: Operation, x: ArrayLike, grad_output: ArrayLike, axis: int, out: NDArray[Any] | None) -> NDArray[Any]:
    """The general path of `short_vjp_of_rows`."""
    name = "p" if operation == Operation.SOFTMAX_VJP else "log_p"
    array, storage, result = activation_arguments(x, out, name)
    number = as_axis(axis, array.ndim, name)
    upstream, upstream_storage = upstream_of_each(grad_output, array, name, out)
    bits, result_bits = as_bits(array, storage), as_bits(result, storage)
    _kernels.activation_of_rows(operation, bits, storage, number, result_bits, None, upstream, upstream_storage)
    return result
