"""Bugs of other systems, each as a test of celoss that names its report (owner/repository#number on GitHub)."""

import json

import numpy as np
import pytest

import celoss

INF = np.inf


def test_large_offset_keeps_the_loss(level):
    """pytorch/pytorch#11752, #38839, ml-explore/mlx#4188, google-deepmind/optax#1792: lse - x_t, m added back first."""
    for offset in (1e4, 1e6, 1e8, -1e8):
        for classes in (2, 40):
            x = np.full((3, classes), offset, np.float32)
            assert celoss.cross_entropy(x, [0, 1, 0]) == pytest.approx(np.log(classes), rel=1e-6)


def test_confident_loss_is_not_zero(level):
    """pytorch/pytorch#113708, scipy/scipy#19521: log_softmax is 0, or a multiple of 1.2e-7, for confident rows."""
    for margin, classes in [(17, 2), (20, 3), (40, 33)]:
        x = np.zeros((1, classes), np.float32)
        x[0, 0] = margin
        exact = np.log1p((classes - 1) * np.exp(-float(margin)))
        loss, grad = celoss.cross_entropy_with_grad(x, [0])
        assert loss == pytest.approx(exact, rel=2e-7)
        assert grad[0, 0] == pytest.approx(np.expm1(-exact), rel=3e-7)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_target_gradient_in_half_precision(name, level):
    """linkedin/Liger-Kernel#1268, #1329: 1 - p_t formed after a store in half precision is off by 20 to 100 %."""
    dtype = np.float16
    if name == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    for margin in (4.0, 4.5, 6.0, 7.0):
        x = np.array([[margin, 0.0, 0.0]], dtype)
        _, grad = celoss.cross_entropy_with_grad(x, [0])
        exact = -2 / (np.exp(margin) + 2)
        assert float(grad[0, 0]) == pytest.approx(exact, rel=2**-8 if name == "bfloat16" else 2**-10)


def test_upstream_gradient_of_each_row(level):
    """linkedin/Liger-Kernel#678, #680, #1298: with reduction "none" only an upstream gradient of ones was right."""
    rng = np.random.default_rng(0)
    for classes in (5, 50):
        x, target, upstream = rng.standard_normal((7, classes)), rng.integers(0, classes, 7), rng.standard_normal(7)
        target[2] = -100
        _, plain = celoss.cross_entropy_with_grad(x, target, reduction="none")
        _, grad = celoss.cross_entropy_with_grad(x, target, reduction="none", grad_output=upstream)
        np.testing.assert_allclose(grad, plain * upstream[:, None], rtol=1e-15)


def test_weight_with_smoothing_and_ignored_rows(level):
    """pytorch/pytorch#69339, #72056: the three together crashed."""
    x = np.log([[1.0, 2.0, 1.0], [5.0, 3.0, 2.0], [1.0, 1.0, 2.0]])
    options = {"weight": [1.0, 2.0, 4.0], "label_smoothing": 0.3, "ignore_index": 2}
    w, nll = np.array([1, 2, 4]), -np.log([[0.25, 0.5, 0.25], [0.5, 0.3, 0.2]])
    losses = [0.7 * 2 * nll[0, 1] + 0.1 * (w @ nll[0]), 0.7 * nll[1, 0] + 0.1 * (w @ nll[1])]
    assert celoss.cross_entropy(x, [1, 0, 2], **options) == pytest.approx(sum(losses) / 3, rel=1e-14)


def test_first_block_all_minus_infinity(level):
    """Dao-AILab/flash-attention#1930: a maximum kept online over a first block of -inf gives NaN."""
    for classes in (40, 1000, 70_000, 300_001):
        for dtype in (np.float32, np.float64):
            x = np.full((2, classes), -INF, dtype)
            x[:, -2:] = [1.0, 2.0]
            loss, grad = celoss.cross_entropy_with_grad(x, [classes - 1, classes - 2], reduction="none")
            np.testing.assert_allclose(loss, [np.log1p(np.exp(-1)), 1 + np.log1p(np.exp(-1))], rtol=1e-6)
            assert not grad[:, :-2].any() and np.isfinite(grad).all()


