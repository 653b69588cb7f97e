"""The functions that the operations are made of, as the tests see them: where each is defined, what it returns, its stated error.

A function has up to four arguments (see `Probe` in src/simd/contract.h) and returns value and rounding error. Its name with
"+error" means their sum; of one that returns two results, ".log" and ".inverse" name them. Errors are in ulp of the exact value.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mpmath
import numpy as np
from truth import real

import celoss
from celoss import _kernels

ROOT = Path(__file__).resolve().parents[1]
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
HEADROOM = {F32: 32, F64: 64}  # e is 2^headroom exp(x - m) times the row's factor
UNSHIFTED = {F32: 256.0, F64: 1536.0}
LOWEST = {F32: -109.0, F64: -752.0}  # exp(x - m) 2^headroom is a normal number from here on
WITH_ERROR = {F32: -91.0, F64: -715.0}  # and so is its rounding error from here on
FAR = {F32: 87.336, F64: 708.39}  # exp(-z) is a normal number up to here
LEAST_LEFT_OUT = -512.0  # the class left out of a row is not exponentiated from further below its maximum


# ---- truth: in float64 for float32, in long double for float64, and in as many digits as wanted with mpmath -----------------


def wider(x):
    return x.astype(np.float64 if x.dtype == F32 else real)


def row_factor(m):
    """shift and n of rows whose maximum is m: the exponential is exp(x - shift) 2^(headroom - n)."""
    m = m[:1] if m.strides == (0,) else m  # all the same row
    near = np.abs(m) < UNSHIFTED[m.dtype]
    return np.where(near, 0, m), np.where(near, np.rint(m.astype(real) * np.log2(np.exp(real(1)))), 0).astype(int)


def exact_exp(x, m, *_):
    shift, n = row_factor(m)
    return np.exp(wider(x) - wider(shift)) * np.exp2(wider(np.asarray(HEADROOM[x.dtype] - n, x.dtype)))


def exact_log1p_of_exp(x, *_):
    return np.log1p(np.exp(-np.abs(wider(x)))) * 2.0 ** HEADROOM[x.dtype]


def exact_less_likely(x, *_):
    e = np.exp(-np.abs(wider(x)))
    return e / (1 + e) * 2.0 ** HEADROOM[x.dtype]


def exact_tanh(x, *_):
    return np.tanh(wider(x))


def exact_slope_of_tanh(x, *_):
    e = np.exp(-2 * np.abs(wider(x)))
    return 4 * e / (1 + e) ** 2


def exact_sigmoid(x, *_):
    e = np.exp(-np.abs(wider(x)))
    return np.where(x < 0, e, 1) / (1 + e)


def exact_log_sigmoid(x, *_):
    return np.minimum(wider(x), 0) - np.log1p(np.exp(-np.abs(wider(x))))


def exact_exp_of_maximum(m, *_):
    """Times the kernel's own power of two: of two that are as near, each level may take another."""
    e = np.exp(wider(m) - wider(row_factor(m)[0]))
    return np.ldexp(e, np.rint(np.log2(wider(_kernels.probe("exp_of_maximum", m)[0]) / e)).astype(int))


def exact_exp_in_row(a, steps, *_):
    return np.ldexp(np.exp(wider(a)), HEADROOM[F64] - steps.astype(int))


def exact_log1p_ratio(rest, unit, rest_low, unit_low):
    return np.log1p((wider(rest) + rest_low) / (wider(unit) + unit_low))


def exact_inverse(others, e, *_):
    return 1 / (wider(others) + e)


def exact_exp_to_39_bits(d, *_):
    return np.exp(wider(d))


def exact_exp_with_error(d, low, *_):
    return np.exp(wider(d)) * (1 + wider(low)) * 2.0**64


