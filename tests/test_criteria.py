"""CrossEntropyLoss: the functions' results, the reused buffer, and the life of a gradient."""

import copy
import gc
import pickle
import weakref

import ml_dtypes
import numpy as np
import pytest

import celoss


def problem(rows=6, classes=5, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, classes)).astype(dtype), rng.integers(0, classes, rows)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"weight": [1, 2, 0.5, 1, 3], "label_smoothing": 0.1},
        {"sample_weight": 0.5, "normalizer": 7, "ignore_index": 2},
        {"n_threads": 1},
    ],
    ids=str,
)
def test_same_as_the_functions(options, dtype):
    criterion = celoss.CrossEntropyLoss(**options)
    for seed in range(3):
        x, target = problem(dtype=dtype, seed=seed)
        loss = criterion(x, target)
        expected, expected_grad = celoss.cross_entropy_with_grad(x, target, **options)
        np.testing.assert_array_equal(loss, expected)
        assert type(loss) is type(expected)
        np.testing.assert_array_equal(criterion.backward(), expected_grad)


def test_axis_and_probabilities():
    rng = np.random.default_rng(0)
    x, q = rng.standard_normal((3, 4, 5)), rng.uniform(0, 1, (3, 4, 5))
    criterion = celoss.CrossEntropyLoss(axis=1, reduction="none")
    expected, expected_grad = celoss.cross_entropy_with_grad(x, q, axis=1, reduction="none")
    np.testing.assert_array_equal(criterion(x, q), expected)
    np.testing.assert_array_equal(criterion.backward(), expected_grad)


def test_the_buffer_is_used_again():
    criterion = celoss.CrossEntropyLoss()
    x, target = problem()
    criterion(x, target)
    first = criterion.backward()
    criterion(x + 1, target)
    assert criterion.backward() is first or np.shares_memory(criterion.backward(), first)
    assert not np.shares_memory(first, x)
    criterion(x[:3], target[:3])  # another shape: another buffer, the old array stays as it is
    kept = first.copy()
    assert criterion.backward().shape == (3, 5)
    np.testing.assert_array_equal(first, kept)
    criterion(x.astype(np.float64), target)
    assert criterion.backward().dtype == np.float64


def test_logits_are_not_written_to():
    x, target = problem()
    before = x.copy()
    criterion = celoss.CrossEntropyLoss()
    criterion(x, target)
    criterion.backward(3.0)
    np.testing.assert_array_equal(x, before)


def test_backward_may_be_called_again():
    criterion = celoss.CrossEntropyLoss()
    criterion(*problem())
    first = criterion.backward().copy()
    np.testing.assert_array_equal(criterion.backward(2.0), 2 * first)
    np.testing.assert_array_equal(criterion.backward(-0.5), -0.5 * first)
    np.testing.assert_array_equal(criterion.backward(), first)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_upstream_gradient(dtype):
    x, target = problem(dtype=dtype)
    criterion = celoss.CrossEntropyLoss()
    criterion(x, target)
    for upstream in (2, np.float64(2), np.float32(2), np.array(2.0)):
        grad = criterion.backward(upstream)
        assert grad.dtype == dtype
        np.testing.assert_array_equal(grad, celoss.cross_entropy_with_grad(x, target, grad_output=2.0)[1])
    criterion = celoss.CrossEntropyLoss(reduction="none")
    criterion(x, target)
    upstream = 2.0 ** np.arange(-3, 3)  # powers of two: exact in any order
    expected = celoss.cross_entropy_with_grad(x, target, reduction="none", grad_output=upstream)[1]
    np.testing.assert_array_equal(criterion.backward(upstream), expected)
    np.testing.assert_array_equal(criterion.backward(upstream.tolist()), expected)


@pytest.mark.parametrize(
    ("criterion", "function"),
    [
        (celoss.CrossEntropyLoss, celoss.cross_entropy_with_grad),
        (celoss.BinaryCrossEntropyLoss, celoss.binary_cross_entropy_with_grad),
    ],
)
def test_scaling_float16(criterion, function):
    """As documented: `backward` multiplies what float16 has kept; a normalizer scales before the rounding, as grad_output."""
    x = np.linspace(-5, 5, 60).reshape(12, 5).astype(np.float16)
    target = np.arange(12) % 5 if criterion is celoss.CrossEntropyLoss else np.arange(60).reshape(x.shape) % 2
    scale, count = 2.0**12, 2.0**24  # of a large batch a part
    _, scaled = function(x, target, normalizer=count, grad_output=scale)
    late = criterion(normalizer=count)
    late(x, target)
    kept = late.backward().copy()
    np.testing.assert_array_equal(late.backward(scale), kept.astype(float) * scale)
    assert (kept == 0).any() and (scaled != 0).all()
    in_time = criterion(normalizer=count / scale)
    in_time(x, target)
    np.testing.assert_array_equal(in_time.backward(), scaled)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_overflow_is_infinite_and_no_warning(dtype):
    criterion = celoss.CrossEntropyLoss(reduction="sum")
    criterion(np.zeros((1, 2), dtype), [0])
    np.testing.assert_array_equal(criterion.backward(1e300).astype(float), [[-np.inf, np.inf]])
    criterion(np.array([[np.inf, 0]], dtype), [0])
    assert np.isnan(criterion.backward(0.0).astype(float)).all()


