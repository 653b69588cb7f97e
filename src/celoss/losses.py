"""The losses of several classes, and their gradients."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from celoss import _general_paths, _kernels
from celoss._kernels import Operation, Wanted

__all__ = [
    "brier_score",
    "brier_score_with_grad",
    "cross_entropy",
    "cross_entropy_with_grad",
    "zero_one_loss",
]

# By names of their own: to look one up in the enum takes 0.06 microseconds.
_CROSS_ENTROPY, _BRIER, _ZERO_ONE = Operation.CROSS_ENTROPY, Operation.BRIER, Operation.ZERO_ONE
_LOSS, _GRADIENT = int(Wanted.LOSS_ALONE), int(Wanted.GRADIENT)


def cross_entropy(
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
) -> float | NDArray[Any]:
    r"""Cross-entropy of logits against class indices or class probabilities.

    With :math:`p = \mathrm{softmax}(x)`, class weights :math:`w`, sample weights :math:`s` and smoothing
    :math:`\varepsilon`, the loss of row :math:`n` with class index :math:`t` is

    .. math:: l_n = s_n \Big[(1-\varepsilon)\, w_t\, (-\ln p_t) + \frac{\varepsilon}{C} \sum_c w_c\, (-\ln p_c)\Big]

    With :math:`\gamma` > 0 it is the focal loss :math:`l_n = s_n w_t\, (1 - p_t)^\gamma\, (-\ln p_t)`, which counts little what
    is already right. With probabilities :math:`q`, smoothed to :math:`q' = (1-\varepsilon) q + \varepsilon/C`,

    .. math:: l_n = s_n \sum_c w_c\, q'_c\, (-\ln p_c).

    Language models have three options more. With a scale :math:`a` and a soft cap :math:`c` the logits are
    :math:`u = c \tanh(a x / c)` in place of :math:`x` (without a cap :math:`u = a x`), and
    :math:`s_n\, z \ln^2 \sum_c e^{u_c}` is added to the loss of each row that counts.

    :math:`-\ln p_t` is computed as :math:`\ln(1 + r)`, where :math:`r` is the sum of :math:`e^{x_j - x_t}` over all classes
    but :math:`t`: no term is negative, so that nothing cancels and a confident row keeps its small loss to the last digit.

    Parameters
    ----------
    logits : array_like, shape (..., C, ...)
        Scores, unnormalised, in any memory layout. float16, bfloat16 (``ml_dtypes``), float32 or float64; integers and
        bool are taken as float64. Never written to. A 1-d array is one row. Probabilities are not logits: a network that
        ends in a softmax hands over what goes into it. Where nothing but probabilities is left, ``np.log(p)`` are logits.
    target : array_like
        Class indices: any integer dtype, the shape of `logits` without `axis`, each in ``[0, C)`` or `ignore_index`.
        Probabilities: a floating dtype, the shape of `logits`; rows need not sum to 1. An integer or bool array of that shape
        (2-d or more) is one-hot: the class indices it stands for.
    axis : int, default -1
        The axis of the classes.
    weight : array_like, shape (C,), optional
        A weight >= 0 for each class.
    sample_weight : array_like, optional
        A finite weight for each row, of either sign; broadcasts to the loss's shape. A row of weight 0 is left out, whatever
        its logits and target hold.
    ignore_index : int, default -100
        Rows with this target have loss 0, gradient 0, and count in no denominator. Their logits may be anything. Only with
        class indices: rows of probabilities are left out by a `sample_weight` of 0.
    label_smoothing : float, default 0.0
        Moves this share of the target's mass evenly to all classes (``label_smoothing / C`` each).
    focal_gamma : float, default 0.0
        The exponent :math:`\gamma` >= 0 of the focal loss. Only with class indices and without smoothing. Above 5 it costs
        about :math:`\gamma / 2` ulp.
    logit_scale : float, default 1.0
        Multiplies the logits, as an inverse temperature does. Positive.
    logit_softcap : float, optional
        Bounds the logits softly. Positive. What is -inf stays a class that cannot occur.
    z_loss : float, default 0.0
        Weight of the squared logarithm of the softmax's denominator, which keeps it near 1. At least 0; the denominator of "mean"
        stays. Scaled or capped logits are rounded to their dtype (float32 for half precision), as those of NumPy would be; loss
        and gradient are exact for these.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides the sum by :math:`\sum_n s_n w_{t_n}` over the rows that count (class indices), or by
        :math:`\sum_n s_n` (probabilities; class weights are not in the denominator, as in PyTorch).
    normalizer : float, optional
        A positive number that replaces the mean's denominator; 0 where no row counts, which gives 0.
    n_threads : int, optional
        Use at most so many threads. Default: `celoss.get_num_threads()`. The result does not depend on it.

    Returns
    -------
    float or ndarray
        "mean" and "sum": a float, accumulated in float64. "none": an array of the loss's shape, float64 for float64
        logits and float32 for all others; of one row, 1-d logits, a NumPy scalar. The mean of nothing is NaN.

    Raises
    ------
    TypeError, ValueError
        For arguments of the wrong kind, shape or value. What holds no plain numbers (strings, objects, a masked array, a
        sparse matrix, a Dask collection, a dict of weights) is never guessed at: the message says what to pass instead.
    IndexError
        For a class index out of range: its position, value and the range.

    Warns
    -----
    UserWarning
        Where the logits have one class, whose probability is 1 whatever the score, and the target is floating: what was
        meant is then a binary loss, such as `binary_cross_entropy`.

    See Also
    --------
    cross_entropy_with_grad : The same loss, and its gradient.
    zero_one_loss : The classification error.

    Notes
    -----
    Label smoothing is that of Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2016), section
    7. Weights, smoothing and denominators meet as in ``torch.nn.functional.cross_entropy``. The focal loss is that of Lin et
    al., "Focal Loss for Dense Object Detection" (2017), whose :math:`\alpha` is `weight` here; the denominator of "mean"
    stays :math:`\sum_n s_n w_{t_n}`.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.cross_entropy(np.array([[20.0, 0.0, 0.0]], np.float32), [0])
    4.122307...e-09
    >>> float(celoss.cross_entropy([0.0, 0.0], 1))
    0.6931471805599453
    """
    loss: float | NDArray[Any] = _kernels.short_loss_of_rows(
        _general_paths.loss_of_rows, _CROSS_ENTROPY, logits, target, axis, ignore_index,
        (weight, sample_weight, label_smoothing, focal_gamma, logit_scale, logit_softcap, z_loss, reduction, normalizer,
         n_threads, _LOSS, None, None, None),
    )  # fmt: skip
    return loss


def cross_entropy_with_grad(
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
) -> tuple[float | NDArray[Any], NDArray[Any]]:
    r"""Cross-entropy and its gradient with respect to the logits, in one pass.

    With the symbols of `cross_entropy`, the gradient of row :math:`n` is

    .. math:: \frac{\partial l_n}{\partial x_k}
        = s_n \Big[(1-\varepsilon)\, w_t\, (p_k - [k=t]) + \frac{\varepsilon}{C} \Big(p_k \sum_c w_c - w_k\Big)\Big]

    with a focal exponent :math:`s_n w_t\, (p_k - [k=t])\, (1-p_t)^\gamma \big[1 + \gamma\, p_t\, (-\ln p_t) / (1 - p_t)\big]`,
    or, with probabilities as the target, :math:`s_n \big[p_k \sum_c w_c q'_c - w_k q'_k\big]`; it is divided by the
    denominator of "mean". At the target :math:`p_t - 1` is formed as minus the sum of the other probabilities, which
    keeps full precision where :math:`p_t` rounds to 1.

    Parameters
    ----------
    logits, target, axis, weight, sample_weight, ignore_index, label_smoothing, focal_gamma
        As for `cross_entropy`.
    logit_scale, logit_softcap, z_loss, reduction, normalizer, n_threads
        As for `cross_entropy`.
    grad_output : float or array_like, optional
        Upstream gradient: multiplies the gradient. A number, or with ``reduction="none"`` also an array of the loss's
        shape.
    out : ndarray, optional
        Receives the gradient: same shape and dtype as `logits`. May be `logits` itself, which is fastest; any other
        overlap with an input is an error. After an exception its content is unspecified.

    Returns
    -------
    loss : float or ndarray
        As from `cross_entropy`.
    grad : ndarray
        Shape and dtype of `logits`; `out` where it is given.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `cross_entropy`, and for an `out` that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> loss, grad = celoss.cross_entropy_with_grad(np.array([[2.0, 1.0, 0.0]]), np.array([0]))
    >>> round(loss, 4), grad.round(4).tolist()
    (0.4076, [[-0.3348, 0.2447, 0.09]])
    """
    pair: tuple[float | NDArray[Any], NDArray[Any]] = _kernels.short_loss_of_rows(
        _general_paths.loss_of_rows, _CROSS_ENTROPY, logits, target, axis, ignore_index,
        (weight, sample_weight, label_smoothing, focal_gamma, logit_scale, logit_softcap, z_loss, reduction, normalizer,
         n_threads, _GRADIENT, grad_output, out, None),
    )  # fmt: skip
    return pair


def brier_score(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> float | NDArray[Any]:
    r"""Squared error of the softmax probabilities against the truth (Brier, 1950).

    With :math:`p = \mathrm{softmax}(x)`, class weights :math:`w`, sample weights :math:`s`, smoothing
    :math:`\varepsilon` and :math:`q' = (1-\varepsilon) q + \varepsilon/C`, :math:`q` one-hot for a class index,

    .. math:: l_n = s_n w_{t_n} \sum_c (p_c - q'_c)^2.

    The sum is not divided by 2: it lies between 0 and 2. Arithmetic is float64 for every dtype of the logits.

    Parameters
    ----------
    logits, target, axis, sample_weight, ignore_index, label_smoothing, reduction, normalizer, n_threads
        As for `cross_entropy`.
    weight : array_like, shape (C,), optional
        A weight >= 0 for each class; the target's counts. Only with class indices: probabilities have no one class.

    Returns
    -------
    float or ndarray
        As from `cross_entropy`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `cross_entropy`; ValueError also for `weight` with probabilities.

    See Also
    --------
    brier_score_with_grad : The same loss, and its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> round(celoss.brier_score(np.log([[0.3, 0.3, 0.4]]), [2]), 6)
    0.54
    """
    loss: float | NDArray[Any] = _kernels.short_loss_of_rows(
        _general_paths.loss_of_rows, _BRIER, logits, target, axis, ignore_index,
        (weight, sample_weight, label_smoothing, 0.0, 1.0, None, 0.0, reduction, normalizer, n_threads, _LOSS, None, None, None),
    )  # fmt: skip
    return loss


def brier_score_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[float | NDArray[Any], NDArray[Any]]:
    r"""Brier score and its gradient with respect to the logits.

    With the symbols of `brier_score`,

    .. math:: \frac{\partial l_n}{\partial x_k}
        = s_n w_{t_n} \cdot 2 p_k \Big[(p_k - q'_k) - \sum_c p_c (p_c - q'_c)\Big].

    Parameters
    ----------
    logits, target, axis, weight, sample_weight, ignore_index, label_smoothing, reduction, normalizer, n_threads
        As for `brier_score`.
    grad_output, out
        As for `cross_entropy_with_grad`.

    Returns
    -------
    loss : float or ndarray
        As from `brier_score`.
    grad : ndarray
        Shape and dtype of `logits`; `out` where it is given.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `brier_score`, and for an `out` that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> loss, grad = celoss.brier_score_with_grad(np.array([[2.0, 1.0, 0.0]]), [0])
    >>> round(loss, 4), grad.round(4).tolist()
    (0.1801, [[-0.2396, 0.1955, 0.0441]])
    """
    pair: tuple[float | NDArray[Any], NDArray[Any]] = _kernels.short_loss_of_rows(
        _general_paths.loss_of_rows, _BRIER, logits, target, axis, ignore_index,
        (weight, sample_weight, label_smoothing, 0.0, 1.0, None, 0.0, reduction, normalizer, n_threads, _GRADIENT, grad_output,
         out, None),
    )  # fmt: skip
    return pair


def zero_one_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> float | NDArray[Any]:
    r"""Classification error: :math:`s_n` where the largest logit is not the target's, 0 where it is.

    Of equal logits the first is the prediction. For probabilities :math:`q` as the target the loss is the expected
    error, :math:`s_n \sum_c q_c` over all classes but the predicted. Its gradient is 0 almost everywhere, so there is
    none here.

    Parameters
    ----------
    logits, target, axis, sample_weight, ignore_index, reduction, normalizer, n_threads
        As for `cross_entropy`.

    Returns
    -------
    float or ndarray
        As from `cross_entropy`. A row with NaN or +inf, or of -inf only, decides nothing: its loss is NaN.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.zero_one_loss(np.array([[2.0, 1.0], [0.0, 3.0]]), [0, 0])
    0.5
    """
    loss: float | NDArray[Any] = _kernels.short_loss_of_rows(
        _general_paths.loss_of_rows, _ZERO_ONE, logits, target, axis, ignore_index,
        (None, sample_weight, 0.0, 0.0, 1.0, None, 0.0, reduction, normalizer, n_threads, _LOSS, None, None, None),
    )  # fmt: skip
    return loss
