"""The numbers of the article that celoss began from, to the digits that it gives; celoss has them, and the reference."""

import numpy as np
import pytest

import celoss

both = pytest.mark.parametrize("functions", [celoss, celoss.reference], ids=["celoss", "reference"])
TRUTH = np.array([2, 1, 0])
PROBABILITIES = {
    1: np.array([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]]),
    2: np.array([[0.1, 0.2, 0.7], [0.1, 0.7, 0.2], [0.3, 0.4, 0.3]]),
}
TABLES = [  # loss, model, of each sample, mean
    ("zero_one_loss", 1, [0, 0, 1], 1 / 3),
    ("zero_one_loss", 2, [0, 0, 1], 1 / 3),
    ("brier_score", 1, [0.54, 0.54, 1.34], 0.8067),
    ("brier_score", 2, [0.14, 0.14, 0.74], 0.34),
    ("cross_entropy", 1, [0.916, 0.916, 2.303], 1.3784),
    ("cross_entropy", 2, [0.357, 0.357, 1.204], 0.6391),
]


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("loss", "model", "samples", "mean"), TABLES)
def test_tables(loss, model, samples, mean, dtype, functions, level):
    logits = np.log(PROBABILITIES[model]).astype(dtype)  # softmax(ln p) = p
    np.testing.assert_allclose(functions.softmax(logits), PROBABILITIES[model], rtol=4 * np.finfo(dtype).eps)
    for target in (TRUTH, np.eye(3, dtype=dtype)[TRUTH]):
        function = getattr(functions, loss)
        np.testing.assert_allclose(function(logits, target, reduction="none"), samples, rtol=0, atol=5.01e-4)
        assert function(logits, target) == pytest.approx(mean, abs=5.01e-5)


def test_cross_entropy_prefers_the_second_model():
    for loss in ("brier_score", "cross_entropy"):
        first, second = (getattr(celoss, loss)(np.log(PROBABILITIES[model]), TRUTH) for model in (1, 2))
        assert second < first


@both
def test_the_chain_rule_of_the_binary_case(functions, level):
    """dL/dp times dp/ds, and the product p - y that it comes to; for the squared error 2 (p - y) p (1 - p)."""
    s, y = np.linspace(-8, 8, 33), np.tile([0.0, 1.0, 0.5], 11)
    p = functions.sigmoid(s)
    _, grad = functions.binary_cross_entropy_with_grad(s, y, reduction="sum")
    np.testing.assert_allclose(grad, (-y / p + (1 - y) / (1 - p)) * p * (1 - p), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(grad, p - y, rtol=1e-11, atol=1e-14)
    _, grad = functions.binary_brier_score_with_grad(s, y, reduction="sum")
    np.testing.assert_allclose(grad, 2 * (p - y) * p * (1 - p), rtol=1e-11, atol=1e-14)


@both
def test_the_gradient_of_several_classes_is_p_minus_y(functions, level):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((20, 5)), rng.integers(0, 5, 20)
    _, grad = functions.cross_entropy_with_grad(x, target, reduction="sum")
    np.testing.assert_allclose(grad, functions.softmax(x) - np.eye(5)[target], rtol=1e-12, atol=1e-15)


def test_cross_entropy_is_convex_and_the_squared_error_is_not():
    s = np.linspace(-6, 6, 241)
    bend = {
        loss: np.diff(getattr(celoss, loss)(s, np.ones(241), reduction="none"), 2)
        for loss in ("binary_cross_entropy", "binary_brier_score")
    }
    assert (bend["binary_cross_entropy"] > 0).all()
    assert (bend["binary_brier_score"] < 0).any()


def test_a_score_far_off_learns_fast_with_cross_entropy_and_slowly_with_the_squared_error():
    """Gradient descent from p = 0.0003 for a label of 1."""
    steps = {}
    for loss in ("binary_cross_entropy", "binary_brier_score"):
        s = np.array([-8.0])
        for steps[loss] in range(1, 200):
            s -= getattr(celoss, f"{loss}_with_grad")(s, [1.0])[1]
            if s[0] > 0:
                break
    assert steps["binary_cross_entropy"] < 12
    assert steps["binary_brier_score"] == 199
