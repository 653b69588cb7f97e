"""Cross-entropy for NumPy: the loss and its exact gradient in one call."""

from celoss import reference
from celoss._config import __version__, get_num_threads, set_num_threads, show_config
from celoss.criteria import CrossEntropyLoss
from celoss.losses import cross_entropy, cross_entropy_with_grad

__all__ = [
    "CrossEntropyLoss",
    "__version__",
    "cross_entropy",
    "cross_entropy_with_grad",
    "get_num_threads",
    "reference",
    "set_num_threads",
    "show_config",
]
