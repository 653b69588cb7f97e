"""softmax, log_softmax, logsumexp, sigmoid and log_sigmoid: exact values, layouts, threads, special values, errors."""

import ml_dtypes
import numpy as np
import pytest
import truth
from tolerances import ulp

import celoss
from celoss import reference
from celoss._checks import FUNCTIONS

INF, NAN = np.inf, np.nan
ROWS = [name for name, function in FUNCTIONS.items() if function.kind == "activation of rows"]
ELEMENTS = [name for name, function in FUNCTIONS.items() if function.kind == "activation of scores"]
WITH_OUT = [name for name in [*ROWS, *ELEMENTS] if "out" in FUNCTIONS[name].options]
DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]
LONG = 70_001  # so many classes, in a few rows, are cut into pieces
CLASS_COUNTS = [*range(1, 36), 63, 64, 65, 81, 82, 127, 128, 129, 257, 1000, 1001, 5000]


def rows_that_hurt(classes, dtype):
    rng = np.random.default_rng(classes)
    rows = [sigma * rng.standard_normal(classes) for sigma in (0.01, 1, 3, 10, 30, 300)]
    rows += [offset + 3 * rng.standard_normal(classes) for offset in (1e3, -1e4, 1e6)]
    for margin in (5, 10, 17, 25, 40):
        row = rng.standard_normal(classes)
        row[rng.integers(classes)] += margin
        rows.append(row)
    rows += [np.full(classes, 2.5), np.where(rng.random(classes) < 0.5, 1.0, -INF)]
    rows[-1][0] = 0.5
    return np.array(rows).astype(dtype)


def scores_that_hurt(dtype):
    rng = np.random.default_rng(0)
    big = 87 if dtype == np.float32 else 708
    tiny = 10.0 ** rng.uniform(-30, 0, 5000) * rng.choice([-1, 1], 5000)
    special = [0.0, -0.0, 0.5, -0.5, 17, -17, 40, -40, big, -big]
    return np.concatenate([rng.uniform(-big, big, 20000), rng.normal(0, 2, 20000), tiny, special]).astype(dtype)


def exact_sigmoid(z):
    """sigma(z), sigma(-z), -log sigma(z), -log sigma(-z) in long double."""
    z = np.asarray(z).astype(truth.real)
    e = np.exp(-np.abs(z))
    t, u, log = e / (1 + e), 1 / (1 + e), np.log1p(e)
    return np.where(z > 0, u, t), np.where(z > 0, t, u), np.maximum(-z, 0) + log, np.maximum(z, 0) + log


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [*CLASS_COUNTS, LONG])
def test_rows_are_exact(classes, dtype, level):
    x = rows_that_hurt(classes, dtype)[: 15 if classes == LONG else None]
    p, _, nll = truth.softmax(x)
    most = ulp("activation", x.dtype)
    truth.assert_ulp(celoss.softmax(x), p, most)
    truth.assert_ulp(celoss.log_softmax(x), -nll, most)
    m = x.max(axis=1)
    lse = m.astype(truth.real) + nll.min(axis=1)
    # m + log(1 + r) may cancel: the unit is that of the larger term
    truth.assert_ulp(celoss.logsumexp(x), lse, most, scale=np.maximum(np.abs(lse), np.abs(m)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_are_exact(dtype, level):
    z = scores_that_hurt(dtype)
    p, _, softplus, _ = exact_sigmoid(z)
    truth.assert_ulp(celoss.sigmoid(z), p, ulp("activation", z.dtype))
    truth.assert_ulp(celoss.log_sigmoid(z), -softplus, ulp("activation", z.dtype))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 1023, 1024, 1025, 32769])
@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_number_of_scores(dtype, name, n, level):
    """Nothing is read or written outside: the neighbours of the result keep their values."""
    z = np.linspace(-9, 9, n).astype(dtype)
    memory = np.full(n + 32, 7, dtype)
    result = getattr(celoss, name)(z, out=memory[16 : 16 + n])
    np.testing.assert_allclose(result, getattr(reference, name)(z), rtol=4 * np.finfo(dtype).eps)
    assert (memory[:16] == 7).all() and (memory[16 + n :] == 7).all()


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 31, 32, 33, 64, 1000])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nothing_is_written_beside_the_result(dtype, name, classes, level):
    x = np.random.default_rng(0).standard_normal((17, classes)).astype(dtype)
    memory = np.full((17, classes + 40), 7, dtype)
    out = memory[:, 20 : 20 + classes]
    assert getattr(celoss, name)(x, out=out) is out
    np.testing.assert_array_equal(out, getattr(celoss, name)(x))
    assert (memory[:, :20] == 7).all() and (memory[:, 20 + classes :] == 7).all()


