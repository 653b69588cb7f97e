"""Agreement of the other losses and the activations with PyTorch (its own differentiation), SciPy and scikit-learn."""

import itertools

import numpy as np
import pytest

import celoss

REDUCTIONS = ["mean", "sum", "none"]


def rng(seed):
    return np.random.default_rng(seed)


def torch_gradient(loss, x, upstream):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = loss(torch, x)
    value.backward(
        None
        if value.ndim == 0 and upstream is None
        else torch.as_tensor(1.0 if upstream is None else upstream).expand(value.shape)
    )
    return value.detach().numpy(), x.grad.numpy()


def reduced(torch, losses, reduction):
    return {"mean": torch.mean, "sum": torch.sum, "none": lambda v: v}[reduction](losses)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(7,), (30, 4), (3, 5, 40)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_is_that_of_torch(dtype, shape, reduction):
    z = (6 * rng(0).standard_normal(shape)).astype(dtype)
    for hard, weighted, positive, given_upstream in itertools.product([False, True], repeat=4):
        y = rng(1).uniform(0, 1, shape).astype(dtype)
        y = np.round(y) if hard else y
        weights = {"weight": rng(2).uniform(0, 3, shape[-1:])} if weighted else {}
        weights |= {"pos_weight": rng(3).uniform(0, 3, shape[-1:])} if positive else {}
        upstream = rng(4).normal(size=shape if reduction == "none" else ()) if given_upstream else None

        def loss(torch, x, y=y, weights=weights):
            tensors = {name: torch.tensor(w) for name, w in weights.items()}
            function = torch.nn.functional.binary_cross_entropy_with_logits
            return function(x, torch.tensor(y, dtype=torch.float64), reduction=reduction, **tensors)

        expected = torch_gradient(loss, z, upstream)
        got = celoss.binary_cross_entropy_with_grad(z, y, reduction=reduction, grad_output=upstream, **weights)
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(got[0], expected[0], rtol=8 * eps, atol=1e-14)
        np.testing.assert_allclose(got[1], expected[1], rtol=8 * eps, atol=8 * eps)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_brier_scores_are_differentiated_as_by_torch(dtype, reduction):
    eps = np.finfo(dtype).eps
    for classes in (2, 3, 10, 40):
        x = (2 * rng(classes).standard_normal((20, classes))).astype(dtype)
        target = rng(1).integers(0, classes, 20)
        q = rng(2).uniform(0, 1, x.shape).astype(dtype)
        upstream = rng(3).normal(size=20 if reduction == "none" else ())
        for y, truth in ((target, np.eye(classes)[target]), (q, q)):

            def loss(torch, x, truth=truth):
                return reduced(torch, ((torch.softmax(x, -1) - torch.tensor(truth)) ** 2).sum(-1), reduction)

            expected = torch_gradient(loss, x, upstream)
            got = celoss.brier_score_with_grad(x, y, reduction=reduction, grad_output=upstream)
            np.testing.assert_allclose(got[0], expected[0], rtol=16 * eps, atol=eps)
            np.testing.assert_allclose(got[1], expected[1], rtol=16 * eps, atol=16 * eps)
    z, y = (2 * rng(0).standard_normal((20, 3))).astype(dtype), rng(1).uniform(0, 1, (20, 3)).astype(dtype)

    def loss(torch, x):
        return reduced(torch, (torch.sigmoid(x) - torch.tensor(y)) ** 2, reduction)

    upstream = rng(3).normal(size=z.shape if reduction == "none" else ())
    expected = torch_gradient(loss, z, upstream)
    got = celoss.binary_brier_score_with_grad(z, y, reduction=reduction, grad_output=upstream)
    np.testing.assert_allclose(got[0], expected[0], rtol=16 * eps, atol=eps)
    np.testing.assert_allclose(got[1], expected[1], rtol=16 * eps, atol=16 * eps)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_activations_are_those_of_scipy(axis, scale):
    special = pytest.importorskip("scipy.special", reason="SciPy is not installed")
    x = rng(6).normal(0, scale, (3, 40, 5))
    np.testing.assert_allclose(celoss.softmax(x, axis=axis), special.softmax(x, axis=axis), rtol=1e-13)
    np.testing.assert_allclose(celoss.log_softmax(x, axis=axis), special.log_softmax(x, axis=axis), rtol=1e-13, atol=1e-15)
    for keepdims in (False, True):
        got = celoss.logsumexp(x, axis=axis, keepdims=keepdims)
        expected = special.logsumexp(x, axis=axis, keepdims=keepdims)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-14)
    np.testing.assert_allclose(celoss.sigmoid(x), special.expit(x), rtol=1e-15)
    np.testing.assert_allclose(celoss.log_sigmoid(x), special.log_expit(x), rtol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_those_of_scikit_learn(weighted):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    x, target = rng(4).normal(0, 2, (40, 4)), rng(5).integers(0, 4, 40)
    s = rng(6).uniform(0, 2, 40) if weighted else None
    error = metrics.zero_one_loss(target, x.argmax(1), sample_weight=s)
    np.testing.assert_allclose(celoss.zero_one_loss(x, target, sample_weight=s), error, rtol=1e-12)
    z, y = rng(7).normal(0, 2, 40), rng(8).integers(0, 2, 40)
    p = celoss.sigmoid(z)
    np.testing.assert_allclose(celoss.binary_cross_entropy(z, y), metrics.log_loss(y, p), rtol=1e-12)
    np.testing.assert_allclose(celoss.binary_brier_score(z, y), metrics.brier_score_loss(y, p), rtol=1e-12)
    np.testing.assert_allclose(celoss.binary_zero_one_loss(z, y), metrics.zero_one_loss(y, p > 0.5), rtol=1e-12)
