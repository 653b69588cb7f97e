"""The ratios that the project set itself to reach, each measured in one process by interleaved rounds.

``python -m bench.targets`` prints "what | target | reached | yes/no"; ``--json PATH`` also writes
every median; ``--only speed memory`` measures some sections, named as the functions below.

Large means ``cases.LARGE``. Where the gradient's own allocation is not the question, ``out=`` is
preallocated on both sides. Sections that need a state of their own (memory, ISA levels) run in
fresh processes.
"""

import argparse
import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from multiprocessing import get_context

import numpy as np

from bench import accuracy, cases, limits, machine, peers, timing
from bench import family as functions
from bench import usual as calls

SPEEDUP = {
    cases.FEW_CLASSES: 4.0,
    cases.HUNDRED: 2.5,
    cases.THOUSAND: 2.5,
    cases.TOKENS: 4.0,
    cases.VOCABULARY: 4.0,
}
ULP = {"float32": (1, 2), "float64": (2, 4), "float16": (1, 0.501), "bfloat16": (1, 0.501)}
IGNORED_SHARE = 0.1  # of the rows, in the comparison of ignore_index with the plain call
MIB = 2**20


@dataclass
class Row:
    """One line of the table: a value and the limit that it must not pass."""

    what: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False
    seconds: dict[str, float] = field(default_factory=dict)  # medians behind the value

    @property
    def reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def markdown(self) -> str:
        sign, unit = "≥" if self.at_least else "≤", f" {self.unit}".rstrip()
        verdict = "yes" if self.reached else "**no**"
        return f"| {self.what} | {sign} {self.limit:g}{unit} | {self.value:.4g}{unit} | {verdict} |"


@dataclass(frozen=True)
class Run:
    """How much to measure."""

    n_threads: int
    rounds: int
    peers: tuple[peers.Peer, ...]

    def compare(self, what, times, over, under, limit) -> Row:
        """A row for the time of ``over`` as a multiple of the time of ``under``."""
        value = timing.ratio(times, over, under)
        return Row(what, value, limit, seconds=timing.medians(times))

    def time(self, calls: dict[str, Callable], **how) -> timing.Times:
        return timing.interleaved(calls, self.rounds, **how)


def with_grad(logits, target, **options) -> Callable:
    from celoss import cross_entropy_with_grad

    return partial(cross_entropy_with_grad, logits, target, **options)


def into_out(case: cases.Case, **options) -> Callable:
    logits, target = cases.make(case)
    return with_grad(logits, target, out=np.zeros_like(logits), axis=case.axis, **options)


# --- against the peers -------------------------------------------------------------------------


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
        yield Row(f"{function}, {cases.SMALL}, slowest usual call ({slowest}) / plain call", ratios[slowest], 2, seconds=medians)
        what = f"{function}, {cases.SMALL}: lists / numpy.asarray of them and the call"
        yield Row(what, timing.ratio(times, *calls.OF_LISTS), 1, seconds=medians)


def speed(run: Run) -> Iterator[Row]:
    for case, limit in SPEEDUP.items():
        times = against_peers(run, case)
        rival = timing.fastest(times, [peer.name for peer in run.peers])
        value = timing.ratio(times, rival, "celoss")
        what = f"{case}: fastest peer ({rival}) / celoss"
        yield Row(what, value, limit, at_least=True, seconds=timing.medians(times))


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
    for function in (functions.SOFTMAX, functions.LOG_SOFTMAX):
        own, scipy = (function.runnable().get(name) for name in ("celoss", "SciPy"))
        if scipy:
            x, _ = function.data(cases.THOUSAND)
            with one_thread():
                times = run.time({peer.name: peer.make(x, None) for peer in (own, scipy)})
            what = f"{function}, {cases.THOUSAND}, one thread: SciPy / celoss"
            yield Row(what, timing.ratio(times, "SciPy", "celoss"), 3, at_least=True, seconds=timing.medians(times))
    for function in functions.FUNCTIONS:
        for case in function.shapes:
            x, target = function.data(case)
            for kept in (False, True):
                found = function.runnable(kept)
                if len(found) < 2:
                    continue
                own, *rivals = found
                times = run.time({name: peer.make(x, target, n_threads=run.n_threads) for name, peer in found.items()})
                rival = timing.fastest(times, rivals)
                what = f"{function}, {case}, {'one thread' if run.n_threads == 1 else 'all threads'}: {rival} / {own}"
                yield Row(what, timing.ratio(times, rival, own), 1, at_least=True, seconds=timing.medians(times))


# --- against the memory ------------------------------------------------------------------------


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
        yield run.compare(what, times, "celoss", "multiply", 1.25)


