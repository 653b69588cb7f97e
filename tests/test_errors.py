"""Every error of the contract, and what its message has to name."""

import inspect
import re
import warnings

import numpy as np
import pytest

import celoss
from celoss import _checks
from celoss._checks import FUNCTIONS as FUNCTIONS_OF_CELOSS

FUNCTIONS = [celoss.cross_entropy, celoss.cross_entropy_with_grad]
both = pytest.mark.parametrize("function", FUNCTIONS)

X = np.zeros((4, 3), np.float32)
T = np.array([0, 1, 2, 0])


def raises(error, *words):
    """Expect `error` with every one of the words in its message."""
    return pytest.raises(error, match="(?s)" + "".join(f"(?=.*{re.escape(word)})" for word in words))


# ---- kinds and shapes ----------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "logits",
    [X.astype(complex), np.array([["a", "b", "c"]] * 4), X.astype(object), np.zeros((4, 3), "m8[s]"),
     np.zeros((4, 3), "i4,f4"), np.zeros((4, 3), np.longdouble)],
    ids=lambda a: str(a.dtype),
)  # fmt: skip
def test_logits_of_no_use(function, logits):
    if logits.dtype == np.float64:
        pytest.skip("long double is float64 here")
    with raises(TypeError, "logits", str(logits.dtype), "float32", "bfloat16"):
        function(logits, T)


@both
def test_logits_without_form(function):
    with raises(TypeError, "logits"):
        function([[1.0, 2.0], [3.0]], [0, 0])
    with raises(TypeError, "logits"):
        function(None, [0])
    with raises(TypeError, "logits"):
        function("abc", [0])
    with raises(ValueError, "logits", "dimension"):
        function(np.float32(1.0), 0)
    with raises(TypeError, "logits", "masked"):
        function(np.ma.masked_array(X), T)


@both
@pytest.mark.parametrize("axis", [2, -3, 17])
def test_axis_out_of_range(function, axis):
    with raises(ValueError, f"axis {axis}", "2 dimensions"):
        function(X, T, axis=axis)


@both
@pytest.mark.parametrize("axis", [None, 1.0, -1.0, (0, 1), "1", np.array([0, 1])], ids=repr)
def test_axis_of_no_use(function, axis):
    with raises(TypeError, "axis", repr(axis)):
        function(X, T, axis=axis)


@both
@pytest.mark.parametrize("shape", [(3,), (5,), (4, 1), (1, 4), (), (4, 4)])
def test_shape_of_indices(function, shape):
    """Both shapes are named, and the one that was expected."""
    with raises(ValueError, str(shape), "(4, 3)", "(4,)"):
        function(X, np.zeros(shape, int))


@both
@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (4, 3, 1), ()])
def test_shape_of_probabilities(function, shape):
    with raises(ValueError, str(shape), "(4, 3)"):
        function(X, np.zeros(shape))


@both
def test_which_form_of_target_was_meant(function):
    with raises(TypeError, "class indices", "integer dtype", "float64", "(4,)"):
        function(X, T.astype(float))
    for dtype in (np.int64, bool):  # as many as logits: one-hot
        with raises(ValueError, "target[3] holds", "one-hot", "probabilities have a floating dtype"):
            function(X, np.eye(4, 3, dtype=dtype))
    with raises(TypeError, "bool", "class indices", "target.astype(int)", "one-hot", "probabilities"):
        function(X, np.zeros(4, bool))
    with raises(TypeError, "target", "complex128"):
        function(X, T.astype(complex))
    with raises(TypeError, "target"):
        function(X, None)
    with raises(TypeError, "target"):
        function(X, ["a", "b", "c", "a"])
    with raises(TypeError, "target", "masked"):
        function(X, np.ma.masked_array(T))


@both
def test_square_logits_tell_the_forms_apart_by_dtype(function):
    """(3, 3) logits and (3, 3) targets; one class and one row."""
    function(np.zeros((3, 3)), np.eye(3))
    function(np.zeros((3, 3)), np.eye(3, dtype=int))  # one-hot
    function(np.zeros((1, 1)), [0])
    function(np.zeros((1, 1)), [[1.0]])
    with raises(TypeError, "class indices"):
        function(np.zeros((1, 1)), [1.0])