@pytest.mark.parametrize("name", [*ROWS, *ELEMENTS])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ">f4", ">f8", np.int8, bool])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (3, 40), (2, 3, 4), (2, 40, 5)])
def test_agrees_with_reference(shape, dtype, name, level):
    x = (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    function, oracle = getattr(celoss, name), getattr(reference, name)
    for axis in range(-len(shape), len(shape)) if name in ROWS else [None]:
        options = {} if axis is None else {"axis": axis}
        got, expected = function(x, **options), oracle(x, **options)
        assert isinstance(got, np.ndarray if expected.ndim else np.generic)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        eps = float(ml_dtypes.finfo(got.dtype).eps)
        np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), rtol=4 * eps, atol=2 * eps)
    if name == "logsumexp":
        assert function(x, axis=0, keepdims=True).shape == (1, *shape[1:])


@pytest.mark.parametrize("name", [*ROWS, *ELEMENTS])
def test_half_is_the_rounded_float32(name, level):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x = (4 * np.random.default_rng(0).standard_normal((30, 37))).astype(dtype)
        wide = getattr(celoss, name)(x.astype(np.float32))
        got = getattr(celoss, name)(x)
        np.testing.assert_array_equal(got, wide if name == "logsumexp" else wide.astype(dtype))


def layouts(a):
    yield a.copy(order="F")
    yield a[::-1, ::-1].copy()[::-1, ::-1]
    wide = np.zeros((2 * a.shape[0], 3 * a.shape[1]), a.dtype)
    wide[::2, ::3] = a
    yield wide[::2, ::3]
    memory = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    memory[...] = a
    yield memory
    yield a.astype(a.dtype.newbyteorder())
    yield np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape)  # read-only


@pytest.mark.parametrize("name", [*ROWS, *ELEMENTS])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 5), (33, 40), (50, 300), (2, LONG)])
def test_any_layout_gives_the_same_bits(shape, dtype, name, level):
    x = (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    function = getattr(celoss, name)
    expected = function(x)
    for view in layouts(x):
        np.testing.assert_array_equal(function(view), expected)
    if name in ROWS:
        np.testing.assert_array_equal(function(np.ascontiguousarray(x.T), axis=0), expected.T)
    one = np.broadcast_to(x[:1], shape)
    np.testing.assert_array_equal(function(one), np.broadcast_to(expected[:1], expected.shape))


@pytest.mark.parametrize("name", WITH_OUT)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 5), (33, 40), (2, LONG)])
def test_out(shape, dtype, name, level):
    x = (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    function = getattr(celoss, name)
    expected = function(x)
    for out in (
        np.empty_like(x),
        np.empty_like(x, order="F"),
        np.zeros((2 * shape[0], 2 * shape[1]), dtype)[::2, ::2],
    ):
        assert function(x, out=out) is out
        np.testing.assert_array_equal(out, expected)
    for view in (x.copy(), x.copy(order="F"), x[:, ::-1].copy()[:, ::-1]):
        assert function(view, out=view) is view
        np.testing.assert_array_equal(view, expected)


@pytest.mark.parametrize("name", [*ROWS, *ELEMENTS])
@pytest.mark.parametrize("shape", [(40000, 10), (5000, 100), (70, 10000), (2, 300001), (20, 300001)])
def test_threads_change_nothing(shape, name, keep_num_threads):
    x = (3 * np.random.default_rng(0).standard_normal(shape, np.float32)).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        celoss.set_num_threads(threads)
        results.append(getattr(celoss, name)(x))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("classes", [2, 3, 16, 33, 200, LONG])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_special_values_of_rows(dtype, classes, level):
    x = np.zeros((7, classes), dtype)
    x[0] = -INF
    x[1, -1] = INF
    x[2, 0] = NAN
    x[3, :-1] = -INF
    x[3, -1] = 3
    x[4, 0], x[4, -1] = NAN, INF
    x[5] = -INF
    x[5, -1] = NAN
    with np.errstate(all="raise"):
        p, log_p, total = celoss.softmax(x), celoss.log_softmax(x), celoss.logsumexp(x)
    one = np.zeros(classes)
    one[-1] = 1
    for row in (0, 1, 2, 4, 5):
        assert np.isnan(p[row]).all() and np.isnan(log_p[row]).all()
    np.testing.assert_array_equal(p[3], one)
    np.testing.assert_array_equal(log_p[3], np.where(one == 1, 0, -INF))
    np.testing.assert_allclose(p[6].astype(float), 1 / classes, rtol=1e-3, atol=np.finfo(dtype).tiny / 2)
    np.testing.assert_array_equal(total[:6], [-INF, INF, NAN, 3, NAN, NAN])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_special_values_of_scores(dtype, level):
    big = np.finfo(dtype).max
    z = np.array([INF, -INF, NAN, 0.0, -0.0, big, -big] * 5, dtype)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(celoss.sigmoid(z)[:7], np.array([1, 0, NAN, 0.5, 0.5, 1, 0], dtype))
        np.testing.assert_array_equal(celoss.log_sigmoid(z)[[0, 1, 2, 5, 6]], np.array([0, -INF, NAN, 0, -big], dtype))


def test_extreme_scores_overflow_nothing(level):
    for dtype in (np.float32, np.float64):
        big = np.finfo(dtype).max
        np.testing.assert_array_equal(celoss.softmax(np.array([big, -big])), [1, 0])
        np.testing.assert_array_equal(celoss.logsumexp(np.array([big, -big], dtype)), big)


@pytest.mark.parametrize("name", [*ROWS, *ELEMENTS])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2), (0, 0)])
def test_empty(shape, name):
    result = getattr(celoss, name)(np.empty(shape, np.float32))
    assert result.shape == (shape[:-1] if name == "logsumexp" else shape) and result.dtype == np.float32


