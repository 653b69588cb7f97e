"""Every option with every other: against the exact value, the reference and numeric derivatives."""

import itertools

import numpy as np
import pytest
import truth
from paths import only_general
from tolerances import ulp

import celoss
from celoss import reference

DTYPES = [np.float32, np.float64]
REDUCTIONS = ["mean", "sum", "none"]
CLASS_COUNTS = [2, 5, 33, 301]  # the last with a tail in the vectors of every level
ROWS = 23


def problem(classes, dtype, form, seed=0):
    """Logits and a target of either form. Confident, wide and offset rows beside each other."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((ROWS, classes)) * rng.choice([0.1, 1, 10], (ROWS, 1)) + rng.choice([0, 100], (ROWS, 1))
    if form == "indices":
        target = rng.integers(0, classes, ROWS)
        target[3::7] = -100
        x[0, target[0]] = x[0].max() + 20
    else:
        target = rng.dirichlet(np.full(classes, 0.5), ROWS).astype(dtype)
        target[1] = 0
        target[2] *= 3  # rows need not sum to 1
    return x.astype(dtype), target


def mixes(form):
    """All subsets of the options, as keyword arguments without the arrays."""
    smoothing = [0.0, 0.1, 1.0]
    for mix in itertools.product([False, True], [False, True], smoothing, REDUCTIONS, [None, 7.5], [None, "scalar", "rows"]):
        weight, sample_weight, label_smoothing, reduction, normalizer, upstream = mix
        if upstream == "rows" and reduction != "none":
            continue
        yield form, weight, sample_weight, label_smoothing, reduction, normalizer, upstream


def options_of(mix, classes, dtype):
    _, weight, sample_weight, label_smoothing, reduction, normalizer, upstream = mix
    rng = np.random.default_rng(1)
    w, s, u = rng.uniform(0, 3, classes), rng.uniform(0, 3, ROWS), rng.standard_normal(ROWS)
    w[0] = s[5] = 0
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    if weight:
        options["weight"] = w.astype(dtype)
    if sample_weight:
        options["sample_weight"] = s
    if normalizer:
        options["normalizer"] = normalizer
    if upstream:
        options["grad_output"] = -1.75 if upstream == "scalar" else u
    return options


def exact_rows(x, target, form, options):
    """Coefficients a_c = s w_c q'_c of each row, and the rows' share of the mean's denominator."""
    real = truth.real
    rows, classes = x.shape
    epsilon = real(options["label_smoothing"])
    w = np.asarray(options.get("weight", np.ones(classes)), real)
    s = np.broadcast_to(np.asarray(options.get("sample_weight", 1.0), real), rows).copy()
    if form == "indices":
        s[target == -100] = 0
        q = (target[:, None] == np.arange(classes)).astype(real)
        share = s * w[np.maximum(target, 0)]
    else:
        q, share = target.astype(real), s
    return s[:, None] * w * ((1 - epsilon) * q + epsilon / classes), share


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["indices", "probabilities"])
@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_mixes_are_exact(classes, form, dtype, level):
    if dtype is np.float64 and not truth.WIDE:
        pytest.skip("long double is no wider than float64 here")
    x, target = problem(classes, dtype, form)
    for mix in mixes(form):
        options = options_of(mix, classes, dtype)
        a, share = exact_rows(x, target, form, options)
        loss, grad, larger = truth.blended(x, a)
        divisor = options.get("normalizer", share.sum()) if options["reduction"] == "mean" else 1
        up = np.asarray(options.get("grad_output", 1.0), truth.real)
        factor = (up / divisor)[..., None] if up.ndim else up / divisor
        got_loss, got_grad = celoss.cross_entropy_with_grad(x, target, **options)
        plain = form == "indices" and options["label_smoothing"] == 0
        try:
            if options["reduction"] == "none":
                truth.assert_ulp(got_loss, loss, ulp("option loss", x.dtype))
            else:
                total = loss.sum() / divisor
                truth.assert_ulp(got_loss, total, 2 + ulp("option loss", x.dtype), dtype=dtype)
            if plain:
                grad = np.where(a > 0, -a * truth.softmax(x)[1], grad)
                truth.assert_ulp(got_grad, grad * factor, ulp("option gradient", x.dtype))
            else:
                truth.assert_ulp(got_grad, grad * factor, ulp("option gradient", x.dtype), scale=larger * abs(factor))
        except AssertionError as error:
            raise AssertionError(f"{mix}: {error}") from None
        only = celoss.cross_entropy(x, target, **{k: v for k, v in options.items() if k != "grad_output"})
        np.testing.assert_array_equal(only, got_loss)


