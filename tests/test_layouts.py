"""Any memory layout, any number of threads, any way to hand an array over: the same bits."""

import itertools

import numpy as np
import pytest

import celoss

DTYPES = [np.float32, np.float64, np.float16]


def problem(shape, axis, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    rows = np.moveaxis(x, axis, -1).shape[:-1]
    target = rng.integers(0, shape[axis], rows)
    if target.size:
        target.flat[target.size // 2] = -100
    return x, target


def same(got, expected):
    """Loss and gradient, bit for bit."""
    np.testing.assert_array_equal(got[0], expected[0])
    assert got[1].dtype == expected[1].dtype and got[1].shape == expected[1].shape
    np.testing.assert_array_equal(got[1], expected[1])


def unaligned(a):
    """A copy of `a` one byte off any alignment."""
    memory = np.empty(a.nbytes + 1, np.uint8)
    copy = memory[1:].view(a.dtype).reshape(a.shape)
    copy[...] = a
    assert a.itemsize == 1 or not copy.flags.aligned
    return copy


def layouts(a):
    """Arrays equal to `a` in other layouts: (what, array)."""
    yield "Fortran", a.copy(order="F")
    for axis in range(a.ndim):
        flip = tuple(slice(None, None, -1) if d == axis else slice(None) for d in range(a.ndim))
        yield f"reversed along {axis}", a[flip].copy()[flip]
        every = tuple(slice(None, None, 3) if d == axis else slice(None) for d in range(a.ndim))
        wide = np.zeros(tuple(3 * n if d == axis else n for d, n in enumerate(a.shape)), a.dtype)
        wide[every] = a
        yield f"every third along {axis}", wide[every]
    yield "unaligned", unaligned(a)
    yield "unaligned Fortran", unaligned(a.T.copy()).T
    yield "other byte order", a.astype(a.dtype.newbyteorder())
    readonly = a.copy()
    readonly.flags.writeable = False
    yield "read-only", readonly
    fields = np.zeros(a.shape, [("a", "u1"), ("x", a.dtype), ("b", "u1")])
    fields["x"] = a
    yield "field of records", fields["x"]
    for order in itertools.permutations(range(a.ndim)):
        yield f"memory order {order}", a.transpose(order).copy().transpose(np.argsort(order))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((40, 10), 1),
        ((40, 10), 0),
        ((9, 70), 1),
        ((70, 9), 0),
        ((3, 5, 7), 1),
        ((3, 40, 7), 1),
        ((6, 4, 33), -1),
        ((2, 3, 4, 5), 2),
    ],
)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "reduction": "none"}], ids=["plain", "options"])
def test_strides(shape, axis, dtype, options, level):
    x, target = problem(shape, axis, dtype)
    expected = celoss.cross_entropy_with_grad(x, target, axis=axis, **options)
    for what, other in layouts(x):
        try:
            same(celoss.cross_entropy_with_grad(other, target, axis=axis, **options), expected)
            np.testing.assert_array_equal(celoss.cross_entropy(other, target, axis=axis, **options), expected[0])
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None
        np.testing.assert_array_equal(other, x)  # never written to
    for what, other in layouts(target):
        try:
            same(celoss.cross_entropy_with_grad(x, other, axis=axis, **options), expected)
        except AssertionError as error:
            raise AssertionError(f"target {what}: {error}") from None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), [((20, 10), 1), ((9, 70), 1), ((3, 40, 7), 1), ((6, 4, 33), 2)])
def test_strides_of_probabilities(shape, axis, dtype, level):
    x, _ = problem(shape, axis, dtype)
    q = np.random.default_rng(1).uniform(0, 1, shape).astype(dtype)
    expected = celoss.cross_entropy_with_grad(x, q, axis=axis)
    for (what, other_x), (other_what, other_q) in zip(layouts(x), reversed(list(layouts(q))), strict=True):
        try:
            same(celoss.cross_entropy_with_grad(other_x, other_q, axis=axis), expected)
        except AssertionError as error:
            raise AssertionError(f"{what}, {other_what}: {error}") from None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), [((40, 10), 1), ((40, 10), 0), ((9, 70), 1), ((3, 5, 7), 1), ((6, 4, 33), 2)])
