"""Softmax, sigmoid and their logarithms."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from celoss import _general_paths, _kernels
from celoss._kernels import Operation, ScoreOperation

__all__ = ["log_sigmoid", "log_softmax", "log_softmax_vjp", "logsumexp", "sigmoid", "softmax", "softmax_vjp"]

# By names of their own: to look one up in the enum takes 0.06 microseconds.
_SOFTMAX, _LOG_SOFTMAX, _LOGSUMEXP = Operation.SOFTMAX, Operation.LOG_SOFTMAX, Operation.LOGSUMEXP
_SOFTMAX_VJP, _LOG_SOFTMAX_VJP = Operation.SOFTMAX_VJP, Operation.LOG_SOFTMAX_VJP
_SIGMOID, _LOG_SIGMOID = ScoreOperation.SIGMOID, ScoreOperation.LOG_SIGMOID


def softmax(x: ArrayLike, *, axis: int | tuple[int, ...] | None = -1, out: NDArray[Any] | None = None) -> NDArray[Any]:
    r"""Probabilities of classes from their scores.

    .. math:: p_k = \frac{e^{x_k}}{\sum_c e^{x_c}}

    Parameters
    ----------
    x : array_like, shape (..., C, ...)
        Scores in any memory layout. float16, bfloat16 (``ml_dtypes``), float32 or float64; integers and bool are taken
        as float64. A 1-d array is one row.
    axis : int, tuple of int, or None, default -1
        The axis of the classes, or the axes if all along them are the classes of one row; None: all axes.
    out : ndarray, optional
        Receives the result: shape and dtype of `x`. May be `x` itself, which is fastest; any other overlap is an error.

    Returns
    -------
    ndarray
        Shape and dtype of `x`; `out` where it is given. A score of -inf has probability 0. A row with NaN or +inf, or
        of -inf only, is NaN; one of no classes is empty.

    Raises
    ------
    TypeError, ValueError
        For a dtype that is not listed, an axis that is out of range (NumPy's ``AxisError``) or named twice, or an `out`
        that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.softmax(np.log([0.1, 0.2, 0.7])).round(3).tolist()
    [0.1, 0.2, 0.7]
    >>> celoss.softmax(np.zeros((2, 2)), axis=None).tolist()
    [[0.25, 0.25], [0.25, 0.25]]
    """
    result: NDArray[Any] = _kernels.short_activation_of_rows(_general_paths.activation_of_rows, _SOFTMAX, x, axis, out)
    return result


def log_softmax(x: ArrayLike, *, axis: int | tuple[int, ...] | None = -1, out: NDArray[Any] | None = None) -> NDArray[Any]:
    r"""Logarithms of the probabilities of classes.

    .. math:: \ln p_k = -\big[(m - x_k) + \ln(1 + r)\big]

    where :math:`m` is the row's maximum and :math:`r` the sum of :math:`e^{x_j - m}` over all classes but the first that
    attains it. Both terms are non-negative, so that nothing cancels: the entry of the maximum is :math:`-\ln(1 + r)`
    to the last digit, however small.

    Parameters
    ----------
    x, axis, out
        As for `softmax`.

    Returns
    -------
    ndarray
        Shape and dtype of `x`; `out` where it is given. A score of -inf gives -inf. A row with NaN or +inf, or of -inf
        only, is NaN.

    Raises
    ------
    TypeError, ValueError
        As for `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.log_softmax(np.array([20.0, 0.0], np.float32))
    array([-2.0611537e-09, -2.0000000e+01], dtype=float32)
    """
    result: NDArray[Any] = _kernels.short_activation_of_rows(_general_paths.activation_of_rows, _LOG_SOFTMAX, x, axis, out)
    return result


def logsumexp(x: ArrayLike, *, axis: int | tuple[int, ...] | None = -1, keepdims: bool = False) -> NDArray[Any]:
    r"""Logarithm of the sum of exponentials.

    .. math:: \ln \sum_c e^{x_c} = m + \ln(1 + r)

    with :math:`m` and :math:`r` as in `log_softmax`. Where the two terms have opposite signs the result is rounded in
    units of :math:`m`.

    Parameters
    ----------
    x, axis
        As for `softmax`.
    keepdims : bool, default False
        Keep `axis`, or all of them, with length 1.

    Returns
    -------
    ndarray or NumPy scalar
        One number a row: float64 for float64 scores, float32 for all others; a scalar where no dimension is left. A row
        of -inf only gives -inf, and so does one of no classes; one with +inf gives +inf (the sum exists there, only
        probabilities do not), one with NaN gives NaN.

    Raises
    ------
    TypeError, ValueError
        As for `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> float(celoss.logsumexp(np.array([1000.0, 1000.0])))
    1000.6931471805599
    >>> celoss.logsumexp(np.zeros((2, 3, 4)), axis=(0, 2)).round(3).tolist()
    [2.079, 2.079, 2.079]
    """
    if keepdims:
        sums: NDArray[Any] = _general_paths.logsumexp_of_rows(_LOGSUMEXP, x, axis, None, keepdims=True)
        return sums
    result: NDArray[Any] = _kernels.short_activation_of_rows(_general_paths.logsumexp_of_rows, _LOGSUMEXP, x, axis, None)
    return result


def softmax_vjp(p: ArrayLike, grad_output: ArrayLike, *, axis: int = -1, out: NDArray[Any] | None = None) -> NDArray[Any]:
    r"""Back through softmax: the gradient with respect to the scores, from the probabilities and the upstream gradient.

    .. math:: \frac{\partial L}{\partial x_k} = p_k \Big(g_k - \sum_c p_c\, g_c\Big)

    the product of the upstream gradient with the Jacobian of `softmax`, which is not formed: for an attention or a mixture
    layer. Before a cross-entropy it is not needed, since `cross_entropy_with_grad` starts from the scores.

    Parameters
    ----------
    p : array_like, shape (..., C, ...)
        What `softmax` returned. dtypes and layouts as there.
    grad_output : array_like
        The gradient :math:`g` with respect to `p`, of its shape; any of the dtypes. Beside a `p` that is not float64 it is
        read in float32.
    axis : int, default -1
        The axis of the classes.
    out : ndarray, optional
        Receives the result: shape and dtype of `p`. May be `grad_output` or `p`; any other overlap is an error.

    Returns
    -------
    ndarray
        Shape and dtype of `p`; `out` where it is given. Sums are float64: the error is below 2 ulp of
        :math:`p_k (|g_k| + \sum_c p_c |g_c|)`.

    Raises
    ------
    TypeError, ValueError
        As for `softmax`, and for a `grad_output` of another shape.

    See Also
    --------
    log_softmax_vjp : Back through the logarithm of the probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> p = celoss.softmax(np.array([0.0, 0.0, np.log(2)]))
    >>> celoss.softmax_vjp(p, np.array([4.0, 0.0, 0.0])).tolist()
    [0.75, -0.25, -0.5]
    """
    result: NDArray[Any] = _kernels.short_vjp_of_rows(_general_paths.vjp_of_rows, _SOFTMAX_VJP, p, grad_output, axis, out)
    return result


def log_softmax_vjp(log_p: ArrayLike, grad_output: ArrayLike, *, axis: int = -1, out: NDArray[Any] | None = None) -> NDArray[Any]:
    r"""Back through log_softmax: the gradient with respect to the scores, from its result and the upstream gradient.

    .. math:: \frac{\partial L}{\partial x_k} = g_k - e^{\ln p_k} \sum_c g_c

    Parameters
    ----------
    log_p : array_like, shape (..., C, ...)
        What `log_softmax` returned.
    grad_output, axis, out
        As for `softmax_vjp`; the gradient is with respect to `log_p`.

    Returns
    -------
    ndarray
        Shape and dtype of `log_p`; `out` where it is given.

    Raises
    ------
    TypeError, ValueError
        As for `softmax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> log_p = celoss.log_softmax(np.zeros(4))
    >>> celoss.log_softmax_vjp(log_p, np.array([-1.0, 0.0, 0.0, 0.0])).tolist()
    [-0.75, 0.25, 0.25, 0.25]
    """
    result: NDArray[Any] = _kernels.short_vjp_of_rows(_general_paths.vjp_of_rows, _LOG_SOFTMAX_VJP, log_p, grad_output, axis, out)
    return result


def sigmoid(x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    r"""The logistic function, elementwise: the probability of "yes" from its score.

    .. math:: \sigma(x) = \frac{1}{1 + e^{-x}}

    Parameters
    ----------
    x : array_like
        Scores of any shape and memory layout; dtypes as for `softmax`.
    out : ndarray, optional
        Receives the result: shape and dtype of `x`. May be `x` itself; any other overlap is an error.

    Returns
    -------
    ndarray or NumPy scalar
        Shape and dtype of `x`, a scalar where `x` has no dimension; `out` where it is given. 0 and 1
        at -inf and +inf, NaN at NaN.

    Raises
    ------
    TypeError, ValueError
        For a dtype that is not listed, or an `out` that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.sigmoid(np.array([-np.inf, 0.0, np.inf])).tolist()
    [0.0, 0.5, 1.0]
    """
    result: NDArray[Any] = _kernels.short_activation_of_scores(_general_paths.activation_of_scores, _SIGMOID, x, out)
    return result


def log_sigmoid(x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    r"""The logarithm of the logistic function, elementwise.

    .. math:: \ln \sigma(x) = \min(x, 0) - \ln\big(1 + e^{-|x|}\big)

    Parameters
    ----------
    x, out
        As for `sigmoid`.

    Returns
    -------
    ndarray or NumPy scalar
        Shape and dtype of `x`, a scalar where `x` has no dimension; `out` where it is given. -inf and
        0 at -inf and +inf, NaN at NaN.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.log_sigmoid(np.array([40.0, -40.0])).tolist()
    [-4.248354255291589e-18, -40.0]
    """
    result: NDArray[Any] = _kernels.short_activation_of_scores(_general_paths.activation_of_scores, _LOG_SIGMOID, x, out)
    return result
