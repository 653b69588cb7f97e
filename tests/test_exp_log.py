"""exp, log1p and what is made of them, on every level: errors are within what the sources and docs/accuracy.md state.

float32 functions of one number are tested for every float32 (slow; a sample in the ordinary run), float64 ones against mpmath
for some thousand inputs and against long double for millions (slow; a sample in the ordinary run).
"""

import math

import numpy as np
import probes
import pytest
from probes import CASES, F32, F64, FUNCTIONS
from truth import needs_wide

from celoss import _kernels

CASE = pytest.mark.parametrize(
    ("name", "dtype"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}", marks=needs_wide if case[1] == F64 else ()) for case in CASES],
)
ALL_OF_FLOAT32 = pytest.mark.parametrize("name", [name for name, dtype in CASES if dtype == F32])
OF_FLOAT64 = pytest.mark.parametrize("name", [name for name, dtype in CASES if dtype == F64])

# Inputs whose exponential, or log(1 + x), is within 2^-40 ulp of a float64 or of the middle between two: the cases hardest to
# round, from the searches of Lefèvre and Muller.
HARD_EXP = """
    0x1.0122ef37212ebp-1 0x1.005ae04256babp-1 0x1.0303c5638675fp-1 0x1.17ae9892165e2p-1 0x1.25c2f230921aap-1
    0x1.38a69a2001bb2p-1 0x1.4553d289c54b9p-1 0x1.48a3c02615d23p-1 0x1.07e3167a458abp+0 0x1.0f67c115ce1dep+0
    0x1.19aba488d5dc9p+0 0x1.3a25a5d618802p+0 -0x1.54511e930898cp-7 -0x1.5539314d18ff2p-1 -0x1.57e8d4c1fe232p+4
    -0x1.5b3e4e2e3bba9p+9 -0x1.62c9fc0dcbdb5p+9 -0x1.679ea41b51eaap+9 -0x1.7d056dc660263p+7 -0x1.7e6e2af94cf57p-23
    -0x1.7ff3bbf229204p+8 -0x1.9580fdb355d84p+4 -0x1.9b22e00029449p-35 -0x1.b3eb49fdf7a63p+8 -0x1.c9a6a6660ff55p+0
    -0x1.d2006f4ad14afp+2 -0x1.ed8dd102e9935p-1 -0x1.fb45de22b5c06p+6 -0x1.ff43ee151a114p+4
"""
HARD_LOG1P = """
    0x1.0041f934a35b2p+5 0x1.00c3d4acbba8ap-1 0x1.01033ffc76c24p+14 0x1.01867637cbd03p+4 0x1.01b22199c07f3p+3
    0x1.0209c6fa7e358p-1 0x1.027039188c77ep-5 0x1.02ded9344a6b9p-1 0x1.03d29d5ad6388p-1 0x1.042076d64e74ep-2
    0x1.069ba6b43fdc2p-1 0x1.06adf9df65bf9p+0 0x1.0847cc8d9d87ep+0 0x1.0965698ac886p+0 0x1.0f876ccdf6cd9p-49
    0x1.10d015ab9aadep-1 0x1.140a1fcbb7a05p+0 0x1.193b03ee88d72p-2 0x1.1c812c8e1a5c1p-1 0x1.2495616956132p-1
    0x1.28cff93212d03p+0 0x1.2b5c385f7e504p-1 0x1.30ad1c34ec7e4p-1 0x1.015e8ff906787p-36
"""


def numbers(text):
    return np.array([float.fromhex(number) for number in text.split()])


def limit(name, dtype):
    return float(probes.stated_in_sources()[name, dtype].ulp)


def check(name, arguments, most, exact=None):
    """All errors at most `most` ulp; the message names the worst input."""
    error = FUNCTIONS[name].error(*arguments, exact=exact)
    i = int(np.argmax(error))
    assert error[i] <= most, f"{name}({', '.join(float(a[i]).hex() for a in arguments)}): {float(error[i]):.6g} ulp"


# ---- within the stated error ------------------------------------------------------------------------------------------------


@CASE
def test_sample(name, dtype, level):
    function, most = FUNCTIONS[name], limit(name, dtype)
    for arguments in function.sample(20_000, dtype, np.random.default_rng(0)):
        check(name, arguments, most)
    if dtype == F32:
        for arguments in function.every(20_011, dtype):
            check(name, arguments, most)


@pytest.mark.slow
@ALL_OF_FLOAT32
def test_every_float32(name, level):
    for arguments in FUNCTIONS[name].every(1, F32):
        check(name, arguments, limit(name, F32))


@pytest.mark.slow
@needs_wide
@OF_FLOAT64
def test_million_float64(name, level):
    for seed in range(10):
        for arguments in FUNCTIONS[name].sample(100_000, F64, np.random.default_rng([seed, 1])):
            check(name, arguments, limit(name, F64))


