"""Scale, soft cap and z-loss: bits of what they stand for, exact values, other options, edges, long rows, errors."""

import itertools

import numpy as np
import pytest
import truth
from tolerances import ulp
from truth import real

import celoss
from celoss import _kernels, reference

DTYPES = [np.float32, pytest.param(np.float64, marks=truth.needs_wide)]
CLASSES = [1, 2, 3, 5, 10, 17, 64, 127, 128, 130, 1000]
INF, NAN = np.inf, np.nan


def problem(classes, dtype, rows=40, seed=0):
    """Rows that are sure and right, sure and wrong, far out, tied, plain."""
    rng = np.random.default_rng(seed)
    x = 3 * rng.standard_normal((rows, classes))
    target = rng.integers(classes, size=rows)
    sure = np.arange(rows) % 3 == 0
    x[sure, target[sure]] += np.linspace(5, 30, sure.sum())
    x[1::6, target[1::6] - 1] += 20
    x[5:6] = 0.25
    return x.astype(dtype), target


def hardly_less(x):
    """What a cap is for: logits of both signs, from nothing to far above it."""
    return x * np.geomspace(1e-3, 4, len(x))[:, None].astype(x.dtype)


# ---- the scale: what NumPy would do first ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 1.7, 3e-3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", CLASSES)
def test_scale_has_the_bits_of_scaled_logits(classes, dtype, scale, level, path):
    x, target = problem(classes, dtype)
    for options in (
        {},
        {"label_smoothing": 0.1},
        {"focal_gamma": 2.0},
        {"z_loss": 0.1},
        {"weight": np.linspace(2, 0.5, classes)},
    ):
        options = {**options, "reduction": "sum"}
        expected = celoss.cross_entropy_with_grad(x * dtype(scale), target, grad_output=scale, **options)
        got = celoss.cross_entropy_with_grad(x, target, logit_scale=scale, **options)
        assert got[0] == expected[0] == celoss.cross_entropy(x, target, logit_scale=scale, **options)
        np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("classes", [3, 200])
def test_scale_of_half_precision_rounds_to_float32(classes, dtype, level):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x, target = problem(classes, np.float32)
    x = x.astype(np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
    wide = x.astype(np.float32)
    expected = celoss.cross_entropy_with_grad(wide * np.float32(1.7), target, grad_output=1.7, reduction="none")
    got = celoss.cross_entropy_with_grad(x, target, logit_scale=1.7, reduction="none")
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1].astype(x.dtype))


# ---- the cap ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", CLASSES)
def test_cap_has_the_bits_of_capped_logits(classes, dtype, level, path):
    """Those of the function tanh, whose accuracy test_exp_log.py measures, and of its slope."""
    x, target = problem(classes, dtype)
    u, slope = _kernels.probe("tanh", x)
    for options in ({}, {"label_smoothing": 0.1}, {"focal_gamma": 2.0}, {"z_loss": 0.1}):
        loss, by_u = celoss.cross_entropy_with_grad(u, target, reduction="none", **options)
        for out in (None, x.copy()):
            given = x if out is None else out
            got = celoss.cross_entropy_with_grad(given, target, logit_softcap=1.0, reduction="none", out=out, **options)
            np.testing.assert_array_equal(got[0], loss)
            np.testing.assert_array_equal(got[1], by_u * slope)
        np.testing.assert_array_equal(celoss.cross_entropy(x, target, logit_softcap=1.0, reduction="none", **options), loss)


def capped(x, scale, cap):
    """u and du/dx in long double."""
    y = np.asarray(x).astype(real) * real(scale) / real(cap)
    e = np.exp(-2 * np.abs(y))
    return real(cap) * np.tanh(y), real(scale) * 4 * e / (1 + e) ** 2


