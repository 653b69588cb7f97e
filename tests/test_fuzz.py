"""Every public function on arguments of any kind: results are those of the reference, errors those that are documented.

    python -m pytest tests/test_fuzz.py                              # seconds, always the same examples
    python -m pytest tests/test_fuzz.py --hypothesis-profile=long    # minutes, other examples each time

What is drawn: a function; dtypes, shapes (empty ones, too), strides and byte order of each array; values with NaN,
infinities, subnormal numbers and ties; each option or none. How close results have to be is told in `assert_close`: the
exact limits, which need a truth more precise than the reference, are held elsewhere.
"""

import inspect
import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import celoss
from celoss._checks import FUNCTIONS as ALL_FUNCTIONS
from celoss._checks import arrays as like

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), BFLOAT16]
INTEGERS = [np.dtype(code) for code in "bBhHiIqQ"]

# (Of the numbers of a row and the divergence, test_language_models.py has the layouts, dtypes and edges.)
FUNCTIONS = {name: function for name, function in ALL_FUNCTIONS.items() if not function.kind.startswith(("stat", "div"))}
ACTIVATIONS = [name for name, function in FUNCTIONS.items() if function.kind.startswith("activation")]
BACK = [name for name, function in FUNCTIONS.items() if function.kind == "back of rows"]
OF_ROWS = [name for name, function in FUNCTIONS.items() if function.kind.endswith("rows") and function.has_target]
OF_SCORES = [name for name, function in FUNCTIONS.items() if function.kind.endswith("scores") and function.has_target]
PRODUCTS = [name for name, function in FUNCTIONS.items() if function.kind.startswith("product")]


# ---- arrays ----------------------------------------------------------------------------------------------------------


