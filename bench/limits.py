"""What the memory of this machine allows: the floors under every time in this suite.

Plain NumPy on the same arrays, in the same process. "split" cuts the arrays into one range per
thread and works on them at once; NumPy lets go of the GIL for each range. The floors are:

    copy      read the logits, write another array        loss + gradient into ``out=``
    multiply  read the logits, write the same array       loss + gradient in place
    read      read the logits                             the loss alone
    fill      write an array                              all rows ignored

``python -m bench.limits`` prints them for this machine.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise

import numpy as np

from bench import cases, machine, timing

COPIES = ("copy", "copy, split")
READS = ("read, maximum", "read, integer sum")
NAMES = (*COPIES, "multiply, split", *READS, "fill, split")


@cache
def _helpers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


def _split(operation: Callable, n_threads: int, *arrays: np.ndarray) -> Callable:
    """``operation`` on ranges of the flat arrays, one range per thread, the caller's among them."""
    flat = [array.reshape(-1) for array in arrays]  # contiguous: a view
    edges = [flat[0].size * part // n_threads for part in range(n_threads + 1)]
    ranges = [partial(operation, *(array[low:high] for array in flat)) for low, high in pairwise(edges)]
    own, *others = ranges
    if not others:
        return own

    def call():
        started = [_helpers(len(others)).submit(other) for other in others]
        own()
        for other in started:
            other.result()

    return call


def copyto(source, destination) -> Callable:
    return partial(np.copyto, destination, source)


def copy_split(source, destination, n_threads) -> Callable:
    return _split(np.copyto, n_threads, destination, source)


def multiply_split(array, n_threads) -> Callable:
    """In place. The factor leaves the values as they are: no run can drift into subnormals."""
    one = array.dtype.type(1)
    return _split(lambda part: np.multiply(part, one, out=part), n_threads, array)


def reads_split(array, n_threads) -> dict[str, Callable]:
    """Two reductions that do little but read; which is the faster depends on the machine."""
    return {
        READS[0]: _split(np.max, n_threads, array),
        READS[1]: _split(lambda part: np.add.reduce(part.view(np.int64)), n_threads, array),
    }


def fill_split(array, n_threads) -> Callable:
    return _split(lambda part: part.fill(0), n_threads, array)


def make(case: cases.Case, n_threads: int) -> dict[str, Callable]:
    """Every floor under one shape, by the names in ``NAMES``."""
    logits = np.ones(case.shape, case.dtype)
    other = np.ones_like(logits)
    calls = (
        copyto(logits, other),
        copy_split(logits, other, n_threads),
        multiply_split(logits, n_threads),
        *reads_split(logits, n_threads).values(),
        fill_split(other, n_threads),
    )
    return dict(zip(NAMES, calls, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", choices=("1", "all"), default="all")
    n_threads = machine.use_threads(parser.parse_args().threads)
    print(f"ns per logit, {n_threads} thread(s)")
    for case in cases.SPEED:
        times = timing.medians(timing.interleaved(make(case, n_threads), rounds=9, settle=0))
        cells = (f"{name} {1e9 * took / case.size:.3f}" for name, took in times.items())
        print(f"{case!s:>14}", *cells, sep="   ")


if __name__ == "__main__":
    main()