@pytest.mark.parametrize("form", ["indices", "probabilities"])
@pytest.mark.parametrize("classes", [1, 3, 40])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mixes_agree_with_reference(axis, classes, form, level):
    """Three dimensions, any axis, sample weights that broadcast."""
    rng = np.random.default_rng(2)
    shape = [4, 5, 6]
    shape[axis] = classes
    rows = tuple(n for d, n in enumerate(shape) if d != axis)
    x = 3 * rng.standard_normal(shape)
    target = rng.integers(-1, classes, rows) if form == "indices" else rng.uniform(0, 1, shape)
    for weight, sample_weight, smoothing, reduction in itertools.product(
        [None, rng.uniform(0, 2, classes)],
        [None, 0.5, rng.uniform(0, 2, rows), rng.uniform(0, 2, rows[-1]), rng.uniform(0, 2, (rows[0], 1))],
        [0.0, 0.3],
        REDUCTIONS,
    ):
        upstream = rng.standard_normal(rows) if reduction == "none" else -2.5
        options = {
            "axis": axis, "weight": weight, "sample_weight": sample_weight, "ignore_index": -1 if form == "indices" else -100,
            "label_smoothing": smoothing, "reduction": reduction, "grad_output": upstream,
        }  # fmt: skip
        loss, grad = celoss.cross_entropy_with_grad(x, target, **options)
        expected_loss, expected_grad = reference.cross_entropy_with_grad(x, target, **options)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-13, err_msg=str(options))
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-11, atol=1e-14, err_msg=str(options))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["indices", "probabilities"])
def test_long_rows(form, dtype, level):
    """Rows cut into pieces: each has its own classes' weights and probabilities, and its part of the sums."""
    rng = np.random.default_rng(4)
    x = 3 * rng.standard_normal((3, 70_001)).astype(dtype)
    x[0, 0] = x[1, 40_000] = x[2, -1] = 20
    target = np.array([70_000, -100, 40_000]) if form == "indices" else rng.uniform(0, 2 / 70_001, x.shape).astype(dtype)
    eps = np.finfo(dtype).eps
    for weight, smoothing in itertools.product([None, np.linspace(0, 3, 70_001)], [0.0, 0.3]):
        options = {"weight": weight, "sample_weight": [1, 2, 3], "label_smoothing": smoothing, "reduction": "none"}
        expected_loss, expected_grad = reference.cross_entropy_with_grad(x, target, **options)
        for logits in (x, np.asfortranarray(x)):  # exponentials wait where the gradient goes, or are computed again
            loss, grad = celoss.cross_entropy_with_grad(logits, target, out=np.empty_like(logits), **options)
            np.testing.assert_allclose(loss, expected_loss, rtol=100 * eps, err_msg=str(options))
            np.testing.assert_allclose(grad, expected_grad, rtol=100 * eps, atol=1e-3 * eps, err_msg=str(options))