@st.composite
def values(draw, shape, dtype):
    """Numbers of a dtype: of any spread, with ties and offsets, and with special values among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype.kind in "biu":
        return rng.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)
    x = draw(st.sampled_from([1.0, 1e-3, 5.0, 60.0, 1e4])) * rng.standard_normal(shape)
    if draw(st.booleans()):
        x = np.rint(x)
    if draw(st.booleans()) and x.ndim:
        x = x + draw(st.sampled_from([100.0, -1e4])) * rng.standard_normal((*x.shape[:-1], 1))
    if draw(st.integers(0, 3)) == 0:
        info = ml_dtypes.finfo(dtype)
        special = [np.nan, np.inf, -np.inf, 0.0, -0.0, float(info.smallest_subnormal), float(info.tiny), float(info.max)]
        special = draw(st.sampled_from([special, [-np.inf], [-np.inf, 0.0], special[3:7]]))
        x = np.where(rng.random(shape) < draw(st.sampled_from([0.02, 0.3])), rng.choice(special, shape), x)
    with np.errstate(all="ignore"):
        return np.asarray(x).astype(dtype)


LAYOUTS = ["plain", "fortran", "reversed", "spaced", "transposed", "repeated", "unaligned", "byteswapped", "read-only"]


def arranged(a, layout):
    """The same numbers in another place: views, copies, other byte order. (repeated: the first along an axis of stride 0.)"""
    a = np.array(a)
    if not a.ndim and layout not in ("unaligned", "byteswapped", "read-only"):
        return a
    if layout == "fortran":
        return np.asfortranarray(a)
    if layout == "reversed":
        return np.flip(np.flip(a).copy())
    if layout == "spaced":
        room = np.zeros([2 * n for n in a.shape], a.dtype)
        view = room[tuple(slice(None, None, 2) for _ in a.shape)]
        view[...] = a
        return view
    if layout == "transposed":
        return a.transpose(range(a.ndim)[::-1]).copy().transpose(range(a.ndim)[::-1])
    if layout == "repeated" and a.shape[0]:
        return np.broadcast_to(a[:1], a.shape)
    if layout == "unaligned":
        view = np.frombuffer(bytearray(a.nbytes + 1), np.uint8)[1:].view(a.dtype).reshape(a.shape)
        view[...] = a
        return view
    if layout == "byteswapped" and a.dtype != BFLOAT16:
        return a.astype(a.dtype.newbyteorder())
    if layout == "read-only":
        a.flags.writeable = False
    return a


@st.composite
def arrays(draw, shape, dtype):
    return arranged(draw(values(shape, dtype)), draw(st.sampled_from(LAYOUTS)))


sizes = st.one_of(st.integers(0, 9), st.sampled_from([1, 2, 3, 16, 17, 33, 70, 81, 82, 97, 130]))


@st.composite
def shapes(draw, least=1):
    """Up to four dimensions and some thousand numbers."""
    shape = draw(st.lists(sizes, min_size=least, max_size=4))
    while np.prod(shape) > 6000:
        shape[int(np.argmax(shape))] //= 3
    return tuple(shape)


def weights(shape, signs=(1,)):
    """Finite numbers, zeros among them; of one or the other sign where there are `signs`."""
    return st.builds(
        lambda seed, zeros, scale, sign: np.where(
            np.random.default_rng(seed).random(shape) < zeros,
            0,
            np.random.default_rng(seed + 1).uniform(min(sign, 0) * scale, max(sign, 0.25) * scale, shape),
        ),
        st.integers(0, 2**32),
        st.sampled_from([0, 0.3, 1]),
        st.sampled_from([1.0, 3.0, 1e6]),
        st.sampled_from(signs),
    )


EITHER_SIGN = (1, 1, -1)  # of rows and of scores


def one_hot(indices, classes, axis, kind):
    """Class indices as rows that hold a single 1."""
    return np.moveaxis(indices[..., None] == np.arange(classes), -1, axis).astype(kind)


# The options that `calls` and `outs` make values for.
DRAWN = {"axis", "keepdims", "ignore_index", "weight", "pos_weight", "sample_weight", "label_smoothing", "reduction",
         "normalizer", "n_threads", "grad_output", "out", "hess_out",
         # Not drawn: results are those of logits nearby, or have a term of another size (test_language_options.py).
         "logit_softcap", "z_loss"}  # fmt: skip


# ---- calls -----------------------------------------------------------------------------------------------------------


def axes_of(shape):
    """Some of the axes, counted from either end."""
    axes = st.lists(st.integers(0, len(shape) - 1), unique=True)
    return st.builds(lambda chosen, back: tuple(a - len(shape) if back else a for a in chosen), axes, st.booleans())


@st.composite
def calls(draw, name):
    """Positional arguments and options of a call that is no error."""
    function = FUNCTIONS[name]
    of_rows, names = function.of_rows, function.options
    dtype = draw(st.one_of(st.sampled_from(FLOATS), st.sampled_from([*FLOATS, *INTEGERS, np.dtype(bool)])))
    shape = draw(shapes(least=of_rows))
    options = {}
    if of_rows and name in ACTIVATIONS:
        axis = draw(st.one_of(st.integers(-len(shape), len(shape) - 1), st.none(), axes_of(shape)))
        if axis != -1 or draw(st.booleans()):
            options["axis"] = axis
    elif of_rows:
        axis = draw(st.integers(-len(shape), len(shape) - 1))
        if shape[axis] == 0:
            shape = tuple(1 if i == axis % len(shape) else n for i, n in enumerate(shape))
        rows, classes = tuple(np.delete(shape, axis)), shape[axis]
        if axis != -1 or draw(st.booleans()):
            options["axis"] = axis
    x = draw(arrays(shape, dtype))
    if name in BACK:
        if name == "log_softmax_vjp" and x.dtype.kind not in "biu":
            x = arranged(-np.abs(draw(values(shape, dtype))), draw(st.sampled_from(LAYOUTS)))
        return [x, draw(arrays(shape, draw(st.sampled_from([*FLOATS, *INTEGERS]))))], options
    if name in ACTIVATIONS:
        if "keepdims" in names:
            options["keepdims"] = draw(st.booleans())
        return [x], options

    loss_shape = rows if of_rows else shape
    if of_rows and draw(st.booleans()):
        ignored = draw(st.sampled_from([-100, 1, -1, 255]))
        kind = draw(st.sampled_from([code for code in INTEGERS if code.itemsize > 1]))
        seed = draw(st.integers(0, 2**32))
        target = np.random.default_rng(seed).integers(0, classes, rows)
        if x.ndim > 1 and draw(st.integers(0, 3)) == 0:
            kind, ignored = draw(st.sampled_from([*INTEGERS, np.dtype(bool)])), -100
            target = one_hot(target, classes, axis, kind)
        elif np.iinfo(kind).min <= ignored <= np.iinfo(kind).max:
            target = np.where(np.random.default_rng(seed + 1).random(rows) < draw(st.sampled_from([0, 0.3, 1])), ignored, target)
        layout = draw(st.sampled_from(LAYOUTS))
        if layout != "repeated" or target.shape != x.shape:  # which might repeat the 1 of a one-hot row
            target = arranged(target.astype(kind), layout)
        if ignored != -100 or draw(st.booleans()):
            options["ignore_index"] = ignored
    else:
        kind = draw(st.sampled_from(FLOATS if of_rows else [*FLOATS, *INTEGERS, np.dtype(bool)]))
        y = draw(weights(shape)) % 1
        y = np.rint(y) if kind.kind in "biu" or draw(st.booleans()) else y
        target = arranged(y.astype(kind), draw(st.sampled_from(LAYOUTS)))
    hard = target.dtype.kind in "biu" if of_rows else bool(((target == 0) | (target == 1)).all())

    if "weight" in names and draw(st.booleans()) and function.takes(["weight"], hard):
        options["weight"] = draw(
            weights((classes,)) if of_rows else weights(draw(st.sampled_from([shape, shape[-1:], ()])), EITHER_SIGN)
        )
    if "pos_weight" in names and draw(st.booleans()):
        options["pos_weight"] = draw(weights(draw(st.sampled_from([shape, shape[-1:], ()]))))
    if "sample_weight" in names and draw(st.booleans()):
        options["sample_weight"] = draw(weights(draw(st.sampled_from([rows, rows[-1:], ()])), EITHER_SIGN))
    if "label_smoothing" in names and draw(st.booleans()):
        options["label_smoothing"] = draw(st.sampled_from([0.1, 0, 1e-9, 0.5, 1, 1.0]))
    if draw(st.booleans()):
        options["reduction"] = draw(st.sampled_from(["mean", "sum", "none"]))
    if draw(st.booleans()):
        options["normalizer"] = draw(st.sampled_from([1, 0.25, 1000.0]))
    if draw(st.booleans()):
        options["n_threads"] = draw(st.sampled_from([1, 2, 7]))
    if "grad_output" in names and draw(st.booleans()):
        whole = options.get("reduction") == "none" and draw(st.booleans())
        options["grad_output"] = (
            np.random.default_rng(draw(st.integers(0, 99))).standard_normal(loss_shape)
            if whole
            else draw(st.sampled_from([2, -0.5, 0, 1e3]))
        )
    # Of an option that nothing is drawn for here, the example of the list.
    for option in names.keys() - DRAWN:
        if x.ndim and draw(st.booleans()) and function.takes([*options, option], hard):
            options[option] = names[option].example(like(np.moveaxis(x, options.get("axis", -1), -1)))
    if name in PRODUCTS:
        return [x, target, draw(arrays(shape, draw(st.sampled_from([*FLOATS, *INTEGERS]))))], options
    return [x, target], options


@st.composite
def outs(draw, x):
    """None, another array for a result like x, or x itself."""
    kind = draw(st.sampled_from(["none", "itself", *LAYOUTS]))
    wanted = np.dtype(np.float64) if x.dtype.kind in "biu" else x.dtype
    if kind == "itself" and x.flags.writeable and x.dtype == wanted and x.dtype.isnative:
        return x
    if kind in ("none", "itself", "repeated", "byteswapped", "read-only"):
        return None
    return arranged(np.full(x.shape, 7, wanted.newbyteorder("=")), kind)


# ---- how close is close ----------------------------------------------------------------------------------------------


def eps_of(dtype):
    return float(ml_dtypes.finfo(dtype if dtype.kind not in "biu" else np.float64).eps)


def cancelling_terms(name, args, options):
    """Of each loss before reduction, the size of the terms whose difference its gradient is; 0 where nothing cancels."""
    x, target = (np.asarray(a) for a in args)
    s = np.abs(options.get("sample_weight", 1.0))
    w = np.abs(np.asarray(options.get("weight", 1.0), np.float64))
    smoothing, axis = options.get("label_smoothing", 0.0), options.get("axis", -1)
    if name in OF_SCORES:
        y = target.astype(np.float64)
        if ((y == 0) | (y == 1)).all() and not smoothing:
            return np.zeros(x.shape)
        return w * np.maximum(1, options.get("pos_weight", 1.0)) * np.ones(x.shape)
    if target.dtype.kind in "iu":
        whole = bool(smoothing) or name.startswith("brier_score")
        return whole * s * w.max(initial=0) * np.ones(target.shape)
    q = (1 - smoothing) * np.moveaxis(target.astype(np.float64), axis, -1) + smoothing / max(x.shape[axis], 1)
    return s * ((w * q).sum(axis=-1) + (name.startswith("brier_score")))


def with_indices(name, args, options):
    """One-hot rows as class indices."""
    x, target = (np.asarray(a) for a in args)
    if name in OF_ROWS and target.dtype.kind in "biu" and target.ndim > 1 and target.shape == x.shape:
        target = target.argmax(axis=options.get("axis", -1))
    return x, target


def as_read(name, args):
    """The arguments as the kernels read them: what is for each score is float32 beside scores that are not float64."""
    x, target = (np.asarray(a) for a in args[:2]) if name in OF_SCORES or name in BACK else (None, None)
    if target is None or target.dtype.kind != "f" or x.dtype.kind in "biu" or x.dtype.itemsize == 8:
        return args
    with np.errstate(all="ignore"):
        return x, target.astype(np.float32), *args[2:]


def assert_close(got, expected, dtype, most, scale=0.0):
    """Within `most` units of the dtype's last place, of the expected value or of `scale`; NaN is NaN, inf is inf."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    with np.errstate(all="ignore"):
        # Results are rounded to `dtype` after arithmetic in float32 or float64, which has no subnormal products.
        work = np.float64 if dtype.name == "float64" or dtype.kind in "biu" else np.float32
        allowed = most * eps_of(dtype) * np.fmax(np.abs(expected), np.where(np.isfinite(scale), scale, 0)) + 4 * float(
            np.finfo(work).tiny
        )
        if dtype in FLOATS[2:]:
            allowed += float(ml_dtypes.finfo(dtype).smallest_subnormal)
        close = (np.abs(got - expected) <= allowed) | (got == expected) | (np.isnan(got) & np.isnan(expected))
    assert close.all(), (
        f"{got[~close][:3]} instead of {expected[~close][:3]} (allowed {np.broadcast_to(allowed, got.shape)[~close][:3]})"
    )


