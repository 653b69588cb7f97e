"""Objectives and metrics for boosting: their numbers, forms and errors; trained models against those of the libraries' own.

The models have few rounds, few bins and one thread: gradients that differ in the last digit then choose the same splits.
"""

import copy
import inspect
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import celoss
from celoss import boosting

LIBRARIES = pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
WEIGHTED = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
KINDS = pytest.mark.parametrize("kind", ["classes", "binary"])

# XGBoost rounds to float32; LightGBM hands out float64, from sums of float32 gradients.
CLOSE = {"xgboost": {"rtol": 0, "atol": 1e-6}, "lightgbm": {"rtol": 0, "atol": 1e-8}}


def data_of(label, weight=None, empty=None):
    """What is asked of a DMatrix, or a Dataset."""
    return SimpleNamespace(get_label=lambda: label, get_weight=lambda: empty if weight is None else weight)


def maker(library, what):
    return getattr(boosting, f"{library}_{what}")


def problem(kind="classes", rows=40, classes=5, seed=0):
    """Margins, float32 labels and weights."""
    rng = np.random.default_rng(seed)
    margins = 3 * rng.standard_normal((rows, classes) if kind == "classes" else rows)
    label = rng.integers(classes if kind == "classes" else 2, size=rows).astype(np.float32)
    return margins, label, rng.uniform(0.5, 2, rows).astype(np.float32)


# ---- numbers -------------------------------------------------------------------------------------------------------------------


OPTIONS = {
    "classes": [{}, {"weight": [1, 2, 0.5, 1, 3]}, {"label_smoothing": 0.1}, {"weight": [1, 2, 0.5, 1, 3], "focal_gamma": 2.0}],
    "binary": [{}, {"pos_weight": 3.0}, {"label_smoothing": 0.1}, {"pos_weight": 3.0, "focal_gamma": 2.0}],
}
CASES = [(kind, options) for kind, several in OPTIONS.items() for options in several]


def sum_of_losses(kind, margins, label, weight, options):
    """The weighted sum, and its gradient, by the functions for each row alone."""
    if kind == "binary":
        loss, grad = celoss.binary_cross_entropy_with_grad(margins, label, weight=weight, **options, reduction="sum")
    else:
        loss, grad = celoss.cross_entropy_with_grad(margins, label.astype(int), sample_weight=weight, **options, reduction="sum")
    return loss, grad


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
@LIBRARIES
def test_gradient_and_curvature(library, kind, options):
    """The gradient is the weighted sum's, and the exact curvature that gradient's slope."""
    margins, label, weight = problem(kind)
    data = data_of(label, weight)
    grad, exact = maker(library, "objective")(**options, curvature="exact")(margins, data)
    _, expected = sum_of_losses(kind, margins, label, weight, options)
    np.testing.assert_allclose(grad, expected, rtol=2e-7, atol=0)

    h, slope = 1e-5, np.empty_like(margins)
    for k in range(margins.shape[1] if kind == "classes" else 1):
        step = np.zeros_like(margins)
        step[(..., k) if kind == "classes" else ...] = h
        up, down = (sum_of_losses(kind, margins + s, label, weight, options)[1] for s in (step, -step))
        slope[(..., k) if kind == "classes" else ...] = ((up - down) / (2 * h))[(..., k) if kind == "classes" else ...]
    assert options.get("focal_gamma") is None or (slope < -1e-3).any()  # where a focal loss is bent downwards
    np.testing.assert_allclose(exact, np.maximum(slope, 1e-16), rtol=1e-5, atol=1e-8)

    same, of_library = maker(library, "objective")(**options)(margins, data)
    assert np.array_equal(same, grad)
    factor = 1 if kind == "binary" else {"xgboost": 2, "lightgbm": 5 / 4}[library]
    np.testing.assert_allclose(of_library, np.maximum(factor * exact, np.float32(1e-16)), rtol=3e-7, atol=2e-16)

    same, residual = maker(library, "objective")(**options, curvature="residual")(margins, data)
    assert np.array_equal(same, grad)
    assert np.array_equal(residual, np.abs(grad))