# ---- indices out of range ------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("value", [3, 4, -1, -99, -101, 2**31, 2**40, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("options", [{}, {"weight": [1, 2, 3]}], ids=["plain", "weighted"])
def test_index_out_of_range(options, value, function, path):
    """Whatever reads the target first: the rows, or the denominator that looks up its weight."""
    target = np.array([0, 1, value, 0])
    with raises(IndexError, f"target[2] = {value} is not in [0, 3)"):
        function(X, target, **options)
    with raises(IndexError, f"target[2] = {value} is not in [0, 3)", "ignore_index=7"):
        function(X, target, ignore_index=7, **options)


@both
@pytest.mark.parametrize(
    "options",
    [{}, {"weight": [1, 2, 3]}, {"sample_weight": 2}, {"reduction": "sum"}, {"normalizer": 2}, {"reduction": "none"}],
)
def test_index_out_of_range_with_options(function, options, level):
    for dtype in (np.float16, np.float32, np.float64):
        with raises(IndexError, "target[3] = 3 is not in [0, 3)"):
            function(X.astype(dtype), [0, 1, 2, 3], **options)


@both
def test_position_of_the_index_out_of_range(function, level):
    """In as many dimensions as the target has; the first of several."""
    x = np.zeros((2, 5, 3, 4))
    target = np.zeros((2, 3, 4), np.int16)
    target[1, 2, 3] = 9
    with raises(IndexError, "target[1, 2, 3] = 9 is not in [0, 5)"):
        function(x, target, axis=1)
    target[0, 2, 1] = -7
    with raises(IndexError, "target[0, 2, 1] = -7 is not in [0, 5)"):
        function(x, target, axis=1)
    with raises(IndexError, "target[0, 2, 1] = -7 is not in [0, 5)"):
        function(x, target.copy(order="F"), axis=1)
    with raises(IndexError, "target = 3 is not in [0, 3)"):
        function([1.0, 2.0, 3.0], 3)