MOST = 24  # both sides round: celoss to 8 units where terms cancel, the reference in float64 as often


def agree(name, args, options, results, expected):
    """A loss, alone or with its derivatives, against those of the reference."""
    dtype = np.asarray(args[0]).dtype.newbyteorder("=")
    args = with_indices(name, args, options)
    loss, *derivatives = results if isinstance(results, tuple) else (results,)
    expected_loss, *expected_derivatives = expected if isinstance(expected, tuple) else (expected,)
    assert len(derivatives) == len(expected_derivatives)
    assert isinstance(loss, float) == isinstance(expected_loss, float)
    precision = np.dtype(np.float64) if dtype.name == "float64" or dtype.kind in "biu" else np.dtype(np.float32)
    if isinstance(loss, np.ndarray):
        assert loss.dtype == expected_loss.dtype
    with np.errstate(all="ignore"):
        terms = cancelling_terms(name, args, options)
        is_mean = options.get("reduction", "mean") == "mean"
        divisor = denominator(name, args, options) if is_mean else 1.0
        up = np.abs(options.get("grad_output", 1.0)) / np.abs(divisor)
        # The losses are sums of terms >= 0, but for the Brier score's squares of differences.
        loss_terms = 0.0 if "brier" not in name else terms.sum() / divisor if isinstance(loss, float) else terms
        # Weights of both signs: what is added cancels, and so does what the mean divides by.
        cancelled = 1.0
        if any(np.any(np.asarray(options.get(option, 1.0)) < 0) for option in ("sample_weight", "weight")):
            absolute = {o: np.abs(options[o]) for o in ("sample_weight", "weight") if o in options}
            cancelled = np.fmax(denominator(name, args, options | absolute) / np.abs(divisor), 1.0) if is_mean else 1.0
            each = getattr(celoss.reference, name.partition("_with_grad")[0])(
                *args, **{o: v for o, v in options.items() if o not in ("grad_output", "normalizer")} | {"reduction": "none"}
            )
            if isinstance(loss, float):
                loss_terms = np.fmax(np.abs(loss_terms), np.abs(each.astype(np.float64)).sum() / np.abs(divisor)) * cancelled
    # Sums of many equal numbers drift: by less than a unit for each number of a block, on both sides.
    most = MOST + min(terms.size, 256) if isinstance(loss, float) else MOST
    assert_close(loss, expected_loss, precision, most, loss_terms)
    for grad, expected_grad in zip(derivatives[:1], expected_derivatives, strict=False):
        assert grad.dtype == expected_grad.dtype
        with np.errstate(all="ignore"):
            terms = terms * up
            if name in OF_ROWS:
                axis = options.get("axis", -1)
                terms = np.expand_dims(terms, axis)
                if name.startswith("brier_score"):  # p_k times such a difference
                    terms = 2 * terms * celoss.reference.softmax(np.asarray(args[0], np.float64), axis=axis)
            terms = np.fmax(np.abs(expected_grad.astype(np.float64)), terms) * cancelled
        assert_close(grad, expected_grad, dtype, MOST, terms)
    for hess, expected_hess in zip(derivatives[1:], expected_derivatives[1:], strict=True):
        assert hess.dtype == expected_hess.dtype
        with np.errstate(all="ignore"):  # of a focal loss it is a difference, of terms like the gradient
            focal = options.get("focal_gamma", 0) * (1 + options.get("focal_gamma", 0))
            terms = (np.abs(expected_hess.astype(np.float64)) + focal * terms) * cancelled
        assert_close(hess, expected_hess, dtype, MOST, terms)


