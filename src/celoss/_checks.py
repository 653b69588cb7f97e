"""How far a result is from the exact value. For ``python -m celoss``, the tests and the benchmarks; imports NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

# Bits behind the leading one, and the exponent of the smallest normal number. np.finfo knows no bfloat16.
FORMATS = {"float64": (52, -1022), "float32": (23, -126), "float16": (10, -14), "bfloat16": (7, -126)}


def ulp_error(got: ArrayLike, exact: ArrayLike, dtype: Any = None, scale: ArrayLike | None = None) -> Array:
    """|got - exact| in ulp of `scale` (default: of exact itself), in the precision of `dtype` (default: got's).

    Infinities have to be equal and NaN meets NaN; what is infinitely far off is inf. Where the exact value is below twice
    the smallest normal number, 0 is as good as the value. Arithmetic is float64, or long double where the exact values or
    the scale are.
    """
    got, exact = np.asarray(got), np.asarray(exact)
    scale = exact if scale is None else np.asarray(scale)
    bits, smallest = FORMATS[(got.dtype if dtype is None else np.dtype(dtype)).name]
    real = np.result_type(exact, scale, np.float64)
    got, exact = got.astype(real), exact.astype(real)
    with np.errstate(all="ignore"):
        exponent = np.maximum(np.frexp(np.abs(scale.astype(real)))[1] - 1, smallest)
        error = np.abs(got - exact) / np.ldexp(real.type(1), exponent - bits)
    same = (got == exact) | (np.isnan(got) & np.isnan(exact))
    flushed = (got == 0) & (np.abs(exact) < np.ldexp(1.0, smallest + 1))
    error = np.where(same | flushed, 0, error)
    return np.where(np.isfinite(error), error, np.inf)
