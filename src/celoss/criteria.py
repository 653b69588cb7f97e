"""Loss objects for a training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celoss import binary_losses, losses
from celoss._arguments import REDUCTIONS, as_array, as_logits, as_upstream

__all__ = ["BinaryCrossEntropyLoss", "CrossEntropyLoss"]


class CrossEntropyLoss:
    """Cross-entropy as an object: call it for the loss, then ask it for the gradient.

    Loss and gradient are computed together in the call; `backward` only hands the gradient out. The gradient lives in a
    buffer that the object uses again while shape and dtype stay the same: it is valid until the next call.

    Parameters
    ----------
    axis, weight, sample_weight, ignore_index, label_smoothing, focal_gamma, reduction, normalizer, n_threads
        As for `cross_entropy`. They are checked in each call, against its arrays.

    See Also
    --------
    cross_entropy_with_grad : The function behind it.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> criterion = celoss.CrossEntropyLoss()
    >>> round(criterion(np.zeros((2, 4), np.float32), np.array([0, 3])), 6)
    1.386294
    >>> criterion.backward().tolist()
    [[-0.375, 0.125, 0.125, 0.125], [0.125, 0.125, 0.125, -0.375]]
    """

    def __init__(
        self,
        *,
        axis: int = -1,
        weight: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        reduction: str = "mean",
        normalizer: float | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.options: dict[str, Any] = {
            "axis": axis,
            "weight": weight,
            "sample_weight": sample_weight,
            "ignore_index": ignore_index,
            "label_smoothing": label_smoothing,
            "focal_gamma": focal_gamma,
            "reduction": reduction,
            "normalizer": normalizer,
            "n_threads": n_threads,
        }
        self._buffer: NDArray[Any] | None = None
        self._grad: NDArray[Any] | None = None

    _loss_with_grad: ClassVar[Callable[..., tuple[float | NDArray[Any], NDArray[Any]]]] = staticmethod(
        losses.cross_entropy_with_grad
    )

    def _class_axis(self, ndim: int) -> int | None:
        """The axis that the loss's shape lacks, counted from the front."""
        return int(self.options["axis"]) % ndim

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.options.items())})"

    def __call__(self, logits: ArrayLike, target: ArrayLike) -> float | NDArray[Any]:
        """Return the loss of `logits` against `target`; the gradient is computed along with it.

        Parameters
        ----------
        logits, target
            As for `cross_entropy`, or `binary_cross_entropy`.

        Returns
        -------
        float or ndarray
            As from that function.

        Raises
        ------
        TypeError, ValueError, IndexError
            As that function does. There is no gradient then.
        """
        self._grad = None
        array = as_array(logits, "logits")
        buffer = self._buffer
        if buffer is None or buffer.shape != array.shape or buffer.dtype != array.dtype:
            array, _ = as_logits(array)
            if buffer is None or buffer.shape != array.shape or buffer.dtype != array.dtype:
                self._buffer = buffer = np.empty(array.shape, array.dtype)
        loss, self._grad = self._loss_with_grad(array, target, out=buffer, **self.options)
        return loss

    def backward(self, grad_output: ArrayLike = 1.0) -> NDArray[Any]:
        """Return the gradient of the last call's loss with respect to its logits, times `grad_output`.

        Parameters
        ----------
        grad_output : float or array_like, default 1.0
            A number, or with ``reduction="none"`` also an array of the loss's shape.

        Returns
        -------
        ndarray
            Shape and dtype of the logits. Valid until the next call of the object.

        Raises
        ------
        RuntimeError
            Before the first call.

        Notes
        -----
        What is multiplied is the gradient in the dtype of the logits. In float16 it has lost digits where it is below 6e-5,
        and is 0 below 3e-8, whatever `grad_output` is. To scale the loss of float16 logits, divide the object's `normalizer`
        by the scale, or use the function's `grad_output`: both are applied before the gradient is rounded.
        """
        if self._grad is None:
            raise RuntimeError("backward() was called before a loss was computed; call the criterion first")
        if isinstance(grad_output, float) and grad_output == 1.0:
            return self._grad
        axis = self._class_axis(self._grad.ndim)
        rows = self._grad.shape if axis is None else self._grad.shape[:axis] + self._grad.shape[axis + 1 :]
        factor = as_upstream(grad_output, rows, REDUCTIONS[self.options["reduction"]])
        if factor is None:
            return self._grad
        if isinstance(factor, np.ndarray) and axis is not None:
            factor = np.expand_dims(factor, axis)
        with np.errstate(all="ignore"):  # as the functions: overflow is inf, and no warning
            scaled: NDArray[Any] = np.multiply(self._grad, factor, dtype=np.float64).astype(self._grad.dtype, copy=False)
        return scaled


class BinaryCrossEntropyLoss(CrossEntropyLoss):
    """Binary cross-entropy as an object: call it for the loss, then ask it for the gradient.

    Loss and gradient are computed together in the call; `backward` only hands the gradient out. The gradient lives in a
    buffer that the object uses again while shape and dtype stay the same: it is valid until the next call.

    Parameters
    ----------
    weight, pos_weight, label_smoothing, focal_gamma, reduction, normalizer, n_threads
        As for `binary_cross_entropy`. They are checked in each call, against its arrays.

    See Also
    --------
    binary_cross_entropy_with_grad : The function behind it.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> criterion = celoss.BinaryCrossEntropyLoss()
    >>> round(criterion(np.zeros(4, np.float32), np.array([0, 1, 1, 0])), 6)
    0.693147
    >>> criterion.backward().tolist()
    [0.125, -0.125, -0.125, 0.125]
    """

    def __init__(
        self,
        *,
        weight: ArrayLike | None = None,
        pos_weight: ArrayLike | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        reduction: str = "mean",
        normalizer: float | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.options = {
            "weight": weight,
            "pos_weight": pos_weight,
            "label_smoothing": label_smoothing,
            "focal_gamma": focal_gamma,
            "reduction": reduction,
            "normalizer": normalizer,
            "n_threads": n_threads,
        }
        self._buffer = None
        self._grad = None

    _loss_with_grad = staticmethod(binary_losses.binary_cross_entropy_with_grad)

    def _class_axis(self, ndim: int) -> int | None:
        return None
