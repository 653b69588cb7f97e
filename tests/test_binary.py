"""Binary cross-entropy and Brier score: exact values, options, labels, layouts, threads, special values, errors."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import truth
from test_activations import exact_sigmoid, scores_that_hurt
from tolerances import ulp

import celoss
from celoss import reference
from celoss._checks import FUNCTIONS

INF, NAN = np.inf, np.nan
DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]
LOSSES = [name for name, function in FUNCTIONS.items() if function.kind == "scores" and f"{name}_with_grad" in FUNCTIONS]
LABELS = [
    bool,
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.int64,
    np.uint64,
    np.float16,
    np.float32,
    np.float64,
]


def with_grad(name):
    return getattr(celoss, f"{name}_with_grad")


def exact(name, z, y):
    """Loss and gradient for labels 0 and 1."""
    p, rest, minus_log_p, minus_log_rest = exact_sigmoid(z)
    error = np.where(y == 1, -rest, p)
    if name == "binary_cross_entropy":
        return np.where(y == 1, minus_log_p, minus_log_rest), error
    return error**2, 2 * error * p * rest


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_exact_value(name, dtype, level):
    z = scores_that_hurt(dtype)
    y = np.random.default_rng(1).integers(0, 2, z.shape)
    loss, grad = exact(name, z, y)
    quantity = "binary loss" if name == "binary_cross_entropy" else "brier loss"
    got = with_grad(name)(z, y, reduction="none")
    assert got[0].dtype == got[1].dtype == dtype
    truth.assert_ulp(got[0], loss, ulp(quantity, z.dtype))
    truth.assert_ulp(got[1], grad, ulp("binary gradient", z.dtype))
    np.testing.assert_array_equal(getattr(celoss, name)(z, y, reduction="none"), got[0])
    mean, grad_of_mean = with_grad(name)(z, y)
    truth.assert_ulp(mean, loss.mean(), ulp("mean", z.dtype), dtype=dtype)
    truth.assert_ulp(grad_of_mean, grad / z.size, ulp("binary gradient", z.dtype) + 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_options_are_exact(name, dtype, level):
    z = scores_that_hurt(dtype)
    rng = np.random.default_rng(2)
    y, w = rng.integers(0, 2, z.shape), rng.uniform(0, 2, z.shape)
    pos = rng.uniform(0, 2, z.shape) if name == "binary_cross_entropy" else None
    up = rng.normal(size=z.shape)
    loss, grad = exact(name, z, y)
    factor = w.astype(truth.real) * (1 if pos is None else np.where(y == 1, pos.astype(truth.real), 1))
    options = {"weight": w, "reduction": "none"} | ({} if pos is None else {"pos_weight": pos})
    got = with_grad(name)(z, y, grad_output=up, **options)
    truth.assert_ulp(got[0], loss * factor, ulp("binary loss", z.dtype))
    truth.assert_ulp(got[1], grad * factor * up, ulp("binary gradient", z.dtype))


def test_confident_scores_keep_their_loss(level):
    """PyTorch returns 0 for the right label in float32 from z = 17 on."""
    for z in (17.0, 40.0, 80.0):
        loss, grad = celoss.binary_cross_entropy_with_grad(np.float32([z]), [1], reduction="none")
        np.testing.assert_allclose(loss, np.exp(-z), rtol=2e-7)
        np.testing.assert_allclose(grad, -np.exp(-z), rtol=2e-7)
    assert celoss.binary_cross_entropy(40.0, 1) == pytest.approx(4.248354255291589e-18, rel=1e-15)


def test_a_trace_of_label_smoothing_is_exact(level):
    """1 - y' is eps/2 for y = 1; as a difference of numbers near 1 it would keep four digits of this eps."""
    epsilon = 2.0**-40
    loss, grad = celoss.binary_cross_entropy_with_grad(60.0, 1, label_smoothing=epsilon)
    np.testing.assert_allclose(loss, 60 * epsilon / 2, rtol=1e-13)
    np.testing.assert_allclose(grad, epsilon / 2, rtol=1e-13)


