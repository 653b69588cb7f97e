"""The node tests that ONNX ships for its operators, run on celoss: the package's own cases, data and tolerances."""

import importlib
import warnings

import numpy as np
import pytest

import celoss

cases_of_onnx = pytest.importorskip("onnx.backend.test.case.node", reason="ONNX is not installed")
onnx = importlib.import_module("onnx")

OPERATORS = {
    "SoftmaxCrossEntropyLoss": "softmax_cross_entropy_loss",
    "NegativeLogLikelihoodLoss": "negativeloglikelihoodloss",
    "Softmax": "softmax",
    "LogSoftmax": "logsoftmax",
    "ReduceLogSumExp": "reduce_log_sum_exp",
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # cases are computed by the import, some from a logarithm of 0
    MODULES = {operator: importlib.import_module(f"{cases_of_onnx.__name__}.{module}") for operator, module in OPERATORS.items()}
CASES = {
    case.name: case
    for case in cases_of_onnx._NodeTestCases
    # An expanded case is the same data for an operator written out in smaller ones.
    if case.model.graph.node[0].op_type in OPERATORS and "_expanded" not in case.name
}

# Where celoss means something else, and why.
DEVIATIONS: dict[str, str] = {}


def of_losses(inputs, attributes, operator):
    """Loss, and log-probabilities as the second output. In ONNX the classes lie along axis 1."""
    x, target, *weight = inputs
    options = {"axis": 1, "reduction": attributes.get("reduction", b"mean").decode()}
    if "ignore_index" in attributes:
        options["ignore_index"] = attributes["ignore_index"]
    loss = celoss.cross_entropy(x, target, weight=weight[0] if weight else None, **options)
    return [np.asarray(loss, x.dtype), celoss.log_softmax(x, axis=1)]


def of_activations(inputs, attributes, operator):
    x, axis = inputs[0], attributes.get("axis", -1)
    return [{"Softmax": celoss.softmax, "LogSoftmax": celoss.log_softmax}[operator](x, axis=axis)]


def of_logsumexp(inputs, attributes, operator):
    x, axes = inputs
    keepdims = bool(attributes.get("keepdims", 1))
    # None: over all
    return [celoss.logsumexp(x, axis=tuple(axes.tolist()) or None, keepdims=keepdims)]


ADAPTERS = {
    "SoftmaxCrossEntropyLoss": of_losses,
    "NegativeLogLikelihoodLoss": of_losses,
    "Softmax": of_activations,
    "LogSoftmax": of_activations,
    "ReduceLogSumExp": of_logsumexp,
}


def test_all_cases_are_here():
    """34 of cross-entropy, 18 of the negative logarithmic likelihood, 7 of each softmax, 9 of its sum."""
    assert len(CASES) >= 75 and set(DEVIATIONS) <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_case(name, request, level):
    if name in DEVIATIONS:
        request.applymarker(pytest.mark.xfail(reason=DEVIATIONS[name]))
    case = CASES[name]
    node = case.model.graph.node[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    for inputs, outputs in case.data_sets:
        if node.op_type == "NegativeLogLikelihoodLoss":
            # It takes log-probabilities, and is cross-entropy if they are such; the case's numbers are any.
            x, target, *weight = inputs
            options = {k: v.decode() if k == "reduction" else v for k, v in attributes.items()}
            reference = MODULES[node.op_type].compute_negative_log_likelihood_loss
            shifted = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
            outputs = [reference(shifted, target, *weight, **options)]
        got = ADAPTERS[node.op_type](inputs, attributes, node.op_type)
        for ours, theirs in zip(got, outputs, strict=False):
            theirs = np.asarray(theirs)
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=case.rtol, atol=case.atol)
