"""A linear layer and its loss in one: the same numbers as in two steps, without their logits.

Against the reference in float64, against unfused calls of celoss, and against PyTorch; chunks, rows that are left out, memory,
halves, errors.
"""

import inspect
import itertools
import signal
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import ulp

import celoss
from celoss import LinearGradients, linear, linear_cross_entropy, linear_cross_entropy_with_grad, reference

NAN = np.nan
HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
DTYPES = [np.dtype(np.float64), np.dtype(np.float32), *HALVES]
EPS = {d: float(ml_dtypes.finfo(d).eps) for d in DTYPES}
REDUCTIONS = ["mean", "sum", "none"]
OF_LANGUAGE_MODELS = ["logit_scale", "logit_softcap", "z_loss"]


class Layer:
    """A layer, rows for it, and something for each of its options."""

    def __init__(self, rows=(11,), width=6, classes=9, dtype=np.float64, seed=0):
        rng = np.random.default_rng(seed)
        self.features = rng.standard_normal((*rows, width)).astype(dtype)
        self.weight = rng.standard_normal((classes, width)).astype(dtype)
        self.bias = rng.standard_normal(classes).astype(dtype)
        self.indices = rng.integers(classes, size=rows)
        self.soft = rng.uniform(0, 1, (*rows, classes))
        self.class_weight = rng.uniform(0.5, 2, classes)
        self.row_weight = rng.uniform(-1, 3, rows)
        self.upstream = rng.uniform(-2, 2, rows)

    @property
    def layer(self):
        return self.features, self.weight

    def options(self, hard):
        """Each option alone, and as many as go together."""
        yield {}
        yield {"linear_bias": self.bias}
        yield {"weight": self.class_weight}
        yield {"sample_weight": self.row_weight}
        yield {"weight": self.class_weight, "sample_weight": self.row_weight}
        yield {"label_smoothing": 0.2}
        yield {"normalizer": 3.5}
        yield {"grad_output": -1.5}
        if hard:
            yield {"focal_gamma": 2.0, "linear_bias": self.bias}
            yield {"ignore_index": int(self.indices.flat[0]) if self.indices.size else 0}
        yield {
            "linear_bias": self.bias, "weight": self.class_weight, "sample_weight": self.row_weight, "label_smoothing": 0.1,
            "normalizer": 2.0, "grad_output": 0.5, "n_threads": 2,
        }  # fmt: skip


def check(got, exact, dtype, least=0):
    """Loss and gradients: within the table's number of machine epsilons of the largest of each, or of `least`."""
    (loss, gradients), (exact_loss, exact_gradients) = got, exact
    arithmetic = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    for name, value, expected in zip(["loss", *LinearGradients._fields], [loss, *gradients], [exact_loss, *exact_gradients],
                                     strict=True):  # fmt: skip
        if expected is None:
            assert value is None, name
            continue
        value, expected = np.asarray(value), np.asarray(expected)
        assert value.shape == expected.shape, name
        if name != "loss":
            assert value.dtype == expected.dtype, name
        value, expected = value.astype(np.float64), expected.astype(np.float64)
        assert_array_equal(np.isnan(value), np.isnan(expected), name)
        largest = np.nan_to_num(np.abs(expected)).max(initial=least)
        allowed = ulp("linear", arithmetic) * EPS[arithmetic] + (name != "loss") * EPS[dtype]
        assert np.all(np.nan_to_num(np.abs(value - expected)) <= allowed * largest), name


def loss_alone(*arguments, **options):
    return linear_cross_entropy(
        *arguments, **{name: value for name, value in options.items() if name not in ("grad_output", "out")}
    )


@pytest.fixture
def products(monkeypatch):
    """The first factors of all products that are made."""
    factors, matmul = [], np.matmul

    def recorded(a, b, **more):
        factors.append(a)
        return matmul(a, b, **more)

    monkeypatch.setattr(np, "matmul", recorded)
    return factors


# ---- values ------------------------------------------------------------------------------------------------------------------


