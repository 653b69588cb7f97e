"""The functions of the reference by kind, and arguments for them: what the tests of the reference share.

Their names come from the list of all functions; nothing else does, since the reference is what the rest is compared with.
"""

import numpy as np

from celoss import reference
from celoss._checks import FUNCTIONS

REDUCTIONS = ["mean", "sum", "none"]


def losses(kind, gradient):
    ending = "_with_grad" if gradient else ""
    names = [name for name, f in FUNCTIONS.items() if f.kind == kind and name.endswith(ending)]
    return names if gradient else [name for name in names if "_with_grad" not in name]


ROW_LOSSES, BINARY_LOSSES = losses("rows", False), losses("scores", False)
ROW_GRADS = [getattr(reference, name) for name in losses("rows", True)]
BINARY_GRADS = [getattr(reference, name) for name in losses("scores", True)]


def rng(seed=0):
    return np.random.default_rng(seed)


def class_weight(function, form):
    """Weights of three classes, where the function takes them: brier_score does for class indices only."""
    if function is reference.brier_score_with_grad and form == "probabilities":
        return None
    return np.array([0.5, 2.0, 1.0])


def one_hot(target, n_classes):
    return np.eye(n_classes)[target]