def agree_product(name, args, options, result, expected):
    """A Hessian's product with a vector, in units of the terms that it is the difference of."""
    assert result.dtype == expected.dtype
    x, target, v = (np.asarray(a) for a in args)
    x, v, axis = x.astype(np.float64), np.abs(v.astype(np.float64)), options.get("axis", -1)
    gamma = options.pop("focal_gamma", 0)
    with np.errstate(all="ignore"):
        if name in OF_SCORES:
            _, grad, hess = celoss.reference.binary_cross_entropy_with_grad_hess(x, target, **options)
            terms = (1 + gamma) ** 2 * (np.abs(hess) + gamma * np.abs(grad)) * v
        else:  # where all logits are alike, a row's mass is C^2 / (C - 1) times its Hessian
            classes = x.shape[axis]
            _, _, hess = celoss.reference.cross_entropy_with_grad_hess(np.zeros_like(x), target, **options)
            mass = np.abs(hess) * classes**2 / (classes - 1) if classes > 1 else np.full(x.shape, np.inf)
            p = celoss.reference.softmax(x, axis=axis)
            terms = (1 + gamma) ** 2 * mass * (p * v).sum(axis=axis, keepdims=True)
        # Nothing is said of a vector that makes a number of what is beyond the dtype, or something infinite of a row.
        said = np.isfinite(terms) | np.isnan(p if name in OF_ROWS else x)
        said &= (v < 1e6).all(axis=axis, keepdims=True) if name in OF_ROWS else v < 1e6
    result, expected = (np.where(said, a.astype(np.float64), 0) for a in (result, expected))
    assert_close(result, expected, np.asarray(args[0]).dtype.newbyteorder("="), MOST, np.where(said, terms, 0))


