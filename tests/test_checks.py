"""The distance in ulp that every claim of accuracy rests on."""

import ml_dtypes
import numpy as np

from celoss._checks import FORMATS, ulp_error

INF, NAN = np.inf, np.nan


def test_one_ulp_is_the_distance_to_the_next_number():
    for name, (bits, smallest) in FORMATS.items():
        dtype = np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name)
        info = ml_dtypes.finfo(dtype)
        assert (info.nmant, info.minexp) == (bits, smallest)
        for exact in (1.0, 1.5, float(info.tiny), 3 * float(info.smallest_subnormal), float(info.max) / 2):
            number = np.array([exact], dtype)
            beside = np.nextafter(number, dtype.type(INF))
            for real in (np.float64, np.longdouble):
                assert ulp_error(beside, number.astype(real)) == ulp_error(-beside, -number.astype(real)) == 1
    assert ulp_error(1.0, 1.0 + 3 * 2**-10, np.float16) == 3
    assert ulp_error(0.0, 1.0) == 2.0**52


def test_nothing_is_lost_in_a_long_double():
    """The rounding error of a float64 is seen, where a long double is wider."""
    third = np.longdouble(1) / 3
    assert 0 < ulp_error(float(third), third) < 0.5 or np.finfo(np.longdouble).nmant == 52


def test_numbers_without_a_distance():
    assert not ulp_error([NAN, INF, -INF, 0.0], [NAN, INF, -INF, 1e-40], np.float32).any()
    assert (ulp_error([NAN, 1.0, INF, -INF], [1.0, INF, 1.0, INF]) == INF).all()
    assert ulp_error(np.float32(0), 2.0**-124) > 1e6, "a normal number is no zero"


def test_another_unit():
    """Where two terms cancel, the unit is theirs."""
    assert ulp_error(2.0**-60, 0.0, scale=1.0) == 2.0**-8
    assert ulp_error(np.float32(1), 0.0, scale=[1.0, 2.0**23]).tolist() == [2.0**23, 1.0]