@pytest.fixture(scope="module")
def in_many_digits():
    """For each function some hundred inputs and the hard ones, with exact values; computed once for all levels."""
    made = {}

    def make(name):
        if name not in made:
            function = FUNCTIONS[name]
            chunks = function.sample(600, F64, np.random.default_rng(2))
            x = numbers(HARD_EXP)
            if function.lowest:
                chunks.append(probes.full(x, np.maximum(x, 0)))
            elif function.interval:
                chunks.append(function.arguments(np.clip(-np.abs(x), *function.interval[F64])))
            else:
                ratio = numbers(HARD_LOG1P)
                chunks.append((ratio * 2.0**64, np.full(len(ratio), 2.0**64), 0 * ratio, 0 * ratio))
            exact = probes.digits_of(function)
            made[name] = [(arguments, exact(*arguments)) for arguments in chunks]
        return made[name]

    return make


@needs_wide
@OF_FLOAT64
def test_float64_in_many_digits(name, in_many_digits, level):
    for arguments, exact in in_many_digits(name):
        check(name, arguments, limit(name, F64), exact=lambda *_, exact=exact: exact)


@needs_wide
@OF_FLOAT64
def test_long_double_is_truth_enough(name, in_many_digits):
    """Within 0.002 ulp of float64 of what mpmath finds."""
    for arguments, exact in in_many_digits(name):
        wide = FUNCTIONS[name].exact(*arguments)
        assert np.max(np.abs(wide - exact) / np.abs(exact)) < 0.002 * 2.0**-53


# ---- what is stated ---------------------------------------------------------------------------------------------------------


def test_sources_state_every_function():
    assert set(probes.stated_in_sources()) == set(CASES)


def test_docs_state_what_the_sources_state():
    assert probes.stated_in_docs() == probes.stated_in_sources()


@CASE
def test_the_worst_input_gives_the_stated_error(name, dtype):
    """On the level where the error is largest; stated is its third decimal (for large errors the integer), rounded up."""
    if [level for level, _ in _kernels.levels()] != ["v4", "v3", "baseline"]:
        pytest.skip("the worst inputs are those of x86-64")
    before = _kernels.level()
    errors = []
    for level, runs in _kernels.levels():
        if runs:
            _kernels.use_level(level)
            errors.append(float(FUNCTIONS[name].error(*probes.worst_input(name, dtype))[0]))
    _kernels.use_level(before)
    worst = max(errors)
    text = probes.stated_in_sources()[name, dtype].ulp
    step = 0.001 if "." in text else 1
    assert step * (math.ceil(worst / step) - 1.5) < float(text) < step * (math.ceil(worst / step) + 0.5), errors


# ---- special values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, F64])
def test_ends_of_exp(dtype, level):
    def value(x, m):
        return _kernels.probe("exp", np.array([x], dtype), m)[0][0]

    one = dtype.type(2) ** probes.HEADROOM[dtype]
    lowest, tiny = probes.LOWEST[dtype], np.finfo(dtype).smallest_subnormal
    for m in (0.0, -0.0, tiny, -tiny):
        assert value(-0.0, m) == value(0.0, m) == value(tiny, m) == value(-tiny, m) == one
    for m in (0.0, 1e4, -1e4, 100.0, -200.0):
        assert value(-np.inf, m) == value(np.finfo(dtype).min, m) == value(m + 1.02 * lowest - 1, m) == 0
        assert value(m + lowest, m) >= np.finfo(dtype).tiny
        assert np.isnan(value(np.nan, m))
    assert value(1e4, 1e4) == value(-1e4, -1e4) == one


def test_ends_of_log1p(level):
    rest = np.array([0.0, np.inf, np.nan, 1.0])
    unit = np.array([1.0, 1.0, 1.0, np.nan])
    np.testing.assert_array_equal(_kernels.probe("log1p_ratio", rest, unit)[0], [0.0, np.nan, np.nan, np.nan])
    log, inverse = _kernels.probe("log_and_inverse", rest, 4 * unit)
    np.testing.assert_array_equal(log, [0.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(inverse, [0.25, np.nan, np.nan, np.nan])
    for dtype in (F32, F64):
        z = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
        unit = 2.0 ** probes.HEADROOM[dtype]
        for name, at_zero in (("log1p_of_exp", math.log(2)), ("less_likely", 0.5)):
            value, error = np.array(_kernels.probe(name, z), np.float64) / unit
            value[:2] += error[:2]
            np.testing.assert_allclose(value[:2], at_zero, rtol=2 * np.finfo(dtype).eps)
            np.testing.assert_array_equal(value[2:], [0, 0, np.nan])


def test_what_does_not_exist_is_said():
    with pytest.raises(KeyError, match="sine"):
        _kernels.probe("sine", np.zeros(1))
    with pytest.raises(TypeError, match="log1p_ratio does not exist in float32"):
        _kernels.probe("log1p_ratio", np.zeros(1, np.float32))
