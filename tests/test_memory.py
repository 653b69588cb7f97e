"""Memory: no byte outside an array is touched, and none is kept.

The arrays of a call lie against pages that fault (guard.py): logits, target, probabilities, weights and out, contiguous or
not, at each of their ends, for every class count up to 70 and around every size where the kernels change their way.
"""

import faulthandler
import functools
import itertools
import os

import ml_dtypes
import numpy as np
import pytest
from guard import Guarded, in_child

import celoss

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

DTYPES = {name: np.dtype(getattr(ml_dtypes if name == "bfloat16" else np, name))
          for name in ("float16", "bfloat16", "float32", "float64")}  # fmt: skip
TARGETS = [np.dtype(t) for t in (np.int64, np.int32, np.uint8)]

# Around the groups of vectors of a row, what fits in a stretch or a block, and the pieces of long rows: see the sizes in
# _kernels.pyx, for numbers of 4 and of 8 bytes.
EDGES = [n + d for n in (96, 128, 256, 512, 1024, 2048, 4096) for d in (-1, 0, 1)]
FAR_EDGES = [n + d for n in (16384, 32768, 65536) for d in (-1, 0, 1)]
LONG_ROWS = [n + d for n in (131_072, 262_144) for d in (-1, 0, 1)]  # LONG_ROW_BYTES
MOST_BYTES = 3 * 2 * LONG_ROWS[-1] * 8

# How an array of rows x classes lies in memory: strides in numbers, for `rows` and `classes`; and bytes beside them.
LAYOUTS = {
    "contiguous": lambda rows, classes: (classes, 1),
    "axis 0": lambda rows, classes: (1, rows),
    "rows apart": lambda rows, classes: (classes + 3, 1),
    "classes apart": lambda rows, classes: (2 * classes, 2),
    "reversed": lambda rows, classes: (-classes, -1),
    "axis 0, rows reversed": lambda rows, classes: (-1, rows),
    "unaligned": lambda rows, classes: (classes, 1),
}


@functools.cache
def memory(role, dtype, unaligned=False):
    """A guarded place for each role in a call, filled with numbers like logits; probabilities and weights are in [0, 1].

    Unaligned arrays have their own: they leave halves of numbers behind.
    """
    values = np.random.default_rng(0).standard_normal(4096)
    return Guarded(MOST_BYTES, (3 * values if role in ("x", "out") else abs(values) % 1).astype(dtype))


def calls(x, out, target, q, weight, bits, like):
    """Every function on these arrays, with the options that read or write more of them."""
    options = {"weight": weight, "sample_weight": 2.0, "label_smoothing": 0.1, "reduction": "none"}
    yield "cross_entropy", lambda: celoss.cross_entropy(x, target)
    yield "cross_entropy_with_grad", lambda: celoss.cross_entropy_with_grad(x, target, out=out)
    yield "cross_entropy_with_grad, options", lambda: celoss.cross_entropy_with_grad(x, target, out=out, **options)
    yield "cross_entropy, options", lambda: celoss.cross_entropy(x, target, **options)
    yield "cross_entropy, probabilities", lambda: celoss.cross_entropy(x, q)
    yield "cross_entropy_with_grad, probabilities", lambda: celoss.cross_entropy_with_grad(x, q, out=out, weight=weight)
    yield "cross_entropy, one ignored", lambda: celoss.cross_entropy_with_grad(x, target, out=out, ignore_index=0)
    yield "softmax", lambda: celoss.softmax(x, out=out)
    yield "log_softmax", lambda: celoss.log_softmax(x, out=out)
    yield "logsumexp", lambda: celoss.logsumexp(x)
    yield "sigmoid", lambda: celoss.sigmoid(x, out=out)
    yield "log_sigmoid", lambda: celoss.log_sigmoid(x, out=out)
    yield "binary_cross_entropy", lambda: celoss.binary_cross_entropy_with_grad(x, q, out=out)
    yield (
        "binary_cross_entropy, options",
        lambda: celoss.binary_cross_entropy_with_grad(
            x, bits, out=out, weight=q, pos_weight=weight, reduction="none", grad_output=like
        ),
    )
    yield "binary_brier_score", lambda: celoss.binary_brier_score_with_grad(x, q, out=out, weight=weight)
    yield "binary_zero_one_loss", lambda: celoss.binary_zero_one_loss(x, bits)
    yield "brier_score", lambda: celoss.brier_score_with_grad(x, target, out=out)
    yield "brier_score, smoothed", lambda: celoss.brier_score(x, target, label_smoothing=0.1)
    yield "brier_score, probabilities", lambda: celoss.brier_score_with_grad(x, q, out=out)
    yield "zero_one_loss", lambda: celoss.zero_one_loss(x, target)
    yield "zero_one_loss, probabilities", lambda: celoss.zero_one_loss(x, q)
    yield "cross_entropy_with_grad, in place", lambda: celoss.cross_entropy_with_grad(x, target, out=x)
    yield "softmax, in place", lambda: celoss.softmax(x, out=x)
    yield "log_softmax, in place", lambda: celoss.log_softmax(x, out=x)
    yield "sigmoid, in place", lambda: celoss.sigmoid(x, out=x)


