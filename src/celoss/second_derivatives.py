"""Second derivatives of cross-entropy: the diagonal of its Hessian, and the Hessian's product with a vector."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from celoss import _general_paths, _kernels
from celoss._kernels import Operation, ScoreOperation, Wanted

__all__ = [
    "binary_cross_entropy_hessp",
    "binary_cross_entropy_with_grad_hess",
    "cross_entropy_hessp",
    "cross_entropy_with_grad_hess",
]

# By names of their own: to look one up in the enum takes 0.06 microseconds.
_CROSS_ENTROPY, _BINARY_CROSS_ENTROPY = Operation.CROSS_ENTROPY, ScoreOperation.BINARY_CROSS_ENTROPY
_HESSIAN, _PRODUCT = int(Wanted.GRADIENT_AND_HESSIAN), int(Wanted.HESSIAN_PRODUCT)


def cross_entropy_with_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
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
    grad_output: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    hess_out: NDArray[Any] | None = None,
) -> tuple[float | NDArray[Any], NDArray[Any], NDArray[Any]]:
    r"""Cross-entropy, its gradient and the diagonal of its Hessian with respect to the logits, in one pass.

    What boosting of trees and diagonal preconditioners need. With :math:`M_n = s_n \sum_c w_c q'_c`, which multiplies
    :math:`p_k` in the gradient (for class indices without smoothing it is :math:`s_n w_t`),

    .. math:: \frac{\partial^2 l_n}{\partial x_k^2} = M_n\, p_k\, (1 - p_k),

    where :math:`1 - p_k` is formed as the sum of the other probabilities, so that it keeps its digits where :math:`p_k` rounds
    to 1. With a focal exponent it is the diagonal of the exact Hessian as well, which may be negative: with
    :math:`f = (1-p_t)^\gamma \big[1 + \gamma\, p_t\, (-\ln p_t) / (1 - p_t)\big]` it is
    :math:`s_n w_t \big[f\, p_k (1 - p_k) - p_t f'(p_t)\, (p_k - [k=t])^2\big]`.

    Parameters
    ----------
    logits, target, axis, weight, sample_weight, ignore_index, label_smoothing, focal_gamma
        As for `cross_entropy`.
    logit_scale, logit_softcap, z_loss
        As for `cross_entropy`. With one of them second derivatives are put together in float64 arrays of the logits' size.
    reduction, normalizer, n_threads
        As for `cross_entropy`.
    grad_output : float or array_like, optional
        Upstream gradient: multiplies both derivatives. Otherwise as for `cross_entropy_with_grad`.
    out, hess_out : ndarray, optional
        Receive the gradient and the diagonal: same shape and dtype as `logits`. One of them may be `logits` itself; any other
        overlap is an error. After an exception their content is unspecified.

    Returns
    -------
    loss : float or ndarray
        As from `cross_entropy`.
    grad, hess : ndarray
        Shape and dtype of `logits`; `out` and `hess_out` where they are given.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `cross_entropy`, and for an `out` or `hess_out` that does not fit.

    See Also
    --------
    cross_entropy_hessp : The product of the whole Hessian with a vector.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> loss, grad, hess = celoss.cross_entropy_with_grad_hess(np.array([[2.0, 1.0, 0.0]]), np.array([0]))
    >>> grad.round(4).tolist(), hess.round(4).tolist()
    ([[-0.3348, 0.2447, 0.09]], [[0.2227, 0.1848, 0.0819]])
    """
    results: tuple[float | NDArray[Any], NDArray[Any], NDArray[Any]] = _kernels.short_loss_of_rows(
        _general_paths.loss_of_rows, _CROSS_ENTROPY, logits, target, axis, ignore_index,
        (
            weight, sample_weight, label_smoothing, focal_gamma, logit_scale, logit_softcap, z_loss, reduction, normalizer,
            n_threads, _HESSIAN, grad_output, out, hess_out,
        ),
    )  # fmt: skip
    return results


def cross_entropy_hessp(
    logits: ArrayLike,
    target: ArrayLike,
    vector: ArrayLike,
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
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    r"""Product of the Hessian of cross-entropy with respect to the logits with a vector, in one pass.

    What Newton's method with conjugate gradients needs (``hessp`` of ``scipy.optimize.minimize``), and reverse mode twice. The
    Hessian has a block for each row; with :math:`M_n` of `cross_entropy_with_grad_hess` the product's part of it is

    .. math:: (H v)_k = M_n\, p_k\, \Big(v_k - \sum_c p_c v_c\Big).

    With a focal exponent it is that of the exact Hessian, which need not be positive semidefinite.

    Parameters
    ----------
    logits, target, axis, weight, sample_weight, ignore_index, label_smoothing, focal_gamma
        As for `cross_entropy`.
    logit_scale, logit_softcap, z_loss
        As for `cross_entropy`. With one of them second derivatives are put together in float64 arrays of the logits' size.
    reduction, normalizer, n_threads
        As for `cross_entropy`.
    vector : array_like
        A number for each logit: of the logits' shape, any real dtype.
    out : ndarray, optional
        Receives the product: same shape and dtype as `logits`. May be `logits` itself, but not `vector`.

    Returns
    -------
    ndarray
        Shape and dtype of `logits`; `out` where it is given. With ``reduction="none"`` each row's own Hessian is meant.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `cross_entropy`, and for a `vector` or an `out` that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.cross_entropy_hessp(np.array([[2.0, 1.0, 0.0]]), [0], np.array([[1.0, 0.0, 0.0]])).round(4).tolist()
    [[0.2227, -0.1628, -0.0599]]
    """
    product: NDArray[Any] = _kernels.short_loss_of_rows(
        _general_paths.loss_of_rows, _CROSS_ENTROPY, logits, target, axis, ignore_index,
        (weight, sample_weight, label_smoothing, focal_gamma, logit_scale, logit_softcap, z_loss, reduction, normalizer,
         n_threads, _PRODUCT, None, out, vector),
    )  # fmt: skip
    return product


def binary_cross_entropy_with_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    hess_out: NDArray[Any] | None = None,
) -> tuple[float | NDArray[Any], NDArray[Any], NDArray[Any]]:
    r"""Binary cross-entropy, its gradient and its second derivative with respect to each score, in one pass.

    With the symbols of `binary_cross_entropy`,

    .. math:: \frac{\partial^2 l}{\partial z^2} = w\, (w_+\, y' + 1 - y')\, \sigma(z)\, \sigma(-z),

    right to the last digits at any confidence, where :math:`p (1 - p)` would be 0. With a focal exponent it is the exact
    second derivative as well, which is negative where the loss is concave: at scores that are far off.

    Parameters
    ----------
    logits, target, weight, pos_weight, label_smoothing, focal_gamma, reduction, normalizer, n_threads
        As for `binary_cross_entropy`.
    grad_output : float or array_like, optional
        Upstream gradient: multiplies both derivatives. Otherwise as for `binary_cross_entropy_with_grad`.
    out, hess_out : ndarray, optional
        Receive the gradient and the second derivative: same shape and dtype as `logits`. One of them may be `logits` itself.

    Returns
    -------
    loss : float or ndarray
        As from `binary_cross_entropy`.
    grad, hess : ndarray
        Shape and dtype of `logits`, NumPy scalars where they have no dimension; `out` and `hess_out` where they are given.

    Raises
    ------
    TypeError, ValueError
        As for `binary_cross_entropy`, and for an `out` or `hess_out` that does not fit.

    See Also
    --------
    binary_cross_entropy_hessp : The second derivative times a vector.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> loss, grad, hess = celoss.binary_cross_entropy_with_grad_hess(np.array([0.0, 40.0]), np.array([1, 1]), reduction="sum")
    >>> grad.tolist(), hess.tolist()
    ([-0.5, -4.248354255291589e-18], [0.25, 4.248354255291589e-18])
    """
    results: tuple[float | NDArray[Any], NDArray[Any], NDArray[Any]] = _kernels.short_loss_of_scores(
        _general_paths.loss_of_scores, _BINARY_CROSS_ENTROPY, logits, target, weight, pos_weight,
        (label_smoothing, focal_gamma, reduction, normalizer, n_threads, _HESSIAN, grad_output, out, hess_out),
    )  # fmt: skip
    return results


def binary_cross_entropy_hessp(
    logits: ArrayLike,
    target: ArrayLike,
    vector: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    r"""Product of the Hessian of binary cross-entropy, which is diagonal, with a vector.

    Parameters
    ----------
    logits, target, weight, pos_weight, label_smoothing, focal_gamma, reduction, normalizer, n_threads
        As for `binary_cross_entropy`.
    vector : array_like
        A number for each score: of the logits' shape.
    out : ndarray, optional
        Receives the product: same shape and dtype as `logits`. May be `logits` itself.

    Returns
    -------
    ndarray
        The second derivatives of `binary_cross_entropy_with_grad_hess` times `vector`, of shape and dtype of `logits`.

    Raises
    ------
    TypeError, ValueError
        As for `binary_cross_entropy`, and for a `vector` or an `out` that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.binary_cross_entropy_hessp(np.array([0.0, 2.0]), np.array([1, 0]), np.array([1.0, -2.0])).round(4).tolist()
    [0.125, -0.105]
    """
    product: NDArray[Any] = _kernels.short_loss_of_scores(
        _general_paths.loss_of_scores, _BINARY_CROSS_ENTROPY, logits, target, weight, pos_weight,
        (label_smoothing, focal_gamma, reduction, normalizer, n_threads, _PRODUCT, None, out, vector),
    )  # fmt: skip
    return product
