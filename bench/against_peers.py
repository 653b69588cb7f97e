"""celoss against its peers: sections of ``targets``. Every call makes a fresh result, unless a row says ``out=``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bench import cases, peers, timing
from bench import family as functions
from bench import usual as calls
from bench.ratios import Row, Run

SPEEDUP = {  # all threads, one thread
    cases.FEW_CLASSES: (4.0, 2.2),
    cases.HUNDRED: (2.5, 1.7),
    cases.THOUSAND: (2.5, 1.7),
    cases.TOKENS: (4.0, 4.0),
    cases.VOCABULARY: (4.0, 4.0),
}


def against_peers(run: Run, case: cases.Case) -> timing.Times:
    logits, target = cases.make(case)
    runnable = [peer for peer in (peers.CELOSS, *run.peers) if not peer.missing]
    return run.time({peer.name: peer.make(logits, target, n_threads=run.n_threads) for peer in runnable})


def latency(run: Run) -> Iterator[Row]:
    times = against_peers(run, cases.SMALL)
    medians = timing.medians(times)
    what = f"call latency, {cases.SMALL}, all checks on"
    yield Row(what, 1e6 * medians["celoss"], 1.5, unit="µs", seconds=medians)
    rival = timing.fastest(times, [peer.name for peer in run.peers if peer.checks_target])
    what = f"{cases.SMALL}: fastest peer that checks its target ({rival}) / celoss"
    yield Row(what, timing.ratio(times, rival, "celoss"), 5, at_least=True, seconds=medians)


def usual(run: Run) -> Iterator[Row]:
    """The slowest usual call of small arrays as a multiple of the plain one; nothing but lists, of conversion and call."""
    for function in calls.FUNCTIONS:
        times = run.time(calls.calls(function), settle=0, stretch=5e-4)
        medians = timing.medians(times)
        ratios = {label: timing.ratio(times, label, calls.PLAIN) for label in times if label not in calls.OF_LISTS}
        slowest = max(ratios, key=lambda label: ratios[label])
        what = f"{function}, {cases.SMALL}, slowest usual call ({slowest}) / plain call"
        yield Row(what, ratios[slowest], 2, seconds=medians)
        what = f"{function}, {cases.SMALL}: lists / numpy.asarray of them and the call"
        yield Row(what, timing.ratio(times, *calls.OF_LISTS), 1, seconds=medians)


def speed(run: Run) -> Iterator[Row]:
    one = run.n_threads == 1
    for case, limits in SPEEDUP.items():
        times = against_peers(run, case)
        rival = timing.fastest(times, [peer.name for peer in run.peers])
        value = timing.ratio(times, rival, "celoss")
        what = f"{case}{', one thread' if one else ''}: fastest peer ({rival}) / celoss"
        yield Row(what, value, limits[one], at_least=True, seconds=timing.medians(times))


@contextmanager
def one_thread() -> Iterator[None]:
    import celoss

    before = celoss.get_num_threads()
    celoss.set_num_threads(1)
    try:
        yield
    finally:
        celoss.set_num_threads(before)


def family(run: Run) -> Iterator[Row]:
    """The functions beside cross-entropy; each side makes a fresh result, or with ``out=`` each side keeps it."""
    run = replace(run, rounds=(run.rounds + 1) // 2)  # a hundred comparisons
    for function in functions.FUNCTIONS:
        own, scipy = (function.runnable().get(name) for name in ("celoss", "SciPy"))
        if scipy and function.name in ("softmax", "log_softmax"):
            arrays = function.data(cases.THOUSAND)
            with one_thread():
                times = run.time({peer.name: peer.make(*arrays) for peer in (own, scipy)})
            what = f"{function}, {cases.THOUSAND}, one thread: SciPy / celoss"
            yield Row(what, timing.ratio(times, "SciPy", "celoss"), 3, at_least=True, seconds=timing.medians(times))
    for function in functions.FUNCTIONS:
        for case in function.shapes:
            arrays = function.data(case)
            for kept in (False, True):
                found = function.runnable(kept)
                if len(found) < 2:
                    continue
                own, *rivals = found
                times = run.time({name: peer.make(*arrays, n_threads=run.n_threads) for name, peer in found.items()})
                rival = timing.fastest(times, rivals)
                what = f"{function}, {case}, {run.threads}: {rival} / {own}"
                yield Row(what, timing.ratio(times, rival, own), 1, at_least=True, seconds=timing.medians(times))


SECTIONS = (latency, usual, speed, family)