def test_signatures():
    """Those of the reference; and the options of cross_entropy but the axis, which is the last."""
    for name in ("linear_cross_entropy", "linear_cross_entropy_with_grad"):
        here, there = (inspect.signature(getattr(module, name)).parameters for module in (celoss, reference))
        assert [(p.name, p.kind, p.default) for p in here.values()] == [(p.name, p.kind, p.default) for p in there.values()]
        plain = inspect.signature(getattr(celoss, name.removeprefix("linear_"))).parameters
        own = ["features", "linear_weight", "linear_bias", "chunk_bytes"]
        assert [n for n in here if n not in own] == [n for n in plain if n not in ("logits", "axis")]
        assert all(here[n].default == plain[n].default for n in plain if n in here and n != "logits")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", ["indices", "probabilities", "one-hot"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values(reduction, form, dtype):
    """Shapes, options and chunks, against the reference on the same numbers."""
    for rows, width, classes in [
        ((11,), 6, 9),
        ((2, 3), 4, 5),
        ((1,), 1, 2),
        ((), 3, 4),
        ((5,), 40, 3),
        ((0,), 3, 4),
        ((2, 0), 3, 4),
    ]:
        a = Layer(rows, width, classes, dtype)
        target = {"indices": a.indices, "probabilities": a.soft, "one-hot": np.eye(classes, dtype=bool)[a.indices]}[form]
        if form == "one-hot" and not rows:
            continue
        for options, chunk_bytes in itertools.product(a.options(form != "probabilities"), (None, 1, 3 * 8 * max(width, classes))):
            if reduction == "none" and "grad_output" in options:
                options = options | {"grad_output": a.upstream}
            exact = reference.linear_cross_entropy_with_grad(*a.layer, target, reduction=reduction, **options)
            got = linear_cross_entropy_with_grad(*a.layer, target, reduction=reduction, chunk_bytes=chunk_bytes, **options)
            check(got, exact, dtype)
            loss = loss_alone(*a.layer, target, reduction=reduction, chunk_bytes=chunk_bytes, **options)
            assert_array_equal(loss, got[0])
            assert type(loss) is type(got[0])
            if reduction == "none":
                assert loss.dtype == (np.float64 if dtype == np.float64 else np.float32)
                assert isinstance(loss, np.ndarray if rows else np.generic)
            else:
                assert type(loss) is float


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_options_of_language_models(reduction):
    a = Layer()
    for options in (
        {"logit_scale": 0.5},
        {"logit_softcap": 2.0},
        {"z_loss": 0.1},
        dict(zip(OF_LANGUAGE_MODELS, (2.0, 3.0, 0.01), strict=True)),
    ):
        for target in (a.indices, a.soft):
            exact = reference.linear_cross_entropy_with_grad(*a.layer, target, linear_bias=a.bias, reduction=reduction, **options)
            got = linear_cross_entropy_with_grad(
                *a.layer, target, linear_bias=a.bias, reduction=reduction, chunk_bytes=200, **options
            )
            check(got, exact, np.dtype(np.float64))
            plain = linear_cross_entropy(*a.layer, target, linear_bias=a.bias, reduction=reduction)
            assert np.all(plain != got[0])
    with pytest.raises(ValueError, match="z_loss"):
        linear_cross_entropy(*a.layer, a.indices, z_loss=-1.0)


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_two_steps_in_one(reduction, dtype):
    """What the layer and celoss give one after the other."""
    a = Layer((40,), 16, 100, dtype)
    a.indices[::7] = -100
    for options in a.options(True):
        bias, upstream = options.pop("linear_bias", None), options.get("grad_output")
        logits = a.features @ a.weight.T + (0 if bias is None else bias)
        loss, g = celoss.cross_entropy_with_grad(logits, a.indices, reduction=reduction, **options)
        gradients = (g @ a.weight, g.T @ a.features, None if bias is None else g.sum(axis=0))
        got = linear_cross_entropy_with_grad(
            *a.layer, a.indices, linear_bias=bias, reduction=reduction, chunk_bytes=5000, **options
        )
        check(got, (loss, gradients), np.dtype(dtype))
        assert upstream is None or np.any(got[1].features)


