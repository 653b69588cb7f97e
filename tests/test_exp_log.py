"""exp, log1p and what is made of them, on every level: errors are within what the sources and docs/accuracy.md state.

float32 functions of one number are tested for every float32 (slow; a sample in the ordinary run), float64 ones against mpmath
for some thousand inputs and against long double for millions (slow; a sample in the ordinary run).
"""

import math

import elementary
import numpy as np
import pytest
from elementary import CASES, F32, F64, FUNCTIONS
from truth import needs_wide

from celoss import _kernels

CASE = pytest.mark.parametrize(
    ("name", "dtype"), [pytest.param(*case, id=f"{case[0]}-{case[1]}", marks=needs_wide if case[1] == F64 else ()) for case in CASES]
)
ALL_OF_FLOAT32 = pytest.mark.parametrize("name", [name for name, dtype in CASES if dtype == F32])
OF_FLOAT64 = pytest.mark.parametrize("name", [name for name, dtype in CASES if dtype == F64])

# Inputs whose exponential, or log(1 + x), is closest to the middle between two float64 (Lefèvre and Muller).
HARD_EXP = """
    0x1.00091a4a0dae5p+1 0x1.00687179e3f66p-2 0x1.0076d13ab9d18p+4 0x1.01324cc593541p+1 0x1.01e5ceb2c761ep+5
    0x1.02372cfc622ccp+1 0x1.02d3ffffefa5p-39 0x1.03bc3bc34a568p-14 0x1.05a1a1b748058p+6 0x1.062315cbd184bp+9
    0x1.06eb107157e27p+7 0x1.07e3167a458abp+0 0x1.0d3079c319eb9p+2 0x1.2237296fcca4p+4 0x1.3a25a5d618802p+0
    -0x1.1d5c2daebe367p+4 -0x1.02393d5976769p+1 -0x1.c44ce0d716a1ap-2 -0x1.22e24fa3d5cf9p-1 -0x1.76e7e5d7b6eacp+3
    -0x1.ed318efb627eap-27 -0x1.22dc6f4b5f5c2p-13 -0x1.da5c13d9f1b96p-5 -0x1.92f76ec4ae66ep+5 -0x1.c8a7f5cd1e3c3p+8
""".split()
HARD_LOG1P = """
    0x1.0041f934a35b2p+5 0x1.00c3d4acbba8ap-1 0x1.01033ffc76c24p+14 0x1.01867637cbd03p+4 0x1.01b22199c07f3p+3
    0x1.0209c6fa7e358p-1 0x1.027039188c77ep-5 0x1.02ded9344a6b9p-1 0x1.03d29d5ad6388p-1 0x1.042076d64e74ep-2
    0x1.069ba6b43fdc2p-1 0x1.06adf9df65bf9p+0 0x1.0847cc8d9d87ep+0 0x1.0965698ac886p+0 0x1.0f876ccdf6cd9p-49
    0x1.10d015ab9aadep-1 0x1.140a1fcbb7a05p+0 0x1.193b03ee88d72p-2 0x1.1c812c8e1a5c1p-1 0x1.2495616956132p-1
    0x1.28cff93212d03p+0 0x1.2b5c385f7e504p-1 0x1.2c342ad3773b3p+78 0x1.30ad1c34ec7e4p-1 0x1.0400000000001p-30
""".split()


def limit(name, dtype):
    return float(elementary.stated_in_sources()[name, dtype].ulp)


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
            x = np.array([float.fromhex(h) for h in HARD_EXP])
            if function.lowest:
                chunks.append(elementary.full(x, np.maximum(x, 0)))
            elif function.interval:
                chunks.append(elementary.full(np.clip(-np.abs(x), *function.interval[F64]), 0))
            else:
                ratio = np.array([float.fromhex(h) for h in HARD_LOG1P])
                chunks.append((ratio * 2.0**64, np.full(len(ratio), 2.0**64), 0 * ratio, 0 * ratio))
            exact = elementary.digits_of(function)
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
    assert set(elementary.stated_in_sources()) == set(CASES)


def test_docs_state_what_the_sources_state():
    assert elementary.stated_in_docs() == elementary.stated_in_sources()


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
            errors.append(float(FUNCTIONS[name].error(*elementary.worst_input(name, dtype))[0]))
    _kernels.use_level(before)
    worst = max(errors)
    text = elementary.stated_in_sources()[name, dtype].ulp
    step = 0.001 if "." in text else 1
    assert step * (math.ceil(worst / step) - 1.5) < float(text) < step * (math.ceil(worst / step) + 0.5), errors


# ---- special values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, F64])
def test_ends_of_exp(dtype, level):
    def value(x, m):
        return _kernels.elementary("exp", np.array([x], dtype), m)[0][0]

    one = dtype.type(2) ** elementary.HEADROOM[dtype]
    lowest, tiny = elementary.LOWEST[dtype], np.finfo(dtype).smallest_subnormal
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
    np.testing.assert_array_equal(_kernels.elementary("log1p_ratio", rest, unit)[0], [0.0, np.nan, np.nan, np.nan])
    for dtype in (F32, F64):
        z = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
        unit = 2.0 ** elementary.HEADROOM[dtype]
        for name, at_zero in (("log1p_of_exp", math.log(2)), ("less_likely", 0.5)):
            value = _kernels.elementary(name, z)[0] / unit
            np.testing.assert_allclose(value[:2], at_zero, rtol=2 * np.finfo(dtype).eps)
            np.testing.assert_array_equal(value[2:], [0, 0, np.nan])


def test_what_does_not_exist_is_said():
    with pytest.raises(KeyError, match="sine"):
        _kernels.elementary("sine", np.zeros(1))
    with pytest.raises(TypeError, match="log1p_ratio does not exist in float32"):
        _kernels.elementary("log1p_ratio", np.zeros(1, np.float32))
