"""Every public function on inputs that hurt, on every level: errors in ulp are within the contract and as docs/accuracy.md says.

``python tests/test_accuracy.py`` prints the table of docs/accuracy.md.
"""

import functools
import math
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import test_activations
import test_binary
import test_brier
import test_cross_entropy
import test_focal
import truth
from tolerances import ulp
from truth import real

import celoss
from celoss import _kernels

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
CLASSES = [1, 2, 3, 4, 5, 10, 33, 64, 96, 97, 127, 128, 257, 1000, 5000]
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
LEVELS = [name for name, _ in _kernels.levels()]

# Each case is made of problems: what is called, the exact results, and the numbers whose ulp is counted (None: the result's).


def rows(classes, dtype, finite=False):
    _, x, t, loss, grad = test_cross_entropy.case(classes, dtype.type)
    keep = np.isfinite(x).all(axis=1) if finite else slice(None)
    return x[keep], t[keep], loss[keep], grad[keep]


def with_options(classes, dtype, *, smoothing=0.0, weighted=False, probabilities=False):
    """A problem of cross_entropy; a gradient is the difference of two terms, whose sum is what its ulp is taken of."""
    x, t, *_ = rows(classes, dtype, finite=True)
    rng = np.random.default_rng(classes)
    w = rng.uniform(0, 2, classes) if weighted else np.ones(classes)
    q = rng.dirichlet(np.full(classes, 0.1), len(x)).astype(dtype) if probabilities else np.eye(classes)[t]
    share = (1 - real(smoothing)) * q + real(smoothing) / classes
    if probabilities:
        coefficients = w.astype(real) * share
    else:  # w_t (1 - smoothing) at the target, w_c smoothing / C everywhere
        coefficients = (1 - real(smoothing)) * q * w[t][:, None] + w * real(smoothing) / classes
    loss, grad, terms = truth.blended(x, coefficients)
    terms = np.maximum(terms, np.finfo(dtype).tiny / np.finfo(dtype).eps)  # a term below the normal numbers counts as 0
    options = {"label_smoothing": smoothing, "weight": w if weighted else None, "reduction": "none"}
    return functools.partial(celoss.cross_entropy_with_grad, x, q if probabilities else t, **options), [loss, grad], [None, terms]


def class_weights(classes, dtype):
    x, t, loss, grad = rows(classes, dtype)
    w = np.random.default_rng(classes).uniform(0, 2, classes)
    s = np.random.default_rng(classes).uniform(0, 2, len(t))
    factor = w[t].astype(real) * s
    call = functools.partial(celoss.cross_entropy_with_grad, x, t, weight=w, sample_weight=s, reduction="none")
    return call, [loss * factor, grad * factor[:, None]], [None, None]


def plain(classes, dtype):
    x, t, loss, grad = rows(classes, dtype)
    return functools.partial(celoss.cross_entropy_with_grad, x, t, reduction="none"), [loss, grad], [None, None]


def vocabulary(rows, dtype):
    """128 256 classes; fewer than 16 rows are cut into pieces."""
    rng = np.random.default_rng(rows)
    x = (3 * rng.standard_normal((rows, 128_256))).astype(dtype)
    t = rng.integers(0, 128_256, rows)
    x[np.arange(0, rows, 2), t[::2]] = rng.uniform(15, 40, len(t[::2]))
    call = functools.partial(celoss.cross_entropy_with_grad, x, t, reduction="none")
    return call, [*truth.cross_entropy(x, t)], [None, None]


def focal(classes, dtype, gamma):
    x, t, *_ = rows(classes, dtype)
    call = functools.partial(celoss.cross_entropy_with_grad, x, t, focal_gamma=gamma, reduction="none")
    return call, [*test_focal.exact(x, t, gamma)], [None, None]


def brier(classes, dtype):
    x, t = test_brier.problem(classes, dtype)
    loss, grad, terms = test_brier.exact(x, t)
    return functools.partial(celoss.brier_score_with_grad, x, t, reduction="none"), [loss, grad], [None, terms]


