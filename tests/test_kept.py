"""Results in kept blocks: arrays like any other, that no two have at once, in memory that is bounded and given back."""

import ctypes
import gc
import io
import os
import pickle
import queue
import random
import signal
import subprocess
import sys
import threading
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from guard import in_child

import celoss
from celoss import _kernels

MOST = _kernels.most_kept_bytes()
MIB = 1 << 20
LARGE = 1 << 17  # bytes from which on a result lies in a kept block: LARGE_RESULT in _results.pxi
MOST_BLOCKS, MOST_PASSES, GRAIN = 4, 64, 1 << 16  # src/memory/kept.cpp
OURS, NUMPYS = "celoss_kept_results", "default_allocator"

handler_name = np._core.multiarray.get_handler_name  # of the memory of an array, or without one of the next to be made

kept = pytest.mark.skipif(not MOST, reason="nothing is kept on this system, or by CELOSS_KEEP_RESULTS=0")
forks = pytest.mark.skipif(not MOST or not hasattr(os, "fork"), reason="no fork on this system, or nothing is kept")


@pytest.fixture(autouse=True)
def nothing_kept_before():
    _kernels.keep_results(0)
    _kernels.keep_results(MOST)
    yield
    _kernels.keep_results(0)
    _kernels.keep_results(MOST)