def digits_of(function):
    """The same with mpmath, for one float64 argument at a time, in about 40 digits."""
    exp, log1p, mpf = mpmath.exp, mpmath.log1p, mpmath.mpf

    def of_exp(x, m, *_):
        shift, n = row_factor(np.array([m]))
        return mpmath.ldexp(exp(mpf(x) - mpf(float(shift[0]))), HEADROOM[F64] - int(n[0]))

    forms = {
        "exp": of_exp,
        "log1p_of_exp": lambda x, *_: mpmath.ldexp(log1p(exp(-abs(mpf(x)))), 64),
        "less_likely": lambda x, *_: mpmath.ldexp(1 / (1 + exp(abs(mpf(x)))), 64),
        "sigmoid": lambda x, *_: 1 / (1 + exp(-mpf(x))),
        "log_sigmoid": lambda x, *_: -log1p(exp(-mpf(x))),
        "exp_of_maximum": lambda m, *_: of_exp(m, m),
        "exp_in_row": lambda a, steps, *_: mpmath.ldexp(exp(mpf(a)), HEADROOM[F64] - int(steps)),
        "log1p_ratio": lambda r, u, rl, ul: log1p((mpf(r) + mpf(rl)) / (mpf(u) + mpf(ul))),
        "log_and_inverse.log": lambda others, e, *_: log1p(mpf(others) / mpf(e)),
        "log_and_inverse.inverse": lambda others, e, *_: 1 / (mpf(others) + mpf(e)),
        "tanh": lambda x, *_: mpmath.tanh(mpf(x)),
        "tanh.slope": lambda x, *_: mpmath.sech(mpf(x)) ** 2,
        "exp_to_39_bits": lambda d, *_: exp(mpf(d)),
        "exp_with_error": lambda d, low, *_: mpmath.ldexp(exp(mpf(d) + mpf(low)), 64),
    }
    form = forms[function.kernel.removesuffix("_exact")]

    def exact(*arguments):
        with mpmath.workprec(160):
            return np.array([as_real(form(*map(float, each))) for each in zip(*arguments, strict=True)])

    return exact


def as_real(value):
    """An mpmath number as long double, in two parts so that it has all of its bits."""
    high = float(value) if abs(value) > 1e-290 else float(mpmath.ldexp(value, 300))
    if abs(value) > 1e-290:
        return real(high) + real(float(value - mpmath.mpf(high)))
    return np.ldexp(real(high) + real(float(mpmath.ldexp(value, 300) - mpmath.mpf(high))), -300)


# ---- inputs ----------------------------------------------------------------------------------------------------------------


def ordinal(x, dtype):
    """The place of x among the numbers of dtype in ascending order; -0 and 0 share place 0."""
    bits = int(np.asarray(x, dtype).view(f"i{dtype.itemsize}"))
    return bits if bits >= 0 else -(bits & (2 ** (8 * dtype.itemsize - 1) - 1))


def at_ordinal(k, dtype):
    sign = np.int64(-1) << (8 * dtype.itemsize - 1)
    return np.where(k < 0, sign - k, k).astype(f"i{dtype.itemsize}").view(dtype)


def strided(low, high, step, dtype, chunk=1 << 14):
    """Every step-th number of dtype from low to high, in chunks; the ends always."""
    first, last = ordinal(low, dtype), ordinal(high, dtype)
    for start in range(first, last + 1, chunk * step):
        yield at_ordinal(np.arange(start, min(last + 1, start + chunk * step), step), dtype)
    yield np.array([low, high], dtype)