def test_torch():
    """In float64, as torch.nn.functional computes it from the logits."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for (rows, width, classes), smoothing, reduction in itertools.product(
        [((11,), 6, 9), ((40,), 3, 70), ((1,), 5, 2)], (0.0, 0.3), REDUCTIONS
    ):
        a = Layer(rows, width, classes)
        a.indices[3::4] = -100
        for target, more in itertools.product((a.indices, a.soft), ({}, {"weight": a.class_weight})):
            tensors = [torch.from_numpy(x.copy()).requires_grad_() for x in (a.features, a.weight, a.bias)]
            logits = torch.nn.functional.linear(*tensors)
            loss = torch.nn.functional.cross_entropy(
                logits, torch.from_numpy(target), label_smoothing=smoothing, reduction=reduction,
                **{name: torch.from_numpy(value) for name, value in more.items()},
            )  # fmt: skip
            loss.sum().backward()
            got = linear_cross_entropy_with_grad(
                *a.layer, target, linear_bias=a.bias, label_smoothing=smoothing, reduction=reduction, chunk_bytes=300, **more
            )
            # PyTorch's gradient is a difference of probabilities, of which little may be left.
            check(got, (loss.detach().numpy(), [t.grad.numpy() for t in tensors]), np.dtype(np.float64), least=1)


def test_dtypes_may_differ():
    """Arithmetic is float64 where one of the layer's arrays is, and each gradient has the dtype of its own."""
    for x, w, b in itertools.product([*DTYPES, np.dtype(np.int8)], [*DTYPES, np.dtype(np.int64)], [None, *DTYPES]):
        a = Layer((5,), 4, 7)
        features, weight = (2 * a.features).astype(x), (2 * a.weight).astype(w)
        bias = None if b is None else a.bias.astype(b)
        for chunk_bytes in (None, 60):
            got = linear_cross_entropy_with_grad(
                features, weight, a.indices, linear_bias=bias, reduction="none", chunk_bytes=chunk_bytes
            )
            wide = np.float64 in (x, w, b) or x.kind == "i" or w.kind == "i"
            assert got[0].dtype == (np.float64 if wide else np.float32)
            exact = reference.linear_cross_entropy_with_grad(features, weight, a.indices, linear_bias=bias, reduction="none")
            for name, value, expected in zip(LinearGradients._fields, got[1], exact[1], strict=True):
                if expected is None:
                    assert value is None
                    continue
                assert value.dtype == expected.dtype, name
                eps = EPS[value.dtype] + ulp("linear", np.dtype("f4")) * EPS[np.dtype(np.float64 if wide else np.float32)]
                error = np.abs(value.astype(float) - expected.astype(float)).max()
                assert error <= eps * np.abs(expected.astype(float)).max(), (name, x, w, b)


def test_lists_and_other_byte_orders():
    a = Layer()
    exact = linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias)
    swapped = [x.astype(x.dtype.newbyteorder()) for x in (a.features, a.weight, a.bias)]
    for x, w, b in ([a.features.tolist(), a.weight.tolist(), a.bias.tolist()], swapped):
        check(linear_cross_entropy_with_grad(x, w, a.indices.tolist(), linear_bias=b), exact, np.dtype(np.float64))
    soft = a.soft.astype(">f4")
    assert linear_cross_entropy(*a.layer, soft) == linear_cross_entropy(*a.layer, soft.astype("=f4"))


def test_any_strides(products):
    """Of everything that is read, and of what receives. What is multiplied is what BLAS takes: NumPy's own loops are slow."""
    a = Layer((4, 3), 6, 9)
    exact = linear_cross_entropy_with_grad(*a.layer, a.soft, linear_bias=a.bias, sample_weight=a.row_weight)

    def laid_out(x):
        yield np.asfortranarray(x)
        yield np.repeat(x, 2, axis=-1)[..., ::2]
        yield x[::-1].copy()[::-1]
        yield x[..., ::-1].copy()[..., ::-1]
        yield np.concatenate([x, x], axis=-1)[..., : x.shape[-1]]

    for x, w, q, chunk_bytes in zip(
        laid_out(a.features), laid_out(a.weight), laid_out(a.soft), [1, 150, None, 300, 150], strict=True
    ):
        out = [np.full_like(x, NAN, subok=False), np.full_like(w, NAN), np.full(18, NAN)[::2]]
        assert (out[0].strides, out[1].strides) == (x.strides, w.strides) or not (x.flags.c_contiguous or x.flags.f_contiguous)
        for given in (None, out, [y[..., ::-1].copy()[..., ::-1] for y in out]):
            got = linear_cross_entropy_with_grad(
                x, w, q, linear_bias=a.bias, sample_weight=a.row_weight, chunk_bytes=chunk_bytes, out=given
            )
            check(got, exact, np.dtype(np.float64))
    assert all(min(x.strides) == 8 for x in products)


def test_nothing_is_written_to_inputs():
    a = Layer()
    given = [a.features, a.weight, a.indices, a.bias, a.class_weight, a.row_weight, a.soft]
    before = [x.copy() for x in given]
    for x in given:
        x.flags.writeable = False
    for target in (a.indices, a.soft):
        linear_cross_entropy_with_grad(
            *a.layer, target, linear_bias=a.bias, weight=a.class_weight, sample_weight=a.row_weight, chunk_bytes=99
        )
    for x, y in zip(given, before, strict=True):
        assert_array_equal(x, y)


# ---- chunks ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_chunks_of_every_size(dtype):
    """One row at a time, all at once, and what is between; with half of the rows left out here and there."""
    a = Layer((13,), 3, 5, dtype)
    a.indices[[1, 2, 3, 7, 12]] = -100
    exact = reference.linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias)
    for rows in range(15):
        check(
            linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias, chunk_bytes=max(1, rows * 5 * 8)),
            exact,
            dtype,
        )


