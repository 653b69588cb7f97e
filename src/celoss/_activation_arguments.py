"""Checks of the arguments of activations, and their messages."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celoss._arguments import as_array, as_bits, as_logits
from celoss._kernels import empty_result
from celoss._outputs import as_out, overlap, same_elements

Array = NDArray[Any]


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
    if out is not None and out is not given and overlap(out, given) and not same_elements(out, given):
        raise ValueError("out overlaps grad_output partly; pass grad_output itself, or an array apart from it")
    return as_bits(array, storage), storage
