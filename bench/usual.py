"""The usual calls of small arrays, each beside the plain call of its function: what does it cost to pass an option?

The calls are those of ``celoss._checks.usual_calls``, at ``cases.SMALL``, where the way into the kernels is most of the time;
and the loss objects, whose call is followed by that of ``backward``. The answers are those of the tests.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from bench import cases

PLAIN = "plain"  # the label that comes first
OF_LISTS = "lists", "lists, numpy.asarray"  # nothing but lists; and that by hand, as a call does where lists hold anything else
OBJECTS = {"cross_entropy_with_grad": "CrossEntropyLoss", "binary_cross_entropy_with_grad": "BinaryCrossEntropyLoss"}
SECOND = tuple(f"{loss}_{form}" for loss in ("cross_entropy", "binary_cross_entropy") for form in ("with_grad_hess", "hessp"))
FUNCTIONS = (*OBJECTS, "brier_score_with_grad", "zero_one_loss", *SECOND, "softmax", "logsumexp", "softmax_vjp", "sigmoid")


def calls(function: str) -> dict[str, Callable]:
    """Calls without arguments by their labels, the plain one first."""
    import celoss
    from celoss._checks import arrays, usual_calls

    data = arrays(cases.make_logits(cases.SMALL), cases.make_target(cases.SMALL))
    examples = {example.label: example for example in usual_calls(function, data)}
    found = {label: partial(getattr(celoss, function), *e.arguments, **e.options) for label, e in examples.items()}
    found[OF_LISTS[1]] = partial(of_arrays, getattr(celoss, function), examples[OF_LISTS[0]].arguments)
    if function in OBJECTS:
        found["object, then backward"] = partial(forth_and_back, getattr(celoss, OBJECTS[function])(), *examples[PLAIN].arguments)
    return found


def of_arrays(function, arguments):
    return function(*map(np.asarray, arguments))


def forth_and_back(criterion, logits, target):
    return criterion(logits, target), criterion.backward()