def test_out_in_any_layout(shape, axis, dtype, level):
    x, target = problem(shape, axis, dtype)
    expected = celoss.cross_entropy_with_grad(x, target, axis=axis)
    for what, other in layouts(x):
        if what in ("read-only", "other byte order"):
            continue
        out = other  # its layout; the values are overwritten
        got = celoss.cross_entropy_with_grad(x, target, axis=axis, out=out)
        assert got[1] is out
        try:
            same(got, expected)
        except AssertionError as error:
            raise AssertionError(f"out {what}: {error}") from None
    for what, other in layouts(x):
        if what in ("read-only", "other byte order"):
            continue
        got = celoss.cross_entropy_with_grad(other, target, axis=axis, out=other)  # in place
        assert got[1] is other
        try:
            same(got, expected)
        except AssertionError as error:
            raise AssertionError(f"in place, {what}: {error}") from None


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_leaves_its_neighbours_alone(dtype, level):
    """Nothing is written between the rows or beside the classes of a strided `out`."""
    for classes in (*range(1, 40), 63, 64, 65, 255, 257):
        memory = np.full((9, classes + 4), 7, dtype)
        x, target = problem((9, classes), 1, dtype)
        _, expected = celoss.cross_entropy_with_grad(x, target)
        _, grad = celoss.cross_entropy_with_grad(x, target, out=memory[:, 2:-2])
        np.testing.assert_array_equal(grad, expected)
        assert (memory[:, :2] == 7).all() and (memory[:, -2:] == 7).all()
        memory = np.full((classes + 4, 9), 7, dtype)
        _, grad = celoss.cross_entropy_with_grad(x.T, target, axis=0, out=memory[2:-2])
        np.testing.assert_array_equal(grad, expected.T)
        assert (memory[:2] == 7).all() and (memory[-2:] == 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_beyond_the_array_is_read(dtype, level):
    """NaN all around a row changes nothing."""
    for classes in (*range(1, 70), 81, 82, 127, 255, 257, 1000):
        memory = np.full((5, classes + 32), np.nan, dtype)
        x, target = problem((5, classes), 1, dtype)
        memory[:, 16:-16] = x
        same(celoss.cross_entropy_with_grad(memory[:, 16:-16], target), celoss.cross_entropy_with_grad(x, target))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((1, 1_000_003), 1), ((65_536, 3), 1), ((3000, 257), 1), ((700, 1000), 1), ((5, 300, 700), 1), ((3, 150_000), 1)],
    ids=str,
)
def test_threads_do_not_change_a_bit(shape, axis, dtype, level):
    x, target = problem(shape, axis, dtype)
    if shape[0] == 1:
        target[:] = 17
    for options in ({}, {"reduction": "none"}, {"label_smoothing": 0.1}):
        expected = celoss.cross_entropy_with_grad(x, target, axis=axis, n_threads=1, **options)
        for n in (2, 3, 8):
            same(celoss.cross_entropy_with_grad(x, target, axis=axis, n_threads=n, **options), expected)
            np.testing.assert_array_equal(celoss.cross_entropy(x, target, axis=axis, n_threads=n, **options), expected[0])
    weight = np.random.default_rng(1).uniform(0, 2, shape[axis])
    expected = celoss.cross_entropy_with_grad(x, target, axis=axis, weight=weight, n_threads=1)
    same(celoss.cross_entropy_with_grad(x, target, axis=axis, weight=weight, n_threads=8), expected)
    expected = celoss.cross_entropy_with_grad(x, target, axis=axis, n_threads=1)
    same(celoss.cross_entropy_with_grad(x, target, axis=axis, out=x, n_threads=3), expected)


@pytest.mark.parametrize(("shape", "axis"), [((65_536, 3), 1), ((700, 1000), 1), ((2, 300_001), 1)], ids=str)
def test_setting_of_threads_does_not_change_a_bit(shape, axis, keep_num_threads):
    x, target = problem(shape, axis, np.float32)
    celoss.set_num_threads(1)
    expected = celoss.cross_entropy_with_grad(x, target)
    for n in (2, 3, 8):
        celoss.set_num_threads(n)
        same(celoss.cross_entropy_with_grad(x, target), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 32, 33, 257, 1000])
