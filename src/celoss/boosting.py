"""Objectives and metrics for gradient boosting: XGBoost, LightGBM, and the scikit-learn wrappers of both.

These libraries leave the loss to a function of the caller, and ask it for the gradient and the curvature of every margin.
The callables here are such functions: they bring labels, weights and margins from the form in which each library passes them
into the one that celoss takes, and the results into the one that the library takes without a copy. Every number comes from
the public functions of celoss; neither library is imported.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

import celoss

__all__ = [
    "lightgbm_metric",
    "lightgbm_objective",
    "sklearn_metric",
    "sklearn_objective",
    "xgboost_metric",
    "xgboost_objective",
]

Array: TypeAlias = NDArray[Any]

_LIBRARIES = ("xgboost", "lightgbm")
_CURVATURES = ("library", "exact", "residual")

# The lower bound of a curvature in XGBoost's own objectives; less than what LightGBM adds to the sum of each leaf (1e-15).
_LEAST_CURVATURE = 1e-16


class _Data(Protocol):
    """What is asked of a DMatrix or a Dataset."""

    def get_label(self) -> Any: ...
    def get_weight(self) -> Any: ...


# ---- the objectives ------------------------------------------------------------------------------------------------------------


def xgboost_objective(
    *,
    weight: ArrayLike | None = None,
    pos_weight: float | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    curvature: str = "library",
    n_threads: int | None = None,
) -> _NativeObjective:
    r"""Cross-entropy as an objective of XGBoost: ``xgboost.train(params, dtrain, obj=xgboost_objective())``.

    Margins of shape (N, C), from ``num_class`` or from labels with C columns, are those of a softmax; margins of shape (N,) are
    those of a sigmoid. Gradient and curvature are those of the sum of the losses, each times its row's weight in the DMatrix.

    Parameters
    ----------
    weight : array_like, shape (C,), optional
        A weight >= 0 for each class. Only with margins of shape (N, C).
    pos_weight : float, optional
        A weight >= 0 for the positive label. Only with margins of shape (N,).
    label_smoothing : float, default 0.0
        Moves this share of a label's mass evenly to all classes, as in `cross_entropy`; of a binary label, to 1/2.
    focal_gamma : float, default 0.0
        The exponent >= 0 of the focal loss, as in `cross_entropy`. Neither with smoothing nor with probabilities as labels.
    curvature : {"library", "exact", "residual"}, default "library"
        What is returned as the second derivative. With :math:`h` the diagonal of the Hessian, which is :math:`p\,(1-p)` times
        the row's weights where there is no focal exponent:

        * "library": what the library's own objective takes. With C classes :math:`2 h` in XGBoost and
          :math:`\frac{C}{C-1} h` in LightGBM; :math:`h` for binary labels.
        * "exact": :math:`h`.
        * "residual": the absolute value of the gradient, :math:`|p - y|` times the row's weights.

        The values are at least 1e-16, as in XGBoost's own objectives. A focal loss is not convex: where a row is wrong, its
        :math:`h` may be negative, and is then replaced by that bound; "residual" needs no bound there.
    n_threads : int, optional
        Use at most so many threads. Default: `celoss.get_num_threads()`.

    Returns
    -------
    callable
        ``objective(preds, dtrain)``, which returns gradient and curvature, in the shape and memory order of `preds` and in
        float32. It can be pickled and copied.

    Raises
    ------
    TypeError, ValueError
        For an option that does not exist, or of the wrong kind or value; for both `weight` and `pos_weight`. The callable
        raises ValueError for a label that is no class (its position and value), for labels or weights of a shape that does not
        fit the margins, and for an option that needs margins of the other shape.

    See Also
    --------
    xgboost_metric : The loss as a metric.
    sklearn_objective : The same for ``XGBClassifier``.

    Notes
    -----
    Labels are class indices, probabilities of shape (N, C) whose rows sum to 1, or, with margins of shape (N,), numbers from 0
    to 1. XGBoost lets labels with C columns through where ``num_class`` is not given. What it starts from is ``base_score``.

    Examples
    --------
    A stand-in for the DMatrix, of which labels and weights are asked:

    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from celoss.boosting import xgboost_objective
    >>> label, weight = np.array([0, 3], np.float32), np.array([1, 2], np.float32)
    >>> dtrain = SimpleNamespace(get_label=lambda: label, get_weight=lambda: weight)
    >>> grad, hess = xgboost_objective()(np.zeros((2, 4), np.float32), dtrain)
    >>> grad.tolist()
    [[-0.75, 0.25, 0.25, 0.25], [0.5, 0.5, 0.5, -1.5]]
    >>> hess.tolist()
    [[0.375, 0.375, 0.375, 0.375], [0.75, 0.75, 0.75, 0.75]]
    >>> xgboost_objective(focal_gamma=2.0, curvature="residual")
    xgboost_objective(focal_gamma=2.0, curvature='residual')
    """
    return _NativeObjective(
        "xgboost_objective", "xgboost",
        weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, focal_gamma=focal_gamma, curvature=curvature,
        n_threads=n_threads,
    )  # fmt: skip


def lightgbm_objective(
    *,
    weight: ArrayLike | None = None,
    pos_weight: float | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    curvature: str = "library",
    target: ArrayLike | None = None,
    n_threads: int | None = None,
) -> _NativeObjective:
    """Cross-entropy as an objective of LightGBM: ``lightgbm.train({"objective": lightgbm_objective()}, dataset)``.

    Margins of shape (N, C), from ``num_class``, are those of a softmax; margins of shape (N,) are those of a sigmoid. Gradient
    and curvature are those of the sum of the losses, each times its row's weight in the Dataset.

    Parameters
    ----------
    weight, pos_weight, label_smoothing, focal_gamma, curvature, n_threads
        As for `xgboost_objective`.
    target : array_like, shape (N, C), optional
        Probabilities that take the place of the Dataset's labels, which LightGBM wants to have one column. Row n belongs to
        row n of the Dataset, so that folds of ``lightgbm.cv`` do not fit.

    Returns
    -------
    callable
        ``objective(preds, dataset)``, which returns gradient and curvature, in the shape and memory order of `preds` and in
        float32. It can be pickled and copied.

    Raises
    ------
    TypeError, ValueError
        As for `xgboost_objective`; ValueError also for a `target` whose rows are no probabilities.

    See Also
    --------
    lightgbm_metric : The loss as a metric.
    sklearn_objective : The same for ``LGBMClassifier``.

    Notes
    -----
    With an objective of the caller LightGBM starts from 0, where its own start from the classes' shares
    (``boost_from_average``), and predicts margins: pass the logarithms of the shares as ``init_score``, add them to what is
    predicted, and take its `celoss.softmax` or `celoss.sigmoid`.

    Examples
    --------
    A stand-in for the Dataset, of which labels and weights are asked:

    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from celoss.boosting import lightgbm_objective
    >>> label = np.array([0, 3], np.float32)
    >>> dataset = SimpleNamespace(get_label=lambda: label, get_weight=lambda: None)
    >>> grad, hess = lightgbm_objective()(np.zeros((2, 4), order="F"), dataset)
    >>> grad.tolist()
    [[-0.75, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, -0.75]]
    >>> hess.tolist(), hess.flags.f_contiguous
    ([[0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]], True)
    """
    return _NativeObjective(
        "lightgbm_objective", "lightgbm",
        weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, focal_gamma=focal_gamma, curvature=curvature,
        target=target, n_threads=n_threads,
    )  # fmt: skip


def sklearn_objective(
    library: str,
    *,
    weight: ArrayLike | None = None,
    pos_weight: float | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    curvature: str = "library",
    n_threads: int | None = None,
) -> _SklearnObjective:
    """Cross-entropy as the `objective` of ``XGBClassifier`` or ``LGBMClassifier``.

    Parameters
    ----------
    library : {"xgboost", "lightgbm"}
        Whose estimator it is: both call their objective alike, and `curvature` means something else in each.
    weight, pos_weight, label_smoothing, focal_gamma, curvature, n_threads
        As for `xgboost_objective`.

    Returns
    -------
    callable
        ``objective(y_true, y_pred, sample_weight=None)``, which returns gradient and curvature, in the shape and memory order
        of `y_pred` and in float32. It can be pickled and copied.

    Raises
    ------
    TypeError, ValueError
        As for `xgboost_objective`; ValueError also for another `library`.

    See Also
    --------
    sklearn_metric : The loss as a metric.

    Notes
    -----
    ``predict_proba`` of an ``XGBClassifier`` is as with its own objective. That of an ``LGBMClassifier`` returns margins, with a
    warning: take `celoss.softmax` or `celoss.sigmoid` of ``predict(x, raw_score=True)``.

    Examples
    --------
    >>> import numpy as np
    >>> from celoss.boosting import sklearn_objective
    >>> grad, hess = sklearn_objective("xgboost", pos_weight=3.0)(np.array([0, 1]), np.zeros(2, np.float32))
    >>> grad.tolist(), hess.tolist()
    ([0.5, -1.5], [0.25, 0.75])
    """
    return _SklearnObjective(
        "sklearn_objective", library,
        weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, focal_gamma=focal_gamma, curvature=curvature,
        n_threads=n_threads,
    )  # fmt: skip


# ---- the metrics ---------------------------------------------------------------------------------------------------------------


def xgboost_metric(
    *,
    weight: ArrayLike | None = None,
    pos_weight: float | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    n_threads: int | None = None,
    name: str = "cross_entropy",
) -> _NativeMetric:
    """Cross-entropy as a metric of XGBoost: ``xgboost.train(..., obj=xgboost_objective(), custom_metric=xgboost_metric())``.

    It is the mean of the losses, weighted by the rows' weights in the DMatrix (and by `weight`), and to be minimised.

    Parameters
    ----------
    weight, pos_weight, label_smoothing, focal_gamma, n_threads
        As for `xgboost_objective`.
    name : str, default "cross_entropy"
        What the library calls it in its reports.

    Returns
    -------
    callable
        ``metric(preds, dmatrix)``, which returns the pair of name and value. It can be pickled and copied.

    Raises
    ------
    TypeError, ValueError
        As for `xgboost_objective`.

    See Also
    --------
    xgboost_objective : The objective.

    Notes
    -----
    The metric is one of margins, which XGBoost passes where ``obj`` is a function; with an objective of its own it passes
    probabilities. It reports six decimals, and stops early by these.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from celoss.boosting import xgboost_metric
    >>> label, weight = np.array([0, 1], np.float32), np.array([3, 1], np.float32)
    >>> dmatrix = SimpleNamespace(get_label=lambda: label, get_weight=lambda: weight)
    >>> name, value = xgboost_metric()(np.array([[50, 0], [50, 0]], np.float32), dmatrix)
    >>> name, round(value, 6)
    ('cross_entropy', 12.5)
    """
    return _NativeMetric(
        "xgboost_metric", "xgboost",
        weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, focal_gamma=focal_gamma, n_threads=n_threads,
        name=name,
    )  # fmt: skip


def lightgbm_metric(
    *,
    weight: ArrayLike | None = None,
    pos_weight: float | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    n_threads: int | None = None,
    name: str = "cross_entropy",
) -> _NativeMetric:
    """Cross-entropy as a metric of LightGBM: ``lightgbm.train(..., feval=lightgbm_metric())``.

    It is the mean of the losses, weighted by the rows' weights in the Dataset (and by `weight`), and to be minimised.

    Parameters
    ----------
    weight, pos_weight, label_smoothing, focal_gamma, n_threads
        As for `xgboost_objective`.
    name : str, default "cross_entropy"
        What the library calls it in its reports; several metrics need several names.

    Returns
    -------
    callable
        ``metric(preds, dataset)``, which returns name, value, and False: higher is not better. It can be pickled and copied.

    Raises
    ------
    TypeError, ValueError
        As for `xgboost_objective`.

    See Also
    --------
    lightgbm_objective : The objective.

    Notes
    -----
    The metric is one of margins, which LightGBM passes where the objective is a function; with an objective of its own it
    passes probabilities.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from celoss.boosting import lightgbm_metric
    >>> dataset = SimpleNamespace(get_label=lambda: np.array([0, 1], np.float32), get_weight=lambda: None)
    >>> metric = lightgbm_metric(name="loss")
    >>> metric(np.array([[50.0, 0.0], [50.0, 0.0]]), dataset)
    ('loss', 25.0, False)
    """
    return _NativeMetric(
        "lightgbm_metric", "lightgbm",
        weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, focal_gamma=focal_gamma, n_threads=n_threads,
        name=name,
    )  # fmt: skip


def sklearn_metric(
    library: str,
    *,
    weight: ArrayLike | None = None,
    pos_weight: float | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    n_threads: int | None = None,
    name: str = "cross_entropy",
) -> _SklearnMetric:
    """Cross-entropy as the `eval_metric` of ``XGBClassifier``, or of ``LGBMClassifier.fit``.

    Parameters
    ----------
    library : {"xgboost", "lightgbm"}
        Whose estimator it is: they want the value in different forms.
    weight, pos_weight, label_smoothing, focal_gamma, n_threads
        As for `xgboost_objective`.
    name : str, default "cross_entropy"
        What the library calls it in its reports.

    Returns
    -------
    callable
        ``metric(y_true, y_pred, sample_weight=None)``, which returns the weighted mean loss for XGBoost; for LightGBM name,
        value, and False: higher is not better. It can be pickled and copied.

    Raises
    ------
    TypeError, ValueError
        As for `sklearn_objective`.

    See Also
    --------
    sklearn_objective : The objective, without which the estimators pass probabilities and not margins.

    Examples
    --------
    >>> import numpy as np
    >>> from celoss.boosting import sklearn_metric
    >>> metric = sklearn_metric("xgboost")
    >>> metric(np.array([0, 1]), np.array([[50.0, 0.0], [50.0, 0.0]]))
    25.0
    >>> metric.__name__  # by which XGBoost reports it
    'cross_entropy'
    """
    return _SklearnMetric(
        "sklearn_metric", library,
        weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, focal_gamma=focal_gamma, n_threads=n_threads,
        name=name,
    )  # fmt: skip


# ---- what they return ----------------------------------------------------------------------------------------------------------


class _Adapter:
    """A function's name, a library, and options, which are checked here; no state beside them, so that threads can share it."""

    def __init__(self, made_by: str, library: str, **options: Any) -> None:
        if library not in _LIBRARIES:
            raise ValueError(f"library must be 'xgboost' or 'lightgbm', got {library!r}")
        if options["weight"] is not None and options["pos_weight"] is not None:
            raise ValueError("weight is for margins of shape (N, C) and pos_weight for margins of shape (N,); pass one of them")
        self.made_by, self.library, self.options = made_by, library, options
        # The loss objects raise what is wrong with each of their options.
        shared = {name: options[name] for name in ("label_smoothing", "focal_gamma", "n_threads")}
        celoss.CrossEntropyLoss(weight=options["weight"], **shared)
        celoss.BinaryCrossEntropyLoss(pos_weight=options["pos_weight"], **shared)
        if np.ndim(options["pos_weight"]):
            raise ValueError(f"pos_weight has shape {np.shape(options['pos_weight'])}; expected a number")

    def __repr__(self) -> str:
        """The call that makes such an object: the options that are not the defaults."""
        defaults = {"label_smoothing": 0.0, "focal_gamma": 0.0, "curvature": "library", "name": "cross_entropy"}
        # The others' default is None; they may be arrays, which compare element by element.
        given = [(k, v) for k, v in self.options.items() if (v != defaults[k] if k in defaults else v is not None)]
        library = [repr(self.library)] if self.made_by.startswith("sklearn") else []
        return f"{self.made_by}({', '.join(library + [f'{name}={value!r}' for name, value in given])})"

    def _arguments(self, margins: Any, labels: Any, weights: Any) -> tuple[Array, Array, dict[str, Any]]:
        """What celoss is called with. Margins in column-major order are transposed, and axis is 0."""
        margins = np.asarray(margins)
        if margins.ndim not in (1, 2) or (margins.ndim == 2 and margins.shape[1] == 1):
            raise ValueError(f"margins have shape {margins.shape}; expected (N,), or (N, C) with two classes or more")
        binary = margins.ndim == 1
        for name, fits in (("weight", not binary), ("pos_weight", binary)):
            if self.options[name] is not None and not fits:
                other = "(N, C); for binary labels pass pos_weight" if binary else "(N,); for classes pass weight, one for each"
                raise ValueError(f"margins have shape {margins.shape}, and {name} is for margins of shape {other}")
        rows = len(margins)
        weights = None if weights is None else np.asarray(weights)
        if weights is not None and weights.size == 0:  # so XGBoost says that there are none
            weights = None
        if weights is not None and weights.shape != (rows,):
            raise ValueError(f"weights have shape {weights.shape}, margins {margins.shape}; expected a weight for each row")
        chosen = ("label_smoothing", "focal_gamma", "n_threads", "pos_weight" if binary else "weight")
        options = {name: self.options[name] for name in chosen}
        options["weight" if binary else "sample_weight"] = weights
        if self.options.get("target") is not None:
            target = self.options["target"]
            if target.shape != margins.shape:
                raise ValueError(f"target has shape {target.shape}, margins {margins.shape}; expected one shape")
        elif binary:
            target = _binary_labels(labels, margins, weights)
        else:
            target = _labels_of_classes(labels, margins, weights)
        if binary:
            return margins, target, options
        if margins.flags.f_contiguous and not margins.flags.c_contiguous:  # celoss makes results in row-major order
            return margins.T, target.T, {"axis": 0, **options}
        return margins, target, {"axis": 1, **options}