def test_a_chunk_fits(products):
    """Each is as large as chunk_bytes allows, and they are of one size."""
    a = Layer((100,), 5, 8)
    linear_cross_entropy(*a.layer, a.indices, chunk_bytes=40 * 8 * 8)
    assert [x.shape[0] for x in products] == [33, 33, 34]
    products.clear()
    linear_cross_entropy(*a.layer, a.indices)
    assert [x.shape[0] for x in products] == [100]


def test_slices_of_classes(monkeypatch):
    """Where the weights are cast, and products added, slice by slice, with a rest."""
    monkeypatch.setattr(linear, "_SLICE_BYTES", 1)
    monkeypatch.setattr(linear, "_FEWEST_CLASSES", 4)
    for dtype, chunk_bytes in itertools.product(DTYPES, (1, 200, None)):
        a = Layer((7,), 6, 10, dtype)
        exact = reference.linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias)
        check(linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias, chunk_bytes=chunk_bytes), exact, dtype)


def test_the_same_bits_with_any_number_of_threads():
    a = Layer((96,), 8, 3000, np.float32)
    for reduction, target, chunk_bytes in itertools.product(REDUCTIONS, (a.indices, a.soft), (None, 300_000)):
        one, two, three = (
            linear_cross_entropy_with_grad(
                *a.layer, target, linear_bias=a.bias, reduction=reduction, n_threads=n, chunk_bytes=chunk_bytes
            )
            for n in (1, 2, 3)
        )
        for other in (two, three):
            assert_array_equal(one[0], other[0])
            for x, y in zip(one[1], other[1], strict=True):
                assert_array_equal(x, y)


def test_an_interrupt_is_heard_between_chunks(monkeypatch):
    a = Layer((50,), 3, 4)
    matmul, made = np.matmul, []

    def interrupted(*factors, **more):
        made.append(1)
        if len(made) == 4:
            signal.raise_signal(signal.SIGINT)
        return matmul(*factors, **more)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    try:
        with monkeypatch.context() as patched:
            patched.setattr(np, "matmul", interrupted)
            with pytest.raises(KeyboardInterrupt):
                linear_cross_entropy_with_grad(*a.layer, a.indices, chunk_bytes=32)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(made) < 8
    exact = reference.linear_cross_entropy_with_grad(*a.layer, a.indices)
    check(linear_cross_entropy_with_grad(*a.layer, a.indices, chunk_bytes=32), exact, np.dtype(np.float64))


# ---- rows that are left out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_left_out_rows(reduction, dtype):
    """Their features may be NaN; their loss and gradient are exactly 0; the others are as if they were not there."""
    a = Layer((4, 5), 6, 9, dtype)
    out = np.zeros((4, 5), bool)
    out[1, 2:] = out[2, :4] = out[0, 0] = True
    features = np.where(out[..., None], np.asarray(NAN, dtype), a.features)
    soft = np.where(out[..., None], NAN, a.soft)
    weight = np.where(out, 0, a.row_weight)
    calls = [
        (np.where(out, -100, a.indices), {}),
        (np.where(out, 3, a.indices + (a.indices == 3)), {"ignore_index": 3}),
        (np.where(out, 10**6, a.indices), {"sample_weight": weight}),  # its target is not looked at either
        (soft, {"sample_weight": weight}),
    ]
    for (target, options), chunk_bytes in itertools.product(calls, (None, 150)):
        for upstream in (None, *([np.where(out, NAN, a.upstream)] if reduction == "none" else [])):
            loss, gradients = linear_cross_entropy_with_grad(
                features, a.weight, target, linear_bias=a.bias, reduction=reduction, chunk_bytes=chunk_bytes,
                grad_output=upstream, **options,
            )  # fmt: skip
            exact_loss, exact = reference.linear_cross_entropy_with_grad(
                a.features[~out], a.weight, target[~out], linear_bias=a.bias, reduction=reduction,
                grad_output=None if upstream is None else upstream[~out],
                **{name: value[~out] if name == "sample_weight" else value for name, value in options.items()},
            )  # fmt: skip
            assert np.all(gradients.features[out] == 0)
            if reduction == "none":
                assert np.all(loss[out] == 0)
                loss = loss[~out]
            check((loss, gradients._replace(features=gradients.features[~out])), (exact_loss, exact), dtype)


def test_left_out_rows_are_not_multiplied(products):
    a = Layer((40,), 3, 5)
    a.indices[::2] = -100
    linear_cross_entropy_with_grad(*a.layer, a.indices, chunk_bytes=400)
    assert sum(x.shape[0] for x in products if x.shape[1] == 3) == 20  # those of the logits
    for target, more in [(np.full(40, -100), {}), (a.indices, {"sample_weight": 0.0}), (a.soft, {"sample_weight": np.zeros(40)})]:
        products.clear()
        loss, gradients = linear_cross_entropy_with_grad(*a.layer, target, linear_bias=a.bias, **more)
        assert np.isnan(loss) and products == []
        assert not any(np.any(g) for g in gradients)