@both
@pytest.mark.parametrize("n_threads", [1, 2, 8])
@pytest.mark.parametrize("classes", [3, 10, 40, 1000])
def test_index_out_of_range_in_any_block(classes, n_threads, function, level):
    rows = 1_000_000 // classes
    x = np.zeros((rows, classes), np.float32)
    for row in (0, 1, rows // 2, rows - 1):
        target = np.zeros(rows, np.int64)
        target[row] = classes
        with raises(IndexError, f"target[{row}] = {classes} is not in [0, {classes})"):
            function(x, target, n_threads=n_threads)


@both
def test_index_out_of_range_in_long_rows(function, level):
    x = np.zeros((2, 300_001), np.float32)
    for target in ([0, 300_001], [300_001, 0], [-1, 0]):
        row = int(target[0] == 0)
        with raises(IndexError, f"target[{row}] = {target[row]} is not in [0, 300001)"):
            function(x, target)


def test_index_out_of_range_writes_nowhere_else(level):
    for classes in (3, 40):
        memory = np.full((10, classes), 7, np.float32)
        with pytest.raises(IndexError):
            celoss.cross_entropy_with_grad(np.zeros((4, classes), np.float32), [0, 10_000_000, -5, 1], out=memory[3:7])
        assert (memory[:3] == 7).all() and (memory[7:] == 7).all()


# ---- options -------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1e-30, -1])
def test_weights_have_to_be_finite_and_those_of_classes_not_negative(function, bad):
    for weight in ([1.0, bad, 1.0], np.array([1.0, bad, 1.0])):
        with raises(ValueError, "weight[1]", str(float(bad)), ">= 0"):
            function(X, T, weight=weight)
    if np.isfinite(bad):
        function(X, T, sample_weight=[1.0, 1.0, bad, 1.0])
        function(X, T, sample_weight=bad)
        return
    with raises(ValueError, "sample_weight[2]", str(float(bad)), "finite"):
        function(X, T, sample_weight=[1.0, 1.0, bad, 1.0])
    with raises(ValueError, "sample_weight", "finite"):
        function(X, T, sample_weight=bad)


@both
@pytest.mark.parametrize("shape", [(2,), (4,), (), (1,), (1, 3), (3, 1)])
def test_shape_of_weight(function, shape):
    with raises(ValueError, "weight", str(shape), "(3,)"):
        function(X, T, weight=np.ones(shape))


@both
@pytest.mark.parametrize("shape", [(3,), (5,), (4, 1), (1, 4), (0,)])
def test_shape_of_sample_weight(function, shape):
    with raises(ValueError, "sample_weight", str(shape), "(4,)"):
        function(X, T, sample_weight=np.ones(shape))


@both
@pytest.mark.parametrize("name", ["weight", "sample_weight"])
@pytest.mark.parametrize("value", ["heavy", ["a", "b", "c"], np.ones(3, complex), [None] * 3, {}])
def test_weights_have_to_be_numbers(function, name, value):
    with raises(TypeError, name):
        function(X, T, **{name: value})


@both
@pytest.mark.parametrize("value", [-0.1, 1.0001, 2, np.nan, np.inf, -np.inf])
def test_label_smoothing_out_of_range(function, value):
    with raises(ValueError, "label_smoothing", "[0, 1]", repr(value)):
        function(X, T, label_smoothing=value)


@both
@pytest.mark.parametrize("value", [-1, np.nan, np.inf])
def test_normalizer_out_of_range(function, value):
    with raises(ValueError, "normalizer", "positive", repr(value)):
        function(X, T, normalizer=value)


@both
@pytest.mark.parametrize("value", [0, -0.0])
def test_normalizer_of_0_where_something_counts(function, value):
    for options, count in [({}, 4), ({"sample_weight": [0, 1, 0, -1]}, 2), ({"ignore_index": 0}, 2)]:
        with raises(ValueError, "normalizer=0", f"{count} losses count", "positive"):
            function(X, T, normalizer=value, **options)


@both
@pytest.mark.parametrize("name", ["label_smoothing", "normalizer"])
@pytest.mark.parametrize("value", ["0.1", [0.1, 0.2], np.array([0.1, 0.2]), {}, 1j], ids=repr)
def test_numbers_have_to_be_numbers(function, name, value):
    with raises(TypeError, name):
        function(X, T, **{name: value})
    with raises(TypeError, name):
        celoss.binary_cross_entropy(X, X > 0, **{name: value})


@both
@pytest.mark.parametrize("value", ["average", "Mean", "", None, True, 1, ["mean"], b"mean"])
def test_reduction_of_no_use(function, value):
    with raises(ValueError, "reduction", "'mean'", "'sum'", "'none'", repr(value)):
        function(X, T, reduction=value)


@both
@pytest.mark.parametrize("value", [1.0, "1", None, [1]])
def test_ignore_index_of_no_use(function, value):
    with raises(TypeError, "ignore_index", repr(value)):
        function(X, T, ignore_index=value)


@both
def test_n_threads_of_no_use(function):
    for value in (0, -1):
        with raises(ValueError, "n_threads", str(value)):
            function(X, T, n_threads=value)
    for value in (1.5, "2"):
        with raises(TypeError, "n_threads", repr(value)):
            function(X, T, n_threads=value)


@both
def test_options_are_keywords(function):
    with pytest.raises(TypeError):
        function(X, T, -1)
    with raises(TypeError, "temperature"):
        function(X, T, temperature=1)


def test_set_num_threads_of_no_use():
    for value in (0, -3):
        with raises(ValueError, str(value)):
            celoss.set_num_threads(value)
    for value in (1.5, "2", None):
        with raises(TypeError, repr(value)):
            celoss.set_num_threads(value)


# ---- grad_output and out -------------------------------------------------------------------------------------------


def test_grad_output_of_no_use():
    grad = celoss.cross_entropy_with_grad
    for reduction in ("mean", "sum"):
        for shape in [(4,), (1,), (4, 3)]:
            with raises(ValueError, "grad_output", str(shape), "number"):
                grad(X, T, reduction=reduction, grad_output=np.ones(shape))
    for shape in [(3,), (1,), (4, 1), (4, 3)]:
        with raises(ValueError, "grad_output", str(shape), "(4,)"):
            grad(X, T, reduction="none", grad_output=np.ones(shape))
    for value in ("1", 1j, [None] * 4, {}):
        with raises(TypeError, "grad_output"):
            grad(X, T, reduction="none", grad_output=value)


def readonly():
    out = np.empty_like(X)
    out.flags.writeable = False
    return out


def test_out_of_no_use(path):
    def grad(out, x=X, t=T):
        return celoss.cross_entropy_with_grad(x, t, out=out)

    for out in (np.empty((4, 3)), np.empty((4, 3), np.int32), np.empty((4, 3), np.float16), np.empty((4, 3), ">f4")):
        with raises((TypeError, ValueError), "out", str(out.dtype), "float32"):
            grad(out)
    for shape in [(3, 4), (4,), (4, 3, 1), (5, 3), (4, 4), (12,), ()]:
        with raises(ValueError, "out", str(shape), "(4, 3)"):
            grad(np.empty(shape, np.float32))
    with raises(ValueError, "out", "read-only"):
        grad(readonly())
    for out in ([[0.0] * 3] * 4, 1, "out", bytearray(48)):
        with raises(TypeError, "out"):
            grad(out)
    with raises((TypeError, ValueError), "out"):
        grad(np.ma.masked_array(np.empty_like(X)))
    with raises(ValueError, "out"):
        grad(np.lib.stride_tricks.as_strided(np.empty(3, np.float32), (4, 3), (0, 4)))
    with raises(ValueError, "out", "share"):
        grad(np.lib.stride_tricks.as_strided(np.empty(9, np.float32), (4, 3), (8, 4)))
    # Integers are taken as float64: their gradient fits no integer array.
    with raises((TypeError, ValueError), "out", "float64"):
        grad(np.empty((4, 3), np.int64), np.zeros((4, 3), np.int64))


def test_out_that_overlaps(path):
    def grad(x, t, out, **more):
        return celoss.cross_entropy_with_grad(x, t, out=out, **more)

    memory = np.zeros((5, 3), np.float32)
    with raises(ValueError, "out", "overlaps", "logits"):
        grad(memory[:4], T, memory[1:])
    with raises(ValueError, "out", "overlaps", "logits"):
        grad(memory[1:], T, memory[:4])
    square = np.zeros((3, 3), np.float32)
    with raises(ValueError, "out", "overlaps", "logits"):
        grad(square, T[:3], square.T)
    with raises(ValueError, "out", "overlaps", "logits"):
        grad(square, T[:3], square[::-1])
    grad(square, T[:3], square)  # the same array, in place
    grad(square, T[:3], square[:])

    x = np.zeros((4, 2))
    bits = np.zeros((4, 2), np.int64)
    with raises(ValueError, "out", "overlaps", "target"):
        grad(x, bits[:, 0], bits.view(np.float64))
    with raises(ValueError, "out", "overlaps", "target"):
        grad(x, bits.reshape(-1)[:4], bits.view(np.float64))
    q = np.zeros((4, 2))
    with raises(ValueError, "out", "overlaps", "target"):
        grad(x, q, q)
    for target in (bits[:, 0], np.zeros(4, np.int64)):
        with raises(ValueError, "out", "overlaps", "weight"):
            grad(x, target, q, weight=q[1])
    with raises(ValueError, "out", "overlaps", "sample_weight"):
        grad(x, bits[:, 0], q, sample_weight=q[:, 1])
    with raises(ValueError, "out", "overlaps", "grad_output"):
        grad(x, bits[:, 0], q, grad_output=q[:, 1], reduction="none")
    grad(x, bits[:, 0], np.zeros((4, 4))[:, ::2])
    both = np.zeros((4, 4))
    grad(both[:, ::2], bits[:, 0], both[:, 1::2])  # interleaved, apart


def test_hess_out_and_vector_of_no_use(path):
    def hess(hess_out, x=X, **more):
        return celoss.cross_entropy_with_grad_hess(x, T, hess_out=hess_out, **more)

    for bad in (np.empty((4, 3)), np.empty((3, 4), np.float32), np.empty(12, np.float32), readonly(), [[0.0] * 3] * 4):
        with raises((TypeError, ValueError), "hess_out"):
            hess(bad)
        with raises((TypeError, ValueError), "hess_out"):
            celoss.binary_cross_entropy_with_grad_hess(X, X > 0, hess_out=bad)
    for shape in [(3, 4), (12,), (4, 4), (4,), (4, 3, 1), (1, 4, 3), (5, 3), ()]:
        for vector in (np.zeros(shape, np.float32), np.zeros(shape).tolist()):
            with raises(ValueError, "vector", str(shape), "(4, 3)"):
                celoss.cross_entropy_hessp(X, T, vector)
            with raises(ValueError, "vector", str(shape), "(4, 3)"):
                celoss.binary_cross_entropy_hessp(X, X > 0, vector)


@pytest.mark.parametrize("binary", [False, True], ids=["rows", "scores"])
def test_results_of_second_derivatives_that_overlap(binary, path):
    """Each result may take the logits' place; neither may lie on the other one, or on anything else that is given."""
    hess = celoss.binary_cross_entropy_with_grad_hess if binary else celoss.cross_entropy_with_grad_hess
    product = celoss.binary_cross_entropy_hessp if binary else celoss.cross_entropy_hessp
    memory, target = np.zeros((5, 3), np.float32), X > 0 if binary else T
    for overlapping in (memory[1:], memory[:4]):
        with raises(ValueError, "hess_out", "overlaps", "out"):
            hess(X, target, out=memory[:4], hess_out=overlapping)
        with raises(ValueError, "out", "overlaps", "vector"):
            product(X, target, memory[:4], out=overlapping)
    with raises(ValueError, "hess_out", "overlaps", "logits"):
        hess(memory[:4], target, hess_out=memory[1:])
    with raises(ValueError, "hess_out", "overlaps", "out"):
        hess(memory[:4], target, out=memory[:4], hess_out=memory[:4])
    q = np.zeros((4, 3), np.float32)
    with raises(ValueError, "hess_out", "overlaps", "target"):
        hess(X, q, hess_out=q)
    name = "weight" if binary else "sample_weight"
    with raises(ValueError, "hess_out", "overlaps", name):
        hess(X, target, hess_out=q, **{name: q[:, :1] if binary else q[:, 0]})
    with raises(ValueError, "hess_out", "overlaps", "grad_output"):
        hess(X, target, hess_out=q, reduction="none", grad_output=q if binary else q[:, 0])
    # The vector may be the logits, and the product take their place where it is not.
    np.testing.assert_array_equal(product(X, target, X), product(X, target, X.copy()))
    x = X.copy()
    assert product(x, target, X, out=x) is x
    np.testing.assert_array_equal(x, product(X, target, X))
    with raises(ValueError, "out", "overlaps", "vector"):
        product(x, target, x, out=x)


def test_out_that_overlaps_a_list_or_a_view_of_an_input():
    """Objects that hand out an array are inputs as well."""

    class HasArray:
        def __init__(self, value):
            self.value = value

        def __array__(self, dtype=None, copy=None):
            return self.value

    memory = np.zeros((5, 3), np.float32)
    with raises(ValueError, "out", "overlaps", "logits"):
        celoss.cross_entropy_with_grad(HasArray(memory[:4]), T, out=memory[1:])
    bits = np.zeros((4, 2), np.int64)
    with raises(ValueError, "out", "overlaps", "target"):
        celoss.cross_entropy_with_grad(np.zeros((4, 2)), HasArray(bits[:, 0]), out=bits.view(np.float64))


def test_in_place_through_another_byte_order_is_refused():
    """Such logits are converted first; the gradient could not be theirs."""
    x = X.astype(X.dtype.newbyteorder())
    with raises((TypeError, ValueError), "out"):
        celoss.cross_entropy_with_grad(x, T, out=x)


# ---- every argument of every function ------------------------------------------------------------------------------------------


class Lazy:
    """What Dask calls a collection."""

    def __dask_graph__(self):
        return {}

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("gathered")


class LazyFrame:
    """What polars calls a query that has not run."""

    def collect(self):
        raise AssertionError("gathered")


def sparse(a):
    return pytest.importorskip("scipy.sparse", reason="SciPy is not installed").coo_array(np.atleast_2d(a))


def with_missing(a):
    a = a.astype(object)
    a.flat[0] = None
    return a


# What people pass in place of an array, and what a message has to say beside the argument's name.
NO_ARRAYS = {
    "strings": (lambda a: a.astype(str), ["strings", "np."]),
    "bytes": (lambda a: a.astype("S"), ["strings", "np."]),
    "objects": (lambda a: a.astype(object), ["object", "np.asarray"]),
    "objects that are strings": (lambda a: a.astype(str).astype(object), ["object", "strings", "np."]),
    "missing values": (with_missing, ["object", "missing values", ""]),
    "masked": (np.ma.masked_array, ["masked", "pass "]),
    "sparse": (sparse, ["sparse", ".toarray()"]),
    "a dict": (lambda a: dict(enumerate(a.tolist())), ["dict", "pass "]),
    "lazy": (lambda a: Lazy(), ["Dask", ".compute()"]),
    "a query": (lambda a: LazyFrame(), ["LazyFrame", ".collect()"]),
    "ragged": (lambda a: [[1.0, 2.0], [1.0]], ["lists of different lengths", "pad them"]),
    "complex": (lambda a: a.astype(complex), ["complex128"]),
    "long double": (lambda a: a.astype(np.longdouble), ["float"]),
    "dates": (lambda a: a.astype(np.int64).astype("M8[s]"), ["datetime64"]),
}


def arguments_of(name):
    """A call of the function without anything wrong: its arrays by name."""
    function = FUNCTIONS_OF_CELOSS[name]
    a = _checks.arrays(X + np.arange(3, dtype=np.float32), T)
    if function.kind == "back of rows":
        first, second = list(inspect.signature(getattr(celoss, name)).parameters)[:2]
        return {first: a.probabilities, second: a.logits}
    if function.kind == "divergence of rows":
        given = {"logits": a.logits, "reference_logits": a.vector}
    else:
        positional = ["logits", "target", "vector"] if function.has_target or function.kind == "statistics of rows" else ["x"]
        given = dict(zip(positional, (a.logits, a.indices if function.of_rows else a.labels, a.vector), strict=False))
    if function.is_loss or function.kind == "statistics of rows":
        del given["vector"]
    for option, entry in function.options.items():
        if isinstance(entry.example(a), np.ndarray) and option != "ignore_index":
            given[option] = entry.example(a)
    if "grad_output" in given:
        given["reduction"] = "none"
    return given


@pytest.mark.parametrize("kind", NO_ARRAYS)
@pytest.mark.parametrize("name", FUNCTIONS_OF_CELOSS)
def test_what_is_no_array_of_numbers(name, kind):
    """Of every argument: a TypeError that names it, what it is, and what to pass instead."""
    function, arguments = getattr(celoss, name), arguments_of(name)
    function(**arguments)
    make, words = NO_ARRAYS[kind]
    if kind == "long double" and np.finfo(np.longdouble).nmant == 52:
        pytest.skip("long double is float64 here")
    for argument, value in arguments.items():
        scores = ("logits", "x", "target", "vector", "reference_logits")
        if argument == "reduction" or (kind == "long double" and argument not in scores):
            continue
        with raises(TypeError, *words) as error:
            function(**arguments | {argument: make(value)})
        assert str(error.value).startswith(f"{argument} "), argument


@pytest.mark.parametrize("name", [name for name in FUNCTIONS_OF_CELOSS if "out" in FUNCTIONS_OF_CELOSS[name].options])
def test_out_that_is_no_array_of_numbers(name):
    function, arguments = getattr(celoss, name), arguments_of(name)
    for make, _ in NO_ARRAYS.values():
        with pytest.raises((TypeError, ValueError), match=r"^out "):
            function(**arguments, out=make(np.zeros((4, 3), np.float32)))


@pytest.mark.parametrize("name", FUNCTIONS_OF_CELOSS)
def test_nothing_is_no_array(name):
    arguments = arguments_of(name)
    for argument, parameter in inspect.signature(getattr(celoss, name)).parameters.items():
        if parameter.default is parameter.empty:
            with raises(TypeError, f"{argument} is None"):
                getattr(celoss, name)(**arguments | {argument: None})


def test_the_remedy_is_one():
    """What the messages name is taken, and is what was meant."""
    masked_classes = np.ma.masked_array(X, X == 0) + 1
    masked_classes.mask[:, :2] = False
    expected = celoss.cross_entropy(np.where(masked_classes.mask, -np.inf, 1), [0, 1, 0, 1])
    assert celoss.cross_entropy(masked_classes.filled(-np.inf), [0, 1, 0, 1]) == expected == pytest.approx(np.log(2))
    for weight in (np.ma.masked_array([1.0, 2.0, 3.0], [True, False, False]).filled(0), np.asarray(["0", "2", "3"], np.float64)):
        assert celoss.cross_entropy(X, T, weight=weight) == celoss.cross_entropy(X, T, weight=[0, 2, 3])
    objects = np.array([[1.0, None]], object)
    assert np.isnan(celoss.softmax(np.asarray(objects, np.float64))).all()


def test_one_class_and_probabilities_warn_of_it():
    """Once for each call, for every loss of several classes; not where there is no row, and not of class indices."""
    for name, function in FUNCTIONS_OF_CELOSS.items():
        if function.is_loss and function.of_rows:
            with pytest.warns(
                UserWarning, match=r"logits of shape \(4, 1\) have one class along axis 1.* binary_cross_entropy"
            ) as found:
                getattr(celoss, name)(np.zeros((4, 1)), np.ones((4, 1)))
            assert len(found) == 1 and found[0].filename == __file__
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                getattr(celoss, name)(np.zeros((4, 1)), np.zeros(4, int))
                getattr(celoss, name)(np.zeros((0, 1)), np.ones((0, 1)))
