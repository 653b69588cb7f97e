"""Checks of the arguments of losses of scores (the binary losses), and their messages."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celoss._arguments import (
    FLOAT64,
    STORAGE_OF_FLOATS,
    as_array,
    as_bits,
    as_focal_gamma,
    as_label_smoothing,
    as_logits,
    as_n_threads,
    as_normalizer,
    as_numbers,
    as_reduction,
    as_upstream,
    as_weights,
    dtype_name,
    hint_of_shape,
    item,
)
from celoss._kernels import STORAGES
from celoss._outputs import Results, array_for_losses, as_results
from celoss._remedies import of_no_use

Array = NDArray[Any]


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
    if dtype_name(array.dtype) not in STORAGE_OF_FLOATS and array.dtype.kind not in "biu":
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
    array = as_numbers(value, name, _role_of_score_weight(name))
    if array.size == 0 or 0 in shape:
        array = as_weights(array, name, of_either_sign=name == "weight")
    array, storage = _readable(array)
    if array.shape == shape:
        return array, storage
    try:
        return np.broadcast_to(array, shape), storage
    except ValueError:
        hint = hint_of_shape(array.shape, shape, name)
        raise ValueError(f"{name} of shape {array.shape} does not broadcast to the logits' shape {shape}{hint}") from None


def bad_score_value(target: Any, weight: Any, pos_weight: Any) -> ValueError:
    """The error for a label or weight that the kernel met and that cannot be: which, and where."""
    for value, name in ((weight, "weight"), (pos_weight, "pos_weight")):
        try:
            if value is not None:
                as_weights(value, name, of_either_sign=name == "weight")
        except ValueError as error:
            return error
    labels = as_array(target, "target")
    counts = np.broadcast_to(1.0 if weight is None else as_array(weight, "weight"), labels.shape) != 0
    bad = counts & ((labels < 0) | (labels > 1))
    if not bad.any():
        return ValueError("target, weight or pos_weight changed during the call: it held a value that cannot be")
    where = np.unravel_index(int(bad.argmax()), labels.shape)
    return ValueError(
        f"{item('target', where)} = {labels[where]} is not in [0, 1]: a label is 0, 1 or a probability "
        "(of -1/+1 or 0/255 pass target > 0, of 1/2 target - 1; logits come first, labels second)"
    )


def _readable(array: Array) -> tuple[Array, int]:
    """Numbers as the kernels of binary losses can read them, and how they are stored."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    storage = STORAGES.get(dtype_name(array.dtype))
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
        loss=array_for_losses(z.shape, storage, code, wanted),
        n_threads=as_n_threads(n_threads),
    )
    return arguments, results


# What a loss object can know of its options when it is made, by the functions that the call goes through, and so with their
# messages. The parameters have no defaults: an option that an object has and that is not checked here is an error in its
# first test.
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
            as_weights(value, name, of_either_sign=name == "weight", role=_role_of_score_weight(name))
    as_label_smoothing(label_smoothing)
    as_focal_gamma(focal_gamma, label_smoothing)
    as_normalizer(normalizer, lambda: 0)
    as_n_threads(n_threads)