def agree_back(name, args, options, result, expected):
    """A gradient with respect to scores, in units of the terms that it is the difference of."""
    assert result.dtype == expected.dtype
    axis = options.get("axis", -1)
    p, g = (np.asarray(a).astype(np.float64) for a in args)
    with np.errstate(all="ignore"):
        factor = p if name == "softmax_vjp" else np.exp(p)
        each = np.abs(p * g) if name == "softmax_vjp" else np.abs(g)
        own = np.abs(p * g) if name == "softmax_vjp" else np.abs(g)
        terms = own + np.abs(factor) * each.sum(axis=axis, keepdims=True)
        # What float64 cannot add up may be infinite or not, as the order has it.
        overflow = ~np.isfinite(terms) & (np.isfinite(p) & np.isfinite(g)).all(axis=axis, keepdims=True)
    assert_close(np.where(overflow, 0, result), np.where(overflow, 0, expected), expected.dtype, MOST, terms)


def denominator(name, args, options):
    """What the mean of a call is divided by: the reference's sum over its mean, of losses that are all 1."""
    if "normalizer" in options:
        return options["normalizer"] or 1.0
    x, target = args
    if name in OF_SCORES:
        return np.size(x)
    s = np.broadcast_to(options.get("sample_weight", 1.0), np.delete(np.shape(x), options.get("axis", -1)))
    if np.asarray(target).dtype.kind not in "iu":
        return s.sum()
    counts = (np.asarray(target).astype(object) != options.get("ignore_index", -100)) & (s != 0)
    w = np.broadcast_to(options.get("weight", 1.0), np.shape(x)[options.get("axis", -1)])
    return (s * w[np.where(counts, target, 0).astype(int)] * counts).sum() if w.size else 0.0