@pytest.mark.parametrize("form", ["indices", "probabilities"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("classes", [3, 40])
def test_gradient_is_the_derivative(classes, reduction, form, level):
    """Central differences of fourth order, of the loss as celoss computes it."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, classes))
    target = np.array([0, -100, 2, 1]) if form == "indices" else rng.uniform(0, 1, x.shape)
    options = {
        "weight": rng.uniform(0.5, 2, classes), "sample_weight": rng.uniform(0.5, 2, 4), "label_smoothing": 0.2,
        "reduction": reduction,
    }  # fmt: skip
    upstream = rng.standard_normal(4) if reduction == "none" else 1.5
    _, grad = celoss.cross_entropy_with_grad(x, target, grad_output=upstream, **options)

    def objective(x):
        return np.sum(upstream * celoss.cross_entropy(x, target, **options))

    np.testing.assert_allclose(grad, truth.numeric_gradient(objective, x), rtol=1e-8, atol=1e-10)


def test_formula_by_hand(level):
    """The contract's formulas with small numbers: w, s, smoothing, the weighted mean."""
    x = np.log([[1.0, 2.0, 1.0], [5.0, 3.0, 2.0]])
    w, s, e = np.array([1.0, 2.0, 4.0]), np.array([3.0, 0.5]), 0.3
    nll = -np.log([[0.25, 0.5, 0.25], [0.5, 0.3, 0.2]])
    rows = [
        3.0 * (0.7 * 2 * nll[0, 1] + 0.1 * (w * nll[0]).sum()),
        0.5 * (0.7 * 1 * nll[1, 0] + 0.1 * (w * nll[1]).sum()),
    ]
    options = {"weight": w, "sample_weight": s, "label_smoothing": e}
    np.testing.assert_allclose(celoss.cross_entropy(x, [1, 0], reduction="none", **options), rows, rtol=1e-14)
    assert celoss.cross_entropy(x, [1, 0], **options) == pytest.approx(sum(rows) / (3.0 * 2 + 0.5 * 1), rel=1e-14)
    assert celoss.cross_entropy(x, [1, 0], normalizer=4, **options) == pytest.approx(sum(rows) / 4, rel=1e-14)
    q = np.array([[0.2, 0.3, 0.1], [0.0, 2.0, 0.5]])
    rows = s * (w * (0.7 * q + 0.1) * nll).sum(axis=1)
    np.testing.assert_allclose(celoss.cross_entropy(x, q, reduction="none", **options), rows, rtol=1e-14)
    assert celoss.cross_entropy(x, q, **options) == pytest.approx(rows.sum() / 3.5, rel=1e-14)


@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("value", [0, 1, 2, -1, -100, 255, -(2**63), 2**63 - 1])
def test_ignore_index_may_be_any_integer(value, classes, level):
    """Also that of a class: such rows are ignored, the class stays."""
    rng = np.random.default_rng(4)
    x, target = rng.standard_normal((9, classes)), rng.integers(0, 3, 9)
    target[4] = value
    loss, grad = celoss.cross_entropy_with_grad(x, target, ignore_index=value)
    kept = target != value
    assert loss == pytest.approx(celoss.cross_entropy(x[kept], target[kept]), rel=1e-15)
    assert not grad[~kept].any() and grad[kept].all()


@pytest.mark.parametrize("classes", [3, 40])
def test_normalizer_makes_micro_batches_add_up(classes, level):
    rng = np.random.default_rng(5)
    x, target = rng.standard_normal((30, classes)), rng.integers(0, classes, 30)
    target[10:20] = -100  # a whole micro-batch may be ignored
    whole, grad = celoss.cross_entropy_with_grad(x, target)
    parts = [celoss.cross_entropy_with_grad(x[i : i + 10], target[i : i + 10], normalizer=20) for i in (0, 10, 20)]
    assert sum(loss for loss, _ in parts) == pytest.approx(whole, rel=1e-14)
    np.testing.assert_array_equal(np.concatenate([g for _, g in parts]), grad)


@pytest.mark.parametrize("classes", [3, 40])
def test_zero_weights_leave_nothing_behind(classes, level):
    """A class or row of weight 0 counts neither in the loss nor in the denominator; its gradient is exactly 0."""
    rng = np.random.default_rng(6)
    x, target = rng.standard_normal((8, classes)), rng.integers(1, 3, 8)
    target[2] = 0
    weight = np.ones(classes)
    weight[0] = 0
    loss, grad = celoss.cross_entropy_with_grad(x, target, weight=weight)
    kept = target != 0
    assert loss == pytest.approx(celoss.cross_entropy(x[kept], target[kept]), rel=1e-14)
    assert not grad[~kept].any()
    loss, grad = celoss.cross_entropy_with_grad(x, target, sample_weight=kept)
    assert loss == pytest.approx(celoss.cross_entropy(x[kept], target[kept]), rel=1e-14)
    assert not grad[~kept].any()


def test_grad_output_nan_and_zero(level):
    x, target = np.zeros((2, 3)), [0, 1]
    _, grad = celoss.cross_entropy_with_grad(x, target, grad_output=0.0)
    assert not grad.any()
    _, grad = celoss.cross_entropy_with_grad(x, target, grad_output=[0.0, np.nan], reduction="none")
    assert not grad[0].any() and np.isnan(grad[1]).all()


@pytest.mark.parametrize("function", [celoss.cross_entropy_with_grad, celoss.brier_score_with_grad])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_both_paths_have_the_same_bits(dtype, reduction, function):
    x, target = problem(33, dtype, "indices")
    weight = np.linspace(0, 3, 33)
    for w, smoothing, normalizer in itertools.product([None, weight], [0.0, 0.1, 1.0], [None, 7.5]):
        options = {"weight": w, "label_smoothing": smoothing, "normalizer": normalizer, "reduction": reduction}
        loss, grad = function(x, target, **options)
        with only_general():
            again = function(x, target, **options)
        np.testing.assert_array_equal(loss, again[0])
        np.testing.assert_array_equal(grad, again[1])


@pytest.mark.parametrize("classes", [3, 40])
def test_weights_in_any_form(classes, level):
    """Lists, integers, bool, half precision and strided weights: their values count."""
    rng = np.random.default_rng(7)
    x, target = rng.standard_normal((6, classes)).astype(np.float32), rng.integers(0, classes, 6)
    w, s = rng.integers(0, 3, classes), rng.integers(0, 2, 6)
    w[target[0]] = s[0] = 1
    expected = celoss.cross_entropy_with_grad(x, target, weight=w.astype(float), sample_weight=s.astype(float))
    for weight, sample_weight in [
        (w, s),
        (w.tolist(), s.tolist()),
        (w.astype(np.uint8), s.astype(bool)),
        (w.astype(np.float16), s.astype(np.float32)),
        (np.repeat(w, 2)[::2], np.repeat(s, 3)[::3]),
        (w.astype(">f4"), s.astype(">i8")),
    ]:
        loss, grad = celoss.cross_entropy_with_grad(x, target, weight=weight, sample_weight=sample_weight)
        assert loss == expected[0]
        np.testing.assert_array_equal(grad, expected[1])
