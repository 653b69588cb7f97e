"""The functions of the reference by kind, and arguments for them: what the tests of the reference share."""

import numpy as np

from celoss import reference

REDUCTIONS = ["mean", "sum", "none"]
ROW_LOSSES = ["cross_entropy", "brier_score", "zero_one_loss"]
ROW_GRADS = [reference.cross_entropy_with_grad, reference.brier_score_with_grad]
BINARY_LOSSES = ["binary_cross_entropy", "binary_brier_score", "binary_zero_one_loss"]
BINARY_GRADS = [reference.binary_cross_entropy_with_grad, reference.binary_brier_score_with_grad]


def rng(seed=0):
    return np.random.default_rng(seed)


def class_weight(function, form):
    """Weights of three classes, where the function takes them: brier_score does for class indices only."""
    if function is reference.brier_score_with_grad and form == "probabilities":
        return None
    return np.array([0.5, 2.0, 1.0])


def one_hot(target, n_classes):
    return np.eye(n_classes)[target]
