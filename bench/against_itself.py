"""celoss against itself, in other shapes, dtypes and forms of the call: sections of ``targets``.

Where the gradient's own allocation is not the question, ``out=`` is preallocated on both sides.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from bench import cases, peers, timing
from bench.ratios import Row, Run, into_out, with_grad

CURVE, FLAT = {2: 5.0, 3: 5.0, 5: 3.0, 10: 2.0, 20: 1.5}, 1.25  # by classes, and for more of them
# Probabilities are a second array as large as the logits: three streams through memory in place of two.
OPTIONS = dict.fromkeys(("weight", "label_smoothing", "weight, label_smoothing", "ignore_index"), 1.1) | {"probabilities": 1.5}
# Of the time of loss and gradient. The diagonal is a second result to write; a product has a second array to read.
SECOND = {"with_grad_hess": 1.3, "hessp": 1.2}
# Of the plain call; and of the loss alone, which reads one array once.
LANGUAGE = {"z_loss": 1.05, "logit_scale": 1.05, "logit_softcap": 1.6}
NUMBERS = {"row_statistics": 1.3, "kl_divergence": 2.2}
IGNORED_SHARE = 0.1  # of the rows, in the comparison of ignore_index with the plain call


def curve(run: Run) -> Iterator[Row]:
    """What few classes cost: a vector of theirs is not full, and each row has a logarithm, an index and a loss."""
    most = replace(run, rounds=4 * run.rounds)  # short calls, all in one go
    times = most.time({str(case): into_out(case, n_threads=1) for case in cases.CURVE}, settle=0)
    *few, base = cases.CURVE
    for case in few:
        value = timing.ratio(times, str(case), str(base)) * base.size / case.size
        medians = timing.medians({str(c): times[str(c)] for c in (case, base)})
        what = f"{case}: time of a logit / that of {base}, one thread"
        yield Row(what, value, CURVE.get(case.classes, FLAT), seconds=medians)


def fresh(run: Run) -> Iterator[Row]:
    for case in cases.FRESH:
        logits, target = cases.make(case)
        call = with_grad(logits, target)
        times = run.time(
            {
                "out=": with_grad(logits, target, out=np.zeros_like(logits)),
                "fresh": call,
                "fresh, the last one still alive": keeping_last(call),
            }
        )
        for form in list(times)[1:]:
            yield run.compare(f"{case}: {form} / `out=`", times, form, "out=", 1.1)


def keeping_last(call: Callable) -> Callable:
    """As in a loop that assigns: each result lives until the next one is there."""
    last = []

    def keep():
        last[:] = [call()]

    return keep


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
                "weight, label_smoothing": with_grad(logits, target, out=out, weight=weight, label_smoothing=0.1),
                "ignore_index": with_grad(logits, some_ignored, out=out),
                "probabilities": with_grad(logits, cases.make_probabilities(case), out=out),
            }
        )
        for option, limit in OPTIONS.items():
            yield run.compare(f"{case}: {option} / plain", times, option, "plain", limit)


def second(run: Run) -> Iterator[Row]:
    """What second derivatives cost: each row on one thread and on all, every result in an array that the caller keeps."""
    for loss, shapes, make in (
        ("cross_entropy", cases.SECOND, cases.make),
        ("binary_cross_entropy", cases.SECOND_SCORES, cases.make_scores),
    ):
        for case in shapes:
            calls = derivatives(loss, *make(case), cases.make_vector(case))
            for threads, n_threads in {"one thread": 1, run.threads: None}.items():
                times = run.time({form: partial(call, n_threads=n_threads) for form, call in calls.items()})
                for form, limit in SECOND.items():
                    what = f"{case}, {threads}: {loss}_{form} / {loss}_with_grad"
                    yield run.compare(what, times, form, "with_grad", limit)


def derivatives(loss: str, logits: np.ndarray, target: np.ndarray, vector: np.ndarray) -> dict[str, Callable]:
    import celoss

    out, hess_out = np.zeros_like(logits), np.zeros_like(logits)
    return {
        "with_grad": partial(getattr(celoss, f"{loss}_with_grad"), logits, target, out=out),
        "with_grad_hess": partial(getattr(celoss, f"{loss}_with_grad_hess"), logits, target, out=out, hess_out=hess_out),
        "hessp": partial(getattr(celoss, f"{loss}_hessp"), logits, target, vector, out=out),
    }


def language(run: Run) -> Iterator[Row]:
    """The options of language models, and the numbers of a row; on one thread and on all."""
    import celoss

    for case in cases.LANGUAGE:
        logits, target = cases.make(case)
        out, other = np.zeros_like(logits), cases.make_vector(case)
        calls = {
            "plain": with_grad(logits, target, out=out),
            "z_loss": with_grad(logits, target, out=out, z_loss=1e-4),
            "logit_scale": with_grad(logits, target, out=out, logit_scale=0.7),
            "logit_softcap": with_grad(logits, target, out=out, logit_softcap=30.0),
            "loss alone": partial(celoss.cross_entropy, logits, target),
            "row_statistics": partial(celoss.row_statistics, logits, target),
            "kl_divergence": partial(celoss.kl_divergence, logits, other),
        }
        for threads, n_threads in {"one thread": 1, run.threads: None}.items():
            times = run.time({form: partial(call, n_threads=n_threads) for form, call in calls.items()})
            for form, limit in LANGUAGE.items():
                yield run.compare(f"{case}, {threads}: {form} / plain", times, form, "plain", limit)
            for form, limit in NUMBERS.items():
                yield run.compare(f"{case}, {threads}: {form} / loss alone", times, form, "loss alone", limit)


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


SECTIONS = (curve, fresh, dtypes, axis, options, second, language, training)
