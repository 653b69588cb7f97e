"""Memory: no byte outside an array is touched, and none is kept.

The arrays of a call lie against pages that fault (guard.py): logits, target, probabilities, weights and out, contiguous or
not, at each of their ends, for every class count up to 70 and around every size where the kernels change their way.
"""

import faulthandler
import functools
import gc
import itertools
import os
import subprocess
import sys
import threading
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from guard import Guarded, in_child

import celoss
from celoss._checks import FUNCTIONS, Arrays, arrays, examples

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

DTYPES = {name: np.dtype(getattr(ml_dtypes if name == "bfloat16" else np, name))
          for name in ("float16", "bfloat16", "float32", "float64")}  # fmt: skip
TARGETS = [np.dtype(t) for t in (np.int64, np.int32, np.uint8)]

# Around the groups of vectors of a row, what fits in a stretch or a block, and the pieces of long rows: see the sizes in
# _kernels.pyx, for numbers of 4 and of 8 bytes.
EDGES = [n + d for n in (82, 97, 128, 256, 512, 1024, 2048, 4096) for d in (-1, 0, 1)]
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
    return Guarded(MOST_BYTES, (3 * values if role in ("x", "vector", "out", "hess_out") else abs(values) % 1).astype(dtype))


def calls(given):
    """Every function on these arrays, plainly and with all its options; and what is special about memory."""
    for name in FUNCTIONS:
        for example in examples(name, given):
            yield example.label, functools.partial(example.results, celoss)
    x, target, out = given.logits, given.indices, given.out
    yield "one ignored", lambda: celoss.cross_entropy_with_grad(x, target, out=out, ignore_index=0)
    for name in ("softmax", "log_softmax", "sigmoid"):
        yield f"{name}, in place", functools.partial(getattr(celoss, name), x, out=x)
    yield "cross_entropy_with_grad, in place", lambda: celoss.cross_entropy_with_grad(x, target, out=x)


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

        given = Arrays(
            logits=place("x", dtype),
            indices=place_line("target", rows, target_dtype),
            probabilities=place("q", q_dtype),
            labels=place("bits", np.dtype(np.uint8)),
            class_weight=place_line("weight", classes, DTYPES["float32" if number % 2 else "float64"]),
            sample_weight=place_line("sample weight", rows, DTYPES["float32" if number % 2 else "float64"]),
            vector=place("vector", q_dtype),
            out=place("out", dtype),
            hess_out=place("hess_out", dtype),
        )
        given.indices[...] = np.arange(rows) % classes
        if layout == "unaligned":
            given.logits[...] = 0.5  # no number has been there yet
            given.probabilities[...] = 0.5
            given.vector[...] = 0.5
        for turn, (what, call) in enumerate(calls(given)):
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
    assert in_child(functools.partial(run_cases, DTYPES[dtype], cases, every=5)) > 7000


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_guard_pages_everywhere(dtype, layout, level):
    few = itertools.product((1, 7, 15, 16, 17, 33, 257), range(1, 98), [layout], (True, False))
    more = itertools.product((1, 2, 15, 16, 17), EDGES, [layout], (True, False))
    most = itertools.product((1, 3), FAR_EDGES + LONG_ROWS, [layout], (True, False))
    cases = [case for case in itertools.chain(few, more, most) if case[0] * case[1] < 1 << 20]
    assert in_child(functools.partial(run_cases, DTYPES[dtype], cases)) > 20_000


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


# ---- arrays that change, and arrays larger than 2**31 ----------------------------------------------------------------------

FLIPPED = {
    "cross_entropy_with_grad": lambda x, target, out: celoss.cross_entropy_with_grad(x, target, out=out),
    "options": lambda x, target, out: celoss.cross_entropy_with_grad(
        x, target, out=out, weight=np.ones(x.shape[1]), sample_weight=2.0, label_smoothing=0.1, reduction="none", n_threads=3
    ),
    "brier_score_with_grad": lambda x, target, out: celoss.brier_score_with_grad(x, target, out=out, weight=np.ones(x.shape[1])),
    "zero_one_loss": lambda x, target, out: celoss.zero_one_loss(x, target),
}


