from collections.abc import Callable
from enum import IntEnum
from typing import Any

from numpy.typing import NDArray

class Operation(IntEnum):
    CROSS_ENTROPY = 0
    BRIER = 1
    ZERO_ONE = 2
    SOFTMAX = 3
    LOG_SOFTMAX = 4
    LOGSUMEXP = 5
    SOFTMAX_VJP = 6
    LOG_SOFTMAX_VJP = 7
    STATISTICS = 8
    KL_DIVERGENCE = 9

class ScoreOperation(IntEnum):
    BINARY_CROSS_ENTROPY = 0
    BINARY_BRIER = 1
    BINARY_ZERO_ONE = 2
    SIGMOID = 3
    LOG_SIGMOID = 4

class Reduction(IntEnum):
    NONE = 0
    MEAN = 1
    SUM = 2

class Wanted(IntEnum):
    LOSS_ALONE = 0
    GRADIENT = 1
    GRADIENT_AND_HESSIAN = 2
    HESSIAN_PRODUCT = 3

MOST_THREADS: int
IGNORE_INDEX: int
STORAGES: dict[str, int]

def levels() -> list[tuple[str, bool]]: ...
def use_level(name: str) -> None: ...
def level() -> str: ...
def build() -> dict[str, str]: ...
def set_thread_limit(n: int) -> None: ...
def get_thread_limit() -> int: ...
def helper_threads() -> int: ...
def keep_results(most_bytes: int, huge_pages: bool = True) -> None: ...
def most_kept_bytes() -> int: ...
def kept_bytes() -> int: ...
def empty_result(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]: ...
def loss_of_rows(operation: int, arguments: Any) -> Any: ...
def activation_of_rows(
    operation: int,
    x: NDArray[Any],
    storage: int,
    axis: int,
    out: NDArray[Any] | None,
    row_result: NDArray[Any] | None,
    upstream: NDArray[Any] | None = None,
    upstream_storage: int = 0,
) -> None: ...
def inner_dimensions(arrays: list[NDArray[Any]], axis: int) -> int: ...
def loss_of_scores(operation: int, arguments: Any) -> Any: ...
def activation_of_scores(operation: int, x: NDArray[Any], storage: int, out: NDArray[Any]) -> None: ...
def short_loss_of_rows(
    general: Callable[..., Any],
    operation: int,
    logits: Any,
    target: Any,
    axis: Any,
    ignore_index: Any,
    options: tuple[Any, ...],
) -> Any: ...
def short_activation_of_rows(general: Callable[..., Any], operation: int, x: Any, axis: Any, out: Any) -> Any: ...
def short_vjp_of_rows(general: Callable[..., Any], operation: int, x: Any, grad_output: Any, axis: Any, out: Any) -> Any: ...
def short_loss_of_scores(
    general: Callable[..., Any],
    operation: int,
    logits: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    options: tuple[Any, ...],
) -> Any: ...
def short_activation_of_scores(general: Callable[..., Any], operation: int, x: Any, out: Any) -> Any: ...

PROBES: dict[str, int]

def probe(name: str, x: NDArray[Any], y: Any = 0, x_low: Any = 0, y_low: Any = 0) -> tuple[NDArray[Any], NDArray[Any]]: ...
