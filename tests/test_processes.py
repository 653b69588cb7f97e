"""Processes: signals, pools of other processes, the end of the interpreter, and what happens when nothing is left to be had."""

import multiprocessing
import os
import subprocess
import sys

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def run(code, **environment):
    """A new interpreter: its output. It must end by itself, cleanly and silently."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0 and not done.stderr, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.split()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_pools_of_new_processes(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has none")
    code = f"""
import multiprocessing, numpy as np, celoss
rng = np.random.default_rng(0)
cases = [(rng.standard_normal((3000, 300), np.float32), rng.integers(0, 300, 3000)) for _ in range(4)]
expected = [celoss.cross_entropy_with_grad(*case, n_threads=4) for case in cases]
with multiprocessing.get_context("{method}").Pool(2, celoss.set_num_threads, (4,)) as pool:
    found = pool.starmap(celoss.cross_entropy_with_grad, cases)
print([loss == l and np.array_equal(grad, g) for (loss, grad), (l, g) in zip(found, expected, strict=True)])
"""
    assert run(code) == ["[True,", "True,", "True,", "True]"]


@posix
def test_helpers_take_no_signals():
    """A signal that the program blocks, to wait for it, does not reach a helper, where it would end the process."""
    code = """
import os, signal, numpy as np, celoss
from celoss import _kernels
celoss.cross_entropy(np.zeros((3000, 300)), np.zeros(3000, int), n_threads=4)
assert _kernels.helper_threads() == 3
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
for number in [signal.SIGUSR1, signal.SIGTERM] * 10:
    os.kill(os.getpid(), number)
    assert signal.sigwait({signal.SIGUSR1, signal.SIGTERM}) == number
# The caller's own mask is as it was.
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGUSR1, signal.SIGTERM}
print("alive")
"""
    assert run(code) == ["alive"]


@posix
@pytest.mark.parametrize("n_threads", [1, 4])
def test_keyboard_interrupt_during_a_call(n_threads):
    """The call ends, KeyboardInterrupt follows at once, and celoss goes on working."""
    code = f"""
import os, signal, threading, time, numpy as np, celoss
x = np.broadcast_to(np.linspace(0, 1, 2**14, dtype=np.float32), (2**15, 2**14))
target = np.zeros(len(x), int)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests are a shell's job in the background
inside, sent = threading.Event(), threading.Event()
def interrupt():
    inside.wait()
    time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
    sent.set()
small = celoss.cross_entropy(x[:100], target[:100])
threading.Thread(target=interrupt).start()
try:
    inside.set()
    while not sent.is_set():
        celoss.cross_entropy(x, target, n_threads={n_threads})
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted")
assert celoss.cross_entropy(x[:100], target[:100], n_threads=4) == small
"""
    assert run(code) == ["interrupted"]


EVERY_FUNCTION = """
import functools, threading, numpy as np, celoss
from celoss._checks import FUNCTIONS, arrays, examples
x = np.linspace(-3, 3, 600_000, dtype=np.float32).reshape(6000, 100)
given, criterion = arrays(x), celoss.CrossEntropyLoss()
calls = [functools.partial(example.results, celoss) for name in FUNCTIONS for example in examples(name, given)]
functions = [lambda: criterion(x, given.indices), lambda: celoss.cross_entropy(x.reshape(2, -1), [0, 1], label_smoothing=0.1)]
functions += [lambda share=calls[i::6]: [call() for call in share] for i in range(6)]  # a share of them for each thread
celoss.set_num_threads(4)
"""


@pytest.mark.parametrize("turn", range(4))
def test_exit_while_daemon_threads_are_inside(turn):
    code = f"""
import time
started = threading.Barrier(len(functions) + 1)
def forever(function):
    function()
    started.wait()
    while True:
        function()
for function in functions:
    threading.Thread(target=forever, args=(function,), daemon=True).start()
started.wait()
time.sleep({turn} * 0.007)
print("done")
"""
    assert run(EVERY_FUNCTION + code) == ["done"]


def test_calls_while_the_interpreter_ends():
    """From a thread that the interpreter waits for, from atexit and from the last collection, when nothing can be imported."""
    code = """
import atexit, time
class Owner:
    def __del__(self, functions=functions, print=print):
        print("collected", *[f() is not None for f in functions])
owner = Owner()
owner.itself = owner
atexit.register(lambda: print("atexit", *[f() is not None for f in functions]))
def late():
    time.sleep(0.2)
    print("thread", *[f() is not None for f in functions])
threading.Thread(target=late).start()
"""
    every = ["True"] * 8
    assert run(EVERY_FUNCTION + code) == ["thread", *every, "atexit", *every, "collected", *every]


linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit of the address space is kept on Linux only")

LITTLE_MEMORY = """
import resource, threading, numpy as np, celoss
from celoss import _kernels
x = np.zeros((3000, 300), np.float32)
target = np.zeros(3000, int)
expected = celoss.cross_entropy(x, target, n_threads=1)
def leave(nbytes):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + nbytes, resource.RLIM_INFINITY))
"""


@linux
def test_no_thread_to_be_had():
    """The caller works alone where no helper can be made, and asks again in the next call."""
    code = """
leave(2**20)  # no room for a stack
assert celoss.cross_entropy(x, target, n_threads=4) == expected
print(_kernels.helper_threads())
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert celoss.cross_entropy(x, target, n_threads=4) == expected
print(_kernels.helper_threads())
"""
    assert run(LITTLE_MEMORY + code) == ["0", "3"]


@linux
def test_no_memory_to_be_had():
    """MemoryError, and all is well once there is memory again."""
    code = """
wide = np.zeros((2, 3_000_000), np.float16)
out, q = np.empty_like(wide), np.zeros((2, 3_000_000), np.float32)
rows = np.broadcast_to(np.float32(0), (2**36, 1))
calls = {
    "softmax": lambda: celoss.softmax(wide, out=out),
    "logsumexp": lambda: celoss.logsumexp(q[:, ::2]),
    "brier_score": lambda: celoss.brier_score(wide, q),
    "zero_one_loss": lambda: celoss.zero_one_loss(wide, [0, 0]),
    "softmax of broadcast rows": lambda: celoss.logsumexp(rows),
}
for name, call in calls.items():
    leave(2**17)  # less than any scratch, and more than an exception takes
    try:
        call()
        print(name, "had enough")
    except MemoryError:
        pass
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
for name in list(calls)[:4]:
    calls[name]()
assert celoss.cross_entropy(x, target, n_threads=4) == expected
print("done")
"""
    assert run(LITTLE_MEMORY + code) == ["done"]


def test_threads_of_one_call_are_bounded():
    """A slip in n_threads starts no thousands of threads (1024 as for set_num_threads)."""
    code = """
import numpy as np, celoss
from celoss import _kernels
x = np.broadcast_to(np.zeros(2**14, np.float32), (2**14, 2**14))
celoss.cross_entropy(x, np.zeros(len(x), int), n_threads=10**12)
print(_kernels.helper_threads())
"""
    assert int(run(code)[0]) <= 1023