def test_minus_infinity_beside_the_target(level):
    """Keras's one-hot times -inf, google-deepmind/optax#896: 0 * -inf is NaN."""
    x = np.array([[0.0, -INF, 0.0]])
    for target in ([2], [[0.0, 0.0, 1.0]]):
        loss, grad = celoss.cross_entropy_with_grad(x, target)
        assert loss == pytest.approx(np.log(2)) and grad.tolist() == [[0.5, 0.0, -0.5]]


def test_labels_beyond_the_classes_are_refused(level):
    """tensorflow/tensorflow#126005, google-deepmind/optax#1185, pytorch/pytorch#43840: NaN, 0, or others' memory."""
    for target in ([0, 10], [-1, 0], [0, 2**32], [0, 2**32 + 1]):
        with pytest.raises(IndexError):
            celoss.cross_entropy_with_grad(np.zeros((2, 10), np.float32), target)


def test_negative_labels_do_not_wrap():
    """google-deepmind/optax and ONNX's reference take -1 as the last class; Keras makes an all-zero one-hot of it."""
    with pytest.raises(IndexError, match=r"target\[0\] = -1 "):
        celoss.cross_entropy(np.zeros((1, 3)), [-1])


def test_ignored_class_may_lie_outside_the_range():
    """pytorch/pytorch test_nll_loss_out_of_bounds_ignore_index: 255 with fewer classes is legal."""
    x = np.zeros((3, 3))
    loss, grad = celoss.cross_entropy_with_grad(x, np.array([0, 255, 1], np.uint8), ignore_index=255)
    assert loss == pytest.approx(np.log(3)) and not grad[1].any()


def test_ignored_class_stays_a_class(level):
    """pytorch/pytorch#63004, #18206: ignore_index drops rows, not the class from the denominator of softmax."""
    x = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    assert celoss.cross_entropy(x, [0, 2], ignore_index=2) == celoss.cross_entropy(x[:1], [0])


def test_nan_in_an_ignored_row_has_no_gradient(level):
    """log_softmax's backward multiplies a NaN by 0 in PyTorch."""
    for classes in (3, 40):
        x = np.zeros((2, classes), np.float32)
        x[1] = np.nan
        loss, grad = celoss.cross_entropy_with_grad(x, [0, -100])
        assert loss == pytest.approx(np.log(classes)) and not grad[1].any()


def test_lanes_have_their_own_maximum(level):
    """pytorch/pytorch#156379, #158310: with an axis other than the last one lane's maximum was used for another."""
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64):
        for classes, inner in [(5, 64), (40, 33), (7, 1000)]:
            x = (rng.standard_normal((2, classes, inner)) + 100 * np.arange(inner) % 700).astype(dtype)
            target = rng.integers(0, classes, (2, inner))
            got = celoss.cross_entropy(x, target, axis=1, reduction="none")
            alone = celoss.cross_entropy(np.ascontiguousarray(np.moveaxis(x, 1, -1)), target, reduction="none")
            np.testing.assert_array_equal(got, alone)
            assert np.isfinite(got).all()


def test_rows_far_below_zero(level):
    """dmlc/xgboost: a maximum that starts at the smallest positive float leaves 0 / 0 for logits below -104."""
    for classes in (3, 40):
        for offset in (-104, -1e4, -1e30):
            x = np.full((2, classes), offset, np.float32)
            loss, grad = celoss.cross_entropy_with_grad(x, [0, 1], reduction="none")
            np.testing.assert_allclose(loss, np.log(classes), rtol=3e-7)
            np.testing.assert_allclose(grad.sum(axis=1), 0, atol=1e-6)


def test_exponential_does_not_overflow(level):
    """cornell-brg/hb-pytorch#61, pytorch/pytorch#62897: softmax without the maximum overflows at 88.72284."""
    for value in (88.72283, 88.72284, 709.8, 1000.0, 3e38):
        loss, grad = celoss.cross_entropy_with_grad(np.array([[value, value, 0.0]], np.float32), [0])
        assert loss == pytest.approx(np.log(2)) and np.isfinite(grad).all()