@pytest.mark.parametrize(("scale", "cap"), [(1.0, 30.0), (0.3, 5.0), (8.0, 50.0), (1.0, 1e-3), (1e-3, 1e4)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 100, 1000])
def test_exact_value_under_a_cap(classes, dtype, scale, cap, level):
    """Capped logits are within 3 ulp of themselves, which is an error of the loss and a relative one of the gradient."""
    x, target = problem(classes, dtype)
    x = hardly_less(x)
    u, slope = capped(x, scale, cap)
    loss, grad = truth.cross_entropy(u, target)
    got_loss, got_grad = celoss.cross_entropy_with_grad(x, target, logit_scale=scale, logit_softcap=cap, reduction="none")
    off = 2 * 3 * np.spacing(np.abs(u).max(axis=1).astype(dtype)).astype(real)
    unit = np.spacing(np.abs(loss).astype(dtype)).astype(real)
    assert (np.abs(got_loss - loss) <= ulp("loss", np.dtype(dtype)) * unit + off * np.minimum(loss, 1)).all()
    exact = grad * slope
    relative = 8 * np.finfo(dtype).eps + off[:, None]
    smallest = 64 * np.finfo(dtype).tiny  # below, exponentials and slopes lose digits
    assert (np.abs(got_grad - exact) <= relative * np.abs(exact) + smallest).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_far_above_the_cap(dtype, level):
    huge = np.finfo(dtype).max
    x = np.array([[huge, -huge, 1e30], [huge, huge, 0.0]], dtype)
    for cap in (1e-3, 30.0, 1e20):
        loss, grad = celoss.cross_entropy_with_grad(x, [0, 1], logit_softcap=cap, logit_scale=2.0, reduction="none")
        expected = reference.cross_entropy_with_grad(x, [0, 1], logit_softcap=cap, logit_scale=2.0, reduction="none")
        np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-6)
        above = np.where(x == 0, 0, np.sign(x) * 1e3).astype(dtype)
        large = celoss.cross_entropy_with_grad(above, [0, 1], logit_softcap=1.0, grad_output=1e30, reduction="sum")[1]
        assert not large[above != 0].any(), "the slope is nothing there, whatever it is multiplied with"


