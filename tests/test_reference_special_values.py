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
        vector = [x] * name.endswith("hessp")
        if name.startswith(("cross", "brier", "zero")):
            function(x, [0, 1, 1, 0], *vector, sample_weight=1e300, reduction="none")
        elif name.startswith("linear"):
            function(
                x, [[1, 0], [0, 6e4], [1, 1]], [0, 1, 1, 2], linear_bias=[1e300, 0, 1], sample_weight=1e300, reduction="none"
            )
        elif name.startswith("binary"):
            function(x, np.eye(4, 2), *vector, weight=1e300, reduction="none")
        elif name.startswith("kl"):
            function(x, x[::-1], sample_weight=1e300, reduction="none")
        elif name == "row_statistics":
            function(x, [0, 1, 1, 0])
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


# ----------------------------------------------------------------------------------------------------
# Second derivatives
# ----------------------------------------------------------------------------------------------------

FOCAL = [{}, {"focal_gamma": 0.5}, {"focal_gamma": 2.0}]


@pytest.mark.parametrize("options", FOCAL, ids=str)
def test_ignored_rows_have_no_curvature(options):
    x = np.array([[1.0, 2.0], [NAN, INF], [0.5, 0.0], [-INF, -INF]])
    target = np.array([0, 9, 1, 9], np.uint8)
    upstream = [1, NAN, 1, INF]
    _, _, hess = reference.cross_entropy_with_grad_hess(
        x, target, ignore_index=9, grad_output=upstream, reduction="none", **options
    )
    assert_array_equal(hess[::2], reference.cross_entropy_with_grad_hess(x[::2], target[::2], reduction="none", **options)[2])
    assert_array_equal(hess[1::2], 0)
    v = np.array([[1.0, 3.0], [NAN, 1.0], [0.0, 2.0], [INF, -INF]])
    product = reference.cross_entropy_hessp(x, target, v, ignore_index=9, **options)
    assert_array_equal(product[::2], reference.cross_entropy_hessp(x[::2], target[::2], v[::2], **options))
    assert_array_equal(product[1::2], 0)
    # a weight of 0 leaves out as well
    target = np.minimum(target, 1)
    assert_array_equal(reference.cross_entropy_with_grad_hess(x, target, sample_weight=[1, 0, 1, 0], **options)[2][1::2], 0)
    assert_array_equal(reference.cross_entropy_hessp(x, target, v, sample_weight=[1, 0, 1, 0], **options), product)
    z, y, w = [NAN, 1.0, INF], [NAN, 1.0, 1.0], [0, 1, 0]
    assert_array_equal(reference.binary_cross_entropy_with_grad_hess(z, y, weight=w, **options)[2][::2], 0)
    assert_array_equal(reference.binary_cross_entropy_hessp(z, y, [NAN, 2.0, INF], weight=w, **options)[::2], 0)


@pytest.mark.parametrize("options", FOCAL, ids=str)
@pytest.mark.parametrize("bad", [[NAN, 0, 1], [0, INF, 1], [INF, INF, 0], [-INF, -INF, -INF], [-INF, NAN, INF]], ids=str)
def test_curvature_of_bad_rows_is_nan_and_of_no_others(bad, options):
    x, v = np.array([[1.0, 2.0, 3.0], bad, [0.5, 0.0, -1.0]]), np.array([[1.0, -2.0, 0.5]] * 3)
    for target in ([0, 2, 1], *([one_hot([0, 2, 1], 3)] if not options else [])):
        hess = reference.cross_entropy_with_grad_hess(x, target, **options)[2]
        for result in (hess, reference.cross_entropy_hessp(x, target, v, **options)):
            assert_array_equal(np.isnan(result), [[False] * 3, [True] * 3, [False] * 3])
    # a vector that is no number spoils its own row alone
    v[0, 1] = NAN
    product = reference.cross_entropy_hessp([[1.0, 2.0, 3.0]] * 2, [0, 0], v[:2], **options)
    assert_array_equal(np.isnan(product), [[True] * 3, [False] * 3])


@pytest.mark.parametrize("options", FOCAL, ids=str)
def test_curvature_of_impossible_classes(options):
    x, v = np.array([[0.0, -INF, 1.0]] * 2), np.array([[2.0, 1e300, -1.0]] * 2)
    p = reference.softmax([0.0, 1.0])
    without = reference.cross_entropy_with_grad_hess([0.0, 1.0], 0, reduction="sum", **options)[2]
    _, _, hess = reference.cross_entropy_with_grad_hess(x, [0, 1], reduction="sum", **options)
    # an impossible target: p_t is 0, and the focal factor 1 whatever its exponent
    assert_allclose(hess, [[without[0], 0, without[1]], [p[0] * p[1], 0, p[0] * p[1]]], rtol=1e-15)
    product = reference.cross_entropy_hessp(x, [0, 1], v, reduction="sum", **options)
    without = reference.cross_entropy_hessp([0.0, 1.0], 0, [2.0, -1.0], **options)
    assert_allclose(product, [[without[0], 0, without[1]], [3 * p[0] * p[1], 0, -3 * p[0] * p[1]]], rtol=1e-15)
    # one class that can occur, or one class at all: nothing can change
    for row, target in (([-INF, 3.0, -INF], 1), ([-INF, 3.0, -INF], 0), ([7.0], 0)):
        assert_array_equal(reference.cross_entropy_with_grad_hess(row, target, **options)[2], 0)
        assert_array_equal(reference.cross_entropy_hessp(row, target, np.arange(len(row)) + 5, **options), 0)


