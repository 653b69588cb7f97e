"""Time per number of the functions beside cross-entropy, float32: every peer, one group per function and shape.

The answers are checked outside the timed region, as in ``test_bench_cross_entropy``: losses against the float64 truth of
all rows, what has the shape of the scores against that of the first ones.
"""

from functools import lru_cache

import numpy as np
import pytest

from bench import family, timing

# What the peers deprecate is not ours to fix here.
pytestmark = pytest.mark.filterwarnings("ignore")

CHECKED = 1 << 20  # numbers


@lru_cache(maxsize=1)  # the shapes come one after another
def data_and_truth(function, case):
    """(arrays, loss or None, the first rows of each other result), from the functions in plain NumPy."""
    from celoss import reference

    arrays = function.data(case)
    step = max(1, CHECKED * len(arrays[0]) // case.size)
    options = {"normalizer": arrays[1].size} if function.has_target else {}

    def truth(start):
        x, *others = (array[start : start + step] for array in arrays)
        return getattr(reference, function.name)(x.astype(np.float64), *others, **options)

    if not function.is_loss:
        return arrays, None, [truth(0)]
    loss, *first = truth(0)
    for start in range(step, len(arrays[0]), step):
        loss += truth(start)[0]
    return arrays, loss, first


def assert_agrees(answer, function, case, tight):
    """Relative to the exact value, and to the largest of the result: enough that nobody is fast by being wrong."""
    _, exact_loss, exact = data_and_truth(function, case)
    parts = family.as_numpy(answer)
    loss, results = parts[: -len(exact)], parts[-len(exact) :]
    rtol, of_largest = (1e-6, 1e-7) if tight else (1e-3, 1e-4)
    if tight and function.is_product:  # a sum whose terms cancel: no more than that is promised of it
        of_largest = 1e-6
    if loss:  # derivatives may come without
        np.testing.assert_allclose(float(loss[0]), exact_loss, rtol=rtol)
    for result, values in zip(results, exact, strict=True):
        atol = of_largest * np.abs(values).max()
        np.testing.assert_allclose(result[: len(values)], values, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("function", "case", "peer"),
    [
        pytest.param(
            function, case, peer, id=f"{function}-{case}-{peer}",
            marks=pytest.mark.benchmark(group=f"{function} {case}"),
        )
        for function in family.FUNCTIONS
        for case in function.shapes
        for peer in function.peers
    ],
)  # fmt: skip
def test_family(benchmark, budget, n_threads, function, case, peer):
    if peer.missing:
        pytest.skip(peer.missing)
    arrays, *_ = data_and_truth(function, case)
    call = peer.make(*arrays, n_threads=n_threads)
    answer = timing.benchmarked(benchmark, budget, call, case.size, case=str(case), name=peer.name, kind=function.name)
    assert_agrees(answer, function, case, tight=peer.name.startswith("celoss"))