def test_batch_split_does_not_change_a_row(classes, dtype, level):
    x, target = problem((301, classes), 1, dtype)
    loss, grad = celoss.cross_entropy_with_grad(x, target, reduction="none")
    for first in (0, 1, 15, 16, 17, 255, 256, 300):
        for last in (first + 1, 301):
            part = slice(first, last)
            got = celoss.cross_entropy_with_grad(x[part], target[part], reduction="none")
            same(got, (loss[part], grad[part]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 3, 40])
def test_axis_and_dimensions(classes, dtype, level):
    """Every axis of up to five dimensions gives the bits of the rows in two."""
    for ndim in (1, 2, 3, 4, 5):
        for axis in range(-ndim, ndim):
            shape = [2, 3, 1, 4, 2][:ndim]
            shape[axis] = classes
            x, target = problem(shape, axis, dtype)
            rows = np.ascontiguousarray(np.moveaxis(x, axis, -1)).reshape(-1, classes)
            loss, grad = celoss.cross_entropy_with_grad(rows, target.reshape(-1), reduction="none")
            got = celoss.cross_entropy_with_grad(x, target, axis=axis, reduction="none")
            rows_shape = target.shape
            same(got, (loss.reshape(rows_shape), np.moveaxis(grad.reshape(*rows_shape, classes), -1, axis)))
            mean = celoss.cross_entropy(x, target, axis=axis)
            assert (
                np.isnan(mean)
                if (target == -100).all()
                else mean == pytest.approx(celoss.cross_entropy(rows, target.reshape(-1)), rel=1e-12)
            )


def test_axis_zero_stride_and_broadcast(level):
    x = np.broadcast_to(np.array([1, 2, 3], np.float32), (5, 3))
    target = np.broadcast_to(np.int64(1), 5)
    same(celoss.cross_entropy_with_grad(x, target), celoss.cross_entropy_with_grad(x.copy(), target.copy()))
    x = np.broadcast_to(np.float64(2), (4, 70))
    same(celoss.cross_entropy_with_grad(x, [0, 1, 2, 69]), celoss.cross_entropy_with_grad(x.copy(), [0, 1, 2, 69]))
    x = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None], (4, 5))  # classes repeat along the zero stride
    same(celoss.cross_entropy_with_grad(x, [0, 1, 2, 4]), celoss.cross_entropy_with_grad(x.copy(), [0, 1, 2, 4]))


def test_one_row(level):
    for target in (2, np.int8(2), np.array(2), [[2]][0][0]):
        loss, grad = celoss.cross_entropy_with_grad([1.0, 2.0, 3.0], target)
        expected, expected_grad = celoss.cross_entropy_with_grad([[1.0, 2.0, 3.0]], [2])
        assert type(loss) is float and loss == expected
        np.testing.assert_array_equal(grad, expected_grad[0])
    loss, _ = celoss.cross_entropy_with_grad([1.0, 2.0, 3.0], 2, reduction="none")
    assert type(loss) is np.float64 and loss == expected
    assert celoss.cross_entropy([1.0, 2.0, 3.0], [0.0, 0.0, 1.0]) == pytest.approx(expected, rel=1e-15)


def test_array_likes():
    x, target = [[1.0, 2.0, 3.0], [0.0, 0.0, 4.0]], [2, 0]
    expected = celoss.cross_entropy_with_grad(np.array(x), np.array(target))

    class HasArray:
        def __init__(self, value):
            self.value = np.asarray(value)

        def __array__(self, dtype=None, copy=None):
            return self.value

    class Subclass(np.ndarray):
        pass

    same(celoss.cross_entropy_with_grad(x, target), expected)
    same(celoss.cross_entropy_with_grad(tuple(map(tuple, x)), tuple(target)), expected)
    same(celoss.cross_entropy_with_grad(HasArray(x), HasArray(target)), expected)
    got = celoss.cross_entropy_with_grad(np.array(x).view(Subclass), np.array(target).view(Subclass))
    same(got, expected)
    assert type(got[1]) is np.ndarray
    same(celoss.cross_entropy_with_grad(memoryview(np.array(x)), memoryview(np.array(target))), expected)


