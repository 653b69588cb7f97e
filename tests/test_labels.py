"""Labels in another notation: binary ones that are no shares are refused where they are read, one-hot integers are taken."""

import ml_dtypes
import numpy as np
import pytest

import celoss
from celoss import reference

BINARY = [name for name in celoss.__all__ if name.startswith("binary_")]
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def scores(shape, dtype):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.float32, np.float64])
def test_binary_labels_outside_0_and_1(name, dtype, kind, level):
    """milesial/Pytorch-UNet#65, pytorch/pytorch#110865: masks of 0 and 255, labels of -1/+1 and 1/2 gave plausible numbers."""
    z = scores((9, 33), dtype)
    for value in (2, 100, -1):
        if value < 0 and kind == np.uint8:
            continue
        for position in ((0, 0), (4, 17), (8, 32)):
            y = (z > 0).astype(kind)
            y[position] = value
            for options in ({}, {"weight": 2.0}, {"reduction": "none"}):
                with pytest.raises(ValueError) as error:
                    getattr(celoss, name)(z, y, *([z] if name.endswith("hessp") else []), **options)
                assert str(error.value).startswith(f"target[{position[0]}, {position[1]}] = {y[position]} is not in [0, 1]")


def test_in_a_large_call_and_from_any_thread(level):
    z = scores(1_000_003, np.float32)
    y = (z > 0).astype(np.uint8)
    assert celoss.binary_cross_entropy(z, y, n_threads=4) > 0
    for position in (0, 500_000, 1_000_002):
        wrong = y.copy()
        wrong[position] = 255
        for n_threads in (1, 4):
            with pytest.raises(ValueError, match=rf"target\[{position}\] = 255 is not in \[0, 1\]"):
                celoss.binary_cross_entropy_with_grad(z, wrong, n_threads=n_threads)


def test_logits_and_labels_swapped():
    """The order of Keras and scikit-learn."""
    with pytest.raises(ValueError, match=r"target\[0\] = -3\.2 .* logits come first, labels second"):
        celoss.binary_cross_entropy([0.0, 1, 1], [-3.2, 2.0, 0.7])


@pytest.mark.parametrize("name", BINARY)
def test_edges_are_labels(name):
    z = np.zeros(4)
    vector = [np.ones(4)] if name.endswith("hessp") else []
    getattr(celoss, name)(z, [0.0, -0.0, 1.0, np.nextafter(1, 0)], *vector)
    getattr(celoss, name)(z, [True, False, True, True], *vector)
    with pytest.raises(ValueError):
        getattr(celoss, name)(z, [0.0, 0, 0, np.nextafter(1, 2)], *vector)
    with pytest.raises(ValueError):
        getattr(celoss, name)(z, [0.0, 0, 0, -np.finfo(float).smallest_subnormal], *vector)
    assert np.isnan(np.asarray(getattr(celoss, name)(z, [0, 1, np.nan, 1])[0] if "_with_grad" in name else np.nan)).all()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot_integers(dtype, axis, level):
    """pytorch/pytorch#1258, meetps/pytorch-semseg#229: what LabelBinarizer, get_dummies and np.eye give."""
    x = scores((6, 6, 6), np.float32)
    indices = np.random.default_rng(1).integers(6, size=(6, 6))
    target = np.moveaxis(np.eye(6, dtype=dtype)[indices], -1, axis)
    for name in ("cross_entropy_with_grad", "brier_score_with_grad"):
        options = {"axis": axis, "weight": np.arange(1.0, 7), "reduction": "mean"}
        got, expected = getattr(celoss, name)(x, target, **options), getattr(celoss, name)(x, indices, **options)
        assert got[0] == expected[0] and np.array_equal(got[1], expected[1])
        assert getattr(reference, name)(x, target, **options)[0] == pytest.approx(expected[0], rel=1e-6)
    assert celoss.zero_one_loss(x, target, axis=axis) == celoss.zero_one_loss(x, indices, axis=axis)
    # The classes that it holds are those of indices: one may be ignored.
    got = celoss.cross_entropy(x, target, axis=axis, ignore_index=3)
    assert got == celoss.cross_entropy(x, indices, axis=axis, ignore_index=3)


@pytest.mark.parametrize("row", [[0, 0, 0], [1, 1, 0], [2, 0, 0], [0, -1, 0], [0, 3, -2]], ids=str)
def test_rows_that_are_not_one_hot(row):
    x, target = scores((4, 3), np.float64), np.eye(3, dtype=int)[[0, 1, 2, 0]]
    target[2] = row
    with pytest.raises(ValueError, match=r"target\[2\] holds \[.*\]; an integer or bool target .* is one-hot"):
        celoss.cross_entropy(x, target)
    with pytest.raises(ValueError, match="one-hot"):
        reference.cross_entropy(x, target)


def test_one_hot_is_no_vector():
    with pytest.raises((TypeError, ValueError), match=r"binary_cross_entropy|probabilities must have a floating dtype"):
        celoss.cross_entropy([0.3, -1.0, 2.0], [0, 1, 0])
