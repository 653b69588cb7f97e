"""The loss objects: the functions' results and errors, the reused buffer, and the life of a gradient."""

import copy
import gc
import pickle
import weakref

import ml_dtypes
import numpy as np
import pytest

import celoss
from celoss import _checks

FUNCTIONS = {
    celoss.CrossEntropyLoss: celoss.cross_entropy_with_grad,
    celoss.BinaryCrossEntropyLoss: celoss.binary_cross_entropy_with_grad,
}
CRITERIA = pytest.mark.parametrize("criterion", FUNCTIONS, ids=lambda criterion: criterion.__name__)


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


@CRITERIA
def test_scaling_float16(criterion):
    """As documented: `backward` multiplies what float16 has kept; a normalizer scales before the rounding, as grad_output."""
    x = np.linspace(-5, 5, 60).reshape(12, 5).astype(np.float16)
    target = np.arange(12) % 5 if criterion is celoss.CrossEntropyLoss else np.arange(60).reshape(x.shape) % 2
    scale, count = 2.0**12, 2.0**24  # of a large batch a part
    _, scaled = FUNCTIONS[criterion](x, target, normalizer=count, grad_output=scale)
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


# ---- options that are checked without arrays -----------------------------------------------------------------------

NUMBERS = {
    "label_smoothing": [-0.1, 1.5, np.nan, "0.1", None, [0.1, 0.2]],
    "focal_gamma": [-1, np.inf, np.nan, "2", None],
    "reduction": ["average", None, 1, "Mean"],
    "normalizer": [-1.0, np.inf, np.nan, "2", [1.0, 2.0]],
    "n_threads": [0, -1, 1.0, "2"],
}
WEIGHTS = [[1, -1, 1, 1, 1], [1, 1, np.nan, 1, 1], np.full(5, np.inf), ["a"] * 5, [1j] * 5, [None] * 5, {},
           np.ma.masked_array(np.ones(5))]  # fmt: skip
# The first of the weights is negative, which rows and scores may be.
BAD = {
    celoss.CrossEntropyLoss: {
        **NUMBERS,
        "axis": [None, 1.0, "1", (0, 1)],
        "weight": WEIGHTS,
        "sample_weight": [np.inf, np.nan, "1", *WEIGHTS[1:]],
        "ignore_index": [None, 1.0, "1", [1]],
        "logit_scale": [0, -1.0, np.inf, np.nan, "2", None],
        "logit_softcap": [0, -1.0, np.inf, np.nan, "2"],
        "z_loss": [-1e-4, np.inf, np.nan, "2", None],
    },
    celoss.BinaryCrossEntropyLoss: {**NUMBERS, "weight": [np.inf, *WEIGHTS[1:]], "pos_weight": [-1, np.inf, *WEIGHTS]},
}


@CRITERIA
def test_options_are_checked_when_the_object_is_made(criterion):
    """Every option there is, with the error that the call of the function raises."""
    x, target = problem()
    target = target if criterion is celoss.CrossEntropyLoss else x > 0
    assert set(BAD[criterion]) == set(criterion().options)
    for name, values in BAD[criterion].items():
        for value in values:
            with pytest.raises((TypeError, ValueError), match=name) as expected:
                FUNCTIONS[criterion](x, target, **{name: value})
            with pytest.raises((TypeError, ValueError)) as made:
                criterion(**{name: value})
            assert (made.type, str(made.value)) == (expected.type, str(expected.value))
    with pytest.raises(ValueError, match=r"focal_gamma=2 and label_smoothing=0\.1 exclude one another"):
        criterion(focal_gamma=2, label_smoothing=0.1)
    with pytest.raises(TypeError, match=rf"{criterion.__name__}.*'temperature'"):
        criterion(temperature=2)


@pytest.mark.parametrize("weight", [2.0, np.ones((1, 5)), np.ones((0, 5))], ids=str)
def test_class_weights_have_one_dimension(weight):
    with pytest.raises(ValueError, match=r"weight has shape \(.*\); expected \(C,\), one weight for each class"):
        celoss.CrossEntropyLoss(weight=weight)


