"""One call of everything public, in a second, with NumPy alone: what a wheel has to pass on any machine."""

import math

import numpy as np
import pytest

import celoss
from celoss._checks import FUNCTIONS, arrays, examples

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


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_every_function_and_option(dtype, rtol, name):
    for example in examples(name, arrays(np.append(LOGITS, [[-3.0, 0.5, 1.0]], axis=0).astype(dtype)), singly=True):
        for got, expected in zip(example.results(celoss), example.results(celoss.reference), strict=True):
            np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol / 100, err_msg=example.label)


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
