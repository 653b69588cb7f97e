from typing import Any

import numpy as np
from numpy.typing import NDArray

def levels() -> list[tuple[str, bool]]: ...
def use_level(name: str) -> None: ...
def level() -> str: ...
def build() -> dict[str, str]: ...
def set_thread_limit(n: int) -> None: ...
def get_thread_limit() -> int: ...
def helper_threads() -> int: ...
def plain_cross_entropy(
    logits: Any, target: Any, ignore_index: int, reduction: int, want_grad: bool, out: Any, limit: int
) -> Any: ...
def inner_dimensions(arrays: list[NDArray[Any]], axis: int) -> int: ...
def cross_entropy(
    logits: NDArray[Any],
    storage: int,
    axis: int,
    target: NDArray[Any] | None,
    probabilities: NDArray[Any] | None,
    q_storage: int,
    weight: NDArray[np.float64] | None,
    sample_weight: NDArray[np.float64] | None,
    ignore_index: int,
    smoothing: float,
    reduction: int,
    normalizer: float,
    upstream: float | NDArray[np.float64] | None,
    want_grad: bool,
    out: NDArray[Any] | None,
    row_loss: NDArray[Any] | None,
    limit: int,
) -> Any: ...