class _Objective(_Adapter):
    def __init__(self, made_by: str, library: str, **options: Any) -> None:
        super().__init__(made_by, library, **options)
        if options["curvature"] not in _CURVATURES:
            raise ValueError(f"curvature must be 'library', 'exact' or 'residual', got {options['curvature']!r}")
        if options.get("target") is not None:
            target = np.asarray(options["target"])
            if target.ndim != 2 or target.dtype.kind != "f":
                raise ValueError(f"target is {target.dtype} of shape {target.shape}; expected floating probabilities (N, C)")
            _check_probabilities(target, None, "target")
            self.options["target"] = target

    def _gradient_and_curvature(self, margins: Any, labels: Any, weights: Any) -> tuple[Array, Array]:
        # LightGBM's margins are float64, and the results are rounded to float32 at the end alone, as by its own objectives: the
        # models then agree to 1e-15. With margins rounded first 60 000 rows of 10 classes take 1.7 ms, not 3.4, and it is 3e-8.
        margins, target, options = self._arguments(margins, labels, weights)
        binary = margins.ndim == 1
        options["reduction"] = "sum"
        if self.options["curvature"] == "residual":
            with_grad = celoss.binary_cross_entropy_with_grad if binary else celoss.cross_entropy_with_grad
            _, grad = with_grad(margins, target, **options)
            grad = grad.astype(np.float32, copy=False)
            hess = np.abs(grad)
        else:
            with_hess = celoss.binary_cross_entropy_with_grad_hess if binary else celoss.cross_entropy_with_grad_hess
            _, grad, hess = with_hess(margins, target, **options)
            if self.options["curvature"] == "library" and not binary:
                classes = margins.shape[options["axis"]]
                hess *= 2 if self.library == "xgboost" else classes / (classes - 1)
            grad, hess = grad.astype(np.float32, copy=False), hess.astype(np.float32, copy=False)
        np.maximum(hess, _LEAST_CURVATURE, out=hess)
        return (grad.T, hess.T) if options.get("axis") == 0 else (grad, hess)


