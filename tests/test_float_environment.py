"""The floating-point environment is the caller's: left as it was, kept by the helpers, and no obstacle."""

import ctypes
import functools
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import celoss
from celoss._checks import FUNCTIONS, arrays, examples

# The rounding modes of <fenv.h>, and where fenv_t holds the control word whose bits treat subnormal numbers as 0.
UPWARD, DOWNWARD, TOWARD_ZERO, CONTROL, FLUSH = {
    "x86_64": (0x800, 0x400, 0xC00, 7, 0x8040),  # MXCSR: flush to zero, denormals are zero
    "aarch64": (0x400000, 0x800000, 0xC00000, 0, 1 << 24),  # FPCR: flush to zero
}.get(platform.machine(), (0, 0, 0, 0, 0))
FLAGS = 0x3F if platform.machine() == "x86_64" else 0  # exceptions that have occurred share the word: they are no mode

pytestmark = pytest.mark.skipif(not FLUSH or platform.libc_ver()[0] != "glibc", reason="known are x86-64 and aarch64 under glibc")

try:
    LIBM = ctypes.CDLL("libm.so.6")
except OSError:
    LIBM = None


def environment():
    words = (ctypes.c_uint32 * 16)()
    LIBM.fegetenv(words)
    return words


def modes():
    """The control word of this thread, and its rounding mode."""
    return environment()[CONTROL] & ~FLAGS, LIBM.fegetround()


@pytest.fixture(params=["nearest", "upward", "downward", "toward zero", "flush to zero"])
def arithmetic(request):
    """Each mode of the thread in turn, where helpers were made in the mode that programs begin in."""
    celoss.cross_entropy(np.zeros((6000, 200)), np.zeros(6000, int), n_threads=4)
    before = environment()
    changed = environment()
    if request.param == "flush to zero":
        changed[CONTROL] |= FLUSH
        LIBM.fesetenv(changed)
    elif request.param != "nearest":
        mode = {"upward": UPWARD, "downward": DOWNWARD, "toward zero": TOWARD_ZERO}[request.param]
        assert LIBM.fesetround(mode) == 0
    yield request.param
    LIBM.fesetenv(before)


def calls(n_threads):
    """Every function on numbers that round, overflow, underflow and are subnormal; as many as two threads share."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x = (20 * rng.standard_normal((3000, 120))).astype(dtype)
        x[::7] *= 1e-40
        x[::11] *= 1e4
        x[0], x[1, 0], x[2, 0], x[3] = np.nan, np.inf, -np.inf, -np.inf
        given = arrays(x)
        for name in FUNCTIONS:
            for example in examples(name, given):
                if "n_threads" in example.options:
                    example.options["n_threads"] = n_threads
                yield functools.partial(example.results, celoss)
        loss = functools.partial(celoss.cross_entropy_with_grad, n_threads=n_threads)
        yield functools.partial(loss, x, given.probabilities, reduction="none", grad_output=np.full(3000, 1e-38))
        yield functools.partial(loss, x.reshape(4, -1), given.indices[:4])
        yield functools.partial(loss, x[:, :9], given.indices % 9, label_smoothing=0.1)


def results(n_threads):
    celoss.set_num_threads(n_threads)
    return [call() for call in calls(n_threads)]


def test_modes_stay_and_helpers_share_them(arithmetic, level, keep_num_threads):
    """A helper computes as its caller does, however the thread was set that made it; and nobody's modes change."""
    before = modes()
    alone, together = results(1), results(4)
    for a, b in zip(alone, together, strict=True):
        for left, right in zip(a, b, strict=True):
            np.testing.assert_array_equal(left, right)
    assert modes() == before


def test_import_and_first_calls_change_no_mode():
    code = """
import sys
sys.path.insert(0, {tests!r})
import ctypes
words = [(ctypes.c_uint32 * 16)() for _ in range(2)]
libm = ctypes.CDLL("libm.so.6")
libm.fegetenv(words[0])
import celoss
libm.fegetenv(words[1])
assert words[0][{control}] & ~{flags} == words[1][{control}] & ~{flags}
import test_float_environment as t
before = t.modes()
t.results(4)
assert t.modes() == before
"""
    code = code.format(tests=str(Path(__file__).parent), control=CONTROL, flags=FLAGS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr


def test_calls_raise_and_warn_of_nothing(level, keep_num_threads):
    """What overflows or is invalid is in the result, and nowhere else: whatever NumPy is told to do, and filters are."""
    for n_threads in (1, 4):
        celoss.set_num_threads(n_threads)
        every = list(calls(n_threads))
        with warnings.catch_warnings(), np.errstate(all="raise"):
            warnings.simplefilter("error")
            for call in every:
                call()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weights_beyond_the_dtype_warn_of_nothing(dtype):
    """They are float64, whatever the logits are."""
    x, huge = np.zeros((2, 3), dtype), np.array([1e300, 1e-300, 1.0])
    loss = celoss.cross_entropy(x, [0, 1], weight=huge)
    assert loss == pytest.approx(np.log(3))
    celoss.cross_entropy_with_grad(x, [0, 1], weight=huge, sample_weight=huge[:2], label_smoothing=0.1)
    celoss.brier_score_with_grad(x, [0, 1], weight=huge)
    celoss.binary_cross_entropy_with_grad(x, np.zeros((2, 3)), weight=huge, pos_weight=huge)