@truth.needs_wide
@pytest.mark.parametrize(("scale", "cap"), [(0.3, 5.0), (1.7, 30.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slope_of_any_cap(dtype, scale, cap, level):
    """Of two equal logits the gradient is half of it. Its argument is a product, whose rounding would be its relative error."""
    x = (np.linspace(-40, 40, 4001) * cap / scale).astype(dtype)
    grad = celoss.cross_entropy_with_grad(np.stack([x, x], 1), np.zeros(len(x), int), logit_scale=scale, logit_softcap=cap,
                                          reduction="none")[1]  # fmt: skip
    truth.assert_ulp(grad[:, 1], capped(x, scale, cap)[1] / 2, 6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("classes", [5, 200, 70_000])
def test_left_out_under_a_cap(classes, dtype, level):
    """Whatever it holds: its gradient is 0, and other rows' are as without it."""
    x, target = problem(classes, dtype, rows=6)
    expected = celoss.cross_entropy_with_grad(x[::2], target[::2], **TOGETHER, reduction="sum")
    x[1::2] = NAN
    for options in ({"sample_weight": [1, 0] * 3}, {}):
        target[1::2] = target[1::2] if options else -100
        loss, grad = celoss.cross_entropy_with_grad(x, target, **TOGETHER, **options, reduction="sum")
        np.testing.assert_allclose(loss, expected[0], rtol=1e-12)
        np.testing.assert_array_equal(grad[::2], expected[1])
        np.testing.assert_array_equal(grad[1::2], 0)


def test_infinite_logits_stay_what_they_are(level, path):
    x = np.array([[0.0, 1.0, -INF], [5.0, -INF, 2.0], [0.0, INF, 1.0], [NAN, 0.0, 1.0], [-INF, -INF, -INF]], np.float32)
    target = np.array([0, 1, 0, 1, 2])
    options = {"logit_softcap": 2.0, "logit_scale": 1.5, "reduction": "none"}
    loss, grad = celoss.cross_entropy_with_grad(x, target, **options)
    expected_loss, expected_grad = reference.cross_entropy_with_grad(x, target, **options)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-6)
    assert loss[1] == INF and np.isnan(loss[2:]).all() and grad[0, 2] == 0


# ---- z-loss ----------------------------------------------------------------------------------------------------------------


def with_square(x, target, z, dtype):
    """Loss, gradient, and the size of the gradient's terms."""
    p, _, _ = truth.softmax(x)
    loss, grad = truth.cross_entropy(x, target)
    _, m, e = truth.exponentials(x)
    lse = (m + np.log(e.sum(axis=-1, keepdims=True)))[:, 0]
    more = 2 * real(z) * lse[:, None] * p
    return loss + real(z) * lse**2, grad + more, np.abs(grad) + np.abs(more)


@pytest.mark.parametrize("z", [1e-4, 0.5])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_exact_value_of_z_loss(classes, dtype, z, level, path):
    x, target = problem(classes, dtype)
    loss, grad, size = with_square(x, target, z, dtype)
    for out in (None, x.copy()):
        given = x if out is None else out
        got = celoss.cross_entropy_with_grad(given, target, z_loss=z, reduction="none", out=out)
        truth.assert_ulp(got[0], loss, ulp("option loss", np.dtype(dtype)))
        truth.assert_ulp(got[1], grad, ulp("option gradient", np.dtype(dtype)), scale=size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_z_loss_of_a_target_far_below(dtype, level):
    """Whose exponential is taken elsewhere than where it stands; or which cannot occur."""
    x = np.array([[600.0, 599.0, 0.0], [700.0, 0.0, -INF], [0.0, 2.0, -2000.0], [-INF, 3.0, -INF]], dtype)
    target = np.array([2, 2, 2, 0])
    got = celoss.cross_entropy_with_grad(x, target, z_loss=0.01, reduction="none")
    expected = reference.cross_entropy_with_grad(x.astype(np.float64), target, z_loss=0.01, reduction="none")
    np.testing.assert_allclose(got[0], expected[0], rtol=2e-7)
    np.testing.assert_allclose(got[1], expected[1], rtol=2e-6, atol=np.finfo(dtype).tiny)


def test_z_loss_counts_neither_weights_nor_what_is_left_out(level, path):
    x, target = problem(7, np.float64)
    x[3], target[4] = NAN, -100
    s = np.linspace(0.5, 2, len(x))
    s[3] = 0
    w = np.linspace(0, 3, 7)
    for options in ({"reduction": "none"}, {"reduction": "mean"}, {"reduction": "mean", "normalizer": 3.0}):
        options = {**options, "z_loss": 0.2, "weight": w, "sample_weight": s}
        got = celoss.cross_entropy_with_grad(x, target, **options)
        expected = reference.cross_entropy_with_grad(x, target, **options)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-13)
        np.testing.assert_allclose(got[1], expected[1], rtol=1e-12, atol=1e-15)
        assert not got[1][3:5].any()


# ---- all of it together ----------------------------------------------------------------------------------------------------

TOGETHER = {"logit_scale": 0.7, "logit_softcap": 6.0, "z_loss": 0.05}
FORMS = ["indices", "weights", "smoothing", "smoothing and weights", "probabilities", "focal"]


def options_of(form, rng, rows, classes):
    w = rng.uniform(0.5, 2, classes)
    return {
        "indices": {},
        "weights": {"weight": w, "sample_weight": rng.uniform(-1, 2, rows)},
        "smoothing": {"label_smoothing": 0.2},
        "smoothing and weights": {"label_smoothing": 0.2, "weight": w},
        "probabilities": {"weight": w, "label_smoothing": 0.1},
        "focal": {"focal_gamma": 1.5},
    }[form]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [2, 10, 128, 500])
def test_with_other_options(classes, form, reduction, rng, level):
    x, target = problem(classes, np.float64)
    options = {**options_of(form, rng, len(x), classes), **TOGETHER, "reduction": reduction}
    y = rng.uniform(0, 1, x.shape) if form == "probabilities" else target
    up = rng.uniform(-1, 2, len(x)) if reduction == "none" else 1.5
    got = celoss.cross_entropy_with_grad(x, y, **options, grad_output=up)
    expected = reference.cross_entropy_with_grad(x, y, **options, grad_output=up)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-10, atol=1e-13)
    single = celoss.cross_entropy_with_grad(x.astype(np.float32), y, **options, grad_output=up)
    np.testing.assert_allclose(single[1], expected[1], rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{"logit_scale": 0.7}, {"logit_softcap": 6.0}, {"z_loss": 0.05}, TOGETHER], ids=str)
