"""Interleaved rounds, medians, ratios: how two calls are compared on a machine that has moods.

In every round each call is timed once, in turn, so that a slow second slows both sides of a ratio;
the ratio of a pair is taken within a round, and the median over the rounds is reported.
"""

import gc
import time
from collections.abc import Callable, Mapping

import numpy as np

Times = dict[str, np.ndarray]  # name -> seconds per call, one per round

# A thread pool that spins after a call (OpenMP, BLAS: some 10 ms) would be charged to the next one.
SETTLE = 0.02
ROUNDS = (5, 200)  # of pytest-benchmark: at least, at most
SLICE = 2e-3  # a timed stretch lasts at least this long, many calls of a short one


def seconds(call: Callable, repeats: int = 1) -> float:
    """Seconds per call, over one timed stretch."""
    span = range(repeats)
    start = time.perf_counter()
    for _ in span:
        call()
    return (time.perf_counter() - start) / repeats


def benchmarked(benchmark, budget: float, call: Callable, size: int, **about):
    """What ``call`` returns, once pytest-benchmark has timed rounds of equal stretches until the budget is spent.

    The warm-up compiles what compiles. ``about`` and the time for each of ``size`` numbers are kept with the statistics.
    """
    repeats = repeats_for(call, stretch=min(1e-3, budget / 10))
    took = seconds(call, repeats) * repeats
    rounds = int(np.clip(budget / took, *ROUNDS))
    answer = benchmark.pedantic(call, rounds=rounds, iterations=repeats)
    benchmark.extra_info.update(about, logits=size)
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["ns_per_logit"] = 1e9 * benchmark.stats.stats.median / size
    return answer


def repeats_for(call: Callable, stretch: float = SLICE) -> int:
    """How many calls fill a stretch; warms the call up (compilation, pools, pages) on the way."""
    call()
    repeats = 1
    while (took := seconds(call, repeats) * repeats) < stretch / 2:
        repeats = max(2 * repeats, int(repeats * stretch / max(took, 1e-9) / 2))
    return max(1, round(repeats * stretch / took))


def interleaved(
    calls: Mapping[str, Callable],
    rounds: int,
    *,
    prepare: Callable | None = None,
    settle: float = SETTLE,
    stretch: float = SLICE,
) -> Times:
    """Time every call once a round.

    ``prepare`` runs untimed before each timed call, which is then made only once: for calls that
    overwrite their input. Otherwise an untimed stretch of its own goes before each timed one: after the
    pause a processor takes a millisecond to find its speed again.
    """
    repeats = dict.fromkeys(calls, 1)
    for name, call in calls.items():
        if prepare is None:
            repeats[name] = repeats_for(call, stretch)
        else:
            prepare()
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    gc_was_on = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in order:
                time.sleep(settle)
                if prepare:
                    prepare()
                else:
                    seconds(calls[name], repeats[name])
                times[name].append(seconds(calls[name], repeats[name]))
            order = order[1:] + order[:1]  # nobody is always second
    finally:
        if gc_was_on:
            gc.enable()
    return {name: np.array(values) for name, values in times.items()}


def ratio(times: Times, over: str, under: str) -> float:
    return float(np.median(times[over] / times[under]))


def medians(times: Times) -> dict[str, float]:
    return {name: float(np.median(values)) for name, values in times.items()}


def fastest(times: Times, among) -> str:
    """Of several calls, the one with the lowest median."""
    return min((name for name in among if name in times), key=lambda name: np.median(times[name]))
