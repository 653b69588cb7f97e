"""What to pass in place of what cannot be taken: the ends of messages, and what is refused whatever it holds.

NumPy takes almost anything: it wraps a dict as one object, makes text of labels, drops masks, and gathers what is lazy. The
functions here look for what people pass most often in place of an array of numbers, and say what to write instead.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def described(a: Array) -> str:
    return f"{a.dtype} of shape {a.shape}"


def unmasked(name: str, role: str) -> str:
    """What to pass in place of a masked array: its mask would be lost in silence."""
    if role == "target":
        return "pass target.filled(ignore_index), which leaves the masked rows out"
    if role == "labels":
        return "pass target.filled(0), and weight=~np.ma.getmaskarray(target) to leave the masked ones out"
    if role == "logits":
        return (
            "pass logits.data, and leave out what is masked by ignore_index or a weight of 0; "
            "where masked classes cannot occur, pass logits.filled(-np.inf)"
        )
    if role == "log_p":
        return "pass log_p.filled(-np.inf), which gives what is masked the probability 0"
    if role == "x":
        return "pass x.filled(-np.inf), which gives what is masked the probability 0, or x.data"
    return f"pass {name}.filled(0), which leaves out what is masked"


def refuse_what_is_no_array(value: Any, name: str, role: str) -> None:
    """What NumPy would wrap as one object, or gather from many places in silence."""
    if value is None:
        raise TypeError(f"{name} is None; expected an array")
    if isinstance(value, Mapping):
        recipes = {
            "weight": "pass a weight for each class, in the order of the classes: [weights[c] for c in classes]",
            "sample_weight": "pass a weight for each row: [weights[c] for c in labels]",
            "score_weight": "pass a weight for each score: [weights[c] for c in labels]",
            "pos_weight": "pass one number, or one for each column of logits: [weights[c] for c in columns]",
        }
        raise TypeError(f"{name} is a {type(value).__name__}; {recipes.get(role, 'pass an array')}")
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name} is a sparse {type(value).__name__}; pass {name}.toarray()")
    if hasattr(value, "collect") and not hasattr(value, "__array__"):  # of polars and Spark
        raise TypeError(f"{name} is a {type(value).__name__}, which is lazy; pass {name}.collect()")
    graph = getattr(value, "__dask_graph__", None)
    if callable(graph) and not isinstance(value, type) and graph() is not None:  # None: an xarray object that is not lazy
        raise TypeError(
            f"{name} is a Dask collection, which this function would gather into memory; "
            f"pass {name}.compute(), or call celoss on each of its blocks"
        )


def of_no_use(array: Array, name: str, role: str, value: Any = None) -> str:
    """The end of a message about a dtype that is not taken: what the array holds, and what to pass. `value`: as it was given."""
    kind, floats = array.dtype.kind, f"np.asarray({name}, np.float64)"
    is_target = role in ("target", "labels")
    if is_target and (codes := _codes(value, name)):
        return f"; it is categorical: pass {codes}"
    items = array.ravel().tolist() if kind in "OUST" else []
    if any(isinstance(item, (str, bytes)) for item in items):
        if role == "target":
            return (
                "; it holds strings: classes, target = np.unique(labels, return_inverse=True) gives the index of each, "
                "for logits whose classes are in the order of classes"
            )
        if role == "labels":
            return "; it holds strings: pass where they are the positive one, np.asarray(labels) == 'yes'"
        if role == "weight" and items == ["balanced"]:
            return "; for balanced classes pass len(target) / (C * np.bincount(target, minlength=C))"
        return f"; it holds strings: where they are numbers, pass {floats}"
    if any(item is None or type(item).__name__ == "NAType" for item in items):
        pandas = any(type(item).__name__ == "NAType" for item in items)
        if role == "target":
            recipe = ".fillna(ignore_index).to_numpy(np.int64)" if pandas else ""
            return (
                f"; it has missing values: fill them with ignore_index, and pass an integer dtype{pandas * f', target{recipe}'}"
            )
        if role in ("logits", "x"):
            recipe = f"{name}.to_numpy(np.float64, na_value=np.nan)" if pandas else floats
            return f"; it has missing values: pass {recipe}, which makes them NaN"
        if role == "labels":
            return "; it has missing values: fill them with 0, give them the weight 0, and pass np.asarray(target, np.float64)"
        return f"; it has missing values: fill them with 0, and pass {floats}"
    if kind == "O" and array.ndim:
        if role == "target":
            return "; pass np.asarray(target, np.int64) for class indices, np.float64 for probabilities"
        return f"; pass {floats}"
    return f"; pass {name}.astype(np.float64)" if kind == "f" else ""


def _codes(value: Any, name: str) -> str:
    """How pandas and polars give the number of each category; empty for anything else."""
    if hasattr(value, "cat") and hasattr(value.cat, "codes"):
        return f"{name}.cat.codes, with ignore_index=-1 where values are missing"
    if hasattr(value, "codes") and hasattr(value, "categories"):
        return f"{name}.codes, with ignore_index=-1 where values are missing"
    if hasattr(value, "to_physical") and str(value.dtype).startswith(("Categorical", "Enum")):
        return f"{name}.to_physical()"
    return ""


def as_integers(array: Array, value: Any) -> str:
    """What to pass in place of class indices that are floats, as a column with missing values is."""
    if not np.isnan(array.astype(np.float64)).any():
        return "target.astype(np.int64)"
    for method in ("fillna", "fill_null"):  # pandas and polars
        if hasattr(value, method):
            return f"target.{method}(ignore_index), as integers: missing values made it floating"
    return "np.where(np.isnan(target), ignore_index, target).astype(np.int64)"


def refuse_labels_of_scores(array: Array, logits: Array) -> None:
    """Labels beside as many scores: 1-d logits are one row, and their target is one class."""
    if logits.ndim == 1 and array.shape == logits.shape and array.dtype.kind in "biu":
        raise TypeError(
            f"target is {described(array)}, as many labels as logits; labels of scores go to binary_cross_entropy or another "
            "binary loss (1-d logits are one row, whose target is one class index, or a floating probability for each class)"
        )


def warn_of_one_class(logits: Array, axis: int) -> None:
    """Softmax says nothing of one class; what has one score a sample is a binary problem."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "celoss":
        frame, level = frame.f_back, level + 1  # to the line of the user
    warnings.warn(
        f"logits of shape {logits.shape} have one class along axis {axis}: its probability is 1, whatever the score; "
        "for labels between 0 and 1 use binary_cross_entropy or another binary loss",
        UserWarning,
        stacklevel=level,
    )