def test_small_terms_of_the_sum(level):
    """scipy/scipy#18295: log(1 + e^-40) is e^-40, not 0."""
    assert celoss.cross_entropy([[0.0, -40.0]], [0]) == pytest.approx(np.exp(-40), rel=1e-15)


def test_sum_over_many_rows(level):
    """pytorch/pytorch#55657: a serial float32 sum of many losses drifts."""
    x = np.broadcast_to(np.array([0.0, 3.3], np.float32), (2**21, 2))
    one = celoss.cross_entropy(x[:1], [1])
    assert celoss.cross_entropy(x, np.ones(2**21, np.int8)) == pytest.approx(one, rel=1e-12)


def test_half_precision_sum_does_not_overflow():
    """PaddlePaddle/Paddle#74070, google-deepmind/optax#1020: sums and losses in half precision."""
    x = np.broadcast_to(np.array([0.0, 11.0], np.float16), (100_000, 2))
    assert celoss.cross_entropy(x, np.zeros(100_000, int), reduction="sum") == pytest.approx(11.0000167e5, rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (2, 3, 0), (2, 0, 3, 0)])
def test_empty_arrays(shape):
    """pytorch/pytorch#17262: a floating-point exception for shape (N, 0); #64572: empty batches."""
    target = np.empty(shape[:1] + shape[2:], int)
    loss, grad = celoss.cross_entropy_with_grad(np.empty(shape), target, axis=1)
    assert np.isnan(loss) and grad.shape == shape


def test_all_ignored_in_a_micro_batch():
    """pytorch/pytorch#70348, pytorch/torchtune#2341: the NaN of such a batch; a normalizer gives 0."""
    x, target = np.zeros((4, 3)), np.full(4, -100)
    loss, grad = celoss.cross_entropy_with_grad(x, target, normalizer=12)
    assert loss == 0 and not grad.any()


def test_gradient_accumulation():
    """huggingface/transformers#34191, #35203: the mean of means is not the mean over all tokens."""
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((4, 6, 9)), rng.integers(0, 9, (4, 6))
    target[1, 1:] = target[3, 4:] = -100
    count = (target != -100).sum()
    parts = [celoss.cross_entropy(x[i], target[i], normalizer=count) for i in range(4)]
    assert sum(parts) == pytest.approx(celoss.cross_entropy(x, target), rel=1e-14)


def test_probabilities_divide_by_rows_not_by_weights():
    """pytorch/pytorch#107680, #61309: with class weights the means of the two target forms differ, as in PyTorch."""
    x, weight = np.zeros((2, 3)), np.array([1.0, 2.0, 4.0])
    assert celoss.cross_entropy(x, [1, 2], weight=weight) == pytest.approx(np.log(3))
    assert celoss.cross_entropy(x, np.eye(3)[[1, 2]], weight=weight) == pytest.approx(3 * np.log(3))


@pytest.mark.parametrize("array", [np.zeros((4, 3))[::-1], np.zeros((3, 4)).T, np.zeros((4, 6))[:, ::-2]])
def test_strides_of_any_sign(array):
    """pytorch/pytorch#92680: negative strides are refused."""
    assert celoss.cross_entropy(array, [0, 1, 2, 0]) == pytest.approx(np.log(3))


def test_read_only_arrays():
    """scikit-learn's kernels once refused memory-mapped input that is read-only."""
    x, target = np.zeros((4, 3)), np.array([0, 1, 2, 0])
    x.flags.writeable = target.flags.writeable = False
    assert celoss.cross_entropy(x, target) == pytest.approx(np.log(3))


def test_logits_are_not_overwritten():
    """linkedin/Liger-Kernel#272, unslothai/unsloth#5002: the gradient replaced the logits without being asked."""
    rng = np.random.default_rng(0)
    for shape in [(50, 3), (50, 40), (1, 300_001)]:
        x = rng.standard_normal(shape, np.float32)
        before = x.copy()
        celoss.cross_entropy_with_grad(x, np.zeros(shape[0], int), label_smoothing=0.1)
        celoss.cross_entropy_with_grad(x, np.zeros(shape[0], int))
        np.testing.assert_array_equal(x, before)