def test_upstream_gradient_along_any_axis():
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((3, 4, 5)), rng.integers(0, 4, (3, 5))
    criterion = celoss.CrossEntropyLoss(axis=1, reduction="none")
    criterion(x, target)
    upstream = 2.0 ** rng.integers(-2, 3, (3, 5))
    expected = celoss.cross_entropy_with_grad(x, target, axis=1, reduction="none", grad_output=upstream)[1]
    np.testing.assert_array_equal(criterion.backward(upstream), expected)
    criterion = celoss.CrossEntropyLoss(axis=-2, reduction="none")
    criterion(x, target)
    np.testing.assert_array_equal(criterion.backward(upstream), expected)


def test_errors():
    criterion = celoss.CrossEntropyLoss()
    with pytest.raises(RuntimeError, match="before"):
        criterion.backward()
    x, target = problem()
    with pytest.raises(IndexError, match=r"target\[0\] = 9"):
        criterion(x, np.full(6, 9))
    with pytest.raises(RuntimeError):
        criterion.backward()  # a failed call leaves no gradient
    criterion(x, target)
    with pytest.raises(ValueError, match=r"grad_output has shape \(6,\)"):
        criterion.backward(np.ones(6))
    criterion(x, target)
    with pytest.raises(IndexError):
        criterion(x, np.full(6, 9))
    with pytest.raises(RuntimeError):
        criterion.backward()
    criterion = celoss.CrossEntropyLoss(reduction="none")
    criterion(x, target)
    for shape in [(5,), (6, 1), (6, 5), (1,)]:
        with pytest.raises(ValueError, match="grad_output"):
            criterion.backward(np.ones(shape))
    for value in ("2", 1j, [None] * 6, {}):
        with pytest.raises(TypeError, match="grad_output"):
            criterion.backward(value)
    with pytest.raises(TypeError):
        celoss.CrossEntropyLoss(temperature=2)
    with pytest.raises(TypeError):
        celoss.CrossEntropyLoss(None)


def test_options_are_checked_in_the_call():
    with pytest.raises(ValueError, match="label_smoothing"):
        celoss.CrossEntropyLoss(label_smoothing=2.0)(*problem())


def test_integers_and_lists():
    criterion = celoss.CrossEntropyLoss()
    loss = criterion([[1, 2, 3]], [2])
    assert loss == celoss.cross_entropy([[1.0, 2.0, 3.0]], [2])
    assert criterion.backward().dtype == np.float64
    criterion(np.array([[1, 2, 3]], ">f4"), [2])
    assert criterion.backward().dtype == np.float32
    assert criterion.backward().dtype.isnative


def test_repr_names_the_options():
    text = repr(celoss.CrossEntropyLoss(label_smoothing=0.25, reduction="sum"))
    assert text.startswith("CrossEntropyLoss(") and "label_smoothing=0.25" in text and "reduction='sum'" in text


def test_copies_and_pickles():
    x, target = problem()
    criterion = celoss.CrossEntropyLoss(weight=np.arange(1.0, 6.0))
    expected = criterion(x, target)
    for other in (copy.copy(criterion), copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert other(x, target) == expected


def test_the_logits_are_not_kept_alive():
    criterion = celoss.CrossEntropyLoss()
    x, target = problem()
    criterion(x, target)
    gone = weakref.ref(x)
    del x
    gc.collect()
    assert gone() is None


def test_no_rows():
    criterion = celoss.CrossEntropyLoss()
    assert np.isnan(criterion(np.empty((0, 3), np.float32), np.empty(0, int)))
    assert criterion.backward().shape == (0, 3)


def test_training_loop():
    """Gradient descent on a separable problem: the loss falls to nearly nothing."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((200, 3))
    target = (inputs @ rng.standard_normal((3, 4))).argmax(axis=1)
    weights = np.zeros((3, 4))
    criterion = celoss.CrossEntropyLoss()
    first = criterion(inputs @ weights, target)
    for _ in range(300):
        loss = criterion(inputs @ weights, target)
        weights -= 2 * inputs.T @ criterion.backward()
    assert first == pytest.approx(np.log(4)) and loss < 0.2