@pytest.mark.parametrize("curvature", ["library", "exact", "residual"])
@KINDS
@LIBRARIES
def test_curvature_is_positive(library, kind, curvature):
    """A row that is sure has a curvature of nearly 0, one that a focal loss has given up less than 0."""
    margins = np.array([200.0, -200.0, 1.0]) if kind == "binary" else np.array([[200.0, 0, 0], [0, 200.0, 0], [0, 1.0, 0]])
    for gamma in 0.0, 2.0:
        objective = maker(library, "objective")(focal_gamma=gamma, curvature=curvature)
        _, hess = objective(margins, data_of(np.float32([1, 1, 1])))
        assert hess.min() >= np.float32(1e-16)
        assert (hess == np.float32(1e-16)).any()


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
@WEIGHTED
def test_metric_is_the_weighted_mean(kind, options, weighted):
    margins, label, weight = problem(kind)
    weight = weight if weighted else None
    total, _ = sum_of_losses(kind, margins, label, weight, options)
    counts = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    if "weight" in options:
        counts = counts * np.array(options["weight"])[label.astype(int)]
    data, mean = data_of(label, weight), pytest.approx(total / counts.sum(), rel=1e-12)
    assert boosting.xgboost_metric(**options)(margins, data) == ("cross_entropy", mean)
    assert boosting.lightgbm_metric(**options, name="mine")(margins, data) == ("mine", mean, False)
    assert boosting.sklearn_metric("xgboost", **options)(label, margins, weight) == mean
    assert boosting.sklearn_metric("lightgbm", **options)(label, margins, weight) == ("cross_entropy", mean, False)


def test_metric_of_weights_that_are_0():
    data = data_of(np.float32([0, 1]), np.zeros(2, np.float32))
    assert boosting.xgboost_metric()(np.float32([1, 2]), data) == ("cross_entropy", 0.0)
    assert np.isnan(boosting.xgboost_metric()(np.zeros((2, 3), np.float32), data)[1])


# ---- forms ---------------------------------------------------------------------------------------------------------------------


@KINDS
def test_xgboost_takes_the_results_without_a_copy(kind):
    margins, label, _ = problem(kind)
    grad, hess = boosting.xgboost_objective()(margins.astype(np.float32), data_of(label, empty=np.array([], np.float32)))
    for result in grad, hess:
        assert (result.dtype, result.shape, result.flags.c_contiguous) == (np.float32, margins.shape, True)


@KINDS
def test_lightgbm_takes_the_results_without_a_copy(kind):
    """It makes them flat, column by column, and float32: neither copies."""
    margins, label, _ = problem(kind)
    grad, hess = boosting.lightgbm_objective()(np.asfortranarray(margins), data_of(label))
    for result in grad, hess:
        assert (result.dtype, result.shape) == (np.float32, margins.shape)
        assert np.shares_memory(result.ravel(order="F"), result)
    rows, _ = boosting.lightgbm_objective()(margins, data_of(label))
    assert np.array_equal(grad, rows)


@pytest.mark.parametrize("curvature", ["library", "exact", "residual"])
@KINDS
def test_margins_are_left_alone(kind, curvature):
    margins, label, weight = problem(kind)
    for given in np.asfortranarray(margins), margins.astype(np.float32):
        given.flags.writeable = False
        boosting.lightgbm_objective(curvature=curvature)(given, data_of(label, weight))


@pytest.mark.parametrize("what", ["objective", "metric"])
@LIBRARIES
def test_signature_that_the_wrappers_look_for(library, what):
    """XGBoost passes weights to `sample_weight`, LightGBM counts the parameters: with three the last are the weights."""
    made = boosting.__dict__[f"sklearn_{what}"](library)
    assert list(inspect.signature(made).parameters) == ["y_true", "y_pred", "sample_weight"]


