"""The reference on NaN, infinities, ignored rows and nothing at all. None of them may warn (a warning fails a test here)."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_functions import BINARY_LOSSES, ROW_GRADS, one_hot

from celoss import reference

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("function", ROW_GRADS)
def test_ignored_rows_are_never_read(function):
    x = np.array([[1.0, 2.0], [NAN, INF], [0.5, 0.0], [-INF, -INF]])
    target = np.array([0, 9, 1, 9], np.uint8)
    loss, grad = function(x, target, ignore_index=9, grad_output=[1, NAN, 1, INF], reduction="none")
    expected = function(x[::2], target[::2], reduction="none")
    assert_array_equal(loss, [expected[0][0], 0, expected[0][1], 0])
    assert_array_equal(grad[::2], expected[1])
    assert_array_equal(grad[1::2], 0)
    assert function(x, target, ignore_index=9)[0] == function(x[::2], target[::2])[0]


@pytest.mark.parametrize("function", ROW_GRADS)
@pytest.mark.parametrize("bad", [[NAN, 0, 1], [0, INF, 1], [INF, INF, 0], [-INF, -INF, -INF], [-INF, NAN, INF]], ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_bad_rows_are_nan_and_no_others(soft, bad, function):
    x = np.array([[1.0, 2.0, 3.0], bad, [0.5, 0.0, -1.0]])
    target = np.array([0, 2, 1])
    target = one_hot(target, 3) if soft else target
    loss, grad = function(x, target, reduction="none")
    assert_array_equal(np.isnan(loss), [False, True, False])
    assert_array_equal(np.isnan(grad), [[False] * 3, [True] * 3, [False] * 3])
    assert math.isnan(function(x, target)[0])
    loss, grad = function(x, target, sample_weight=[1, 0, 1], reduction="none")  # a weight of 0 leaves the row out
    assert_array_equal(np.isnan(loss), False)
    assert_array_equal(loss[1], 0)
    assert_array_equal(grad[1], 0)
    assert math.isnan(reference.zero_one_loss(x, target))


def test_impossible_classes():
    x = np.array([[0.0, -INF, 1.0], [0.0, -INF, 1.0]])
    p = reference.softmax([0.0, 1.0])
    loss, grad = reference.cross_entropy_with_grad(x, [0, 1], reduction="none")
    assert_allclose(loss, [-math.log(p[0]), INF], rtol=1e-15)
    assert_allclose(grad, [[-p[1], 0, p[1]], [p[0], -1, p[1]]], rtol=1e-15)
    # 0 · (-inf) counts 0, whether q, the class weight, the sample weight or 1 - ε is the 0
    for options in (
        {"target": np.array([[0.25, 0, 0.75]] * 2)},
        {"target": np.array([0, 0]), "weight": [1, 0, 1], "label_smoothing": 0.5},
        {"target": np.array([0, 1]), "sample_weight": [1, 0]},
        {"target": np.array([1, 1]), "weight": [1, 0, 1], "label_smoothing": 1.0},
    ):
        loss, grad = reference.cross_entropy_with_grad(x, reduction="none", **options)
        assert np.all(np.isfinite(loss))
        assert_array_equal(grad[:, 1], 0)
    loss, grad = reference.cross_entropy_with_grad(x, [0, 0], label_smoothing=0.3, reduction="none")
    assert_array_equal(loss, INF)
    assert_allclose(grad[:, 1], -0.1, rtol=1e-15)
    loss, grad = reference.brier_score_with_grad(x, [0, 1], reduction="none")
    assert_allclose(loss, [2 * p[1] ** 2, 1 + p[0] ** 2 + p[1] ** 2], rtol=1e-15)
    assert_array_equal(grad[:, 1], 0)


@pytest.mark.parametrize("function", ROW_GRADS)
@pytest.mark.parametrize(
    "case",
    [
        {"logits": np.zeros((0, 3)), "target": np.zeros(0, int)},
        {"logits": np.zeros((0, 3)), "target": np.zeros((0, 3))},
        {"logits": np.zeros((0, 0)), "target": np.zeros(0, int)},
        {"logits": np.array([[NAN, 1.0], [INF, 0.0]]), "target": np.array([-100, -100])},
        {"logits": np.array([[NAN, 1.0], [3.0, 0.0]]), "target": np.array([0, 1]), "sample_weight": 0},
        {"logits": np.eye(2), "target": np.array([0, 0]), "weight": [0, 1], "label_smoothing": 0.1},
    ],
    ids=["no rows", "no probabilities", "no classes", "all ignored", "no sample weight", "no class weight"],
)
def test_a_mean_of_nothing_is_nan(case, function):
    loss, grad = function(**case)
    assert math.isnan(loss)
    assert grad.shape == case["logits"].shape
    assert_array_equal(grad, 0)


def test_a_sum_of_nothing_is_zero():
    for target in (np.zeros(0, int), np.zeros((0, 3))):
        assert reference.cross_entropy(np.zeros((0, 3)), target, reduction="sum") == 0.0
        assert reference.cross_entropy(np.zeros((0, 3)), target, normalizer=2) == 0.0
    assert reference.cross_entropy([[NAN, 0.0]], [-100], normalizer=3) == 0.0
    for name in BINARY_LOSSES:
        function = getattr(reference, name)
        assert math.isnan(function(np.zeros(0), np.zeros(0)))
        assert function(np.zeros(0), np.zeros(0), reduction="sum") == 0.0
    assert math.isnan(reference.zero_one_loss(np.zeros((0, 3)), np.zeros(0, int)))


def test_special_values_of_binary():
    z, y = np.array([INF, -INF, INF, -INF, NAN, 0.0]), np.array([1, 0, 0, 1, 1, 1])
    loss, grad = reference.binary_cross_entropy_with_grad(z, y, reduction="none")
    assert_allclose(loss, [0, 0, INF, INF, NAN, math.log(2)], rtol=1e-15)
    assert_array_equal(grad, [0, 0, 1, -1, NAN, -0.5])
    loss, grad = reference.binary_brier_score_with_grad(z, y, reduction="none")
    assert_array_equal(loss, [0, 0, 1, 1, NAN, 0.25])
    assert_array_equal(grad, [0, 0, 0, 0, NAN, -0.25])
    assert_array_equal(reference.binary_zero_one_loss(z, y, reduction="none"), [0, 0, 1, 1, NAN, 1])
    assert_array_equal(reference.sigmoid([INF, -INF, NAN]), [1, 0, NAN])
    assert_array_equal(reference.log_sigmoid([INF, -INF, NAN]), [0, -INF, NAN])


def test_special_values_of_activations():
    x = [[-INF, -INF], [0.0, INF], [NAN, 0.0], [-INF, 3.0]]
    assert_array_equal(reference.softmax(x), [[NAN] * 2] * 3 + [[0, 1]])
    assert_array_equal(reference.log_softmax(x), [[NAN] * 2] * 3 + [[-INF, 0]])
    assert_array_equal(reference.logsumexp(x), [-INF, INF, NAN, 3])


def test_extreme_scores_overflow_nothing():
    big = np.finfo(np.float64).max
    assert_array_equal(reference.softmax([big, -big]), [1, 0])
    assert reference.cross_entropy([big, -big], 0) == 0.0
    assert reference.cross_entropy([-big, 0.0], 1) == 0.0
    assert reference.binary_cross_entropy([big, -big], [1, 0]) == 0.0
    _, grad = reference.cross_entropy_with_grad(np.zeros(2, np.float16), 0, grad_output=1e6)
    assert_array_equal(grad, [-INF, INF])  # an upstream gradient out of float16's range


@pytest.mark.parametrize("name", reference.__all__)
def test_no_floating_point_error_escapes(name):
    function = getattr(reference, name)
    x = np.array([[6e4, -6e4], [INF, NAN], [-INF, -INF], [0, 5]], np.float16)
    with np.errstate(all="raise"):
        if name.startswith(("cross", "brier", "zero")):
            function(x, [0, 1, 1, 0], sample_weight=1e300, reduction="none")
        elif name.startswith("binary"):
            function(x, np.eye(4, 2), weight=1e300, reduction="none")
        else:
            function(x, *[x] * name.endswith("_vjp"))


def test_zero_one_loss_of_ties_is_that_of_the_first():
    x = np.array([[1.0, 1.0, 0.0]] * 2)
    assert_array_equal(reference.zero_one_loss(x, [0, 1], reduction="none"), [0, 1])
    assert_array_equal(reference.binary_zero_one_loss([0.0, 0.0], [0, 1], reduction="none"), [0, 1])


def test_expected_zero_one_loss_of_probabilities():
    x, q = np.array([[3.0, 1.0, 0.0]]), np.array([[0.5, 0.25, 0.125]])
    assert_array_equal(reference.zero_one_loss(x, q, reduction="none"), [0.375])
    loss = reference.binary_zero_one_loss([1.0, -1.0], [0.75, 0.75], reduction="none")
    assert_array_equal(loss, [0.25, 0.75])