def test_integers_and_bool_count_as_float64():
    for dtype in (bool, np.int8, np.uint8, np.int32, np.uint64):
        x = np.array([[1, 0, 1], [0, 0, 1]], dtype)
        loss, grad = celoss.cross_entropy_with_grad(x, [2, 0])
        assert grad.dtype == np.float64
        same((loss, grad), celoss.cross_entropy_with_grad(x.astype(np.float64), [2, 0]))
    same(celoss.cross_entropy_with_grad([[1, 2]], [1]), celoss.cross_entropy_with_grad([[1.0, 2.0]], [1]))


def test_dlpack():
    """An object that speaks DLPack and nothing else."""

    class Capsule:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    x, target = problem((6, 5), 1, np.float32)
    same(celoss.cross_entropy_with_grad(Capsule(x), Capsule(target)), celoss.cross_entropy_with_grad(x, target))


def test_torch_tensors():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, target = problem((6, 5), 1, np.float32)
    expected = celoss.cross_entropy_with_grad(x, target)
    tensor, indices = torch.tensor(x), torch.tensor(target)
    same(celoss.cross_entropy_with_grad(tensor, indices), expected)
    same(celoss.cross_entropy_with_grad(tensor.requires_grad_(), indices.int()), expected)
    same(celoss.cross_entropy_with_grad(tensor.detach().T, indices, axis=0), (expected[0], expected[1].T))
    half = celoss.cross_entropy_with_grad(tensor.detach().half(), indices)
    assert half[1].dtype == np.float16
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    brain = celoss.cross_entropy_with_grad(tensor.detach().bfloat16(), indices)
    assert brain[1].dtype.name == "bfloat16"


def test_jax_arrays():
    jax_numpy = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    x, target = problem((6, 5), 1, np.float32)
    got = celoss.cross_entropy_with_grad(jax_numpy.asarray(x), jax_numpy.asarray(target.astype(np.int32)))
    same(got, celoss.cross_entropy_with_grad(x, target))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 0), (0, 0), (0, 40), (0, 5, 3)])
def test_no_rows(shape, dtype, level):
    x = np.empty(shape, dtype)
    target = np.empty(shape[:-1] if shape[-1] else shape[:1] + shape[2:], np.int64)
    axis = -1 if shape[-1] or shape == (0, 0) else 1
    if shape == (0, 0):
        target = np.empty(0, np.int64)
    for reduction, expected in (("sum", 0.0), ("mean", np.nan), ("none", np.empty(target.shape))):
        loss, grad = celoss.cross_entropy_with_grad(x, target, axis=axis, reduction=reduction)
        np.testing.assert_array_equal(loss, expected)
        assert grad.shape == shape and grad.dtype == dtype
        np.testing.assert_array_equal(celoss.cross_entropy(x, target, axis=axis, reduction=reduction), expected)


@pytest.mark.slow
def test_more_than_two_to_the_31_elements():
    """64-bit offsets: a read-only broadcast array of 2^31 + 2^16 elements needs no memory (PyTorch #85005, #108345)."""
    x = np.broadcast_to(np.linspace(0, 1, 2**16, dtype=np.float32), (2**15 + 1, 2**16))
    target = np.full(len(x), 5)
    assert celoss.cross_entropy(x, target) == pytest.approx(celoss.cross_entropy(x[:1], target[:1]), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_unaligned_class_indices(dtype):
    x = np.random.default_rng(0).standard_normal((50, 7))
    target = np.arange(50, dtype=dtype) % 7
    unaligned = np.frombuffer(b"." + target.tobytes(), dtype, offset=1)
    assert not unaligned.flags.aligned
    assert celoss.cross_entropy(x, unaligned) == celoss.cross_entropy(x, target)