def agree(got, expected, eps, terms=1.0):
    np.testing.assert_allclose(
        np.asarray(got).astype(np.float64), np.asarray(expected).astype(np.float64), rtol=4 * eps, atol=4 * eps * terms
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ">f4", np.int16, bool])
@pytest.mark.parametrize("shape", [(), (1,), (17,), (6, 5), (3, 1, 40), (2, 3, 4, 5)])
def test_agrees_with_reference(shape, dtype, name, level):
    rng = np.random.default_rng(0)
    z = np.asarray(3 * rng.standard_normal(shape)).astype(dtype)
    weights = {
        "weight": rng.uniform(0, 3, shape[-1:]),
        "pos_weight": rng.uniform(0, 3, (*shape[:-1], 1) if shape else ()),
    }
    mixes = itertools.product(["mean", "sum", "none"], [False, True], [0.0, 0.3], [None, 7.5], [False, True], [False, True])
    for reduction, weighted, smoothing, normalizer, hard, upstream in mixes:
        y = rng.uniform(0, 1, shape)
        y = np.round(y).astype(int) if hard else y
        options = {"reduction": reduction, "normalizer": normalizer}
        if weighted:
            options["weight"] = weights["weight"]
        if name == "binary_cross_entropy":
            options["label_smoothing"] = smoothing
            if weighted:
                options["pos_weight"] = weights["pos_weight"]
        up = rng.normal(size=shape if reduction == "none" else ()) if upstream else None
        got = with_grad(name)(z, y, grad_output=up, **options)
        expected = getattr(reference, f"{name}_with_grad")(z, y, grad_output=up, **options)
        assert type(got[0]) is type(expected[0])
        assert (got[1].dtype, got[1].shape) == (expected[1].dtype, expected[1].shape)
        if reduction == "none":
            assert (got[0].dtype, got[0].shape) == (expected[0].dtype, expected[0].shape)
        loss_eps = np.finfo(np.float64 if expected[1].dtype == np.float64 else np.float32).eps
        agree(got[0], expected[0], loss_eps, 10)
        agree(got[1], expected[1], float(ml_dtypes.finfo(expected[1].dtype).eps), 10)
        np.testing.assert_array_equal(getattr(celoss, name)(z, y, **options), got[0])


@pytest.mark.parametrize("name", [*LOSSES, "binary_zero_one_loss"])
@pytest.mark.parametrize("label", [*LABELS, ">i4", ">f4", ml_dtypes.bfloat16])
def test_labels_of_any_dtype(label, name, level):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((40, 41)).astype(np.float32)
    y = rng.integers(0, 2, z.shape)
    function = getattr(celoss, name)
    expected = function(z, y.astype(np.float32), reduction="none")
    for view in (y.astype(label), y.astype(label).copy(order="F"), y[::-1, ::-1].astype(label)[::-1, ::-1]):
        np.testing.assert_array_equal(function(z, view, reduction="none"), expected)
    np.testing.assert_array_equal(function(z, y.tolist(), reduction="none"), expected)


