"""Agreement with PyTorch: loss and gradient of every mix of options, PyTorch's gradient by its own differentiation.

PyTorch computes in float64 from the same stored logits, so that what is compared is the meaning of the options and
celoss's own rounding; a second test compares with PyTorch in float32.
"""

import itertools
import zlib

import numpy as np
import pytest
from tolerances import ulp

import celoss

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")

# PyTorch wants the classes along axis 1 (0 for one row): the other axes are moved there for it.
SHAPES = [
    ((5,), 0), ((7, 3), 1), ((3, 7), 0), ((9, 40), -1), ((2, 300), 1), ((2, 5, 4), 1), ((4, 3, 35), 2), ((6, 2, 3), 0),
    ((2, 3, 4, 2), -2),
]  # fmt: skip
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
TARGETS = ["int64", "int32", "uint8", "probabilities"]
MIXES = [
    (shape, dtype, reduction, weight, smoothing, ignored, target, upstream)
    for shape, dtype, reduction, weight, smoothing, ignored, target, upstream in itertools.product(
        SHAPES, DTYPES, ["mean", "sum", "none"], [False, True], [0.0, 0.2], [None, 1, 255], TARGETS, [False, True]
    )
    if not (target == "probabilities" and ignored is not None)  # both refuse
]
BY_SHAPE = {shape: [mix for mix in MIXES if mix[0] == shape] for shape in SHAPES}


def test_the_matrix_is_large():
    assert len(MIXES) >= 2000


def arrays(mix):
    (shape, axis), dtype, reduction, weight, _, ignored, kind, upstream = mix
    rng = np.random.default_rng(zlib.crc32(repr(mix).encode()))
    classes = shape[axis]
    rows = tuple(np.delete(shape, axis))
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    if kind == "probabilities":
        target = rng.dirichlet(np.ones(classes), rows)
        target = np.moveaxis(target, -1, axis).astype(dtype)
    else:
        target = rng.integers(0, classes, rows)
        if ignored == 255:
            target = np.where(rng.random(rows) < 0.3, 255, target)
        target = target.astype(kind)
    w = rng.uniform(0.2, 2, classes) if weight else None
    u = (rng.standard_normal(rows) if reduction == "none" else 1.75) if upstream else None
    return x, target, w, u


def by_torch(mix, x, target, w, u, dtype):
    (_, axis), _, reduction, _, smoothing, ignored, kind, _ = mix
    tensor = torch.tensor(x.astype(np.float64), dtype=dtype, requires_grad=True)
    last = 0 if x.ndim == 1 else 1
    moved = tensor.movedim(axis, last)
    if kind == "probabilities":
        goal = torch.tensor(target.astype(np.float64), dtype=dtype).movedim(axis, last)
    else:
        goal = torch.tensor(target.astype(np.int64))
    loss = torch.nn.functional.cross_entropy(
        moved,
        goal,
        weight=None if w is None else torch.tensor(w, dtype=dtype),
        ignore_index=-100 if ignored is None else ignored,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    loss.backward(torch.ones_like(loss) if u is None else torch.as_tensor(u, dtype=dtype).reshape(loss.shape))
    return loss.detach().numpy(), tensor.grad.numpy()


def by_celoss(mix, x, target, w, u):
    (_, axis), _, reduction, _, smoothing, ignored, _, _ = mix
    return celoss.cross_entropy_with_grad(
        x, target, axis=axis, weight=w, ignore_index=-100 if ignored is None else ignored, label_smoothing=smoothing,
        reduction=reduction, grad_output=u,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mixes(shape, dtype):
    work = np.dtype(np.float64 if dtype is np.float64 else np.float32)
    eps, last_rounding = float(np.finfo(work).eps), 0.51 * float(ml_dtypes.finfo(dtype).eps)
    most = ulp("peer", work) * eps
    theirs = ulp("peer", "float64") * float(np.finfo(np.float64).eps)  # p - 1 and lse - x_t cancel there
    for mix in BY_SHAPE[shape]:
        if mix[1] is not dtype:
            continue
        x, target, w, u = arrays(mix)
        loss, grad = by_celoss(mix, x, target, w, u)
        expected, expected_grad = by_torch(mix, x, target, w, u, torch.float64)
        assert grad.dtype == dtype and grad.shape == x.shape
        np.testing.assert_allclose(loss, expected, rtol=most, atol=4 * theirs, err_msg=str(mix))
        largest = float(np.abs(expected_grad).max(initial=0))
        np.testing.assert_allclose(
            grad.astype(np.float64), expected_grad, rtol=last_rounding + most,
            atol=4 * theirs + most * largest + float(ml_dtypes.finfo(dtype).smallest_subnormal), err_msg=str(mix),
        )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mixes_in_float32(shape):
    """PyTorch in float32 is within its own rounding of celoss."""
    for mix in BY_SHAPE[shape]:
        if mix[1] is not np.float32:
            continue
        x, target, w, u = arrays(mix)
        loss, grad = by_celoss(mix, x, target, w, u)
        expected, expected_grad = by_torch(mix, x, target, w, u, torch.float32)
        np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=2e-6, err_msg=str(mix))
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=3e-6, err_msg=str(mix))


def test_nothing_to_average_as_in_torch():
    for target in ([-100, -100], []):
        x = np.zeros((len(target), 3), np.float32)
        ours, grad = celoss.cross_entropy_with_grad(x, np.array(target, int))
        tensor = torch.tensor(x, requires_grad=True)
        theirs = torch.nn.functional.cross_entropy(tensor, torch.tensor(target, dtype=torch.int64))
        theirs.backward()
        assert np.isnan(ours) and torch.isnan(theirs)
        np.testing.assert_array_equal(grad, tensor.grad.nan_to_num(0).numpy())


def test_infinities_as_in_torch():
    inf = np.inf
    x = np.array([[0, -inf, 1], [-inf, 0, 1], [inf, 0, 1], [-inf, -inf, -inf], [np.nan, 0, 1]], np.float32)
    target = np.array([0, 0, 1, 2, 1])
    ours = celoss.cross_entropy(x, target, reduction="none")
    theirs = torch.nn.functional.cross_entropy(torch.tensor(x), torch.tensor(target), reduction="none").numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_criterion_as_in_torch():
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((6, 5)).astype(np.float32), rng.integers(0, 5, 6)
    for options in ({}, {"label_smoothing": 0.1, "reduction": "sum"}, {"ignore_index": 2}):
        tensor = torch.tensor(x, requires_grad=True)
        theirs = torch.nn.CrossEntropyLoss(**options)(tensor, torch.tensor(target))
        theirs.backward()
        criterion = celoss.CrossEntropyLoss(**options)
        assert criterion(x, target) == pytest.approx(theirs.item(), rel=1e-6)
        np.testing.assert_allclose(criterion.backward(), tensor.grad.numpy(), rtol=1e-5, atol=1e-7)
