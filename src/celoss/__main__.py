"""``python -m celoss``: what this installation is, whether it computes what it should, and how fast this machine is.

Imports the public names of celoss, and of the kernels only what tells and chooses the level. ``--json`` prints the same
for scripts. The exit status is 1 where a check has failed.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import celoss
from celoss import _config, _kernels, reference
from celoss._checks import FORMATS, ulp_error

Array = NDArray[Any]

LOSS_DTYPE = {"float64": "float64", "float32": "float32", "float16": "float32", "bfloat16": "float32"}

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
    """How far a result may be off. The tests allow less in float64; they compare with more digits than the reference has.

    What is broken is off by far more.
    """
    if dtype != "float64":
        return 2.0
    return 1000.0 if function == "brier_score_with_grad" else 16.0  # the terms of that gradient cancel, on both sides


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


def arguments(function: Callable[..., Any], x: Array, target: Array) -> Iterator[tuple[tuple[Array, ...], dict[str, Any]]]:
    """What to call a function with, as far as its signature goes: plainly, then with options."""
    takes = inspect.signature(function).parameters
    if "target" not in takes:
        yield (x,), {}
        return
    options: dict[str, Any] = {"reduction": "none"}
    if "axis" not in takes:  # a label for each score
        target = (np.arange(x.size) % 3 == 0).reshape(x.shape)
        if "weight" in takes:
            options["weight"] = np.linspace(0.5, 2, x.shape[-1])
    else:
        options |= {"axis": 0, "sample_weight": np.linspace(0.5, 2, len(x)), "ignore_index": int(target[-1])}
        if "weight" in takes:
            options["weight"] = np.linspace(2, 0.5, x.shape[-1])
    yield (x, target), {"reduction": "none"}
    yield (x, target), {}
    yield (x.T if "axis" in takes else x, target), options


def as_tuple(result: Any) -> tuple[Any, ...]:
    """The loss alone as a tuple, too."""
    return result if isinstance(result, tuple) else (result,)


def check(name: str, dtype: str, levels: Sequence[str]) -> list[Check]:
    """One function of celoss on every level against the one of the same name in `celoss.reference`."""
    function, oracle, allowed = getattr(celoss, name), getattr(reference, name), allowed_ulp(name, dtype)
    worst = {level: Check(level, dtype, name, "", 0.0, allowed) for level in levels}
    for label, (scores, target) in inputs().items():
        for (x, *rest), options in arguments(oracle, scores.astype(dtype), target):
            expected = as_tuple(oracle(x.astype(np.float64), *rest, **options))
            for level in levels:
                _kernels.use_level(level)
                try:
                    found = as_tuple(function(x, *rest, **options))
                    # A mean is a float, and as exact as the losses it is made of.
                    kinds = [part.dtype if isinstance(part, np.ndarray) else LOSS_DTYPE[dtype] for part in found]
                    distance = max(float(ulp_error(*parts).max(initial=0)) for parts in zip(found, expected, kinds, strict=True))
                    error = ""
                except Exception as exception:  # whatever it is, it is what this check has found
                    distance, error = math.inf, f"{type(exception).__name__}: {exception}"
                if distance >= worst[level].ulp:
                    worst[level] = Check(level, dtype, name, label, distance, allowed, error)
    return list(worst.values())


def check_all(step: Callable[[str], None]) -> list[Check]:
    """Every function on every dtype and every level that this machine runs; `step` is told what is done."""
    before = _kernels.level()
    levels = [name for name, runs in _kernels.levels() if runs]
    found = []
    try:
        for dtype in dtypes():
            for name in reference.__all__:
                found += check(name, dtype, levels)
                step(f"{name}, {dtype}")
    finally:
        _kernels.use_level(before)
    return found


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


class Progress:
    """A bar on the terminal: tqdm's where it is installed. None where standard error is a file, or `shown` is false."""

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.done, self.tqdm = total, 0, None
        self.shown = shown and sys.stderr.isatty()
        if self.shown:
            try:
                from tqdm import tqdm

                self.tqdm = tqdm(total=total, leave=False, bar_format="{l_bar}{bar:30}| {n_fmt}/{total_fmt}{postfix}")
            except ImportError:
                pass

    def step(self, text: str) -> None:
        self.done += 1
        if self.tqdm is not None:
            self.tqdm.set_postfix_str(text, refresh=False)
            self.tqdm.update()
        elif self.shown:
            filled = 30 * self.done // self.total
            print(f"\r|{'#' * filled:<30}| {self.done}/{self.total}, {text:<45.45}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.tqdm is not None:
            self.tqdm.close()
        elif self.shown:
            print(f"\r{'':<90}\r", end="", file=sys.stderr, flush=True)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need, the first to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))])
        for line in (head, *lines)
    )


def report_checks(checks: Sequence[Check]) -> str:
    """The worst error of all levels, by function and dtype; then every check that has failed."""
    used = list(dict.fromkeys(check.dtype for check in checks))
    levels = ", ".join(dict.fromkeys(check.level for check in checks))
    cells: dict[tuple[str, str], float] = {}
    for found in checks:
        cells[found.function, found.dtype] = max(found.ulp, cells.get((found.function, found.dtype), 0.0))
    lines = [[name, *(f"{cells[name, dtype]:.3g}" for dtype in used)] for name in dict.fromkeys(c.function for c in checks)]
    text = f"Largest error against celoss.reference in ulp, levels {levels}\n\n{table(['', *used], lines)}\n"
    for found in checks:
        if not found.passed:
            what = found.error or f"{found.ulp:.3g} ulp, {found.allowed:g} allowed"
            text += f"\nFAILED: {found.function}, {found.dtype}, level {found.level}, input '{found.worst_input}': {what}"
    failed = sum(not found.passed for found in checks)
    return text + (f"\n{failed} of {len(checks)} checks failed." if failed else f"\nAll {len(checks)} checks passed.")


def report_speed(speeds: Sequence[Speed]) -> str:
    lines = [
        [
            f"{s.rows} x {s.classes}",
            *(f"{1e6 * seconds:.1f}" for seconds in (s.celoss, s.numpy, s.copy)),
            f"{s.numpy / s.celoss:.1f}",
            f"{s.celoss / s.copy:.1f}",
            f"{s.celoss_ulp:.2g}",
            f"{s.numpy_ulp:.2g}",
        ]
        for s in speeds
    ]
    head = ["rows x classes", "celoss", "NumPy", "copy", "NumPy / celoss", "celoss / copy", "celoss, ulp", "NumPy, ulp"]
    return (
        "Loss and gradient of float32 logits, in microseconds a call; copy is numpy.copyto of the same arrays\n\n"
        f"{table(head, lines)}"
    )


def finite(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: null says that an error has no size."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m celoss", description="Show, check and time this installation of celoss.")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for scripts")
    options = parser.parse_args(arguments)

    if not options.json:
        celoss.show_config()
        print(flush=True)
    progress = Progress(len(dtypes()) * len(reference.__all__) + len(SHAPES), shown=not options.json)
    try:
        checks = check_all(progress.step)
        speeds = []
        for rows, classes in SHAPES:
            speeds.append(measure(rows, classes))
            progress.step(f"{rows} x {classes}")
    finally:
        progress.close()

    passed = all(found.passed for found in checks)
    if options.json:
        found = {
            "config": _config.build_config(),
            "passed": passed,
            "checks": [finite({**found._asdict(), "passed": found.passed}) for found in checks],
            "speed": [finite(speed._asdict()) for speed in speeds],
        }
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        print(report_checks(checks), report_speed(speeds), sep="\n\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