def random(low, high, n, dtype, rng):
    """n numbers between low and high: half of them by their bit patterns, half of them by their values."""
    patterns = at_ordinal(rng.integers(ordinal(low, dtype), ordinal(high, dtype), n - n // 2, endpoint=True), dtype)
    return np.concatenate([patterns, np.clip(rng.uniform(low, high, n // 2).astype(dtype), low, high)])


def rows(dtype, lowest, share=1.0):
    """(maximum, lowest x, highest x) of rows that between them see every x that a row near the origin can have.

    share: each is asked for so much of its x only; 0.75 is enough to leave none out.
    """
    reach, top = -lowest[dtype], UNSHIFTED[dtype] - 0.25
    maxima = [*np.arange(top, -top, -0.75 * reach), *([0.0] if share == 1.0 else [])]
    return [(float(m), m - share * reach, float(m)) for m in maxima] + [(-top, -top - reach, -top)]


def rest_and_unit(n, rng):
    """Sums and units of rows of either dtype, and rounding errors of theirs."""
    unit = np.ldexp(rng.uniform(0.7072, 1.4142, n), rng.choice([32, 64], n))
    exponent = rng.choice([-1020, -300, -60, -4, -1], n)
    ratio = np.exp2(rng.uniform(exponent, np.where(exponent > -10, -exponent, 40)))
    rest = np.maximum(unit * ratio, np.finfo(F64).tiny * unit)
    low = rng.uniform(-0.5, 0.5, (2, n))
    return rest, unit, np.spacing(rest) * low[0], np.spacing(unit) * low[1]


def others_and_left_out(n, rng):
    """Sums of a row's exponentials but one, and that one: the maximum, or any beside others that have the maximum."""
    maximum, others = np.ldexp(rng.uniform(0.7072, 1.4142, (2, n)), HEADROOM[F32])
    exponent = rng.choice([-158, -40, -4, -1], n)
    beside = others * np.exp2(rng.uniform(exponent, np.where(exponent > -40, -exponent, 33)))
    below = maximum * np.exp(rng.uniform(LEAST_LEFT_OUT, 0, n))
    left_out_is_maximum = rng.random(n) < 0.5
    more = others * np.exp2(rng.uniform(0, 33, n))
    return np.where(left_out_is_maximum, beside, more), np.where(left_out_is_maximum, maximum, below), np.zeros(n), np.zeros(n)


def steps_of_rows(a):
    """The powers of two that rows take out whose maximum is 0 to 512 above a."""
    most = UNSHIFTED[F64]
    maximum = np.clip(a + np.resize([0.0, 1.0, 100.0, -LEAST_LEFT_OUT], a.shape), -most, most)
    return np.rint(maximum * np.log2(np.exp(1.0)))


class Function(NamedTuple):
    kernel: str  # "exp": of _kernels.probe; "sigmoid": of celoss
    exact: Callable
    with_error: bool = False
    low_arguments: bool = False  # takes rounding errors of its arguments
    lowest: dict | None = None  # of x - m; two arguments x and m
    interval: dict | None = None  # dtype -> (low, high) of its one argument
    inputs: Callable = rest_and_unit  # of one that has neither: n of them

    @property
    def dtypes(self):
        return [F32, F64] if self.lowest or (self.interval and F32 in self.interval) else [F64]

    def __call__(self, *arguments):
        """The result in the wider precision."""
        if self.kernel in ("sigmoid", "log_sigmoid"):
            return wider(getattr(celoss, self.kernel)(arguments[0]))
        kernel, _, result = self.kernel.partition(".")
        value, error = _kernels.probe(kernel, *(arguments if self.low_arguments else arguments[:2]))
        if result in ("inverse", "slope"):
            return wider(error)
        return wider(value) + error if self.with_error else wider(value)

    def error(self, *arguments, exact=None):
        """Errors in ulp of the exact value."""
        exact = (exact or self.exact)(*arguments)
        error = np.abs(self(*arguments) - exact)
        if arguments[0].dtype == F32:  # the ulp, by the exponent's bits: this is done for every float32
            return error / ((exact.view(np.int64) & (0x7FF << 52)) - (23 << 52)).view(np.float64)
        _, exponent = np.frexp(exact)
        return np.ldexp(error, np.finfo(F64).nmant + 1 - exponent)

    def arguments(self, x):
        """All arguments of a function of one number; a second one follows from it."""
        second = {
            "exp_in_row": lambda: steps_of_rows(x),
            "exp_with_error": lambda: 0.375 * np.spacing(x),  # the rounding error
        }
        return full(x, second[self.kernel]() if self.kernel in second else 0)

    def sample(self, n, dtype, rng):
        """About n inputs at random: tuples of four argument arrays."""
        if self.lowest:
            return [
                full(random(low, high, n // len(rows(dtype, self.lowest)), dtype, rng), m)
                for m, low, high in rows(dtype, self.lowest)
            ] + [far_row(m, n // 8, self.lowest[dtype], dtype, rng) for m in (1e4, -3e6)]
        if self.interval:
            return [self.arguments(random(*self.interval[dtype], n, dtype, rng))]
        rest, unit, rest_low, unit_low = self.inputs(n, rng)
        keep = 1.0 if self.low_arguments else 0.0
        return [(rest, unit, keep * rest_low, keep * unit_low)]

    def every(self, step, dtype):
        """Every step-th input of a function of one number (exp: of every x, in one of the rows that can have it)."""
        if self.lowest:
            for m, low, high in rows(dtype, self.lowest, share=0.75):
                for x in strided(low, high, step, dtype):
                    yield full(x, m)
        elif self.interval:
            for x in strided(*self.interval[dtype], step, dtype):
                yield full(x, 0)


def full(x, y):
    zero = np.zeros_like(x)
    return x, np.broadcast_to(np.asarray(y, x.dtype), x.shape), zero, zero


def far_row(m, n, lowest, dtype, rng):
    """A row so far from the origin that its maximum is subtracted (exactly, where the exponential is not 0)."""
    x = (dtype.type(m) + rng.uniform(lowest, 0, n)).astype(dtype)
    return full(x[x.astype(real) - m >= lowest], m)


UNSHIFTED_ROWS = {dtype: (-most, most) for dtype, most in UNSHIFTED.items()}
OF_TANH = {F32: (-43.6, 43.6), F64: (-354.0, 354.0)}  # where its slope is made of normal numbers
OF_MAGNITUDE = {dtype: (0.0, FAR[dtype]) for dtype in FAR}  # functions of |x|

FUNCTIONS = {
    "exp": Function("exp", exact_exp, lowest=LOWEST),
    "exp+error": Function("exp", exact_exp, with_error=True, lowest=WITH_ERROR),
    "exp_of_maximum+error": Function(
        "exp_of_maximum",
        exact_exp_of_maximum,
        with_error=True,
        interval=UNSHIFTED_ROWS,
    ),
    "exp_in_row+error": Function(
        "exp_in_row", exact_exp_in_row, with_error=True, interval={F64: (LEAST_LEFT_OUT - UNSHIFTED[F64], UNSHIFTED[F64])}
    ),
    "log1p_ratio": Function("log1p_ratio", exact_log1p_ratio),
    "log1p_ratio_exact+error": Function("log1p_ratio_exact", exact_log1p_ratio, with_error=True, low_arguments=True),
    "log_and_inverse.log": Function("log_and_inverse.log", exact_log1p_ratio, inputs=others_and_left_out),
    "log_and_inverse.inverse": Function("log_and_inverse.inverse", exact_inverse, inputs=others_and_left_out),
    "exp_to_39_bits": Function("exp_to_39_bits", exact_exp_to_39_bits, interval={F64: (-700.0, 0.0)}),
    "exp_with_error+error": Function(
        "exp_with_error", exact_exp_with_error, with_error=True, interval={F64: (WITH_ERROR[F64], 0.0)}
    ),
    "log1p_of_exp+error": Function("log1p_of_exp", exact_log1p_of_exp, with_error=True, interval=OF_MAGNITUDE),
    "less_likely+error": Function("less_likely", exact_less_likely, with_error=True, interval=OF_MAGNITUDE),
    "tanh": Function("tanh", exact_tanh, interval=OF_TANH),
    "tanh.slope": Function("tanh.slope", exact_slope_of_tanh, interval=OF_TANH),
    "sigmoid": Function("sigmoid", exact_sigmoid, interval={F32: (-FAR[F32], 20.0), F64: (-FAR[F64], 40.0)}),
    "log_sigmoid": Function("log_sigmoid", exact_log_sigmoid, interval={F32: (-128.0, FAR[F32]), F64: (-1024.0, FAR[F64])}),
}
CASES = [(name, dtype) for name, function in FUNCTIONS.items() for dtype in function.dtypes]


# ---- what the sources and the documentation state --------------------------------------------------------------------------


class Stated(NamedTuple):
    ulp: str  # as it is written
    worst: tuple[float, ...]


HEX = r"-?0x[01](?:\.[0-9a-f]+)?p[+-]\d+"


def stated(text, line):
    return {
        (name, np.dtype(dtype)): Stated(ulp, tuple(map(float.fromhex, worst.split(", "))))
        for name, dtype, ulp, worst in re.findall(line, text, re.MULTILINE)
    }


@cache
def stated_in_sources():
    """{(function, dtype): Stated} from the lines "// ulp: exp float32 0.9 at 0x1p+0" of src/simd."""
    found = {}
    for path in sorted((ROOT / "src" / "simd").glob("*.hpp")):
        found |= stated(path.read_text(encoding="utf-8"), rf"^ *// ulp: (\S+) (float\d\d) ([\d.]+) at ({HEX}(?:, {HEX})*)$")
    return found


def stated_in_docs():
    """The same from the table of docs/accuracy.md."""
    text = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    return stated(text, rf"^\| `(\S+)` \| (float\d\d) \|[^|]*\| ([\d.]+) \| `({HEX}(?:, {HEX})*)` \|$")


def worst_input(name, dtype):
    worst = stated_in_sources()[name, dtype].worst
    return tuple(np.array([number], dtype) for number in (*worst, *[0.0] * (4 - len(worst))))