@pytest.mark.parametrize("name", ROWS)
def test_errors_of_rows(name):
    function = getattr(celoss, name)
    with pytest.raises(np.exceptions.AxisError, match="no dimension"):
        function(1.0)
    for axis in (2, -3, (0, 2), (-3,)):
        with pytest.raises(np.exceptions.AxisError, match=r"axis (2|-3) is out of range for x with 2 dimensions"):
            function(np.zeros((2, 3)), axis=axis)
    for axis in (1.0, "0", [0], (0, 1.0), (None,)):
        with pytest.raises(TypeError, match=r"axis must be an integer, a tuple of integers or None, got "):
            function(np.zeros((2, 3)), axis=axis)
    for axis in ((0, 0), (1, -1)):
        with pytest.raises(ValueError, match="twice"):
            function(np.zeros((2, 3)), axis=axis)


@pytest.mark.parametrize("name", [*ROWS, *ELEMENTS])
@pytest.mark.parametrize("x", [np.zeros(2, complex), np.array(["a"]), np.array([None]), np.zeros(2, "M8[s]")], ids=str)
def test_dtypes_that_cannot_work(x, name):
    with pytest.raises(TypeError, match="x has dtype"):
        getattr(celoss, name)(x)


@pytest.mark.parametrize("name", WITH_OUT)
def test_errors_of_out(name):
    function, x = getattr(celoss, name), np.zeros((4, 3))
    with pytest.raises(ValueError, match="expected float64 of shape"):
        function(x, out=np.zeros((3, 4)))
    with pytest.raises(ValueError, match="expected float64 of shape"):
        function(x, out=np.zeros((4, 3), np.float32))
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        function(x, out=[0.0])
    memory = np.zeros(13)
    with pytest.raises(ValueError, match="overlaps x"):
        function(memory[:12].reshape(4, 3), out=memory[1:].reshape(4, 3))
    memory.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        function(x, out=memory[:12].reshape(4, 3))
    with pytest.raises(ValueError, match="share memory"):
        function(x, out=np.lib.stride_tricks.as_strided(np.zeros(3), (4, 3), (0, 8)))


# ---- several axes ------------------------------------------------------------------------------------------------------------

AXES = [None, (), (0,), (2,), (0, 1), (1, 2), (0, 2), (0, -1), (-1, 0), (2, 0, 1), 1]


