"""What a weight of 0 leaves out, weights of either sign, and a normalizer of 0."""

import numpy as np
import pytest

import celoss
from celoss import reference

NAN = np.nan
ROW_LOSSES = ["cross_entropy_with_grad", "brier_score_with_grad", "zero_one_loss"]
SCORE_LOSSES = ["binary_cross_entropy_with_grad", "binary_brier_score_with_grad", "binary_zero_one_loss"]


def results(name, *arguments, **options):
    found = getattr(celoss, name)(*arguments, **options)
    return found if isinstance(found, tuple) else (found,)


def problem(shape, dtype, form):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    target = (
        rng.integers(shape[1], size=shape[0]) if form == "indices" else rng.dirichlet(np.ones(shape[1]), shape[0]).astype(dtype)
    )
    weight = rng.uniform(0.5, 2, shape[0])
    weight[1::3] = 0
    weight[-1] = -0.0
    return x, target, weight


@pytest.mark.parametrize("form", ["indices", "probabilities"])
@pytest.mark.parametrize("shape", [(40, 3), (300, 10), (40, 82), (40, 1000), (3, 70_000)])
@pytest.mark.parametrize("name", ROW_LOSSES)
def test_rows_of_weight_0(name, shape, form, level):
    """keras-team/keras#592, #13113: a sample of weight 0 that holds NaN makes the whole batch NaN."""
    if shape[1] > 1000 and name != "cross_entropy_with_grad":
        pytest.skip("in pieces are the rows of cross_entropy only")
    for dtype in (np.float32, np.float64):
        x, target, weight = problem(shape, dtype, form)
        spoiled, wrong = x.copy(), target.copy()
        spoiled[weight == 0] = NAN
        wrong[weight == 0] = NAN if form == "probabilities" else 10**6
        for reduction in ("mean", "sum", "none"):
            options = {"sample_weight": weight, "reduction": reduction}
            clean = results(name, x, target, **options)
            for n_threads in (1, 2):
                got = results(name, spoiled, wrong, **options, n_threads=n_threads)
                assert all(np.array_equal(*pair) for pair in zip(got, clean, strict=True))
            if len(clean) == 2:
                assert (got[1][weight == 0] == 0).all() and (got[1][weight != 0] != 0).any()
        out = spoiled.copy()
        if name != "zero_one_loss":
            assert np.array_equal(getattr(celoss, name)(out, wrong, sample_weight=weight, out=out)[1], out)
            np.testing.assert_array_equal(out, getattr(celoss, name)(x, target, sample_weight=weight)[1])


@pytest.mark.parametrize("name", ROW_LOSSES)
def test_targets_of_weight_0_in_other_notations(name):
    """An index that no int64 holds; a one-hot row that is empty, or holds anything else."""
    x, _, weight = problem((7, 3), np.float64, "indices")
    indices = np.arange(7, dtype=np.uint64) % 3
    one_hot = np.eye(3, dtype=np.int64)[indices.astype(int)]
    expected = results(name, x, indices, sample_weight=weight)
    indices[1], indices[4], one_hot[1], one_hot[4] = 2**64 - 1, 2**63, 0, [1, 7, -1]
    for target in (indices, one_hot):
        for found in (results(name, x, target, sample_weight=weight), getattr(reference, name)(x, target, sample_weight=weight)):
            for a, b in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-16)
        error = IndexError if target is indices else ValueError
        with pytest.raises(error, match=r"target\[1\]"):
            results(name, x, target)
    with pytest.raises(IndexError, match=rf"target\[1\] = {2**64 - 1} is not in \[0, 3\)"):
        results(name, x, indices, ignore_index=2**63)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", SCORE_LOSSES)