def activation(name, classes, dtype):
    x = test_activations.rows_that_hurt(classes, dtype)
    p, _, nll = truth.softmax(x)
    m = x.max(axis=1).astype(real)
    lse = m + nll.min(axis=1)
    exact = {"softmax": p, "log_softmax": -nll, "logsumexp": lse}[name]
    scale = np.maximum(np.abs(lse), np.abs(m)) if name == "logsumexp" else None
    return lambda: [getattr(celoss, name)(x)], [exact], [scale]


def of_scores(name, dtype):
    z = test_activations.scores_that_hurt(dtype)
    p, _, softplus, _ = test_activations.exact_sigmoid(z)
    return lambda: [getattr(celoss, name)(z)], [p if name == "sigmoid" else -softplus], [None]


def binary(name, dtype):
    z = test_activations.scores_that_hurt(dtype)
    y = np.random.default_rng(1).integers(0, 2, z.shape)
    call = functools.partial(getattr(celoss, f"{name}_with_grad"), z, y, reduction="none")
    return call, [*test_binary.exact(name, z, y)], [None, None]


def binary_focal(dtype, gamma):
    z = test_activations.scores_that_hurt(dtype)
    y = np.random.default_rng(1).integers(0, 2, z.shape)
    call = functools.partial(celoss.binary_cross_entropy_with_grad, z, y, focal_gamma=gamma, reduction="none")
    return call, [*test_focal.exact_binary(z, y, gamma)], [None, None]


def binary_options(dtype):
    """Labels between 0 and 1, and every option; the gradient is a difference of two terms."""
    z = test_activations.scores_that_hurt(dtype)
    rng = np.random.default_rng(2)
    y, w, pos = rng.uniform(0, 1, z.shape).astype(dtype), rng.uniform(0, 2, z.shape), rng.uniform(0, 2, z.shape)
    p, rest, minus_log_p, minus_log_rest = test_activations.exact_sigmoid(z)
    smoothing = real(0.1)
    yes = (y * (1 - smoothing) + smoothing / 2) * pos * w
    no = ((1 - y.astype(real)) * (1 - smoothing) + smoothing / 2) * w
    call = functools.partial(
        celoss.binary_cross_entropy_with_grad, z, y, weight=w, pos_weight=pos, label_smoothing=0.1, reduction="none"
    )
    return call, [yes * minus_log_p + no * minus_log_rest, no * p - yes * rest], [None, no * p + yes * rest]


def per_class_count(make, *arguments, classes=CLASSES, **options):
    return lambda dtype: [make(*arguments, count, dtype, **options) for count in classes]


# name -> (problems of a dtype, the rows of tolerances.TABLE that bound them)
CASES = {
    "cross_entropy": (per_class_count(plain), ("loss", "gradient")),
    "cross_entropy, 128 256 classes": (per_class_count(vocabulary, classes=[3, 20]), ("loss", "gradient")),
    "cross_entropy, weights": (per_class_count(class_weights), ("option loss", "option gradient")),
    "cross_entropy, smoothing": (per_class_count(with_options, smoothing=0.1), ("option loss", "option gradient")),
    "cross_entropy, smoothing and weights": (
        per_class_count(with_options, smoothing=0.1, weighted=True),
        ("option loss", "option gradient"),
    ),
    "cross_entropy, probabilities": (per_class_count(with_options, probabilities=True), ("option loss", "option gradient")),
    "cross_entropy, probabilities and smoothing": (
        per_class_count(with_options, probabilities=True, smoothing=0.2),
        ("option loss", "option gradient"),
    ),
    "binary_cross_entropy": (lambda dtype: [binary("binary_cross_entropy", dtype)], ("binary loss", "binary gradient")),
    "binary_cross_entropy, soft labels and all options": (
        lambda dtype: [binary_options(dtype)],
        ("binary loss", "binary gradient"),
    ),
    "cross_entropy, focal_gamma 2": (per_class_count(focal, gamma=2.0), ("focal", "focal")),
    "cross_entropy, focal_gamma 5": (per_class_count(focal, gamma=5.0), ("focal", "focal")),
    "binary_cross_entropy, focal_gamma 2": (lambda dtype: [binary_focal(dtype, 2.0)], ("focal", "focal")),
    "brier_score": (per_class_count(brier), ("brier loss", "brier gradient")),
    "binary_brier_score": (lambda dtype: [binary("binary_brier_score", dtype)], ("brier loss", "brier gradient")),
    "softmax": (per_class_count(activation, "softmax"), ("activation",)),
    "log_softmax": (per_class_count(activation, "log_softmax"), ("activation",)),
    "logsumexp": (per_class_count(activation, "logsumexp"), ("activation",)),
    "sigmoid": (lambda dtype: [of_scores("sigmoid", dtype)], ("activation",)),
    "log_sigmoid": (lambda dtype: [of_scores("log_sigmoid", dtype)], ("activation",)),
}