def test_rows_are_not_copied_needlessly(products):
    """All of them, and those in a run: products are made of the features as they lie."""
    a = Layer((2, 20), 3, 5)
    for left_out in ([], [0, 1, 2], [37, 38, 39], [0, 1, 38, 39]):
        target = a.indices.copy()
        target.flat[left_out] = -100
        products.clear()
        linear_cross_entropy(*a.layer, target, chunk_bytes=400)
        assert len(products) >= 4 and all(np.shares_memory(x, a.features) for x in products)


def test_no_gradient_no_product_for_it(products):
    a = Layer()
    linear_cross_entropy(*a.layer, a.indices, linear_bias=a.bias)
    assert len(products) == 1
    linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias)
    assert len(products) == 4


# ---- means -------------------------------------------------------------------------------------------------------------------


def test_nothing_counts():
    """A mean of nothing is NaN, its gradients are 0, and there is no warning; a sum is 0; a normalizer makes it 0."""
    a = Layer()
    nothing = [
        (a.features, np.full(11, -100), {}),
        (a.features, a.indices, {"sample_weight": 0.0}),
        (a.features, a.indices, {"weight": np.zeros(9)}),
        (a.features, a.indices, {"sample_weight": np.r_[1.0, -1.0, np.zeros(9)]}),
        (a.features[:0], a.indices[:0], {}),
        (a.features[:0], a.soft[:0], {}),
        (a.features[:0], [], {}),
    ]
    for features, target, options in nothing:
        for give in (False, True):
            out = [np.full(x.shape, NAN) for x in (features, a.weight, a.bias)] if give else None
            loss, gradients = linear_cross_entropy_with_grad(features, a.weight, target, linear_bias=a.bias, out=out, **options)
            assert np.isnan(loss) and not any(np.any(g) for g in gradients)
            assert np.isnan(linear_cross_entropy(features, a.weight, target, linear_bias=a.bias, **options))
    for features, target, options in [nothing[0], nothing[1], *nothing[4:]]:
        for normalizer in (0, 2.5):
            loss, gradients = linear_cross_entropy_with_grad(features, a.weight, target, normalizer=normalizer, **options)
            assert loss == 0 and not np.any(gradients.features) and not np.any(gradients.linear_weight)
        assert linear_cross_entropy(features, a.weight, target, reduction="sum", **options) == 0
        none = linear_cross_entropy(features, a.weight, target, reduction="none", **options)
        assert_array_equal(none, np.zeros(features.shape[0]))
    with pytest.raises(ValueError, match="normalizer=0, yet 11 losses count"):
        linear_cross_entropy(*a.layer, a.indices, normalizer=0)
    with pytest.raises(ValueError, match="normalizer"):
        linear_cross_entropy(*a.layer, a.indices, normalizer=-1)


def test_micro_batches():
    """With the normalizer of the whole, the parts add up to it; `out` of a part is not added to."""
    a = Layer((12,))
    whole = linear_cross_entropy_with_grad(*a.layer, a.indices, weight=a.class_weight)
    total = a.class_weight[a.indices].sum()
    parts = [
        linear_cross_entropy_with_grad(
            a.features[i : i + 4], a.weight, a.indices[i : i + 4], weight=a.class_weight, normalizer=total
        )
        for i in (0, 4, 8)
    ]
    summed = (
        np.concatenate([g.features for _, g in parts]),
        sum(g.linear_weight for _, g in parts),
        None,
    )
    check((sum(loss for loss, _ in parts), summed), whole, np.dtype(np.float64))


def test_what_is_not_finite():
    """A NaN in a row spoils the row, and the sums it is in; an infinity of a class's bias marks one that cannot occur."""
    a = Layer()
    a.features[4] = NAN
    losses, gradients = linear_cross_entropy_with_grad(*a.layer, a.indices, reduction="none", chunk_bytes=200)
    assert_array_equal(np.isnan(losses), np.arange(11) == 4)
    assert_array_equal(np.isnan(gradients.features).all(axis=1), np.arange(11) == 4)
    assert np.isnan(linear_cross_entropy(*a.layer, a.indices))
    a = Layer()
    a.bias[2] = -np.inf
    a.indices[a.indices == 2] = 0
    _, gradients = linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias)
    assert np.all(gradients.linear_weight[2] == 0) and gradients.linear_bias[2] == 0
    assert np.isfinite(gradients.features).all()
    # What is too large for a half is infinite, in silence.
    a = Layer(dtype=np.float16)
    for chunk_bytes in (None, 100):
        _, gradients = linear_cross_entropy_with_grad(*a.layer, a.indices, grad_output=1e9, chunk_bytes=chunk_bytes)
        assert np.isinf(gradients.features).any() and np.isinf(gradients.linear_weight).any()