MADE = [
    "xgboost_objective()",
    "xgboost_objective(label_smoothing=0.1, curvature='residual')",
    "lightgbm_objective(weight=[1, 2], focal_gamma=2.0, n_threads=1)",
    "sklearn_objective('lightgbm', pos_weight=3.0)",
    "xgboost_metric(name='mine')",
    "lightgbm_metric(focal_gamma=1.0)",
    "sklearn_metric('xgboost')",
    "sklearn_metric('xgboost', label_smoothing=0.5, name='mine')",
]


@pytest.mark.parametrize("text", MADE)
def test_repr_is_the_call(text):
    assert repr(eval(text, vars(boosting))) == text


@pytest.mark.parametrize("text", MADE)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_copies_do_the_same(text, duplicate):
    made = eval(text, vars(boosting))
    other = duplicate(made)
    assert repr(other) == text
    assert type(other) is type(made)
    margins, label, weight = problem("classes" if "weight=[" in text else "binary", classes=2)
    arguments = (label, margins, weight) if "sklearn" in text else (margins, data_of(label, weight))
    np.testing.assert_equal(other(*arguments), made(*arguments))
    if "metric" in text:
        assert other.__name__ == ("mine" if "mine" in text else "cross_entropy")


@pytest.mark.parametrize("imported", ["celoss", "celoss.boosting"])
def test_no_library_is_imported(imported):
    code = f"import sys, {imported}; print(*{{'xgboost', 'lightgbm', 'celoss.boosting'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == (["celoss.boosting"] if imported == "celoss.boosting" else [])


# ---- errors --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("xgboost_objective(gamma=2)", TypeError, "unexpected keyword argument 'gamma'"),
        ("sklearn_objective()", TypeError, "'library'"),
        ("sklearn_objective('catboost')", ValueError, "library must be 'xgboost' or 'lightgbm', got 'catboost'"),
        ("sklearn_metric('catboost')", ValueError, "library must be 'xgboost' or 'lightgbm', got 'catboost'"),
        ("xgboost_objective(curvature='half')", ValueError, "curvature must be 'library', 'exact' or 'residual', got 'half'"),
        ("xgboost_metric(name=3)", TypeError, "name must be a string, got 3"),
        ("lightgbm_objective(weight=[1, -1])", ValueError, r"weight\[1\] = -1.0 is not a finite number >= 0"),
        ("lightgbm_metric(pos_weight=-1)", ValueError, "pos_weight = -1.0 is not a finite number >= 0"),
        ("xgboost_objective(pos_weight=[1, 2])", ValueError, r"pos_weight has shape \(2,\); expected a number"),
        ("xgboost_objective(weight=[1, 2], pos_weight=2)", ValueError, "pass one of them"),
        ("xgboost_objective(label_smoothing=2)", ValueError, r"label_smoothing must be in \[0, 1\], got 2"),
        ("xgboost_metric(focal_gamma=-1)", ValueError, "focal_gamma must be a finite number >= 0, got -1"),
        ("xgboost_metric(focal_gamma=1, label_smoothing=0.1)", ValueError, "exclude one another"),
        ("xgboost_metric(n_threads=0)", ValueError, "n_threads must be at least 1, got 0"),
        ("lightgbm_objective(target=[0, 1])", ValueError, r"target is int64 of shape \(2,\); expected floating prob"),
        ("lightgbm_objective(target=[[0.5, 0.5], [0.5, 0.6]])", ValueError, r"target\[1\] = \[0.5 0.6\] are no probabilities"),
    ],
)
def test_options_are_checked_when_the_object_is_made(text, error, message):
    with pytest.raises(error, match=message):
        eval(text, vars(boosting))


ROWS = np.zeros((3, 4), np.float32)