class _Metric(_Adapter):
    def __init__(self, made_by: str, library: str, **options: Any) -> None:
        super().__init__(made_by, library, **options)
        if not isinstance(options["name"], str):
            raise TypeError(f"name must be a string, got {options['name']!r}")
        self.__name__ = options["name"]  # XGBoost's wrappers report a metric by it

    def _mean_loss(self, margins: Any, labels: Any, weights: Any) -> float:
        margins, target, options = self._arguments(margins, labels, weights)
        if margins.ndim == 2:
            return float(celoss.cross_entropy(margins, target, **options))
        weights = options["weight"]
        if weights is not None:  # the mean of binary losses is one of elements, whatever their weights
            options["normalizer"] = np.sum(weights, dtype=np.float64)
        return float(celoss.binary_cross_entropy(margins, target, **options))

    def _report(self, loss: float) -> tuple[str, float] | tuple[str, float, bool]:
        return (self.__name__, loss) if self.library == "xgboost" else (self.__name__, loss, False)


class _NativeObjective(_Objective):
    def __call__(self, preds: Array, data: _Data) -> tuple[Array, Array]:
        return self._gradient_and_curvature(preds, data.get_label(), data.get_weight())


class _SklearnObjective(_Objective):
    # XGBoost passes weights to a parameter of this name, and LightGBM to a third parameter of any name.
    def __call__(self, y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> tuple[Array, Array]:
        return self._gradient_and_curvature(y_pred, y_true, sample_weight)


class _NativeMetric(_Metric):
    def __call__(self, preds: Array, data: _Data) -> tuple[str, float] | tuple[str, float, bool]:
        return self._report(self._mean_loss(preds, data.get_label(), data.get_weight()))


class _SklearnMetric(_Metric):
    def __call__(
        self, y_true: Array, y_pred: Array, sample_weight: Array | None = None
    ) -> float | tuple[str, float] | tuple[str, float, bool]:
        loss = self._mean_loss(y_pred, y_true, sample_weight)
        return loss if self.library == "xgboost" else self._report(loss)


# ---- labels --------------------------------------------------------------------------------------------------------------------


def _labels_of_classes(labels: Any, margins: Array, weights: Array | None) -> Array:
    """Class indices of float32 labels, or probabilities as they are."""
    array = _numbers(labels)
    rows, classes = margins.shape
    if array.shape == margins.shape and array.dtype.kind == "f":
        _check_probabilities(array, weights, "label")
        return array
    if array.shape != (rows,):
        raise ValueError(
            f"labels have shape {array.shape}, margins {margins.shape}; expected ({rows},), the index of each row's class, "
            f"or ({rows}, {classes}), probabilities (a floating dtype)"
        )
    with np.errstate(invalid="ignore"):  # what no integer can hold is found below
        indices: Array = array.astype(np.int64, copy=False)
    good = (array >= 0) & (array < classes) & (array == indices)
    _refuse_others(good, array, weights, "label", f"is no class: expected an integer in [0, {classes})")
    return indices


def _binary_labels(labels: Any, margins: Array, weights: Array | None) -> Array:
    """Labels between 0 and 1, as they are."""
    array = _numbers(labels)
    if array.shape != margins.shape:
        raise ValueError(
            f"labels have shape {array.shape}, margins {margins.shape}; expected a label for each margin "
            "(margins of C classes have shape (N, C): pass num_class)"
        )
    complaint = "is not in [0, 1], as labels beside margins of shape (N,) are (those of C classes are (N, C): pass num_class)"
    _refuse_others((array >= 0) & (array <= 1), array, weights, "label", complaint)
    return array


def _numbers(labels: Any) -> Array:
    array: Array = np.asarray(labels)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"labels have dtype {array.dtype}; expected numbers, 0 to C - 1 for C classes")
    return array


def _check_probabilities(labels: Array, weights: Array | None, name: str) -> None:
    """Rows that sum to another number are as a rule the answers to C questions, of which several may be yes."""
    sums = labels.sum(axis=1, dtype=np.float64)
    good = (np.abs(sums - 1) <= 1e-3) & (labels >= 0).all(axis=1)
    complaint = "are no probabilities of classes, which are >= 0 and sum to 1 (yes and no to C questions take C binary models)"
    _refuse_others(good, labels, weights, name, complaint)


def _refuse_others(good: Array, labels: Array, weights: Array | None, name: str, complaint: str) -> None:
    """The first label that is not good is an error, but in a row of weight 0, which counts nothing."""
    if not good.all():
        good = good if weights is None else good | (weights == 0)
        if not good.all():
            first = int(good.argmin())
            value = labels[first] if labels.ndim == 1 else np.array2string(labels[first], threshold=10)
            raise ValueError(f"{name}[{first}] = {value} {complaint}")
