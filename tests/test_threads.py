"""Threads: many callers at once, fork in every state, and settings."""

import concurrent.futures
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import celoss
from celoss import _kernels
from celoss._checks import FUNCTIONS, arrays, examples

SHAPES = [(4000, 3), (600, 1000), (20_000, 10), (2, 300_001)]
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def problem(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape, np.float32), rng.integers(0, shape[1], shape[0])


def test_sixteen_callers_at_once(keep_num_threads):
    celoss.set_num_threads(4)
    cases = [problem(shape, seed) for seed, shape in enumerate(SHAPES)]
    expected = [celoss.cross_entropy_with_grad(x, target, n_threads=1) for x, target in cases]
    start = threading.Barrier(16)

    def call(caller):
        start.wait()
        for turn in range(12):
            k = (caller + turn) % len(cases)
            x, target = cases[k]
            if turn % 3 == 0:
                loss, grad = celoss.cross_entropy_with_grad(x, target, out=x.copy(), n_threads=1 + turn % 5)
            else:
                loss, grad = celoss.cross_entropy_with_grad(x, target)
            if loss != expected[k][0] or not np.array_equal(grad, expected[k][1]):
                return f"caller {caller}, turn {turn}, shape {x.shape}"

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(16))) == [None] * 16


def loss_and_gradient_of(criterion, x, target):
    return criterion(x, target), criterion.backward().copy()


def test_sixteen_callers_of_the_family(keep_num_threads):
    """Every function at once, on arrays that all callers read."""
    celoss.set_num_threads(4)
    x, target = problem((4000, 100))
    shapes = [x, x[:1500, :7], x[:200].reshape(2, -1)]  # classes as lanes, rows as lanes, rows in pieces
    functions = [
        functools.partial(example.results, celoss)
        for number, name in enumerate(FUNCTIONS)
        for logits in (shapes[number % 3], shapes[(number + 1) % 3].astype(np.float16))
        for example in examples(name, arrays(logits))
    ]
    functions += [
        lambda: loss_and_gradient_of(celoss.CrossEntropyLoss(), x, target),
        lambda: loss_and_gradient_of(celoss.CrossEntropyLoss(), -x, target),
    ]
    expected = [function() for function in functions]
    start = threading.Barrier(16)

    def call(caller):
        start.wait()
        for turn in range(len(functions)):
            k = (caller + turn) % len(functions)
            for got, right in zip(functions[k](), expected[k], strict=True):
                if not np.array_equal(got, right):
                    return f"caller {caller}, turn {turn}, function {k}"

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(16))) == [None] * 16


def test_settings_change_under_callers(keep_num_threads):
    x, target = problem((3000, 300))
    expected = celoss.cross_entropy(x, target)
    stop = threading.Event()

    def change():
        n = 0
        while not stop.is_set():
            n += 1
            celoss.set_num_threads(1 + n % 8)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        assert all(celoss.cross_entropy(x, target) == expected for _ in range(40))
    finally:
        stop.set()
        changer.join()


def in_child(work, seconds=60):
    """Run `work` in a forked child; whether it returned something true in time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # forking with threads is what is tested; Python and JAX warn of it
        child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        ok = False
        try:
            ok = bool(work())
        finally:
            os._exit(0 if ok else 1)
    _, status = os.waitpid(child, 0)
    return status == 0


@can_fork
@pytest.mark.parametrize("shape", [(3000, 300), (1, 1_000_003)])
def test_fork_after_use(shape):
    """The child has none of the parent's helpers; libgomp hangs here (GCC 58378, scikit-learn #19272)."""
    x, target = problem(shape)
    expected = celoss.cross_entropy_with_grad(x, target, n_threads=4)

    def work():
        loss, grad = celoss.cross_entropy_with_grad(x, target, n_threads=4)
        again, _ = celoss.cross_entropy_with_grad(x, target, n_threads=1)
        return loss == again == expected[0] and np.array_equal(grad, expected[1])

    assert in_child(lambda: _kernels.helper_threads() == 0)
    assert in_child(work)
    assert in_child(lambda: work() and in_child(work))  # and the child's child
    loss, grad = celoss.cross_entropy_with_grad(x, target, n_threads=4)  # the parent goes on
    assert loss == expected[0] and np.array_equal(grad, expected[1])


@can_fork
def test_fork_while_other_threads_are_inside():
    x, target = problem((3000, 300))
    expected = celoss.cross_entropy(x, target)
    stop = threading.Event()

    def call():
        while not stop.is_set():
            celoss.cross_entropy_with_grad(x, target, n_threads=4)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(10):
            assert in_child(lambda: celoss.cross_entropy(x, target, n_threads=4) == expected)
            time.sleep(0.003)
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def helpers_and_loss(seed):
    helpers = _kernels.helper_threads()
    x, target = problem((3000, 300), seed)
    return helpers, celoss.cross_entropy(x, target, n_threads=4)


@can_fork
def test_multiprocessing_by_fork():
    """Each process begins with no helpers, and makes its own."""
    here = [(0, helpers_and_loss(seed)[1]) for seed in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
            assert pool.map_async(helpers_and_loss, range(4), chunksize=1).get(timeout=60) == here


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def test_set_num_threads(keep_num_threads):
    for n in (1, 2, np.int64(3), 100):
        celoss.set_num_threads(n)
        assert celoss.get_num_threads() == n
    celoss.set_num_threads(10**12)  # a slip of the hand
    assert celoss.get_num_threads() == 1024


def test_environment_variable():
    show = "import celoss; print(celoss.get_num_threads())"
    for value in ("1", "3", " 5 "):
        assert run(show, CELOSS_NUM_THREADS=value).stdout.strip() == value.strip()
    default = run(show, CELOSS_NUM_THREADS="").stdout.strip()
    assert int(default) >= 1
    for value in ("0", "-1", "two", "1.5"):
        done = run(show, CELOSS_NUM_THREADS=value)
        assert done.returncode != 0 and "CELOSS_NUM_THREADS" in done.stderr and repr(value) in done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity mask on this system")
def test_default_respects_the_affinity_mask():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code += "; import celoss; print(celoss.get_num_threads())"
    assert run(code, CELOSS_NUM_THREADS="").stdout.strip() == "1"


def test_one_thread_starts_no_helper():
    code = """
import celoss, numpy as np
from celoss import _kernels
celoss.set_num_threads(1)
celoss.cross_entropy(np.zeros((3000, 300)), np.zeros(3000, int))
celoss.cross_entropy(np.zeros((1, 1_000_000)), [0])
print(_kernels.helper_threads())
"""
    assert run(code).stdout.strip() == "0"


def test_other_threads_run_during_a_call():
    """The GIL is released: another thread, which gets it from nothing else, goes on during a call."""
    x, target = problem((6000, 1000))
    counted, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    before_switch = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # a thread keeps the lock until it gives it away
    try:
        progressed = 0
        for _ in range(20):
            before = counted[0]
            celoss.cross_entropy(x, target, n_threads=1)
            progressed += counted[0] > before
        assert progressed > 0
    finally:
        sys.setswitchinterval(before_switch)
        stop.set()
        thread.join()


def test_exit_with_helpers_waiting():
    """The process ends, with a clean status; with a thread inside a call see test_processes.py."""
    code = """
import numpy as np, celoss
x, target = np.zeros((3000, 300), np.float32), np.zeros(3000, int)
celoss.cross_entropy(x, target, n_threads=4)
"""
    done = run(code)
    assert done.returncode == 0 and not done.stderr, done.stderr