def loss_only(run: Run) -> Iterator[Row]:
    from celoss import cross_entropy

    for case in cases.LARGE:
        logits, target = cases.make(case)
        reads = limits.reads_split(logits, run.n_threads)
        times = run.time({"celoss": partial(cross_entropy, logits, target), **reads})
        read = timing.fastest(times, reads)
        yield run.compare(f"{case}: loss only / read, split", times, "celoss", read, 1.25)


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


# --- against itself ----------------------------------------------------------------------------


def dtypes(run: Run) -> Iterator[Row]:
    allowed = {"float64": 3.0, "float16": 1.0, "bfloat16": 1.0}
    for case in cases.DTYPES:
        times = run.time({name: into_out(case.like(name)) for name in ("float32", *allowed)})
        for name, limit in allowed.items():
            yield run.compare(f"{case}: {name} / float32", times, name, "float32", limit)


def axis(run: Run) -> Iterator[Row]:
    for case in cases.AXIS_1:
        times = run.time({"axis": into_out(case), "last": into_out(case.class_last)})
        what = f"{case}: / {case.class_last} with the classes last"
        yield run.compare(what, times, "axis", "last", 1.5)


def options(run: Run) -> Iterator[Row]:
    for case in cases.OPTIONS:
        logits, target = cases.make(case)
        out = np.zeros_like(logits)
        some_ignored = target.copy()
        some_ignored[:: round(1 / IGNORED_SHARE)] = cases.IGNORE_INDEX
        weight = np.linspace(0.5, 1.5, case.classes, dtype=np.float32)
        times = run.time(
            {
                "plain": with_grad(logits, target, out=out),
                "weight": with_grad(logits, target, out=out, weight=weight),
                "label_smoothing": with_grad(logits, target, out=out, label_smoothing=0.1),
                "ignore_index": with_grad(logits, some_ignored, out=out),
            }
        )
        for option in ("weight", "label_smoothing", "ignore_index"):
            yield run.compare(f"{case}: {option} / plain", times, option, "plain", 1.1)


# --- in a training loop ------------------------------------------------------------------------


def training_steps(batch: int, features: int, classes: int, losses: dict[str, Callable]) -> dict[str, Callable]:
    """``matmul`` -> loss -> ``matmul``: the BLAS threads still spin when the loss begins.

    All losses work in the same arrays: where an array lies in memory shows in the time of a matmul.
    """
    case = cases.Case((batch, classes))
    inputs = cases.make_logits(cases.Case((batch, features)), sigma=1.0)
    weights = cases.make_logits(cases.Case((features, classes)), sigma=features**-0.5)
    target = cases.make_target(case)
    logits, update = np.empty(case.shape, np.float32), np.empty_like(weights)

    def step(gradient):
        np.matmul(inputs, weights, out=logits)
        _, grad = gradient()
        np.matmul(inputs.T, grad, out=update)

    return {name: partial(step, loss(logits, target)) for name, loss in losses.items()}


def training(run: Run) -> Iterator[Row]:
    """Default threads against one; a fork-join loss (OpenMP) beside them, to show the trap."""
    losses = {
        "celoss, all": lambda logits, target: with_grad(logits, target, out=logits),
        "celoss, 1": lambda logits, target: with_grad(logits, target, out=logits, n_threads=1),
    }
    if not peers.SKLEARN.missing:
        for name, n_threads in {"all": run.n_threads, "1": 1}.items():
            losses[f"scikit-learn (OpenMP), {name}"] = partial(peers.make_sklearn, n_threads=n_threads)
    for sizes in cases.TRAINING:
        times = run.time(training_steps(*sizes, losses), stretch=0.03)  # many steps on end, as a loop has them
        what = f"training step {'x'.join(map(str, sizes))}: default threads / n_threads=1"
        yield run.compare(what, times, "celoss, all", "celoss, 1", 1.05)


# --- in fresh processes ------------------------------------------------------------------------


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


SECTIONS = {
    section.__name__: section
    for section in (
        latency, usual, speed, family, out, in_place, loss_only, ignored, dtypes, axis, options, training, memory,
        levels, exactness,
    )
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", choices=("1", "all"), default="all")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="3 rounds, and no torch.compile")
    parser.add_argument("--json", metavar="PATH")
    given = parser.parse_args()

    n_threads = machine.use_threads(given.threads)
    config = machine.record(n_threads)  # refuses a build that is not Release
    chosen = tuple(peer for peer in peers.OTHERS if not (given.quick and peer.compiles))
    run = Run(n_threads, rounds=3 if given.quick else 15, peers=chosen)

    print(f"{n_threads} thread(s), level {config['celoss']['level']}, {run.rounds} rounds\n")
    print("| what | target | reached | |\n|---|---|---|---|")
    rows = []
    for name in given.only:
        for row in SECTIONS[name](run):
            print(row.markdown(), flush=True)
            rows.append({"section": name, "reached": row.reached, **asdict(row)})
    print(f"\n{sum(row['reached'] for row in rows)} of {len(rows)} reached")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"machine": config, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