@pytest.mark.parametrize(
    ("options", "margins", "label", "weight", "message"),
    [
        ({}, ROWS, [0, 4, 1], None, r"label\[1\] = 4.0 is no class: expected an integer in \[0, 4\)"),
        ({}, ROWS, [0, -100, 1], None, r"label\[1\] = -100.0 is no class"),
        ({}, ROWS, [0, 1, 2.5], None, r"label\[2\] = 2.5 is no class"),
        ({}, ROWS, [np.nan, 1, 2], None, r"label\[0\] = nan is no class"),
        ({}, ROWS, [0, 1, 3e9], None, r"label\[2\] = 3000000000.0 is no class"),
        ({}, ROWS, [0, 4, 1, 1], None, r"labels have shape \(4,\), margins \(3, 4\); expected \(3,\)"),
        ({}, ROWS, ROWS, None, r"label\[0\] = \[0. 0. 0. 0.\] are no probabilities"),
        ({}, ROWS, np.add(ROWS, [1, 1, -1, 0]), None, r"label\[0\] = \[ 1.  1. -1.  0.\] are no probabilities"),
        ({}, ROWS, [0, 1, 2], [1, 2], r"weights have shape \(2,\), margins \(3, 4\); expected a weight for each row"),
        ({}, ROWS[:, 0], [0, 1, 2], None, r"label\[2\] = 2.0 is not in \[0, 1\].* pass num_class"),
        ({}, ROWS[:, 0], [0, np.nan, 1], None, r"label\[1\] = nan is not in \[0, 1\]"),
        ({}, ROWS[:, 0], [0, 1], None, r"labels have shape \(2,\), margins \(3,\)"),
        ({}, ROWS[:, :1], [0, 1, 1], None, r"margins have shape \(3, 1\); expected \(N,\), or \(N, C\) with two classes"),
        ({"weight": [1, 2, 3]}, ROWS, [0, 1, 2], None, r"weight has shape \(3,\); expected \(4,\)"),
        ({"weight": [1, 2]}, ROWS[:, 0], [0, 1, 1], None, r"margins have shape \(3,\), and weight .* pass pos_weight"),
        ({"pos_weight": 2}, ROWS, [0, 1, 1], None, r"margins have shape \(3, 4\), and pos_weight .* pass weight"),
        ({"focal_gamma": 1}, ROWS, ROWS + 0.25, None, "needs class indices"),
    ],
)
@pytest.mark.parametrize("what", ["objective", "metric"])
def test_what_the_library_passes_is_checked(what, options, margins, label, weight, message):
    weight = weight if weight is None else np.float32(weight)
    with pytest.raises(ValueError, match=message):
        maker("xgboost", what)(**options)(margins, data_of(np.float32(label), weight))


def test_labels_that_are_no_numbers():
    with pytest.raises(TypeError, match="labels have dtype <U3; expected numbers"):
        boosting.sklearn_objective("xgboost")(np.array(["cat", "dog"]), np.zeros((2, 3), np.float32))


@KINDS
def test_a_row_of_weight_0_may_have_any_label(kind):
    margins, label, weight = problem(kind)
    weight[7] = 0
    grad, hess = boosting.xgboost_objective()(margins, data_of(label, weight))
    label[7] = np.nan
    other, curvature = boosting.xgboost_objective()(margins, data_of(label, weight))
    assert np.array_equal(grad, other) and np.array_equal(hess, curvature)
    assert np.all(grad[7] == 0) and np.all(hess[7] == np.float32(1e-16))