def test_integer_targets_of_any_width():
    """pytorch/pytorch#45540, #1842: "expected scalar type Long but found Int"."""
    for dtype in "bBhHiIlLqQ":
        assert celoss.cross_entropy(np.zeros((1, 3)), np.array([1], dtype)) == pytest.approx(np.log(3))


def test_smoothing_of_indices_is_that_of_probabilities(level):
    """pytorch/pytorch test_cross_entropy_label_smoothing_consistent_index_target_and_probs."""
    rng = np.random.default_rng(0)
    for classes in (3, 40):
        x, target = rng.standard_normal((10, classes)), rng.integers(0, classes, 10)
        for weight in (None, rng.uniform(0.5, 2, classes)):
            options = {"label_smoothing": 0.3, "weight": weight, "reduction": "none"}
            loss, grad = celoss.cross_entropy_with_grad(x, target, **options)
            soft_loss, soft_grad = celoss.cross_entropy_with_grad(x, np.eye(classes)[target], **options)
            np.testing.assert_allclose(loss, soft_loss, rtol=1e-13)
            np.testing.assert_allclose(grad, soft_grad, rtol=1e-12, atol=1e-15)


def test_values_of_optax():
    """optax/losses/_classification_test.py: the data of its tests."""
    x = np.array([[10.0, 1.0, -2.0], [1.0, 4.0, 0.2]])
    q = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(celoss.cross_entropy(x, q, reduction="none"), [9.00013, 3.0696733], rtol=1e-6)
    np.testing.assert_allclose(celoss.cross_entropy(x, [1, 0], reduction="none"), [9.00013, 3.0696733], rtol=1e-6)


# ---- what people pass ------------------------------------------------------------------------------------------------------


def test_masked_arrays_are_refused():
    """scipy/scipy#3034, jax-ml/jax#13795: the mask was passed over, and what is masked counted."""
    masked = np.ma.masked_array([0.0, 1.0, 2.0], mask=[True, False, False])
    with pytest.raises(TypeError, match=r"x is a masked array; pass x\.filled\(-np\.inf\)"):
        celoss.logsumexp(masked)
    assert celoss.logsumexp(masked.filled(-np.inf)) == pytest.approx(np.log(np.exp(1) + np.exp(2)))
    target = np.ma.masked_array([0, 1], mask=[False, True])
    with pytest.raises(TypeError, match=r"target is a masked array; pass target\.filled\(ignore_index\)"):
        celoss.cross_entropy(np.zeros((2, 3)), target)
    assert celoss.cross_entropy(np.zeros((2, 3)), target.filled(-100), reduction="sum") == pytest.approx(np.log(3))
    with pytest.raises(TypeError, match=r"pass target\.filled\(0\), and weight=~np\.ma\.getmaskarray\(target\)"):
        celoss.binary_cross_entropy(np.zeros(2), target)
    loss = celoss.binary_cross_entropy(np.zeros(2), target.filled(0), weight=~np.ma.getmaskarray(target), reduction="sum")
    assert loss == pytest.approx(np.log(2))


def test_sparse_matrices_are_refused():
    """numpy/numpy#14487: NumPy makes an array of one object of a sparse matrix."""
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed").csr_array(np.eye(3))
    with pytest.raises(TypeError, match=r"logits is a sparse csr_array; pass logits\.toarray\(\)"):
        celoss.cross_entropy(sparse, [0, 1, 2])
    with pytest.raises(TypeError, match=r"target is a sparse csr_array; pass target\.toarray\(\)"):
        celoss.cross_entropy(np.eye(3), sparse)
    assert celoss.cross_entropy(sparse.toarray(), sparse.toarray()) == celoss.cross_entropy(np.eye(3), [0, 1, 2])