@pytest.mark.parametrize(
    "case",
    [
        {"logits": np.zeros((0, 3)), "target": np.zeros(0, int)},
        {"logits": np.zeros((0, 3)), "target": np.zeros((0, 3))},
        {"logits": np.zeros((0, 0)), "target": np.zeros(0, int)},
        {"logits": np.array([[NAN, 1.0], [INF, 0.0]]), "target": np.array([-100, -100])},
        {"logits": np.array([[NAN, 1.0], [3.0, 0.0]]), "target": np.array([0, 1]), "sample_weight": [1, -1]},
        {"logits": np.eye(2), "target": np.array([0, 0]), "weight": [0, 1], "label_smoothing": 0.1},
    ],
    ids=["no rows", "no probabilities", "no classes", "all ignored", "weights that cancel", "no class weight"],
)
def test_the_curvature_of_a_mean_of_nothing_is_zero(case):
    loss, grad, hess = reference.cross_entropy_with_grad_hess(**case)
    assert math.isnan(loss)
    assert grad.shape == hess.shape == case["logits"].shape
    assert_array_equal(hess, 0)
    assert_array_equal(reference.cross_entropy_hessp(**case, vector=case["logits"]), 0)
    nothing = np.zeros((2, 0))
    assert reference.binary_cross_entropy_with_grad_hess(nothing, nothing)[2].shape == (2, 0)
    assert reference.binary_cross_entropy_hessp(nothing, nothing, nothing).shape == (2, 0)


@pytest.mark.parametrize("options", FOCAL, ids=str)
def test_curvature_of_binary_at_infinity(options):
    z = np.array([INF, -INF, INF, -INF, NAN, 1e308, -1e308])
    for y in (np.array([1, 0, 0, 1, 1, 0, 1]), np.full(7, 0.25)):
        hess = reference.binary_cross_entropy_with_grad_hess(z, y, reduction="none", **options)[2]
        assert_array_equal(hess, [0, 0, 0, 0, NAN, 0, 0])
        product = reference.binary_cross_entropy_hessp(z, y, np.full(7, 3.0), reduction="none", **options)
        assert_array_equal(product, [0, 0, 0, 0, NAN, 0, 0])


def test_infinite_losses_of_negative_weight():
    """A focal factor's derivative is 0 there, and 0 · (-inf) counts 0 as 0 · inf does."""
    z, y = [INF, -INF, 1e300], [0, 1, 0.25]
    positive = reference.binary_cross_entropy_with_grad_hess(z, y, focal_gamma=2.0, reduction="none")
    negative = reference.binary_cross_entropy_with_grad_hess(z, y, weight=-3.0, focal_gamma=2.0, reduction="none")
    for found, expected in zip(negative, positive, strict=True):
        assert_array_equal(found, -3 * expected)
    assert_array_equal(negative[0][:2], -INF)
    assert_array_equal(negative[2], 0)


def test_curvature_where_powers_vanish_or_grow():
    """Powers of 1 - p_t that underflow, and exponents below 1, whose power of a tiny 1 - p_t is beyond float64's range."""
    x = np.zeros((1, 2))
    assert_array_equal(reference.cross_entropy_with_grad_hess(x, [0], focal_gamma=1e308)[2], 0)
    assert_array_equal(reference.cross_entropy_hessp(x, [0], [[1.0, -1.0]], focal_gamma=1e308), 0)
    assert_array_equal(reference.binary_cross_entropy_with_grad_hess(x, x, focal_gamma=1e308)[2], 0)
    for margin, digits in ((600.0, 1e-13), (700.0, 1e-13), (744.0, 0.0), (800.0, 0.0)):
        expected = {"desired": math.exp(-margin) ** 1.001 * 1.001**2, "rtol": digits, "atol": 5e-324}
        hess = reference.cross_entropy_with_grad_hess([margin, 0.0], 0, focal_gamma=1e-3)[2]
        assert_allclose(hess, **expected)
        assert_array_equal(hess, reference.cross_entropy_hessp([margin, 0.0], 0, [1.0, 0.0], focal_gamma=1e-3) * [1, -1])
        hess = reference.binary_cross_entropy_with_grad_hess([margin, -margin], [1, 0], focal_gamma=1e-3)[2] * 2
        assert_allclose(hess, **expected)