def test_what_needs_arrays_is_checked_in_the_call():
    x, target = problem()
    for options, message in [
        ({"axis": 2}, "axis 2 is out of range"),
        ({"weight": np.ones(4)}, r"expected \(5,\)"),
        ({"sample_weight": np.ones(5)}, "does not broadcast"),
        ({"focal_gamma": 2.0}, "needs class indices"),
    ]:
        criterion = celoss.CrossEntropyLoss(**options)
        with pytest.raises(ValueError, match=message):
            criterion(x, np.full_like(x, 0.2) if "focal_gamma" in options else target)
    for name in ("weight", "pos_weight"):
        criterion = celoss.BinaryCrossEntropyLoss(**{name: np.ones(4)})
        with pytest.raises(ValueError, match=f"{name} of shape"):
            criterion(x, x > 0)


def test_weights_are_not_copied():
    """As documented: what changes later counts from the next call, and is checked there."""
    x, target = problem()
    weight = np.ones(5)
    criterion = celoss.CrossEntropyLoss(weight=weight)
    assert criterion(x, target) == celoss.cross_entropy(x, target)
    weight[0] = 7
    assert criterion(x, target) == celoss.cross_entropy(x, target, weight=[7, 1, 1, 1, 1])
    weight[1] = -1
    with pytest.raises(ValueError, match=r"weight\[1\] = -1.0"):
        criterion(x, target)


# ---- options at the call -------------------------------------------------------------------------------------------


@CRITERIA
def test_options_at_the_call(criterion):
    """Each and all of them, as to the function, and for that call only."""
    x, target = problem()
    target = target if criterion is celoss.CrossEntropyLoss else x > 0
    one, function = criterion(), FUNCTIONS[criterion]
    met = set()
    for example in _checks.examples(function.__name__, _checks.arrays(x), singly=True):
        options = {name: value for name, value in example.options.items() if name not in ("grad_output", "out")}
        loss = one(*example.arguments, **options)
        expected, expected_grad = function(*example.arguments, **options)
        np.testing.assert_array_equal(loss, expected, err_msg=example.label)
        assert type(loss) is type(expected)
        np.testing.assert_array_equal(one.backward(), expected_grad, err_msg=example.label)
        met |= options.keys()
        expected, expected_grad = function(x, target)
        assert one(x, target) == expected, example.label
        np.testing.assert_array_equal(one.backward(2.0), 2 * expected_grad, err_msg=example.label)
    assert met == set(one.options)
    assert repr(one) == repr(criterion())


def test_options_at_the_call_replace_the_objects_own():
    x, target = problem()
    own = {"weight": np.arange(1.0, 6.0), "label_smoothing": 0.1, "normalizer": 7.0}
    criterion = celoss.CrossEntropyLoss(**own)
    for options in ({"weight": None}, {"label_smoothing": 0}, {"normalizer": None}, {"label_smoothing": 0, "focal_gamma": 2}):
        assert criterion(x, target, **options) == celoss.cross_entropy(x, target, **(own | options))
        assert criterion(x, target) == celoss.cross_entropy(x, target, **own)
    with pytest.raises(ValueError, match="exclude one another"):
        criterion(x, target, focal_gamma=2)
    with pytest.raises(RuntimeError, match="before"):
        criterion.backward()


def test_backward_goes_by_the_options_of_the_call():
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((4, 4, 4)), rng.integers(0, 4, (4, 4))
    upstream = 2.0 ** rng.integers(-2, 3, (4, 4))
    criterion = celoss.CrossEntropyLoss()
    for options in ({"axis": 1}, {"axis": -3}, {}):
        criterion(x, target, reduction="none", **options)
        expected = celoss.cross_entropy_with_grad(x, target, reduction="none", grad_output=upstream, **options)[1]
        np.testing.assert_array_equal(criterion.backward(upstream), expected)
    criterion(x, target)
    with pytest.raises(ValueError, match="grad_output has shape"):
        criterion.backward(upstream)
    binary = celoss.BinaryCrossEntropyLoss(reduction="none")
    binary(x, x > 0, reduction="sum")
    with pytest.raises(ValueError, match="grad_output has shape"):
        binary.backward(x)
    binary(x, x > 0)
    np.testing.assert_array_equal(binary.backward(2 * np.ones_like(x)), 2 * binary.backward())


