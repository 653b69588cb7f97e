"""Checks of the arguments of `row_statistics` and `kl_divergence`, and their messages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from celoss._arguments import (
    FLOAT64,
    as_array,
    as_axis,
    as_bits,
    as_logits,
    as_n_threads,
    as_normalizer,
    as_positive,
    as_reduction,
    as_softcap,
    as_upstream,
)
from celoss._kernels import Reduction, empty_result
from celoss._outputs import Results, array_for_losses, as_results
from celoss._row_arguments import RowArguments, as_ignore_index, as_sample_weight, as_target, refuse_no_classes

Array = NDArray[Any]


def statistics_arguments(
    logits: Any, target: Any, axis: Any, ignore_index: Any, logit_scale: Any, logit_softcap: Any, n_threads: Any
) -> RowArguments:
    x, storage = as_logits(as_array(logits, "logits"))
    axis = as_axis(axis, x.ndim)
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    indices, mark, probabilities, _ = as_target(target, x, axis, as_ignore_index(ignore_index))
    if indices is None:
        assert probabilities is not None
        raise ValueError(
            f"target has dtype {probabilities.dtype} and the logits' shape {x.shape}; expected class indices, not probabilities: "
            "a rank is that of one class"
        )
    refuse_no_classes(x, axis)
    dtype = np.float64 if storage == FLOAT64 else np.float32
    return RowArguments(
        logits=as_bits(x, storage),
        storage=storage,
        axis=axis,
        target=indices,
        ignore_index=mark,
        logit_scale=as_positive(logit_scale, "logit_scale"),
        softcap=as_softcap(logit_softcap),
        reduction=Reduction.NONE,
        row_loss=empty_result(rows, dtype),
        statistics=(empty_result(rows, dtype), empty_result(rows, dtype), np.empty(rows, np.int64), np.empty(rows, np.int64)),
        n_threads=as_n_threads(n_threads),
    )


def kl_arguments(
    logits: Any,
    reference_logits: Any,
    wanted: int,
    grad_output: Any,
    out: Any,
    axis: Any,
    temperature: Any,
    sample_weight: Any,
    reduction: Any,
    normalizer: Any,
    n_threads: Any,
) -> tuple[RowArguments, Results]:
    given = as_array(logits, "logits")
    x, storage = as_logits(given)
    axis = as_axis(axis, x.ndim)
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    y, y_storage = as_logits(reference_logits, "reference_logits")
    if y.shape != x.shape:
        raise ValueError(f"reference_logits has shape {y.shape}; expected the logits' shape {x.shape}")
    refuse_no_classes(x, axis)
    code = as_reduction(reduction)
    weight = as_sample_weight(sample_weight, rows)
    inputs = {"reference_logits": reference_logits, "sample_weight": sample_weight, "grad_output": grad_output}
    results = as_results(wanted, out, None, x, given, inputs)
    count = int(np.prod(rows, dtype=np.int64))
    arguments = RowArguments(
        logits=as_bits(x, storage),
        storage=storage,
        axis=axis,
        probabilities=as_bits(y, y_storage),
        probabilities_storage=y_storage,
        sample_weight=weight,
        temperature=as_positive(temperature, "temperature"),
        reduction=code,
        normalizer=as_normalizer(normalizer, lambda: count if weight is None else int(np.count_nonzero(weight))),
        upstream=as_upstream(grad_output, rows, code),
        wanted=wanted,
        out=None if results.grad is None else as_bits(results.grad, storage),
        row_loss=array_for_losses(rows, storage, code, wanted),
        n_threads=as_n_threads(n_threads),
    )
    return arguments, results