def test_labels_of_one_column_of_scores():
    """bowang-lab/MedSAM#99, open-mmlab/mmpretrain#714: cross-entropy of one class, which is 0 whatever the score."""
    x, y = np.array([[2.0], [-1.0], [0.5]]), np.array([1, 0, 1])
    with pytest.warns(UserWarning, match="binary_cross_entropy") as record:
        assert celoss.cross_entropy(x, y[:, None].astype(float)) == 0
    assert [w.filename for w in record] == [__file__], "the line of the caller"
    with pytest.warns(UserWarning, match="binary_cross_entropy") as record:
        celoss.CrossEntropyLoss()(x, y[:, None].astype(float))
    assert [w.filename for w in record] == [__file__]
    with pytest.raises(IndexError, match=r"target\[0\] = 1 is not in \[0, 1\).* binary_cross_entropy"):
        celoss.cross_entropy(x, y)
    with pytest.raises(TypeError, match="binary_cross_entropy"):
        celoss.cross_entropy(x, y.astype(float))
    assert celoss.binary_cross_entropy(x, y[:, None]) == celoss.binary_cross_entropy(x[:, 0], y)


def test_labels_of_scores_in_one_dimension():
    """kitzeslab/opensoundscape#302, APPFL/APPFL#60: a loss of several classes for yes or no, and the other way round."""
    x, y = np.array([2.0, -1.0, 0.5]), np.array([1, 0, 1])
    for labels in (y, y == 1, y.astype(np.uint8), y.tolist()):
        with pytest.raises(TypeError, match="binary_cross_entropy"):
            celoss.cross_entropy(x, labels)
    assert celoss.cross_entropy(x, [0.2, 0.3, 0.5]) > 0  # one row, and its probabilities
    with pytest.raises(ValueError, match="class indices of rows go to cross_entropy"):
        celoss.binary_cross_entropy(np.zeros((3, 5)), y)


def test_a_column_of_scores_beside_a_row_of_labels():
    """pytorch/pytorch#1939: (64, 1) and (64,) were broadcast to 64 x 64 terms."""
    with pytest.raises(ValueError, match=r"pass target\.reshape\(\(64, 1\)\)"):
        celoss.binary_cross_entropy(np.zeros((64, 1)), np.zeros(64))


def test_strings_as_targets():
    """keras-team/keras#12047, DeepRank/deeprank2#197: labels are names more often than numbers."""
    labels = ["dog", "cat", "dog"]
    for given in (labels, np.array(labels), np.array(labels, object), np.array(labels, "S")):
        with pytest.raises(TypeError, match=r"np\.unique\(labels, return_inverse=True\)"):
            celoss.cross_entropy(np.zeros((3, 2)), given)
        with pytest.raises(TypeError, match=r"np\.asarray\(labels\) == 'yes'"):
            celoss.binary_cross_entropy(np.zeros(3), given)
    classes, target = np.unique(labels, return_inverse=True)
    assert classes.tolist() == ["cat", "dog"]
    assert celoss.cross_entropy(np.zeros((3, 2)), target) == pytest.approx(np.log(2))


def test_weights_in_a_dict():
    """scikit-learn's class_weight: a dict, or "balanced"."""
    x, target, weights = np.zeros((3, 2)), np.array([0, 1, 1]), {0: 1.0, 1: 0.5}
    with pytest.raises(TypeError, match=r"weight is a dict; .* \[weights\[c\] for c in classes\]"):
        celoss.cross_entropy(x, target, weight=weights)
    assert celoss.cross_entropy(x, target, weight=[weights[c] for c in (0, 1)]) == pytest.approx(np.log(2))
    with pytest.raises(TypeError, match=r"len\(target\) / \(C \* np\.bincount\(target, minlength=C\)\)"):
        celoss.cross_entropy(x, target, weight="balanced")
    celoss.cross_entropy(x, target, weight=len(target) / (2 * np.bincount(target, minlength=2)))
    with pytest.raises(TypeError, match=r"sample_weight is a dict; .* \[weights\[c\] for c in labels\]"):
        celoss.cross_entropy(x, target, sample_weight=weights)
    with pytest.raises(TypeError, match=r"weight is a dict; .* \[weights\[c\] for c in labels\]"):
        celoss.binary_cross_entropy(x[:, 0], target, weight=weights)


