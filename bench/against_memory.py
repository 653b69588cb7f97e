"""celoss against what the memory allows: sections of ``targets``, on large arrays."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from bench import cases, limits, timing
from bench.ratios import Row, Run, with_grad

LOSS_ONLY = 1.75
# Of a read and a copy, which are two trips. The first round took three, 2.75 times as long as both: 0.85 of that.
ONE_ROW = 2.34


def out(run: Run) -> Iterator[Row]:
    for case in cases.LARGE:
        logits, target = cases.make(case)
        grad = np.zeros_like(logits)
        times = run.time(
            {
                "celoss": with_grad(logits, target, out=grad),
                "copyto": limits.copyto(logits, grad),
            }
        )
        yield run.compare(f"{case}: `out=` preallocated / copyto", times, "celoss", "copyto", 1.25)


def in_place(run: Run) -> Iterator[Row]:
    for case in cases.LARGE:
        logits, target = cases.make(case)
        work = logits.copy()
        times = run.time(
            {
                "celoss": with_grad(work, target, out=work),
                "multiply": limits.multiply_split(work, run.n_threads),
            },
            prepare=limits.copyto(logits, work),  # both find the logits, not the last gradient
        )
        what = f"{case}: `out=logits` / in-place multiply, split"
        yield run.compare(what, times, "celoss", "multiply", 1.5)


def loss_only(run: Run) -> Iterator[Row]:
    from celoss import cross_entropy

    for case in cases.LARGE:
        logits, target = cases.make(case)
        reads = limits.reads_split(logits, run.n_threads)
        times = run.time({"celoss": partial(cross_entropy, logits, target), **reads})
        read = timing.fastest(times, reads)
        yield run.compare(f"{case}: loss only / read, split", times, "celoss", read, LOSS_ONLY)


def ignored(run: Run) -> Iterator[Row]:
    for case in cases.LARGE:
        logits, _ = cases.make(case)
        grad = np.zeros_like(logits)
        nothing = np.full(case.rows, cases.IGNORE_INDEX)
        times = run.time(
            {
                "celoss": with_grad(logits, nothing, out=grad),
                "fill": limits.fill_split(grad, run.n_threads),
            }
        )
        yield run.compare(f"{case}: all rows ignored / fill, split", times, "celoss", "fill", 1.25)


def one_row(run: Run) -> Iterator[Row]:
    """A row that no cache holds: its gradient cannot begin before all of it was read."""
    from celoss import cross_entropy

    case = cases.HUGE_ROW
    logits, target = cases.make(case)
    grad = np.zeros_like(logits)
    reads = limits.reads_split(logits, run.n_threads)
    copies = {"copy": limits.copyto(logits, grad), "copy, split": limits.copy_split(logits, grad, run.n_threads)}
    both = {"celoss": with_grad(logits, target, out=grad), "loss only": partial(cross_entropy, logits, target)}
    times = run.time({**both, **reads, **copies})
    read, copy = timing.fastest(times, reads), timing.fastest(times, copies)
    times["read and copy"] = times[read] + times[copy]
    yield run.compare(f"{case}: `out=` preallocated / a read and a copy", times, "celoss", "read and copy", ONE_ROW)
    yield run.compare(f"{case}: loss only / read, split", times, "loss only", read, LOSS_ONLY)


SECTIONS = (out, in_place, loss_only, ignored, one_row)