def quietly(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".* have one class", UserWarning)
        return function(*args, **options)


# ---- the tests -------------------------------------------------------------------------------------------------------


# Each test is one of many: the profile's examples are shared out.
some = settings(max_examples=settings.default.max_examples // 4)


@pytest.mark.parametrize("name", FUNCTIONS)
@some
@given(data=st.data())
def test_results_are_those_of_the_reference(name, data):
    args, options = data.draw(calls(name))
    out = data.draw(outs(args[0])) if "out" in FUNCTIONS[name].options else None
    expected = getattr(celoss.reference, name)(*as_read(name, args), **options)
    before = [a.copy() for a in args]
    given_out = {} if out is None else {"out": out}
    if "hess_out" in FUNCTIONS[name].options:
        hess_out = data.draw(outs(args[0]))
        given_out |= {} if hess_out is None or hess_out is out else {"hess_out": hess_out}
    results = quietly(getattr(celoss, name), *args, **options, **given_out)
    for place, option in enumerate(("out", "hess_out"), 1):
        if option in given_out:
            assert (results[place] if isinstance(results, tuple) else results) is given_out[option]
    for a, copy in zip(args, before, strict=True):
        assert any(a is place for place in given_out.values()) or a.tobytes() == copy.tobytes(), "an input was written to"
    if name in BACK:
        return agree_back(name, as_read(name, before), options, results, expected)
    if name in PRODUCTS:
        return agree_product(name, as_read(name, before), options, results, expected)
    if name not in ACTIVATIONS:
        return agree(name, before, options, results, expected)
    assert results.dtype == expected.dtype
    x = before[0].astype(np.float64)
    with np.errstate(all="ignore"):
        largest = np.abs(x[np.isfinite(x)]).max(initial=0) if name == "logsumexp" else 0
    assert_close(results, expected, expected.dtype, MOST, largest)


@pytest.mark.parametrize(
    ("criterion", "name"), [("CrossEntropyLoss", "cross_entropy"), ("BinaryCrossEntropyLoss", "binary_cross_entropy")]
)
@given(data=st.data())
def test_criteria(criterion, name, data):
    """One object in several calls of one set of options: what the function gives, and that times an upstream gradient."""
    args, options = data.draw(calls(f"{name}_with_grad"))
    upstream = options.pop("grad_output", None)
    loss_object = getattr(celoss, criterion)(**options)
    for x in (args[0], args[0][..., ::-1] if np.ndim(args[0]) else args[0], args[0]):
        loss = quietly(loss_object, x, args[1])
        expected, grad = getattr(celoss, f"{name}_with_grad")(x, args[1], **options)
        np.testing.assert_array_equal(loss, expected)
        np.testing.assert_array_equal(loss_object.backward().astype(np.float64), grad.astype(np.float64))
    if upstream is not None:
        with np.errstate(all="ignore"):
            up = np.asarray(upstream, np.float64)
            if up.ndim and name in OF_ROWS:
                up = np.expand_dims(up, options.get("axis", -1))
            scaled = (grad.astype(np.float64) * up).astype(grad.dtype)
        got = quietly(loss_object.backward, upstream)
        np.testing.assert_array_equal(got.astype(np.float64), scaled.astype(np.float64))


class Odd:
    """No number and no array."""

    def __repr__(self):
        return "Odd()"


JUNK = [None, "abc", b"ab", {}, [[1.0], [1.0, 2.0]], Odd(), 1j, np.array(["a"]), np.array([1j]), np.array([None, 1]),
        np.zeros(3, "m8[s]"), np.zeros(2, "i4,f4"), np.ma.masked_array([1.0, 2.0])]  # fmt: skip
BAD = {
    "logits": JUNK,
    "target": [*JUNK, np.zeros((7, 7, 7)), np.zeros((7, 7, 7), int)],
    "axis": [9, -9, 1.5, "0", (0, 0), (0, 9), [0], Odd()],
    "weight": [*JUNK[1:], -np.inf, np.nan, [np.inf], np.ones((5, 5, 5, 5, 5))],
    "pos_weight": [*JUNK[1:], -1.0, np.nan, [np.inf], np.ones((5, 5, 5, 5, 5))],
    "sample_weight": [*JUNK[1:], -np.inf, np.nan, [np.inf], np.ones((5, 5, 5, 5, 5))],
    "ignore_index": [None, 1.5, "1", [1], Odd()],
    "label_smoothing": [None, "0.1", -0.1, 1.5, np.nan, [0.1, 0.2], Odd(), 1j],
    "reduction": [None, "average", 1, ["mean"], Odd(), b"mean"],
    "normalizer": ["1", -1.0, np.inf, np.nan, [1, 2], Odd(), 1j],
    "n_threads": [0, -1, 1.5, "2", [1], Odd()],
    "grad_output": [*JUNK[1:], np.ones((5, 5, 5, 5, 5))],
    "out": [1.0, "abc", [0.0], Odd(), np.zeros((5, 5, 5, 5, 5)), np.zeros(3, "m8[s]"), np.ma.masked_array([1.0])],
    "vector": [*JUNK, np.zeros((7, 7, 7)), 1.0],
}  # fmt: skip
BAD["hess_out"] = BAD["out"]
BAD["x"] = BAD["logits"]
DOCUMENTED = (TypeError, ValueError, IndexError, np.exceptions.AxisError)


@pytest.mark.parametrize("name", FUNCTIONS)
@some
@given(data=st.data())
def test_a_bad_argument_is_named(name, data):
    args, options = data.draw(calls(name))
    parameters = list(inspect.signature(getattr(celoss, name)).parameters)
    bad = data.draw(st.sampled_from([p for p in parameters if p != "keepdims"]))  # whatever it is, it is true or not
    value = data.draw(st.sampled_from(BAD.get(bad, ["abc", Odd(), 1j, [[1.0], [1.0, 2.0]]])))
    if bad in parameters[: len(args)]:
        args[parameters.index(bad)] = value
    else:
        options[bad] = value
    with pytest.raises(DOCUMENTED) as error:
        quietly(getattr(celoss, name), *args, **options)
    assert type(error.value) in DOCUMENTED and bad in str(error.value)


# What the reference takes as it comes, and celoss looks at.
UNCHECKED = ("n_threads", "ignore_index", "out", "hess_out")


@pytest.mark.parametrize("name", FUNCTIONS)
@some
@given(data=st.data())
def test_errors_are_those_of_the_reference(name, data):
    """Arguments that need not fit each other: of other calls, of other dtypes, out of range. Both refuse, or both agree."""
    args, options = data.draw(calls(name))
    other_args, other_options = data.draw(calls(name))
    for i in range(len(args)):
        if data.draw(st.integers(0, 3)) == 0:
            args[i] = data.draw(
                st.one_of(st.just(other_args[i]), arrays(np.shape(args[i]), np.dtype(np.int16)), arrays((), FLOATS[0]))
            )
    for option, value in other_options.items():
        if data.draw(st.booleans()):
            options[option] = value
    if "normalizer" in FUNCTIONS[name].options and data.draw(st.integers(0, 7)) == 0:
        options["normalizer"] = 0  # for what is left out altogether
    try:
        expected = quietly(getattr(celoss.reference, name), *(as_read(name, args) if name in BACK else args), **options)
    except Exception:
        expected = None
    try:
        results = quietly(getattr(celoss, name), *args, **options)
    except DOCUMENTED as error:
        assert type(error) in DOCUMENTED
        assert expected is None or any(word in str(error) for word in UNCHECKED), f"the reference takes it: {error}"
        return
    assert expected is not None, "the reference refuses it"
    if name in BACK:
        agree_back(name, args, options, results, expected)
    elif name in PRODUCTS:
        agree_product(name, as_read(name, args), options, results, expected)
    elif name not in ACTIVATIONS:
        agree(name, args, options, results, expected)