def run_cases(dtype, cases, note, every=1):
    """All calls on every case (rows, classes, layout, at_end), or every so many of them in turn; how many there were."""
    done = 0
    dtypes = list(DTYPES.values())
    for number, (rows, classes, layout, at_end) in enumerate(cases):
        q_dtype = dtypes[number % 4] if number % 2 else dtype
        target_dtype = TARGETS[number % 3 if classes <= 256 else number % 2]

        def place(role, kind, layout=layout, rows=rows, classes=classes, at_end=at_end):
            odd = layout == "unaligned"
            strides = [s * kind.itemsize for s in LAYOUTS[layout](rows, classes)]
            return memory(role, kind, odd).place((rows, classes), kind, (strides[0] + odd, strides[1]), at_end)

        def place_line(role, n, kind, at_end=at_end):
            return memory(role, kind).place((n,), kind, (kind.itemsize,), at_end)

        x, out, q = place("x", dtype), place("out", dtype), place("q", q_dtype)
        bits = place("bits", np.dtype(np.uint8))
        target = place_line("target", rows, target_dtype)
        target[...] = np.arange(rows) % classes
        weight = place_line("weight", classes, DTYPES["float32" if number % 2 else "float64"])
        like = np.ones((rows, classes))
        if layout == "unaligned":
            x[...] = 0.5  # no number has been there yet
            q[...] = 0.5
        for turn, (what, call) in enumerate(calls(x, out, target, q, weight, bits, like)):
            if (turn + number) % every:
                continue
            note(f"{what}: {rows} x {classes} {dtype}, {layout}, probabilities {q_dtype}, target {target_dtype}, "
                 f"{'end' if at_end else 'begin'} at the page")  # fmt: skip
            call()
            done += 1
    return done


def nearby(layouts, ends):
    """What the ordinary run takes: each class count with all layouts, and one count of rows and one end for each in turn."""
    turn = 0
    for classes in (*range(1, 71), *EDGES, *FAR_EDGES):
        counts = (1, 3, 15, 16, 17, 33, 257) if classes <= 70 else (1, 2, 17) if classes < 5000 else (1, 2)
        for layout in layouts:
            turn += 1
            yield counts[turn % len(counts)], classes, layout, ends[turn // len(counts) % len(ends)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_guard_pages(dtype, level):
    cases = list(nearby(LAYOUTS, (True, False)))
    assert in_child(functools.partial(run_cases, DTYPES[dtype], cases, every=3)) > 5000


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_guard_pages_everywhere(dtype, layout, level):
    few = itertools.product((1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 256, 257), range(1, 98), [layout], (True, False))
    more = itertools.product((1, 2, 15, 16, 17), EDGES, [layout], (True, False))
    most = itertools.product((1, 3), FAR_EDGES + LONG_ROWS, [layout], (True, False))
    cases = [case for case in itertools.chain(few, more, most) if case[0] * case[1] < 1 << 20]
    assert in_child(functools.partial(run_cases, DTYPES[dtype], cases)) > 50_000


@pytest.mark.parametrize("at_end", [True, False], ids=["end", "begin"])
def test_a_touched_guard_page_is_seen(at_end):
    """The guard itself: an access one number outside ends the child, and the message says where."""
    dtype = np.dtype(np.float32)
    place = memory("x", dtype)
    a = place.place((10,), dtype, (4,), at_end)
    start = a.ctypes.data - place.inside.ctypes.data + place.first
    beside = np.ndarray(1, dtype, place.memory, start + 4 * (10 if at_end else -1))

    def work(note):
        faulthandler.disable()  # this fault is meant
        note("a look outside")
        return int(beside[0])

    with pytest.raises(AssertionError, match=r"SIG(SEGV|BUS) in: a look outside"):
        in_child(work)
