"""Every function returns the very bits whose hashes stand in data/bits.json: a promise, and a fence.

The promise (docs/accuracy.md): the levels that have the fused multiply-add return the same bits as one another, whatever the
machine; so there is one set of hashes for all of them, and one for `baseline`. The fence is for changes that are to alter no
result: what differs is no error by itself, for the other tests tell whether a result is right, this one whether it is another.
Record anew where a change of the results is wanted, and say so in the commit.

    python tests/test_bits.py          # which cases differ, on the levels that this machine runs
    python tests/test_bits.py --write  # record their hashes anew; a set that no level here belongs to stays

It refuses to record what levels of one set do not agree on.

Nothing but celoss computes what is hashed: inputs are made by integers and by operations that every machine rounds alike,
and the kernels are built without contraction (CMakeLists.txt) and without an instruction that estimates, so that neither NumPy
nor the compiler nor the CPU can move a bit.
"""

import argparse
import functools
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import celoss
from celoss import _checks, _kernels

FILE = Path(__file__).with_name("data") / "bits.json"
DIGITS = 12  # of a hash: 48 bits, so that the file can be read through
DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
OTHER_NAMES = {"RowStatistics", "__version__", "get_num_threads", "reference", "set_num_threads", "show_config"}
OTHER_NAMES |= {name for name in celoss.__all__ if name.lower().startswith("linear")}  # whose products are those of some BLAS
FUNCTIONS = [name for name in celoss.__all__ if name not in OTHER_NAMES]

# ---- shapes: the limits are those of _kernels.pyx, in float32's classes and float64's ------------------------------------------

# Rows as lanes, and classes as lanes, each below and above its limit; whole vectors and what is left over.
CLASSES = [*range(1, 5), *range(7, 11), 16, 17, 33, 64, *range(80, 84), 96, 97, 100, *range(127, 130), 255, 513, 1000, 2049, 5003]
SMALL = [*((rows, classes) for classes in CLASSES for rows in (1, 19)), (0, 3), (257, 5)]
# Several stretches, blocks and chunks; then as many numbers as two threads share.
LARGE = [(5000, 10), (700, 100), *((300, classes) for classes in (81, 82, 96, 97, 127, 128)), (65, 1000), (9000, 1)]
SHARED = [(33_000, 10), (3300, 100), (330, 1000)]
OPTIONS = [(70, 3), (270, 10), (40, 81), (40, 82), (150, 100), (20, 1000)]  # for every option
# In pieces of 32768 classes: with a rest, without one, one row, and enough for two threads.
LONG = [(3, 70_000), (2, 65_536), (1, 300_000), (5, 70_001)]
# Long and still whole, a row a block: one row more than are few. As many rows, and just beyond LONG_ROW_BYTES.
WHOLE = (16, 65_536)
BEYOND = {"float16": (16, 262_145), "bfloat16": (16, 262_145), "float32": (16, 262_145), "float64": (16, 131_073)}
SCORES = [(), (0,), (1,), (7,), (16,), (33,), (1023,), (1025,), (4097,), (33_000,), (330_000,), (37, 41), (3, 5, 7)]


# ---- inputs ------------------------------------------------------------------------------------------------------------------