def test_second_derivatives(options, form, rng, path):
    """The diagonal and the product, of the reference's formulas, in every layout of results."""
    x, target = problem(9, np.float64)
    x[2], target[3] = NAN, -100
    more = options_of(form, rng, len(x), 9)
    more["sample_weight"] = np.where(np.arange(len(x)) == 2, 0, more.get("sample_weight", np.ones(len(x))))
    options = {**more, **options, "reduction": "mean"}
    y = rng.uniform(0, 1, x.shape) if form == "probabilities" else target
    v = rng.standard_normal(x.shape)
    loss, grad, hess = celoss.cross_entropy_with_grad_hess(x, y, **options, grad_output=1.5)
    expected = reference.cross_entropy_with_grad_hess(x, y, **options, grad_output=1.5)
    np.testing.assert_allclose(hess, expected[2], rtol=1e-11, atol=1e-14)
    plain = celoss.cross_entropy_with_grad(x, y, **options, grad_output=1.5)
    assert loss == plain[0]
    np.testing.assert_array_equal(grad, plain[1])
    product = celoss.cross_entropy_hessp(x, y, v, **options)
    np.testing.assert_allclose(product, reference.cross_entropy_hessp(x, y, v, **options), rtol=1e-10, atol=1e-13)
    g, h = np.empty_like(x), x.copy()
    np.testing.assert_array_equal(
        celoss.cross_entropy_with_grad_hess(h, y, **options, grad_output=1.5, out=g, hess_out=h)[2], hess
    )
    np.testing.assert_array_equal(g, grad)
    turned = celoss.cross_entropy_hessp(np.moveaxis(x, 1, 0), y.T if y.ndim > 1 else y, v.T, **options, axis=0)
    np.testing.assert_allclose(turned.T, product, rtol=1e-14)


@pytest.mark.parametrize("shape", [(3, 70_000), (1, 300_000), (17, 65_537)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_long_rows(dtype, shape, level):
    """In pieces as whole, in place as apart, with one thread as with two; strided as contiguous, bit for bit."""
    rng = np.random.default_rng(1)
    x = (4 * rng.standard_normal(shape)).astype(dtype)
    target = rng.integers(shape[1], size=shape[0])
    target[:1] = 0
    x[0, 0] = 25
    for options in (
        {"logit_softcap": 8.0},
        TOGETHER,
        {"logit_scale": 1.3, "focal_gamma": 1.0},
        {**TOGETHER, "label_smoothing": 0.1},
    ):
        options = {**options, "reduction": "none"}
        loss, grad = celoss.cross_entropy_with_grad(x, target, **options, n_threads=1)
        expected = reference.cross_entropy_with_grad(x.astype(np.float64), target, **options)
        rough = 2e-3 if dtype == np.float16 else 2e-5
        np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
        np.testing.assert_allclose(grad, expected[1], rtol=rough, atol=1e-7 if dtype == np.float16 else 1e-9)
        for given in (x.copy(), np.array(x, order="F")):
            again = celoss.cross_entropy_with_grad(given, target, **options, out=given, n_threads=2)
            np.testing.assert_array_equal(again[0], loss)
            np.testing.assert_array_equal(again[1], grad)
        np.testing.assert_array_equal(celoss.cross_entropy(x, target, **options), loss)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), list(itertools.product([(6, 5, 4), (3, 150, 7)], [0, 1, 2])))
