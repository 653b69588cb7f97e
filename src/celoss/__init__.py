"""Cross-entropy for NumPy: the loss and its exact gradient in one call."""

from celoss import reference
from celoss._config import __version__, get_num_threads, set_num_threads, show_config
from celoss.activations import log_sigmoid, log_softmax, log_softmax_vjp, logsumexp, sigmoid, softmax, softmax_vjp
from celoss.binary_losses import (
    binary_brier_score,
    binary_brier_score_with_grad,
    binary_cross_entropy,
    binary_cross_entropy_with_grad,
    binary_zero_one_loss,
)
from celoss.criteria import BinaryCrossEntropyLoss, CrossEntropyLoss
from celoss.language_models import RowStatistics, kl_divergence, kl_divergence_with_grad, row_statistics
from celoss.linear import LinearGradients, linear_cross_entropy, linear_cross_entropy_with_grad
from celoss.losses import (
    brier_score,
    brier_score_with_grad,
    cross_entropy,
    cross_entropy_with_grad,
    zero_one_loss,
)
from celoss.second_derivatives import (
    binary_cross_entropy_hessp,
    binary_cross_entropy_with_grad_hess,
    cross_entropy_hessp,
    cross_entropy_with_grad_hess,
)

__all__ = [
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "LinearGradients",
    "RowStatistics",
    "__version__",
    "binary_brier_score",
    "binary_brier_score_with_grad",
    "binary_cross_entropy",
    "binary_cross_entropy_hessp",
    "binary_cross_entropy_with_grad",
    "binary_cross_entropy_with_grad_hess",
    "binary_zero_one_loss",
    "brier_score",
    "brier_score_with_grad",
    "cross_entropy",
    "cross_entropy_hessp",
    "cross_entropy_with_grad",
    "cross_entropy_with_grad_hess",
    "get_num_threads",
    "kl_divergence",
    "kl_divergence_with_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "reference",
    "row_statistics",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
    "softmax_vjp",
    "zero_one_loss",
]