# ---- weights from a file, halves, memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_from_a_file(tmp_path, dtype):
    a = Layer((8,), 4, 30, dtype)
    np.save(tmp_path / "w.npy", a.weight.view(np.uint16) if a.weight.dtype in HALVES else a.weight)
    mapped = np.load(tmp_path / "w.npy", mmap_mode="r").view(dtype)
    assert isinstance(mapped, np.memmap)
    got = linear_cross_entropy_with_grad(a.features, mapped, a.indices, chunk_bytes=300)
    exact = linear_cross_entropy_with_grad(*a.layer, a.indices, chunk_bytes=300)
    for x, y in zip(got[1][:2], exact[1][:2], strict=True):
        assert_array_equal(x, y)
        assert type(x) is np.ndarray
    assert got[0] == exact[0]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_halves_are_summed_in_float32(dtype):
    """A gradient is rounded to its dtype once, however many chunks it is the sum of."""
    a = Layer((600,), 3, 4, dtype)
    exact = reference.linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias)
    for chunk_bytes in (None, 160):
        got = linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias, chunk_bytes=chunk_bytes)
        for x, y in zip(got[1], exact[1], strict=True):
            error = np.abs(x.astype(float) - y.astype(float))
            assert np.all(error <= EPS[dtype] * np.abs(y.astype(float)) + 1e-6 * np.abs(y.astype(float)).max())


@pytest.mark.parametrize("real", [np.float32, np.float64], ids=["float32", "float64"])
def test_what_is_stored_in_float16(real):
    """Rounded as NumPy does, to the nearest and of two the even one, and of its subnormal numbers none has digits to lose."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    exact = halves[np.isfinite(halves)].astype(real)
    between = (exact[:-1] + exact[1:]) / 2
    values = np.concatenate(
        [exact, between, np.nextafter(between, real(9)), np.nextafter(between, real(-9)), exact / 3, [NAN, np.inf]]
    )
    stored = linear._as_stored(values, np.dtype(np.float16))
    with np.errstate(over="ignore"):
        assert_array_equal(stored.astype(np.float16), values.astype(np.float16))
    small = np.abs(stored) < 2.0**-14
    assert_array_equal(stored[small], stored[small].astype(np.float16))
    assert linear._as_stored(values, np.dtype(np.float32)) is values


def peak(call):
    """The most bytes that NumPy has of the system beyond those before the call."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_memory(dtype, monkeypatch):
    """A chunk of logits, a slice of weights, and the gradients; of halves one float32 sum more. The logits take 8 times that."""
    monkeypatch.setattr(linear, "_SLICE_BYTES", 1 << 18)
    a = Layer((256,), 32, 8000, dtype)
    size = 8 if dtype == np.float64 else 4
    chunk = 1 << 20
    rows_beside = 256 * (8 + 8 + 1 + 1)  # targets, marks
    slices = linear._SLICE_BYTES * (3 if dtype == np.float16 else 1)  # what rounding takes
    copies = 3 * (chunk // 8000 * 32)  # of a chunk's features, where they are cast
    allowed = chunk + slices + copies + rows_beside + 300_000
    assert peak(lambda: linear_cross_entropy(*a.layer, a.indices, linear_bias=a.bias, chunk_bytes=chunk)) < allowed
    soft = np.broadcast_to(a.soft[:, :1].astype(dtype), a.soft.shape).copy()
    assert peak(lambda: linear_cross_entropy(*a.layer, soft, chunk_bytes=chunk)) < allowed, (
        "probabilities are read chunk by chunk"
    )
    gradients = a.features.nbytes + a.weight.nbytes + a.bias.nbytes + 8000 * 8
    allowed += gradients + (8000 * 32 * 4 if dtype in HALVES else 0)
    found = peak(lambda: linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias, chunk_bytes=chunk))
    assert gradients < found < allowed < 256 * 8000 * size
    out = linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias)[1]
    with_out = peak(lambda: linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias, chunk_bytes=chunk, out=out))
    assert with_out < allowed - gradients + 8000 * 8 + 100_000


# ---- out -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_out(dtype):
    """A LinearGradients, a tuple or a list; None stands for a new array; what was there is not added to."""
    a = Layer((2, 5), 6, 9, dtype)
    a.indices[1] = -100
    for bias, chunk_bytes in itertools.product((None, a.bias), (None, 80)):
        options = {"linear_bias": bias, "chunk_bytes": chunk_bytes}
        loss, exact = linear_cross_entropy_with_grad(*a.layer, a.indices, **options)
        arrays = [None if g is None else np.full_like(g, 7) for g in exact]
        for keep in itertools.product([True, False], repeat=3):
            out = [array if kept else None for array, kept in zip(arrays, keep, strict=True)]
            for form in (LinearGradients(*out), tuple(out), out):
                again, got = linear_cross_entropy_with_grad(*a.layer, a.indices, out=form, **options)
                assert again == loss and isinstance(got, LinearGradients)
                for place, found, expected in zip(form, got, exact, strict=True):
                    assert place is None or found is place
                    assert (found is None) == (expected is None)
                    if found is not None:
                        assert_array_equal(found, expected)


