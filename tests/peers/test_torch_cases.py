"""The sample inputs that PyTorch ships for testing its own operators, run on celoss: losses and gradients are PyTorch's.

One deviation: PyTorch draws some weights from a normal distribution, and celoss refuses negative ones of classes and of
positive labels. Both get their magnitudes.
"""

import numpy as np
import pytest

import celoss

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def operators():
    """PyTorch's operators by name, each with its generator of sample inputs. Imported late: it takes seconds."""
    pytest.importorskip("expecttest", reason="PyTorch's test inputs need expecttest")
    from torch.testing._internal.common_methods_invocations import op_db

    return {op.name: op for op in op_db if not op.variant_test_name}


@pytest.fixture(scope="module")
def modules(operators):
    from torch.testing._internal import common_modules

    return common_modules


def array(value):
    """A tensor as celoss takes it; anything else as it is."""
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value


def without_signs(options, of_scores):
    """The options of a sample, its weights as celoss accepts them: those of scores of either sign."""
    positive = ("pos_weight",) if of_scores else ("weight", "pos_weight")
    return {name: value.abs() if name in positive and value is not None else value for name, value in options.items()}


def compare(x, theirs, ours):
    """One case: PyTorch's function of the tensor x, and celoss's pair of value and gradient."""
    x = x.detach().requires_grad_()
    expected = theirs(x)
    expected.backward(torch.ones_like(expected))
    value, grad = ours(x.detach().numpy())
    expected = expected.detach().numpy()
    assert np.shape(value) == expected.shape
    np.testing.assert_allclose(value, expected, rtol=64 * EPS, atol=64 * EPS)
    np.testing.assert_allclose(grad, x.grad.numpy(), rtol=64 * EPS, atol=64 * EPS)


def cross_entropy(target, weight=None, **options):
    def ours(x):
        return celoss.cross_entropy_with_grad(x, array(target), axis=min(1, x.ndim - 1), weight=array(weight), **options)

    return ours


def binary_cross_entropy(target, **options):
    options = {name: array(value) for name, value in options.items()}

    def ours(x):
        return celoss.binary_cross_entropy_with_grad(x, array(target), **options)

    return ours


@pytest.mark.parametrize(
    ("name", "least", "ours"), [("CrossEntropyLoss", 100, cross_entropy), ("BCEWithLogitsLoss", 6, binary_cross_entropy)]
)
def test_modules(name, least, ours, modules):
    """Every combination of shape, weights, ignored class, smoothing, reduction, indices and probabilities."""
    cases = getattr(modules, f"module_inputs_torch_nn_{name}")(None, "cpu", torch.float64, True, True)
    assert len(cases) >= least
    for case in cases:
        options = without_signs(case.constructor_input.kwargs, "BCE" in name)
        x, target = case.forward_input.args
        compare(x, lambda x, o=options, t=target: getattr(torch.nn, name)(**o)(x, t), ours(target, **options))


@pytest.mark.parametrize(
    ("name", "least", "ours"),
    [
        ("cross_entropy", 20, cross_entropy),
        ("nll_loss", 60, cross_entropy),
        ("binary_cross_entropy_with_logits", 25, binary_cross_entropy),
    ],
)
def test_losses(name, least, ours, operators):
    """nll_loss takes log-probabilities: of x it is the cross-entropy if it is given the logarithm of softmax(x)."""
    function = getattr(torch.nn.functional, name)
    samples = list(operators[f"nn.functional.{name}"].sample_inputs("cpu", torch.float64, requires_grad=True))
    assert len(samples) >= least
    for sample in samples:
        (target,), options = sample.args, without_signs(sample.kwargs, "binary" in name)

        def theirs(x, target=target, options=options):
            x = torch.log_softmax(x, min(1, x.ndim - 1)) if name == "nll_loss" else x
            return function(x, target, **options)

        compare(sample.input, theirs, ours(target, **options))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "sigmoid", "nn.functional.logsigmoid"])
def test_activations(name, operators):
    """Of a scalar PyTorch takes the softmax as of one class; of several axes at once it sums, which is one axis here."""
    ours = getattr(celoss, {"nn.functional.logsigmoid": "log_sigmoid"}.get(name, name))
    samples = list(operators[name].sample_inputs("cpu", torch.float64))
    assert len(samples) >= 3
    for sample in samples:
        x = sample.input.detach().numpy()
        expected = operators[name](sample.input, *sample.args, **sample.kwargs).numpy()
        if "sigmoid" in name:
            got = ours(x)
        elif name == "logsumexp":
            axes, keepdims = (*sample.args, False)[:2]
            axes = (axes,) if isinstance(axes, int) else axes
            axes = tuple(axis % max(x.ndim, 1) for axis in axes) if x.ndim else ()
            kept = [axis for axis in range(x.ndim) if axis not in axes]
            rows = x.transpose(kept + list(axes)).reshape([x.shape[axis] for axis in kept] + [-1])
            got = ours(rows)
            got = np.expand_dims(got, axes) if keepdims else got
        else:
            got = ours(x, axis=sample.args[0]) if x.ndim else ours(x.reshape(1)).reshape(())
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=64 * EPS, atol=64 * EPS)