def mixed(n, seed):
    """n numbers of 64 bits: splitmix64, from the seed on."""
    z = np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64((seed + 1) * 0xD1342543DE82EF95 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bell(n, seed):
    """n numbers in (-2, 2) that are distributed like a bell, multiples of 2^-16: sums of four uniform integers."""
    z = mixed(n, seed)
    fields = [(z >> np.uint64(shift) & np.uint64(0xFFFF)).astype(np.int64) for shift in (0, 16, 32, 48)]
    return (fields[0] + fields[1] + fields[2] + fields[3] - 131_070) / 65_536


def stored(a, dtype):
    """float64 numbers in the dtype; by way of float32 where NumPy leaves the rounding to another package."""
    return a.astype(np.float32).astype(dtype) if dtype == ml_dtypes.bfloat16 else a.astype(dtype)


@functools.cache
def problem(shape, dtype):
    """Logits and class indices. Each row has its kind, and with it its difficulty."""
    rows, classes = shape
    x = 5 * bell(rows * classes, classes).reshape(shape)
    target = (mixed(rows, classes + 1) % np.uint64(classes)).astype(np.int64)
    kind = (np.arange(rows) + classes) % 10
    x[kind == 1] *= 10
    for number, offset in ((2, 300), (3, 2000), (4, -3000)):  # beyond where rows are shifted, in float32 and in float64
        x[kind == number] += offset
    x[kind == 5] = np.floor(x[kind == 5])  # ties
    x[kind == 6] = 1.25
    for number, margin in ((7, 30), (8, -30), (9, 110)):  # sure and right, sure and wrong, and with a loss near 0
        where = np.flatnonzero(kind == number)
        x[where, target[where]] += margin
    return frozen(stored(x, dtype)), frozen(target)


@functools.cache
def special_problem(shape, dtype):
    """The same with infinities, NaN, the largest and the smallest numbers in most rows."""
    x, target = (a.copy() for a in problem(shape, dtype))
    largest, smallest = (float(getattr(ml_dtypes.finfo(dtype), name)) for name in ("max", "smallest_subnormal"))
    for n, row in enumerate(x):
        t, other = target[n], (target[n] + 1) % shape[1]
        each = [
            {t: -np.inf},
            {other: -np.inf},
            {...: -np.inf},
            {...: -np.inf, t: 2},
            {...: -np.inf, other: 2},
            {t: np.nan},
            {other: np.nan},
            {...: np.nan},
            {t: np.inf},
            {other: np.inf},
            {t: np.inf, other: np.inf},
            {t: np.inf, other: np.nan},
            {t: largest},
            {other: largest, t: -largest},
            {...: largest},
            {...: -largest},
            {...: smallest, other: -smallest},
            {...: -0.0, other: 0.0},
            {},
        ][n % 19]
        for where, value in each.items():
            row[where] = value
    return frozen(x), target


@functools.cache
def scores(shape, dtype, special=False):
    """Scores and labels in [0, 1] for what has no rows."""
    n = int(np.prod(shape))
    x, y = bell(n, 7), (mixed(n, 8) % np.uint64(257)).astype(np.float64) / 256
    x *= np.array([5, 5, 40, 200, 1 / 1024])[np.arange(n) % 5]
    y[np.arange(n) % 3 == 0] = y[np.arange(n) % 3 == 0].round()
    x = stored(x, dtype)
    if special:
        info = ml_dtypes.finfo(dtype)
        odd = [np.inf, -np.inf, np.nan, 0, -0.0, float(info.max), -float(info.max), float(info.smallest_subnormal)]
        for at, value in enumerate(odd):
            x[at :: 2 * len(odd)] = value
    return frozen(x.reshape(shape)), frozen(stored(y, dtype).reshape(shape))


def shares(shape, dtype):
    """Probabilities, in sums about 1; every fourth row has one class, and every fourth none at all."""
    rows, classes = shape
    q = (mixed(rows * classes, 3) % np.uint64(257)).astype(np.float64).reshape(shape)
    q /= 128 * 2.0 ** max(classes - 1, 0).bit_length()
    q[1::4] = 0
    q[1::4, classes // 2] = 1
    q[3::8] = 0
    return stored(q, dtype)


def weights(shape, seed=4):
    """In [0, 4), and some of them 0."""
    w = (mixed(int(np.prod(shape)), seed) % np.uint64(256)).astype(np.float64) / 64
    w[::11] = 0
    return w.reshape(shape)


def frozen(a):
    a.flags.writeable = False  # what is kept for the next level
    return a


# ---- layouts -----------------------------------------------------------------------------------------------------------------


def reversed_copy(a):
    flip = (slice(None, None, -1),) * a.ndim
    return a[flip].copy()[flip]


def every_third(a):
    wide = np.zeros((*a.shape[:-1], 3 * a.shape[-1]), a.dtype)
    wide[..., ::3] = a
    return wide[..., ::3]


def apart(a):
    """Rows with a gap between them."""
    wide = np.zeros((*a.shape[:-1], a.shape[-1] + 3), a.dtype)
    wide[..., :-3] = a
    return wide[..., :-3]


def unaligned(a):
    memory = np.empty(a.nbytes + 1, np.uint8)
    copy = memory[1:].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


def fortran(a):
    return a.copy(order="F")


def swapped(a):
    return a.astype(a.dtype.newbyteorder())


LAYOUTS = [fortran, reversed_copy, every_third, apart, unaligned]


def layouts_of(dtype):
    return LAYOUTS if dtype == ml_dtypes.bfloat16 else [*LAYOUTS, swapped]  # which has one order of bytes


# ---- calls -------------------------------------------------------------------------------------------------------------------


def fresh(x):
    return x, np.full_like(x, 7, x.dtype.newbyteorder("=") if x.dtype.kind == "f" else x.dtype)


def in_place(x):
    x = x.copy(order="K")
    return x, x


class Call(NamedTuple):
    group: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    place: Callable[[Any], tuple[Any, Any]] | None = None  # logits -> logits, out


def calls_of_losses(dtype):
    """Of the losses of several classes."""
    for shape in (*SMALL, *LARGE):
        x, target = problem(shape, dtype)
        q, w = shares(shape, dtype), weights(shape[1])
        yield Call("plain", (x, target))
        yield Call("smoothing", (x, target), {"label_smoothing": 0.1})
        yield Call("weight", (x, target), {"weight": w, "reduction": "none"})
        yield Call("weight", (x, target), {"weight": w, "label_smoothing": 0.25})
        yield Call("probabilities", (x, q))
    for shape in SHARED:
        x, target = problem(shape, dtype)
        yield Call("plain", (x, target))
        yield Call("weight", (x, target), {"weight": weights(shape[1]), "label_smoothing": 0.25})
    for shape in OPTIONS:
        yield from calls_with_options(shape, dtype)
        yield from calls_with_indices(shape, dtype)
        x, target = problem(shape, dtype)
        for place in (fresh, in_place, lambda x: in_place(fortran(x)), lambda x: (x, fortran(fresh(x)[1]))):
            yield Call("out", (x, target), {}, place)
            yield Call("out", (x, target), {"label_smoothing": 0.1, "reduction": "none"}, place)
            yield Call("out", (x, shares(shape, dtype)), {}, place)
        for layout in layouts_of(dtype):
            for options in ({}, {"label_smoothing": 0.1, "reduction": "none"}):
                yield Call("layouts", (layout(x), layout(target)), options)
            yield Call("layouts", (layout(x), layout(shares(shape, dtype))))
    for x, target, axis in solids(dtype):
        for options in ({}, {"label_smoothing": 0.1, "reduction": "none"}):
            yield Call("layouts", (x, target), {"axis": axis, **options})
    for shape in ((95, 1), (57, 2), (95, 10), (76, 81), (76, 82), (95, 100), (38, 1000)):
        x, target = special_problem(shape, dtype)
        w = weights(shape[1])
        yield Call("special", (x, target))
        yield Call("focal", (x, target), {"focal_gamma": 2.0, "reduction": "none"})
        for options in ({}, {"label_smoothing": 0.1}, {"weight": w}, {"weight": w, "label_smoothing": 0.1}):
            yield Call("special", (x, target), {"reduction": "none", **options})
        yield Call("special", (x, shares(shape, dtype)), {"reduction": "none"})
        yield Call("special", (x, shares(shape, dtype)), {"reduction": "none", "weight": w, "label_smoothing": 0.1})
    yield from calls_of_long_rows(dtype)


def calls_with_options(shape, dtype):
    x, target = problem(shape, dtype)
    q, w, s = shares(shape, dtype), weights(shape[1]), weights(shape[0], 5)
    for options in ({"reduction": "sum"}, {"reduction": "none"}):
        yield Call("plain", (x, target), options)
        yield Call("weight", (x, target), {"weight": w, **options})
        yield Call("smoothing", (x, target), {"label_smoothing": 0.1, **options})
        yield Call("probabilities", (x, q), {"weight": w, **options})
        yield Call("probabilities", (x, q), {"label_smoothing": 0.1, **options})
        yield Call("probabilities", (x, q), {"weight": w, "label_smoothing": 0.1, **options})
        yield Call("rows", (x, target), {"sample_weight": s, **options})
    yield Call("weight", (x, target), {"weight": w})
    yield Call("weight", (x, target), {"weight": w.astype(np.float32)})
    yield Call("smoothing", (x, target), {"label_smoothing": 1.0})
    yield Call("smoothing", (x, target), {"label_smoothing": 0.1, "normalizer": 7.5})
    for other in DTYPES.values():
        yield Call("probabilities", (x, stored(shares(shape, DTYPES["float64"]), other)))
    yield Call("focal", (x, target), {"focal_gamma": 0.5})
    yield Call("focal", (x, target), {"focal_gamma": 2.0, "weight": w, "sample_weight": s, "reduction": "none"})
    yield Call("rows", (x, target), {"sample_weight": s})
    yield Call("rows", (x, target), {"sample_weight": 0.75, "weight": w, "label_smoothing": 0.1})
    yield Call("rows", (x, q), {"sample_weight": s, "label_smoothing": 0.1})
    yield Call("rows", (x, target), {"normalizer": 7.5})
    yield Call("rows", (x, target), {"normalizer": 7.5, "grad_output": 0.3})
    yield Call("rows", (x, target), {"grad_output": -3.0, "weight": w, "label_smoothing": 0.1})
    yield Call("rows", (x, target), {"grad_output": s - 1, "reduction": "none"})
    yield Call("rows", (x, q), {"grad_output": s - 1, "reduction": "none", "sample_weight": s, "weight": w})


def calls_with_indices(shape, dtype):
    """Integers of every kind, and rows that are ignored: some, a whole stretch of them, all."""
    x, target = problem(shape, dtype)
    for kind in (np.int32, np.uint64, np.int16, *([np.uint8] if shape[1] <= 256 else [])):
        yield Call("ignored", (x, target.astype(kind)), {"ignore_index": 1})
    some = np.where(np.arange(shape[0]) % 3 == 1, -100, target)
    stretch = np.where(np.arange(shape[0]) < shape[0] - 5, -100, target)
    for ignoring, mark in ((some, -100), (some.astype(np.int32), -100), (stretch, -100), (target, 0), (target * 0, 0)):
        for reduction in ("mean", "sum", "none"):
            yield Call("ignored", (x, ignoring), {"ignore_index": mark, "reduction": reduction})
        yield Call("ignored", (x, ignoring), {"ignore_index": mark, "label_smoothing": 0.1})
        yield Call("ignored", (x, ignoring), {"ignore_index": mark, "label_smoothing": 0.1, "weight": weights(shape[1])})
        yield Call("ignored", (x, ignoring), {"ignore_index": mark, "sample_weight": weights(shape[0], 5)})
        yield Call("ignored", (x, ignoring), {"ignore_index": mark}, in_place)


def calls_of_long_rows(dtype):
    for shape in LONG:
        x, target = problem(shape, dtype)
        w = weights(shape[1])
        yield Call("long", (x, target))
        yield Call("long", (x, target), {"reduction": "none", "label_smoothing": 0.1, "weight": w})
        yield Call("long", (x, shares(shape, dtype)), {"label_smoothing": 0.1})
    x, target = problem(LONG[0], dtype)
    yield Call("long", (x, target), {"reduction": "none", "label_smoothing": 0.1, "sample_weight": [0.5, 0, 3]})
    yield Call("long", (x, target), {"weight": weights(x.shape[1]), "grad_output": 0.3})
    yield Call("long", (x, shares(x.shape, dtype)), {"weight": weights(x.shape[1])})
    yield Call("long", (x, [target[0], -100, target[2]]), {}, in_place)
    yield Call("long", (x, [-100] * 3))
    yield Call("focal", (x, target), {"focal_gamma": 2.0, "weight": weights(x.shape[1])})
    yield Call("long", (fortran(x), target), {}, lambda x: (x, every_third(fresh(x)[1])))
    yield Call("long", special_problem((15, 65_536), dtype), {"reduction": "none"})
    yield Call("long", problem(WHOLE, dtype))
    x, target = beyond(dtype)
    yield Call("long", (x, target))


def beyond(dtype):
    """16 rows that are long enough by themselves; one in memory, since nothing but its length counts."""
    shape = BEYOND[dtype.name]
    x, _ = problem((1, shape[1]), dtype)
    return np.broadcast_to(x, shape), np.arange(16) * (shape[1] - 1) // 15


def solids(dtype):
    """Three dimensions, their class indices, and where their classes are."""
    for classes, rest in ((10, (6, 7)), (100, (6, 7)), (3, (40, 33))):
        x, target = problem((rest[0] * rest[1], classes), dtype)
        x, target = x.reshape(*rest, classes), target.reshape(rest)
        for axis in (0, 1):
            yield np.ascontiguousarray(np.moveaxis(x, -1, axis)), target, axis
        yield np.moveaxis(x, -1, 1), target, 1  # class after class in memory all the same


def calls_of_row_activations(dtype):
    for shape in (*SMALL, *LARGE, *SHARED):
        yield Call("plain", problem(shape, dtype)[:1])
    for shape in OPTIONS:
        x, _ = problem(shape, dtype)
        for place in (fresh, in_place, lambda x: in_place(fortran(x)), lambda x: (x, fortran(fresh(x)[1]))):
            yield Call("out", (x,), {}, place)
        for layout in layouts_of(dtype):
            yield Call("layouts", (layout(x),))
            yield Call("layouts", (layout(x.T),), {"axis": 0, "keepdims": True})
    for x, _, axis in solids(dtype):
        yield Call("layouts", (x,), {"axis": axis})
    for shape in ((95, 1), (57, 2), (95, 10), (76, 81), (76, 82), (95, 100), (38, 127), (38, 128), (38, 1000)):
        yield Call("special", special_problem(shape, dtype)[:1])
    for shape in (*LONG, WHOLE):
        yield Call("long", problem(shape, dtype)[:1])
    yield Call("long", beyond(dtype)[:1])
    yield Call("long", special_problem((15, 65_536), dtype)[:1])
    x, _ = problem(LONG[0], dtype)
    yield Call("long", (fortran(x),))
    yield Call("long", (x,), {}, in_place)


def calls_back(dtype):
    """Of what goes back through an activation: its arrays in place of the result, and backwards as the upstream gradient."""
    for call in calls_of_row_activations(dtype):
        (x,) = call.arguments
        yield call._replace(arguments=(x, x[..., ::-1]))


def calls_of_scores(dtype, labelled):
    """Of what takes one score at a time: the binary losses, which have labels, and the activations."""
    for shape in SCORES:
        x, y = scores(shape, dtype)
        yield Call("plain", (x, y)[: 1 + labelled])
    x, y = scores((330, 1000), dtype)
    for layout in (np.transpose, *layouts_of(dtype)):
        for part in (np.s_[:300, :10], np.s_[:3, :700]):
            arguments = (layout(x[part]), layout(y[part]))[: 1 + labelled]
            yield Call("layouts", arguments)
            yield Call("layouts", arguments, {}, fresh)
    solid = x[:6, :35].reshape(6, 5, 7).transpose(1, 0, 2)
    yield Call("layouts", (solid, y[:6, :35].reshape(5, 6, 7))[: 1 + labelled])
    for place in (fresh, in_place):
        yield Call("plain", (x[:3], y[:3])[: 1 + labelled], {}, place)
    special, y = scores((997,), dtype, True)
    yield Call("special", (special, y)[: 1 + labelled])
    if labelled:
        yield Call("special", (special, y), {"reduction": "none"})
        yield Call("special", (special, np.round(y.astype(np.float64))), {"reduction": "none"})
        yield from calls_with_labels(dtype)


def calls_with_labels(dtype):
    x, y = scores((330, 1000), dtype)
    yield Call("options", (x, y), {"weight": weights(x.shape), "pos_weight": 0.3})
    for shape in ((2500,), (37, 41), (33, 1000)):
        x, y = scores(shape, dtype)
        for kind in (bool, np.int8, np.uint8, np.int32, np.int64, np.uint16):
            yield Call("labels", (x, np.round(y.astype(np.float64)).astype(kind)))
        for other in DTYPES.values():
            yield Call("labels", (x, stored(y.astype(np.float64), other)), {"reduction": "none"})
        w, positive = weights(shape), weights(shape[-1:], 5)
        for reduction in ("mean", "sum", "none"):
            yield Call("options", (x, y), {"reduction": reduction, "weight": w})
            yield Call("focal", (x, y), {"reduction": reduction, "weight": w, "pos_weight": positive, "focal_gamma": 2.0})
            yield Call("options", (x, y), {"reduction": reduction, "pos_weight": positive})
            yield Call("options", (x, y), {"reduction": reduction, "label_smoothing": 0.1})
            yield Call("options", (x, y), {"reduction": reduction, "label_smoothing": 0.1, "weight": 3, "pos_weight": 0.3})
        yield Call("options", (x, y), {"weight": stored(positive, dtype), "normalizer": 7.5})
        yield Call("options", (x, y), {"weight": w * 0})
        yield Call("options", (x, y), {"grad_output": 0.3})
        yield Call("options", (x, y), {"grad_output": w - 1, "reduction": "none", "weight": positive})


def calls_of_criteria(function, dtype):
    """The objects: what a function's calls are but for the gradient's buffer and factor."""
    for shape in OPTIONS:
        if function == "CrossEntropyLoss":
            x, target = problem(shape, dtype)
            options = {"weight": weights(shape[1]), "sample_weight": weights(shape[0], 5), "label_smoothing": 0.1}
        else:
            x, target = scores(shape, dtype)
            options = {"weight": weights(shape), "pos_weight": weights(shape[1]), "label_smoothing": 0.1}
        for chosen in ({}, options, {"reduction": "none"}):
            yield Call("all", (x, target), chosen)


def calls_of(function, dtype):
    """All calls of a function: those whose options it has."""
    if function.endswith("Loss"):
        return calls_of_criteria(function, dtype)
    parameters = inspect.signature(getattr(celoss, function)).parameters
    if function.startswith("binary_") or function.endswith("sigmoid"):
        calls = calls_of_scores(dtype, "target" in parameters)
    elif function.endswith("_vjp"):
        calls = calls_back(dtype)
    else:
        calls = calls_of_losses(dtype) if "target" in parameters else calls_of_row_activations(dtype)
    return (call for call in calls if is_possible(function, call, parameters))


def is_possible(function, call, parameters):
    if function.startswith("brier") and "weight" in call.options and np.asarray(call.arguments[1]).dtype.kind not in "iu":
        return False  # probabilities have no one class whose weight counts
    return set(call.options) <= set(parameters) and (call.place is None or "out" in parameters)


# ---- hashes ------------------------------------------------------------------------------------------------------------------


def results(function, call, n_threads):
    """What a call returns. With one thread by the setting, the way without detours; with two by the argument as well."""
    options = dict(call.options)
    celoss.set_num_threads(n_threads)
    if function.endswith("Loss"):
        criterion = getattr(celoss, function)(**options, n_threads=n_threads)
        loss = criterion(*call.arguments)
        return loss, criterion.backward(), criterion.backward(0.3)
    logits, *others = call.arguments
    if function.endswith("_hessp"):
        others.append(np.flip(logits, -1) if np.ndim(logits) else logits)
    if n_threads > 1 and "n_threads" in inspect.signature(getattr(celoss, function)).parameters:
        options["n_threads"] = n_threads
    if call.place is not None:
        logits, options["out"] = call.place(logits)
    result = getattr(celoss, function)(logits, *others, **options)
    return result if isinstance(result, tuple) else (result,)


def add(digest, result):
    """Shape, dtype and bytes. Every NaN counts as the same: their signs and payloads are promised to nobody."""
    a = np.ascontiguousarray(result)
    digest.update(f"{a.dtype.name} {np.shape(result)} ".encode())
    nan = np.isnan(a)
    if nan.any():
        bits = a.view(f"u{a.itemsize}").copy()
        bits[nan] = np.iinfo(bits.dtype).max
        a = bits
    digest.update(a.view(np.uint8))


def group_of(function, call):
    """The case that a call belongs to. A loss without a gradient has few: the other losses' tell more."""
    alone = function.endswith(("_loss", "_score", "_entropy")) and call.group not in (
        "plain",
        "layouts",
        "special",
        "long",
        "focal",
    )
    return "options" if alone else call.group


def hashes(function):
    """case -> dtype -> hash."""
    table = {}
    for name, dtype in DTYPES.items():
        for case, value in hashes_of(function, dtype).items():
            table.setdefault(case, {})[name] = value
    return table


def hashes_of(function, dtype):
    digests = {}
    for call in calls_of(function, dtype):
        pair = digests.setdefault(group_of(function, call), (hashlib.sha256(), hashlib.sha256()))
        for n_threads, digest in enumerate(pair, start=1):
            for result in results(function, call, n_threads):
                add(digest, result)
    return {group: same_hash(*pair) for group, pair in digests.items()}


def same_hash(one, two):
    """Of one and of two threads."""
    return one.hexdigest()[:DIGITS] if one.digest() == two.digest() else "depends on the number of threads"


def differences(expected, got, whose):
    """Names of the cases that are not as expected, with both hashes and whose the expected one is."""
    pairs = dict.fromkeys((case, dtype) for table in (expected, got) for case, row in table.items() for dtype in row)
    lines = []
    for case, dtype in pairs:
        before, now = (table.get(case, {}).get(dtype, "no such case") for table in (expected, got))
        if before != now:
            lines.append(f"{case}, {dtype}: {now}, {whose} {before}")
    return lines


# ---- the file: set -> function -> case -> dtype -> hash ------------------------------------------------------------------------


def set_of(level):
    """The hashes that a level has to return: all that round a * b + c once return the same."""
    return "baseline" if level == "baseline" else "fma"


def recorded():
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def write(sets):
    """A line for each case."""
    text = json.dumps(sets, indent=1)
    text = re.sub(r"\{([^{}]*)\}", lambda row: "{" + " ".join(row[1].split()) + "}", text)
    FILE.write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bits(function, level, keep_num_threads):
    lines = differences(recorded()[set_of(level)][function], hashes(function), "recorded")
    if lines:
        pytest.fail(f"{function} on level {level} returns other bits than recorded:\n" + "\n".join(lines), pytrace=False)


def test_nothing_else_is_recorded():
    sets = recorded()
    assert {set_of(level) for level, _ in _kernels.levels()} <= set(sets) == {"fma", "baseline"}
    for functions in sets.values():
        assert list(functions) == FUNCTIONS
        values = [value for cases in functions.values() for row in cases.values() for value in row.values()]
        assert all(re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", value) for value in values)


# ---- the levels that have the fused multiply-add, with one another: on calls that are not the recorded ones --------------------

FMA_LEVELS = [name for name, runs in _kernels.levels() if runs and set_of(name) == "fma"]


def some_logits(rng, dtype):
    """Of any number of classes up to 300 and any spread, at times far from 0; some have infinities, NaN or zeros, some ties."""
    shape = rng.integers(1, 40), rng.integers(1, 301)
    x = rng.choice([0.1, 3.0, 30.0]) * rng.standard_normal(shape)
    x += rng.choice([0.0, 0.0, 500.0, -5e3]) * rng.standard_normal((shape[0], 1))
    if rng.random() < 0.3:
        x = np.rint(x)
    if rng.random() < 0.3:
        x[rng.random(shape) < 0.1] = rng.choice([np.inf, -np.inf, np.nan, 0.0, -0.0])
    return stored(x, dtype)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("function", _checks.FUNCTIONS)
def test_levels_with_fma_return_the_same_bits(function, dtype, keep_num_threads):
    if len(FMA_LEVELS) < 2:
        pytest.skip(f"this machine runs {len(FMA_LEVELS)} of the levels that have the fused multiply-add: nothing to compare")
    rng = np.random.default_rng(0)
    before = _kernels.level()
    try:
        for _ in range(100):
            x = some_logits(rng, dtype)
            for example in _checks.examples(function, _checks.arrays(x), singly=True):
                digests = {}
                for level in FMA_LEVELS:
                    _kernels.use_level(level)
                    digests[level] = hashlib.sha256()
                    for result in example.results(celoss):
                        add(digests[level], result)
                assert len({digest.digest() for digest in digests.values()}) == 1, (example.label, x.shape, [*digests])
    finally:
        _kernels.use_level(before)


# ---- as a command --------------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=f"Compare the results of the levels that run here with {FILE.name}.")
    parser.add_argument("--write", action="store_true", help="record them instead")
    anew = parser.parse_args().write
    sets, first, disagreeing = recorded(), {}, []
    for level in [name for name, runs in _kernels.levels() if runs]:
        _kernels.use_level(level)
        got = {function: hashes(function) for function in FUNCTIONS}
        other, theirs = first.setdefault(set_of(level), (level, got))
        for function in FUNCTIONS:
            for line in differences(sets.get(set_of(level), {}).get(function, {}), got[function], "recorded"):
                print(f"{level}, {function}, {line}")
            for line in differences(theirs[function], got[function], f"on {other}"):
                disagreeing.append(f"{level}, {function}, {line}")
    if anew and disagreeing:
        sys.exit("\n".join(["not recorded, since levels of one set disagree:", *disagreeing]))
    if anew:
        write(sets | {name: got for name, (_, got) in first.items()})


if __name__ == "__main__":
    main()