def run(code, **environment):
    """A new interpreter: its output. It must end by itself, cleanly and silently."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        env={**os.environ, "CELOSS_KEEP_RESULTS": "", **environment},
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def result(nbytes):
    """A result of so many bytes, whose content is left to chance."""
    return _kernels.empty_result((nbytes // 4,), np.float32)


def softmax(nbytes, value=0.0):
    """A result of so many bytes: each pair of numbers is alike, and another for another value."""
    return celoss.softmax(np.tile(np.float32([value, 0]), (nbytes // 8, 1)))


def address(a):
    return a.__array_interface__["data"][0]


x = np.resize(np.linspace(-3, 3, 1013, dtype=np.float32), (2000, 100))
target = np.arange(2000) % 100
labels = np.resize(np.float32([0, 1, 1]), x.shape)
RESULTS = {
    "gradient": lambda: celoss.cross_entropy_with_grad(x, target)[1],
    "gradient, weighted": lambda: celoss.cross_entropy_with_grad(x, target, sample_weight=np.ones(2000))[1],
    "gradient along another axis": lambda: celoss.cross_entropy_with_grad(x.T, target, axis=0)[1],
    "gradient in bfloat16": lambda: celoss.cross_entropy_with_grad(x.astype(ml_dtypes.bfloat16), target)[1],
    "gradient of binary losses": lambda: celoss.binary_cross_entropy_with_grad(x, labels)[1],
    "binary losses": lambda: celoss.binary_cross_entropy(x, labels, reduction="none"),
    "binary losses, weighted": lambda: celoss.binary_cross_entropy(x, labels, weight=2.0, reduction="none"),
    "losses of rows": lambda: celoss.cross_entropy(x.reshape(-1, 2), np.zeros(100_000, int), reduction="none"),
    "losses of rows, weighted": lambda: celoss.cross_entropy(
        x.reshape(-1, 2), np.zeros(100_000, int), sample_weight=np.ones(100_000), reduction="none"
    ),
    "softmax": lambda: celoss.softmax(x),
    "softmax in float16": lambda: celoss.softmax(x.astype(np.float16)),
    "softmax_vjp": lambda: celoss.softmax_vjp(x, x),
    "logsumexp": lambda: celoss.logsumexp(x.reshape(-1, 2)),
    "logsumexp of columns": lambda: celoss.logsumexp(x.reshape(2, -1), axis=0),
    "sigmoid": lambda: celoss.sigmoid(x),
    "sigmoid of columns": lambda: celoss.sigmoid(x.T),
}


@kept
@pytest.mark.parametrize("name", RESULTS)
def test_results_are_arrays_like_any_other(name):
    a = RESULTS[name]()
    assert a.nbytes >= LARGE and type(a) is np.ndarray
    assert a.flags.owndata and a.base is None and a.flags.writeable and a.flags.aligned
    assert address(a) % 4096 == 0
    assert handler_name(a) == OURS and handler_name() == NUMPYS
    assert handler_name(np.empty(LARGE)) == NUMPYS
    copy, place = a.copy(), address(a)
    assert handler_name(copy) == NUMPYS
    del a
    assert _kernels.kept_bytes() > 0
    again = RESULTS[name]()
    assert address(again) == place
    np.testing.assert_array_equal(again.view(np.uint8), copy.view(np.uint8))


@kept
def test_small_results_are_not_kept():
    assert handler_name(result(LARGE)) == OURS
    assert handler_name(result(LARGE - 4)) == NUMPYS
    assert handler_name(celoss.softmax(x[:20])) == NUMPYS
    # Nor what only looks large, or is no array at all.
    assert _kernels.empty_result((2**50, 0), np.float64).shape == (2**50, 0)
    for shape in ((2**40, 2**40), (2**60,)):
        with pytest.raises((ValueError, MemoryError)):
            _kernels.empty_result(shape, np.float64)
    assert handler_name() == NUMPYS


@kept
def test_a_loop_whose_last_result_lives_takes_turns():
    places, grad = [], None
    for _ in range(20):
        _, grad = celoss.cross_entropy_with_grad(x, target)
        places.append(address(grad))
    assert len(set(places)) == 2 and places[0::2] == places[:1] * 10 and places[1::2] == places[1:2] * 10


@kept
def test_a_failed_call_gives_its_memory_back():
    with pytest.raises(IndexError):
        celoss.cross_entropy_with_grad(x, target + 1)
    assert 0 < _kernels.kept_bytes() <= x.nbytes + 2 * GRAIN
    assert handler_name() == NUMPYS


@kept
def test_no_memory_is_a_memory_error():
    with pytest.raises(MemoryError):
        _kernels.keep_results(2**62)
        result(2**50)
    assert handler_name() == NUMPYS


# ---- no two have the same memory -------------------------------------------------------------------------------------------


@kept
def test_what_still_looks_at_a_result_keeps_its_memory():
    a = softmax(4 * MIB, 1.0)
    expected = a.copy()
    lasting = [a[5:], a.reshape(-1)[::2], memoryview(a), np.frombuffer(a, np.uint8), a.T]
    del a
    others = [softmax(4 * MIB, 2.0 + i) for i in range(4)]
    del others[::2]
    others += [softmax(4 * MIB, 8.0 + i) for i in range(4)]
    for b in others:
        assert not any(np.shares_memory(b, v) for v in lasting)
    np.testing.assert_array_equal(lasting[0], expected[5:])
    np.testing.assert_array_equal(lasting[3], expected.reshape(-1).view(np.uint8))
    lasting.clear()
    gc.collect()
    assert softmax(4 * MIB)[0, 0] == 0.5


@kept
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (2, 0, 5, 1, 4, 3)])
def test_any_order_of_deletion(order):
    values = {i: softmax(MIB * (1 + i % 2), i) for i in range(6)}
    expected = {i: a.copy() for i, a in values.items()}
    for i in order:
        del values[i]
        fresh = softmax(MIB * (1 + i % 2), 100 + i)
        for j, a in values.items():
            np.testing.assert_array_equal(a, expected[j])
            assert not np.shares_memory(a, fresh)


@kept
def test_copies_pickles_and_files():
    a = softmax(MIB, 1.5)
    file = io.BytesIO()
    np.save(file, a)
    file.seek(0)
    loaded, pickled = np.load(file), pickle.loads(pickle.dumps(a, protocol=5))
    expected = np.array(a)
    del a
    softmax(MIB, -7.0)
    np.testing.assert_array_equal(loaded, expected)
    np.testing.assert_array_equal(pickled, expected)


@kept
def test_resize_keeps_the_data():
    """Where there is room, beyond it, to a part that gives the rest back, and to almost nothing; NumPy clears what is new."""
    numbers = np.random.default_rng(0).random(8 * MIB // 4).astype(np.float32)
    for sizes in ([1.01, 3], [0.6, 1], [0.4, 1], [0.001, 0.5, 5], [0, 1], [40, 0.1, 1]):
        a = result(numbers.nbytes)
        a[...] = numbers
        length = whole = len(numbers)
        for size in sizes:
            other = softmax(numbers.nbytes, 3.0)
            length, count = min(length, int(size * whole)), int(size * whole)
            a.resize(count, refcheck=False)
            assert handler_name(a) == OURS and a.flags.owndata and not np.shares_memory(a, other)
            np.testing.assert_array_equal(a[:length], numbers[:length])
            assert not a[length:].any()
    del a
    assert _kernels.kept_bytes() <= MOST


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@forks
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is counted in /proc")
def test_a_smaller_array_gives_the_rest_back():
    def work(note):
        a = result(64 * MIB)
        a[...] = 1
        before = resident()
        a.resize(1000, refcheck=False)
        assert before - resident() > 50 * MIB
        assert (a == 1).all()
        del a
        return _kernels.kept_bytes()

    assert in_child(work) < 4 * MIB


# ---- threads ---------------------------------------------------------------------------------------------------------------


def exchange(seconds=1.5, threads=6):
    """Threads that make, fill, hand over, check and free results of few sizes; how many results were checked."""
    mailbox, checked, wrong, stop = queue.SimpleQueue(), [], [], threading.Event()

    def work(number):
        state, mine = random.Random(number), []
        while not stop.is_set():
            a = result(state.choice((LARGE, 3 * LARGE, MIB, 3 * MIB, 9 * MIB)))
            mark = state.random()
            a[:: 1 << 10] = mark
            a[-1] = mark
            mine.append((a, mark))
            if len(mine) > 3:
                mailbox.put(mine.pop(state.randrange(4)))
            while mailbox.qsize() > 4:
                a, mark = mailbox.get()
                expected = np.float32(mark)
                wrong.extend([a.nbytes] * bool((a[:: 1 << 10] != expected).any() or a[-1] != expected))
                if state.random() < 0.2:
                    a.resize(int(a.size * state.choice((0.3, 1.5))), refcheck=False)
                    wrong.extend([a.nbytes] * bool(a[0] != expected))
                checked.append(None)
                del a

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    stop.wait(seconds)
    stop.set()
    for worker in workers:
        worker.join()
    assert not wrong
    return len(checked)


@kept
def test_many_threads_hand_results_to_one_another():
    assert exchange() > 100
    assert _kernels.kept_bytes() <= 4 * (10 * MIB)


@kept
def test_an_array_is_freed_by_another_thread():
    a = softmax(3 * MIB)
    place, holder = address(a), [a]
    del a
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    assert address(softmax(3 * MIB)) == place


# ---- other processes -------------------------------------------------------------------------------------------------------


def child(work):
    """Status of a forked child that does this: 0 where it returned true."""
    process = os.fork()
    if not process:
        status = 1
        try:
            signal.alarm(60)
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return process


def status_of(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@forks
def test_a_fork_with_results_alive():
    """Parent and child write to what both have, free it, and make more: neither sees the other's."""

    def work(note):
        a, b = softmax(4 * MIB, 1.0), softmax(4 * MIB, 2.0)
        expected = a.copy()
        del b
        assert _kernels.kept_bytes()
        turn, ready = os.pipe()

        def other():
            nonlocal a
            os.read(turn, 1)  # the parent has written
            same = (a == expected).all() and _kernels.kept_bytes() == 0
            a[...] = 5
            for value in range(4):
                same = same and (softmax(4 * MIB, value) == celoss.softmax(np.float32([value, 0]))).all()
            same = same and (a == 5).all()
            a = None
            return same and exchange(0.2) > 0

        process = child(other)
        assert _kernels.kept_bytes() == 0  # what a fork shares is copied when it is written to
        a[...] = 7
        os.write(ready, b"1")
        assert status_of(process) == 0
        assert (a == 7).all()
        a = None
        assert _kernels.kept_bytes() == 0  # it was shared as well
        softmax(4 * MIB)
        return _kernels.kept_bytes() >> 20

    assert in_child(work) == 4


@forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forks_while_other_threads_are_inside():
    def work(note):
        stop = threading.Event()

        def always():
            while not stop.is_set():
                result(MIB)

        threads = [threading.Thread(target=always) for _ in range(4)]
        for thread in threads:
            thread.start()
        processes = [child(lambda: all(handler_name(result(MIB)) == OURS for _ in range(20))) for _ in range(100)]
        statuses = [status_of(process) for process in processes]
        stop.set()
        for thread in threads:
            thread.join()
        assert not any(statuses)
        return len(statuses)

    assert in_child(work) == 100


@kept
@pytest.mark.parametrize("busy", [False, True], ids=["", "a daemon thread inside"])
def test_arrays_that_outlive_the_interpreter(busy):
    code = """
import atexit, sys, threading, numpy as np, celoss
x = np.zeros((1000, 1000), np.float32)
alive = [celoss.softmax(x) for _ in range(8)]
class Owner:
    def __init__(self):
        self.itself, self.array = self, celoss.softmax(x)
    def __del__(self, softmax=celoss.softmax, x=x, print=print):
        print("collected", float(softmax(x)[0, 0]), float(self.array[0, 0]))
        self.array.resize(10**7, refcheck=False)
owner = Owner()
sys.modules["alive"] = celoss.softmax(x)
atexit.register(lambda held=celoss.softmax(x): print("atexit", float(celoss.softmax(held)[0, 0])))
def forever():
    while True:
        celoss.softmax(x)
if BUSY:
    threading.Thread(target=forever, daemon=True).start()
print("done")
"""
    value = str(float(np.float32(0.001)))
    last = [] if busy else ["collected", value, value]  # its frame holds the globals
    assert run(code.replace("BUSY", str(busy))).split() == ["done", "atexit", value, *last]