def test_scores_of_weight_0(name, dtype, level):
    """open-mmlab/mmpretrain#631: labels that nobody has measured."""
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((50, 41)).astype(dtype), rng.integers(2, size=(50, 41)).astype(dtype)
    weight = rng.integers(3, size=z.shape)
    spoiled, wrong = np.where(weight == 0, NAN, z).astype(dtype), np.where(weight == 0, NAN, y).astype(dtype)
    wrong[np.nonzero(weight == 0)[0][::2], np.nonzero(weight == 0)[1][::2]] = 255
    for reduction in ("mean", "sum", "none"):
        options = {"weight": weight, "reduction": reduction}
        clean, got = results(name, z, y, **options), results(name, spoiled, wrong, **options)
        assert all(np.array_equal(*pair) for pair in zip(got, clean, strict=True))
        expected = getattr(reference, name)(spoiled, wrong, **options)
        np.testing.assert_allclose(got[0], expected[0] if isinstance(expected, tuple) else expected, rtol=1e-5)


@pytest.mark.parametrize("form", ["indices", "probabilities"])
@pytest.mark.parametrize("shape", [(40, 10), (40, 100), (3, 70_000)])
@pytest.mark.parametrize("name", ROW_LOSSES)
def test_negative_weights_of_rows(name, shape, form, level):
    """rlcode/reinforcement-learning#43: advantages of a policy gradient are weights of either sign."""
    x, target, weight = problem(shape, np.float32, form)
    positive = results(name, x, target, sample_weight=weight, reduction="sum")
    negative = results(name, x, target, sample_weight=-weight, reduction="sum")
    assert all(np.array_equal(a, -np.asarray(b)) for a, b in zip(negative, positive, strict=True))
    mixed = np.where(np.arange(len(x)) % 2, weight, -weight)
    expected = getattr(reference, name)(x, target, sample_weight=mixed, reduction="none")
    got = results(name, x, target, sample_weight=mixed, reduction="none")
    for a, b in zip(got, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", SCORE_LOSSES)
def test_negative_weights_of_scores(name, level):
    rng = np.random.default_rng(0)
    z, y, weight = rng.standard_normal(301), rng.uniform(0, 1, 301), rng.uniform(0.5, 2, 301)
    for a, b in zip(results(name, z, y, weight=-weight), results(name, z, y, weight=weight), strict=True):
        np.testing.assert_array_equal(a, -np.asarray(b))
    with pytest.raises(ValueError, match=r"weight\[3\] = inf is not a finite number$"):
        results(name, z, y, weight=np.where(np.arange(301) == 3, np.inf, weight))


def test_pos_weight_stays_positive():
    with pytest.raises(ValueError, match=r"pos_weight = -1\.0 is not a finite number >= 0"):
        celoss.binary_cross_entropy([0.0], [1], pos_weight=-1.0)
    with pytest.raises(ValueError, match=r"weight\[0\] = -1\.0 is not a finite number >= 0"):
        celoss.cross_entropy([[0.0, 1.0]], [1], weight=[-1.0, 1.0])


@pytest.mark.parametrize("zero", [0, 0.0, np.int64(0), np.float32(0)], ids=repr)
def test_normalizer_0_where_nothing_counts(zero):
    """unslothai/unsloth-zoo#1286: the number of tokens of a batch that has none."""
    x, target = np.ones((4, 3)), np.full(4, -100)
    loss, grad = celoss.cross_entropy_with_grad(x, target, normalizer=zero)
    assert loss == 0 and (grad == 0).all()
    assert celoss.cross_entropy(x, [0, 1, 2, 0], sample_weight=0, normalizer=zero) == 0
    assert celoss.cross_entropy(x, np.ones((4, 3)), sample_weight=[0] * 4, normalizer=zero) == 0
    assert celoss.binary_cross_entropy(x, np.zeros((4, 3)), weight=0, normalizer=zero) == 0
    assert celoss.binary_cross_entropy([], [], normalizer=zero) == 0
    assert reference.cross_entropy(x, target, normalizer=float(zero)) == 0
    for call in (
        lambda: celoss.cross_entropy(x, [0, 1, 2, -100], normalizer=zero),
        lambda: celoss.binary_cross_entropy(x, np.zeros((4, 3)), normalizer=zero),
    ):
        with pytest.raises(ValueError, match=r"normalizer=0, yet (3|12) losses count"):
            call()
