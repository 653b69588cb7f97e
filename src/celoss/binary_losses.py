"""The losses of binary scores, and their gradients."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from celoss import _general_paths, _kernels
from celoss._kernels import ScoreOperation, Wanted

__all__ = [
    "binary_brier_score",
    "binary_brier_score_with_grad",
    "binary_cross_entropy",
    "binary_cross_entropy_with_grad",
    "binary_zero_one_loss",
]

# By names of their own: to look one up in the enum takes 0.06 microseconds.
_CROSS_ENTROPY, _BRIER, _ZERO_ONE = (
    ScoreOperation.BINARY_CROSS_ENTROPY,
    ScoreOperation.BINARY_BRIER,
    ScoreOperation.BINARY_ZERO_ONE,
)
_LOSS, _GRADIENT = int(Wanted.LOSS_ALONE), int(Wanted.GRADIENT)


def binary_cross_entropy(
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
) -> float | NDArray[Any]:
    r"""Cross-entropy of binary scores against labels, elementwise.

    With score :math:`z`, label :math:`y` smoothed to :math:`y' = (1-\varepsilon) y + \varepsilon/2`, weight :math:`w`
    and positive weight :math:`w_+`,

    .. math:: l = w \big[w_+\, y'\, \ln(1 + e^{-z}) + (1 - y') \ln(1 + e^{z})\big].

    With :math:`\gamma` > 0 it is multiplied by :math:`(1 - p_t)^\gamma`, where :math:`p_t = \sigma(z)\, y + \sigma(-z) (1 - y)`:
    the focal loss.

    Parameters
    ----------
    logits : array_like
        Scores before the sigmoid, of any shape and memory layout. float16, bfloat16 (``ml_dtypes``), float32 or
        float64; integers and bool are taken as float64. Never written to. Probabilities are not logits; where nothing else
        is left, ``np.log(p) - np.log1p(-p)`` are.
    target : array_like
        Labels in [0, 1], of the shape of `logits`: bool, any integer dtype or a floating one; another value is an error, NaN
        gives NaN. Beside logits that are not float64 they are read as float32.
    weight : array_like, optional
        A finite weight for each element, of either sign; broadcasts to the shape of `logits`. An element of weight 0 is left
        out, whatever its score and label hold.
    pos_weight : array_like, optional
        A weight >= 0 for the positive label; broadcasts to the shape of `logits`.
    label_smoothing : float, default 0.0
        Moves labels this share of the way to 1/2.
    focal_gamma : float, default 0.0
        The exponent :math:`\gamma` >= 0 of the focal loss (Lin et al., 2017), as in torchvision's ``sigmoid_focal_loss``;
        its :math:`\alpha` is `weight` here. Without smoothing.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides the sum by the number of elements, whatever the weights.
    normalizer : float, optional
        A positive number that replaces the mean's denominator; 0 where nothing counts, which gives 0.
    n_threads : int, optional
        Use at most so many threads. Default: `celoss.get_num_threads()`. The result does not depend on it.

    Returns
    -------
    float or ndarray
        "mean" and "sum": a float, accumulated in float64. "none": an array of the logits' shape, float64 for float64
        logits and float32 for all others; of one score without dimensions a NumPy scalar. The mean of nothing is NaN. A
        score of +inf or -inf is a certain prediction: loss 0 if it is right, +inf if it is wrong.

    Raises
    ------
    TypeError, ValueError
        For arguments of the wrong kind, shape or value; of a label outside [0, 1] its position and value.

    See Also
    --------
    binary_cross_entropy_with_grad : The same loss, and its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.binary_cross_entropy(np.array([40.0]), np.array([1]))
    4.248354255291589e-18
    """
    loss: float | NDArray[Any] = _kernels.short_loss_of_scores(
        _general_paths.loss_of_scores, _CROSS_ENTROPY, logits, target, weight, pos_weight,
        (label_smoothing, focal_gamma, reduction, normalizer, n_threads, _LOSS, None, None, None),
    )  # fmt: skip
    return loss


def binary_cross_entropy_with_grad(
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
) -> tuple[float | NDArray[Any], NDArray[Any]]:
    r"""Binary cross-entropy and its gradient with respect to the scores, in one pass.

    With the symbols of `binary_cross_entropy`,

    .. math:: \frac{\partial l}{\partial z} = w \big[(1 - y')\, \sigma(z) - w_+\, y'\, \sigma(-z)\big],

    and with a focal exponent, where :math:`l_0` is the loss without it,

    .. math:: (1 - p_t)^\gamma \Big[\frac{\partial l_0}{\partial z}
        + \gamma\, l_0\, \frac{\sigma(z)\, \sigma(-z)\, (1 - 2y)}{1 - p_t}\Big].

    Parameters
    ----------
    logits, target, weight, pos_weight, label_smoothing, focal_gamma, reduction, normalizer, n_threads
        As for `binary_cross_entropy`.
    grad_output : float or array_like, optional
        Upstream gradient: multiplies the gradient. A number, or with ``reduction="none"`` also an array of the logits'
        shape.
    out : ndarray, optional
        Receives the gradient: same shape and dtype as `logits`. May be `logits` itself, which is fastest; any other
        overlap with an input is an error. After an exception its content is unspecified.

    Returns
    -------
    loss : float or ndarray
        As from `binary_cross_entropy`.
    grad : ndarray
        Shape and dtype of `logits`, a NumPy scalar where they have no dimension; `out` where it is given.

    Raises
    ------
    TypeError, ValueError
        As for `binary_cross_entropy`, and for an `out` that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> loss, grad = celoss.binary_cross_entropy_with_grad(np.array([0.0, 2.0]), np.array([1, 0]))
    >>> round(loss, 4), grad.round(4).tolist()
    (1.41, [-0.25, 0.4404])
    """
    pair: tuple[float | NDArray[Any], NDArray[Any]] = _kernels.short_loss_of_scores(
        _general_paths.loss_of_scores, _CROSS_ENTROPY, logits, target, weight, pos_weight,
        (label_smoothing, focal_gamma, reduction, normalizer, n_threads, _GRADIENT, grad_output, out, None),
    )  # fmt: skip
    return pair


def binary_brier_score(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> float | NDArray[Any]:
    r"""Squared error of the sigmoid of binary scores against labels, elementwise: :math:`l = w\,(\sigma(z) - y)^2`.

    Parameters
    ----------
    logits, target, weight, reduction, normalizer, n_threads
        As for `binary_cross_entropy`.

    Returns
    -------
    float or ndarray
        As from `binary_cross_entropy`.

    Raises
    ------
    TypeError, ValueError
        As for `binary_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.binary_brier_score(np.array([0.0, 0.0]), np.array([1, 0]))
    0.25
    """
    loss: float | NDArray[Any] = _kernels.short_loss_of_scores(
        _general_paths.loss_of_scores, _BRIER, logits, target, weight, None,
        (0.0, 0.0, reduction, normalizer, n_threads, _LOSS, None, None, None),
    )  # fmt: skip
    return loss


def binary_brier_score_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[float | NDArray[Any], NDArray[Any]]:
    r"""Binary Brier score and its gradient with respect to the scores, in one pass.

    .. math:: \frac{\partial l}{\partial z} = 2 w\, (\sigma(z) - y)\, \sigma(z)\, \sigma(-z)

    It vanishes at both ends: a score that is far off on the wrong side learns hardly anything, which is why
    classification uses cross-entropy.

    Parameters
    ----------
    logits, target, weight, reduction, normalizer, n_threads
        As for `binary_cross_entropy`.
    grad_output, out
        As for `binary_cross_entropy_with_grad`.

    Returns
    -------
    loss : float or ndarray
        As from `binary_brier_score`.
    grad : ndarray
        Shape and dtype of `logits`, a NumPy scalar where they have no dimension; `out` where it is given.

    Raises
    ------
    TypeError, ValueError
        As for `binary_cross_entropy`, and for an `out` that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.binary_brier_score_with_grad(np.array([0.0]), np.array([1]))
    (0.25, array([-0.25]))
    """
    pair: tuple[float | NDArray[Any], NDArray[Any]] = _kernels.short_loss_of_scores(
        _general_paths.loss_of_scores, _BRIER, logits, target, weight, None,
        (0.0, 0.0, reduction, normalizer, n_threads, _GRADIENT, grad_output, out, None),
    )  # fmt: skip
    return pair


def binary_zero_one_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> float | NDArray[Any]:
    r"""Classification error of binary scores: :math:`l = w\,\big|[z > 0] - y\big|`.

    For a label between 0 and 1 it is the expected error. Its gradient is 0 almost everywhere, so there is none here.

    Parameters
    ----------
    logits, target, weight, reduction, normalizer, n_threads
        As for `binary_cross_entropy`.

    Returns
    -------
    float or ndarray
        As from `binary_cross_entropy`. NaN where the score is NaN.

    Raises
    ------
    TypeError, ValueError
        As for `binary_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.binary_zero_one_loss(np.array([1.0, -1.0, 2.0, 3.0]), np.array([1, 0, 0, 1]))
    0.25
    """
    loss: float | NDArray[Any] = _kernels.short_loss_of_scores(
        _general_paths.loss_of_scores, _ZERO_ONE, logits, target, weight, None,
        (0.0, 0.0, reduction, normalizer, n_threads, _LOSS, None, None, None),
    )  # fmt: skip
    return loss