def test_layouts(shape, axis, dtype, level):
    """Bits do not depend on where numbers lie."""
    rng = np.random.default_rng(2)
    x = (5 * rng.standard_normal(shape)).astype(dtype)
    target = rng.integers(shape[axis], size=[n for d, n in enumerate(shape) if d != axis])
    last = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    expected = celoss.cross_entropy_with_grad(last, target, **TOGETHER, reduction="none")
    for given in (
        x,
        np.asfortranarray(x),
        np.repeat(x, 2, axis=axis)[tuple(slice(None, None, 2) if d == axis else slice(None) for d in range(3))],
    ):
        loss, grad = celoss.cross_entropy_with_grad(given, target, **TOGETHER, reduction="none", axis=axis)
        np.testing.assert_array_equal(loss, expected[0])
        np.testing.assert_array_equal(np.moveaxis(grad, axis, -1), expected[1])


def test_criterion():
    x, target = problem(5, np.float32)
    criterion = celoss.CrossEntropyLoss(**TOGETHER)
    loss = criterion(x, target)
    expected = celoss.cross_entropy_with_grad(x, target, **TOGETHER)
    assert loss == expected[0]
    np.testing.assert_array_equal(criterion.backward(), expected[1])
    assert repr(criterion) == "CrossEntropyLoss(logit_scale=0.7, logit_softcap=6.0, z_loss=0.05)"


@pytest.mark.parametrize(
    ("option", "value", "error", "match"),
    [
        ("logit_scale", 0.0, ValueError, "logit_scale must be a positive finite number, got 0.0"),
        ("logit_scale", -1, ValueError, "logit_scale must be a positive finite number, got -1"),
        ("logit_scale", INF, ValueError, "logit_scale must be a positive finite number, got inf"),
        ("logit_scale", None, TypeError, "logit_scale must be a number, got None"),
        ("logit_softcap", 0.0, ValueError, "logit_softcap must be a positive finite number, got 0.0"),
        ("logit_softcap", NAN, ValueError, "logit_softcap must be a positive finite number, got nan"),
        ("logit_softcap", "30", TypeError, "logit_softcap must be a number, got '30'"),
        ("z_loss", -1e-4, ValueError, "z_loss must be a finite number >= 0, got -0.0001"),
        ("z_loss", NAN, ValueError, "z_loss must be a finite number >= 0, got nan"),
    ],
)
def test_errors(option, value, error, match, path):
    x, target = problem(5, np.float32)
    for call in (celoss.cross_entropy, celoss.cross_entropy_with_grad):
        with pytest.raises(error, match=match):
            call(x, target, **{option: value})
    with pytest.raises(error, match=match):
        celoss.CrossEntropyLoss(**{option: value})


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(40, 2), (17, 50), (3, 2000)])
def test_torch_agrees(shape, smoothing, reduction, rng):
    """As a language model writes it: scaled, capped, and the square of logsumexp beside the loss."""
    torch = pytest.importorskip("torch")
    x, target, w = 8 * rng.standard_normal(shape), rng.integers(shape[1], size=shape[0]), rng.uniform(0.5, 2, shape[1])
    target[1] = -100
    t = torch.from_numpy(x).requires_grad_()
    u = 6.0 * torch.tanh(0.7 * t / 6.0)
    options = {"weight": torch.from_numpy(w), "label_smoothing": smoothing}
    counts = target != -100
    each = torch.nn.functional.cross_entropy(u, torch.from_numpy(target), reduction="none", **options)
    each = each + 0.05 * torch.logsumexp(u, 1) ** 2 * torch.from_numpy(counts)
    expected = each.sum() / w[target[counts]].sum() if reduction == "mean" else each.sum()
    expected.backward()
    loss, grad = celoss.cross_entropy_with_grad(x, target, weight=w, label_smoothing=smoothing, **TOGETHER, reduction=reduction)
    np.testing.assert_allclose(loss, each.detach() if reduction == "none" else expected.item(), rtol=1e-12)
    np.testing.assert_allclose(grad, t.grad, rtol=1e-9, atol=1e-14)
