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
    """(arrays, loss or None, the first rows of the result), from the functions in plain NumPy."""
    from celoss import reference

    arrays = function.data(case)
    x, *others = arrays
    step = max(1, CHECKED * len(x) // x.size)
    exact = getattr(reference, function.name)
    if not function.is_loss:
        return arrays, None, exact(*(array[:step].astype(np.float64) for array in arrays))
    loss, first = 0.0, None
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        block_loss, grad = exact(x[part].astype(np.float64), others[0][part], reduction="sum")
        loss += block_loss
        first = grad if first is None else first
    losses = others[0].size
    return arrays, loss / losses, first / losses


def assert_agrees(answer, function, case, tight):
    """Relative to the exact value, and to the largest of the result: enough that nobody is fast by being wrong."""
    _, exact_loss, exact = data_and_truth(function, case)
    *loss, result = family.as_numpy(answer)
    rtol = 1e-6 if tight else 1e-3
    if loss:
        np.testing.assert_allclose(float(loss[0]), exact_loss, rtol=rtol)
    atol = (1e-7 if tight else 1e-4) * np.abs(exact).max()
    np.testing.assert_allclose(result[: len(exact)], exact, rtol=rtol, atol=atol)


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
