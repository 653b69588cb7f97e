"""Sections of ``targets`` that need a state of their own, each in fresh processes: levels, memory, accuracy, bits."""

import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from hashlib import sha256
from itertools import pairwise
from multiprocessing import get_context

import numpy as np

from bench import accuracy, cases, machine, timing
from bench.ratios import Row, Run, into_out, with_grad
from celoss._checks import FUNCTIONS, arrays, examples

ULP = {"float32": (1, 2), "float64": (2, 4), "float16": (1, 0.501), "bfloat16": (1, 0.501)}
FUSED = ("v4", "v3", "neon")
MIB = 2**20


@contextmanager
def fresh_process(level: str | None = None) -> Iterator[Callable]:
    """A function that runs another one in a new Python, where celoss uses ``level``."""
    before = os.environ.get("CELOSS_LEVEL")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            if level is not None:
                os.environ["CELOSS_LEVEL"] = level
            pool.submit(machine.build_config).result()  # it starts with this environment
        finally:
            os.environ.pop("CELOSS_LEVEL", None)
            if before is not None:
                os.environ["CELOSS_LEVEL"] = before
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def runnable_levels() -> list[str]:
    return list(machine.build_config()["levels_runnable"])


@lru_cache(maxsize=1)
def _prepared(case: cases.Case) -> tuple[Callable, int]:
    call = into_out(case)
    return call, timing.repeats_for(call)


def seconds_of(case: cases.Case) -> float:
    call, repeats = _prepared(case)
    call()
    return timing.seconds(call, repeats)


def levels(run: Run) -> Iterator[Row]:
    if not {"v3", "v4"} <= set(runnable_levels()):
        return
    for case in cases.LEVELS:
        with ExitStack() as processes:
            workers = {level: processes.enter_context(fresh_process(level)) for level in ("v3", "v4")}
            rounds = [{level: worker(seconds_of, case) for level, worker in workers.items()} for _ in range(run.rounds + 1)][1:]
        times = {level: np.array([took[level] for took in rounds]) for level in workers}
        yield run.compare(f"{case}: AVX2 level / AVX-512 level", times, "v3", "v4", 2.0)


def resident(which: str) -> int:
    """Bytes resident now ("VmRSS") or at most so far ("VmHWM").

    Not ``ru_maxrss``: across fork and exec it keeps the size of the process that started this one.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith(which))
    return int(line.split()[1]) * 1024


def memory_beyond(case: cases.Case, gradient: bool) -> dict[str, int]:
    """Peak bytes during one call, less what was there before it: by page, and by NumPy's allocator."""
    from celoss import cross_entropy

    logits, target = cases.make(case)
    if gradient:
        out = np.empty_like(logits)
        out.fill(0)  # its pages exist before the call
        call = with_grad(logits, target, out=out)
    else:
        call = partial(cross_entropy, logits, target)
    with_grad(logits[:1], target[:1])()  # what is made once, on first use
    with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
        clear.write("5")  # VmHWM starts again from VmRSS
    before = resident("VmRSS")
    call()
    pages = resident("VmHWM") - before
    tracemalloc.start()
    call()
    return {"pages": pages, "numpy": tracemalloc.get_traced_memory()[1]}


def memory(run: Run) -> Iterator[Row]:
    if not sys.platform.startswith("linux"):
        return
    wanted = [(case, True) for case in cases.MEMORY_GRADIENT] + [(cases.MEMORY_LOSS, False)]
    for case, gradient in wanted:
        with fresh_process() as process:
            found = process(memory_beyond, case, gradient)
        limit = (run.n_threads * MIB + 32 * case.rows) / MIB
        what = f"{case}: memory beyond input and output, {'`out=`' if gradient else 'loss only'}"
        yield Row(what, max(found.values()) / MIB, round(limit, 2), unit="MiB")


def exactness(run: Run) -> Iterator[Row]:
    """Worst family of each dtype on every level that runs here."""
    for level in runnable_levels():
        with fresh_process(level) as process:
            for dtype, allowed in ULP.items():
                families = process(accuracy.own_errors, dtype)
                for part, limit in zip(("loss", "grad"), allowed, strict=True):
                    worst = max(families, key=lambda name: families[name][part])
                    what = f"accuracy, level {level}, {dtype} {part}, worst of all families: {worst}"
                    yield Row(what, families[worst][part], limit, unit="ulp")


def hashes_of_results(dtype: str) -> dict[str, str]:
    """Every call of ``celoss._checks.examples`` on shapes for which the kernels have a way of their own, and its bits."""
    import celoss

    found = {}
    for case in cases.BITS:
        given = arrays(cases.make_logits(case.like(dtype)), cases.make_target(case))
        for name in FUNCTIONS:
            for example in examples(name, given, singly=True):
                results = b"".join(np.asarray(result).tobytes() for result in example.results(celoss))
                found[f"{example.label}, {case}"] = sha256(results).hexdigest()
    return found


def bits(run: Run) -> Iterator[Row]:
    """Calls that return other bits on another level, of those that multiply and add in one rounding."""
    fused = [level for level in runnable_levels() if level in FUSED]
    for best, other in pairwise(fused):
        with fresh_process(best) as one, fresh_process(other) as another:
            for dtype in ULP:
                found = [process(hashes_of_results, dtype) for process in (one, another)]
                differing = sum(found[0][call] != found[1][call] for call in found[0])
                yield Row(f"{dtype}: of {len(found[0])} calls, other bits on level {other} than on {best}", differing, 0)


SECTIONS = (levels, memory, exactness, bits)