@CRITERIA
def test_names_that_are_no_options(criterion):
    x, _ = problem()
    one = criterion()
    for name in ("temperature", "out", "grad_output", *(["axis"] if criterion is celoss.BinaryCrossEntropyLoss else [])):
        one(x, np.full_like(x, 0.5))
        with pytest.raises(TypeError, match=rf"^{criterion.__name__}\.__call__\(\) got an unexpected .* '{name}'$"):
            one(x, np.full_like(x, 0.5), **{name: np.empty_like(x)})
        with pytest.raises(RuntimeError):
            one.backward()


def test_an_array_given_at_the_call_is_not_kept_alive():
    criterion = celoss.CrossEntropyLoss()
    weight = np.ones(6)
    criterion(*problem(), sample_weight=weight)
    gone = weakref.ref(weight)
    del weight
    gc.collect()
    assert gone() is None


# ---- what else an object does --------------------------------------------------------------------------------------


def test_integers_and_lists():
    criterion = celoss.CrossEntropyLoss()
    loss = criterion([[1, 2, 3]], [2])
    assert loss == celoss.cross_entropy([[1.0, 2.0, 3.0]], [2])
    assert criterion.backward().dtype == np.float64
    criterion(np.array([[1, 2, 3]], ">f4"), [2])
    assert criterion.backward().dtype == np.float32
    assert criterion.backward().dtype.isnative


def test_repr_names_the_options_that_are_not_the_defaults():
    assert repr(celoss.CrossEntropyLoss()) == "CrossEntropyLoss()"
    assert repr(celoss.CrossEntropyLoss(axis=np.int64(-1), weight=None, reduction="mean")) == "CrossEntropyLoss()"
    text = repr(celoss.CrossEntropyLoss(axis=1, weight=np.arange(3.0), label_smoothing=0.25, reduction="sum", n_threads=1))
    assert text == "CrossEntropyLoss(axis=1, weight=array([0., 1., 2.]), label_smoothing=0.25, reduction='sum', n_threads=1)"
    assert repr(celoss.BinaryCrossEntropyLoss(pos_weight=[2, 3])) == "BinaryCrossEntropyLoss(pos_weight=[2, 3])"

    class Named(celoss.CrossEntropyLoss):
        def __init__(self):
            super().__init__(normalizer=2)

    assert repr(Named()) == "Named(normalizer=2)"


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda one, p=p: pickle.loads(pickle.dumps(one, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("how", COPIES)
@CRITERIA
def test_copies_and_pickles_carry_the_options_alone(criterion, how):
    x, target = problem()
    target = target if criterion is celoss.CrossEntropyLoss else x > 0
    one = criterion(weight=np.arange(1.0, 6.0), reduction="sum")
    assert repr(COPIES[how](one)) == repr(one), "before any call"
    expected = one(x, target)
    grad = one.backward()
    other = COPIES[how](one)
    assert type(other) is criterion and repr(other) == repr(one)
    assert vars(other).keys() == {"options"} and other.options is not one.options
    assert (other.options["weight"] is one.options["weight"]) == (how == "copy")
    with pytest.raises(RuntimeError, match="before"):
        other.backward()
    kept = grad.copy()
    other(-x, target, reduction="none")
    assert not np.shares_memory(other.backward(), grad)
    np.testing.assert_array_equal(one.backward(), kept)  # what the copy does is nothing to the original
    assert other(x, target) == expected
    np.testing.assert_array_equal(other.backward(), kept)


def test_a_pickle_is_small_after_a_large_call():
    criterion = celoss.CrossEntropyLoss(label_smoothing=0.1)
    before = pickle.dumps(criterion)
    criterion(*problem(1000, 100), sample_weight=np.ones(1000))
    assert pickle.dumps(criterion) == before


class Labelled(celoss.CrossEntropyLoss):
    """What a user may write: an attribute, beside the options."""

    def __init__(self, label, **options):
        super().__init__(**options)
        self.label = label


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_a_subclass(how):
    criterion = Labelled("main", label_smoothing=0.1)
    criterion(*problem())
    other = COPIES[how](criterion)
    assert (other.label, repr(other)) == ("main", "Labelled(label_smoothing=0.1)")
    assert other(*problem()) == criterion(*problem())


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
