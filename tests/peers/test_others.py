"""Agreement with SciPy, scikit-learn and optax, where they name the same quantity."""

import numpy as np
import pytest

import celoss


def problem(classes, dtype=np.float64, rows=20):
    rng = np.random.default_rng(classes)
    return (3 * rng.standard_normal((rows, classes))).astype(dtype), rng.integers(0, classes, rows)


@pytest.mark.parametrize("classes", [2, 3, 10, 33, 300])
def test_scipy(classes):
    special = pytest.importorskip("scipy.special", reason="SciPy is not installed")
    x, target = problem(classes)
    rows = np.arange(len(x))
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none")
    np.testing.assert_allclose(loss, -special.log_softmax(x, axis=1)[rows, target], rtol=1e-12, atol=1e-14)
    p = special.softmax(x, axis=1)
    p[rows, target] -= 1
    np.testing.assert_allclose(grad, p, rtol=1e-12, atol=1e-15)
    q = np.random.default_rng(1).dirichlet(np.ones(classes), len(x))
    cross_entropy = special.rel_entr(q, special.softmax(x, axis=1)).sum(axis=1) + special.entr(q).sum(axis=1)
    np.testing.assert_allclose(celoss.cross_entropy(x, q, reduction="none"), cross_entropy, rtol=1e-11)


@pytest.mark.parametrize("classes", [2, 3, 10, 33])
@pytest.mark.parametrize("weighted", [False, True])
def test_scikit_learn_log_loss(weighted, classes):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    special = pytest.importorskip("scipy.special", reason="SciPy is not installed")
    x, target = problem(classes)
    weight = np.random.default_rng(2).uniform(0, 2, len(x)) if weighted else None
    p = special.softmax(x, axis=1)
    expected = metrics.log_loss(target, p / p.sum(axis=1, keepdims=True), sample_weight=weight, labels=np.arange(classes))
    assert celoss.cross_entropy(x, target, sample_weight=weight) == pytest.approx(expected, rel=1e-12)
    total = metrics.log_loss(
        target, p / p.sum(axis=1, keepdims=True), sample_weight=weight, labels=np.arange(classes), normalize=False
    )
    assert celoss.cross_entropy(x, target, sample_weight=weight, reduction="sum") == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [3, 10, 33])
def test_scikit_learn_multinomial_loss(classes, dtype):
    """Its gradient is that of the sum, row by row; for two classes it has a binomial loss instead."""
    loss_module = pytest.importorskip("sklearn._loss", reason="scikit-learn is not installed")
    x, target = problem(classes, dtype)
    weight = np.random.default_rng(3).uniform(0.1, 2, len(x)).astype(dtype)
    theirs = loss_module.HalfMultinomialLoss(n_classes=classes, sample_weight=weight)
    expected, expected_grad = theirs.loss_gradient(target.astype(dtype), x, sample_weight=weight)
    loss, grad = celoss.cross_entropy_with_grad(x, target, sample_weight=weight, reduction="none")
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(loss, expected, rtol=64 * eps, atol=64 * eps)
    np.testing.assert_allclose(grad, expected_grad, rtol=64 * eps, atol=8 * eps)


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_optax(classes):
    optax = pytest.importorskip("optax", reason="optax is not installed")
    x, target = problem(classes, np.float32)
    np.testing.assert_allclose(
        celoss.cross_entropy(x, target, reduction="none"),
        optax.softmax_cross_entropy_with_integer_labels(x, target),
        rtol=2e-5, atol=2e-6,
    )  # fmt: skip
    q = np.random.default_rng(4).dirichlet(np.ones(classes), len(x)).astype(np.float32)
    np.testing.assert_allclose(celoss.cross_entropy(x, q, reduction="none"), optax.softmax_cross_entropy(x, q), rtol=2e-5)