@pytest.mark.parametrize("name", [*LOSSES, "binary_zero_one_loss"])
@pytest.mark.parametrize("label", [*LABELS, ">i4", ">f4", ml_dtypes.bfloat16])
def test_one_label_for_many_scores(label, name, level):
    """Labels that are broadcast, with stride 0 along either axis or both: integers were once read as floats."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((40, 41)).astype(np.float32)
    function = getattr(celoss, name)
    for shape in ((40, 1), (1, 41), (1, 1), ()):
        y = np.broadcast_to(rng.integers(0, 2, shape).astype(label) if shape else np.array(1, label), z.shape)
        np.testing.assert_array_equal(function(z, y, reduction="none"), function(z, y.astype(np.float32), reduction="none"))


def layouts(a):
    yield a.copy(order="F")
    yield a[::-1, :, ::-1].copy()[::-1, :, ::-1]
    wide = np.zeros(tuple(2 * n for n in a.shape), a.dtype)
    wide[::2, ::2, ::2] = a
    yield wide[::2, ::2, ::2]
    memory = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    memory[...] = a
    yield memory
    yield a.transpose(1, 2, 0).copy().transpose(2, 0, 1)
    yield a.astype(a.dtype.newbyteorder())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 4, 5), (20, 11, 33)])
def test_any_layout_gives_the_same_bits(shape, dtype, name, level):
    rng = np.random.default_rng(0)
    z, y, w = (
        (3 * rng.standard_normal(shape)).astype(dtype),
        rng.uniform(0, 1, shape).astype(dtype),
        rng.uniform(0, 1, shape),
    )
    expected = with_grad(name)(z, y, weight=w)
    for views in zip(layouts(z), layouts(y), layouts(w), strict=True):
        for which in itertools.product([False, True], repeat=3):
            here = [view if chosen else a for a, view, chosen in zip((z, y, w), views, which, strict=True)]
            loss, grad = with_grad(name)(here[0], here[1], weight=here[2])
            assert loss == expected[0]
            np.testing.assert_array_equal(grad, expected[1])


@pytest.mark.parametrize("name", LOSSES)
def test_weights_broadcast(name, level):
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((5, 4, 300)).astype(np.float32), rng.integers(0, 2, (5, 4, 300))
    for shape in [(), (1,), (300,), (4, 1), (5, 1, 1), (5, 1, 300), (1, 4, 300), (5, 4, 300)]:
        w = rng.uniform(0, 2, shape)
        options = [{"weight": w}] + ([{"pos_weight": w}] if name == "binary_cross_entropy" else [])
        for one in options:
            full = {key: np.broadcast_to(value, z.shape).copy() for key, value in one.items()}
            got, expected = with_grad(name)(z, y, **one), with_grad(name)(z, y, **full)
            assert got[0] == expected[0]
            np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_out(weighted, dtype, name, level):
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((33, 50)).astype(dtype), rng.integers(0, 2, (33, 50))
    options = {"weight": rng.uniform(0, 1, 50)} if weighted else {}
    loss, expected = with_grad(name)(z, y, **options)
    for out in (np.empty_like(z), np.empty_like(z, order="F"), np.zeros((33, 100), dtype)[:, ::2]):
        got = with_grad(name)(z, y, out=out, **options)
        assert got[0] == loss and got[1] is out
        np.testing.assert_array_equal(out, expected)
    for view in (z.copy(), z.copy(order="F"), z[::-1].copy()[::-1]):
        got = with_grad(name)(view, y, out=view, **options)
        assert got[0] == loss and got[1] is view
        np.testing.assert_array_equal(view, expected)


@pytest.mark.parametrize("name", [*LOSSES, "binary_zero_one_loss"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_nothing(dtype, name, keep_num_threads):
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal(1_000_003).astype(dtype), rng.random(1_000_003) < 0.5
    expected = getattr(celoss, name)(z, y, n_threads=1)
    for threads in (2, 3, 7):
        assert getattr(celoss, name)(z, y, n_threads=threads) == expected


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 9, 15, 16, 17, 33, 1023, 1025])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_is_written_beside_the_gradient(weighted, dtype, name, n, level):
    z, y = np.linspace(-3, 3, n).astype(dtype), np.arange(n) % 2
    memory = np.full(n + 32, 7, dtype)
    options = {"weight": np.ones(n)} if weighted else {}
    loss, grad = with_grad(name)(z, y, out=memory[16 : 16 + n], reduction="sum", **options)
    np.testing.assert_allclose(loss, getattr(reference, name)(z, y, reduction="sum"), rtol=1e-6)
    assert np.isfinite(grad).all()
    assert (memory[:16] == 7).all() and (memory[16 + n :] == 7).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"weight": 1.0}, {"pos_weight": 1.0}], ids=str)
def test_special_values(options, dtype, level):
    z = np.array([INF, -INF, INF, -INF, NAN, 0.0] * 3, dtype)
    y = np.array([1, 0, 0, 1, 1, 1] * 3)
    with np.errstate(all="raise"):
        loss, grad = celoss.binary_cross_entropy_with_grad(z, y, reduction="none", **options)
        np.testing.assert_allclose(loss, [0, 0, INF, INF, NAN, np.log(2)] * 3, rtol=1e-6)
        np.testing.assert_array_equal(grad, [0, 0, 1, -1, NAN, -0.5] * 3)
        options.pop("pos_weight", None)
        loss, grad = celoss.binary_brier_score_with_grad(z, y, reduction="none", **options)
        np.testing.assert_array_equal(loss, [0, 0, 1, 1, NAN, 0.25] * 3)
        np.testing.assert_array_equal(grad, [0, 0, 0, 0, NAN, -0.25] * 3)
        np.testing.assert_array_equal(celoss.binary_zero_one_loss(z, y, reduction="none", **options), [0, 0, 1, 1, NAN, 1] * 3)


def test_no_weight_on_the_impossible(level):
    """0 * inf counts 0."""
    loss, grad = celoss.binary_cross_entropy_with_grad([INF, -INF], [0, 1], weight=0, reduction="none")
    np.testing.assert_array_equal(loss, 0)
    np.testing.assert_array_equal(grad, 0)
    np.testing.assert_array_equal(celoss.binary_cross_entropy([-INF], [1], pos_weight=0, reduction="none"), 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_upstream_beyond_the_range(dtype, level):
    z, y = np.array([0.0, 3.0, -3.0], dtype), [0, 1, 1]
    for up in (INF, -INF, 1e300):
        _, grad = celoss.binary_cross_entropy_with_grad(z, y, reduction="sum", grad_output=up)
        with np.errstate(over="ignore"):
            _, expected = reference.binary_cross_entropy_with_grad(z, y, reduction="sum", grad_output=up)
        np.testing.assert_allclose(grad, expected, rtol=1e-6)
    assert np.isnan(celoss.binary_cross_entropy_with_grad(z, y, grad_output=NAN)[1]).all()


@pytest.mark.parametrize("name", [*LOSSES, "binary_zero_one_loss"])
def test_nothing_to_average(name):
    function = getattr(celoss, name)
    for shape in [(0,), (3, 0)]:
        z = np.empty(shape, np.float32)
        assert np.isnan(function(z, z))
        assert function(z, z, reduction="sum") == 0.0
        assert function(z, z, normalizer=3.0) == 0.0
        assert function(z, z, reduction="none").shape == shape
    if name in LOSSES:
        assert with_grad(name)(np.empty((3, 0)), np.empty((3, 0)))[1].shape == (3, 0)


@pytest.mark.parametrize("name", [*LOSSES, "binary_zero_one_loss"])
@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (TypeError, "logits has dtype complex128", {"logits": np.zeros(3, complex)}),
        (TypeError, "target has dtype complex128", {"target": np.zeros(3, complex)}),
        (TypeError, "target has dtype", {"target": np.array(["a", "b", "c"])}),
        (ValueError, r"target has shape \(2,\)", {"target": [0, 1]}),
        (ValueError, r"target has shape \(3, 1\)", {"target": [[0], [1], [1]]}),
        (ValueError, r"weight of shape \(2,\)", {"weight": [1, 1]}),
        (ValueError, r"weight\[1\] = nan", {"weight": [1, NAN, 1]}),
        (ValueError, r"weight\[2\] = -inf", {"weight": [1, 0, -INF]}),
        (ValueError, r"weight = inf", {"weight": INF}),
        (ValueError, "weight", {"weight": np.float32([1, 1, NAN])}),
        (ValueError, r"target\[1\] = -1 is not in \[0, 1\]", {"target": [1, -1, 2]}),
        (TypeError, "weight must be numbers", {"weight": ["a", "b", "c"]}),
        (ValueError, "reduction", {"reduction": "average"}),
        (ValueError, "normalizer", {"normalizer": 0}),
        (ValueError, "n_threads", {"n_threads": 0}),
    ],
)
def test_errors(error, match, arguments, name):
    with pytest.raises(error, match=match):
        getattr(celoss, name)(**({"logits": np.zeros(3), "target": np.array([0, 1, 1])} | arguments))


def test_errors_of_cross_entropy():
    z, y = np.zeros(3), np.array([0, 1, 1])
    with pytest.raises(ValueError, match=r"pos_weight\[0\] = -1"):
        celoss.binary_cross_entropy(z, y, pos_weight=[-1, 1, 1])
    with pytest.raises(ValueError, match="label_smoothing"):
        celoss.binary_cross_entropy(z, y, label_smoothing=1.5)
    with pytest.raises(ValueError, match="grad_output has shape"):
        celoss.binary_cross_entropy_with_grad(z, y, grad_output=[1, 1, 1])
    with pytest.raises(ValueError, match="grad_output has shape"):
        celoss.binary_cross_entropy_with_grad(z, y, grad_output=[1, 1], reduction="none")


@pytest.mark.parametrize("name", LOSSES)
def test_errors_of_out(name):
    z, y = np.zeros(8), np.zeros(8)
    for wrong in (np.zeros(7), np.zeros(8, np.float32)):
        with pytest.raises(ValueError, match="expected float64 of shape"):
            with_grad(name)(z, y, out=wrong)
    with pytest.raises(ValueError, match="overlaps target"):
        with_grad(name)(z, y, out=y)
    with pytest.raises(ValueError, match="overlaps weight"):
        w = np.ones(8)
        with_grad(name)(z, y, weight=w, out=w)
    memory = np.zeros(9)
    with pytest.raises(ValueError, match="overlaps logits"):
        with_grad(name)(memory[:8], y, out=memory[1:])


def test_a_weight_is_named_where_it_stands():
    """Large weights are tested by the kernel; the message is that of small ones."""
    z = np.zeros((50, 3000), np.float32)
    for dtype in (np.float16, np.float32, np.float64):
        for name, value in (("weight", NAN), ("weight", -INF), ("pos_weight", INF), ("pos_weight", -1)):
            w = np.ones(z.shape, dtype)
            w[49, 17] = value
            with pytest.raises(ValueError, match=rf"^{name}\[49, 17\] = {value}"):
                celoss.binary_cross_entropy(z, z, **{name: w})


# ---- the loss object ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"reduction": "none"}, {"weight": 2.0, "pos_weight": [1, 2, 3], "label_smoothing": 0.1}], ids=str
)
def test_the_loss_object(options):
    rng = np.random.default_rng(0)
    criterion = celoss.BinaryCrossEntropyLoss(**options)
    with pytest.raises(RuntimeError, match="before"):
        criterion.backward()
    for dtype in (np.float32, np.float16, np.float64):
        z, y = rng.standard_normal((5, 3)).astype(dtype), rng.integers(0, 2, (5, 3))
        loss = criterion(z, y)
        expected = celoss.binary_cross_entropy_with_grad(z, y, **options)
        np.testing.assert_array_equal(loss, expected[0])
        np.testing.assert_array_equal(criterion.backward(), expected[1])
        np.testing.assert_array_equal(criterion.backward(2.0), 2 * expected[1])
        first = criterion.backward()
        criterion(z, y)
        assert np.shares_memory(first, criterion.backward())
    if options.get("reduction") == "none":
        up = 2.0 ** rng.integers(-3, 3, (5, 3))
        np.testing.assert_array_equal(criterion.backward(up), expected[1] * up)
    else:
        with pytest.raises(ValueError, match="grad_output"):
            criterion.backward(np.ones((5, 3)))
    assert repr(criterion).startswith("BinaryCrossEntropyLoss(")
    with pytest.raises(TypeError):
        celoss.BinaryCrossEntropyLoss(axis=1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_float64_labels_are_read_as_float32(dtype, level):
    """As documented: next to 1 the rounding shows in 1 - y, and so in the loss of a large score."""
    z, y = np.full(40, 98, dtype), np.linspace(0.998, 0.9999, 40)
    for function in (celoss.binary_cross_entropy, celoss.binary_brier_score, celoss.binary_zero_one_loss):
        loss = function(z, y, reduction="none")
        np.testing.assert_array_equal(loss, function(z, y.astype(np.float32), reduction="none"))
        np.testing.assert_allclose(function(z.astype(float), y, reduction="none"), loss, rtol=1e-3)