@kept
def test_another_interpreter_of_the_process():
    """It may not be able to import celoss, and says so; the first goes on."""
    code = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import numpy as np, celoss
x = np.zeros((1000, 1000), np.float32)
held = celoss.softmax(x)
celoss.softmax(x)
other = interpreters.create()
attempt = '''
try:
    import numpy as np, celoss
    celoss.softmax(np.zeros((1000, 1000), np.float32))
except ImportError:
    pass
'''
interpreters.run_string(other, attempt)
interpreters.destroy(other)
print(float(celoss.softmax(x)[0, 0]) == float(held[0, 0]))
"""
    assert run(code, PYTHONWARNINGS="ignore") == "True\n"


# ---- how much is kept ------------------------------------------------------------------------------------------------------


@kept
def test_few_blocks_are_kept():
    alive = [result(MIB) for _ in range(20)]
    assert _kernels.kept_bytes() == 0
    del alive
    assert _kernels.kept_bytes() == MOST_BLOCKS * (MIB + GRAIN)


@kept
def test_bytes_are_bounded():
    _kernels.keep_results(20 * MIB)
    first, second, third, larger = (result(n * MIB) for n in (8, 7, 6, 21))
    assert handler_name(larger) == NUMPYS
    del first
    assert _kernels.kept_bytes() == 8 * MIB + GRAIN
    del second
    assert _kernels.kept_bytes() == 15 * MIB + 2 * GRAIN
    del third  # what was freed longest ago goes
    assert _kernels.kept_bytes() == 13 * MIB + 2 * GRAIN
    _kernels.keep_results(7 * MIB)
    assert _kernels.kept_bytes() == 6 * MIB + GRAIN
    grown = result(4 * MIB)
    grown.resize(5 * MIB, refcheck=False)
    del grown
    assert _kernels.kept_bytes() == 6 * MIB + GRAIN


@kept
def test_a_block_serves_about_its_size():
    place = address(result(8 * MIB))
    assert address(result(9 * MIB)) != place
    _kernels.keep_results(0)
    _kernels.keep_results(MOST)
    place = address(result(8 * MIB))
    small = result(3 * MIB)
    assert address(small) != place
    half = result(5 * MIB)
    assert address(half) == place


@kept
def test_a_block_that_is_passed_over_goes():
    result(32 * MIB)
    for _ in range(MOST_PASSES - 1):
        result(MIB)
    assert _kernels.kept_bytes() == 33 * MIB + 2 * GRAIN
    held = result(32 * MIB)  # served: it begins anew
    del held
    for _ in range(MOST_PASSES - 1):
        result(MIB)
    assert _kernels.kept_bytes() == 33 * MIB + 2 * GRAIN
    result(MIB)
    assert _kernels.kept_bytes() == MIB + GRAIN


def lazily_free():
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) << 10 for line in rollup if line.startswith("LazyFree"))


@forks
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="pages are counted in /proc")
def test_the_system_may_take_what_is_kept():
    def work(note):
        a = result(64 * MIB)
        a[...] = 1
        used, before = resident(), lazily_free()
        del a
        assert _kernels.kept_bytes() > 64 * MIB
        waiting = lazily_free() - before
        a = result(64 * MIB)
        a[...] = 2
        assert lazily_free() - before < 8 * MIB  # in use again
        assert resident() < used + 8 * MIB
        return waiting >> 20

    assert in_child(work) > 60


@kept
def test_tracemalloc_sees_results_and_nothing_that_is_kept():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        a = softmax(8 * MIB)
        assert abs(tracemalloc.get_traced_memory()[0] - before - 8 * MIB) < MIB / 2
        a.resize(1 * MIB, refcheck=False)
        assert abs(tracemalloc.get_traced_memory()[0] - before - 4 * MIB) < MIB / 2
        del a
        assert abs(tracemalloc.get_traced_memory()[0] - before) < MIB / 2
    finally:
        tracemalloc.stop()


# ---- whether anything is kept ----------------------------------------------------------------------------------------------

SHOW = """
import numpy as np, celoss
from celoss import _kernels
celoss.softmax(np.zeros((1000, 1000)))
print(_kernels.kept_bytes() > 0)
celoss.show_config()
"""


@kept
@pytest.mark.parametrize("asked", ["", "1", " 1 "])
def test_kept_by_default(asked):
    kept_now, *lines = run(SHOW, CELOSS_KEEP_RESULTS=asked).splitlines()
    assert kept_now == "True"
    assert f"kept_results     7 MiB of at most {MOST >> 20} MiB" in lines
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory == pytest.approx(8 * MOST, abs=8)


@pytest.mark.parametrize("asked", ["0", " 0 "])
def test_switched_off(asked):
    kept_now, *lines = run(SHOW, CELOSS_KEEP_RESULTS=asked).splitlines()
    assert kept_now == "False"
    assert "kept_results     off" in lines


@pytest.mark.parametrize("asked", ["2", "-1", "yes", "125 MiB"])
def test_a_wrong_switch(asked):
    done = subprocess.run(
        [sys.executable, "-c", "import celoss"], env={**os.environ, "CELOSS_KEEP_RESULTS": asked},
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert done.returncode != 0 and f"ImportError: CELOSS_KEEP_RESULTS={asked!r} is neither 0 nor 1" in done.stderr


@pytest.fixture
def handler_of_the_user():
    """NumPy's own functions under the name "the user's": set for this thread, until the test is over."""
    address_of = ctypes.pythonapi.PyCapsule_GetPointer
    address_of.restype, address_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    api = ctypes.cast(address_of(np._core._multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(api[304])
    get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(api[305])
    size = 128 + 5 * ctypes.sizeof(ctypes.c_void_p)
    handler = ctypes.create_string_buffer(ctypes.string_at(address_of(get_handler(), b"mem_handler"), size), size)
    handler[:11] = b"the user's\0"
    name = b"mem_handler"  # the capsule does not copy it
    before = set_handler(make(ctypes.addressof(handler), name, None))
    yield "the user's"
    set_handler(before)
    gc.collect()


@kept
def test_a_handler_of_the_user_is_left_alone(handler_of_the_user):
    assert handler_name() == handler_of_the_user
    for name, make in RESULTS.items():
        assert handler_name(make()) == handler_of_the_user, name
    assert handler_name() == handler_of_the_user
    assert _kernels.kept_bytes() == 0
    others = []
    thread = threading.Thread(target=lambda: others.append(handler_name(softmax(MIB))))
    thread.start()
    thread.join()
    assert others == [OURS]  # a handler is one thread's