def test_out_of_no_use():
    a = Layer(dtype=np.float32)

    def call(out, **options):
        return linear_cross_entropy_with_grad(*a.layer, a.indices, out=out, **{"linear_bias": a.bias, **options})

    def fresh():
        return [np.empty_like(x) for x in (a.features, a.weight, a.bias)]

    for out in (np.empty((3, 11, 6), np.float32), 1, "out", {"features": None}):
        with pytest.raises(TypeError, match="out must be a LinearGradients or a triple"):
            call(out)
    for out in ((), (None, None), [None] * 4):
        with pytest.raises(ValueError, match=f"out has {len(out)} entries; expected three"):
            call(out)
    with pytest.raises(ValueError, match=r"out.linear_bias is given, yet linear_bias is not"):
        call(fresh(), linear_bias=None)
    for i, name in enumerate(LinearGradients._fields):
        for bad, words in [
            (np.empty(5, np.float32), rf"out\.{name} is float32 of shape \(5,\); expected float32 of shape .*, as {name} is"),
            (fresh()[i].astype(np.float64), rf"out\.{name} is float64 of shape"),
            (np.ma.masked_array(fresh()[i]), rf"out\.{name} is a masked array"),
            (np.broadcast_to(np.float32(0), fresh()[i].shape), rf"out\.{name} is read-only"),
        ]:
            out = fresh()
            out[i] = bad
            with pytest.raises(ValueError if "masked" not in words else TypeError, match=words):
                call(out)
        out = fresh()
        out[i] = [0.0]
        with pytest.raises(TypeError, match=rf"out\.{name} must be a NumPy array, got list"):
            call(out)


def test_out_that_overlaps():
    """Neither inputs, not even its own, nor another entry."""
    a = Layer((9,), 6, 9)  # features and weights of one shape
    upstream = np.zeros((9, 6))
    calls = {
        "features": (a.features, a.indices, {}),
        "linear_weight": (a.weight, a.indices, {}),
        "sample_weight": (upstream, a.indices, {"sample_weight": upstream[:, 0]}),
        "grad_output": (upstream, a.indices, {"grad_output": upstream[:, 0], "reduction": "none"}),
        "weight": (upstream, a.indices, {"weight": upstream[:, 0]}),
        "linear_bias": (upstream, a.indices, {"linear_bias": upstream[:, 0]}),
        "target": (upstream, upstream.view(np.int64)[:, 0], {}),
    }
    for overlapped, (place, target, options) in calls.items():
        for i, name in enumerate(LinearGradients._fields[:2]):
            out = [None, None, None]
            out[i] = place
            words = rf"out\.{name} overlaps {overlapped}; it must be apart from every other array$"
            with pytest.raises(ValueError, match=words):
                linear_cross_entropy_with_grad(*a.layer, target, out=out, **options)
    both = np.zeros((10, 6))
    with pytest.raises(ValueError, match=r"out\.linear_weight overlaps out\.features"):
        linear_cross_entropy_with_grad(*a.layer, a.indices, out=(both[1:], both[:9], None))
    with pytest.raises(ValueError, match=r"out\.linear_bias overlaps out\.linear_weight"):
        linear_cross_entropy_with_grad(*a.layer, a.indices, linear_bias=a.bias, out=(None, both[:9], both[:9, 0]))
    same = np.lib.stride_tricks.as_strided(np.empty(6), (9, 6), (0, 8))
    with pytest.raises(ValueError, match=r"out\.features has strides"):
        linear_cross_entropy_with_grad(*a.layer, a.indices, out=(same, None, None))