@functools.cache
def problems(name, dtype):
    return CASES[name][0](dtype)


@functools.cache
def measured(name, dtype, level):
    """The largest error of each result, in ulp, and the limit that tolerances.py sets it."""
    before = _kernels.level()
    _kernels.use_level(level)
    worst = np.zeros(len(CASES[name][1]))
    for call, exact, scale in problems(name, dtype):
        for i, (got, right, size) in enumerate(zip(call(), exact, scale, strict=True)):
            worst[i] = max(worst[i], truth.ulp_error(got, right, scale=size).max(initial=0))
    _kernels.use_level(before)
    return tuple(map(float, worst))


def cell(errors):
    """Rounded up, so that what is stated is a bound."""
    return " / ".join(f"{math.ceil(100 * error) / 100:.2f}" for error in errors)


def table():
    """The Markdown table of docs/accuracy.md. Columns: each dtype on each level."""
    columns = [(dtype, level) for dtype in DTYPES for level in LEVELS]
    lines = [
        "| loss / gradient, or result | " + " | ".join(f"{dtype}, {level}" for dtype, level in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in CASES:
        lines.append(f"| {name} | " + " | ".join(cell(measured(name, *column)) for column in columns) + " |")
    return "\n".join(lines)


@pytest.mark.parametrize("dtype", [pytest.param(d, marks=truth.needs_wide if d == np.float64 else ()) for d in DTYPES], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_within_the_contract(name, dtype, level):
    for error, quantity in zip(measured(name, dtype, level), CASES[name][1], strict=True):
        assert error <= ulp(quantity, dtype), f"{quantity}: {error:.4g} ulp"


@truth.needs_wide
@pytest.mark.parametrize("name", CASES)
def test_docs_state_what_is_measured(name, level):
    """Another NumPy or compiler may move the last digit, so half of 1 % is let pass."""
    page = PAGE.read_text(encoding="utf-8")
    header = re.search(r"^\| loss / gradient, or result \|(.*)\|$", page, re.MULTILINE)[1].split("|")
    row = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", page, re.MULTILINE)[1].split("|")
    stated = {title.strip(): text.strip() for title, text in zip(header, row, strict=True)}
    for dtype in DTYPES:
        if f"{dtype}, {level}" not in stated:
            pytest.skip("the page states no errors of this level")
        figures = list(map(float, stated[f"{dtype}, {level}"].split(" / ")))
        np.testing.assert_allclose(figures, measured(name, dtype, level), rtol=0.005, atol=0.0101)


@pytest.mark.parametrize("classes", [2, 10, 127, 128, 1000])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_half_is_rounded_once(dtype, classes, level):
    """The loss as float32's; the gradient correctly rounded but where float32's last two bits decide (double rounding)."""
    with np.errstate(over="ignore"):
        x = rows(classes, DTYPES[0])[0].astype(dtype)
    keep = np.isfinite(x.astype(np.float32)).all(axis=1)
    x = x[keep]
    t = np.random.default_rng(0).integers(0, classes, len(x))
    exact_loss, exact_grad = truth.cross_entropy(x.astype(np.float32), t)
    loss, grad = celoss.cross_entropy_with_grad(x, t, reduction="none")
    assert (loss.dtype, grad.dtype) == (np.float32, dtype)
    truth.assert_ulp(loss, exact_loss, ulp("loss", "float32"))
    info = ml_dtypes.finfo(dtype)
    normal = np.abs(exact_grad) >= 2 * float(info.tiny)
    error = truth.ulp_error(grad, exact_grad)[normal]
    assert error.max() <= 0.5 + ulp("gradient", "float32") * 2.0 ** (info.nmant - 23)


if __name__ == "__main__":
    print(table())
