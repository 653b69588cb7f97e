"""One call of everything public, in a second, with NumPy alone: what a wheel has to pass on any machine."""

import math

import numpy as np
import pytest

import celoss

LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 20.0, 0.0]], np.float32)
TARGET = np.array([0, 1])
LOSSES = np.array([math.log(1 + math.exp(-1) + math.exp(-2)), math.log1p(2 * math.exp(-20))])


def test_cross_entropy():
    assert celoss.cross_entropy(LOGITS, TARGET) == pytest.approx(LOSSES.mean(), rel=1e-6)
    assert celoss.cross_entropy(LOGITS, TARGET, reduction="sum") == pytest.approx(LOSSES.sum(), rel=1e-6)
    np.testing.assert_allclose(celoss.cross_entropy(LOGITS, TARGET, reduction="none"), LOSSES, rtol=1e-6)


def test_cross_entropy_with_grad():
    p = np.exp(LOGITS[0].astype(float)) / np.exp(LOGITS[0].astype(float)).sum()
    loss, grad = celoss.cross_entropy_with_grad(LOGITS.copy(), TARGET, reduction="none")
    np.testing.assert_allclose(loss, LOSSES, rtol=1e-6)
    np.testing.assert_allclose(grad[0], p - [1, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(grad[1], np.exp(-20) * np.array([1, -2, 1]), rtol=1e-6)
    x = LOGITS.copy()
    assert celoss.cross_entropy_with_grad(x, TARGET, out=x, grad_output=2.0)[1] is x


def test_cross_entropy_with_every_option():
    options = {
        "axis": 0, "weight": [1, 2, 3], "sample_weight": [0.5, 1], "ignore_index": 2, "label_smoothing": 0.1,
        "normalizer": 2, "n_threads": 2,
    }  # fmt: skip
    loss, grad = celoss.cross_entropy_with_grad(LOGITS.T, TARGET, **options)
    expected, expected_grad = celoss.reference.cross_entropy_with_grad(LOGITS.T, TARGET, **options)
    assert loss == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=1e-8)
    q = np.array([[0.5, 0.25, 0.25], [0, 1, 0]], np.float32)
    assert celoss.cross_entropy(LOGITS, q) == pytest.approx(celoss.reference.cross_entropy(LOGITS, q), rel=1e-6)


def test_large_call():
    """Enough work for several threads, several blocks, and a long row."""
    x = np.zeros((3000, 300), np.float32)
    assert celoss.cross_entropy(x, np.zeros(3000, int)) == pytest.approx(math.log(300), rel=1e-6)
    assert celoss.cross_entropy(x.reshape(1, -1), [7]) == pytest.approx(math.log(900_000), rel=1e-6)


def test_criterion():
    criterion = celoss.CrossEntropyLoss()
    loss = criterion(LOGITS, TARGET)
    expected, grad = celoss.cross_entropy_with_grad(LOGITS, TARGET)
    assert loss == expected
    np.testing.assert_array_equal(criterion.backward(), grad)


def test_errors():
    with pytest.raises(IndexError, match=r"target\[1\] = 3 is not in \[0, 3\)"):
        celoss.cross_entropy(LOGITS, [0, 3])
    with pytest.raises(ValueError):
        celoss.cross_entropy(LOGITS, [0])
    with pytest.raises(TypeError):
        celoss.cross_entropy(LOGITS, [0.0, 1.0])


def test_configuration(capsys):
    celoss.show_config()
    assert celoss.__version__ in capsys.readouterr().out
    before = celoss.get_num_threads()
    celoss.set_num_threads(before)
    assert celoss.get_num_threads() == before >= 1
