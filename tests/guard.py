"""Arrays that end, or begin, where a page begins that faults when it is touched; and a process to touch it in.

An access one byte outside such an array is a signal that ends the process. `in_child` turns it into a failed test which
says what ran last.
"""

import ctypes
import mmap
import os
import signal
import traceback
import warnings

import numpy as np

PAGE = mmap.PAGESIZE


class Guarded:
    """Memory for one array at a time, between two pages that can be neither read nor written."""

    def __init__(self, nbytes, values=None):
        pages = -(-nbytes // PAGE)
        self.memory = mmap.mmap(-1, (pages + 2) * PAGE)
        self.first, self.end = PAGE, (pages + 1) * PAGE
        self.inside = np.ndarray(pages * PAGE, np.uint8, self.memory, PAGE)
        if values is not None:
            self.inside[...] = np.resize(values.view(np.uint8), pages * PAGE)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for edge in (self.first - PAGE, self.end):
            at = ctypes.c_void_p(self.inside.ctypes.data - PAGE + edge)
            if protect(at, ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, shape, dtype, strides, at_end):
        """An array whose last byte is the last before the one page, or whose first byte is the first behind the other."""
        reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
        lowest, highest = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + dtype.itemsize
        offset = self.end - highest if at_end else self.first - lowest
        assert self.first <= offset + lowest and offset + highest <= self.end, "the memory is too small"
        return np.ndarray(shape, dtype, self.memory, offset, strides)


def in_child(work, seconds=600):
    """Run `work(note)` in a forked child, where `note(text)` keeps what runs; its result, a number.

    AssertionError if it raises, is ended by a signal or takes too long, with what was noted last.
    """
    noted, said = mmap.mmap(-1, PAGE), mmap.mmap(-1, 4 * PAGE)

    def note(text):
        noted[: len(text) + 1] = text.encode() + b"\0"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn of forking with threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(seconds)
            text = str(work(note))
            status = 0
        except BaseException:
            text = traceback.format_exc()
        finally:
            text = text.encode()[-4 * PAGE + 1 :] + b"\0"
            said[: len(text)] = text
            os._exit(status)
    _, status = os.waitpid(child, 0)
    last, text = (m[:].partition(b"\0")[0].decode() for m in (noted, said))
    if os.WIFSIGNALED(status):
        raise AssertionError(f"{signal.Signals(os.WTERMSIG(status)).name} in: {last}")
    assert os.WEXITSTATUS(status) == 0, f"{text}\nin: {last}"
    return int(text)