def of_one_axis(name, x, axes, keepdims=False):
    """What several axes mean: the result of one axis, along which their elements lie, put back."""
    axes = tuple(range(x.ndim)) if axes is None else axes if isinstance(axes, tuple) else (axes,)
    axes = sorted(a % x.ndim for a in axes)
    kept = [a for a in range(x.ndim) if a not in axes]
    moved = x.transpose(*kept, *axes)
    rows = moved.shape[: len(kept)]
    result = getattr(celoss, name)(np.ascontiguousarray(moved).reshape(*rows, int(np.prod(moved.shape[len(kept) :], dtype=int))))
    if name == "logsumexp":
        return np.expand_dims(result, axes) if keepdims else result
    return np.moveaxis(np.reshape(result, moved.shape), range(len(kept), x.ndim), axes)


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ">f4", np.int8])
def test_several_axes(dtype, name, axis, level):
    x = (3 * np.random.default_rng(0).standard_normal((4, 5, 6))).astype(dtype)
    for view in (x, x.copy(order="F"), x[::-1, ::2, 1:], x.transpose(1, 2, 0)):
        expected = of_one_axis(name, view, axis)
        got = getattr(celoss, name)(view, axis=axis)
        oracle = getattr(reference, name)(view, axis=axis)
        assert type(got) is type(oracle) and (got.dtype, got.shape) == (oracle.dtype, oracle.shape)
        np.testing.assert_array_equal(got, expected)
        eps = float(ml_dtypes.finfo(got.dtype).eps)
        np.testing.assert_allclose(got.astype(np.float64), oracle.astype(np.float64), rtol=4 * eps, atol=2 * eps)
        if name == "logsumexp":
            got = celoss.logsumexp(view, axis=axis, keepdims=True)
            assert got.shape == reference.logsumexp(view, axis=axis, keepdims=True).shape
            np.testing.assert_array_equal(got, of_one_axis(name, view, axis, keepdims=True))


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_several_axes_into_out(dtype, name, axis):
    """Written in place where the strides allow it, and through a copy where they do not; never beside `out`."""
    x = (3 * np.random.default_rng(0).standard_normal((4, 5, 6))).astype(dtype)
    function = getattr(celoss, name)
    expected = function(x, axis=axis)
    assert expected.flags.c_contiguous
    memory = np.full((4, 10, 7), 7, dtype)
    for out in (np.zeros_like(x), np.zeros((6, 5, 4), dtype).T, memory[:, ::2, :6]):
        assert function(x, axis=axis, out=out) is out
        np.testing.assert_array_equal(out, expected)
    memory[:, ::2, :6] = 7
    assert (memory == 7).all(), "written beside out"
    for view in (x.copy(), x.copy(order="F"), x[:, ::-1].copy()[:, ::-1]):
        assert function(view, axis=axis, out=view) is view
        np.testing.assert_array_equal(view, expected)
    assert getattr(reference, name)(x, axis=axis, out=out) is out


@pytest.mark.parametrize("name", ROWS)
def test_order_of_the_axes(name, level):
    """However the axes are named, the bits are the same."""
    x = 3 * np.random.default_rng(0).standard_normal((30, 200, 40))
    expected = getattr(celoss, name)(x, axis=(0, 2))
    for axis in [(2, 0), (-1, 0), (-3, 2)]:
        np.testing.assert_array_equal(getattr(celoss, name)(x, axis=axis), expected)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), (2, 0, 3)])
def test_several_axes_of_nothing(shape):
    x = np.zeros(shape, np.float32)
    for axis in [None, (0,), tuple(range(len(shape)))]:
        for name in ("softmax", "log_softmax"):
            assert getattr(celoss, name)(x, axis=axis).shape == shape
        for module in (celoss, reference):
            result = module.logsumexp(x, axis=axis)
            assert result.dtype == np.float32 and (np.asarray(result) == -INF).all()
            assert result.shape == (shape[1:] if axis == (0,) else ())


@pytest.mark.parametrize("axis", [None, (0, 1), (0, 2), 1], ids=str)
def test_several_axes_are_those_of_scipy(axis):
    special = pytest.importorskip("scipy.special", reason="SciPy is not installed")
    x = 3 * np.random.default_rng(0).standard_normal((4, 5, 6))
    for name in ROWS:
        np.testing.assert_allclose(getattr(celoss, name)(x, axis=axis), getattr(special, name)(x, axis=axis), rtol=1e-13)
    assert celoss.softmax(3.0, axis=None) == special.softmax(3.0, axis=None) == 1
    assert celoss.logsumexp(3.0, axis=None) == celoss.logsumexp(3.0, axis=()) == 3
    for axis in ((0, 3), (-4,)):
        for module in (celoss, special):
            with pytest.raises(np.exceptions.AxisError):
                module.softmax(x, axis=axis)
    for module in (celoss, special):
        with pytest.raises(ValueError):
            module.logsumexp(x, axis=(0, -3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 3, 24, 200, LONG])
def test_a_maximum_without_others_has_the_probability_1(classes, dtype, level):
    """Exactly: the exponential and the sum round, and not their quotient."""
    rng = np.random.default_rng(classes)
    x = np.full((3 if classes == LONG else 500, classes), -4000, dtype)
    rows = np.arange(len(x))
    best = rng.integers(0, classes, len(x))
    for offset in (0, 1000, -1000):
        x[rows, best] = offset + rng.uniform(-3, 3, len(x))
        exact = np.zeros(x.shape, dtype)
        exact[rows, best] = 1
        np.testing.assert_array_equal(celoss.softmax(x), exact)
        assert not celoss.log_softmax(x)[rows, best].any()
        np.testing.assert_array_equal(celoss.logsumexp(x), x.max(axis=1))
