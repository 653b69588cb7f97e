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
    operation: int,
    logits: Any,
    target: Any,
    axis: Any,
    weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    reduction: Any,
    normalizer: Any,
    n_threads: Any,
    want_grad: bool,
    grad_output: Any,
    out: Any,
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
    operation: int,
) -> Any: ...
def row_activation(
    operation: int,
    x: NDArray[Any],
    storage: int,
    axis: int,
    out: NDArray[Any] | None,
    row_result: NDArray[Any] | None,
) -> None: ...
def plain_row_activation(operation: int, x: Any, out: Any) -> NDArray[Any] | None: ...
def element_activation(operation: int, x: NDArray[Any], storage: int, out: NDArray[Any]) -> None: ...
def plain_element_activation(operation: int, x: Any, out: Any) -> NDArray[Any] | None: ...
def plain_binary_loss(
    loss_kind: int,
    logits: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    label_smoothing: Any,
    reduction: Any,
    normalizer: Any,
    n_threads: Any,
    want_grad: bool,
    grad_output: Any,
    out: Any,
) -> Any: ...
def binary_loss(
    loss_kind: int,
    logits: NDArray[Any],
    storage: int,
    target: NDArray[Any],
    target_storage: int,
    weight: NDArray[Any] | None,
    weight_storage: int,
    pos_weight: NDArray[Any] | None,
    pos_weight_storage: int,
    smoothing: float,
    reduction: int,
    normalizer: float,
    upstream: float | NDArray[np.float64] | None,
    want_grad: bool,
    out: NDArray[Any] | None,
    loss: NDArray[Any] | None,
    limit: int,
) -> Any: ...

ELEMENTARY: dict[str, int]

def elementary(name: str, x: NDArray[Any], y: Any = 0, x_low: Any = 0, y_low: Any = 0) -> tuple[NDArray[Any], NDArray[Any]]: ...
