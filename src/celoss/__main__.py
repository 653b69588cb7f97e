"""``python -m celoss``: what this installation is, whether it computes what it should, and how fast this machine is.

``--json`` prints the same for scripts. The exit status is 1 where a check has failed. ``python -m celoss perplexity`` is a
command of its own (`_perplexity`).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import celoss
from celoss import _config, _kernels, _perplexity, reference
from celoss._checks import FORMATS, FUNCTIONS, Example, arrays, examples, ulp_error

Array = NDArray[Any]

LOSS_DTYPE = {"float64": "float64", "float32": "float32", "float16": "float32", "bfloat16": "float32"}
# Where a number is rounded to infinity: half a unit beyond the largest.
INFINITE_FROM = {name: (2 - 2.0 ** -(bits + 1)) * 2.0 ** (1 - smallest) for name, (bits, smallest) in FORMATS.items()}

SHAPES = (32, 10), (4096, 100), (4096, 1000), (128, 32000)
SECONDS_A_SHAPE = 0.4


# --- checks --------------------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """One function, on one level and dtype, against the reference: over all inputs, where and how far it is off."""

    level: str
    dtype: str
    function: str
    worst_input: str
    ulp: float
    allowed: float
    error: str = ""

    @property
    def passed(self) -> bool:
        return self.ulp <= self.allowed


def dtypes() -> list[str]:
    """What logits are stored in. bfloat16 is a type of ml_dtypes, which celoss does not need."""
    try:
        import ml_dtypes  # noqa: F401
    except ImportError:
        return [name for name in FORMATS if name != "bfloat16"]
    return list(FORMATS)


def allowed_ulp(function: str, dtype: str) -> float:
    """How far a result may be off. The tests allow less in float64, since their truth has more digits than the reference.

    Its sums over a long row differ from those of celoss by up to 16 ulp. What is broken is off by far more.
    """
    if dtype != "float64":
        if function == "cross_entropy_hessp":  # 1e-6 of the terms that it is the difference of
            return 32.0
        return 3.0 if function.endswith("_hess") else 2.0
    # The terms of the gradient of the Brier score cancel, on both sides; those of the divergence are made of d = log q - log p.
    return 1000.0 if function == "brier_score_with_grad" or function.startswith("kl_divergence") else 64.0


# Logits under a cap are within 3 ulp of themselves. A loss of 1e-13, that of a row sure by 30, changes by some 40 ulp then.
ROUNDED_LOGITS = 64.0


def inputs() -> dict[str, tuple[Array, Array]]:
    """Scores and classes of rows that hurt: random normal scores alone prove little."""
    rng = np.random.default_rng(0)
    sure = rng.standard_normal((24, 100))
    sure[:, 7] += np.linspace(5, 30, 24)
    impossible = np.where(np.arange(12) % 3 == 0, -np.inf, rng.standard_normal((6, 12)))
    not_finite = rng.standard_normal((4, 20))
    not_finite[0, 3], not_finite[2, 0] = np.nan, np.inf
    return {
        "normal": (3 * rng.standard_normal((33, 10)), rng.integers(10, size=33)),
        "sure and right": (sure, np.full(24, 7)),
        "sure and wrong": (sure, np.full(24, 8)),
        "far apart": (30 * rng.standard_normal((8, 300)), rng.integers(300, size=8)),
        "offset +1000": (1000 + rng.standard_normal((8, 33)), rng.integers(33, size=8)),
        "all equal": (np.zeros((5, 17)), np.arange(5)),
        "one class": (rng.standard_normal((3, 1)), np.zeros(3, np.int64)),
        "impossible classes": (impossible, np.array([0, 1, 2, 3, 4, 5])),
        "NaN and inf": (not_finite, np.arange(4)),
        "a long row": (4 * rng.standard_normal((1, 40_000)), np.array([5])),
    }


def errors(found: tuple[Any, ...], expected: tuple[Any, ...], dtype: str, example: Example) -> Iterator[float]:
    """Of a result, or a loss and its derivatives. Where terms cancel, in ulp of what they may be: twice the largest result."""
    for place, (got, exact) in enumerate(zip(found, expected, strict=True)):
        is_loss = FUNCTIONS[example.function].is_loss and place == 0
        if isinstance(got, np.ndarray) and got.dtype.kind == "i":  # of whole numbers none may be another
            yield 0.0 if np.array_equal(got, exact) else math.inf
            continue
        # The terms of a loss have one sign, but for the Brier score's squares of differences.
        cancels = example.cancels and not (is_loss and "brier" not in example.function)
        largest = np.abs(exact, where=np.isfinite(exact), out=np.zeros(np.shape(exact))).max(initial=0)
        # A mean is a float, and as exact as the losses it is made of.
        precision = got.dtype if isinstance(got, np.ndarray) else LOSS_DTYPE[dtype]
        infinite = np.abs(exact) > INFINITE_FROM[np.dtype(precision).name]  # what goes back through softmax has no bound
        exact = np.where(infinite, np.copysign(np.inf, exact), exact)
        error = float(ulp_error(got, exact, precision, 2 * largest if cancels else None).max(initial=0))
        yield error / ROUNDED_LOGITS if example.rounds else error


def check(name: str) -> Iterator[Check]:
    """A function of celoss in every dtype, on every level that runs here, against the one of that name in the reference."""
    before = _kernels.level()
    levels = [level for level, runs in _kernels.levels() if runs]
    try:
        for dtype in dtypes():
            worst = {level: Check(level, dtype, name, "", 0.0, allowed_ulp(name, dtype)) for level in levels}
            for label, (scores, target) in inputs().items():
                for example in examples(name, arrays(scores.astype(dtype), target), singly=True):
                    x, *rest = example.arguments
                    expected = example._replace(arguments=(x.astype(np.float64), *rest)).results(reference)
                    for level in levels:
                        _kernels.use_level(level)
                        try:
                            with warnings.catch_warnings():
                                warnings.simplefilter("ignore")  # one class is met on purpose
                                found = example.results(celoss)
                            ulp, error = max(errors(found, expected, dtype, example)), ""
                        except Exception as exception:  # whatever it is, it is what this check has found
                            ulp, error = math.inf, f"{type(exception).__name__}: {exception}"
                        if ulp >= worst[level].ulp:
                            worst[level] = worst[level]._replace(worst_input=f"{label}: {example.label}", ulp=ulp, error=error)
            yield from worst.values()
    finally:
        _kernels.use_level(before)


# --- speed ---------------------------------------------------------------------------------------------------------


class Speed(NamedTuple):
    """Median seconds for the loss and gradient of float32 logits, and the larger error of the two in ulp."""

    rows: int
    classes: int
    celoss: float
    numpy: float
    copy: float
    celoss_ulp: float
    numpy_ulp: float


def plain_numpy(logits: Array, target: Array, out: Array, reduction: str = "mean") -> tuple[Any, Array]:
    """Cross-entropy and its gradient as they are usually written, in place where that can be done."""
    rows = np.arange(len(logits))
    share = np.float32(1 / len(logits) if reduction == "mean" else 1)
    np.subtract(logits, logits.max(axis=1, keepdims=True), out=out)
    at_target = out[rows, target]
    np.exp(out, out=out)
    total = out.sum(axis=1)
    out *= (share / total)[:, None]
    out[rows, target] -= share
    loss = np.log(total) - at_target
    return (loss.mean() if reduction == "mean" else loss), out


def measure(rows: int, classes: int) -> Speed:
    """Rounds in turn, so that other work on the machine meets all three alike.

    Every second row is predicted right with a lead of 5 to 30, as most rows are late in training.
    """
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((rows, classes), dtype=np.float32)
    target = rng.integers(classes, size=rows)
    logits[np.arange(0, rows, 2), target[::2]] += np.linspace(5, 30, rows // 2, dtype=np.float32)
    out = np.zeros_like(logits)

    calls: dict[str, Callable[[], Any]] = {
        "celoss": lambda: celoss.cross_entropy_with_grad(logits, target, out=out),
        "numpy": lambda: plain_numpy(logits, target, out),
        "copy": lambda: np.copyto(out, logits),
    }
    repeat = max(1, 20_000 // logits.size)  # a clock cannot time one small call
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = perf_counter() + SECONDS_A_SHAPE
    while not times["copy"] or perf_counter() < end:
        for name, call in calls.items():
            begin = perf_counter()
            for _ in range(repeat):
                call()
            times[name].append((perf_counter() - begin) / repeat)

    few = slice(None, None, logits.size // 100_000 | 1)  # an odd step: of both kinds of rows
    x, t = logits[few], target[few]
    exact = reference.cross_entropy_with_grad(x.astype(np.float64), t, reduction="none")
    found = (
        celoss.cross_entropy_with_grad(x, t, reduction="none"),
        plain_numpy(x, t, np.empty_like(x), reduction="none"),
    )
    errors = [max(float(ulp_error(a, b).max()) for a, b in zip(pair, exact, strict=True)) for pair in found]
    seconds = {name: median(values) for name, values in times.items()}
    return Speed(rows, classes, **seconds, celoss_ulp=errors[0], numpy_ulp=errors[1])


# --- output --------------------------------------------------------------------------------------------------------

CHECK_HEAD = [" " * max(map(len, FUNCTIONS)), *(name.rjust(8) for name in FORMATS)]
SPEED_HEAD = [
    "rows x classes", "   celoss", "    NumPy", "     copy", "NumPy / celoss", "celoss / copy", "celoss, ulp", "NumPy, ulp",
]  # fmt: skip


def line(cells: Sequence[str], head: Sequence[str]) -> str:
    """Columns as wide as their heads, the first to the left, all others to the right."""
    first, *others = (cell.rjust(len(title)) for cell, title in zip(cells, head, strict=False))
    return "  ".join([first.strip().ljust(len(head[0])), *others])


def check_line(checks: Sequence[Check]) -> str:
    """The largest errors of a function, of all levels."""
    largest = [max(found.ulp for found in checks if found.dtype == dtype) for dtype in dtypes()]
    return line([checks[0].function, *(f"{ulp:.3g}" for ulp in largest)], CHECK_HEAD)


def failures(checks: Sequence[Check]) -> Iterator[str]:
    failed = [found for found in checks if not found.passed]
    for found in failed:
        what = found.error or f"{found.ulp:.3g} ulp, {found.allowed:g} allowed"
        yield f"FAILED: {found.function}, {found.dtype}, level {found.level}, input '{found.worst_input}': {what}"
    yield f"{len(failed)} of {len(checks)} checks failed." if failed else f"All {len(checks)} checks passed."


def speed_line(s: Speed) -> str:
    times = [f"{1e6 * seconds:.1f}" for seconds in (s.celoss, s.numpy, s.copy)]
    ratios = [f"{s.numpy / s.celoss:.1f}", f"{s.celoss / s.copy:.1f}", f"{s.celoss_ulp:.2g}", f"{s.numpy_ulp:.2g}"]
    return line([f"{s.rows} x {s.classes}", *times, *ratios], SPEED_HEAD)


def finite(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: null says that an error has no size."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m celoss", description="Show, check and time this installation of celoss.")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for scripts")
    _perplexity.add_parser(parser.add_subparsers(title="commands", metavar="COMMAND"))
    options = parser.parse_args(arguments)
    if "run" in options:
        status: int = options.run(options)
        return status
    as_json = options.json

    def say(text: str) -> None:
        if not as_json:
            print(text, flush=True)  # each line as soon as it is known

    if not as_json:
        celoss.show_config()
    levels = ", ".join(name for name, runs in _kernels.levels() if runs)
    say(f"\nLargest error against celoss.reference in ulp, levels {levels}\n\n" + line(["", *dtypes()], CHECK_HEAD))
    checks: list[Check] = []
    for name in FUNCTIONS:
        found = list(check(name))
        checks += found
        say(check_line(found))
    say("\n" + "\n".join(failures(checks)))

    say(
        "\nLoss and gradient of float32 logits, in microseconds a call; copy is numpy.copyto of the same arrays\n\n"
        + line(SPEED_HEAD, SPEED_HEAD)
    )
    speeds = []
    for shape in SHAPES:
        speeds.append(measure(*shape))
        say(speed_line(speeds[-1]))

    passed = all(found.passed for found in checks)
    if as_json:
        record = {
            "config": _config.build_config(),
            "passed": passed,
            "checks": [finite({**found._asdict(), "passed": found.passed}) for found in checks],
            "speed": [finite(speed._asdict()) for speed in speeds],
        }
        print(json.dumps(record, indent=1, allow_nan=False))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
