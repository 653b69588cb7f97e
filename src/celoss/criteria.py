"""Loss objects for a training loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celoss import binary_losses, losses
from celoss._arguments import REDUCTIONS, as_array, as_logits, as_upstream
from celoss._row_arguments import check_row_options
from celoss._score_arguments import check_score_options

__all__ = ["BinaryCrossEntropyLoss", "CrossEntropyLoss"]


class CrossEntropyLoss:
    """Cross-entropy as an object: call it for the loss, then ask it for the gradient.

    Loss and gradient are computed together in the call; `backward` only hands the gradient out. The gradient lives in a
    buffer that the object uses again while shape and dtype stay the same: it is valid until the next call.

    Parameters
    ----------
    axis, weight, sample_weight, ignore_index, label_smoothing, focal_gamma
        As for `cross_entropy`.
    logit_scale, logit_softcap, z_loss, reduction, normalizer, n_threads
        As for `cross_entropy`, and the same errors. What can be known of them without logits is checked here, the rest in
        the call. Each can be given in a call too, for that call.

    See Also
    --------
    cross_entropy_with_grad : The function behind it.

    Notes
    -----
    Weights are kept as they are given, not copied: what changes in such an array later counts from the next call, which
    checks it again. Pass a copy where that is not wanted.

    Pickles and copies carry the options alone, and begin without a buffer and a gradient. ``copy.copy`` shares the arrays of
    weights with the original; ``copy.deepcopy`` and pickles have their own.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> criterion = celoss.CrossEntropyLoss()
    >>> round(criterion(np.zeros((2, 4), np.float32), np.array([0, 3])), 6)
    1.386294
    >>> criterion.backward().tolist()
    [[-0.375, 0.125, 0.125, 0.125], [0.125, 0.125, 0.125, -0.375]]

    In this call the first sample counts three times as much:

    >>> round(criterion(np.zeros((2, 4), np.float32), np.array([0, 3]), sample_weight=[3, 1]), 6)
    1.386294
    >>> criterion.backward().tolist()
    [[-0.5625, 0.1875, 0.1875, 0.1875], [0.0625, 0.0625, 0.0625, -0.1875]]
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
        logit_scale: float = 1.0,
        logit_softcap: float | None = None,
        z_loss: float = 0.0,
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
            "logit_scale": logit_scale,
            "logit_softcap": logit_softcap,
            "z_loss": z_loss,
            "reduction": reduction,
            "normalizer": normalizer,
            "n_threads": n_threads,
        }
        check_row_options(**self.options)

    # What a call leaves behind. None is on the class, where copies find it too: their __init__ does not run.
    _buffer: NDArray[Any] | None = None
    _grad: NDArray[Any] | None = None
    _last: dict[str, Any] | None = None  # the options that `_grad` was made with, as far as `backward` asks for them

    _loss_with_grad: ClassVar[Callable[..., tuple[float | NDArray[Any], NDArray[Any]]]] = staticmethod(
        losses.cross_entropy_with_grad
    )

    def __repr__(self) -> str:
        """The call that makes such an object: the options that differ from the function's defaults."""
        parameters = inspect.signature(self._loss_with_grad).parameters
        defaults = {name: parameters[name].default for name in self.options}
        # Where the default is None the option may be an array, which compares element by element.
        given = {k: v for k, v in self.options.items() if (v is not None if defaults[k] is None else v != defaults[k])}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"

    def __getstate__(self) -> dict[str, Any]:
        """The options, and what a subclass has added. The buffer stays: two objects that write to one would mix gradients."""
        state = {name: value for name, value in vars(self).items() if name not in ("_buffer", "_grad", "_last")}
        return {**state, "options": dict(self.options)}

    def __call__(self, logits: ArrayLike, target: ArrayLike, **options: Any) -> float | NDArray[Any]:
        """Return the loss of `logits` against `target`; the gradient is computed along with it.

        Parameters
        ----------
        logits, target
            As for `cross_entropy`, or `binary_cross_entropy`.
        **options
            Any of the object's options, in place of the object's own for this call and its gradient; None, too, where that
            is the default. The object's own stay what they are.

        Returns
        -------
        float or ndarray
            As from that function.

        Raises
        ------
        TypeError, ValueError, IndexError
            As that function does; TypeError also for an option that the object does not have. There is no gradient then.
        """
        self._grad = None
        chosen = self._last = self.options
        if options:
            for name in options:
                if name not in chosen:  # above all out and grad_output, which the function would take
                    raise TypeError(f"{type(self).__name__}.__call__() got an unexpected keyword argument {name!r}")
            chosen = {**chosen, **options}
            self._last = {name: chosen[name] for name in ("axis", "reduction") if name in chosen}  # keeps no array alive
        # The test that `as_array` begins with: a function less in the plain call.
        array: NDArray[Any] = logits if type(logits) is np.ndarray else as_array(logits, "logits")
        buffer = self._buffer
        if buffer is None or buffer.shape != array.shape or buffer.dtype != array.dtype:
            array, _ = as_logits(array)
            if buffer is None or buffer.shape != array.shape or buffer.dtype != array.dtype:
                self._buffer = buffer = np.empty(array.shape, array.dtype)
        # out stands last: a dict that begins as a copy of another is made at once, not item by item.
        loss, self._grad = self._loss_with_grad(array, target, **chosen, out=buffer)
        return loss

    def backward(self, grad_output: ArrayLike = 1.0) -> NDArray[Any]:
        """Return the gradient of the last call's loss with respect to its logits, times `grad_output`.

        Parameters
        ----------
        grad_output : float or array_like, default 1.0
            A number, or, where the last call's reduction was "none", also an array of the loss's shape.

        Returns
        -------
        ndarray
            Shape and dtype of the logits. Valid until the next call of the object.

        Raises
        ------
        RuntimeError
            Before the first call, also of a copy; and after a call that raised.
        TypeError, ValueError
            For a `grad_output` that does not fit.

        Notes
        -----
        What is multiplied is the gradient in the dtype of the logits. In float16 it has lost digits where it is below 6e-5,
        and is 0 below 3e-8, whatever `grad_output` is. To scale the loss of float16 logits, divide `normalizer` by the
        scale, or use the function's `grad_output`: both are applied before the gradient is rounded.
        """
        if self._grad is None or self._last is None:
            raise RuntimeError("backward() was called before a loss was computed; call the criterion first")
        if isinstance(grad_output, float) and grad_output == 1.0:
            return self._grad
        axis = int(self._last["axis"]) % self._grad.ndim if "axis" in self._last else None
        rows = self._grad.shape if axis is None else self._grad.shape[:axis] + self._grad.shape[axis + 1 :]
        factor = as_upstream(grad_output, rows, REDUCTIONS[self._last["reduction"]])
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
        As for `binary_cross_entropy`, and the same errors. What can be known of them without logits is checked here, the
        rest in the call. Each can be given in a call too, for that call.

    See Also
    --------
    binary_cross_entropy_with_grad : The function behind it.

    Notes
    -----
    Weights that change later, pickles and copies are as for `CrossEntropyLoss`.

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
        check_score_options(**self.options)

    _loss_with_grad = staticmethod(binary_losses.binary_cross_entropy_with_grad)
