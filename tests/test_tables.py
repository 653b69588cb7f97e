"""Columns and tables of pandas, polars and Dask: what holds numbers is taken, and messages about the rest name their methods."""

import numpy as np
import pytest

import celoss

X = np.array([[2.0, 1.0, 0.0], [0.5, 0.0, 3.0], [1.0, 1.0, -1.0]])
EXPECTED = celoss.cross_entropy_with_grad(X, [0, 2, 1], weight=[1, 2, 3], sample_weight=[1, 2, 3])
LABELS = ["cat", "dog", "cow"]  # in the order of their names: 0, 2, 1


@pytest.fixture
def pd():
    return pytest.importorskip("pandas", reason="pandas is not installed")


@pytest.fixture
def pl():
    return pytest.importorskip("polars", reason="polars is not installed")


def same(logits, target, weight=(1, 2, 3), sample_weight=(1, 2, 3), **options):
    loss, grad = celoss.cross_entropy_with_grad(logits, target, weight=weight, sample_weight=sample_weight, **options)
    assert loss == EXPECTED[0]
    np.testing.assert_array_equal(grad, EXPECTED[1])


def test_pandas(pd):
    table, column = pd.DataFrame(X, columns=list("abc")), pd.Series([0, 2, 1], index=[7, 8, 9])
    same(table, column, pd.Series([1, 2, 3], index=LABELS), pd.Series([1.0, 2.0, 3.0]))
    same(table, column.astype("Int64"))
    same(table, pd.Series(LABELS).astype("category").cat.codes)
    same(table, pd.Categorical(LABELS).codes)
    assert celoss.softmax(table).shape == (3, 3)
    assert celoss.binary_cross_entropy(table["a"], column == 0) == celoss.binary_cross_entropy(X[:, 0], [1, 0, 0])


def test_pandas_names_of_classes(pd):
    for labels in (pd.Series(LABELS), pd.Series(LABELS, dtype="string"), pd.Index(LABELS)):
        with pytest.raises(TypeError, match=r"^target .*np\.unique\(labels, return_inverse=True\)"):
            celoss.cross_entropy(X, labels)
    for name in ("cross_entropy", "binary_cross_entropy"):
        with pytest.raises(TypeError, match=r"^target .*pass target\.cat\.codes, with ignore_index=-1"):
            getattr(celoss, name)(X, pd.Series(LABELS).astype("category"))
        with pytest.raises(TypeError, match=r"^target .*pass target\.codes, with ignore_index=-1"):
            getattr(celoss, name)(X, pd.Categorical(LABELS))
    missing = pd.Series(["cat", None, "cow"]).astype("category")
    got = celoss.cross_entropy(X, missing.cat.codes, ignore_index=-1)
    assert got == celoss.cross_entropy(X[[0, 2]], [0, 1])


def test_pandas_missing_values(pd):
    """The recipe of each message is followed: what it gives is what was meant."""
    expected = celoss.cross_entropy(X[[0, 2]], [0, 1])
    column = pd.Series([0, None, 1], dtype="Int64")
    with pytest.raises(TypeError, match=r"^target .*target\.fillna\(ignore_index\)"):
        celoss.cross_entropy(X, column)
    assert celoss.cross_entropy(X, column.fillna(-100).to_numpy(np.int64)) == expected
    column = pd.Series([0, None, 1])  # float64
    with pytest.raises(TypeError, match=r"^target .*target\.fillna\(ignore_index\)"):
        celoss.cross_entropy(X, column)
    assert celoss.cross_entropy(X, column.fillna(-100).astype(np.int64)) == expected
    table = pd.DataFrame(X).astype("Float64")
    table.iloc[1, 1] = pd.NA
    try:
        celoss.cross_entropy(table, [0, -100, 1])  # later versions of pandas give NaN by themselves
    except TypeError as error:
        assert "logits.to_numpy(np.float64, na_value=np.nan)" in str(error)
    assert celoss.cross_entropy(table.to_numpy(np.float64, na_value=np.nan), [0, -100, 1]) == expected


def test_polars(pl):
    table, column = pl.DataFrame(X), pl.Series([0, 2, 1])
    same(table, column, pl.Series([1, 2, 3]), pl.Series([1.0, 2.0, 3.0]))
    same(table, pl.Series([0, 2, 1], dtype=pl.Int8))
    assert celoss.binary_cross_entropy(table["column_0"], column == 0) == celoss.binary_cross_entropy(X[:, 0], [1, 0, 0])
    enum = pl.Series(LABELS, dtype=pl.Enum(["cat", "cow", "dog"]))
    same(table, enum.to_physical())
    with pytest.raises(TypeError, match=r"^target .*pass target\.to_physical\(\)"):
        celoss.cross_entropy(table, enum)
    with pytest.raises(TypeError, match=r"^target .*np\.unique\(labels, return_inverse=True\)"):
        celoss.cross_entropy(table, pl.Series(LABELS))
    with pytest.raises(TypeError, match=r"^target .*target\.fill_null\(ignore_index\)"):
        celoss.cross_entropy(table, pl.Series([0, None, 1]))
    assert celoss.cross_entropy(table, pl.Series([0, None, 1]).fill_null(-100)) == celoss.cross_entropy(X[[0, 2]], [0, 1])


def test_dask_is_not_gathered_in_silence():
    da = pytest.importorskip("dask.array", reason="Dask is not installed")
    lazy = da.from_array(X)
    for call in (celoss.softmax, celoss.logsumexp, celoss.sigmoid):
        with pytest.raises(TypeError, match=r"^x is a Dask collection.* celoss\.dask, or pass x\.compute\(\)"):
            call(lazy)
    with pytest.raises(TypeError, match=r"^logits is a Dask collection.* celoss\.dask"):
        celoss.cross_entropy(lazy, [0, 2, 1])
    with pytest.raises(TypeError, match=r"^target is a Dask collection.* celoss\.dask"):
        celoss.CrossEntropyLoss()(X, da.from_array(np.array([0, 2, 1])))
    same(lazy.compute(), [0, 2, 1])
