"""Checks of arguments that several functions have, and their messages; those of one kind of function have files of their own.

The functions here bring what a user may pass into the one form that the kernels take, or raise: TypeError for a kind of
thing that can never work, ValueError for a value or a shape, IndexError for a target out of range. Each message says what
was given, what was expected, and where.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celoss._kernels import MOST_THREADS, STORAGES, Reduction
from celoss._remedies import of_no_use, refuse_what_is_no_array, unmasked

Array = NDArray[Any]

REDUCTIONS = {reduction.name.lower(): reduction for reduction in Reduction}

# How logits are stored.
STORAGE_OF_FLOATS = {name: STORAGES[name] for name in ("float32", "float64", "float16", "bfloat16")}
FLOAT64, BFLOAT16 = STORAGE_OF_FLOATS["float64"], STORAGE_OF_FLOATS["bfloat16"]


# NumPy makes up the name of a dtype at every look, which takes 4 microseconds.
@lru_cache(maxsize=64)
def dtype_name(dtype: np.dtype[Any]) -> str:
    return dtype.name


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


def as_logits(value: Any, name: str = "logits") -> tuple[Array, int]:
    """Logits in native byte order, and how they are stored. Integers and bool become float64."""
    array = as_array(value, name)
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    storage = STORAGE_OF_FLOATS.get(dtype_name(array.dtype))
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
    number = as_integer(axis, "axis")
    if ndim == 0:
        raise ValueError(f"{name} has no dimension; expected at least one, the classes")
    if not -ndim <= number < ndim:
        raise ValueError(f"axis {number} is out of range for {name} with {ndim} dimension{'s' * (ndim != 1)}")
    return number % ndim


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
    value = as_number(label_smoothing, "label_smoothing")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing!r}")
    return value


def as_focal_gamma(focal_gamma: Any, label_smoothing: Any, probabilities: bool = False) -> float:
    """The exponent of the focal factor, which has one class whose probability counts."""
    value = as_number(focal_gamma, "focal_gamma")
    if not 0.0 <= value < float("inf"):
        raise ValueError(f"focal_gamma must be a finite number >= 0, got {focal_gamma!r}")
    if value > 0.0 and probabilities:
        raise ValueError(f"focal_gamma={focal_gamma!r} needs class indices; target holds probabilities, with no one class")
    if value > 0.0 and as_label_smoothing(label_smoothing) > 0.0:
        raise ValueError(f"focal_gamma={focal_gamma!r} and label_smoothing={label_smoothing!r} exclude one another")
    return value


def as_positive(value: Any, name: str) -> float:
    number = as_number(value, name)
    if not 0.0 < number < float("inf"):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}")
    return number


def as_softcap(logit_softcap: Any) -> float:
    """0 stands for none."""
    return 0.0 if logit_softcap is None else as_positive(logit_softcap, "logit_softcap")


def as_z_loss(z_loss: Any) -> float:
    value = as_number(z_loss, "z_loss")
    if not 0.0 <= value < float("inf"):
        raise ValueError(f"z_loss must be a finite number >= 0, got {z_loss!r}")
    return value


def as_normalizer(normalizer: Any, counting: Callable[[], int]) -> float:
    """0 stands for the mean's own denominator. The user's 0 is taken where nothing is `counting`: 0 over anything is 0 then."""
    if normalizer is None:
        return 0.0
    value = as_number(normalizer, "normalizer")
    if value == 0.0:
        if count := counting():
            raise ValueError(f"normalizer=0, yet {count} losses count; it must be positive unless none does")
        return 1.0
    if not 0.0 < value < float("inf"):
        raise ValueError(f"normalizer must be a positive finite number, or 0 where nothing counts, got {normalizer!r}")
    return value


def as_number(value: Any, name: str) -> float:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    except OverflowError:
        return float("inf")  # an integer beyond float64: the caller names its range


def as_numbers(value: Any, name: str, role: str = "") -> Array:
    array = as_array(value, name, role)
    if dtype_name(array.dtype) not in STORAGE_OF_FLOATS and array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}{of_no_use(array, name, role or name)}")
    return array


def as_weights(value: ArrayLike, name: str, of_either_sign: bool = False, role: str = "") -> NDArray[np.float64]:
    array = as_numbers(value, name, role)
    array = array.astype(np.float64)
    good = np.isfinite(array) if of_either_sign else (array >= 0) & (array < np.inf)
    if not good.all():
        where = np.unravel_index(int(good.argmin()), array.shape)
        raise ValueError(f"{item(name, where)} = {array[where]} is not a finite number{'' if of_either_sign else ' >= 0'}")
    return array


def item(name: str, where: tuple[Any, ...]) -> str:
    return f"{name}[{', '.join(str(int(i)) for i in where)}]" if where else name


def hint_of_shape(given: tuple[int, ...], wanted: tuple[int, ...], name: str) -> str:
    """How an array of nearly the right shape gets it: a column where a row was meant, or the first dimensions alone."""
    if given == (*wanted, 1):
        return f"; pass {name}[..., 0]"
    if 0 < len(given) < len(wanted) and given == wanted[: len(given)]:
        missing = ", ".join(["None"] * (len(wanted) - len(given)))
        return f"; for one each of the first dimension{'s' * (len(given) > 1)} pass {name}[..., {missing}]"
    return ""


def as_upstream(grad_output: ArrayLike | None, shape: tuple[int, ...], reduction: int) -> float | NDArray[np.float64] | None:
    """The upstream gradient: None for 1, a float, or contiguous float64 of the loss's shape."""
    if grad_output is None:
        return None
    array = as_numbers(grad_output, "grad_output")
    array = array.astype(np.float64)
    if array.ndim == 0:
        return float(array)
    if reduction != Reduction.NONE:
        raise ValueError(f"grad_output has shape {array.shape}; expected a number, since the reduced loss is one number")
    if array.shape != shape:
        raise ValueError(f"grad_output has shape {array.shape}; expected a number or the loss's shape {shape}")
    return np.ascontiguousarray(array)


def as_integer(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
