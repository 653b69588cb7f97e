"""What language models ask of their logits beside a loss: the numbers of each token, and how far two models are apart."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray

from celoss import _general_paths
from celoss._kernels import Wanted

__all__ = ["RowStatistics", "kl_divergence", "kl_divergence_with_grad", "row_statistics"]


class RowStatistics(NamedTuple):
    """The numbers of each row that `row_statistics` returns, each an array of the rows' shape.

    Parameters
    ----------
    loss : ndarray
        Cross-entropy of the row, float32 (float64 for float64 logits).
    logsumexp : ndarray
        Logarithm of the softmax's denominator.
    entropy : ndarray
        Entropy of the predicted distribution, in nats.
    rank : ndarray of int64
        How many classes have a larger logit than the target: 0 where it is predicted, below k where it is among the first k.
    prediction : ndarray of int64
        The class of the largest logit, of several the first.

    See Also
    --------
    row_statistics : Returns it.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> rows = celoss.row_statistics(np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]), [1, 2])
    >>> float(np.mean(rows.rank < 2))  # top-2 accuracy
    1.0
    """

    loss: NDArray[Any]
    logsumexp: NDArray[Any]
    entropy: NDArray[Any]
    rank: NDArray[Any]
    prediction: NDArray[Any]


def row_statistics(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    n_threads: int | None = None,
) -> RowStatistics:
    r"""Loss, logsumexp, entropy, rank of the target and prediction of each row, in one pass over the logits.

    Perplexity, accuracy, top-k accuracy and calibration of a model follow from these. With :math:`p = \mathrm{softmax}(x)`, the
    row's maximum :math:`m` and :math:`L = \ln \sum_j e^{x_j}`, the entropy is

    .. math:: \sum_j p_j\, (L - x_j) = \sum_j p_j\, (m - x_j) + (L - m),

    where no term is negative, so that a sure row keeps its small entropy.

    Parameters
    ----------
    logits : array_like, shape (..., C, ...)
        As for `cross_entropy`.
    target : array_like of int
        Class indices: the shape of `logits` without `axis`, each in ``[0, C)`` or `ignore_index`.
    axis, ignore_index, logit_scale, logit_softcap, n_threads
        As for `cross_entropy`.

    Returns
    -------
    RowStatistics
        ``(loss, logsumexp, entropy, rank, prediction)``; NumPy scalars for one row. Of an ignored row 0, 0, 0, -1 and -1. A row
        with NaN or +inf, or of -inf only, decides nothing: NaN, NaN, NaN, -1 and -1.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `cross_entropy`; ValueError also for probabilities as the target.

    See Also
    --------
    kl_divergence : How far two models are apart.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> rows = celoss.row_statistics(np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]), [1, 2])
    >>> rows.loss.round(4).tolist(), rows.rank.tolist(), rows.prediction.tolist()
    ([1.4076, 0.0949], [1, 0], [0, 2])
    >>> round(float(np.exp(rows.loss.mean())), 4)  # perplexity
    2.1197
    """
    return RowStatistics(
        *_general_paths.statistics_of_rows(logits, target, axis, ignore_index, logit_scale, logit_softcap, n_threads)
    )


def kl_divergence(
    logits: ArrayLike,
    reference_logits: ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
) -> float | NDArray[Any]:
    r"""Kullback-Leibler divergence of a model's distribution from that of a reference, both given by their logits.

    What distillation minimises, and how far a quantised or pruned model is from its original. With
    :math:`p = \mathrm{softmax}(x / T)` of `logits`, :math:`q = \mathrm{softmax}(y / T)` of `reference_logits`, sample weights
    :math:`s` and :math:`d_j = \ln q_j - \ln p_j`, the divergence of row :math:`n` is

    .. math:: l_n = s_n \sum_j q_j\, d_j = s_n \sum_j q_j\, (d_j + e^{-d_j} - 1),

    computed in the second form, in which no term is negative: distributions that are nearly the same keep the digits of their
    small divergence.

    Parameters
    ----------
    logits : array_like, shape (..., C, ...)
        Of the model. As for `cross_entropy`.
    reference_logits : array_like
        Of the reference, the shape of `logits`; read in the precision of `logits` (float32 for half precision).
    axis : int, default -1
        The axis of the classes.
    temperature : float, default 1.0
        Divides both logits. Positive. Distillation multiplies the loss with its square: ``grad_output=temperature**2``.
    sample_weight : array_like, optional
        A finite weight for each row, of either sign; broadcasts to the loss's shape. A row of weight 0 is left out.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the sum of the sample weights, or by the number of rows.
    normalizer : float, optional
        Replaces the denominator of "mean".
    n_threads : int, optional
        At most so many threads; by default as `set_num_threads` says.

    Returns
    -------
    float or ndarray
        As from `cross_entropy`. Infinite where a class that the reference can take cannot occur (a logit of -inf).

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy`, and for shapes that differ.

    See Also
    --------
    kl_divergence_with_grad : The same, and its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> celoss.kl_divergence(np.array([[0.0, 1e-9]]), np.array([[0.0, 0.0]]))
    1.25...e-19
    """
    loss: float | NDArray[Any] = _general_paths.kl_divergence(
        logits, reference_logits, Wanted.LOSS_ALONE, None, None,
        axis, temperature, sample_weight, reduction, normalizer, n_threads,
    )  # fmt: skip
    return loss


def kl_divergence_with_grad(
    logits: ArrayLike,
    reference_logits: ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    n_threads: int | None = None,
    grad_output: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[float | NDArray[Any], NDArray[Any]]:
    r"""Kullback-Leibler divergence, and its gradient with respect to `logits`.

    With the symbols of `kl_divergence`,

    .. math:: \frac{\partial l_n}{\partial x_k} = \frac{s_n}{T} (p_k - q_k) = \frac{s_n}{T}\, q_k\, (e^{-d_k} - 1).

    Parameters
    ----------
    logits, reference_logits, axis, temperature, sample_weight, reduction, normalizer, n_threads
        As for `kl_divergence`.
    grad_output : float or array_like, optional
        Upstream gradient: multiplies the gradient. A number, or with ``reduction="none"`` also an array of the loss's shape.
    out : ndarray, optional
        Receives the gradient: same shape and dtype as `logits`. May be `logits` itself, not `reference_logits`.

    Returns
    -------
    loss : float or ndarray
        As from `kl_divergence`.
    grad : ndarray
        Shape and dtype of `logits`; `out` where it is given.

    Raises
    ------
    TypeError, ValueError
        As for `kl_divergence`, and for an `out` that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import celoss
    >>> loss, grad = celoss.kl_divergence_with_grad(np.array([[2.0, 0.0]]), np.array([[1.0, 0.0]]))
    >>> round(loss, 4), grad.round(4).tolist()
    (0.0826, [[0.1497, -0.1497]])
    """
    pair: tuple[float | NDArray[Any], NDArray[Any]] = _general_paths.kl_divergence(
        logits, reference_logits, Wanted.GRADIENT, grad_output, out,
        axis, temperature, sample_weight, reduction, normalizer, n_threads,
    )  # fmt: skip
    return pair