def test_folds_do_not_fit_a_target():
    objective = boosting.lightgbm_objective(target=np.full((4, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"target has shape \(4, 3\), margins \(2, 3\)"):
        objective(np.zeros((2, 3)), data_of(np.zeros(2)))


# ---- models --------------------------------------------------------------------------------------------------------------------


def table(kind, weighted=False):
    """Features, labels, and weights or None: handwritten digits, or tumours."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    x, y = (datasets.load_digits if kind == "classes" else datasets.load_breast_cancer)(return_X_y=True)
    x, y = x[:500], y[:500]
    return x, y, np.random.default_rng(0).uniform(0.5, 2, len(y)) if weighted else None


def xgboost_params(kind, **more):
    """A start of 0, which XGBoost's own objectives would estimate; with its objective named, it predicts probabilities."""
    kinds = {"classes": {"objective": "multi:softprob", "num_class": 10}, "binary": {"objective": "binary:logistic"}}
    return {**kinds[kind], "max_depth": 3, "max_bin": 32, "nthread": 1, "base_score": 0.5, **more}


def lightgbm_params(kind, **more):
    shared = {"num_leaves": 7, "max_bin": 32, "num_threads": 1, "verbose": -1, "deterministic": True, "force_col_wise": True}
    return {**shared, **({"num_class": 10} if kind == "classes" else {}), **more}


def probabilities(margins):
    return celoss.softmax(margins) if margins.ndim == 2 else celoss.sigmoid(margins)


@WEIGHTED
@KINDS
def test_xgboost_trains_as_with_its_own_objective(kind, weighted):
    xgboost = pytest.importorskip("xgboost")
    x, y, weight = table(kind, weighted)
    data = xgboost.DMatrix(x, y, weight=weight)
    # Up to 3.2 its curvature is 2 p (1 - p), and |p - y| after that.
    newer = tuple(map(int, xgboost.__version__.split(".")[:2])) > (3, 2)
    objective = boosting.xgboost_objective(curvature="residual" if newer and kind == "classes" else "library")
    own = xgboost.train(xgboost_params(kind), data, 8)
    ours = xgboost.train(xgboost_params(kind), data, 8, obj=objective)
    np.testing.assert_allclose(ours.predict(data), own.predict(data), **CLOSE["xgboost"])
    assert own.predict(data).max() > 0.8  # they have learned something


@WEIGHTED
@KINDS
def test_lightgbm_trains_as_with_its_own_objective(kind, weighted):
    """From the classes' shares, which it puts into its first trees and we pass as init_score."""
    lightgbm = pytest.importorskip("lightgbm")
    x, y, weight = table(kind, weighted)
    share = np.bincount(y, weights=weight) / (len(y) if weight is None else weight.sum())
    init = np.log(share) if kind == "classes" else np.log(share[1] / share[0])
    scores = np.tile(init, (len(y), 1)) if kind == "classes" else np.full(len(y), init)
    name = "multiclass" if kind == "classes" else "binary"
    own = lightgbm.train(lightgbm_params(kind, objective=name), lightgbm.Dataset(x, y, weight=weight), 8)
    ours = lightgbm.train(
        lightgbm_params(kind, objective=boosting.lightgbm_objective()),
        lightgbm.Dataset(x, y, weight=weight, init_score=scores),
        8,
    )
    np.testing.assert_allclose(probabilities(ours.predict(x) + init), own.predict(x), **CLOSE["lightgbm"])
    assert own.predict(x).max() > 0.7


@WEIGHTED
@KINDS
def test_xgboost_classifier(kind, weighted):
    """The objective and the metric of the wrappers, through scikit-learn's clone, which copies them."""
    xgboost, base = pytest.importorskip("xgboost"), pytest.importorskip("sklearn.base")
    x, y, weight = table(kind, weighted)
    params = {"n_estimators": 8, "max_depth": 3, "max_bin": 32, "n_jobs": 1, "base_score": 0.5}
    newer = tuple(map(int, xgboost.__version__.split(".")[:2])) > (3, 2)
    objective = boosting.sklearn_objective("xgboost", curvature="residual" if newer and kind == "classes" else "library")
    ours = base.clone(xgboost.XGBClassifier(**params, objective=objective, eval_metric=boosting.sklearn_metric("xgboost")))
    fit = {"sample_weight": weight, "eval_set": [(x, y)], "sample_weight_eval_set": None if weight is None else [weight]}
    own = xgboost.XGBClassifier(**params).fit(x, y, **fit, verbose=False)
    ours.fit(x, y, **fit, verbose=False)
    np.testing.assert_allclose(ours.predict_proba(x), own.predict_proba(x), **CLOSE["xgboost"])
    assert np.array_equal(ours.predict(x), own.predict(x))
    (expected,) = own.evals_result()["validation_0"].values()
    np.testing.assert_allclose(ours.evals_result()["validation_0"]["cross_entropy"], expected, rtol=0, atol=1e-6)
    again = pickle.loads(pickle.dumps(ours))
    assert np.array_equal(again.predict(x), ours.predict(x))


@WEIGHTED
@KINDS
def test_lightgbm_classifier(kind, weighted):
    lightgbm, base = pytest.importorskip("lightgbm"), pytest.importorskip("sklearn.base")
    x, y, weight = table(kind, weighted)
    params = {"n_estimators": 8, "num_leaves": 7, "max_bin": 32, "n_jobs": 1, "verbose": -1, "boost_from_average": False}
    ours = base.clone(lightgbm.LGBMClassifier(**params, objective=boosting.sklearn_objective("lightgbm"), metric="None"))
    newer = "eval_X" in inspect.signature(ours.fit).parameters  # since 4.7, where eval_set warns
    fit = {"eval_X": x, "eval_y": y} if newer else {"eval_set": [(x, y)]}
    fit |= {"sample_weight": weight, "eval_sample_weight": None if weight is None else [weight]}
    own = lightgbm.LGBMClassifier(**params).fit(x, y, **fit)
    ours.fit(x, y, **fit, eval_metric=boosting.sklearn_metric("lightgbm"))
    p = probabilities(ours.predict(x, raw_score=True))
    np.testing.assert_allclose(p, own.predict_proba(x)[(..., 1) if kind == "binary" else ...], **CLOSE["lightgbm"])
    (expected,) = own.evals_result_["valid_0"].values()
    assert list(ours.evals_result_["valid_0"]) == ["cross_entropy"]
    np.testing.assert_allclose(ours.evals_result_["valid_0"]["cross_entropy"], expected, rtol=1e-9)
    again = pickle.loads(pickle.dumps(ours))
    assert np.array_equal(again.predict(x, raw_score=True), ours.predict(x, raw_score=True))


@KINDS
def test_xgboost_stops_early(kind):
    """By our metric as by its own, of the other half of the data."""
    xgboost = pytest.importorskip("xgboost")
    x, y, weight = table(kind, weighted=True)
    train, valid = (xgboost.DMatrix(x[half], y[half], weight=weight[half]) for half in (slice(0, None, 2), slice(1, None, 2)))
    params = xgboost_params(kind, eta=1.0)
    own, ours, report = params | {"eval_metric": "mlogloss" if kind == "classes" else "logloss"}, params, {}
    settings = {"evals": [(valid, "valid")], "early_stopping_rounds": 2, "verbose_eval": False}
    objective = boosting.xgboost_objective()
    own = xgboost.train(own, train, 60, obj=objective, **settings)
    ours = xgboost.train(
        ours | {"disable_default_eval_metric": True},
        train, 60, obj=objective, custom_metric=boosting.xgboost_metric(), evals_result=report, **settings,
    )  # fmt: skip
    assert list(report["valid"]) == ["cross_entropy"]
    assert ours.best_iteration == own.best_iteration < 50
    assert ours.best_score == pytest.approx(own.best_score, abs=1e-6)


def test_lightgbm_stops_early():
    """By the first of two metrics; with deep copies of its parameters, as it makes them."""
    lightgbm = pytest.importorskip("lightgbm")
    x, y, weight = table("classes", weighted=True)
    train = lightgbm.Dataset(x[::2], y[::2], weight=weight[::2])
    valid = lightgbm.Dataset(x[1::2], y[1::2], weight=weight[1::2], reference=train)
    report = {}
    booster = lightgbm.train(
        lightgbm_params("classes", objective=boosting.lightgbm_objective(), learning_rate=0.5, metric="None"),
        train,
        60,
        valid_sets=[valid],
        feval=[boosting.lightgbm_metric(), boosting.lightgbm_metric(focal_gamma=2.0, name="focal")],
        callbacks=[lightgbm.early_stopping(3, first_metric_only=True, verbose=False), lightgbm.record_evaluation(report)],
    )
    curve = report["valid_0"]["cross_entropy"]
    assert booster.best_iteration == np.argmin(curve) + 1 < 50
    margins = booster.predict(x[1::2], num_iteration=booster.best_iteration)
    expected = celoss.cross_entropy(margins, y[1::2], sample_weight=weight[1::2].astype(np.float32))
    assert booster.best_score["valid_0"]["cross_entropy"] == pytest.approx(expected, rel=1e-9)
    focal = celoss.cross_entropy(margins, y[1::2], sample_weight=weight[1::2].astype(np.float32), focal_gamma=2.0)
    assert booster.best_score["valid_0"]["focal"] == pytest.approx(focal, rel=1e-9)


def test_xgboost_with_probabilities_as_labels():
    """Labels of several columns, which go through where num_class is not given; one-hot, the model is that of the indices."""
    xgboost = pytest.importorskip("xgboost")
    x, y, _ = table("classes")
    params = {name: value for name, value in xgboost_params("classes", base_score=0.0).items() if name != "objective"}
    of_indices = xgboost.train(params, xgboost.DMatrix(x, y), 5, obj=boosting.xgboost_objective(label_smoothing=0.2))
    del params["num_class"]
    soft, report = xgboost.DMatrix(x, 0.8 * np.eye(10)[y] + 0.02), {}
    model = xgboost.train(
        params | {"disable_default_eval_metric": True},
        soft, 5, obj=boosting.xgboost_objective(), custom_metric=boosting.xgboost_metric(),
        evals=[(soft, "train")], evals_result=report, verbose_eval=False,
    )  # fmt: skip
    np.testing.assert_allclose(
        model.predict(soft, output_margin=True), of_indices.predict(xgboost.DMatrix(x), output_margin=True), rtol=0, atol=1e-5
    )
    curve = report["train"]["cross_entropy"]
    assert all(np.diff(curve) < 0) and curve[-1] < 1.5


def test_lightgbm_with_probabilities_in_place_of_labels():
    lightgbm = pytest.importorskip("lightgbm")
    x, y, _ = table("classes")
    soft = boosting.lightgbm_objective(target=0.8 * np.eye(10)[y] + 0.02)
    smoothed = boosting.lightgbm_objective(label_smoothing=0.2)
    one, other = (
        lightgbm.train(lightgbm_params("classes", objective=objective), lightgbm.Dataset(x, y), 5).predict(x)
        for objective in (soft, smoothed)
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-8)
    assert abs(one).max() > 0.5


@pytest.mark.parametrize("curvature", ["library", "exact", "residual"])
@LIBRARIES
def test_focal_loss_with_class_weights_lowers_itself(library, curvature):
    """Round by round, as a step of the right sign and size does."""
    package = pytest.importorskip(library)
    x, y, weight = table("classes", weighted=True)
    options = {"focal_gamma": 2.0, "weight": np.linspace(1, 2, 10)}
    objective, metric = (maker(library, what) for what in ("objective", "metric"))
    objective, metric, report = objective(**options, curvature=curvature), metric(**options), {}
    if library == "xgboost":
        data = package.DMatrix(x, y, weight=weight)
        params = xgboost_params("classes", disable_default_eval_metric=True)
        package.train(
            params, data, 8, obj=objective, custom_metric=metric, evals=[(data, "t")], evals_result=report, verbose_eval=False
        )
    else:
        data = package.Dataset(x, y, weight=weight)
        params = lightgbm_params("classes", objective=objective, metric="None")
        callbacks = [package.record_evaluation(report)]
        package.train(params, data, 8, valid_sets=[data], valid_names=["t"], feval=metric, callbacks=callbacks)
    curve = report["t"]["cross_entropy"]
    assert len(curve) == 8 and all(np.diff(curve) < 0) and curve[-1] < 0.8 * curve[0]


@LIBRARIES
def test_an_error_reaches_the_user(library):
    package = pytest.importorskip(library)
    x, y, _ = table("classes")
    with pytest.raises(ValueError, match=r"label\[9\] = 9.0 is no class: expected an integer in \[0, 9\)"):
        if library == "xgboost":
            package.train({"num_class": 9}, package.DMatrix(x, y), 1, obj=boosting.xgboost_objective())
        else:
            params = lightgbm_params("classes", num_class=9, objective=boosting.lightgbm_objective())
            package.train(params, package.Dataset(x, y), 1)