def test_missing_values_of_a_table():
    """scikit-learn/scikit-learn#25578, #25073: columns with missing values are objects, or floats with NaN."""
    with pytest.raises(TypeError, match=r"target .*missing values: fill them with ignore_index"):
        celoss.cross_entropy(np.zeros((3, 2)), [0, None, 1])
    with pytest.raises(TypeError, match=r"pass np\.where\(np\.isnan\(target\), ignore_index, target\)\.astype\(np\.int64\)"):
        celoss.cross_entropy(np.zeros((3, 2)), [0, np.nan, 1])
    with pytest.raises(TypeError, match=r"pass target\.astype\(np\.int64\)"):
        celoss.cross_entropy(np.zeros((3, 2)), [0.0, 1.0, 1.0])
    with pytest.raises(TypeError, match=r"logits .*missing values: pass np\.asarray\(logits, np\.float64\)"):
        celoss.cross_entropy([[0.0, None]], [0])


def test_ignore_index_beside_probabilities():
    """pytorch/pytorch#69339: a row of probabilities has no index to be ignored by."""
    q = np.full((2, 3), 1 / 3)
    for module in (celoss, celoss.reference):
        for name in ("cross_entropy", "cross_entropy_with_grad", "brier_score", "zero_one_loss"):
            function = getattr(module, name)
            with pytest.raises(ValueError, match=r"ignore_index ?= ?0 needs class indices"):
                function(np.zeros((2, 3)), q, ignore_index=0)
            function(np.zeros((2, 3)), q, ignore_index=-100)  # the default


def test_an_empty_array_is_an_empty_list():
    """np.array([]) is float64, and np.empty((0, 3)).argmax(axis=1) is not: both hold the class of no row."""
    for module in (celoss, celoss.reference):
        for empty in ([], np.array([]), np.array([], np.float32), np.array([], np.int64)):
            loss, grad = module.cross_entropy_with_grad(np.zeros((0, 3)), empty, ignore_index=0)
            assert np.isnan(loss) and grad.shape == (0, 3)
            assert module.cross_entropy(np.zeros((0, 3)), empty, reduction="none", weight=[1, 2, 3]).shape == (0,)


def test_sum_of_nothing():
    """scipy/scipy#20399, jax-ml/jax#7643, onnx's ReduceLogSumExp: log 0 is -inf, and softmax of nothing is empty."""
    for module in (celoss, celoss.reference):
        assert module.logsumexp([]) == module.logsumexp(np.zeros((2, 0)), axis=None) == -INF
        assert module.logsumexp(np.zeros((2, 0), np.float32)).tolist() == [-INF, -INF]
        assert module.logsumexp(np.zeros((2, 0, 3)), axis=(0, 1), keepdims=True).tolist() == [[[-INF] * 3]]
        assert module.softmax([]).shape == module.log_softmax([], axis=None).shape == (0,)


def test_several_axes():
    """scipy/scipy#3515: an axis of logsumexp may be a tuple."""
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_allclose(celoss.logsumexp(x, axis=(0, 2)), np.log(np.exp(x).sum(axis=(0, 2))), rtol=1e-14)
    np.testing.assert_allclose(celoss.softmax(x, axis=None).sum(), 1, rtol=1e-14)


def test_a_single_number_is_a_scalar():
    """tskit-dev/tskit#2308: an array without dimensions cannot be hashed, and few write it."""
    for module in (celoss, celoss.reference):
        for result in (module.logsumexp([1.0, 2.0]), module.sigmoid(0.5), module.cross_entropy([0.0, 1.0], 1, reduction="none")):
            assert type(result) is np.float64 and len({result}) == 1 and round(result, 2) == pytest.approx(result, abs=0.01)
            assert json.loads(json.dumps(float(result))) == result