# ---- errors --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [linear_cross_entropy, linear_cross_entropy_with_grad])
def test_shapes_that_do_not_fit(function, products):
    """Each message names the shapes of the layer; nothing has been multiplied."""
    x, w, t = np.zeros((8, 16)), np.zeros((100, 16)), np.zeros(8, int)
    layer = r"features \(8, 16\), linear_weight \(100, 16\)"
    cases = [
        (
            (x, np.zeros((100, 15)), t),
            {},
            r"features \(8, 16\), linear_weight \(100, 15\): linear_weight must be \(classes, 16\)",
        ),
        ((x, w.T, t), {}, r"features \(8, 16\), linear_weight \(16, 100\): .*; pass linear_weight\.T"),
        ((x, w[0], t), {}, r"features \(8, 16\), linear_weight \(16,\): linear_weight must have two dimensions"),
        ((1.0, w, 0), {}, r"features \(\), linear_weight \(100, 16\): features must have at least one dimension"),
        ((x, w[:0], t), {}, r"features \(8, 16\), linear_weight \(0, 16\): linear_weight has no class"),
        ((x, w, t), {"linear_bias": np.zeros(16)}, layer + r", linear_bias \(16,\): linear_bias must be \(100,\)"),
        ((x, w, t[:5]), {}, r"target has shape \(5,\); .* class indices must have shape \(8,\) \(" + layer + r"\)"),
        ((x, w, np.zeros((8, 16))), {}, r"target is float64 .*the logits' shape \(8, 100\) \(" + layer + r"\)"),
        ((x, w, t), {"sample_weight": np.ones(5)}, r"sample_weight .*\(5,\).*\(8,\) \(" + layer + r"\)"),
        ((x, w, t), {"weight": np.ones(16)}, r"weight has shape \(16,\); expected \(100,\).* \(" + layer + r"\)"),
    ]
    for arguments, options, words in cases:
        with pytest.raises(ValueError, match=words):
            function(*arguments, **options)
    assert products == []


@pytest.mark.parametrize("chunk_bytes", [None, 1, 100])
def test_a_target_out_of_range(chunk_bytes, products):
    """Its place in the whole, as cross_entropy says it, before anything is multiplied."""
    a = Layer((3, 4), 6, 9)
    a.indices[0] = -100
    for place, value in [((2, 1), 9), ((1, 3), -1), ((2, 3), 10**12)]:
        target = a.indices.copy()
        target[place] = value
        with pytest.raises(IndexError) as expected:
            celoss.cross_entropy(np.zeros((3, 4, 9)), target)
        for function in (linear_cross_entropy, linear_cross_entropy_with_grad):
            with pytest.raises(IndexError) as found:
                function(*a.layer, target, chunk_bytes=chunk_bytes)
            assert str(found.value) == str(expected.value)
            assert f"target[{place[0]}, {place[1]}] = {value}" in str(found.value)
    assert products == []


def test_options_of_no_use(products):
    a = Layer()
    wrong = [
        (ValueError, {"chunk_bytes": 0}), (ValueError, {"chunk_bytes": -5}), (TypeError, {"chunk_bytes": 1.5}),
        (TypeError, {"chunk_bytes": "64M"}), (ValueError, {"reduction": "average"}), (ValueError, {"label_smoothing": 2.0}),
        (ValueError, {"focal_gamma": -1.0}), (ValueError, {"n_threads": 0}), (TypeError, {"ignore_index": 1.5}),
        (ValueError, {"normalizer": -1.0}), (ValueError, {"weight": -a.class_weight}),
        (ValueError, {"sample_weight": np.full(11, NAN)}), (TypeError, {"linear_bias": ["a"] * 9}),
    ]  # fmt: skip
    for error, options in wrong:
        (name,) = options
        for function in (linear_cross_entropy, linear_cross_entropy_with_grad):
            with pytest.raises(error, match=name):
                function(*a.layer, a.indices, **options)
    with pytest.raises(ValueError, match="grad_output"):
        linear_cross_entropy_with_grad(*a.layer, a.indices, grad_output=np.ones(11))
    for options in ({"focal_gamma": 1.0}, {"ignore_index": 3}):
        with pytest.raises(ValueError, match=next(iter(options))):
            linear_cross_entropy(*a.layer, a.soft, **options)
    with pytest.raises(ValueError, match="one-hot"):
        linear_cross_entropy(*a.layer, np.ones((11, 9), int))
    with pytest.raises(TypeError, match="class indices must have an integer dtype"):
        linear_cross_entropy(*a.layer, a.indices.astype(float))
    for name in ("features", "linear_weight"):
        given = {"features": a.features, "linear_weight": a.weight, "target": a.indices}
        for bad, words in [
            (given[name].astype(complex), "complex128"), (given[name].astype(str), "strings"), (None, "None"),
            (np.ma.masked_array(given[name]), "masked"), ({}, "dict"),
        ]:  # fmt: skip
            with pytest.raises(TypeError, match=f"^{name} .*{words}"):
                linear_cross_entropy(**given | {name: bad})
    assert products == []


def test_one_class_and_probabilities_warn_of_it():
    """At the user's line, as cross_entropy does."""
    with pytest.warns(UserWarning, match="have one class") as found:
        linear_cross_entropy_with_grad(np.zeros((4, 3)), np.zeros((1, 3)), np.ones((4, 1)))
    assert len(found) == 1 and found[0].filename == __file__