@pytest.mark.parametrize("target_dtype", [np.int64, np.int32])
@pytest.mark.parametrize("shape", [(65_536, 3), (8192, 40), (1024, 1024), (4, 262_144)], ids=str)
@pytest.mark.parametrize("what", FLIPPED)
def test_targets_that_change_during_a_call(what, shape, target_dtype):
    """Another thread writes indices from far outside: the call returns or raises IndexError, and touches nothing else.

    The gradient fills whole pages, with pages that fault on both sides.
    """

    def work(note):
        note(f"{what} on {shape}")
        numbers, dtype = shape[0] * shape[1], np.dtype(np.float32)
        outside = Guarded(4 * numbers).inside
        assert outside.nbytes == 4 * numbers
        out = outside.view(np.float32).reshape(shape)
        x = np.resize(np.linspace(-3, 3, 1013, dtype=dtype), shape)
        target = np.zeros(shape[0], target_dtype)
        info = np.iinfo(target_dtype)
        done = threading.Event()

        def flip():
            while not done.is_set():
                for value in (info.max, info.min, -1, shape[1], info.max // 4):
                    target[...] = value
                    target[...] = 1

        flipper = threading.Thread(target=flip)
        flipper.start()
        refused = 0
        for _ in range(20):
            try:
                FLIPPED[what](x, target, out)
            except IndexError:
                refused += 1
        done.set()
        flipper.join()
        target[...] = 1
        FLIPPED[what](x, target, out)
        return refused

    assert 0 <= in_child(work) <= 20


def broadcast(shape, dtype=np.float32):
    return np.broadcast_to(np.zeros((), dtype), shape)


MANY = 2**31 + 5


@pytest.mark.slow
def test_more_than_two_to_the_31_scores():
    """64-bit counts and offsets, on arrays whose strides are 0."""
    n = MANY // 16 + 1
    x = broadcast((n, 17))
    labels = np.zeros(n, np.int32)
    labels[-1] = 16
    assert x.size > 2**31
    assert celoss.cross_entropy(x, labels) == pytest.approx(np.log(17), rel=1e-12)
    assert celoss.cross_entropy(x.T, labels, axis=0, reduction="sum") == pytest.approx(n * np.log(17), rel=1e-12)
    assert celoss.zero_one_loss(x, labels, reduction="sum") == 1
    labels[-1] = 17
    with pytest.raises(IndexError, match=rf"target\[{n - 1}\] = 17 "):
        celoss.cross_entropy(x, labels)
    del labels
    z = broadcast(MANY)
    assert celoss.binary_cross_entropy(z, z) == pytest.approx(np.log(2), rel=2**-24)  # each is rounded to float32
    assert celoss.binary_zero_one_loss(z, broadcast(MANY, np.uint8), reduction="sum") == 0
    assert celoss.binary_brier_score(z, z) == pytest.approx(0.25, rel=1e-12)


@pytest.mark.slow
def test_more_than_two_to_the_31_classes():
    """One row, of zeros that the system has not laid out yet but for one page, near the end."""
    try:
        row = np.zeros((1, MANY), np.float32)
    except MemoryError:
        pytest.skip("no address space for it")
    row[0, -2] = 30
    size = np.exp(30.0) + MANY - 1
    for target in (MANY - 2, 0):
        expected = np.log(size) - row[0, target]
        assert celoss.cross_entropy(row, [target]) == pytest.approx(expected, rel=1e-12)
        assert celoss.zero_one_loss(row, [target]) == float(target == 0)
    assert celoss.logsumexp(row) == pytest.approx(np.log(size), rel=1e-6)
    with pytest.raises(IndexError):
        celoss.cross_entropy(row, [MANY])
    flat = broadcast((1, MANY), np.float16)
    assert celoss.cross_entropy(flat, [MANY - 1]) == pytest.approx(np.log(MANY), rel=1e-12)


@pytest.mark.slow
def test_gradient_of_more_than_two_to_the_31_scores():
    """In place, so that 4 GiB are enough: the last rows' gradient is theirs."""
    x = np.zeros((2**16 + 1, 2**15), np.float16)
    x[-3:] = np.linspace(-2, 2, x.shape[1])
    target = np.full(len(x), x.shape[1] - 1)
    loss, expected = celoss.cross_entropy_with_grad(x[-3:], target[-3:], reduction="none")
    losses, _ = celoss.cross_entropy_with_grad(x, target, reduction="none", out=x)
    np.testing.assert_array_equal(losses[-3:], loss)
    np.testing.assert_array_equal(x[-3:], expected)


@pytest.mark.parametrize("classes", [4611686018427387903, 271275648142787141, 90425216047595714, 2**60, 2**52])
def test_rows_longer_than_any_memory(classes):
    """Where the sizes of scratch memory would overflow there is none to be had."""
    row = broadcast((1, classes), np.float16)

    def work(note):
        refused = 0
        for name in ("cross_entropy", "brier_score", "zero_one_loss", "logsumexp"):
            note(f"{name} of {classes} classes")
            with pytest.raises(MemoryError):
                getattr(celoss, name)(row, *[[0]] * (name != "logsumexp"))
            refused += 1
        return refused

    assert in_child(work) == 4


# ---- nothing is kept ---------------------------------------------------------------------------------------------------------


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def raises(error, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


def small_calls():
    """Every function and every way out of one, on small arrays; and the arrays."""
    x = np.random.default_rng(0).standard_normal((8, 5), np.float32)
    given = arrays(x)
    out, bad, half = np.empty_like(x), np.arange(8), arrays(x.astype(np.float16))
    target, q, weight, line = given.indices, given.probabilities, given.class_weight, given.sample_weight
    criterion, binary = celoss.CrossEntropyLoss(), celoss.BinaryCrossEntropyLoss()
    calls = [
        functools.partial(example.results, celoss)
        for name in FUNCTIONS
        for arguments in (half, given._replace(out=out, hess_out=np.empty_like(x)))
        for example in examples(name, arguments)
    ]
    calls += [
        lambda: criterion(x, target) and criterion.backward(2.0),
        lambda: binary(x, q) and binary.backward(),
        lambda: celoss.CrossEntropyLoss(label_smoothing=0.1)(half.logits, target),
        lambda: raises(IndexError, celoss.cross_entropy, x, bad),
        lambda: raises(IndexError, celoss.brier_score_with_grad, x, bad, reduction="none"),
        lambda: raises(TypeError, celoss.cross_entropy, x, line),
        lambda: raises(TypeError, celoss.cross_entropy_with_grad, x, target, out=[1]),
        lambda: raises(ValueError, celoss.cross_entropy, x, target[:3]),
        lambda: raises(ValueError, celoss.cross_entropy_with_grad, x, target, out=out[:, ::-1][1:]),
        lambda: raises(ValueError, celoss.binary_cross_entropy, x, q, weight=weight * np.nan),
        lambda: raises(ValueError, celoss.binary_cross_entropy, x, q + 1),
        lambda: raises(ValueError, celoss.softmax, x, axis=7),
    ]
    kept = [a for a in (*given, *half, out, bad) if a is not None]
    return calls, [*kept, x.dtype, half.logits.dtype, target.dtype, weight.dtype]


def test_nothing_is_kept_over_100_000_calls():
    """Neither memory, nor references to what was passed, nor threads."""

    def work(note):
        calls, given = small_calls()
        for call in calls * 200:
            call()
        gc.collect()
        # Of what Python allocates, line by line; then of all there is.
        tracemalloc.start()
        for call in calls * 5:
            call()
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0]
        for call in calls * 1000:
            call()
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0] - traced
        tracemalloc.stop()
        # One object of 16 bytes a round would be 16 000; the interpreter's own lists of free objects hold some 6000.
        assert traced < 15_000, f"{traced} bytes kept by 1000 rounds of {len(calls)} calls"
        references, threads, before = [sys.getrefcount(a) for a in given], len(os.listdir("/proc/self/task")), resident()
        for call in calls * (100_000 // len(calls) + 1):
            call()
        grown = resident() - before
        assert [sys.getrefcount(a) for a in given] == references
        assert len(os.listdir("/proc/self/task")) == threads
        # The allocator may still spread; scratch that is never freed would be many times as much.
        assert grown < 2_000_000, f"{grown} bytes more"
        return max(grown, 0)

    in_child(work)


# Results of every function, on rows as lanes, classes as lanes, and long rows in pieces; some rows ignored.
DIGEST = """
import hashlib, itertools
import numpy as np
import celoss
from celoss._checks import FUNCTIONS, arrays, examples

digest = hashlib.sha256()
rng = np.random.default_rng(0)
shapes = (37, 3), (19, 100), (5, 3000), (2, 70_001)
for dtype, (rows, classes) in itertools.product((np.float16, np.float32, np.float64), shapes):
    target = rng.integers(0, classes, rows)
    target[-1] = -100
    given = arrays(rng.normal(scale=3, size=(rows, classes)).astype(dtype), target)
    for name in FUNCTIONS:
        for example in examples(name, given, singly=classes < 70_000):
            for part in example.results(celoss):
                digest.update(np.ascontiguousarray(part))
print(digest.hexdigest())
"""


def test_scratch_may_hold_anything(level):
    """What the C library puts into memory that it hands out (MALLOC_PERTURB_) shows in no result."""

    def digest(perturbation):
        environment = {**os.environ, "CELOSS_LEVEL": level, "MALLOC_PERTURB_": str(perturbation)}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        return done.stdout

    assert digest(0) == digest(165) == digest(90)


def test_threads_give_back_their_scratch():
    """What a thread worked in goes with it: 200 threads, each of which needs 5 MB."""
    x = np.zeros((2, 600_000), np.float16)

    def work(note):
        def call():
            celoss.log_softmax(x[:, :], out=np.empty_like(x))

        def in_threads(count):
            for _ in range(count):
                thread = threading.Thread(target=call)
                thread.start()
                thread.join()

        in_threads(20)
        before = resident()
        in_threads(200)
        grown = resident() - before
        assert grown < 20_000_000, f"{grown} bytes more"
        return max(grown, 0)

    in_child(work)
